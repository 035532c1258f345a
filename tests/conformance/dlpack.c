/* SPDX-License-Identifier: MIT */
/* Buffers from and to DLPack: contents, who holds what until when, and tensors that lie. */
#include "support/dlpack.h"
#include "support/latch.h"
#include "support/make.h"
#include "support/suite.h"

#include <pthread.h>

static bool is_gpu(mr_device *device)
{
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    return !properties.is_host_memory;
}

/* ---- in ---- */

static void a_tensor_becomes_a_buffer_and_is_deleted_once(mr_device *device)
{
    struct foreign foreign;
    mr_buffer *buffer;
    mr_tensor_layout layout;
    mr_stream *stream;
    foreign_init(&foreign);
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_from_dlpack(device, &foreign.plain, &layout, &buffer));
    CHECK_EQ(48, mr_buffer_size(buffer));
    CHECK_EQ(MR_PLACE_PAGEABLE, mr_buffer_place(buffer));
    CHECK(mr_buffer_host(buffer) == foreign.numbers);
    CHECK(!mr_buffer_is_read_only(buffer));
    CHECK_EQ(MR_TYPE_F32, layout.type);
    CHECK_EQ(2, layout.dimension_count);
    CHECK_EQ(3, layout.shape[0]);
    CHECK_EQ(4, layout.shape[1]);

    mr_buffer *there = make_buffer(device, 48, MR_PLACE_DEVICE);
    CHECK_OK(mr_copy(stream, there, 0, buffer, 0, 48));
    CHECK_OK(mr_fill(stream, there, 0, 4, 0, 4));
    CHECK_OK(mr_copy(stream, buffer, 0, there, 0, 48));
    CHECK_OK(mr_stream_wait(stream));
    for (int i = 0; i < 12; i++)
        CHECK(foreign.numbers[i] == (float)i);
    CHECK_EQ(0, atomic_load(&foreign.deletions));
    mr_buffer_destroy(buffer);
    CHECK_EQ(1, atomic_load(&foreign.deletions));
    mr_buffer_destroy(there);
    mr_stream_destroy(stream);
}

static void a_tensor_is_deleted_after_the_last_use_of_its_buffer(mr_device *device)
{
    struct foreign foreign;
    struct latch latch;
    mr_buffer *buffer, *there = make_buffer(device, 48, MR_PLACE_DEVICE);
    mr_stream *stream;
    mr_tensor_layout layout;
    foreign_init(&foreign);
    foreign.plain.dl_tensor.device.type = DL_CUDA_HOST;
    mr_buffer *pinned = make_buffer(device, 64, MR_PLACE_PINNED);
    foreign.plain.dl_tensor.data = mr_buffer_host(pinned);
    foreign.plain.dl_tensor.byte_offset = 16;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_from_dlpack(device, &foreign.plain, &layout, &buffer));
    CHECK_EQ(MR_PLACE_PINNED, mr_buffer_place(buffer));
    CHECK(mr_buffer_host(buffer) == (char *)mr_buffer_host(pinned) + 16);

    latch_init(&latch);
    latch_stop(&latch, stream);
    CHECK_OK(mr_copy(stream, there, 0, buffer, 0, 48));
    CHECK_EQ(0, atomic_load(&foreign.deletions));
    latch_open(&latch);
    mr_buffer_destroy(buffer); /* waits for the copy */
    CHECK_OK(mr_stream_query(stream));
    CHECK_EQ(1, atomic_load(&foreign.deletions));
    latch_fini(&latch);
    mr_stream_destroy(stream);
    mr_buffer_destroy(there);
    mr_buffer_destroy(pinned);
}

