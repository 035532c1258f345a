/* SPDX-License-Identifier: MIT */
/*
 * Chooses the kind of source and applies what all kinds share: `limit`.
 */
#include "job/source.h"

#include "base/alloc.h"
#include "base/file.h"
#include "job/npy.h"
#include "job/remedy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const char *const mr__short_last_names[] = { "error", "drop", "pad", "keep", NULL };

typedef struct mr__source *(*source_reader)(const struct mr__reading *reading,
                                            const struct mr__yaml *node);

static const struct {
    const char *key;
    source_reader read;
} kinds[] = {
    { "npy", mr__source_npy },           { "raw", mr__source_raw },
    { "files", mr__source_files },       { "stdin", mr__source_stdin },
    { "generate", mr__source_generate },
};

#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

static void apply_limit(const struct mr__reading *reading, const struct mr__yaml *node,
                        struct mr__source *source)
{
    uint64_t limit;
    if (!mr__field_u64(reading, mr__yaml_child(node, "limit"), 1, UINT64_MAX, &limit))
        return;
    if (source->is_counted && limit < source->item_count)
        source->item_count = limit;
    source->limit = limit;
}

struct mr__source *mr__source_read(const struct mr__reading *reading, const struct mr__yaml *node)
{
    static const char *const keys[] = { "npy", "raw", "files", "stdin", "generate", "limit", NULL };
    if (!mr__field_map(reading, node, "the source", keys))
        return NULL;

    const struct mr__yaml *chosen = NULL;
    source_reader read = NULL;
    for (size_t k = 0; k < KIND_COUNT; k++) {
        const struct mr__yaml *value = mr__yaml_child(node, kinds[k].key);
        if (!value)
            continue;
        if (chosen) {
            mr__field_problem(reading, value, "the source already is `%s`; keep one of them",
                              chosen->key);
            return NULL;
        }
        chosen = value;
        read = kinds[k].read;
    }
    if (!chosen) {
        mr__field_problem(reading, node, "says no kind; one of: npy, raw, files, stdin, generate");
        return NULL;
    }
    struct mr__source *source = read(reading, chosen);
    if (source) {
        source->node = chosen;
        apply_limit(reading, node, source);
    }
    return source;
}

void mr__source_fini(struct mr__source *source)
{
    if (source && source->ops->fini)
        source->ops->fini(source);
}

mr_status mr__source_next(struct mr__source *source, uint64_t index, void *data, size_t *size_bytes)
{
    *size_bytes = 0;
    if (source->limit && index >= source->limit)
        return MR_END;
    return source->ops->read(source, index, data, size_bytes);
}

bool mr__source_size(const struct mr__reading *reading, struct mr__source *source)
{
    uint64_t size_bytes;
    if (mr__item_bytes(&source->type, &size_bytes)) {
        source->item_bytes = size_bytes;
        return true;
    }
    mr__field_problem(reading, source->node, "%s: one item would be larger than 1 TiB",
                      source->label);
    return false;
}

mr_status mr__read_at(int file, const char *label, void *data, size_t size_bytes, uint64_t offset,
                      size_t *got)
{
    if (mr__file_read_at(file, data, size_bytes, offset, got))
        return MR_OK;
    return mr_error_set(MR_E_IO, "%s: reading at byte %llu failed: %s", label,
                        (unsigned long long)(offset + *got), strerror(errno));
}

static mr_status load_array(int file, const char *path, struct mr__item_type *type, void **data,
                            uint64_t *size_bytes)
{
    struct mr__npy_header header;
    mr_status status = mr__npy_read(file, path, &header);
    if (status)
        return status;
    if (header.rank > MR__RANK_LIMIT || !header.data_bytes)
        return mr_error_set(MR_E_FORMAT, "%s: %s", path,
                            header.data_bytes ? "too many axes for a side input (8 at most)"
                                              : "empty; a side input needs numbers");
    type->dtype = header.dtype;
    type->rank = header.rank;
    memcpy(type->shape, header.shape, sizeof type->shape);

    *size_bytes = header.data_bytes;
    *data = mr__alloc_aligned(4096, header.data_bytes);
    if (!*data)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory for its %llu bytes", path,
                            (unsigned long long)header.data_bytes);
    size_t got;
    status = mr__read_at(file, path, *data, header.data_bytes, header.data_offset, &got);
    if (!status && got < header.data_bytes)
        status = mr_error_set(MR_E_FORMAT, "%s: it became shorter while being read", path);
    return status;
}

mr_status mr__array_load(const char *path, struct mr__item_type *type, void **data,
                         uint64_t *size_bytes)
{
    *data = NULL;
    *size_bytes = 0;
    *type = (struct mr__item_type){ 0 };
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        const int code = errno;
        char remedy[MR__REMEDY_BYTES];
        return mr_error_set(MR_E_IO, "%s: cannot be opened: %s%s", path, strerror(code),
                            mr__file_remedy(path, code, NULL, remedy));
    }
    mr_status status = load_array(file, path, type, data, size_bytes);
    close(file);
    if (status) {
        mr__free(*data);
        *data = NULL;
    }
    return status;
}
