/* SPDX-License-Identifier: MIT */
/*
 * A folder of outputs that appears when all of it is there: written beside its place under a
 * temporary name; then each file takes its name, the contact sheet and the summary last. Files of an
 * earlier run that have other names stay.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "job/vision_job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool parent_of(const char *path, char parent[PATH_MAX])
{
    char copy[PATH_MAX];
    if (strlen(path) >= sizeof copy - 64)
        return false;
    strcpy(copy, path);
    snprintf(parent, PATH_MAX, "%s", dirname(copy));
    return true;
}

bool mr__vision_folder_check(const struct mr__reading *reading, const struct mr__yaml *node,
                             const char *path)
{
    struct stat facts;
    char parent[PATH_MAX];
    const char *trouble = NULL;
    if (!parent_of(path, parent))
        trouble = "its path is too long";
    else if (stat(path, &facts) == 0 && !S_ISDIR(facts.st_mode))
        trouble = "it is a file; name a folder";
    else if (stat(parent, &facts))
        trouble = "the folder that it is to stand in is not there; create it first";
    else if (!S_ISDIR(facts.st_mode))
        trouble = "what should hold it is a file";
    else if (access(parent, W_OK | X_OK))
        trouble = "the folder that it is to stand in may not be written; change the permissions or "
                  "write elsewhere";
    if (trouble)
        mr__field_problem_of(reading, MR_E_IO, node, "%s cannot be written: %s", path, trouble);
    return !trouble;
}

static mr_status failure(const char *path, const char *what)
{
    const int code = errno;
    const bool is_full = code == ENOSPC || code == EDQUOT || code == EFBIG;
    return mr_error_set(MR_E_IO, "%s: %s: %s%s", path, what, strerror(code),
                        is_full ? "; free some space or write elsewhere" : "");
}

/* ---- writing ---- */

static mr_status make_parts(const struct mr__vision_folder *folder, const bool *has_output)
{
    for (uint32_t k = 0; k < MR__VISION_OUTPUTS; k++) {
        char path[PATH_MAX];
        if (!has_output[k])
            continue;
        snprintf(path, sizeof path, "%s/%s", folder->temporary, mr__vision_output_names[k]);
        if (mkdir(path, 0777))
            return failure(folder->path, "cannot be written");
    }
    return MR_OK;
}

mr_status mr__vision_folder_open(struct mr__vision_folder *folder, const bool *has_output)
{
    char parent[PATH_MAX];
    if (!parent_of(folder->path, parent))
        return mr_error_set(MR_E_IO, "%s: its path is too long", folder->path);
    for (uint64_t attempt = mr__clock_now_ns();; attempt++) {
        mr__free(folder->temporary);
        folder->temporary = mr__format_text("%s/.millrace-%lx-%llx", parent, (long)getpid(),
                                            (unsigned long long)attempt);
        if (!folder->temporary)
            return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", folder->path);
        if (mkdir(folder->temporary, 0777) == 0)
            break;
        if (errno != EEXIST) {
            const mr_status status = failure(folder->path, "cannot be written");
            mr__free(folder->temporary);
            folder->temporary = NULL;
            return status;
        }
    }
    return make_parts(folder, has_output);
}

mr_status mr__vision_folder_write(const struct mr__vision_folder *folder, const char *kind,
                                  const char *name, const char *ending, const void *data,
                                  size_t size_bytes)
{
    char *path = mr__format_text("%s/%s/%s%s", folder->temporary, kind, name, ending);
    if (!path)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", name);
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    mr_status status = MR_OK;
    if (file < 0)
        status = failure(name, "cannot be written");
    else if (!mr__file_write(file, data, size_bytes, NULL))
        status = failure(name, "writing failed");
    /* Network file systems report a full disk here. */
    if (file >= 0 && close(file) && !status)
        status = failure(name, "writing failed");
    mr__free(path);
    return status ? mr_error_prefix(status, "%s/%s%s", folder->path, kind, kind[0] ? "/" : "")
                  : MR_OK;
}

/* ---- the end ---- */

/* Without memory of its own: a folder of which half has its names helps nobody. */
static mr_status move_file(const char *from, const char *to, const char *name)
{
    char source[PATH_MAX], target[PATH_MAX];
    const int source_length = snprintf(source, sizeof source, "%s/%s", from, name);
    const int target_length = snprintf(target, sizeof target, "%s/%s", to, name);
    errno = ENAMETOOLONG;
    if (source_length >= PATH_MAX || target_length >= PATH_MAX || rename(source, target))
        return failure(target, "complete, but cannot be given its name");
    return MR_OK;
}

static mr_status move_files(const char *from, const char *to)
{
    if (mkdir(to, 0777) && errno != EEXIST)
        return failure(to, "complete, but cannot be given its name");
    DIR *entries = opendir(from);
    if (!entries)
        return failure(from, "cannot be listed");
    mr_status status = MR_OK;
    const struct dirent *entry;
    while (!status && (entry = readdir(entries)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            status = move_file(from, to, entry->d_name);
    closedir(entries);
    return status;
}

mr_status mr__vision_folder_publish(struct mr__vision_folder *folder, const bool *has_output)
{
    char from[PATH_MAX], to[PATH_MAX];
    mr_status status = MR_OK;
    if (mkdir(folder->path, 0777) && errno != EEXIST)
        return failure(folder->path, "complete, but cannot be given its name");
    for (uint32_t k = 0; k < MR__VISION_OUTPUTS && !status; k++) {
        if (!has_output[k])
            continue;
        snprintf(from, sizeof from, "%s/%s", folder->temporary, mr__vision_output_names[k]);
        snprintf(to, sizeof to, "%s/%s", folder->path, mr__vision_output_names[k]);
        status = move_files(from, to);
        rmdir(from); /* so that below only files are left */
    }
    return status ? status : move_files(folder->temporary, folder->path);
}

void mr__vision_folder_abandon(struct mr__vision_folder *folder)
{
    if (folder->temporary)
        mr__folder_remove(folder->temporary);
    mr__free(folder->temporary);
    folder->temporary = NULL;
}
