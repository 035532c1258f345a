/* SPDX-License-Identifier: MIT */
/*
 * Compiled code on disk. A file is named by the hash of its key, and holds a head, the key and the
 * code. It appears whole, by rename, and is checked as a whole before it is believed.
 */
#include "backend/code_cache.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/hash.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "millrace code 1\n"

enum { ENTRY_BYTES_LIMIT = 256 << 20 };

struct head {
    char magic[16];
    uint64_t key_bytes, code_bytes;
    struct mr__hash hash; /* of key and code */
};

/* ---- keys ---- */

void mr__code_key_add(struct mr__code_key *key, const void *piece, size_t size_bytes)
{
    const uint64_t length = size_bytes;
    unsigned char *bytes =
        mr__resize_array(key->bytes, key->size_bytes + sizeof length + size_bytes, 1);
    if (!bytes) {
        key->is_broken = true;
        return;
    }
    memcpy(bytes + key->size_bytes, &length, sizeof length);
    if (size_bytes)
        memcpy(bytes + key->size_bytes + sizeof length, piece, size_bytes);
    key->bytes = bytes;
    key->size_bytes += sizeof length + size_bytes;
}

void mr__code_key_add_text(struct mr__code_key *key, const char *piece)
{
    mr__code_key_add(key, piece, piece ? strlen(piece) : 0);
}

void mr__code_key_fini(struct mr__code_key *key)
{
    mr__free(key->bytes);
    *key = (struct mr__code_key){ 0 };
}

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

/* Whether the line includes anything but a file of the system's or of ours. */
static bool is_own_include(const char *line)
{
    line = skip_blanks(line);
    if (*line != '#')
        return false;
    line = skip_blanks(line + 1);
    if (strncmp(line, "import", 6) == 0)
        return true;
    if (strncmp(line, "include", 7) != 0)
        return false;
    line = skip_blanks(line + 7);
    return *line != '<' || line[1] == '/';
}

/* Flags that name files, or may; so may every word that is not a flag. */
static bool may_name_file(const char *word)
{
    static const char *const starts[] = {
        "-I",  "-i", "-B", "-specs", "--include", "--sysroot", "--pre-include", "--options-file",
        "-opt"
    };
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        if (strncmp(word, starts[i], strlen(starts[i])) == 0)
            return true;
    }
    return *word != '-';
}

bool mr__code_is_self_contained(const char *source, const char *flags)
{
    for (const char *word = flags ? skip_blanks(flags) : ""; *word;) {
        if (may_name_file(word))
            return false;
        word = skip_blanks(word + strcspn(word, " \t\n"));
    }
    for (const char *line = source; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (is_own_include(line))
            return false;
    }
    return true;
}

static char *entry_path(const char *folder, const struct mr__code_key *key)
{
    char name[MR__HASH_TEXT_BYTES];
    struct mr__hash hash = { 0 };
    mr__hash_add(&hash, key->bytes, key->size_bytes);
    mr__hash_text(&hash, name);
    return mr__format_text("%s/%s", folder, name);
}

static struct mr__hash hash_of(const void *key, size_t key_bytes, const void *code,
                               size_t code_bytes)
{
    struct mr__hash hash = { 0 };
    mr__hash_add(&hash, key, key_bytes);
    mr__hash_add(&hash, code, code_bytes);
    return hash;
}

/* ---- reading ---- */

/* False also where the file has become shorter. */
static bool read_all(int file, void *target, size_t size_bytes)
{
    size_t got;
    return mr__file_read(file, target, size_bytes, &got) && got == size_bytes;
}

/* The sizes fit the file, and nobody else could have written it. */
static bool is_plausible(int file, const struct mr__code_key *key, struct head *head)
{
    struct stat status;
    return fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
           (status.st_mode & (S_IWGRP | S_IWOTH)) == 0 && status.st_size <= ENTRY_BYTES_LIMIT &&
           read_all(file, head, sizeof *head) &&
           memcmp(head->magic, MAGIC, sizeof head->magic) == 0 &&
           head->key_bytes == key->size_bytes && head->code_bytes <= ENTRY_BYTES_LIMIT &&
           (uint64_t)status.st_size == sizeof *head + head->key_bytes + head->code_bytes;
}

/* Key and code of an open entry, or NULL. */
static unsigned char *read_entry(int file, const struct mr__code_key *key, struct head *head)
{
    if (!is_plausible(file, key, head))
        return NULL;
    const size_t size_bytes = head->key_bytes + head->code_bytes;
    unsigned char *bytes = mr__zalloc(size_bytes + 1);
    if (!bytes)
        return NULL;
    if (read_all(file, bytes, size_bytes) && memcmp(bytes, key->bytes, key->size_bytes) == 0) {
        const struct mr__hash hash =
            hash_of(bytes, head->key_bytes, bytes + head->key_bytes, head->code_bytes);
        if (hash.low == head->hash.low && hash.high == head->hash.high)
            return bytes;
    }
    mr__free(bytes);
    return NULL;
}

void *mr__code_cache_read(const char *folder, const struct mr__code_key *key, size_t *size_bytes)
{
    *size_bytes = 0;
    if (!folder || key->is_broken)
        return NULL;
    char *path = entry_path(folder, key);
    if (!path)
        return NULL;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    mr__free(path);
    if (file < 0)
        return NULL;

    struct head head;
    unsigned char *bytes = read_entry(file, key, &head);
    if (bytes)
        futimens(file, NULL); /* when it was used: trimming goes by that */
    close(file);
    if (!bytes)
        return NULL;
    memmove(bytes, bytes + head.key_bytes, head.code_bytes + 1);
    *size_bytes = head.code_bytes;
    return bytes;
}

/* ---- writing ---- */

static bool write_entry(const char *path, const struct mr__code_key *key, const void *code,
                        size_t size_bytes)
{
    struct head head = { .key_bytes = key->size_bytes,
                         .code_bytes = size_bytes,
                         .hash = hash_of(key->bytes, key->size_bytes, code, size_bytes) };
    memcpy(head.magic, MAGIC, sizeof head.magic);

    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return false;
    const bool is_written = mr__file_write(file, &head, sizeof head, NULL) &&
                            mr__file_write(file, key->bytes, key->size_bytes, NULL) &&
                            mr__file_write(file, code, size_bytes, NULL);
    return close(file) == 0 && is_written;
}

void mr__code_cache_write(const char *folder, const struct mr__code_key *key, const void *code,
                          size_t size_bytes, uint64_t limit_bytes)
{
    static _Atomic unsigned last;
    if (!folder || key->is_broken || size_bytes > ENTRY_BYTES_LIMIT / 2 ||
        sizeof(struct head) + key->size_bytes + size_bytes > limit_bytes)
        return;
    char *path = entry_path(folder, key);
    char *temporary =
        path ? mr__format_text("%s.%d.%u.new", path, (int)getpid(), atomic_fetch_add(&last, 1))
             : NULL;
    if (temporary && (!write_entry(temporary, key, code, size_bytes) || rename(temporary, path)))
        unlink(temporary);
    else if (temporary)
        mr__code_cache_trim(folder, path + strlen(folder) + 1, limit_bytes);
    mr__free(temporary);
    mr__free(path);
}
