/* SPDX-License-Identifier: MIT */
/*
 * The host's side of streaming through one GPU: time for an item where the host is the limit, and what
 * the library asks of the driver in steady state.
 */
#include "gpu_stream.h"

#include <millrace/operation.h>

#include <stdatomic.h>

struct host_case {
    const char *name;
    size_t item_bytes, size_bytes, copy_bytes;
    uint32_t parcel_items, slot_count;
};

/* The loop by hand and the pipeline take turns, so that the host's moods meet both. */
static void measure_host_case(struct bench *bench, const struct host_case *host)
{
    double hand_wall[RUN_LIMIT], ours_wall[RUN_LIMIT], wall_ratio[RUN_LIMIT], cpu_ratio[RUN_LIMIT];
    const struct scale_range range = { bench->pinned_in, bench->pinned_out,
                                       host->size_bytes / sizeof(float), SCALE_FACTOR };
    struct hand_run run = { .source = bench->pinned_in,
                            .target = bench->pinned_out,
                            .size_bytes = host->size_bytes,
                            .item_bytes = host->item_bytes,
                            .copy_bytes = host->copy_bytes,
                            .slot_count = host->slot_count,
                            .factor = SCALE_FACTOR };
    struct ours ours;
    ours_init(&ours, bench,
              &(struct ours_shape){ .source = bench->pinned_in,
                                    .target = bench->pinned_out,
                                    .place = MR_PLACE_PINNED,
                                    .size_bytes = host->size_bytes,
                                    .item_bytes = host->item_bytes,
                                    .chunk_bytes = host->copy_bytes,
                                    .parcel_items = host->parcel_items,
                                    .slot_count = host->slot_count });
    const double count = (double)(host->size_bytes / host->item_bytes);
    for (int i = -1; i < bench->run_count; i++) {
        const int k = i < 0 ? 0 : i;
        const struct timing hand = run_checked(host->name, run_by_hand, &run, &range);
        const struct timing mine = run_checked(host->name, run_ours, &ours, &range);
        hand_wall[k] = hand.seconds / count * 1e6;
        ours_wall[k] = mine.seconds / count * 1e6;
        wall_ratio[k] = mine.seconds / hand.seconds;
        cpu_ratio[k] = mine.cpu_seconds / hand.cpu_seconds;
    }
    ours_describe(&ours, host->name);
    ours_fini(&ours);
    struct measure_report *report = &bench->report;
    const int runs = bench->run_count;
    measure_report_add(report, measure_median(ours_wall, runs), "us", "host: %s", host->name);
    measure_report_add(report, measure_median(hand_wall, runs), "us", "host by hand: %s",
                       host->name);
    measure_report_add(report, measure_median(cpu_ratio, runs), "",
                       "host: %s, CPU time against by hand", host->name);
    measure_report_target(report, measure_median(wall_ratio, runs), "", "<=", 1.10,
                          "host: %s, against by hand", host->name);
}

/* Time for an item where the host is the limit: many small ones, each with a launch of its own. */
void measure_host(struct bench *bench)
{
    static const struct host_case cases[] = {
        { "items of 4 KiB in copies of 1 MiB", 4 * KIB, 256 * MIB, MIB, 256, 8 },
        { "items of 64 KiB in copies of 8 MiB", 64 * KIB, GIB, 8 * MIB, 128, 8 },
        { "items of 4 KiB, each its own copies", 4 * KIB, 128 * MIB, 4 * KIB, 1, 16 },
        { "items of 64 KiB, each its own copies", 64 * KIB, GIB, 64 * KIB, 1, 16 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        measure_host_case(bench, &cases[i]);
}

struct counts {
    struct ours *ours;
    atomic_ulong of[MR_OPERATION_KIND_COUNT];
};

static void count_operation(void *context, const mr_operation *operation)
{
    struct counts *counts = context;
    if (atomic_load_explicit(&counts->ours->is_counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&counts->of[operation->kind], 1, memory_order_relaxed);
}

/* What the library does between the first eighth of a run and its last item. */
void measure_steady(struct bench *bench)
{
    static const mr_operation_kind forbidden[] = {
        MR_OPERATION_ALLOCATE,     MR_OPERATION_FREE,     MR_OPERATION_ALLOCATE_ORDERED,
        MR_OPERATION_FREE_ORDERED, MR_OPERATION_REGISTER, MR_OPERATION_UNREGISTER,
        MR_OPERATION_SYNCHRONIZE
    };
    const mr_place places[] = { MR_PLACE_PINNED, MR_PLACE_PAGEABLE };
    for (int i = 0; i < 2; i++) {
        struct counts counts = { 0 };
        struct ours ours;
        ours_init(&ours, bench,
                  &(struct ours_shape){ .source = i ? bench->pageable_in : bench->pinned_in,
                                        .target = i ? bench->pageable_out : bench->pinned_out,
                                        .place = places[i],
                                        .size_bytes = GIB,
                                        .item_bytes = MIB });
        ours.count_from = GIB / MIB / 8;
        ours.count_to = GIB / MIB - 1;
        counts.ours = &ours;
        mr_device_observe(bench->device, count_operation, &counts);
        run_ours(&ours);
        mr_device_observe(bench->device, NULL, NULL);

        const char *name = i ? "pageable" : "pinned";
        unsigned long sum = 0;
        for (size_t k = 0; k < sizeof forbidden / sizeof *forbidden; k++)
            sum += atomic_load(&counts.of[forbidden[k]]);
        measure_require(atomic_load(&counts.of[MR_OPERATION_LAUNCH]) > 500, "nothing was counted");
        measure_report_target(&bench->report, (double)sum, "", "<=", 0,
                              "steady, %s: allocations, pinnings and synchronisations", name);
        for (int kind = 1; kind < MR_OPERATION_KIND_COUNT; kind++)
            if (atomic_load(&counts.of[kind]))
                measure_report_add(&bench->report,
                                   (double)atomic_load(&counts.of[kind]) / (7.0 / 8 * 1024), "",
                                   "steady, %s: %s for each item of 1 MiB", name,
                                   mr_operation_kind_name((mr_operation_kind)kind));
        ours_fini(&ours);
    }
}