static void a_tensor_without_deleter_or_strides_will_do(mr_device *device)
{
    struct foreign foreign;
    mr_buffer *buffer;
    mr_tensor_layout layout;
    foreign_init(&foreign);
    foreign.plain.deleter = NULL;
    foreign.plain.dl_tensor.strides = NULL;
    CHECK_OK(mr_buffer_from_dlpack(device, &foreign.plain, NULL, &buffer));
    CHECK_EQ(48, mr_buffer_size(buffer));
    mr_buffer_destroy(buffer);

    foreign_init(&foreign);
    foreign.shape[0] = 1; /* a dimension of 1 may have any stride */
    foreign.strides[0] = -77;
    foreign.plain.dl_tensor.dtype.code = 4; /* bfloat16, two lanes */
    foreign.plain.dl_tensor.dtype.bits = 16;
    foreign.plain.dl_tensor.dtype.lanes = 2;
    CHECK_OK(mr_buffer_from_dlpack(device, &foreign.plain, &layout, &buffer));
    CHECK_EQ(16, mr_buffer_size(buffer));
    CHECK_EQ(0, layout.type);
    CHECK(layout.code == 4 && layout.bits == 16 && layout.lanes == 2);
    mr_buffer_destroy(buffer);

    foreign_init(&foreign); /* a single number */
    foreign.plain.dl_tensor.ndim = 0;
    foreign.plain.dl_tensor.shape = NULL;
    CHECK_OK(mr_buffer_from_dlpack(device, &foreign.plain, &layout, &buffer));
    CHECK_EQ(4, mr_buffer_size(buffer));
    CHECK_EQ(0, layout.dimension_count);
    mr_buffer_destroy(buffer);
    CHECK_EQ(1, atomic_load(&foreign.deletions));
}

static void a_read_only_tensor_cannot_be_written(mr_device *device)
{
    struct foreign foreign;
    mr_buffer *buffer, *other = make_buffer(device, 48, MR_PLACE_PINNED);
    mr_stream *stream;
    mr_kernel *kernel;
    struct DLManagedTensor *plain;
    struct DLManagedTensorVersioned *versioned;
    foreign_init(&foreign);
    foreign.versioned.flags = 1;
    foreign.versioned.dl_tensor.device.type = DL_CUDA_HOST;
    foreign.versioned.dl_tensor.data = mr_buffer_host(other);
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_kernel_open(device, "copy_u8", &kernel));
    CHECK_OK(mr_buffer_from_dlpack_versioned(device, &foreign.versioned, NULL, &buffer));
    CHECK(mr_buffer_is_read_only(buffer));

    mr_buffer *there = make_buffer(device, 48, MR_PLACE_DEVICE);
    CHECK_STATUS(MR_E_INVALID, mr_fill(stream, buffer, 0, 4, 0, 4));
    CHECK_SAYS("is read-only", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_copy(stream, buffer, 0, there, 0, 4));
    const mr_copy_2d_layout rows = {
        .row_bytes = 1, .row_count = 2, .target_pitch = 2, .source_pitch = 2
    };
    CHECK_STATUS(MR_E_INVALID, mr_copy_2d(stream, buffer, there, &rows));
    const mr_argument writes[] = { mr_argument_range(there, 0, 8), mr_argument_range(buffer, 0, 8),
                                   mr_argument_u64(8) };
    CHECK_STATUS(MR_E_INVALID,
                 mr_kernel_launch(stream, kernel, &(mr_launch){ .count = 8 }, writes, 3));
    const mr_argument reads[] = { mr_argument_range(buffer, 0, 8), mr_argument_range(there, 0, 8),
                                  mr_argument_u64(8) };
    CHECK_OK(mr_kernel_launch(stream, kernel, &(mr_launch){ .count = 8 }, reads, 3));
    CHECK_OK(mr_copy(stream, there, 0, buffer, 0, 12));

    CHECK_STATUS(MR_E_UNSUPPORTED, mr_buffer_to_dlpack(buffer, NULL, &plain));
    CHECK_SAYS("mr_buffer_to_dlpack_versioned", mr_last_error());
    CHECK_OK(mr_buffer_to_dlpack_versioned(buffer, NULL, &versioned));
    CHECK_EQ(1, versioned->flags);
    versioned->deleter(versioned);
    CHECK_OK(mr_stream_wait(stream));
    mr_buffer_destroy(buffer);
    CHECK_EQ(1, atomic_load(&foreign.deletions));
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
    mr_buffer_destroy(there);
    mr_buffer_destroy(other);
}

