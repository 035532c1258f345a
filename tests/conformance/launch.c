/* SPDX-License-Identifier: MIT */
/*
 * Launches: what is refused before anything is queued, and what watchers see.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/operation.h>

#include <pthread.h>
#include <stdbool.h>

enum { COUNT = 1000 };

/* clamp_u8: in u8 source, out u8 target, value u8 low, value u8 high, value u64 count */
struct scene {
    mr_device *device;
    mr_stream *stream;
    mr_kernel *kernel;
    mr_buffer *source, *target;
    mr_argument arguments[5];
};

static void scene_init(struct scene *scene, mr_device *device)
{
    scene->device = device;
    CHECK_OK(mr_stream_create(device, NULL, &scene->stream));
    CHECK_OK(mr_kernel_open(device, "clamp_u8", &scene->kernel));
    CHECK_OK(mr_buffer_create(device, COUNT, NULL, &scene->source));
    CHECK_OK(mr_buffer_create(device, COUNT, NULL, &scene->target));
    CHECK_OK(mr_fill(scene->stream, scene->source, 0, COUNT, 90, 1));
    CHECK_OK(mr_fill(scene->stream, scene->target, 0, COUNT, POISON, 1));
    scene->arguments[0] = mr_argument_buffer(scene->source);
    scene->arguments[1] = mr_argument_buffer(scene->target);
    scene->arguments[2] = mr_argument_u64(3);
    scene->arguments[3] = mr_argument_u64(70);
    scene->arguments[4] = mr_argument_u64(COUNT);
}

static mr_status scene_launch(struct scene *scene)
{
    return mr_kernel_launch(scene->stream, scene->kernel, &(mr_launch){ .count = COUNT },
                            scene->arguments, 5);
}

/* Every byte of the target. */
static void scene_expect(struct scene *scene, unsigned char value)
{
    unsigned char bytes[COUNT];
    mr_buffer *view;
    CHECK_OK(mr_buffer_borrow(scene->device, bytes, COUNT, MR_PLACE_PAGEABLE, &view));
    CHECK_OK(mr_copy(scene->stream, view, 0, scene->target, 0, COUNT));
    CHECK_OK(mr_stream_wait(scene->stream));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(value, bytes[i]);
    mr_buffer_destroy(view);
}

static void scene_fini(struct scene *scene)
{
    mr_buffer_destroy(scene->source);
    mr_buffer_destroy(scene->target);
    mr_kernel_destroy(scene->kernel);
    mr_stream_destroy(scene->stream);
}

/* The launch with one argument replaced is refused in these words, and nothing is written. */
static void refuse(struct scene *scene, size_t index, mr_argument argument, mr_status status,
                   const char *words)
{
    const mr_argument kept = scene->arguments[index];
    scene->arguments[index] = argument;
    CHECK_STATUS(status, scene_launch(scene));
    CHECK_SAYS(words, mr_last_error());
    scene->arguments[index] = kept;
}

static void wrong_arguments_are_named_and_nothing_runs(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device);

    refuse(&scene, 0, mr_argument_u64(1), MR_E_SIGNATURE,
           "kernel 'clamp_u8', parameter 1 ('in u8 source'): a number of type u64 came");
    refuse(&scene, 2, mr_argument_buffer(scene.source), MR_E_SIGNATURE,
           "parameter 3 ('value u8 low'): a buffer came");
    refuse(&scene, 2, mr_argument_f32(1), MR_E_SIGNATURE, "a number of type f32 came");
    refuse(&scene, 2, mr_argument_u64(256), MR_E_SIGNATURE, "256 does not fit");
    refuse(&scene, 3, mr_argument_i64(-1), MR_E_SIGNATURE, "-1 does not fit");
    refuse(&scene, 4, mr_argument_i64(INT64_MIN), MR_E_SIGNATURE, "does not fit");
    refuse(&scene, 0, mr_argument_buffer(NULL), MR_E_INVALID, "the buffer is NULL");
    refuse(&scene, 0, mr_argument_range(scene.source, 1, COUNT), MR_E_INVALID,
           "range 1+1000 ends past buffer");
    refuse(&scene, 0, mr_argument_range(scene.source, SIZE_MAX, 2), MR_E_INVALID, "ends past");
    refuse(&scene, 1, mr_argument_range(scene.target, COUNT + 1, 0), MR_E_INVALID, "ends past");
    mr_argument typed = mr_argument_buffer(scene.source);
    typed.type = MR_TYPE_F32;
    refuse(&scene, 0, typed, MR_E_SIGNATURE, "a buffer of another type came");
    refuse(&scene, 4, (mr_argument){ .value.u64 = 1 }, MR_E_SIGNATURE, "without a type");

    scene_expect(&scene, POISON);
    CHECK_OK(scene_launch(&scene));
    scene_expect(&scene, 70);
    scene_fini(&scene);
}

