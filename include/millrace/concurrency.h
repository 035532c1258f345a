/* SPDX-License-Identifier: MIT */
/*
 * millrace/concurrency.h - do two streams really run at the same time, and if not, why?
 *
 * Each side is a function that enqueues work. The check runs each alone, then both together, takes
 * the times from the device (timing events), and compares what was gained with what could be:
 * together can be no faster than the longer side, so at best all of the shorter side is hidden.
 * It also looks at what the functions submit, and names what stands in the way: one stream, the
 * legacy default stream, an event that one waits for, memory whose copies block, an engine that
 * there is only one of, a device that one side fills.
 *
 * Ownership  Streams and contexts are borrowed for the call.
 * Threads    One thread at a time for the two streams. The functions are called on the calling
 *            thread, several times each; nothing else should use the device meanwhile, or times
 *            mean little.
 * Errors     mr_status of the check itself, with the first failure of a function or a stream. Work
 *            that did not overlap is a result, not an error.
 */
#ifndef MR_CONCURRENCY_H
#define MR_CONCURRENCY_H

#include <millrace/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Enqueues the side's work on `stream` and returns. Called 2 * repeat_count + 1 times; the work must
 * bear repeating. Anything but MR_OK ends the check. */
typedef mr_status (*mr_concurrency_submit)(void *context, mr_stream *stream);

typedef struct mr_concurrency_side {
    mr_stream *stream; /* both of one device */
    mr_concurrency_submit submit;
    void *context;
} mr_concurrency_side;

/* Zero means the default for every field. */
typedef struct mr_concurrency_options {
    uint32_t repeat_count; /* runs of each kind, of which the fastest counts; 0 = 5; at most 1000 */
    uint64_t least_ns;     /* a side shorter than this tells nothing; 0 = 50,000 */
} mr_concurrency_options;

typedef enum mr_concurrency_verdict {
    MR_CONCURRENCY_UNCLEAR = 0, /* a side was too short to tell */
    MR_CONCURRENCY_NONE = 1,    /* less than a fifth of the shorter side was hidden */
    MR_CONCURRENCY_PART = 2,
    MR_CONCURRENCY_FULL = 3 /* four fifths or more was hidden */
} mr_concurrency_verdict;

/* What can keep two streams apart, the surest first. Those before SUBMISSION are seen in what was
 * submitted, whatever the times were; the rest are concluded from the times. */
typedef enum mr_concurrency_obstacle {
    MR_OBSTACLE_NONE = 0,
    MR_OBSTACLE_SAME_STREAM,  /* both sides have one stream, or one native stream */
    MR_OBSTACLE_OTHER_STREAM, /* a function gave work to a stream that it was not given */
    MR_OBSTACLE_EVENT,        /* one stream waits for an event of the other */
    MR_OBSTACLE_LEGACY,       /* the legacy default stream, and a stream that is ordered with it */
    MR_OBSTACLE_HOST_WAIT,    /* a function waits for the device */
    MR_OBSTACLE_ALLOCATION,  /* a function allocates, frees or pins memory; drivers may wait then */
    MR_OBSTACLE_PAGEABLE,    /* a copy of pageable memory makes the submitting thread wait */
    MR_OBSTACLE_ENGINE,      /* both need an engine that there is only one of */
    MR_OBSTACLE_SUBMISSION,  /* submitting one side takes the host as long as the work lasts */
    MR_OBSTACLE_PRIORITY,    /* kernels, and one stream has priority over the other */
    MR_OBSTACLE_DEVICE_FULL, /* kernels of which one leaves no room for the other */
    MR_OBSTACLE_UNKNOWN      /* nothing of these was seen */
} mr_concurrency_obstacle;

typedef struct mr_concurrency_report {
    mr_concurrency_verdict verdict;
    mr_concurrency_obstacle
        obstacle;          /* SUBMISSION to UNKNOWN only where the verdict is NONE or PART */
    uint64_t alone_ns[2];  /* the fastest run of each side */
    uint64_t submit_ns[2]; /* host time of its function in that run */
    uint64_t together_ns;  /* from the first start to the last end, the fastest run */
    uint64_t bound_ns;     /* the longer side: together can be no faster */
    uint64_t in_flight_ns; /* both had begun and neither had ended */
    double hidden;         /* share of the shorter side that cost no time; 0 to 1 */
    double speed_up, speed_up_bound; /* of both together against one after the other */
    char words
        [512]; /* the verdict, the figures, the obstacle and the remedy, in a sentence or two */
} mr_concurrency_report;

/* `options` may be NULL. Waits for both streams first. May block, as long as the work takes. */
MR_API MR_MUST_USE mr_status mr_concurrency_check(const mr_concurrency_side *first,
                                                  const mr_concurrency_side *second,
                                                  const mr_concurrency_options *options,
                                                  mr_concurrency_report *report);

/* "full", "in part", "none", "unclear"; "same stream", "legacy default stream". Static; never NULL.
 * [any thread] */
MR_API const char *mr_concurrency_verdict_name(mr_concurrency_verdict verdict);
MR_API const char *mr_concurrency_obstacle_name(mr_concurrency_obstacle obstacle);

#ifdef __cplusplus
}
#endif
#endif
