/* SPDX-License-Identifier: MIT */
/*
 * flow/pipeline.h - the inside of a pipeline: the graph as given, the plan made of it, and a run.
 *
 * The plan is made once. Every parcel goes through the same list of steps (copies and stages, in an
 * order in which inputs come first); a step always uses the same group of streams. Parcels are
 * numbered, and parcel n lives in slot n modulo slot_count. So every hand-over between threads is one
 * counter with one writer:
 *
 *     filled ──► submitted ──► delivered by each sink ──► retired ──► (the slot may be filled again)
 *
 * A parcel is retired when all its work has ended and every sink is done with it. Nothing of a slot
 * is written between, but by the parcel's own work: no hazard can arise from the reuse of a slot, and
 * a stage's inputs are still there when it is tried again.
 */
#ifndef MR__PIPELINE_H
#define MR__PIPELINE_H

#include "flow/crew.h"
#include "flow/pipeline_bell.h"

#include <millrace/event.h>
#include <millrace/pipeline.h>

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#define MR__NONE UINT32_MAX
#define MR__HOST_PLACE 0u       /* where sources, sinks and CPU stages are */
#define MR__SKIPPED_LIMIT 1024u /* skipped items that are listed */
#define MR__SAMPLE_PERIOD 16u   /* one parcel in so many is timed, two in a row */
#define MR__SLOW_NS 10000u /* a source or sink that took so long for one is timed for every one */
#define MR__PARCEL_LIMIT 65536u /* items in a parcel at most */
#define MR__SEALED 0x80000000u  /* slot.fill: no more items go in */
#define MR__WRITING 0x40000000u /* slot.fill: the source is noting an item */
#define MR__LINE 64             /* bytes that two threads should not share */
#define MR__GRAPHED_WORDS sizeof(((mr_node_report *)0)->replay_words)

/* ---- the graph as given ---- */

struct mr__node {
    mr_node id;
    mr_node_kind kind;
    char name[64];
    mr_node inputs[MR_NODE_INPUT_LIMIT];
    uint32_t input_count;
    mr_source_options source;
    mr_stage_options stage;
    mr_sink_options sink;
    bool is_inline; /* of a source or sink: as asked for, or for want of a thread's worth of work */
};

/* ---- the plan ---- */

/* What a node puts out: the same items for all its readers. */
struct mr__edge {
    const struct mr__node *node;
    size_t item_bytes; /* the largest item, and the distance from one to the next */
    uint32_t origin;   /* the image that the node writes */
};

/* An edge's items in one place. */
struct mr__image {
    uint32_t edge;
    uint32_t place;
    uint32_t step;         /* the step that writes it; MR__NONE: the source */
    uint32_t reader_count; /* steps and sinks */
    uint32_t root;         /* the image whose memory it shares (in place), else itself */
    uint32_t lender;       /* the sink whose lent memory it lies in when that is one stretch */
    bool has_memory;       /* every slot has memory for it */
    bool is_lane; /* every lane has: only steps of one lane touch it, one after the other, so
                              that the parcels of a lane share what is in its core's cache */
    mr_buffer **lanes;
    uint32_t lane_count;
    mr_device *device; /* of that memory */
    mr_place kind;
    size_t slot_bytes;
};

/* Streams that a step is spread over: parcel n goes to stream n modulo count. */
struct mr__group {
    mr_device *device;
    const char *name;
    int priority;
    uint32_t stream_count;
    uint32_t lane_replicas; /* of a lane: replicas that its stages asked for; else 0 */
    mr_stream **streams;
};

enum mr__step_kind { MR__STEP_COPY, MR__STEP_SUBMIT, MR__STEP_WORK };