/* ---- in: tensors that lie ---- */

static struct foreign hostile;

static DLTensor *fresh(void)
{
    foreign_init(&hostile);
    return &hostile.plain.dl_tensor;
}

static void refuse(mr_device *device, mr_status status, const char *words)
{
    mr_buffer *buffer = (mr_buffer *)&hostile;
    hostile.versioned.dl_tensor = hostile.plain.dl_tensor;
    CHECK_STATUS(status, mr_buffer_from_dlpack(device, &hostile.plain, NULL, &buffer));
    CHECK_SAYS(words, mr_last_error());
    CHECK(!buffer);
    CHECK_STATUS(status,
                 mr_buffer_from_dlpack_versioned(device, &hostile.versioned, NULL, &buffer));
    CHECK_SAYS(words, mr_last_error());
    CHECK(!buffer);
    CHECK_EQ(0, atomic_load(&hostile.deletions)); /* it stays the caller's */
}

static void tensors_of_no_shape_are_refused(mr_device *device)
{
    fresh()->ndim = -1;
    refuse(device, MR_E_INVALID, "-1 dimensions");
    fresh()->ndim = 33;
    refuse(device, MR_E_INVALID, "33 dimensions");
    fresh()->ndim = INT32_MAX;
    refuse(device, MR_E_INVALID, "dimensions");
    fresh()->shape = NULL;
    refuse(device, MR_E_INVALID, "no shape");
    fresh();
    hostile.shape[0] = -3;
    refuse(device, MR_E_INVALID, "dimension 0 is -3");
    fresh();
    hostile.shape[1] = 0;
    refuse(device, MR_E_INVALID, "dimension 1 is 0");
    fresh();
    hostile.shape[0] = INT64_MAX;
    refuse(device, MR_E_INVALID, "larger than any memory");
    fresh();
    hostile.shape[0] = hostile.shape[1] = INT64_C(1) << 31;
    refuse(device, MR_E_INVALID, "larger than any memory");
}

static void tensors_with_gaps_are_refused(mr_device *device)
{
    fresh();
    hostile.strides[0] = 5;
    refuse(device, MR_E_UNSUPPORTED, "dimension 0 has a stride of 5 elements where 4");
    fresh();
    hostile.strides[0] = 1;
    hostile.strides[1] = 3; /* transposed */
    refuse(device, MR_E_UNSUPPORTED, "dimension 1 has a stride of 3");
    fresh();
    hostile.strides[0] = -4; /* backwards */
    refuse(device, MR_E_UNSUPPORTED, "make the tensor contiguous");
    fresh();
    hostile.strides[1] = 0; /* broadcast */
    refuse(device, MR_E_UNSUPPORTED, "stride of 0");
}

static void tensors_of_no_elements_or_data_are_refused(mr_device *device)
{
    fresh()->dtype.bits = 0;
    refuse(device, MR_E_INVALID, "are no numbers");
    fresh()->dtype.lanes = 0;
    refuse(device, MR_E_INVALID, "are no numbers");
    fresh()->dtype.code = 3;
    refuse(device, MR_E_INVALID, "are no numbers");
    fresh()->dtype.bits = 4;
    refuse(device, MR_E_UNSUPPORTED, "4 bits are not whole bytes");
    fresh()->data = NULL;
    refuse(device, MR_E_INVALID, "no data");
    fresh()->byte_offset = UINT64_MAX;
    refuse(device, MR_E_INVALID, "no range of memory");
    fresh()->byte_offset = UINT64_MAX - (uintptr_t)hostile.numbers;
    refuse(device, MR_E_INVALID, "no range of memory");
}

