/* SPDX-License-Identifier: MIT */
/* Operation records: what an observer sees of every kind of submission. */
#include "scripted_backend.h"
#include "support/unit.h"

#include "core/operation.h"

#include <millrace/event.h>

#include <pthread.h>

enum { SEEN_LIMIT = 64 };

struct watcher {
    mr_operation seen[SEEN_LIMIT];
    mr_operation_access accesses[SEEN_LIMIT][2];
    size_t count;
};

static void watch(void *context, const mr_operation *operation)
{
    struct watcher *watcher = context;
    assert_true(watcher->count < SEEN_LIMIT && operation->access_count <= 2);
    if (operation->access_count)
        memcpy(watcher->accesses[watcher->count], operation->accesses,
               operation->access_count * sizeof *operation->accesses);
    watcher->seen[watcher->count++] = *operation;
}

static mr_device *device;
static mr_stream *stream;
static struct watcher watcher;

static int set_up(void **state)
{
    (void)state;
    device = scripted_open(&scripted_alpha);
    watcher.count = 0;
    return !device || mr_stream_create(device, NULL, &stream);
}

static int tear_down(void **state)
{
    (void)state;
    mr_device_observe(device, NULL, NULL);
    mr_stream_destroy(stream);
    return mr_device_close(device) || !scripted_is_clean();
}

static mr_status do_nothing(void *context)
{
    (void)context;
    return MR_OK;
}

static void every_kind_has_a_name(void **state)
{
    (void)state;
    for (int kind = MR_OPERATION_COPY; kind < MR_OPERATION_KIND_COUNT; kind++)
        assert_string_not_equal(mr_operation_kind_name((mr_operation_kind)kind), "unknown");
    assert_string_equal(mr_operation_kind_name(MR_OPERATION_KIND_COUNT), "unknown");
}

static void submissions_are_seen_in_order_with_their_numbers(void **state)
{
    mr_buffer *buffer;
    mr_event *event;
    (void)state;
    mr_device_observe(device, watch, &watcher);
    assert_ok(mr_buffer_create(device, 64, NULL, &buffer));
    assert_ok(mr_event_create(device, NULL, &event));
    assert_ok(mr_fill(stream, buffer, 8, 16, 1, 1));
    assert_ok(mr_copy(stream, buffer, 32, buffer, 0, 32));
    assert_ok(mr_stream_call(stream, do_nothing, NULL));
    assert_ok(mr_event_record(event, stream));
    assert_ok(mr_event_record(event, stream));
    assert_ok(mr_stream_wait(stream));
    assert_ok(mr_device_synchronize(device));
    mr_event_destroy(event);
    mr_buffer_destroy(buffer);

    static const struct {
        mr_operation_kind kind;
        uint64_t sequence, size_bytes;
    } expected[] = {
        { MR_OPERATION_ALLOCATE, 0, 64 }, { MR_OPERATION_FILL, 1, 16 },
        { MR_OPERATION_COPY, 2, 32 },     { MR_OPERATION_CALL, 3, 0 },
        { MR_OPERATION_RECORD, 4, 0 },    { MR_OPERATION_RECORD, 4, 0 },
        { MR_OPERATION_HOST_WAIT, 4, 0 }, { MR_OPERATION_SYNCHRONIZE, 0, 0 },
        { MR_OPERATION_FREE, 0, 64 },
    };
    assert_int_equal(watcher.count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < watcher.count; i++) {
        const mr_operation *seen = &watcher.seen[i];
        assert_int_equal(seen->kind, expected[i].kind);
        assert_int_equal(seen->sequence, expected[i].sequence);
        assert_int_equal(seen->size_bytes, expected[i].size_bytes);
        assert_int_equal(seen->stream_id, expected[i].sequence ? mr_stream_id(stream) : 0);
        assert_true(seen->submitted_ns > 0);
        assert_non_null(seen->name);
    }
}

static void copies_tell_what_they_read_and_write(void **state)
{
    mr_buffer *target, *source;
    (void)state;
    assert_ok(mr_buffer_create(device, 64, NULL, &target));
    assert_ok(mr_buffer_create(device, 64, NULL, &source));
    mr_device_observe(device, watch, &watcher);
    assert_ok(mr_copy(stream, target, 8, source, 24, 16));
    mr_device_observe(device, NULL, NULL);

    const mr_operation_access *accesses = watcher.accesses[0];
    assert_int_equal(watcher.seen[0].access_count, 2);
    assert_int_equal(accesses[0].access, MR_ACCESS_IN);
    assert_int_equal(accesses[0].address, mr_buffer_address(source) + 24);
    assert_int_equal(accesses[1].access, MR_ACCESS_OUT);
    assert_int_equal(accesses[1].address, mr_buffer_address(target) + 8);
    assert_int_equal(accesses[1].size_bytes, 16);
    assert_int_not_equal(accesses[0].buffer_id, accesses[1].buffer_id);
    mr_buffer_destroy(target);
    mr_buffer_destroy(source);
}