struct mr__step {
    enum mr__step_kind kind;
    const struct mr__node *node; /* NULL for a copy */
    uint32_t group;
    uint32_t input_count;
    uint32_t inputs[MR_NODE_INPUT_LIMIT]; /* images */
    uint32_t output;                      /* image, or MR__NONE */
    uint32_t wait_count;
    uint32_t waits[MR_NODE_INPUT_LIMIT]; /* steps of other groups that come first */
    uint32_t host_wait_count;
    uint32_t host_waits[MR_NODE_INPUT_LIMIT]; /* steps whose outcome the host must know first */
    bool is_recorded;                         /* someone waits for its event */
    bool needs_staged_input;                  /* reads what the crew brings in */
    bool has_lane_output;                     /* the lane's parcel before must be past its steps */
    bool is_scattered;                        /* copy: writes straight to a sink's lent memory */
    uint32_t report;                          /* index of its node report */
};

/* A window is all host memory as one borrowed buffer: lent memory comes as addresses, and a buffer of
 * its own for each would be made and destroyed with every parcel. */
#define MR__WINDOW_BASE 4096u

struct mr__place {
    mr_device *device;
    uint32_t copy_in, copy_out; /* groups; MR__NONE until needed */
    mr_buffer *window;
};

struct mr__sink {
    const struct mr__node *node;
    uint32_t image;
    bool is_lending; /* lend or memory */
    bool is_staged;  /* the crew carries its items out */
    uint32_t report;
};

/* ---- a slot ---- */

/* Where something begins. `buffer` is NULL for memory known by its address alone: then it is in the
 * window of whoever uses it. `host` is NULL for memory that the host cannot reach. */
struct mr__spot {
    mr_buffer *buffer;
    size_t offset;
    char *host;
};

/* Consecutive items whose places are one item distance apart, in memory that others lent. */
struct mr__stretch {
    struct mr__spot spot; /* of its first item */
    uint32_t first, count;
};

struct mr__stretches {
    struct mr__stretch *list;
    uint32_t count, capacity;
};

struct mr__slot_image {
    mr_buffer *memory;    /* its own, or NULL */
    struct mr__spot spot; /* where this parcel's items are */
};

struct mr__slot;

struct mr__slot_step {
    struct mr__slot *slot;
    uint32_t step;
    uint32_t replica; /* the group's stream that this parcel went to */
    mr_event *event;
    mr_event *begin, *end;       /* timing, where measured */
    bool is_timed;               /* begin and end are this parcel's */
    uint64_t busy_ns;            /* the host's view, of a sampled parcel */
    mr_buffer *size_words;       /* output sizes that the device decides */
    struct mr__graphed *graphed; /* of the run that goes on; NULL: nothing is captured */
};

struct mr__slot_sink {
    struct mr__stretches lent;
    bool is_direct; /* the work itself writes to the lent memory */
    struct mr__crew_ticket ticket;
    bool is_staging;
};

struct mr__slot {
    mr_pipeline *pipeline;
    uint64_t number;
    uint64_t first_index;
    uint32_t item_count;
    uint32_t next_step;
    uint32_t size_step; /* the step whose device sizes are still unknown, or MR__NONE */
    bool is_sampled;
    size_t **sizes; /* of each edge, of each item */
    _Atomic bool has_failed;
    _Atomic uint8_t *failed; /* items left out */
    struct mr__slot_image *images;
    struct mr__slot_step *steps;
    struct mr__slot_sink *sinks;
    struct mr__stretches lent; /* by the source */
    struct mr__crew_ticket ticket;
    bool is_staging;
    /* Where another leg had the same items, begun and not delivered: item k is item origin_first + k
     * there, and what sinks lent for it is used again. NULL: nowhere. */
    const struct mr__slot *origin;
    uint32_t origin_first;
    /* Items in it while the source fills it, MR__WRITING while one is being noted, MR__SEALED after. */
    alignas(MR__LINE) _Atomic uint32_t fill;
};

