/* SPDX-License-Identifier: MIT */
/*
 * The CPU backend's memory: places, stream order, refusals, and what the machine has.
 */
#include "cpu_fixture.h"
#include "support/fault.h"

#include "backend/cpu/cpu_group.h"
#include "backend/cpu/cpu_machine.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- plain memory ---- */

static void memory_is_aligned_to_a_page_in_every_place(void **state)
{
    const mr_place places[] = { MR_PLACE_DEVICE, MR_PLACE_PINNED, MR_PLACE_PAGEABLE };
    const size_t sizes[] = { 1, 100, 4096, 100000, (1 << 20) + 1, (9 << 20) + 5 };
    struct mr_backend_device *device = open_device(1);
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            struct mr_memory memory;
            CHECK_OK(ops->memory_create(device, sizes[k], places[i], &memory));
            CHECK_EQ(0, memory.address % 4096);
            CHECK(memory.address == (uintptr_t)memory.host);
            CHECK_EQ(sizes[k], memory.size_bytes);
            CHECK_EQ(places[i], memory.place);
            memset(memory.host, 1, memory.size_bytes);
            ops->memory_destroy(&memory);
        }
    }
    ops->device_close(device);
}

static void memory_beyond_the_machine_is_refused_with_both_sizes(void **state)
{
    const size_t sizes[] = { (size_t)1 << 50, SIZE_MAX / 2, SIZE_MAX };
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_memory memory;
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        CHECK_STATUS(MR_E_NO_MEMORY,
                     ops->memory_create(device, sizes[i], MR_PLACE_PINNED, &memory));
        CHECK_SAYS("pinned memory", mr_last_error());
        CHECK(!memory.host);
        CHECK_STATUS(MR_E_NO_MEMORY, ops->memory_create_ordered(queue, sizes[i], &memory));
        CHECK_SAYS("bytes are free of", mr_last_error());
    }
    end_queue(queue);
    ops->device_close(device);
}

/* ---- stream order ---- */

static void block_given_back_is_the_same_queues_at_once(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_memory memory;
    (void)state;

    brake_put_on(queue, &brake);
    CHECK_OK(ops->memory_create_ordered(queue, 1000, &memory));
    const uint64_t address = memory.address;
    CHECK_OK(ops->fill(queue, &memory, 0, 1000, 7, 1));
    ops->memory_destroy_ordered(queue, &memory);
    CHECK(!memory.host);
    CHECK_OK(ops->memory_create_ordered(queue, 900, &memory));
    CHECK_EQ(address, memory.address);
    CHECK_EQ(900, memory.size_bytes);

    brake_let_go(&brake);
    ops->memory_destroy_ordered(queue, &memory);
    end_queue(queue);
    ops->device_close(device);
}

static void block_given_back_is_another_queues_after_its_last_use(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *device = open_device(2);
    struct mr_queue *first = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_queue *second = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_memory memory, early, late;
    (void)state;

    brake_put_on(first, &brake);
    CHECK_OK(ops->memory_create_ordered(first, 1 << 20, &memory));
    const uint64_t address = memory.address;
    CHECK_OK(ops->fill(first, &memory, 0, 1 << 20, 7, 1));
    ops->memory_destroy_ordered(first, &memory);

    CHECK_OK(ops->memory_create_ordered(second, 1 << 20, &early));
    CHECK(early.address != address);
    brake_let_go(&brake);
    end_queue(first);
    CHECK_OK(ops->memory_create_ordered(second, 1 << 20, &late));
    CHECK_EQ(address, late.address);

    ops->memory_destroy_ordered(second, &early);
    ops->memory_destroy_ordered(second, &late);
    end_queue(second);
    ops->device_close(device);
}

static void block_holds_what_was_asked_for(void **state)
{
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    (void)state;

    for (size_t size = 1; size < (4 << 20); size += size / 3 + 1) {
        struct mr_memory memory;
        CHECK_OK(ops->memory_create_ordered(queue, size, &memory));
        CHECK_EQ(0, memory.address % 256);
        memset(memory.host, 3, size);
        ops->memory_destroy_ordered(queue, &memory);
    }
    end_queue(queue);
    ops->device_close(device);
}

static void steady_loop_keeps_its_blocks_and_a_peak_is_given_up(void **state)
{
    enum { BIG = 96 << 20, SMALL = 1 << 20 };
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct cpu_pool *pool = &cpu_device_from(device)->pool;
    struct mr_memory memory;
    (void)state;

    CHECK_OK(ops->memory_create_ordered(queue, BIG, &memory));
    ops->memory_destroy_ordered(queue, &memory);
    CHECK(pool->free_bytes >= BIG);
    mr__alloc_fail_at(1, 1);
    CHECK_OK(ops->memory_create_ordered(queue, BIG, &memory));
    mr__alloc_fail_at(0, 0);
    ops->memory_destroy_ordered(queue, &memory);

    for (int i = 0; i < 500; i++) {
        CHECK_OK(ops->memory_create_ordered(queue, SMALL, &memory));
        ops->memory_destroy_ordered(queue, &memory);
    }
    CHECK(pool->free_bytes < BIG);
    CHECK(pool->free_bytes >= SMALL);
    CHECK_EQ(0, pool->used_bytes);
    end_queue(queue);
    ops->device_close(device);
}

