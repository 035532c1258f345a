/* SPDX-License-Identifier: MIT */
/*
 * Standard input as a source: raw numbers until its end, or one .npy stream. Waits in poll, so that
 * a cancelled run does not hang on a silent pipe.
 */
#include "job/npy.h"
#include "job/source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)

struct stdin_source {
    struct mr__source base;
    int bell; /* an eventfd: rung by interrupt */
    uint32_t short_last;
    bool is_npy;
    bool is_opened;
};

static struct stdin_source *stdin_of(struct mr__source *source)
{
    return (struct stdin_source *)source;
}

/* Waits for input or the bell. */
static mr_status await_input(const struct stdin_source *self)
{
    struct pollfd waits[2] = { { .fd = STDIN_FILENO, .events = POLLIN },
                               { .fd = self->bell, .events = POLLIN } };
    while (poll(waits, 2, -1) < 0)
        if (errno != EINTR)
            return mr_error_set(MR_E_IO, "standard input: %s", strerror(errno));
    if (waits[1].revents)
        return mr_error_set(MR_E_CANCELLED, "standard input: reading was cancelled");
    return MR_OK;
}

/* Up to `size_bytes`; less only at the end of input. */
static mr_status read_input(const struct stdin_source *self, void *data, size_t size_bytes,
                            size_t *got)
{
    *got = 0;
    while (*got < size_bytes) {
        mr_status status = await_input(self);
        if (status)
            return status;
        const ssize_t length = read(STDIN_FILENO, (char *)data + *got, size_bytes - *got);
        if (length < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (length < 0)
            return mr_error_set(MR_E_IO, "standard input: %s", strerror(errno));
        if (!length)
            break;
        *got += (size_t)length;
    }
    return MR_OK;
}

static mr_status stdin_open(struct mr__source *source)
{
    struct stdin_source *self = stdin_of(source);
    if (self->is_opened)
        return mr_error_set(MR_E_STATE, "standard input can be read only once; load the job again "
                                        "with new input, or stream from a file");
    self->is_opened = true;
    fcntl(STDIN_FILENO, F_SETPIPE_SZ,
          PIPE_BYTES); /* fewer calls, where it is a pipe that may grow */
    return MR_OK;
}

static mr_status end_npy(const struct stdin_source *self)
{
    char more;
    size_t got;
    mr_status status = read_input(self, &more, 1, &got);
    if (!status && got)
        status = mr_error_set(MR_E_FORMAT, "standard input: oversized: bytes stand after the "
                                           "array's end; send one .npy stream");
    return status ? status : MR_END;
}

static mr_status stdin_read(struct mr__source *source, uint64_t index, void *data,
                            size_t *size_bytes)
{
    const struct stdin_source *self = stdin_of(source);
    if (source->is_counted && index >= source->item_count)
        return source->limit ? MR_END : end_npy(self);

    size_t got;
    mr_status status = read_input(self, data, source->item_bytes, &got);
    if (status)
        return status;
    *size_bytes = source->item_bytes;
    if (got == source->item_bytes)
        return MR_OK;
    if (self->is_npy)
        return mr_error_set(MR_E_FORMAT,
                            "standard input: truncated: it ends inside item %llu of %llu",
                            (unsigned long long)index, (unsigned long long)source->item_count);
    if (!got || self->short_last == MR__SHORT_DROP)
        return MR_END;
    if (self->short_last == MR__SHORT_ERROR || got % mr_type_size(source->type.dtype))
        return mr_error_set(MR_E_FORMAT,
                            "standard input: it ends after %zu of the %zu bytes of item %llu; mend "
                            "`dtype` or `shape`, or say `short_last: drop`, `pad` or `keep`",
                            got, source->item_bytes, (unsigned long long)index);
    if (self->short_last == MR__SHORT_PAD)
        memset((char *)data + got, 0, source->item_bytes - got);
    else
        *size_bytes = got;
    return MR_OK;
}

static void stdin_interrupt(struct mr__source *source)
{
    const uint64_t one = 1;
    /* An eventfd takes any 8 bytes; it refuses only a full counter, which is rung already. */
    if (write(stdin_of(source)->bell, &one, sizeof one) < 0)
        return;
}

static void stdin_fini(struct mr__source *source)
{
    struct stdin_source *self = stdin_of(source);
    if (self->bell >= 0)
        close(self->bell);
    self->bell = -1;
}

static const struct mr__source_ops stdin_ops = {
    .kind = "stdin",
    .open = stdin_open,
    .read = stdin_read,
    .interrupt = stdin_interrupt,
    .fini = stdin_fini,
};

static mr_status read_header(const struct stdin_source *self, struct mr__npy_header *header)
{
    char text[MR__NPY_HEADER_LIMIT];
    size_t got, more = 0, total;
    mr_status status = read_input(self, text, MR__NPY_START_BYTES, &got);
    if (!status)
        status = mr__npy_header_bytes(text, got, &total);
    if (!status && total > got)
        status = read_input(self, text + got, total - got, &more);
    if (!status)
        status = mr__npy_parse(text, got + more, header);
    return status;
}

static bool take_header(const struct mr__reading *reading, struct stdin_source *self)
{
    struct mr__npy_header header;
    mr_status status = read_header(self, &header);
    if (!status && !header.rank)
        status = mr_error_set(MR_E_FORMAT, "one number without an axis; a source needs a stack of "
                                           "items");
    if (status) {
        mr_error_prefix(status, "standard input: ");
        mr__field_problem_last(reading, status, self->base.node);
        return false;
    }
    self->base.type.dtype = header.dtype;
    self->base.type.rank = header.rank - 1;
    memcpy(self->base.type.shape, header.shape + 1, sizeof self->base.type.shape);
    self->base.item_count = header.shape[0];
    self->base.is_counted = true;
    return true;
}

static bool take_keys(const struct mr__reading *reading, struct stdin_source *self,
                      const struct mr__yaml *node)
{
    static const char *const keys[] = { "dtype", "shape", "short_last", NULL };
    static const char *const formats[] = { "npy", NULL };
    if (node->kind == MR__YAML_TEXT) {
        uint32_t format;
        self->is_npy = true;
        return mr__field_choice(reading, node, formats, &format);
    }
    mr__field_choice(reading, mr__yaml_child(node, "short_last"), mr__short_last_names,
                     &self->short_last);
    self->base.has_short_last = self->short_last == MR__SHORT_KEEP;
    return mr__field_map(reading, node, "the stdin source", keys) &&
           mr__field_item_type(reading, node, &self->base.type);
}

struct mr__source *mr__source_stdin(const struct mr__reading *reading, const struct mr__yaml *node)
{
    struct stdin_source *self = mr__arena_zalloc(reading->arena, sizeof *self);
    if (!self)
        return NULL;
    self->base.ops = &stdin_ops;
    self->base.node = node;
    self->base.label = "standard input";
    self->bell = -1;
    if (!take_keys(reading, self, node))
        return NULL;
    if (isatty(STDIN_FILENO)) {
        mr__field_problem(reading, node, "standard input is a terminal; pipe the data in");
        return NULL;
    }
    self->bell = eventfd(0, EFD_CLOEXEC);
    if (self->bell < 0) {
        mr__field_problem_of(reading, MR_E_IO, node, "no event descriptor: %s", strerror(errno));
        return NULL;
    }
    if ((!self->is_npy || take_header(reading, self)) && mr__source_size(reading, &self->base))
        return &self->base;
    stdin_fini(&self->base);
    return NULL;
}
