/* SPDX-License-Identifier: MIT */
/* Copies between two GPUs of the stand-in driver that are no peers. */
#include "support/fault_driver.h"
#include "support/hold.h"
#include "support/unit.h"

#include <millrace/buffer.h>

#include <stdlib.h>

enum { GPUS = 3, LAUNCH_FAILED = 719 };
#define LARGE ((size_t)8 * 1024 * 1024 + 12345) /* several rounds of the slots, and a rest */
#define LARGEST ((size_t)21000000)              /* of all buffers */

static mr_device *gpus[GPUS];

static void open_gpus(bool are_peers)
{
    setenv("FAKECUDA_DEVICES", "3", 1);
    if (!are_peers)
        setenv("FAKECUDA_NO_PEERS", "1", 1);
    for (int i = 0; i < GPUS; i++) {
        char name[24];
        snprintf(name, sizeof name, "cuda:%d", i);
        assert_ok(mr_device_open(name, NULL, &gpus[i]));
    }
}

static void close_gpus(void)
{
    for (int i = 0; i < GPUS; i++) {
        if (gpus[i])
            assert_ok(mr_device_close(gpus[i]));
        gpus[i] = NULL;
    }
    unsetenv("FAKECUDA_NO_PEERS");
    assert_int_equal(0, fakecuda_live());
}

/* What buffers are filled with: made once, as loops over bytes take long under a sanitizer. */
static const unsigned char *bytes_due(void)
{
    static unsigned char *bytes;
    if (bytes)
        return bytes;
    bytes = malloc(LARGEST);
    assert_non_null(bytes);
    for (size_t i = 0; i < LARGEST; i++)
        bytes[i] = (unsigned char)(i * 131 + i / 4099);
    return bytes;
}

/* Pinned memory with its bytes on `device`, and the copy of it that is there. */
struct ends {
    mr_buffer *host, *from, *to;
    size_t size_bytes;
};

static struct ends make_ends(size_t size_bytes)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    struct ends ends = { .size_bytes = size_bytes };
    assert_ok(mr_buffer_create(gpus[0], size_bytes, &pinned, &ends.host));
    assert_ok(mr_buffer_create(gpus[0], size_bytes, NULL, &ends.from));
    assert_ok(mr_buffer_create(gpus[1], size_bytes, NULL, &ends.to));
    assert_true(size_bytes <= LARGEST);
    memcpy(mr_buffer_host(ends.host), bytes_due(), size_bytes);
    return ends;
}

static void free_ends(struct ends *ends)
{
    mr_buffer_destroy(ends->host);
    mr_buffer_destroy(ends->from);
    mr_buffer_destroy(ends->to);
}

/* host -> from -> to -> host, all on one stream. */
static mr_status go_round(mr_stream *stream, const struct ends *ends)
{
    mr_status status = mr_copy(stream, ends->from, 0, ends->host, 0, ends->size_bytes);
    if (!status)
        status = mr_fill(stream, ends->to, 0, ends->size_bytes, 0xee, 1);
    if (!status)
        status = mr_copy(stream, ends->to, 0, ends->from, 0, ends->size_bytes);
    if (!status)
        status = mr_fill(stream, ends->from, 0, ends->size_bytes, 0xdd, 1);
    if (!status)
        status = mr_copy(stream, ends->host, 0, ends->to, 0, ends->size_bytes);
    return status;
}

static void check_bytes(const struct ends *ends)
{
    const unsigned char *bytes = mr_buffer_host(ends->host), *due = bytes_due();
    size_t i = 0;
    if (memcmp(bytes, due, ends->size_bytes) == 0)
        return;
    while (bytes[i] == due[i])
        i++;
    fail_msg("byte %zu of %zu: %02x, expected %02x", i, ends->size_bytes, bytes[i], due[i]);
}

static void check_round(mr_stream *stream, const struct ends *ends)
{
    assert_ok(go_round(stream, ends));
    assert_ok(mr_stream_wait(stream));
    check_bytes(ends);
}

/* A stream of one GPU, and what it copies between two. */
struct scene {
    mr_stream *stream;
    struct ends ends;
};