static void pool_gives_up_what_it_keeps_when_memory_is_short(void **state)
{
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct cpu_pool *pool = &cpu_device_from(device)->pool;
    struct mr_memory memory;
    (void)state;

    CHECK_OK(ops->memory_create_ordered(queue, 1 << 20, &memory));
    ops->memory_destroy_ordered(queue, &memory);
    CHECK(pool->free_bytes > 0);
    mr__alloc_fail_at(1, 0);
    CHECK_OK(ops->memory_create(device, 4 << 20, MR_PLACE_DEVICE, &memory));
    mr__alloc_fail_at(0, 0);

    CHECK_EQ(0, pool->free_bytes);
    ops->memory_destroy(&memory);
    end_queue(queue);
    ops->device_close(device);
}

/* ---- no memory at the Nth allocation ---- */

static void add_one(void *context)
{
    ++*(uint64_t *)context;
}

/* A little of everything; the first failure ends it. Whatever was made is unmade. */
static mr_status try_everything(struct mr_backend *backend)
{
    struct mr_backend_device *device = NULL;
    struct mr_queue *queues[3] = { NULL };
    const mr_stream_kind kinds[] = { MR_STREAM_BLOCKING, MR_STREAM_LEGACY, MR_STREAM_PER_THREAD };
    struct mr_gate *gate = NULL;
    struct mr_point *point = NULL;
    struct mr_memory memory = { 0 }, ordered = { 0 };
    uint64_t counts[3] = { 0 };

    mr_status status = ops->device_open(backend, 0, NULL, &device);
    if (status)
        return status;
    for (int i = 0; i < 3 && !status; i++)
        status = ops->queue_create(device, kinds[i], 0, &queues[i]);
    if (!status)
        status = ops->memory_create(device, 1 << 20, MR_PLACE_DEVICE, &memory);
    if (!status)
        status = ops->memory_create_ordered(queues[0], 100, &ordered);
    if (!status)
        status = ops->gate_create(device, &gate);
    if (!status)
        status = ops->queue_wait_gate(queues[0], gate);
    for (int i = 0; i < 300 && !status; i++)
        status = ops->call(queues[i % 3], add_one, &counts[i % 3]);
    if (!status)
        status = ops->point_record(queues[1], true, &point);

    if (gate)
        ops->gate_open(gate);
    ops->point_release(point);
    for (int i = 0; i < 3; i++) {
        if (queues[i])
            CHECK_OK(ops->queue_wait(queues[i], MR_FOREVER));
    }
    ops->gate_destroy(gate);
    if (ordered.host)
        ops->memory_destroy_ordered(queues[0], &ordered);
    if (memory.host)
        ops->memory_destroy(&memory);
    for (int i = 0; i < 3; i++)
        ops->queue_destroy(queues[i]);
    ops->device_close(device);
    return status;
}

static void nth_allocation_that_fails_leaves_nothing_behind(void **state)
{
    struct mr_backend *backend;
    CHECK_OK(ops->open(&backend));
    (void)state;

    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        fault_begin(&fault);
        const mr_status status = try_everything(backend);
        fault_end(&fault, status);
        assert_true(fault.nth < 1000);
    }
}

/* ---- the machine ---- */

static char root[] = "/tmp/millrace-machine-XXXXXX";

static void make_root(void)
{
    strcpy(root + sizeof root - sizeof "XXXXXX", "XXXXXX");
    CHECK(mkdtemp(root));
}

static void remove_root(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK_EQ(0, system(command));
}

static void write_file(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    CHECK(file);
    fputs(text, file);
    fclose(file);
}

static void check_memory(uint64_t free_expected, uint64_t total_expected)
{
    uint64_t free_bytes, total_bytes;
    mr__cpu_machine_memory_of(root, &free_bytes, &total_bytes);
    CHECK_EQ(total_expected, total_bytes);
    CHECK_EQ(free_expected, free_bytes);
}

static void memory_is_the_least_of_the_machines_and_every_groups(void **state)
{
    (void)state;
    make_root();

    check_memory(0, 0);
    write_file("/proc/meminfo",
               "MemTotal:   1000000 kB\nMemFree:  1 kB\nMemAvailable: 800000 kB\n");
    check_memory(800000 * 1024, 1000000 * 1024);
    write_file("/proc/self/cgroup", "0::/outer/inner\n");
    check_memory(800000 * 1024, 1000000 * 1024);
    write_file("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
    check_memory(800000 * 1024, 1000000 * 1024);
    write_file("/sys/fs/cgroup/outer/memory.max", "600000000\n");
    check_memory(600000000, 600000000);
    write_file("/sys/fs/cgroup/outer/memory.current", "500000000\n");
    check_memory(100000000, 600000000);
    write_file("/sys/fs/cgroup/outer/memory.current", "700000000\n");
    check_memory(0, 600000000);
    write_file("/sys/fs/cgroup/outer/inner/memory.max", "600000001\n");
    check_memory(0, 600000000);
    write_file("/proc/self/cgroup", "5:cpu:/x\n4:memory:/old\n");
    write_file("/sys/fs/cgroup/memory/old/memory.limit_in_bytes", "9223372036854771712\n");
    check_memory(800000 * 1024, 1000000 * 1024);
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "400000000\n");
    check_memory(400000000, 400000000);

    remove_root();
}

