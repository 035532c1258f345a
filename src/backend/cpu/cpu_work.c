/* SPDX-License-Identifier: MIT */
/*
 * Work: how each kind is written into a record, and how a worker runs it. What is large runs in
 * slices, so that workers with nothing else to do can help, now or later.
 */
#include "backend/cpu/cpu_work.h"

#include "backend/cpu/cpu_chain.h"
#include "backend/cpu/cpu_point.h"
#include "backend/cpu/cpu_queue.h"
#include "backend/cpu/cpu_scheduler.h"
#include "base/clock.h"
#include "base/copy.h"

#include <string.h>

enum {
    SLICE_BYTES = 512 << 10,   /* of a copy or a fill: tens of microseconds */
    SLICED_BYTES = 1 << 20,    /* smaller is done before a sleeper is awake */
    STREAMED_BYTES = 32 << 20, /* from here on stores around the cache gain, even if read back */
    SLICE_LIMIT = 1 << 16,
    LAUNCH_SLICE_NS = 20000,     /* what a slice of a launch should take at least */
    LAUNCH_BUSY_NS = 200000,     /* a shorter launch runs whole when no worker is free */
    TIMED_EVERY = 16,            /* short launches: two looks at the clock cost more than they do */
    CHAINED_BYTES = 32 << 10,    /* less of a launch stays in the first cache by itself */
    LAUNCH_SLICES_PER_WORKER = 4 /* so that one slow worker does not hold up the others */
};

/* ---- writing ---- */

void mr__cpu_write_copy(struct cpu_copy_record *record, const struct mr_transfer *transfer)
{
    const struct mr_transfer *t = transfer;
    record->target = (unsigned char *)t->target->host + t->target_offset;
    record->source = (const unsigned char *)t->source->host + t->source_offset;
    record->target_pitch = t->target_pitch;
    record->source_pitch = t->source_pitch;
    record->row_bytes = t->row_bytes;
    record->row_count = t->row_count;

    const bool is_dense = t->target_pitch == t->row_bytes && t->source_pitch == t->row_bytes;
    if (is_dense && t->row_count > 1) {
        record->row_bytes = t->row_bytes * t->row_count;
        record->row_count = 1;
    }
}

void mr__cpu_write_fill(struct cpu_fill_record *record, const struct mr_memory *memory,
                        size_t offset, size_t size_bytes, uint32_t value, uint32_t value_bytes)
{
    record->target = (unsigned char *)memory->host + offset;
    record->size_bytes = size_bytes;
    record->value = value_bytes == 1   ? (value & 0xff) * UINT32_C(0x01010101)
                    : value_bytes == 2 ? (value & 0xffff) * UINT32_C(0x00010001)
                                       : value;
}

/* What chains ask of a launch (cpu_chain.c). */
static void describe_elements(struct cpu_launch_record *record,
                              const struct mr_function_launch *launch)
{
    uint64_t element_bytes = 0;
    record->streamed_mask = 0;
    record->is_chained = launch->is_element_wise;
    for (size_t i = 0; record->is_chained && i < launch->value_count; i++) {
        const mr_parameter *parameter = &launch->parameters[i];
        if (parameter->access == MR_ACCESS_VALUE)
            continue;
        element_bytes += mr_type_size(parameter->type);
        if (mr__cpu_is_streamed(launch->memory_bytes[i]))
            record->streamed_mask |= UINT32_C(1) << i;
    }
    record->is_chained &= element_bytes > 0 && record->count >= CHAINED_BYTES / element_bytes;
}

size_t mr__cpu_launch_bytes(const struct mr_function_launch *launch)
{
    const struct cpu_launch_record *record = NULL;
    return sizeof *record + launch->value_count * (sizeof record->arguments[0] + sizeof(uint64_t));
}

void mr__cpu_write_launch(struct cpu_launch_record *record, struct mr_function *function,
                          const struct mr_function_launch *launch)
{
    const size_t count = launch->value_count;
    record->function = cpu_function_from(function);
    record->count = launch->shape.count;
    record->slice_limit = launch->shape.slice_limit;
    record->parameters = launch->parameters;
    record->argument_count = (uint32_t)count;
    describe_elements(record, launch);
    uint64_t *values = (uint64_t *)(void *)(record->arguments + count);
    for (size_t i = 0; i < count; i++) {
        const mr_parameter *parameter = &launch->parameters[i];
        if (parameter->access == MR_ACCESS_VALUE) {
            memcpy(&values[i], launch->values[i], mr_type_size(parameter->type));
            record->arguments[i] = &values[i];
        } else {
            record->arguments[i] = (void *)(uintptr_t) * (const uint64_t *)launch->values[i];
        }
    }
}

/* ---- submission ---- */

mr_status mr__cpu_copy(struct mr_queue *base, const struct mr_transfer *transfer)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_copy_record *record = mr__cpu_queue_reserve(queue, CPU_RECORD_COPY, sizeof *record);
    if (!record)
        return MR_E_NO_MEMORY;
    mr__cpu_write_copy(record, transfer);
    mr__cpu_queue_submit(queue, &record->head);
    return MR_OK;
}