static struct scene make_scene(int owner, size_t size_bytes)
{
    struct scene scene = { .ends = make_ends(size_bytes) };
    assert_ok(mr_stream_create(gpus[owner], NULL, &scene.stream));
    return scene;
}

static void free_scene(struct scene *scene)
{
    mr_stream_destroy(scene->stream);
    free_ends(&scene->ends);
}

static void copies_go_through_the_host_where_devices_are_no_peers(void **state)
{
    (void)state;
    const size_t sizes[] = { 1, 2 << 20, (2 << 20) + 1, LARGE };
    open_gpus(false);
    const uint64_t before = fakecuda_count("cuMemcpyPeerAsync");
    for (int owner = 0; owner < GPUS; owner++) {
        mr_stream *stream;
        assert_ok(mr_stream_create(gpus[owner], NULL, &stream));
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct ends ends = make_ends(sizes[i]);
            check_round(stream, &ends);
            free_ends(&ends);
        }
        mr_stream_destroy(stream);
    }
    assert_int_equal(before, fakecuda_count("cuMemcpyPeerAsync"));
    close_gpus();
}

static void peers_copy_directly(void **state)
{
    (void)state;
    open_gpus(true);
    struct scene scene = make_scene(1, LARGE);
    const uint64_t before = fakecuda_count("cuMemcpyPeerAsync");
    check_round(scene.stream, &scene.ends);
    assert_int_equal(before + 1, fakecuda_count("cuMemcpyPeerAsync"));
    free_scene(&scene);
    close_gpus();
}

/* A way that the driver allows, but that brings wrong bytes, is found when the devices open. */
static void peers_that_bring_wrong_bytes_are_none(void **state)
{
    (void)state;
    setenv("FAKECUDA_PEERS_CORRUPT", "1", 1);
    open_gpus(true);
    unsetenv("FAKECUDA_PEERS_CORRUPT");
    assert_false(mr_device_can_peer(gpus[0], gpus[1]));
    assert_words("arrived wrong");
    struct scene scene = make_scene(1, LARGE);
    const uint64_t before = fakecuda_count("cuMemcpyPeerAsync");
    check_round(scene.stream, &scene.ends);
    assert_int_equal(before, fakecuda_count("cuMemcpyPeerAsync"));
    free_scene(&scene);
    close_gpus();

    /* Tried anew with each opening. */
    open_gpus(true);
    assert_true(mr_device_can_peer(gpus[0], gpus[1]));
    close_gpus();
}

/* Trying a way waits for nothing that others have queued. */
static void device_opens_while_another_is_held(void **state)
{
    (void)state;
    setenv("FAKECUDA_DEVICES", "3", 1);
    mr_stream *stream;
    struct hold hold;
    assert_ok(mr_device_open("cuda:0", NULL, &gpus[0]));
    assert_ok(
        mr_stream_create(gpus[0], &(mr_stream_options){ .kind = MR_STREAM_BLOCKING }, &stream));
    hold_begin(&hold, stream);
    assert_ok(mr_device_open("cuda:1", NULL, &gpus[1]));
    assert_true(mr_device_can_peer(gpus[0], gpus[1]));
    assert_true(mr_device_can_peer(gpus[1], gpus[0]));
    hold_open(&hold);
    assert_ok(mr_stream_wait(stream));
    mr_stream_destroy(stream);
    close_gpus();
}

static void rows_keep_their_pitch(void **state)
{
    (void)state;
    const size_t widths[] = { 100, 70000, 2100000 };
    open_gpus(false);
    mr_stream *stream;
    assert_ok(mr_stream_create(gpus[0], NULL, &stream));
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const size_t width = widths[i], rows = 5;
        struct ends ends = make_ends(2 * width * rows);
        const mr_copy_2d_layout layout = { .row_bytes = width,
                                           .row_count = rows,
                                           .source_pitch = 2 * width,
                                           .target_pitch = width + 8 };
        assert_ok(mr_copy(stream, ends.from, 0, ends.host, 0, ends.size_bytes));
        assert_ok(mr_copy_2d(stream, ends.to, ends.from, &layout));
        assert_ok(mr_copy(stream, ends.host, 0, ends.to, 0, rows * (width + 8)));
        assert_ok(mr_stream_wait(stream));
        const unsigned char *bytes = mr_buffer_host(ends.host);
        for (size_t row = 0; row < rows; row++) {
            for (size_t k = 0; k < width; k += 97)
                assert_int_equal(bytes_due()[row * 2 * width + k], bytes[row * (width + 8) + k]);
        }
        free_ends(&ends);
    }
    mr_stream_destroy(stream);
    close_gpus();
}

