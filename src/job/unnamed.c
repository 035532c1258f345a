/* SPDX-License-Identifier: MIT */
/*
 * Files without names, and hidden ones where there are none.
 */
#include "job/unnamed.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PROC_PATH_BYTES = 40 };

bool mr__unnamed_is_unsupported;

/* How many bytes of `path` are its folder; 0 for the working folder. */
static int folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) + 1 : 0;
}

/* "FOLDER/.millrace-PID-NUMBER", another one with each number. NULL when memory is out. */
static char *hidden_name(const char *target, uint64_t number)
{
    return mr__format_text("%.*s.millrace-%lx-%llx", folder_length(target), target, (long)getpid(),
                           (unsigned long long)number);
}

/* The file's entry in /proc, by which it can be given a name. */
static void proc_path(int file, char path[PROC_PATH_BYTES])
{
    snprintf(path, PROC_PATH_BYTES, "/proc/self/fd/%d", file);
}

/* False where there are no files without names, or no way to name one later. */
static bool open_nameless(struct mr__unnamed *unnamed, const char *folder)
{
    if (mr__unnamed_is_unsupported)
        return false;
    /* For everybody, as far as the user's mask allows. */
    unnamed->file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (unnamed->file < 0)
        return false;

    char path[PROC_PATH_BYTES];
    proc_path(unnamed->file, path);
    if (access(path, F_OK) == 0)
        return true;
    close(unnamed->file);
    unnamed->file = -1;
    return false;
}

/* Not mkstemp: its files would be for the owner alone, whatever the user's mask says. */
static bool open_hidden(struct mr__unnamed *unnamed, const char *target)
{
    for (uint64_t number = mr__clock_now_ns();; number++) {
        unnamed->temporary = hidden_name(target, number);
        if (!unnamed->temporary) {
            errno = ENOMEM;
            return false;
        }
        unnamed->file = open(unnamed->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (unnamed->file >= 0)
            return true;
        const int code = errno;
        mr__free(unnamed->temporary);
        unnamed->temporary = NULL;
        errno = code;
        if (code != EEXIST)
            return false;
    }
}

bool mr__unnamed_open(struct mr__unnamed *unnamed, const char *target)
{
    *unnamed = (struct mr__unnamed){ .file = -1 };
    char *folder = mr__format_text("%.*s.", folder_length(target), target);
    if (!folder) {
        errno = ENOMEM;
        return false;
    }
    const bool is_nameless = open_nameless(unnamed, folder);
    mr__free(folder);
    return is_nameless || open_hidden(unnamed, target);
}

/* A link does not replace: where something stands, the file gets a hidden name first. */
static bool link_hidden(struct mr__unnamed *unnamed, const char *source, const char *target)
{
    for (uint64_t number = mr__clock_now_ns();; number++) {
        char *name = hidden_name(target, number);
        if (!name) {
            errno = ENOMEM;
            return false;
        }
        if (linkat(AT_FDCWD, source, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0) {
            unnamed->temporary = name;
            return true;
        }
        const int code = errno;
        mr__free(name);
        errno = code;
        if (code != EEXIST)
            return false;
    }
}

static void forget(struct mr__unnamed *unnamed)
{
    if (unnamed->file >= 0)
        close(unnamed->file);
    unnamed->file = -1;
    mr__free(unnamed->temporary);
    unnamed->temporary = NULL;
}

bool mr__unnamed_name(struct mr__unnamed *unnamed, const char *target)
{
    if (!unnamed->temporary) {
        char source[PROC_PATH_BYTES];
        proc_path(unnamed->file, source);
        const bool is_named = linkat(AT_FDCWD, source, AT_FDCWD, target, AT_SYMLINK_FOLLOW) == 0;
        if (!is_named && (errno != EEXIST || !link_hidden(unnamed, source, target)))
            return false;
    }
    if (unnamed->temporary && rename(unnamed->temporary, target))
        return false;
    forget(unnamed);
    return true;
}

void mr__unnamed_abandon(struct mr__unnamed *unnamed)
{
    if (unnamed->temporary)
        unlink(unnamed->temporary);
    forget(unnamed);
}
