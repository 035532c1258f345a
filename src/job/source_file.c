/* SPDX-License-Identifier: MIT */
/*
 * Sources over one regular file: a .npy stack, whose leading axis counts the items, and raw
 * numbers. The file stays open from the check to the end of the job, so that what was checked is
 * what is read. It is read with pread, not mapped: a file that shrinks meanwhile is an error, not a
 * signal.
 */
#include "job/npy.h"
#include "job/read_crew.h"
#include "job/remedy.h"
#include "job/source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file_source {
    struct mr__source base;
    int file;
    uint64_t data_offset;
    uint64_t data_bytes;
    uint32_t short_last;
    uint32_t reader_count; /* 0 = auto */
    struct mr__read_crew *crew;
};

static struct file_source *file_of(struct mr__source *source)
{
    return (struct file_source *)source;
}

static mr_status file_open(struct mr__source *source)
{
    struct file_source *self = file_of(source);
    posix_fadvise(self->file, 0, 0, POSIX_FADV_SEQUENTIAL);
    const uint32_t count = self->reader_count ? self->reader_count : mr__read_crew_auto();
    return count > 1 && !self->crew ? mr__read_crew_create(count, &self->crew) : MR_OK;
}

static mr_status file_read(struct mr__source *source, uint64_t index, void *data,
                           size_t *size_bytes)
{
    const struct file_source *self = file_of(source);
    if (index >= source->item_count)
        return MR_END;

    const uint64_t offset = index * source->item_bytes;
    const uint64_t left = self->data_bytes - offset;
    const size_t due = left < source->item_bytes ? (size_t)left : source->item_bytes;
    size_t got;
    mr_status status = mr__read_crew_at(self->crew, self->file, source->label, data, due,
                                        self->data_offset + offset, &got);
    if (status)
        return mr_error_prefix(status, "item %llu: ", (unsigned long long)index);
    if (got < due)
        return mr_error_set(MR_E_IO,
                            "%s: the file ends inside item %llu: it became shorter while it was "
                            "being read",
                            source->label, (unsigned long long)index);
    *size_bytes = due;
    if (due < source->item_bytes && self->short_last == MR__SHORT_PAD) {
        memset((char *)data + due, 0, source->item_bytes - due);
        *size_bytes = source->item_bytes;
    }
    return MR_OK;
}

static void file_fini(struct mr__source *source)
{
    struct file_source *self = file_of(source);
    mr__read_crew_destroy(self->crew);
    self->crew = NULL;
    if (self->file >= 0)
        close(self->file);
    self->file = -1;
}

static const struct mr__source_ops npy_ops = {
    .kind = "npy",
    .open = file_open,
    .read = file_read,
    .fini = file_fini,
};

static const struct mr__source_ops raw_ops = {
    .kind = "raw",
    .open = file_open,
    .read = file_read,
    .fini = file_fini,
};

static struct file_source *new_source(const struct mr__reading *reading,
                                      const struct mr__source_ops *ops, const struct mr__yaml *node,
                                      const char *path)
{
    struct file_source *self = mr__arena_zalloc(reading->arena, sizeof *self);
    if (!self)
        return NULL;
    self->base.ops = ops;
    self->base.node = node;
    self->base.label = path;
    self->base.is_counted = true;
    self->base.is_repeatable = true;
    self->file = open(path, O_RDONLY | O_CLOEXEC);
    if (self->file < 0) {
        const int code = errno;
        char remedy[MR__REMEDY_BYTES];
        mr__field_problem_of(reading, MR_E_IO, node, "%s cannot be opened: %s%s", path,
                             strerror(code), mr__file_remedy(path, code, NULL, remedy));
        return NULL;
    }
    return self;
}

static void read_reader_count(const struct mr__reading *reading, struct file_source *self,
                              const struct mr__yaml *node)
{
    mr__field_u32(reading, mr__yaml_child(node, "readers"), 1, 16, &self->reader_count);
}

