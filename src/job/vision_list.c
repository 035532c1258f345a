/* SPDX-License-Identifier: MIT */
/*
 * The images of a run: listed, in an order that does not depend on the file system, each with a name
 * of its own for its outputs.
 */
#include "base/alloc.h"
#include "base/hash.h"
#include "job/vision_job.h"
#include "job/words.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_LIMIT 64 /* folders below one another */
#define LOOK_MS 50     /* how long a cancel may go unseen */
#define TEXT_LIMIT ((size_t)256 << 20)
#define NAME_LIMIT 200 /* bytes of an output's name, without number and ending */

bool mr__vision_list_add(struct mr__vision_list *list, const char *path, size_t length)
{
    if (!mr__grow_array(&list->records, sizeof *list->records, list->count + 1, &list->capacity))
        return false;
    struct mr__vision_record *record = &list->records[list->count];
    *record = (struct mr__vision_record){ .path = mr__arena_copy(&list->texts, path, length) };
    list->count += record->path != NULL;
    return record->path != NULL;
}

void mr__vision_record_fail(struct mr__vision_record *record, mr_status status)
{
    mr__free(record->words);
    record->status = status;
    record->words = mr__copy_text(mr_last_error());
}

void mr__vision_list_reset(struct mr__vision_list *list)
{
    for (size_t k = 0; k < list->count; k++) {
        struct mr__vision_record *record = &list->records[k];
        mr__free(record->words);
        *record = (struct mr__vision_record){ .path = record->path, .name = record->name };
    }
}

void mr__vision_list_fini(struct mr__vision_list *list)
{
    mr__vision_list_reset(list);
    mr__free(list->records);
    mr__arena_fini(&list->texts);
    *list = (struct mr__vision_list){ 0 };
}

static mr_status no_memory(void)
{
    return mr_error_set(MR_E_NO_MEMORY, "no memory for the list of images");
}

/* ---- folders and patterns ---- */

/* What stands in a folder beside images is left alone; what is named like one is listed, so that the run
 * can say why it is not read: images of other kinds, links to nowhere, pipes. */
static bool has_image_ending(const char *path)
{
    static const char *const endings[] = { "jpg",  "jpeg", "jpe", "jfif", "png",
                                           "gif",  "webp", "tif", "tiff", "bmp",
                                           "heic", "avif", "jxl", "jp2",  NULL };
    const char *dot = strrchr(path, '.');
    for (size_t k = 0; dot && endings[k]; k++)
        if (strcasecmp(dot + 1, endings[k]) == 0)
            return true;
    return false;
}

static mr_status add_folder(struct mr__vision_list *list, const char *path, bool is_recursive,
                            uint32_t depth);

static mr_status add_entry(struct mr__vision_list *list, const char *path, bool is_recursive,
                           uint32_t depth)
{
    struct stat facts;
    if (stat(path, &facts) && lstat(path, &facts))
        return MR_OK; /* it went meanwhile */
    if (S_ISDIR(facts.st_mode) && facts.st_ino == list->out_inode &&
        facts.st_dev == list->out_device)
        return MR_OK;
    if (S_ISDIR(facts.st_mode))
        return is_recursive && depth < DEPTH_LIMIT ? add_folder(list, path, true, depth + 1)
                                                   : MR_OK;
    if (!has_image_ending(path))
        return MR_OK;
    return mr__vision_list_add(list, path, strlen(path)) ? MR_OK : no_memory();
}

static mr_status add_folder(struct mr__vision_list *list, const char *path, bool is_recursive,
                            uint32_t depth)
{
    DIR *folder = opendir(path);
    if (!folder)
        return mr_error_set(MR_E_IO, "%s: cannot be listed: %s", path, strerror(errno));
    mr_status status = MR_OK;
    const struct dirent *entry;
    while (!status && (entry = readdir(folder))) {
        if (entry->d_name[0] == '.')
            continue;
        const char *slash = path[strlen(path) - 1] == '/' ? "" : "/";
        char *file = mr__format_text("%s%s%s", path, slash, entry->d_name);
        status = file ? add_entry(list, file, is_recursive, depth) : no_memory();
        mr__free(file);
    }
    closedir(folder);
    return status;
}

static int compare_records(const void *a, const void *b)
{
    const struct mr__vision_record *left = a, *right = b;
    return strverscmp(left->path, right->path);
}

static void sort(struct mr__vision_list *list)
{
    if (list->count)
        qsort(list->records, list->count, sizeof *list->records, compare_records);
}

mr_status mr__vision_list_folder(struct mr__vision_list *list, const char *path, bool is_recursive)
{
    const mr_status status = add_folder(list, path, is_recursive, 0);
    sort(list);
    return status;
}

mr_status mr__vision_list_pattern(struct mr__vision_list *list, const char *pattern)
{
    glob_t found = { 0 };
    const int result = glob(pattern, GLOB_NOSORT, NULL, &found);
    mr_status status = result == 0 || result == GLOB_NOMATCH ? MR_OK : no_memory();
    for (size_t k = 0; !status && result == 0 && k < found.gl_pathc; k++)
        if (!mr__vision_list_add(list, found.gl_pathv[k], strlen(found.gl_pathv[k])))
            status = no_memory();
    globfree(&found);
    sort(list);
    return status;
}