static void tensors_of_other_devices_and_versions_are_refused(mr_device *device)
{
    mr_buffer *buffer;
    fresh()->device.type = DL_OPENCL;
    refuse(device, MR_E_UNSUPPORTED, "device type 4");
    fresh()->device.type = DL_MANAGED;
    refuse(device, MR_E_UNSUPPORTED, "managed memory");
    fresh()->device.type = -9;
    refuse(device, MR_E_UNSUPPORTED, "device type -9");
    fresh()->device.type = DL_CUDA;
    hostile.plain.dl_tensor.device.id = 77;
    refuse(device, MR_E_INVALID, "the tensor lies on cuda:77");

    fresh();
    hostile.versioned.version.major = 2;
    CHECK_STATUS(MR_E_UNSUPPORTED,
                 mr_buffer_from_dlpack_versioned(device, &hostile.versioned, NULL, &buffer));
    CHECK_SAYS("DLPack 2.1", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_buffer_from_dlpack(device, NULL, NULL, &buffer));
    CHECK_STATUS(MR_E_INVALID, mr_buffer_from_dlpack(NULL, &hostile.plain, NULL, &buffer));
    CHECK_STATUS(MR_E_INVALID, mr_buffer_from_dlpack_versioned(device, NULL, NULL, &buffer));
    CHECK_EQ(0, atomic_load(&hostile.deletions));
}

/* ---- out ---- */

static void a_buffer_becomes_a_tensor_of_its_place(mr_device *device)
{
    const int types[] = { is_gpu(device) ? DL_CUDA : DL_CPU, is_gpu(device) ? DL_CUDA_HOST : DL_CPU,
                          DL_CPU };
    const mr_tensor_layout layout = {
        .type = MR_TYPE_U16, .dimension_count = 3, .shape = { 2, 3, 5 }, .offset = 32
    };
    for (int place = MR_PLACE_DEVICE; place <= MR_PLACE_PAGEABLE; place++) {
        struct DLManagedTensor *tensor;
        struct DLManagedTensorVersioned *versioned;
        mr_buffer *buffer = make_buffer(device, 100, (mr_place)place);
        CHECK_OK(mr_buffer_to_dlpack(buffer, &layout, &tensor));
        const DLTensor *inner = &tensor->dl_tensor;
        const void *first = mr_buffer_host(buffer) ? mr_buffer_host(buffer)
                                                   : (void *)(uintptr_t)mr_buffer_address(buffer);
        CHECK((char *)inner->data + inner->byte_offset == (const char *)first + 32);
        CHECK_EQ(types[place], inner->device.type);
        CHECK_EQ(0, inner->device.id);
        CHECK(inner->dtype.code == 1 && inner->dtype.bits == 16 && inner->dtype.lanes == 1);
        CHECK_EQ(3, inner->ndim);
        CHECK(inner->shape[0] == 2 && inner->shape[1] == 3 && inner->shape[2] == 5);
        CHECK(inner->strides[0] == 15 && inner->strides[1] == 5 && inner->strides[2] == 1);

        CHECK_OK(mr_buffer_to_dlpack_versioned(buffer, NULL, &versioned));
        CHECK(versioned->version.major == 1 && versioned->version.minor == 0);
        CHECK_EQ(0, versioned->flags);
        CHECK_EQ(1, versioned->dl_tensor.ndim);
        CHECK_EQ(100, versioned->dl_tensor.shape[0]);
        CHECK(versioned->dl_tensor.dtype.code == 1 && versioned->dl_tensor.dtype.bits == 8);
        tensor->deleter(tensor);
        versioned->deleter(versioned);
        mr_buffer_destroy(buffer);
    }
}

static void memory_lives_as_long_as_its_last_tensor(mr_device *device)
{
    struct DLManagedTensor *first, *second;
    mr_buffer *buffer = make_buffer(device, 4096, MR_PLACE_PINNED), *again;
    memset(mr_buffer_host(buffer), 7, 4096);
    CHECK_OK(mr_buffer_to_dlpack(buffer, NULL, &first));
    CHECK_OK(mr_buffer_to_dlpack(buffer, NULL, &second));
    mr_buffer_destroy(buffer);
    const unsigned char *bytes = first->dl_tensor.data;
    CHECK(bytes[0] == 7 && bytes[4095] == 7);

    CHECK_OK(mr_buffer_from_dlpack(device, second, NULL, &again)); /* back in: takes the tensor */
    first->deleter(first);
    CHECK(((unsigned char *)mr_buffer_host(again))[4095] == 7);
    mr_buffer_destroy(again);
}