mr_status mr__cpu_fill(struct mr_queue *base, const struct mr_memory *memory, size_t offset,
                       size_t size_bytes, uint32_t value, uint32_t value_bytes)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_fill_record *record = mr__cpu_queue_reserve(queue, CPU_RECORD_FILL, sizeof *record);
    if (!record)
        return MR_E_NO_MEMORY;
    mr__cpu_write_fill(record, memory, offset, size_bytes, value, value_bytes);
    mr__cpu_queue_submit(queue, &record->head);
    return MR_OK;
}

mr_status mr__cpu_launch(struct mr_queue *base, struct mr_function *function,
                         const struct mr_function_launch *launch)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_launch_record *record =
        mr__cpu_queue_reserve(queue, CPU_RECORD_LAUNCH, mr__cpu_launch_bytes(launch));
    if (!record)
        return MR_E_NO_MEMORY;
    mr__cpu_write_launch(record, function, launch);
    mr__cpu_queue_submit(queue, &record->head);
    return MR_OK;
}

mr_status mr__cpu_call(struct mr_queue *base, void (*function)(void *context), void *context)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_call_record *record = mr__cpu_queue_reserve(queue, CPU_RECORD_CALL, sizeof *record);
    if (!record)
        return MR_E_NO_MEMORY;
    record->function = function;
    record->context = context;
    mr__cpu_queue_submit(queue, &record->head);
    return MR_OK;
}

/* ---- running ---- */

/* How many slices `size_bytes` of copying or filling are worth. */
static uint32_t slices_of(const struct cpu_worker *worker, size_t size_bytes)
{
    if (size_bytes < SLICED_BYTES || worker->scheduler->worker_count == 1)
        return 1;
    const size_t count = size_bytes / SLICE_BYTES;
    return count < SLICE_LIMIT ? (uint32_t)count : SLICE_LIMIT;
}

typedef void (*slice_function)(struct cpu_worker *worker, void *context, const mr_slice *slice);

static void run_sliced(struct cpu_worker *worker, uint32_t slice_count, slice_function run,
                       const void *context)
{
    if (slice_count <= 1) {
        run(worker, (void *)context, &(mr_slice){ .index = 0, .count = 1 });
        return;
    }
    struct cpu_job job = { .run = run, .context = (void *)context, .slice_count = slice_count };
    mr__cpu_scheduler_run_job(worker, &job);
}

/* Where slice `index` of `count` begins in `size`: at a multiple of `grain`, the last one at the end. */
static size_t slice_begin(size_t size, uint32_t index, uint32_t count, size_t grain)
{
    if (index >= count)
        return size;
    return (size_t)((__uint128_t)size * index / count) / grain * grain;
}

static void copy_part(const struct cpu_copy_record *copy, size_t begin, size_t end)
{
    if (copy->row_bytes < STREAMED_BYTES)
        memcpy(copy->target + begin, copy->source + begin, end - begin);
    else
        mr__copy_streamed(copy->target + begin, copy->source + begin, end - begin);
}

static void copy_slice(struct cpu_worker *worker, void *context, const mr_slice *slice)
{
    const struct cpu_copy_record *copy = context;
    (void)worker;
    if (copy->row_count == 1) {
        copy_part(copy, slice_begin(copy->row_bytes, slice->index, slice->count, 4096),
                  slice_begin(copy->row_bytes, slice->index + 1, slice->count, 4096));
        return;
    }
    const size_t end = slice_begin(copy->row_count, slice->index + 1, slice->count, 1);
    for (size_t row = slice_begin(copy->row_count, slice->index, slice->count, 1); row < end; row++)
        memcpy(copy->target + row * copy->target_pitch, copy->source + row * copy->source_pitch,
               copy->row_bytes);
}

static void run_copy(struct cpu_worker *worker, const struct cpu_copy_record *copy)
{
    uint32_t slice_count = slices_of(worker, copy->row_bytes * copy->row_count);
    if (copy->row_count > 1 && slice_count > copy->row_count)
        slice_count = (uint32_t)copy->row_count;
    run_sliced(worker, slice_count, copy_slice, copy);
}

/* Writes the pattern in blocks that the compiler turns into wide stores. `target` is aligned to nothing
 * in particular. */
static void fill_pattern(unsigned char *target, size_t size_bytes, uint32_t value)
{
    uint32_t block[16];
    for (int i = 0; i < 16; i++)
        block[i] = value;
    for (; size_bytes >= sizeof block; target += sizeof block, size_bytes -= sizeof block)
        memcpy(target, block, sizeof block);
    memcpy(target, block, size_bytes);
}

