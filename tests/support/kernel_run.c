/* SPDX-License-Identifier: MIT */
/*
 * Launches over host arrays.
 */
#include "support/kernel_run.h"

enum { MARGIN = 256 };

static void copy_between(mr_stream *stream, mr_buffer *buffer, void *data, size_t size_bytes,
                         bool is_to_host)
{
    mr_buffer *view;
    CHECK_OK(
        mr_buffer_borrow(mr_stream_device(stream), data, size_bytes, MR_PLACE_PAGEABLE, &view));
    CHECK_OK(is_to_host ? mr_copy(stream, view, 0, buffer, 0, size_bytes)
                        : mr_copy(stream, buffer, 0, view, 0, size_bytes));
    CHECK_OK(mr_stream_wait(stream));
    mr_buffer_destroy(view);
}

/* Device memory with the array in the middle of it. */
static mr_buffer *place(mr_stream *stream, const struct run_argument *argument)
{
    const size_t size_bytes = argument->size_bytes + (size_t)2 * MARGIN;
    unsigned char *image = malloc(size_bytes);
    CHECK(image);
    poison(image, size_bytes);
    if (argument->access != MR_ACCESS_OUT && argument->size_bytes)
        memcpy(image + MARGIN, argument->data, argument->size_bytes);

    mr_buffer *buffer;
    CHECK_OK(mr_buffer_create(mr_stream_device(stream), size_bytes, NULL, &buffer));
    copy_between(stream, buffer, image, size_bytes, false);
    free(image);
    return buffer;
}

static void check_margin(const unsigned char *margin, const char *kernel, size_t index)
{
    for (size_t i = 0; i < MARGIN; i++) {
        if (margin[i] != POISON)
            CHECK_FAIL("%s wrote outside argument %zu", kernel, index);
    }
}

/* Takes the array back, and looks at what lies around it and at what must not have changed. */
static void take(mr_stream *stream, const char *kernel, size_t index, mr_buffer *buffer,
                 const struct run_argument *argument)
{
    const size_t size_bytes = mr_buffer_size(buffer);
    unsigned char *image = malloc(size_bytes);
    CHECK(image);
    copy_between(stream, buffer, image, size_bytes, true);
    check_margin(image, kernel, index);
    check_margin(image + MARGIN + argument->size_bytes, kernel, index);
    if (argument->size_bytes && argument->access == MR_ACCESS_IN)
        CHECK(memcmp(argument->data, image + MARGIN, argument->size_bytes) == 0);
    else if (argument->size_bytes)
        memcpy(argument->data, image + MARGIN, argument->size_bytes);
    free(image);
    mr_buffer_destroy(buffer);
}

void kernel_run(mr_stream *stream, mr_kernel *kernel, const mr_launch *launch,
                const struct run_argument *arguments, size_t count)
{
    mr_argument given[MR_PARAMETER_LIMIT];
    mr_buffer *buffers[MR_PARAMETER_LIMIT] = { NULL };
    CHECK(count <= MR_PARAMETER_LIMIT);
    for (size_t i = 0; i < count; i++) {
        if (arguments[i].access != MR_ACCESS_VALUE)
            buffers[i] = place(stream, &arguments[i]);
        given[i] = buffers[i] ? mr_argument_range(buffers[i], MARGIN, arguments[i].size_bytes)
                              : arguments[i].number;
    }

    CHECK_OK(mr_kernel_launch(stream, kernel, launch, given, count));
    CHECK_OK(mr_stream_wait(stream));

    for (size_t i = 0; i < count; i++) {
        if (buffers[i])
            take(stream, mr_kernel_name(kernel), i, buffers[i], &arguments[i]);
    }
}

void kernel_run_embedded(mr_stream *stream, const char *name, uint64_t launch_count,
                         const struct run_argument *arguments, size_t count)
{
    mr_kernel *kernel;
    CHECK_OK(mr_kernel_open(mr_stream_device(stream), name, &kernel));
    kernel_run(stream, kernel, &(mr_launch){ .count = launch_count }, arguments, count);
    mr_kernel_destroy(kernel);
}
