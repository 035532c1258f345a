/* SPDX-License-Identifier: MIT */
/*
 * Keeps the folder of compiled code within its limit: what was used longest ago goes first. Processes
 * that trim at the same time agree on what that is, and an entry that is being read stays whole for its
 * reader.
 */
#include "backend/code_cache.h"

#include "base/alloc.h"
#include "base/hash.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A temporary file so old was left by a process that died. */
enum { ORPHAN_SECONDS = 3600 };

struct entry {
    char name[MR__HASH_TEXT_BYTES];
    struct timespec used;
    uint64_t size_bytes;
};

struct entries {
    struct entry *list;
    size_t count, capacity;
    uint64_t size_bytes;
};

static bool is_entry_name(const char *name)
{
    return strlen(name) == MR__HASH_TEXT_BYTES - 1 &&
           strspn(name, "0123456789abcdef") == MR__HASH_TEXT_BYTES - 1;
}

static bool is_temporary_name(const char *name)
{
    const size_t length = strlen(name);
    return length > MR__HASH_TEXT_BYTES + 4 && strcmp(name + length - 4, ".new") == 0 &&
           strspn(name, "0123456789abcdef") == MR__HASH_TEXT_BYTES - 1;
}

static bool add_entry(struct entries *entries, const char *name, const struct stat *status)
{
    if (!mr__grow_array(&entries->list, sizeof *entries->list, entries->count + 1,
                        &entries->capacity))
        return false;
    struct entry *entry = &entries->list[entries->count++];
    memcpy(entry->name, name, MR__HASH_TEXT_BYTES);
    entry->used = status->st_mtim;
    entry->size_bytes = (uint64_t)status->st_size;
    entries->size_bytes += entry->size_bytes;
    return true;
}

/* Whatever else lies in the folder is not ours to count or remove. False when memory is out. */
static bool read_folder(DIR *stream, struct entries *entries)
{
    const int folder = dirfd(stream);
    const time_t now = time(NULL);
    for (const struct dirent *item; (item = readdir(stream));) {
        struct stat status;
        const bool is_entry = is_entry_name(item->d_name);
        if ((!is_entry && !is_temporary_name(item->d_name)) ||
            fstatat(folder, item->d_name, &status, AT_SYMLINK_NOFOLLOW) || !S_ISREG(status.st_mode))
            continue;
        if (is_entry && !add_entry(entries, item->d_name, &status))
            return false;
        if (!is_entry && now - status.st_mtime > ORPHAN_SECONDS)
            unlinkat(folder, item->d_name, 0);
    }
    return true;
}

static int compare_uses(const void *a, const void *b)
{
    const struct entry *first = a, *second = b;
    if (first->used.tv_sec != second->used.tv_sec)
        return first->used.tv_sec < second->used.tv_sec ? -1 : 1;
    if (first->used.tv_nsec != second->used.tv_nsec)
        return first->used.tv_nsec < second->used.tv_nsec ? -1 : 1;
    return strcmp(first->name, second->name);
}

static void remove_oldest(int folder, struct entries *entries, const char *kept,
                          uint64_t limit_bytes)
{
    qsort(entries->list, entries->count, sizeof *entries->list, compare_uses);
    for (size_t i = 0; i < entries->count && entries->size_bytes > limit_bytes; i++) {
        const struct entry *entry = &entries->list[i];
        if (strcmp(entry->name, kept) == 0)
            continue;
        unlinkat(folder, entry->name, 0); /* or another process just did */
        entries->size_bytes -= entry->size_bytes;
    }
}

void mr__code_cache_trim(const char *path, const char *kept, uint64_t limit_bytes)
{
    DIR *stream = opendir(path);
    if (!stream)
        return;
    struct entries entries = { 0 };
    if (read_folder(stream, &entries) && entries.size_bytes > limit_bytes)
        remove_oldest(dirfd(stream), &entries, kept, limit_bytes);
    mr__free(entries.list);
    closedir(stream);
}
