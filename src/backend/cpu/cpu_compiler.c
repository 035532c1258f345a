/* SPDX-License-Identifier: MIT */
/*
 * Calls the system's C compiler on portable source, in a private folder and without a shell, and
 * turns what it says into words.
 */
#include "backend/cpu/cpu_compiler.h"

#include "backend/code_cache.h"
#include "base/alloc.h"
#include "base/environment.h"
#include "base/file.h"
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WORD_LIMIT = 128, CODE_BYTES_LIMIT = 256 << 20 };
#define TIMEOUT_NS (120 * UINT64_C(1000000000))

/* As for the embedded kernels: the same results as a GPU's, and loops that vectorise. */
static const char *const flags[] = {
    "-std=gnu11",
    "-O3",
    "-march=native",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Werror=implicit-function-declaration",
};

static mr_status no_memory(void)
{
    return mr_error_set(MR_E_NO_MEMORY, "out of memory while compiling");
}

/* ---- lists of words ---- */

struct words {
    char *list[WORD_LIMIT + 1]; /* NULL-terminated */
    size_t count;
    char *copies[4]; /* what the words lie in */
    size_t copy_count;
};

static mr_status add_word(struct words *words, const char *word)
{
    if (words->count == WORD_LIMIT)
        return mr_error_set(MR_E_INVALID, "more than %d words for the compiler; shorten the flags",
                            WORD_LIMIT);
    words->list[words->count++] = (char *)word;
    return MR_OK;
}

/* Takes `copy`, which may be NULL for want of memory. */
static mr_status keep_copy(struct words *words, char *copy)
{
    if (!copy)
        return no_memory();
    words->copies[words->copy_count++] = copy;
    return MR_OK;
}

/* The words of `text`, which are separated by blanks. */
static mr_status add_words(struct words *words, const char *text)
{
    mr_status status = keep_copy(words, mr__copy_text(text));
    if (status)
        return status;
    char *rest = NULL;
    for (char *word = strtok_r(words->copies[words->copy_count - 1], " \t\n", &rest);
         word && !status; word = strtok_r(NULL, " \t\n", &rest))
        status = add_word(words, word);
    return status;
}

static void words_fini(struct words *words)
{
    for (size_t i = 0; i < words->copy_count; i++)
        mr__free(words->copies[i]);
}

/* ---- the compiler ---- */

static mr_status find_wanted(struct words *words, const char *wanted, char **path)
{
    const mr_status status = add_words(words, wanted);
    if (status)
        return status;
    const int error = words->count ? mr__process_find(words->list[0], path) : ENOENT;
    if (error == ENOENT)
        return mr_error_set(MR_E_UNAVAILABLE,
                            "the C compiler that $CC names, '%.200s', is not here; install it or "
                            "unset CC",
                            wanted);
    return error ? no_memory() : MR_OK;
}

/* The compiler's words, and the path of the first. */
static mr_status find_compiler(struct words *words, char **path)
{
    static const char *const names[] = { "cc", "gcc", "clang" };
    const char *wanted = mr__environment("CC");
    if (wanted)
        return find_wanted(words, wanted, path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const int error = mr__process_find(names[i], path);
        if (error != ENOENT)
            return error ? no_memory() : add_word(words, names[i]);
    }
    return mr_error_set(
        MR_E_UNAVAILABLE,
        "no C compiler: neither cc, gcc nor clang is in $PATH; install one (Debian: "
        "apt install gcc libc6-dev) or set CC");
}

/* Every word that is a file says which: a wrapper's name alone would not notice a new compiler. */
static void add_identity(struct mr__code_key *key, const struct words *compiler)
{
    for (size_t i = 0; i < compiler->count; i++) {
        mr__code_key_add_text(key, compiler->list[i]);
        char *path;
        struct stat status;
        const int error = mr__process_find(compiler->list[i], &path);
        if (error == ENOMEM)
            key->is_broken = true;
        if (!error && stat(path, &status) == 0) {
            mr__code_key_add(key, &status.st_ino, sizeof status.st_ino);
            mr__code_key_add(key, &status.st_size, sizeof status.st_size);
            mr__code_key_add(key, &status.st_mtim, sizeof status.st_mtim);
        }
        mr__free(path);
    }
}

/* What -march=native looks at. A home folder may be shared by unlike machines. */
static void add_processor(struct mr__code_key *key)
{
    static const char *const names[] = { "vendor_id", "cpu family", "model",    "stepping",
                                         "flags",     "Features",   "CPU part", "CPU implementer" };
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[8192];
    while (file && fgets(line, sizeof line, file) && *line != '\n') {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            const size_t length = strlen(names[i]);
            if (strncmp(line, names[i], length) == 0 && strchr(" \t:", line[length]))
                mr__code_key_add_text(key, line);
        }
    }
    if (file)
        fclose(file);
}

