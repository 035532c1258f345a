/* SPDX-License-Identifier: MIT */
/*
 * A folder, or a pattern, of files as a source: each file is one item. .npy files and .png images
 * carry their type; others are raw numbers of the `dtype` and `shape` that the job says. Files come
 * in the order of their names, with numbers in them by value: frame9 before frame10.
 */
#include "base/alloc.h"
#include "job/npy.h"
#include "job/png_file.h"
#include "job/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FORMAT_RAW, FORMAT_NPY, FORMAT_PNG };
static const char *const format_names[] = { "raw", "npy", "png", NULL };

struct files_source {
    struct mr__source base;
    char **paths; /* path_count of them, each of the heap */
    size_t path_count, path_capacity;
    uint32_t format;
    bool has_type; /* the job says dtype and shape */
};

static struct files_source *files_of(struct mr__source *source)
{
    return (struct files_source *)source;
}

/* ---- the list ---- */

static void files_fini(struct mr__source *source)
{
    struct files_source *self = files_of(source);
    for (size_t k = 0; k < self->path_count; k++)
        mr__free(self->paths[k]);
    mr__free(self->paths);
    self->paths = NULL;
    self->path_count = 0;
}

static bool add_path(struct files_source *self, char *path)
{
    if (!path)
        return false;
    if (!mr__grow_array(&self->paths, sizeof *self->paths, self->path_count + 1,
                        &self->path_capacity)) {
        mr__free(path);
        return false;
    }
    self->paths[self->path_count++] = path;
    return true;
}

static int compare_paths(const void *a, const void *b)
{
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

static bool is_regular(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode);
}

/* False when memory is out. Hidden files are left out. */
static bool list_folder(struct files_source *self, DIR *folder, const char *path)
{
    const struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.')
            continue;
        char *file = mr__format_text("%s/%s", path, entry->d_name);
        if (file && !is_regular(file)) {
            mr__free(file);
            continue;
        }
        if (!add_path(self, file))
            return false;
    }
    return true;
}

static bool list_pattern(struct files_source *self, const char *pattern)
{
    glob_t found = { 0 };
    const int result = glob(pattern, GLOB_NOSORT, NULL, &found);
    bool is_good = result == 0 || result == GLOB_NOMATCH;
    for (size_t k = 0; is_good && result == 0 && k < found.gl_pathc; k++)
        if (is_regular(found.gl_pathv[k]))
            is_good = add_path(self, mr__copy_text(found.gl_pathv[k]));
    globfree(&found);
    return is_good;
}

static bool list_files(const struct mr__reading *reading, struct files_source *self,
                       const struct mr__yaml *where)
{
    const char *path;
    if (!mr__field_path(reading, where, &path))
        return false;
    self->base.label = path;
    DIR *folder = opendir(path);
    const bool is_listed = folder ? list_folder(self, folder, path) : list_pattern(self, path);
    if (folder)
        closedir(folder);
    if (!is_listed) {
        reading->arena->is_out = 1;
        return false;
    }
    if (!self->path_count) {
        mr__field_problem_of(reading, MR_E_IO, where,
                             "no files: %s is %s; mend the path or the pattern", path,
                             folder ? "an empty folder" : "no folder, and no file matches it");
        return false;
    }
    qsort(self->paths, self->path_count, sizeof *self->paths, compare_paths);
    self->base.item_count = self->path_count;
    return true;
}

/* ---- reading one file ---- */

static mr_status type_differs(const char *path, const struct mr__item_type *here,
                              const struct mr__item_type *due)
{
    char is[MR__ITEM_TEXT_BYTES], wants[MR__ITEM_TEXT_BYTES];
    return mr_error_set(MR_E_FORMAT, "%s: it holds %s, the job's items are %s", path,
                        mr__item_text(here, is), mr__item_text(due, wants));
}

static mr_status read_npy(int file, const char *path, const struct mr__item_type *due, void *data)
{
    struct mr__npy_header header;
    mr_status status = mr__npy_read(file, path, &header);
    if (status)
        return status;
    struct mr__item_type type = { .dtype = header.dtype, .rank = header.rank };
    memcpy(type.shape, header.shape, sizeof type.shape);
    if (type.dtype != due->dtype || !mr__item_same_shape(&type, due))
        return type_differs(path, &type, due);
    size_t got;
    status = mr__read_at(file, path, data, header.data_bytes, header.data_offset, &got);
    if (!status && got < header.data_bytes)
        status = mr_error_set(MR_E_IO, "%s: it became shorter while it was being read", path);
    return status;
}

static mr_status raw_differs(const char *path, uint64_t here, uint64_t due)
{
    return mr_error_set(MR_E_FORMAT,
                        "%s: it has %llu bytes, an item has %llu; mend `dtype` or `shape`, or "
                        "leave the file out",
                        path, (unsigned long long)here, (unsigned long long)due);
}

static mr_status read_raw(int file, const char *path, size_t item_bytes, void *data)
{
    struct stat facts;
    if (fstat(file, &facts))
        return mr_error_set(MR_E_IO, "%s: %s", path, strerror(errno));
    if ((uint64_t)facts.st_size != item_bytes)
        return raw_differs(path, (uint64_t)facts.st_size, item_bytes);
    size_t got;
    mr_status status = mr__read_at(file, path, data, item_bytes, 0, &got);
    return status || got == item_bytes ? status : raw_differs(path, got, item_bytes);
}