/* ---- lists of paths ---- */

static mr_status add_line(struct mr__vision_list *list, const char *line, size_t length,
                          const char *folder, size_t folder_length)
{
    if (length && line[length - 1] == '\r')
        length--;
    if (!length)
        return MR_OK;
    if (memchr(line, 0, length))
        return mr_error_set(MR_E_FORMAT, "path %zu holds a zero byte; write one path a line",
                            list->count + 1);
    if (line[0] == '/' || !folder_length)
        return mr__vision_list_add(list, line, length) ? MR_OK : no_memory();
    char *path = mr__format_text("%.*s%.*s", (int)folder_length, folder, (int)length, line);
    const bool is_added = path && mr__vision_list_add(list, path, strlen(path));
    mr__free(path);
    return is_added ? MR_OK : no_memory();
}

/* False when the wait was cut short. */
static bool wait_for_input(int file, const atomic_int *is_cancelled)
{
    struct pollfd look = { .fd = file, .events = POLLIN };
    while (!atomic_load(is_cancelled)) {
        const int ready = poll(&look, 1, LOOK_MS);
        if (ready > 0 || (ready < 0 && errno != EINTR))
            return true;
    }
    return false;
}

static mr_status read_text(int file, const atomic_int *is_cancelled, struct mr__words *text)
{
    char piece[16384];
    for (;;) {
        if (is_cancelled && !wait_for_input(file, is_cancelled))
            return mr_error_set(MR_E_CANCELLED, "the run was cancelled");
        const ssize_t length = read(file, piece, sizeof piece);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return mr_error_set(MR_E_IO, "reading failed: %s", strerror(errno));
        if (!length)
            return MR_OK;
        mr__words_add(text, piece, (size_t)length);
        if (text->is_out || text->used > TEXT_LIMIT)
            return text->is_out
                       ? no_memory()
                       : mr_error_set(MR_E_FORMAT, "more than %zu MiB of paths", TEXT_LIMIT >> 20);
    }
}

static mr_status add_lines(struct mr__vision_list *list, const struct mr__words *text,
                           const char *folder, size_t folder_length)
{
    mr_status status = MR_OK;
    for (size_t at = 0; at < text->used && !status;) {
        const char *line = text->text + at;
        const char *end = memchr(line, '\n', text->used - at);
        const size_t length = end ? (size_t)(end - line) : text->used - at;
        status = add_line(list, line, length, folder, folder_length);
        at += length + 1;
    }
    return status;
}

mr_status mr__vision_list_lines(struct mr__vision_list *list, const char *path,
                                const atomic_int *is_cancelled)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    const char *slash = is_stdin ? NULL : strrchr(path, '/');
    const char *label = is_stdin ? "standard input" : path;
    const int file = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return mr_error_set(MR_E_IO, "%s: cannot be opened: %s", label, strerror(errno));
    struct mr__words text = { 0 };
    mr_status status = read_text(file, is_stdin ? is_cancelled : NULL, &text);
    if (!status)
        status = add_lines(list, &text, path, slash ? (size_t)(slash - path) + 1 : 0);
    mr__free(text.text);
    if (!is_stdin)
        close(file);
    return status ? mr_error_prefix(status, "%s: ", label) : MR_OK;
}

/* ---- names ---- */

/* A set of names by hash; capacity is a power of two, at most half full. */
struct names {
    const char **table;
    size_t capacity;
};

static bool names_add(struct names *names, const char *name)
{
    struct mr__hash hash = { 0 };
    mr__hash_add(&hash, name, strlen(name));
    size_t at = (size_t)hash.low & (names->capacity - 1);
    while (names->table[at]) {
        if (strcmp(names->table[at], name) == 0)
            return false;
        at = (at + 1) & (names->capacity - 1);
    }
    names->table[at] = name;
    return true;
}

/* The file's name without folder and ending, cut where it is too long for one more ending. */
static const char *base_name(struct mr__arena *arena, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    size_t length = dot && dot != base ? (size_t)(dot - base) : strlen(base);
    length = length > NAME_LIMIT ? NAME_LIMIT : length;
    return length ? mr__arena_copy(arena, base, length) : mr__arena_copy(arena, "image", 5);
}

static bool name_one(struct mr__vision_list *list, struct names *names,
                     struct mr__vision_record *record)
{
    const char *base = base_name(&list->texts, record->path);
    record->name = base;
    /* Of good and bad images alike: mending one renames no other. */
    for (unsigned number = 2; record->name && !names_add(names, record->name); number++)
        record->name = mr__arena_text(&list->texts, "%s-%u", base, number);
    return record->name != NULL;
}

mr_status mr__vision_list_name(struct mr__vision_list *list)
{
    struct names names = { .capacity = 64 };
    while (names.capacity < list->count * 2)
        names.capacity *= 2;
    names.table = mr__zalloc_array(names.capacity, sizeof *names.table);
    mr_status status = names.table ? MR_OK : no_memory();
    for (size_t k = 0; !status && k < list->count; k++)
        if (!name_one(list, &names, &list->records[k]))
            status = no_memory();
    mr__free(names.table);
    return status;
}