struct mr__plan {
    struct mr__edge *edges; /* one for each node; unused where a node has no output */
    struct mr__image *images;
    struct mr__group *groups;
    struct mr__step *steps;
    struct mr__place *places;
    struct mr__sink *sinks;
    struct mr__slot *slots;
    uint32_t *order;     /* node indexes, inputs first */
    uint32_t *terminals; /* steps that nothing follows */
    uint32_t *watched;   /* other steps of callers' functions, whose streams may have failed */
    uint32_t image_count, group_count, step_count, place_count, sink_count;
    uint32_t terminal_count, watched_count;
    uint32_t slot_count, parcel_items, stream_count;
    uint32_t busy_parcels;   /* in flight, keep all lanes busy; 0 where a GPU takes part */
    uint32_t leg_busy_limit; /* parcels that a fleet's leg has unfinished at most */
    uint32_t ship_below; /* parcels in flight below which a part-filled parcel is sent at once */
    uint64_t chunk_bytes;
    uint64_t slot_memory_bytes;
    uint64_t item_count; /* 0 = unknown */
    const struct mr__node *source;
    uint32_t source_edge;
    bool is_source_lending;
    bool is_source_staged;   /* the crew carries its items in */
    bool may_source_scatter; /* only copies read it: stretches may lie anywhere */
    bool has_work;
    mr_device *clock_device;
    mr_device *host_device; /* CPU device of host memory, or NULL */
    mr_device *own_cpu;     /* opened by the pipeline for want of any */
    struct mr__crew *crew_in, *crew_out;
    mr_node_report *reports; /* names, kinds and devices; copied into each run's report */
    uint32_t report_count;
};

/* ---- a run ---- */

/* A count that one thread writes and others read, on a line of its own. */
struct mr__count {
    alignas(MR__LINE) _Atomic uint64_t value;
};

/* The source's side; only the thread that calls the source touches it. */
struct mr__feed {
    uint64_t next_index;
    mr_source_item held; /* an item that did not fit the parcel it came in */
    bool has_held;
    bool has_ended;
    bool was_cut; /* it may have had more */
};

struct mr__sink_run {
    mr_pipeline *pipeline;
    uint32_t sink;
    pthread_t thread;
    bool has_thread;
    struct mr__bell bell;
    struct mr__count delivered;
    uint64_t staged; /* parcels whose carrying out has begun */
    uint64_t items, bytes;
    uint64_t busy_ns, sampled_items;
    bool is_slow; /* every parcel is timed */
};

/* What ended the run early: the failure of the lowest item. */
struct mr__failure {
    mr_status status;
    uint64_t index;
    char words[MR_ERROR_BYTES];
};

/* Of one node report. The first are the first sink's, who settles parcels. */
struct mr__tally {
    uint64_t busy_ns, sampled_items;
    bool is_timed;
    _Atomic uint64_t failures, retries;
};

struct mr__run {
    struct mr__count filled, submitted, retired;
    alignas(MR__LINE) _Atomic uint64_t stop_index; /* items from here on are not delivered */
    _Atomic bool is_ending;                        /* the source is not asked again */
    _Atomic bool is_aborted;                       /* nothing more is delivered: streams failed */
    _Atomic bool is_cancelled;
    _Atomic bool is_fed;       /* filled is final */
    _Atomic bool is_submitted; /* submitted is final */
    _Atomic bool was_interrupted;
    _Atomic uint64_t items_in, bytes_in, items_out, bytes_out, items_skipped;
    _Atomic uint64_t started_ns, ended_ns;
    mr_device *clock_device;
    uint64_t item_count; /* expected; 0 = unknown */

    struct mr__feed own_feed, *feed; /* its own, or the one that all legs of a fleet share */
    uint64_t opened;                 /* the parcel being filled; by who fills */
    struct mr__bell source_bell, submit_bell;
    uint64_t begun;       /* parcels that the submitter has begun */
    uint64_t given_back;  /* parcels whose lent items went back */
    uint64_t *edge_bytes; /* of each edge, what settled parcels held. The first sink's */
    uint64_t items_settled, parcels_settled;
    struct mr__sink_run *sinks; /* without sinks one that only counts */
    uint32_t sink_count;
    struct mr__tally *tallies; /* one for each node report */
    struct mr__graphed_state
        *graphed; /* one for each step; NULL before the first. The submitter's */
    uint64_t source_busy_ns, source_sampled_items;
    bool source_is_slow; /* every parcel is timed */

    pthread_t source_thread, submit_thread;
    bool has_source_thread, has_submit_thread;