static mr_status files_read(struct mr__source *source, uint64_t index, void *data,
                            size_t *size_bytes)
{
    const struct files_source *self = files_of(source);
    if (index >= source->item_count)
        return MR_END;
    *size_bytes = source->item_bytes;
    const char *path = self->paths[index];
    if (self->format == FORMAT_PNG) {
        struct mr__item_type type;
        return mr__png_read(path, &source->type, &type, data);
    }
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return mr_error_set(MR_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    const mr_status status = self->format == FORMAT_NPY
                                 ? read_npy(file, path, &source->type, data)
                                 : read_raw(file, path, source->item_bytes, data);
    close(file);
    return status;
}

static const struct mr__source_ops files_ops = {
    .kind = "files",
    .read = files_read,
    .fini = files_fini,
};

/* ---- the check ---- */

static bool has_ending(const char *path, const char *ending)
{
    const size_t length = strlen(path), due = strlen(ending);
    return length > due && strcasecmp(path + length - due, ending) == 0;
}

static mr_status npy_type(const char *path, struct mr__item_type *type)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return mr_error_set(MR_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    struct mr__npy_header header;
    mr_status status = mr__npy_read(file, path, &header);
    close(file);
    if (status)
        return status;
    if (header.rank > MR__RANK_LIMIT || !header.data_bytes)
        return mr_error_set(MR_E_FORMAT, "%s: an item needs 1 to 8 axes that are not empty", path);
    type->dtype = header.dtype;
    type->rank = header.rank;
    memcpy(type->shape, header.shape, sizeof type->shape);
    return MR_OK;
}

/* The first file says the type, where files can. */
static bool take_type(const struct mr__reading *reading, struct files_source *self,
                      const struct mr__yaml *node)
{
    if (self->format == FORMAT_RAW && !self->has_type) {
        mr__field_problem(reading, node,
                          "the files are raw numbers: say their `dtype` and `shape`");
        return false;
    }
    if (self->format == FORMAT_RAW)
        return true;
    struct mr__item_type type;
    mr_status status = self->format == FORMAT_PNG ? mr__png_read(self->paths[0], NULL, &type, NULL)
                                                  : npy_type(self->paths[0], &type);
    const struct mr__item_type *due = &self->base.type;
    if (!status && self->has_type && (type.dtype != due->dtype || !mr__item_same_shape(&type, due)))
        status = type_differs(self->paths[0], &type, due);
    if (status) {
        mr__field_problem_last(reading, status, node);
        return false;
    }
    self->base.type = type;
    return true;
}

/* Raw files all have one size; the first that differs is a problem. */
static bool check_sizes(const struct mr__reading *reading, const struct files_source *self,
                        const struct mr__yaml *node)
{
    if (self->format != FORMAT_RAW)
        return true;
    for (size_t k = 0; k < self->path_count; k++) {
        struct stat facts;
        if (stat(self->paths[k], &facts) == 0 && (uint64_t)facts.st_size != self->base.item_bytes) {
            const mr_status status =
                raw_differs(self->paths[k], (uint64_t)facts.st_size, self->base.item_bytes);
            mr__field_problem_last(reading, status, node);
            return false;
        }
    }
    return true;
}

static bool check_files(const struct mr__reading *reading, struct files_source *self,
                        const struct mr__yaml *node)
{
    const struct mr__yaml *format = mr__yaml_child(node, "format");
    self->format = has_ending(self->paths[0], ".npy")   ? FORMAT_NPY
                   : has_ending(self->paths[0], ".png") ? FORMAT_PNG
                                                        : FORMAT_RAW;
    if (format && !mr__field_choice(reading, format, format_names, &self->format))
        return false;
    self->has_type = mr__yaml_child(node, "dtype") || mr__yaml_child(node, "shape");
    if (self->has_type && !mr__field_item_type(reading, node, &self->base.type))
        return false;
    return take_type(reading, self, node) && mr__source_size(reading, &self->base) &&
           check_sizes(reading, self, node);
}

struct mr__source *mr__source_files(const struct mr__reading *reading, const struct mr__yaml *node)
{
    static const char *const keys[] = { "path", "format", "dtype", "shape", NULL };
    struct files_source *self = mr__arena_zalloc(reading->arena, sizeof *self);
    if (!self)
        return NULL;
    self->base.ops = &files_ops;
    self->base.node = node;
    self->base.is_counted = true;
    self->base.is_repeatable = true;
    const struct mr__yaml *where = node;
    if (node->kind != MR__YAML_TEXT) {
        if (!mr__field_map(reading, node, "the files source", keys))
            return NULL;
        where = mr__yaml_child(node, "path");
        if (!where)
            mr__field_problem(reading, node,
                              "needs a `path`: a folder, or a pattern such as frames/*.raw");
    }
    if (list_files(reading, self, where) && check_files(reading, self, node))
        return &self->base;
    files_fini(&self->base);
    return NULL;
}
