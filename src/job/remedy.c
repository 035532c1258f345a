/* SPDX-License-Identifier: MIT */
/*
 * Looks around a file that cannot be read for what was meant.
 */
#include "job/remedy.h"

#include "base/alloc.h"
#include "job/problems.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NAME_LIMIT = 512, LISTED_LIMIT = 5 };

/* The names in a folder, sorted; ends with NULL. */
struct listing {
    char *names[NAME_LIMIT + 1];
    size_t count;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void listing_fini(struct listing *listing)
{
    for (size_t k = 0; k < listing->count; k++)
        mr__free(listing->names[k]);
    mr__free(listing);
}

/* NULL when the folder cannot be read, or memory is out. */
static struct listing *list_folder(const char *folder)
{
    DIR *stream = opendir(folder);
    struct listing *listing = stream ? mr__zalloc(sizeof *listing) : NULL;
    for (const struct dirent *entry; listing && listing->count < NAME_LIMIT;) {
        entry = readdir(stream);
        char *name = entry && entry->d_name[0] != '.' ? mr__copy_text(entry->d_name) : NULL;
        if (name)
            listing->names[listing->count++] = name;
        else if (!entry || entry->d_name[0] != '.')
            break;
    }
    if (stream)
        closedir(stream);
    if (listing)
        qsort(listing->names, listing->count, sizeof listing->names[0], compare_names);
    return listing;
}

static bool ends_with(const char *name, const char *ending)
{
    const size_t length = strlen(name), due = strlen(ending);
    return length > due && strcmp(name + length - due, ending) == 0;
}

static const char *ending_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(slash ? slash : path, '.');
    return dot ? dot : "";
}

/* "; there: a.yaml, b.yaml and 3 more", or nothing. */
static void name_some(const struct listing *listing, const char *ending, char *text)
{
    size_t used = 0, listed = 0, more = 0;
    for (size_t k = 0; k < listing->count; k++) {
        const char *name = listing->names[k];
        if (!ends_with(name, ending))
            continue;
        if (listed == LISTED_LIMIT || used + strlen(name) + 64 > MR__REMEDY_BYTES) {
            more++;
            continue;
        }
        used += (size_t)snprintf(text + used, MR__REMEDY_BYTES - used, "%s%s",
                                 listed ? ", " : "; there: ", name);
        listed++;
    }
    if (more && listed)
        snprintf(text + used, MR__REMEDY_BYTES - used, " and %zu more", more);
}

/* What stands in the folder in place of `name`, or "" for what can be read there at all. */
static void look_into(const char *folder, const char *prefix, const char *name, const char *ending,
                      char *text)
{
    struct listing *listing = list_folder(folder);
    if (!listing)
        return;
    const char *nearest = mr__nearest(name, (const char *const *)listing->names);
    if (nearest)
        snprintf(text, MR__REMEDY_BYTES, "; did you mean '%.200s%.200s'?", prefix, nearest);
    else
        name_some(listing, ending, text);
    listing_fini(listing);
}

static void look_beside(const char *path, const char *ending, char *text)
{
    char folder[PATH_MAX];
    struct stat facts;
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const int length = (int)(name - path);
    snprintf(folder, sizeof folder, "%.*s", length > 1 ? length - 1 : length, path);
    if (slash && stat(folder, &facts)) {
        snprintf(text, MR__REMEDY_BYTES, "; there is no folder '%.400s'", folder);
        return;
    }
    char prefix[PATH_MAX];
    snprintf(prefix, sizeof prefix, "%.*s", length, path);
    look_into(slash ? folder : ".", prefix, name, ending, text);
}

const char *mr__file_remedy(const char *path, int code, const char *ending,
                            char text[MR__REMEDY_BYTES])
{
    text[0] = '\0';
    if (strlen(path) >= PATH_MAX)
        return text;
    if (!ending)
        ending = ending_of(path);
    if (code == ENOENT)
        look_beside(path, ending, text);
    else if (code == EISDIR)
        look_into(path, "", "", ending, text);
    else if (code == EACCES)
        snprintf(text, MR__REMEDY_BYTES,
                 "; let yourself read it and enter its folder (ls -l, chmod)");
    return text;
}