static void make_key(struct mr__code_key *key, const struct mr_function_source *source,
                     const struct words *compiler)
{
    mr__code_key_add_text(key, "cpu portable 1");
    mr__code_key_add_text(key, mr__portable_header);
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        mr__code_key_add_text(key, flags[i]);
    mr__code_key_add_text(key, source->flags);
    add_identity(key, compiler);
    add_processor(key);
    mr__code_key_add_text(key, source->text);
    if (!mr__code_is_self_contained(source->text, source->flags) || mr__environment("CPATH") ||
        mr__environment("C_INCLUDE_PATH"))
        key->is_broken = true;
}

/* ---- files ---- */

mr_status mr__cpu_folder_create(char **out)
{
    const char *base = mr__environment("TMPDIR");
    *out = mr__format_text("%s/millrace-XXXXXX", base ? base : "/tmp");
    if (!*out)
        return no_memory();
    if (mkdtemp(*out))
        return MR_OK;
    const mr_status status =
        mr_error_set(MR_E_IO, "no folder can be made in %s: %s; set TMPDIR to one that is yours",
                     base ? base : "/tmp", strerror(errno));
    mr__free(*out);
    *out = NULL;
    return status;
}

void mr__cpu_folder_destroy(char *folder)
{
    if (folder)
        mr__folder_remove(folder);
    mr__free(folder);
}

static mr_status write_failed(const char *path)
{
    return mr_error_set(MR_E_IO, "%s cannot be written: %s", path, strerror(errno));
}

/* The source under the name that messages shall show. */
static void write_named(FILE *file, const char *name, const char *text)
{
    fputs("#line 1 \"", file);
    for (; *name; name++) {
        if (*name == '"' || *name == '\\')
            fputc('\\', file);
        fputc(*name == '\n' ? ' ' : *name, file);
    }
    fputs("\"\n", file);
    fputs(text, file);
}

/* Writes folder/name; `shown` is NULL for a file that is not the user's. */
static mr_status write_file(const char *folder, const char *name, const char *shown,
                            const char *text)
{
    char *path = mr__format_text("%s/%s", folder, name);
    if (!path)
        return no_memory();
    mr_status status = MR_OK;
    FILE *file = fopen(path, "wxe");
    if (file) {
        if (shown)
            write_named(file, shown, text);
        else
            fputs(text, file);
        const int is_broken = ferror(file);
        if (fclose(file) || is_broken)
            status = write_failed(path);
    } else {
        status = write_failed(path);
    }
    mr__free(path);
    return status;
}

static mr_status write_sources(const char *folder, const struct mr_function_source *source)
{
    char *headers = mr__format_text("%s/millrace", folder);
    if (!headers)
        return no_memory();
    mr_status status = mkdir(headers, 0700) ? write_failed(headers) : MR_OK;
    mr__free(headers);
    if (!status)
        status = write_file(folder, "millrace/portable.h", NULL, mr__portable_header);
    if (!status)
        status = write_file(folder, "kernel.c", source->path, source->text);
    return status;
}

static mr_status read_code(const char *folder, void **code, size_t *code_bytes)
{
    char *path = mr__format_text("%s/kernel.so", folder);
    if (!path)
        return no_memory();
    FILE *file = fopen(path, "re");
    mr__free(path);
    struct stat status;
    if (!file)
        return mr_error_set(MR_E_COMPILE, "the compiler said nothing and made nothing");
    if (fstat(fileno(file), &status) == 0 && status.st_size <= CODE_BYTES_LIMIT) {
        *code_bytes = (size_t)status.st_size;
        *code = mr__zalloc(*code_bytes);
    }
    const bool is_read = *code && fread(*code, 1, *code_bytes, file) == *code_bytes;
    fclose(file);
    if (is_read)
        return MR_OK;
    mr__free(*code);
    *code = NULL;
    return no_memory();
}

/* ---- what the compiler says ---- */

static bool is_error(const char *line, const char *end)
{
    const char *found = memmem(line, (size_t)(end - line), "error:", 6);
    return found && (found == line || found[-1] == ' ');
}