    pthread_mutex_t retire_mutex; /* retired, with several sinks */
    pthread_mutex_t mutex;        /* what follows */
    struct mr__failure failure;
    mr_skipped_item *skipped;
    size_t skipped_count;
};

enum mr__phase { MR__IDLE, MR__RUNNING, MR__WAITED };

struct mr__leg;
struct mr__fleet;

struct mr_pipeline {
    mr_pipeline_options options;
    mr_device **devices;     /* of the options */
    struct mr__fleet *fleet; /* over several devices, instead of plan and run; else NULL */
    struct mr__leg *leg;     /* whose part of a fleet this is, or NULL */
    char name[64];
    struct mr__node *nodes;
    uint32_t node_count, node_capacity;
    struct mr__plan *plan; /* NULL before the first start and after a run that failed */
    struct mr__run *run;   /* of the present or last run */
    mr_pipeline_report report;
    bool has_report;

    pthread_mutex_t mutex; /* what follows */
    pthread_cond_t cond;
    enum mr__phase phase;
    uint32_t threads_left; /* of the run */
    uint32_t callers;      /* inside cancel or drain */
};

/* ---- pipeline.c ---- */

/* MR_E_NO_MEMORY, with its words. */
mr_status mr__pipeline_no_memory(const mr_pipeline *pipeline);

/* ---- pipeline_check.c ---- */

/* Checks what can be said without memory or devices' help, and writes the order of the nodes. */
mr_status mr__graph_check(const mr_pipeline *pipeline, uint32_t *order);
bool mr__device_is_host(const mr_device *device);

/* ---- pipeline_plan.c, pipeline_route.c ---- */

mr_status mr__plan_create(mr_pipeline *pipeline, struct mr__plan **out);
void mr__plan_destroy(struct mr__plan *plan);
/* Lays edges into places: images, steps, groups and what waits for what. */
mr_status mr__plan_route(mr_pipeline *pipeline, struct mr__plan *plan);

/* ---- pipeline_size.c ---- */

/* Chooses the size of items (where the source leaves it open), parcels, and the number of slots. */
mr_status mr__plan_size_items(mr_pipeline *pipeline, struct mr__plan *plan);
mr_status mr__plan_size_parcels(mr_pipeline *pipeline, struct mr__plan *plan);

/* ---- pipeline_slot.c ---- */

mr_status mr__plan_build(mr_pipeline *pipeline, struct mr__plan *plan);
void mr__plan_unbuild(struct mr__plan *plan);

/* ---- pipeline_stretch.c ---- */

/* Adds item `item` at `spot`; false when it does not follow the last one and the list is full. */
bool mr__stretches_add(struct mr__stretches *stretches, uint32_t item, const struct mr__spot *spot,
                       size_t stride);
/* Where an item is. */
struct mr__spot mr__stretches_spot(const struct mr__stretches *stretches, uint32_t item,
                                   size_t stride);
/* The host address of an item, NULL where the host cannot reach it. */
char *mr__stretches_host(const struct mr__stretches *stretches, uint32_t item, size_t stride);
/* Copies items [0, count) in as few pieces as can be, joining over gaps of at most `gap_limit`. */
mr_status mr__stretches_copy(mr_stream *stream, const struct mr__place *place,
                             const struct mr__stretches *targets,
                             const struct mr__stretches *sources, const size_t *sizes,
                             size_t stride, uint32_t count, size_t gap_limit);
/* The same by the crew, in host memory. */
void mr__stretches_carry(struct mr__crew *crew, struct mr__crew_ticket *ticket,
                         const struct mr__stretches *targets, const struct mr__stretches *sources,
                         const size_t *sizes, size_t stride, uint32_t count, bool is_streamed);

/* ---- pipeline_source.c ---- */

/* Fills parcels until the source ends. The source's thread. */
void *mr__source_main(void *pipeline);
/* The next slot of a pipeline that has one free, to be filled from that item on. */
struct mr__slot *mr__source_open(mr_pipeline *pipeline, uint64_t first_index);
bool mr__source_has_slot(const mr_pipeline *pipeline);
/* Fills and ships the opened slot. False when there was nothing more to put into it. */
bool mr__source_fill(mr_pipeline *pipeline, struct mr__slot *slot, bool is_shared);
/* Ends the filling of a slot by another thread, which takes what it still gets elsewhere. The slot goes
 * out with what it has. */
