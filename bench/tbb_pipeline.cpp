/* SPDX-License-Identifier: MIT */
/*
 * What a pipeline costs when the stages do nothing: three serial stages here and in oneTBB, in one
 * run. Every item carries its number, which the last stage checks.
 *
 *     bench_tbb_pipeline [--items N] [--runs N] [--json FILE]
 */
#include "measure.h"
#include "require.h"

#include <millrace/pipeline.h>

#include <vector>

#ifdef HAVE_TBB
#include <tbb/global_control.h>
#include <tbb/parallel_pipeline.h>
#endif

namespace
{

constexpr int kTokens = 64; // in flight, for TBB

struct Flow {
    uint64_t item_count = 0;
    uint64_t next = 0; // the source's
    uint64_t seen = 0; // the sink's
    bool is_wrong = false;
};

/* ---- millrace ---- */

mr_status give_number(void *context, mr_source_item *item)
{
    auto *flow = static_cast<Flow *>(context);
    if (flow->next == flow->item_count)
        return MR_END;
    *static_cast<uint64_t *>(item->data) = flow->next++;
    item->size_bytes = sizeof(uint64_t);
    return MR_OK;
}

mr_status check_number(void *context, const mr_sink_item *item)
{
    auto *flow = static_cast<Flow *>(context);
    flow->is_wrong |= *static_cast<const uint64_t *>(item->data) != flow->seen++;
    return MR_OK;
}

mr_status submit_nothing(void *, mr_stage_call *)
{
    return MR_OK;
}

mr_status work_nothing(void *, mr_host_call *)
{
    return MR_OK;
}

struct Shape {
    const char *name;
    bool is_inline;
    bool is_work; // host work in stream order, not a submission
    bool is_parcel_wise;
};

struct Ours {
    mr_device *device;
    Shape shape;
    uint64_t item_count;
};

void add_nodes(mr_pipeline *pipeline, const Ours &ours, Flow *flow)
{
    mr_source_options source{};
    source.next = give_number;
    source.context = flow;
    source.item_bytes = sizeof(uint64_t);
    source.is_inline = ours.shape.is_inline;
    mr_node node;
    require_ok(mr_pipeline_add_source(pipeline, &source, &node));
    for (int i = 0; i < 3; i++) {
        mr_stage_options stage{};
        stage.device = ours.device;
        stage.is_in_place = true;
        stage.is_parcel_wise = ours.shape.is_parcel_wise;
        if (ours.shape.is_work)
            stage.work = work_nothing;
        else
            stage.submit = submit_nothing;
        require_ok(mr_pipeline_add_stage(pipeline, &stage, &node));
    }
    mr_sink_options sink{};
    sink.take = check_number;
    sink.context = flow;
    sink.is_inline = ours.shape.is_inline;
    require_ok(mr_pipeline_add_sink(pipeline, &sink, &node));
}

double run_ours(void *context)
{
    const Ours &ours = *static_cast<const Ours *>(context);
    Flow flow;
    flow.item_count = ours.item_count;
    mr_pipeline *pipeline = nullptr;
    require_ok(mr_pipeline_create(nullptr, &pipeline));
    add_nodes(pipeline, ours, &flow);
    const double began = measure_now_s();
    require_ok(mr_pipeline_run(pipeline));
    const double seconds = measure_now_s() - began;
    mr_pipeline_destroy(pipeline);
    measure_require(flow.seen == ours.item_count && !flow.is_wrong, "ours: items lost or swapped");
    return seconds;
}

/* ---- oneTBB ---- */

#ifdef HAVE_TBB
struct Theirs {
    int stage_count; // beside the one that gives the numbers and the one that checks them
    uint64_t item_count;
};

using Middle = tbb::filter<uint64_t, uint64_t>;

Middle middle_stages(int count)
{
    const auto pass = [](uint64_t value) { return value; };
    Middle all = tbb::make_filter<uint64_t, uint64_t>(tbb::filter_mode::serial_in_order, pass);
    for (int i = 1; i < count; i++)
        all = all & tbb::make_filter<uint64_t, uint64_t>(tbb::filter_mode::serial_in_order, pass);
    return all;
}

double run_theirs(void *context)
{
    const Theirs &theirs = *static_cast<const Theirs *>(context);
    Flow flow;
    flow.item_count = theirs.item_count;
    const auto give = [&flow](tbb::flow_control &control) {
        if (flow.next == flow.item_count) {
            control.stop();
            return uint64_t(0);
        }
        return flow.next++;
    };
    const auto check = [&flow](uint64_t value) { flow.is_wrong |= value != flow.seen++; };

    const double began = measure_now_s();
    tbb::parallel_pipeline(
        kTokens, tbb::make_filter<void, uint64_t>(tbb::filter_mode::serial_in_order, give) &
                     middle_stages(theirs.stage_count) &
                     tbb::make_filter<uint64_t, void>(tbb::filter_mode::serial_in_order, check));
    const double seconds = measure_now_s() - began;
    measure_require(flow.seen == theirs.item_count && !flow.is_wrong, "TBB: items lost or swapped");
    return seconds;
}

/* Cost per item of the cheapest thread count: one stage between the ends makes three serial stages. */
double measure_theirs(measure_report *report, uint64_t item_count, int run_count)
{
    double best = 0;
    for (int thread_count = 1; thread_count <= measure_cpu_count(); thread_count++) {
        tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  size_t(thread_count));
        for (int stage_count : { 1, 3 }) {
            Theirs theirs{ stage_count, item_count };
            const double ns =
                measure_median_of(run_theirs, &theirs, run_count) / double(item_count) * 1e9;
            measure_report_add(report, ns, "ns", "oneTBB, %d serial stages, %d threads",
                               stage_count + 2, thread_count);
            if (stage_count == 1 && (best == 0 || ns < best))
                best = ns;
        }
    }
    return best;
}
#endif

} // namespace

int main(int argc, char **argv)
{
    measure_report report;
    measure_report_init(&report, "tbb_pipeline", &argc, argv);
    const auto item_count = uint64_t(measure_option_number(argc, argv, "items", 1000000));
    const int run_count = int(measure_option_number(argc, argv, "runs", 5));

    double theirs = 0;
#ifdef HAVE_TBB
    theirs = measure_theirs(&report, item_count, run_count);
#else
    puts("built without oneTBB: install libtbb-dev and build again");
#endif

    const Shape shapes[] = {
        { "inline, submitted", true, false, false },
        { "threaded, submitted", false, false, false },
        { "inline, host work", true, true, false },
        { "threaded, host work", false, true, false },
        { "threaded, host work, parcel-wise", false, true, true },
    };
    mr_device *device = nullptr;
    require_ok(mr_device_open("cpu", nullptr, &device));
    for (const Shape &shape : shapes) {
        Ours ours{ device, shape, item_count };
        const double ns = measure_median_of(run_ours, &ours, run_count) / double(item_count) * 1e9;
        measure_report_add(&report, ns, "ns", "source, 3 empty stages, sink: %s", shape.name);
        if (theirs > 0)
            measure_report_target(&report, ns / theirs, "", "<=", 1,
                                  "of oneTBB's best for 3 serial stages: %s", shape.name);
    }
    require_ok(mr_device_close(device));
    return measure_report_finish(&report);
}