static void submitting_never_waits_and_slots_are_few(void **state)
{
    (void)state;
    open_gpus(false);
    struct scene scene = make_scene(0, LARGE);
    check_round(scene.stream, &scene.ends);
    const uint64_t pinned = fakecuda_count("cuMemHostAlloc");

    struct hold hold;
    hold_begin(&hold, scene.stream);
    for (int i = 0; i < 3; i++)
        assert_ok(go_round(scene.stream, &scene.ends));
    assert_int_equal(MR_E_BUSY, mr_stream_query(scene.stream));
    hold_open(&hold);
    assert_ok(mr_stream_wait(scene.stream));
    check_bytes(&scene.ends);
    assert_int_equal(pinned, fakecuda_count("cuMemHostAlloc"));
    free_scene(&scene);
    close_gpus();
}

static void device_may_close_before_the_stream_that_copied_from_it(void **state)
{
    (void)state;
    open_gpus(false);
    struct scene scene = make_scene(2, LARGE);
    assert_ok(go_round(scene.stream, &scene.ends));
    free_ends(&scene.ends); /* waits for the work that uses them */
    for (int i = 0; i < 2; i++) {
        assert_ok(mr_device_close(gpus[i]));
        gpus[i] = NULL;
    }
    assert_ok(mr_stream_wait(scene.stream));
    mr_stream_destroy(scene.stream);
    close_gpus();
}

static void stream_and_buffers_may_go_with_copies_under_way(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        open_gpus(false);
        struct scene scene = make_scene(round % GPUS, LARGE);
        assert_ok(go_round(scene.stream, &scene.ends));
        if (round % 2)
            free_ends(&scene.ends);
        mr_stream_destroy(scene.stream);
        if (!(round % 2))
            free_ends(&scene.ends);
        close_gpus();
    }
}

static void failure_of_either_device_is_the_streams(void **state)
{
    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        open_gpus(false);
        struct scene scene = make_scene(2, LARGE);
        struct hold hold;
        hold_begin(&hold, scene.stream);
        assert_ok(mr_copy(scene.stream, scene.ends.to, 0, scene.ends.from, 0, LARGE));
        fakecuda_break(broken, LAUNCH_FAILED);
        hold_open(&hold);
        assert_status(MR_E_DEVICE, mr_stream_wait(scene.stream));
        assert_words("CUDA_ERROR_LAUNCH_FAILED");
        free_scene(&scene);
        close_gpus();
    }
}

static void survive(struct fault *fault)
{
    while (fault_next(fault)) {
        open_gpus(false);
        struct scene scene = make_scene(1, (2 << 20) + 100);
        fault_begin(fault);
        mr_status status = go_round(scene.stream, &scene.ends);
        if (!status)
            status = mr_stream_wait(scene.stream);
        fault_end(fault, status);
        if (!status)
            check_bytes(&scene.ends);
        free_scene(&scene);
        close_gpus();
    }
    assert_true(fault->nth > 10);
}

static void copies_survive_what_fails(void **state)
{
    (void)state;
    survive(&(struct fault){ .kind = &fault_allocation, .step = 3 });
    survive(&(struct fault){ .kind = &fault_driver_call, .step = 11 });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_go_through_the_host_where_devices_are_no_peers),
        cmocka_unit_test(peers_copy_directly),
        cmocka_unit_test(peers_that_bring_wrong_bytes_are_none),
        cmocka_unit_test(device_opens_while_another_is_held),
        cmocka_unit_test(rows_keep_their_pitch),
        cmocka_unit_test(submitting_never_waits_and_slots_are_few),
        cmocka_unit_test(device_may_close_before_the_stream_that_copied_from_it),
        cmocka_unit_test(stream_and_buffers_may_go_with_copies_under_way),
        cmocka_unit_test(failure_of_either_device_is_the_streams),
        cmocka_unit_test(copies_survive_what_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