/* The first error, with file and line, and how many there are; without any, the first line. */
static mr_status explain(const char *output, int exit_code)
{
    const char *first = NULL;
    size_t first_length = 0, count = 0;
    for (const char *line = output; line && *line;) {
        const char *end = strchrnul(line, '\n');
        if (is_error(line, end) && count++ == 0) {
            first = line;
            first_length = (size_t)(end - line);
        }
        line = *end ? end + 1 : end;
    }
    if (!first) {
        first = output ? output : "";
        first_length = strcspn(first, "\n");
    }
    if (first_length == 0)
        return mr_error_set(MR_E_COMPILE, "the compiler said nothing and ended with %d", exit_code);
    if (count > 1)
        return mr_error_set(MR_E_COMPILE, "%.*s (the first of %zu errors)", (int)first_length,
                            first, count);
    return mr_error_set(MR_E_COMPILE, "%.*s", (int)first_length, first);
}

/* ---- compiling ---- */

/* Where the source lies, for `#include "neighbour.h"`. */
static mr_status add_neighbours(struct words *words, const char *path)
{
    const char *slash = strrchr(path, '/');
    mr_status status = keep_copy(
        words, slash ? mr__format_text("%.*s", (int)(slash - path + 1), path) : mr__copy_text("."));
    if (!status)
        status = add_word(words, "-iquote");
    return status ? status : add_word(words, words->copies[words->copy_count - 1]);
}

/* The whole command, after the compiler's own words. */
static mr_status add_command(struct words *words, const struct mr_function_source *source,
                             const char *folder)
{
    mr_status status = MR_OK;
    for (size_t i = 0; i < sizeof flags / sizeof *flags && !status; i++)
        status = add_word(words, flags[i]);
    /* As a system header, portable.h stays out of messages: they name the user's line. */
    if (!status)
        status = add_word(words, "-isystem");
    if (!status)
        status = add_word(words, folder);
    if (!status)
        status = add_neighbours(words, source->path);
    if (!status && source->flags)
        status = add_words(words, source->flags);
    if (!status)
        status =
            keep_copy(words, mr__format_text("-o\n%s/kernel.so\n%s/kernel.c\n-lm", folder, folder));
    if (status)
        return status;
    char *rest = NULL;
    for (char *word = strtok_r(words->copies[words->copy_count - 1], "\n", &rest); word && !status;
         word = strtok_r(NULL, "\n", &rest))
        status = add_word(words, word);
    return status;
}

static mr_status run_compiler(const char *path, const struct words *words)
{
    const struct mr__process_result result = mr__process_run(path, words->list, TIMEOUT_NS);
    mr_status status = MR_OK;
    if (result.error)
        status =
            mr_error_set(result.error == ENOMEM ? MR_E_NO_MEMORY : MR_E_UNAVAILABLE,
                         "the C compiler %s cannot be started: %s", path, strerror(result.error));
    else if (result.is_killed)
        status = mr_error_set(MR_E_COMPILE,
                              "the compiler had not ended after %d seconds and was stopped",
                              (int)(TIMEOUT_NS / 1000000000));
    else if (result.exit_code > 0)
        status = explain(result.output, result.exit_code);
    mr__free(result.output);
    return status;
}

/* In a folder of its own. `words` begins with the compiler. */
static mr_status compile_in(const char *folder, const char *path, struct words *words,
                            const struct mr_function_source *source, void **code,
                            size_t *code_bytes)
{
    mr_status status = write_sources(folder, source);
    if (!status)
        status = add_command(words, source, folder);
    if (!status)
        status = run_compiler(path, words);
    return status ? status : read_code(folder, code, code_bytes);
}

static mr_status compile(const char *path, struct words *words,
                         const struct mr_function_source *source, void **code, size_t *code_bytes)
{
    char *folder;
    mr_status status = mr__cpu_folder_create(&folder);
    if (status)
        return status;
    status = compile_in(folder, path, words, source, code, code_bytes);
    mr__cpu_folder_destroy(folder);
    return status;
}

mr_status mr__cpu_compile(const struct mr_function_source *source, void **code, size_t *code_bytes)
{
    *code = NULL;
    char *path = NULL;
    struct words words = { 0 };
    struct mr__code_key key = { 0 };
    mr_status status = find_compiler(&words, &path);
    if (status)
        goto end;

    make_key(&key, source, &words);
    *code = mr__code_cache_read(source->cache_path, &key, code_bytes);
    if (*code)
        goto end;
    status = compile(path, &words, source, code, code_bytes);
    if (!status)
        mr__code_cache_write(source->cache_path, &key, *code, *code_bytes, source->cache_bytes);

end:
    mr__code_key_fini(&key);
    words_fini(&words);
    mr__free(path);
    return status;
}
