/* SPDX-License-Identifier: MIT */
/* Which issue order suits which device, how chunks are sized, and transfers with every driver call and
 * every allocation failing once. */
#include "support/fault_driver.h"
#include "support/unit.h"

#include "flow/transfer_parts.h"

enum { ITEMS = 600 };

/* ---- choices ---- */

static void the_published_devices_get_the_faster_order(void **state)
{
    (void)state;
    /* sequential, interleaved, grouped, ms: 12.92, 13.64, 8.85 */
    const mr_device_properties c1060 = { .copy_engine_count = 1, .compute_major = 1 };
    /* 9.98, 5.74, 7.60 */
    const mr_device_properties c2050 = { .copy_engine_count = 2, .compute_major = 2 };
    /* 7.10, 3.97, 3.97: either will do */
    const mr_device_properties k20c = { .copy_engine_count = 2, .compute_major = 3 };
    const mr_device_properties h200 = { .copy_engine_count = 3, .compute_major = 9 };
    const mr_device_properties cpu = { .copy_engine_count = 0 };
    assert_int_equal(mr_issue_order_choose(&c1060), MR_ISSUE_GROUPED);
    assert_int_equal(mr_issue_order_choose(&c2050), MR_ISSUE_INTERLEAVED);
    assert_int_equal(mr_issue_order_choose(&k20c), MR_ISSUE_INTERLEAVED);
    assert_int_equal(mr_issue_order_choose(&h200), MR_ISSUE_INTERLEAVED);
    assert_int_equal(mr_issue_order_choose(&cpu), MR_ISSUE_INTERLEAVED);
    assert_int_equal(mr_issue_order_choose(NULL), MR_ISSUE_INTERLEAVED);
}

static void every_order_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(mr_issue_order_name(MR_ISSUE_AUTO), "auto");
    assert_string_equal(mr_issue_order_name(MR_ISSUE_INTERLEAVED), "interleaved");
    assert_string_equal(mr_issue_order_name(MR_ISSUE_GROUPED), "grouped");
    assert_string_equal(mr_issue_order_name((mr_issue_order)9), "unknown");
}

static void auto_chunks_are_four_a_stream_within_bounds(void **state)
{
    (void)state;
    const uint64_t mib = 1 << 20;
    assert_int_equal(mr__chunked_auto_items(64 * mib, 1, 4), 4 * mib);
    assert_int_equal(mr__chunked_auto_items(64 * mib, 1, 2), 8 * mib);
    assert_int_equal(mr__chunked_auto_items(1000, 1, 4), mib);                /* one chunk */
    assert_int_equal(mr__chunked_auto_items(mib << 20, 1, 4), 16 * mib);      /* the most */
    assert_int_equal(mr__chunked_auto_items(8, 256 * mib, 4), 1);             /* large items */
    assert_int_equal(mr__chunked_auto_items(64 * mib, 12, 4), 16 * mib / 12); /* whole items */
}

/* ---- failures ---- */

struct setting {
    mr_stream *streams[3];
    mr_buffer *source, *input, *output, *target;
};

static mr_status fill_chunk(void *context, const mr_chunk *chunk)
{
    (void)context;
    return mr_fill(chunk->stream, chunk->output, chunk->output_offset, chunk->output_bytes, 7, 1);
}

static mr_status setting_init(struct setting *setting, mr_device *device)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    mr_status status = MR_OK;
    *setting = (struct setting){ .source = NULL };
    for (int i = 0; i < 3 && !status; i++)
        status = mr_stream_create(device, NULL, &setting->streams[i]);
    if (!status)
        status = mr_buffer_create(device, ITEMS, &pinned, &setting->source);
    if (!status)
        status = mr_buffer_create(device, ITEMS, NULL, &setting->input);
    if (!status)
        status = mr_buffer_create(device, ITEMS, NULL, &setting->output);
    if (!status)
        status = mr_buffer_create(device, ITEMS, &pinned, &setting->target);
    return status;
}

static void setting_fini(struct setting *setting)
{
    for (int i = 0; i < 3; i++)
        mr_stream_destroy(setting->streams[i]);
    mr_buffer_destroy(setting->source);
    mr_buffer_destroy(setting->input);
    mr_buffer_destroy(setting->output);
    mr_buffer_destroy(setting->target);
}

static mr_status use_setting(struct setting *setting)
{
    const mr_chunked_transfer transfer = { .source = setting->source,
                                           .input = setting->input,
                                           .output = setting->output,
                                           .target = setting->target,
                                           .item_count = ITEMS,
                                           .item_bytes = 1,
                                           .chunk_items = 100,
                                           .compute = fill_chunk };
    const mr_copy_range up = { setting->input, 0, setting->source, 0, ITEMS };
    const mr_copy_range down = { setting->target, 0, setting->output, 0, ITEMS };
    mr_status status = mr_transfer_chunks(setting->streams, 3, &transfer);
    if (!status)
        status = mr_stream_wait(setting->streams[0]);
    if (!status)
        status = mr_transfer_both_ways(setting->streams[1], &up, setting->streams[2], &down);
    return status ? status : mr_stream_wait(setting->streams[2]);
}

static mr_status scenario(mr_device *device)
{
    struct setting setting;
    mr_status status = setting_init(&setting, device);
    if (!status)
        status = use_setting(&setting);
    setting_fini(&setting);
    return status;
}

static void transfers_survive_a_driver_call_that_fails(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_driver_call };
    fault_on_device(&fault, "cuda", scenario);
    assert_true(fault.nth > 20);
}

static void transfers_survive_no_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
        fault_on_device(&fault, i ? "cuda" : "cpu", scenario);
        assert_true(fault.nth > 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_devices_get_the_faster_order),
        cmocka_unit_test(every_order_has_a_name),
        cmocka_unit_test(auto_chunks_are_four_a_stream_within_bounds),
        cmocka_unit_test(transfers_survive_a_driver_call_that_fails),
        cmocka_unit_test(transfers_survive_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