void mr__source_seal(mr_pipeline *pipeline, struct mr__slot *slot);
/* Fills and ships the opened slot with items of a slot of another pipeline of the same nodes, from item
 * *done on, as many as fit together. */
mr_status mr__source_refill(mr_pipeline *pipeline, struct mr__slot *slot, struct mr__slot *from,
                            bool is_begun, uint32_t *done, uint32_t count);
/* Fills and ships one parcel; false when there was none to fill or no slot. Inline sources. */
bool mr__source_step(mr_pipeline *pipeline);
/* Takes the part-filled parcel away from a source that is busy elsewhere. Submitter only. */
bool mr__source_steal(mr_pipeline *pipeline);
/* Whether there is such a parcel, and the pipeline is about to run dry. */
bool mr__source_is_stealable(const mr_pipeline *pipeline);
/* Whether mr__source_step may do something. */
bool mr__source_is_ready(const mr_pipeline *pipeline);

/* ---- pipeline_submit.c ---- */

/* The submitting thread's loop, with inline source and sinks. */
void mr__submit_main(mr_pipeline *pipeline);

/* ---- pipeline_step.c ---- */

/* Submits one step of a parcel; step_count is what comes after the last. MR_E_BUSY: the host must
 * first know something. */
mr_status mr__step_submit(struct mr__slot *slot, uint32_t step);
/* Waits a little for what the slot's next step needs to know. */
void mr__step_wait(struct mr__slot *slot, uint64_t timeout_ns);
/* Items of the parcel that still matter: those before the run's stop. */
uint32_t mr__slot_live_items(const struct mr__slot *slot);
/* Where this parcel's items of an image are. */
const struct mr__spot *mr__slot_spot(const struct mr__slot *slot, uint32_t image);
bool mr__slot_has_failed(const struct mr__slot *slot, uint32_t item);
bool mr__slot_has_any_failed(const struct mr__slot *slot);

/* ---- pipeline_stage.c, pipeline_work.c, pipeline_calls.c ---- */

/* Calls the stage for all the parcel's items. The caller holds the stream's order. */
mr_status mr__stage_submit(struct mr__slot *slot, uint32_t step, mr_stream *stream);
/* A host function: does the stage's work for all the parcel's items. `slot_step`. */
mr_status mr__stage_work(void *slot_step);

struct mr__calls;
/* Calls the stage for items [first, first + count). */
typedef mr_status (*mr__invoke)(struct mr__calls *calls, uint32_t first, uint32_t count,
                                uint32_t attempt);
/* Calls it for each of the items [*at, end) alone, for the first time; stops with *at at the one that
 * failed or left a size that must be judged. */
typedef mr_status (*mr__invoke_each)(struct mr__calls *calls, uint32_t *at, uint32_t end);

/* One step's calls for one parcel, whatever kind of function the stage has. */
struct mr__calls {
    struct mr__slot *slot;
    const struct mr__step *step;
    mr__invoke invoke;
    mr__invoke_each invoke_each;
    size_t *output_sizes;            /* NULL without output */
    size_t capacity, input_capacity; /* of an output item, and of one of the first input */
    const size_t *input_sizes[MR_NODE_INPUT_LIMIT];
};

/* The caller sets the two functions. */
void mr__calls_init(struct mr__calls *calls, struct mr__slot *slot, const struct mr__step *step);
/* All items that matter, with retries and the error policy. */
void mr__calls_run(struct mr__calls *calls);
/* Presets the output sizes of some items; MR_E_INVALID where the stage asks for more than fits. */
mr_status mr__calls_preset(struct mr__calls *calls, uint32_t first, uint32_t count);
/* Judges the sizes that the stage left. */
mr_status mr__calls_check(const struct mr__calls *calls, uint32_t first, uint32_t count);

/* ---- pipeline_graphed.c ---- */