static void a_device_stays_open_while_a_tensor_holds_its_memory(mr_device *device)
{
    struct DLManagedTensor *tensor;
    mr_device *again;
    mr_buffer *buffer = make_buffer(device, 4096, MR_PLACE_DEVICE);
    CHECK_OK(mr_buffer_to_dlpack(buffer, NULL, &tensor));
    mr_buffer_destroy(buffer);
    CHECK_STATUS(MR_E_BUSY, mr_device_close(device));
    tensor->deleter(tensor);
    CHECK_OK(mr_device_open(mr_device_id(device), NULL, &again));
    CHECK(again == device);
    CHECK_OK(mr_device_close(again));
}

static void device_memory_goes_out_and_comes_back(mr_device *device)
{
    struct DLManagedTensor *tensor;
    mr_buffer *buffer = make_buffer(device, 4096, MR_PLACE_DEVICE), *again;
    mr_buffer *host = make_buffer(device, 100, MR_PLACE_PINNED);
    mr_stream *stream;
    mr_tensor_layout layout = {
        .type = MR_TYPE_U8, .dimension_count = 1, .shape = { 100 }, .offset = 50
    };
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_fill(stream, buffer, 0, 4096, 1, 1));
    CHECK_OK(mr_fill(stream, buffer, 50, 100, 9, 1));
    CHECK_OK(mr_stream_wait(stream));
    CHECK_OK(mr_buffer_to_dlpack(buffer, &layout, &tensor));
    mr_buffer_destroy(buffer);
    CHECK_OK(mr_buffer_from_dlpack(device, tensor, &layout, &again));
    CHECK_EQ(100, mr_buffer_size(again));
    CHECK_EQ(0, layout.offset);
    CHECK_EQ(is_gpu(device) ? MR_PLACE_DEVICE : MR_PLACE_PAGEABLE, mr_buffer_place(again));
    CHECK_OK(mr_copy(stream, host, 0, again, 0, 100));
    CHECK_OK(mr_stream_wait(stream));
    for (int i = 0; i < 100; i++)
        CHECK_EQ(9, ((unsigned char *)mr_buffer_host(host))[i]);
    mr_buffer_destroy(again);
    mr_buffer_destroy(host);
    mr_stream_destroy(stream);
}

static void foreign_memory_goes_through_and_is_deleted_last(mr_device *device)
{
    struct foreign foreign;
    struct DLManagedTensorVersioned *out;
    mr_buffer *buffer;
    foreign_init(&foreign);
    CHECK_OK(mr_buffer_from_dlpack(device, &foreign.plain, NULL, &buffer));
    CHECK_OK(mr_buffer_to_dlpack_versioned(buffer, NULL, &out));
    mr_buffer_destroy(buffer);
    CHECK_EQ(0, atomic_load(&foreign.deletions));
    CHECK(out->dl_tensor.data == foreign.numbers);
    out->deleter(out);
    CHECK_EQ(1, atomic_load(&foreign.deletions));
}

static void refuse_out(mr_buffer *buffer, const mr_tensor_layout *layout, const char *words)
{
    struct DLManagedTensor *tensor;
    struct DLManagedTensorVersioned *versioned;
    CHECK_STATUS(MR_E_INVALID, mr_buffer_to_dlpack(buffer, layout, &tensor));
    CHECK_SAYS(words, mr_last_error());
    CHECK(!tensor);
    CHECK_STATUS(MR_E_INVALID, mr_buffer_to_dlpack_versioned(buffer, layout, &versioned));
    CHECK_SAYS(words, mr_last_error());
    CHECK(!versioned);
}