static void launches_need_their_number_of_arguments_and_their_device(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device);
    const mr_launch launch = { .count = COUNT };

    CHECK_STATUS(MR_E_SIGNATURE,
                 mr_kernel_launch(scene.stream, scene.kernel, &launch, scene.arguments, 4));
    CHECK_SAYS("takes 5 arguments, 4 came", mr_last_error());
    CHECK_STATUS(MR_E_SIGNATURE, mr_kernel_launch(scene.stream, scene.kernel, &launch, NULL, 0));
    CHECK_STATUS(MR_E_INVALID, mr_kernel_launch(scene.stream, scene.kernel, &launch, NULL, 5));
    CHECK_STATUS(MR_E_INVALID, mr_kernel_launch(NULL, scene.kernel, &launch, scene.arguments, 5));
    CHECK_STATUS(MR_E_INVALID, mr_kernel_launch(scene.stream, NULL, &launch, scene.arguments, 5));
    CHECK_STATUS(MR_E_INVALID,
                 mr_kernel_launch(scene.stream, scene.kernel, NULL, scene.arguments, 5));

    mr_device *cpu;
    CHECK_OK(mr_device_open("cpu", NULL, &cpu));
    if (cpu != device) {
        mr_stream *other;
        CHECK_OK(mr_stream_create(cpu, NULL, &other));
        CHECK_STATUS(MR_E_INVALID,
                     mr_kernel_launch(other, scene.kernel, &launch, scene.arguments, 5));
        CHECK_SAYS("make the kernel once for each device", mr_last_error());
        mr_stream_destroy(other);
    }
    CHECK_OK(mr_device_close(cpu));
    scene_expect(&scene, POISON);
    scene_fini(&scene);
}

static void offsets_must_be_whole_elements(mr_device *device)
{
    mr_kernel *kernel;
    mr_stream *stream;
    mr_buffer *buffer;
    CHECK_OK(mr_kernel_open(device, "add_f64", &kernel));
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_create(device, 4096, NULL, &buffer));
    const mr_argument arguments[] = { mr_argument_range(buffer, 8, 8),
                                      mr_argument_range(buffer, 4, 8),
                                      mr_argument_range(buffer, 512, 8), mr_argument_u64(1) };
    CHECK_STATUS(MR_E_INVALID,
                 mr_kernel_launch(stream, kernel, &(mr_launch){ .count = 1 }, arguments, 4));
    CHECK_SAYS("parameter 2 ('in f64 second'): offset 4 is not a multiple of the 8 bytes",
               mr_last_error());
    mr_buffer_destroy(buffer);
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

static void host_memory_that_the_device_reaches_is_taken(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device);
    mr_buffer *pinned;
    CHECK_OK(
        mr_buffer_create(device, COUNT, &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &pinned));
    memset(mr_buffer_host(pinned), 5, COUNT);

    scene.arguments[0] = mr_argument_buffer(pinned);
    CHECK_OK(scene_launch(&scene));
    scene_expect(&scene, 5);

    mr_buffer_destroy(pinned);
    scene_fini(&scene);
}

/* ---- watching ---- */

struct seen {
    int count;
    mr_operation operation;
    mr_operation_access accesses[4];
    char name[64];
};

static void see(void *context, const mr_operation *operation)
{
    struct seen *seen = context;
    if (operation->kind != MR_OPERATION_LAUNCH)
        return;
    seen->count++;
    seen->operation = *operation;
    snprintf(seen->name, sizeof seen->name, "%s", operation->name);
    for (size_t i = 0; i < operation->access_count && i < 4; i++)
        seen->accesses[i] = operation->accesses[i];
}

static void a_watcher_sees_what_a_launch_reads_and_writes(mr_device *device)
{
    struct scene scene;
    struct seen seen = { 0 };
    scene_init(&scene, device);
    mr_device_observe(device, see, &seen);

    scene.arguments[0] = mr_argument_range(scene.source, 100, 50);
    scene.arguments[4] = mr_argument_u64(50);
    CHECK_OK(scene_launch(&scene));
    CHECK_OK(mr_stream_wait(scene.stream));
    mr_device_observe(device, NULL, NULL);

    CHECK_EQ(1, seen.count);
    CHECK(strcmp(seen.name, "clamp_u8") == 0);
    CHECK_EQ(mr_stream_id(scene.stream), seen.operation.stream_id);
    CHECK_EQ(2, seen.operation.access_count);
    CHECK_EQ(MR_ACCESS_IN, seen.accesses[0].access);
    CHECK_EQ(50, seen.accesses[0].size_bytes);
    CHECK_EQ(mr_buffer_address(scene.source) + 100, seen.accesses[0].address);
    CHECK_EQ(MR_ACCESS_OUT, seen.accesses[1].access);
    CHECK_EQ(COUNT, seen.accesses[1].size_bytes);
    CHECK_EQ(50 + COUNT, seen.operation.size_bytes);
    scene_fini(&scene);
}