extern uint64_t mr__graphed_worth_ns;

/* mr__calls_run, or the launch of what was captured of these calls. */
void mr__graphed_run(struct mr__calls *calls, struct mr__slot_step *slot_step, mr_stream *stream);
/* Gives up what was captured: what a stage enqueues is the same within one run only. The run's work has
 * ended. */
void mr__graphed_end(const struct mr__plan *plan);
void mr__graphed_drop(struct mr__graphed *graphed); /* NULL is accepted */
void mr__graphed_report(const struct mr__run *run, const struct mr__plan *plan, uint32_t step,
                        mr_node_report *node);

/* ---- pipeline_sink.c ---- */

void *mr__sink_main(void *sink_run);
/* Delivers the sink's next parcel if it is ready within the time. False: not this time. */
bool mr__sink_step(struct mr__sink_run *sink, uint64_t timeout_ns);
/* Lends the sinks' memory to a parcel that is about to be submitted. Submitter only. */
void mr__sink_lend(struct mr__slot *slot);
/* Whether a submitted parcel's work has ended, well or not. Any thread, until it is filled again. */
bool mr__sink_has_ended(const struct mr__slot *slot);

/* ---- pipeline_error.c ---- */

/* An item failed for good: skips it or stops the run there, as the options say. Words are this
 * thread's. */
void mr__run_fail_item(struct mr__slot *slot, uint32_t item, const struct mr__node *node,
                       mr_status status);
/* The run ends before item `index`; what comes before is delivered. */
void mr__run_stop(mr_pipeline *pipeline, uint64_t index, mr_status status, const char *words);
/* Streams or the machine failed: nothing more is delivered. Words are this thread's. */
void mr__run_abort(mr_pipeline *pipeline, mr_status status, const char *where);
/* Wakes the run's submitter and sinks. */
void mr__run_ring(struct mr__run *run);
/* The source is not asked again; wakes it. */
void mr__run_end_source(mr_pipeline *pipeline);
/* This thread's words, or the status's text when a callback gave none; then forgets them. */
void mr__words_take(mr_status status, char words[MR_ERROR_BYTES]);

/* ---- pipeline_run.c ---- */

/* Makes the run of a pipeline that has a plan. */
mr_status mr__run_create(mr_pipeline *pipeline);
/* Starts the threads that it needs. Where that fails some may run: abort and join. */
mr_status mr__run_start(mr_pipeline *pipeline, bool is_submitter_apart);
void mr__run_join(struct mr__run *run);
/* Waits for what is still queued. */
void mr__run_quiet_streams(const struct mr__plan *plan);
void mr__run_quiet_crews(const struct mr__plan *plan);
void mr__run_destroy(mr_pipeline *pipeline);
/* `*is_started` is set before the thread runs: other threads of the run read it. */
mr_status mr__run_start_thread(mr_pipeline *pipeline, pthread_t *thread, bool *is_started,
                               void *(*function)(void *), void *context);
/* A thread of the run does nothing more. */
void mr__run_leave(mr_pipeline *pipeline);

/* ---- pipeline_report.c ---- */

/* The node reports of one run, plan->report_count of them. */
void mr__report_nodes(const mr_pipeline *pipeline, mr_node_report *nodes, uint64_t elapsed_ns);
void mr__report_overlap(mr_pipeline_report *report);
/* Counts a parcel whose work has ended, and reads its times. The first sink's thread. */
void mr__report_settle(struct mr__slot *slot);
/* Makes the report of the run that has ended. */
mr_status mr__report_make(mr_pipeline *pipeline);
void mr__report_clear(mr_pipeline *pipeline);

static inline uint64_t mr__count_get(const struct mr__count *count)
{
    return atomic_load_explicit(&count->value, memory_order_acquire);
}

/* Sequentially consistent, for the bell that is rung next. */
static inline void mr__count_set(struct mr__count *count, uint64_t value)
{
    atomic_store(&count->value, value);
}

static inline struct mr__slot *mr__slot_of(const struct mr__plan *plan, uint64_t number)
{
    return &plan->slots[number % plan->slot_count];
}

#endif