/* The leading axis counts the items; the others are an item's shape. */
static bool take_header(const struct mr__reading *reading, struct file_source *self)
{
    struct mr__npy_header header;
    const mr_status status = mr__npy_read(self->file, self->base.label, &header);
    if (status) {
        mr__field_problem_last(reading, status, self->base.node);
        return false;
    }
    if (!header.rank) {
        mr__field_problem(reading, self->base.node,
                          "%s holds one number without an axis; a source needs a stack of items",
                          self->base.label);
        return false;
    }
    struct mr__item_type *type = &self->base.type;
    type->dtype = header.dtype;
    type->rank = header.rank - 1;
    for (uint32_t k = 0; k < type->rank; k++)
        type->shape[k] = header.shape[k + 1];
    self->data_offset = header.data_offset;
    self->data_bytes = header.data_bytes;
    self->base.item_count = header.shape[0];
    return mr__source_size(reading, &self->base);
}

struct mr__source *mr__source_npy(const struct mr__reading *reading, const struct mr__yaml *node)
{
    static const char *const keys[] = { "path", "readers", NULL };
    const struct mr__yaml *where = node;
    if (node->kind == MR__YAML_MAP) {
        mr__field_map(reading, node, "the npy source", keys);
        where = mr__yaml_child(node, "path");
        if (!where)
            mr__field_problem(reading, node, "needs a `path`");
    }
    const char *path;
    if (!mr__field_path(reading, where, &path))
        return NULL;
    struct file_source *self = new_source(reading, &npy_ops, where, path);
    if (!self)
        return NULL;
    read_reader_count(reading, self, node);
    if (take_header(reading, self))
        return &self->base;
    file_fini(&self->base);
    return NULL;
}

/* How many items the file holds, and what becomes of a rest. */
static bool count_items(const struct mr__reading *reading, struct file_source *self,
                        const struct mr__yaml *node)
{
    struct stat facts;
    if (fstat(self->file, &facts) || !S_ISREG(facts.st_mode)) {
        mr__field_problem_of(reading, MR_E_IO, node,
                             "%s is no regular file; for a pipe say `stdin: {dtype, shape}`",
                             self->base.label);
        return false;
    }
    const uint64_t there = (uint64_t)facts.st_size;
    if (there < self->data_offset) {
        mr__field_problem(reading, node, "%s has %llu bytes, fewer than `skip` says",
                          self->base.label, (unsigned long long)there);
        return false;
    }
    self->data_bytes = there - self->data_offset;
    const uint64_t rest = self->data_bytes % self->base.item_bytes;
    self->base.item_count = self->data_bytes / self->base.item_bytes;
    if (!rest || self->short_last == MR__SHORT_DROP)
        return true;
    self->base.item_count++;
    self->base.has_short_last = self->short_last == MR__SHORT_KEEP;
    if (self->short_last != MR__SHORT_ERROR && rest % mr_type_size(self->base.type.dtype) == 0)
        return true;
    mr__field_problem(
        reading, node,
        "%s has %llu bytes, not a multiple of an item's %zu: %llu are left over. Mend "
        "`dtype`, `shape` or `skip`, or say `short_last: drop`, `pad` or `keep`",
        self->base.label, (unsigned long long)self->data_bytes, self->base.item_bytes,
        (unsigned long long)rest);
    return false;
}

struct mr__source *mr__source_raw(const struct mr__reading *reading, const struct mr__yaml *node)
{
    static const char *const keys[] = { "path",       "dtype",   "shape", "skip",
                                        "short_last", "readers", NULL };
    if (!mr__field_map(reading, node, "the raw source", keys))
        return NULL;
    const struct mr__yaml *where = mr__yaml_child(node, "path");
    if (!where)
        mr__field_problem(reading, node, "needs a `path`");

    struct mr__item_type type = { 0 };
    uint32_t short_last = MR__SHORT_ERROR;
    uint64_t skip = 0;
    const char *path = NULL;
    bool is_good = mr__field_item_type(reading, node, &type);
    mr__field_size(reading, mr__yaml_child(node, "skip"), &skip);
    mr__field_choice(reading, mr__yaml_child(node, "short_last"), mr__short_last_names,
                     &short_last);
    is_good &= mr__field_path(reading, where, &path);
    struct file_source *self = path ? new_source(reading, &raw_ops, node, path) : NULL;
    if (!self)
        return NULL;
    read_reader_count(reading, self, node);
    self->base.type = type;
    self->short_last = short_last;
    self->data_offset = skip;
    if (is_good && mr__source_size(reading, &self->base) && count_items(reading, self, node))
        return &self->base;
    file_fini(&self->base);
    return NULL;
}