/* ---- sharing ---- */

enum { THREADS = 4, ROUNDS = 200 };

struct sharer {
    mr_device *device;
    mr_kernel *kernel;
    unsigned char value;
};

static void *launch_again_and_again(void *context)
{
    const struct sharer *sharer = context;
    struct scene scene;
    scene_init(&scene, sharer->device);
    mr_kernel *const own = scene.kernel;
    scene.kernel = sharer->kernel;
    scene.arguments[3] = mr_argument_u64(sharer->value);
    for (int round = 0; round < ROUNDS; round++)
        CHECK_OK(scene_launch(&scene));
    scene_expect(&scene, sharer->value);
    scene.kernel = own;
    scene_fini(&scene);
    return NULL;
}

static void one_kernel_is_launched_by_many_threads(mr_device *device)
{
    mr_kernel *kernel;
    pthread_t threads[THREADS];
    struct sharer sharers[THREADS];
    CHECK_OK(mr_kernel_open(device, "clamp_u8", &kernel));
    for (int i = 0; i < THREADS; i++) {
        sharers[i] = (struct sharer){ device, kernel, (unsigned char)(10 + i) };
        CHECK_EQ(0, pthread_create(&threads[i], NULL, launch_again_and_again, &sharers[i]));
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_join(threads[i], NULL));
    mr_kernel_destroy(kernel);
}

/* ---- element-wise launches that follow each other ---- */

enum { ELEMENTS = 40000 };

static void submit_scale(mr_stream *stream, mr_kernel *kernel, mr_buffer *source, mr_buffer *target,
                         uint64_t iterations, uint64_t elements)
{
    const mr_argument arguments[] = { mr_argument_buffer(source), mr_argument_buffer(target),
                                      mr_argument_f32(2), mr_argument_f32(1),
                                      mr_argument_u64(elements) };
    CHECK_OK(mr_kernel_launch(stream, kernel, &(mr_launch){ .count = iterations, .slice_limit = 1 },
                              arguments, 5));
}

/* 2 x + 1 three times over, of which the second and the third go through a part of the elements, the
 * third with an iteration for every one: only the kernel knows how far it goes. */
static void element_wise_launches_end_as_if_one_after_the_other(mr_device *device)
{
    static float numbers[ELEMENTS];
    mr_stream *stream;
    mr_kernel *kernel;
    mr_buffer *host, *first, *second;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_kernel_open(device, "scale_offset_f32", &kernel));
    CHECK_OK(mr_buffer_borrow(device, numbers, sizeof numbers, MR_PLACE_PAGEABLE, &host));
    CHECK_OK(mr_buffer_create(device, sizeof numbers, NULL, &first));
    CHECK_OK(mr_buffer_create(device, sizeof numbers, NULL, &second));
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < ELEMENTS; i++)
            numbers[i] = (float)(i % 1000);
        CHECK_OK(mr_copy(stream, first, 0, host, 0, sizeof numbers));
        submit_scale(stream, kernel, first, second, ELEMENTS, ELEMENTS);
        submit_scale(stream, kernel, second, first, ELEMENTS / 2, ELEMENTS / 2);
        submit_scale(stream, kernel, first, second, ELEMENTS, ELEMENTS / 4);
        CHECK_OK(mr_copy(stream, host, 0, second, 0, sizeof numbers));
        CHECK_OK(mr_stream_wait(stream));
        for (int i = 0; i < ELEMENTS; i++)
            CHECK_EQ(i < ELEMENTS / 4 ? 8 * (i % 1000) + 7 : 2 * (i % 1000) + 1, numbers[i]);
    }
    mr_buffer_destroy(host);
    mr_buffer_destroy(first);
    mr_buffer_destroy(second);
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

static void a_device_with_a_kernel_stays_open(mr_device *device)
{
    mr_kernel *kernel;
    mr_device *again;
    CHECK_OK(mr_device_open(mr_device_id(device), NULL, &again));
    CHECK_OK(mr_kernel_open(device, "clamp_u8", &kernel));
    CHECK_OK(mr_device_close(again));
    CHECK_STATUS(MR_E_BUSY, mr_device_close(device));
    mr_kernel_destroy(kernel);
    mr_kernel_destroy(NULL);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(wrong_arguments_are_named_and_nothing_runs),
        SUITE_TEST(launches_need_their_number_of_arguments_and_their_device),
        SUITE_TEST(offsets_must_be_whole_elements),
        SUITE_TEST(host_memory_that_the_device_reaches_is_taken),
        SUITE_TEST(a_watcher_sees_what_a_launch_reads_and_writes),
        SUITE_TEST(one_kernel_is_launched_by_many_threads),
        SUITE_TEST(element_wise_launches_end_as_if_one_after_the_other),
        SUITE_TEST(a_device_with_a_kernel_stays_open),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