static void waits_tell_whom_they_wait_for_and_whether_they_were_needed(void **state)
{
    mr_stream *other;
    mr_event *event;
    (void)state;
    assert_ok(mr_stream_create(device, NULL, &other));
    assert_ok(mr_event_create(device, NULL, &event));
    assert_ok(mr_stream_call(other, do_nothing, NULL));
    assert_ok(mr_event_record(event, other));
    mr_device_observe(device, watch, &watcher);
    assert_ok(mr_stream_wait_event(stream, event));
    assert_ok(mr_stream_wait_event(stream, event));
    mr_device_observe(device, NULL, NULL);

    assert_int_equal(watcher.count, 2);
    assert_int_equal(watcher.seen[0].kind, MR_OPERATION_WAIT);
    assert_int_equal(watcher.seen[1].kind, MR_OPERATION_WAIT_SKIPPED);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(watcher.seen[i].other_stream_id, mr_stream_id(other));
        assert_int_equal(watcher.seen[i].other_sequence, 2);
    }
    mr_event_destroy(event);
    mr_stream_destroy(other);
}

static void nothing_is_seen_after_the_observer_is_removed(void **state)
{
    (void)state;
    mr_device_observe(device, watch, &watcher);
    mr_device_observe(device, NULL, NULL);
    assert_ok(mr_stream_call(stream, do_nothing, NULL));
    assert_int_equal(watcher.count, 0);
}

/* ---- observers of a thread ---- */

static void *submit_elsewhere(void *unused)
{
    mr__operation_emit_plain(device, MR_OPERATION_CALL, stream, 7);
    return unused;
}

static void a_thread_observes_what_it_submits_itself(void **state)
{
    pthread_t thread;
    static struct watcher whole;
    (void)state;
    whole.count = 0;
    mr_device_observe(device, watch, &whole);
    assert_ok(mr_device_observe_thread(device, watch, &watcher));
    assert_ok(mr_stream_call(stream, do_nothing, NULL));
    pthread_create(&thread, NULL, submit_elsewhere, NULL);
    pthread_join(thread, NULL);
    assert_int_equal(watcher.count, 1);
    assert_int_equal(whole.count, 2);

    mr_device_observe(device, NULL, NULL); /* the thread's stays */
    assert_ok(mr_stream_call(stream, do_nothing, NULL));
    assert_int_equal(watcher.count, 2);
    assert_ok(mr_device_observe_thread(device, NULL, NULL));
    assert_ok(mr_device_observe_thread(device, NULL, NULL)); /* again: nothing to remove */
    assert_ok(mr_stream_call(stream, do_nothing, NULL));
    assert_int_equal(watcher.count, 2);
    assert_int_equal(whole.count, 2);
    assert_false(mr__operation_is_wanted(device));
}

static void a_thread_has_one_observer_at_a_time(void **state)
{
    (void)state;
    assert_status(MR_E_INVALID, mr_device_observe_thread(NULL, watch, &watcher));
    assert_ok(mr_device_observe_thread(device, watch, &watcher));
    assert_status(MR_E_STATE, mr_device_observe_thread(device, watch, &watcher));
    assert_words("remove that observer first");
    assert_ok(mr_device_observe_thread(device, NULL, NULL));
    assert_ok(mr_device_observe_thread(device, watch, &watcher));
    assert_ok(mr_device_observe_thread(device, NULL, NULL));
    assert_false(mr__operation_is_wanted(device));
}

/* ---- changing observers under load ---- */

struct pair {
    struct pair *self;
    _Atomic uint64_t count;
};
static struct pair first_pair, second_pair;
static _Atomic int mismatches;

static void watch_first(void *context, const mr_operation *operation)
{
    (void)operation;
    if (context != &first_pair)
        atomic_fetch_add(&mismatches, 1);
}

static void watch_second(void *context, const mr_operation *operation)
{
    (void)operation;
    if (context != &second_pair)
        atomic_fetch_add(&mismatches, 1);
}

static void *change_observers(void *unused)
{
    for (int i = 0; i < 20000; i++) {
        mr_device_observe(device, watch_first, &first_pair);
        mr_device_observe(device, watch_second, &second_pair);
    }
    return unused;
}

static void an_observer_always_gets_its_own_context(void **state)
{
    pthread_t thread;
    (void)state;
    pthread_create(&thread, NULL, change_observers, NULL);
    for (int i = 0; i < 20000; i++)
        mr__operation_emit_plain(device, MR_OPERATION_CALL, stream, 1);
    pthread_join(thread, NULL);
    assert_int_equal(atomic_load(&mismatches), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kind_has_a_name),
        TEST(submissions_are_seen_in_order_with_their_numbers),
        TEST(copies_tell_what_they_read_and_write),
        TEST(waits_tell_whom_they_wait_for_and_whether_they_were_needed),
        TEST(nothing_is_seen_after_the_observer_is_removed),
        TEST(a_thread_observes_what_it_submits_itself),
        TEST(a_thread_has_one_observer_at_a_time),
        TEST(an_observer_always_gets_its_own_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