static void fill_slice(struct cpu_worker *worker, void *context, const mr_slice *slice)
{
    const struct cpu_fill_record *fill = context;
    (void)worker;
    const size_t begin = slice_begin(fill->size_bytes, slice->index, slice->count, 4096);
    const size_t end = slice_begin(fill->size_bytes, slice->index + 1, slice->count, 4096);

    if (fill->value == (fill->value & 0xff) * UINT32_C(0x01010101))
        memset(fill->target + begin, (int)(fill->value & 0xff), end - begin);
    else
        fill_pattern(fill->target + begin, end - begin, fill->value);
}

/* Keeps a moving mean of what an iteration costs. Launches that overlap may lose each other's share. */
static void learn_cost(const struct cpu_launch_record *launch, uint32_t slice_count,
                       uint64_t elapsed_ns)
{
    _Atomic uint64_t *cost_ps = &launch->function->cost_ps;
    if (!launch->count || elapsed_ns > UINT64_MAX / 1000 / slice_count)
        return;
    const uint64_t now = elapsed_ns * 1000 * slice_count / launch->count + 1;
    const uint64_t before = atomic_load_explicit(cost_ps, memory_order_relaxed);
    atomic_store_explicit(cost_ps, before ? before - before / 4 + now / 4 : now,
                          memory_order_relaxed);
}

/* A launch as it runs; records are only read. */
struct running {
    const struct cpu_launch_record *launch;
    bool is_timed; /* its first slice teaches what the function costs */
};

static void launch_slice(struct cpu_worker *worker, void *context, const mr_slice *slice)
{
    const struct running *running = context;
    const struct cpu_launch_record *launch = running->launch;
    (void)worker;
    if (slice->index > 0 || !running->is_timed) {
        launch->function->native(slice, launch->arguments);
        return;
    }
    const uint64_t begin_ns = mr__clock_now_ns();
    launch->function->native(slice, launch->arguments);
    learn_cost(launch, slice->count, mr__clock_now_ns() - begin_ns);
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How many slices a launch may have at most. */
static uint64_t slice_limit_of(const struct cpu_worker *worker,
                               const struct cpu_launch_record *launch)
{
    const uint32_t worker_count = worker->scheduler->worker_count;
    if (worker_count == 1)
        return 1;
    const uint64_t limit =
        smaller(launch->count, (uint64_t)worker_count * LAUNCH_SLICES_PER_WORKER);
    return launch->slice_limit ? smaller(limit, launch->slice_limit) : limit;
}

/* How many slices a launch is worth, from what its function has cost so far. */
static uint32_t slices_of_launch(struct cpu_worker *worker, struct running *running)
{
    const struct cpu_launch_record *launch = running->launch;
    const uint64_t cost_ps = atomic_load_explicit(&launch->function->cost_ps, memory_order_relaxed);
    const uint64_t limit = slice_limit_of(worker, launch);
    running->is_timed = limit > 1;
    if (limit <= 1)
        return 1;
    if (!cost_ps)
        return (uint32_t)limit;

    const double expected_ns = (double)cost_ps * (double)launch->count / 1000;
    const double worth = expected_ns / LAUNCH_SLICE_NS;
    running->is_timed = worth > 1 || ++worker->launch_count % TIMED_EVERY == 0;
    if (worth < 2 || (expected_ns < LAUNCH_BUSY_NS && mr__cpu_scheduler_is_busy(worker->scheduler)))
        return 1;
    return worth < (double)limit ? (uint32_t)worth : (uint32_t)limit;
}

bool mr__cpu_launch_is_whole(struct cpu_worker *worker, const struct cpu_launch_record *launch)
{
    struct running running = { .launch = launch };
    return slices_of_launch(worker, &running) == 1 && !running.is_timed;
}

static void run_stamp(const struct cpu_stamp_record *stamp)
{
    stamp->point->time_ns = mr__clock_now_ns();
    mr__cpu_point_release(&stamp->point->base);
}

void mr__cpu_record_run(struct cpu_worker *worker, const struct cpu_record *record)
{
    switch ((enum cpu_record_kind)record->kind) {
    case CPU_RECORD_CALL: {
        const struct cpu_call_record *call = (const struct cpu_call_record *)record;
        call->function(call->context);
        break;
    }
    case CPU_RECORD_COPY:
        run_copy(worker, (const struct cpu_copy_record *)record);
        break;
    case CPU_RECORD_FILL: {
        const struct cpu_fill_record *fill = (const struct cpu_fill_record *)record;
        run_sliced(worker, slices_of(worker, fill->size_bytes), fill_slice, fill);
        break;
    }
    case CPU_RECORD_LAUNCH: {
        struct running running = { .launch = (const struct cpu_launch_record *)record };
        run_sliced(worker, slices_of_launch(worker, &running), launch_slice, &running);
        break;
    }
    case CPU_RECORD_STAMP:
        run_stamp((const struct cpu_stamp_record *)record);
        break;
    case CPU_RECORD_WAIT: /* the queue's own */
    case CPU_RECORD_REPLAY:
        break;
    }
}