/* As `ulimit -v` and `ulimit -d` set it. */
static void memory_is_what_a_limit_of_the_process_leaves(void **state)
{
    static const struct {
        int resource;
        const char *key;
    } limits[] = { { RLIMIT_AS, "VmSize" }, { RLIMIT_DATA, "VmData" } };
    const uint64_t room = UINT64_C(200) << 20;
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct rlimit kept, limit;
        uint64_t free_bytes, total_bytes, machine_free, machine_total;
        CHECK_EQ(0, getrlimit(limits[k].resource, &kept));
        mr__cpu_machine_memory_of("", &machine_free, &machine_total);
        limit = kept;
        limit.rlim_cur = mr__cpu_read_number("/proc/self/status", limits[k].key) * 1024 + room;
        CHECK_EQ(0, setrlimit(limits[k].resource, &limit));
        mr__cpu_machine_memory(&free_bytes, &total_bytes);
        CHECK_EQ(0, setrlimit(limits[k].resource, &kept));
        CHECK(free_bytes <= room && free_bytes > room / 2);
        CHECK_EQ(limit.rlim_cur < machine_total ? limit.rlim_cur : machine_total, total_bytes);
    }
}

static void processors_are_as_many_as_the_least_quota_is_worth(void **state)
{
    (void)state;
    make_root();

    CHECK_EQ(UINT32_MAX, mr__cpu_machine_quota_of(root));
    write_file("/proc/self/cgroup", "0::/outer/inner\n");
    write_file("/sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
    CHECK_EQ(UINT32_MAX, mr__cpu_machine_quota_of(root));
    write_file("/sys/fs/cgroup/outer/cpu.max", "250000 100000\n");
    CHECK_EQ(3, mr__cpu_machine_quota_of(root));
    write_file("/sys/fs/cgroup/outer/inner/cpu.max", "10000 100000\n");
    CHECK_EQ(1, mr__cpu_machine_quota_of(root));

    write_file("/proc/self/cgroup", "3:cpuset:/s\n4:cpuacct,cpu:/old\n");
    write_file("/sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "-1\n");
    write_file("/sys/fs/cgroup/cpu/old/cpu.cfs_period_us", "100000\n");
    CHECK_EQ(UINT32_MAX, mr__cpu_machine_quota_of(root));
    write_file("/sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "800000\n");
    CHECK_EQ(8, mr__cpu_machine_quota_of(root));
    remove_root();
}

static void device_tells_what_it_is(void **state)
{
    struct mr_backend_device *device = open_device(3);
    mr_device_properties properties;
    uint64_t free_bytes, total_bytes;
    (void)state;

    ops->device_describe(device, &properties);
    CHECK_EQ(3, properties.multiprocessor_count);
    CHECK_EQ(0, properties.priority_lowest);
    CHECK_EQ(-5, properties.priority_highest);
    CHECK(properties.name[0] && !strcmp(properties.id, "cpu"));
    CHECK(properties.is_host_memory && properties.has_ordered_pools);
    CHECK_OK(ops->device_memory(device, &free_bytes, &total_bytes));
    CHECK(free_bytes <= total_bytes);
    CHECK_EQ(total_bytes, properties.memory_bytes);
    CHECK(ops->device_now_ns(device) <= ops->device_now_ns(device));
    ops->device_close(device);

    device = open_device(0);
    ops->device_describe(device, &properties);
    CHECK_EQ(mr__cpu_machine_processors(), properties.multiprocessor_count);
    ops->device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_to_a_page_in_every_place),
        cmocka_unit_test(memory_beyond_the_machine_is_refused_with_both_sizes),
        cmocka_unit_test(block_given_back_is_the_same_queues_at_once),
        cmocka_unit_test(block_given_back_is_another_queues_after_its_last_use),
        cmocka_unit_test(block_holds_what_was_asked_for),
        cmocka_unit_test(steady_loop_keeps_its_blocks_and_a_peak_is_given_up),
        cmocka_unit_test(pool_gives_up_what_it_keeps_when_memory_is_short),
        cmocka_unit_test(nth_allocation_that_fails_leaves_nothing_behind),
        cmocka_unit_test(memory_is_the_least_of_the_machines_and_every_groups),
        cmocka_unit_test(memory_is_what_a_limit_of_the_process_leaves),
        cmocka_unit_test(processors_are_as_many_as_the_least_quota_is_worth),
        cmocka_unit_test(device_tells_what_it_is),
    };
    return cmocka_run_group_tests_name("cpu_memory", tests, NULL, NULL);
}