static void layouts_that_do_not_fit_are_refused(mr_device *device)
{
    mr_buffer *buffer = make_buffer(device, 100, MR_PLACE_PINNED);
    mr_tensor_layout layout = { .type = MR_TYPE_F32, .dimension_count = 1, .shape = { 26 } };
    refuse_out(buffer, &layout, "range 0+104");
    layout.shape[0] = 25;
    layout.offset = 4;
    refuse_out(buffer, &layout, "range 4+100");
    layout.offset = SIZE_MAX;
    refuse_out(buffer, &layout, "range");
    layout = (mr_tensor_layout){ .type = (mr_type)99 };
    refuse_out(buffer, &layout, "type 99 is none");
    layout = (mr_tensor_layout){ .dimension_count = 33 };
    refuse_out(buffer, &layout, "33 dimensions");
    layout = (mr_tensor_layout){ .type = MR_TYPE_U8, .dimension_count = 1, .shape = { 0 } };
    refuse_out(buffer, &layout, "dimension 0 is 0");
    layout.shape[0] = -1;
    refuse_out(buffer, &layout, "dimension 0 is -1");
    layout = (mr_tensor_layout){ .type = MR_TYPE_U8,
                                 .dimension_count = 2,
                                 .shape = { INT64_MAX, INT64_MAX } };
    refuse_out(buffer, &layout, "larger than any memory");
    layout = (mr_tensor_layout){ .bits = 8 };
    refuse_out(buffer, &layout, "are no numbers");
    refuse_out(NULL, NULL, "buffer is NULL");
    mr_buffer_destroy(buffer);
}

static void ordered_memory_is_not_given_away(mr_device *device)
{
    mr_device_properties properties;
    struct DLManagedTensor *tensor;
    mr_stream *stream;
    mr_buffer *buffer;
    mr_device_describe(device, &properties);
    if (!properties.has_ordered_pools)
        return;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_create_ordered(stream, 256, &buffer));
    CHECK_STATUS(MR_E_UNSUPPORTED, mr_buffer_to_dlpack(buffer, NULL, &tensor));
    CHECK_SAYS("mr_buffer_create", mr_last_error());
    mr_buffer_destroy(buffer);
    mr_stream_destroy(stream);
}

/* ---- threads ---- */

static void *delete_tensor(void *context)
{
    struct DLManagedTensor *tensor = context;
    tensor->deleter(tensor);
    return NULL;
}

static void tensors_may_be_deleted_by_any_threads_at_once(mr_device *device)
{
    enum { THREADS = 4, ROUNDS = 20 };
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        struct DLManagedTensor *tensors[THREADS];
        mr_buffer *buffer = make_buffer(device, 4096, MR_PLACE_DEVICE);
        for (int i = 0; i < THREADS; i++)
            CHECK_OK(mr_buffer_to_dlpack(buffer, NULL, &tensors[i]));
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(0, pthread_create(&threads[i], NULL, delete_tensor, tensors[i]));
        mr_buffer_destroy(buffer);
        for (int i = 0; i < THREADS; i++)
            CHECK_EQ(0, pthread_join(threads[i], NULL));
    }
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(a_tensor_becomes_a_buffer_and_is_deleted_once),
        SUITE_TEST(a_tensor_is_deleted_after_the_last_use_of_its_buffer),
        SUITE_TEST(a_tensor_without_deleter_or_strides_will_do),
        SUITE_TEST(a_read_only_tensor_cannot_be_written),
        SUITE_TEST(tensors_of_no_shape_are_refused),
        SUITE_TEST(tensors_with_gaps_are_refused),
        SUITE_TEST(tensors_of_no_elements_or_data_are_refused),
        SUITE_TEST(tensors_of_other_devices_and_versions_are_refused),
        SUITE_TEST(a_buffer_becomes_a_tensor_of_its_place),
        SUITE_TEST(memory_lives_as_long_as_its_last_tensor),
        SUITE_TEST(device_memory_goes_out_and_comes_back),
        SUITE_TEST(a_device_stays_open_while_a_tensor_holds_its_memory),
        SUITE_TEST(foreign_memory_goes_through_and_is_deleted_last),
        SUITE_TEST(layouts_that_do_not_fit_are_refused),
        SUITE_TEST(ordered_memory_is_not_given_away),
        SUITE_TEST(tensors_may_be_deleted_by_any_threads_at_once),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
