/* SPDX-License-Identifier: MIT */
/*
 * cuda/cuda_backend.h - the CUDA backend's objects, and how its files reach the driver.
 *
 * cuda_backend.c  the driver found, and the table of entries
 * cuda_device.c   devices: primary context, properties, peers
 * cuda_peer.c     peers introduced to each other, and tried
 * cuda_memory.c   device, pinned and pageable memory, the ordered pool, registration
 * cuda_queue.c    streams
 * cuda_work.c     copies and fills
 * cuda_call.c     functions and copies on a host thread, in stream order
 * cuda_bounce.c   pageable sources of a busy stream
 * cuda_point.c    events, pooled
 * cuda_gate.c     words that the host opens and streams wait for
 * cuda_function.c modules and launches; cuda_nvrtc.c the run-time compiler
 * cuda_graph.c    plans; cuda_graph_node.c their nodes, cuda_graph_capture.c from streams,
 *                 cuda_graph_replay.c made ready and launched; cuda_graph.h what these share
 */
#ifndef MR__CUDA_BACKEND_H
#define MR__CUDA_BACKEND_H

#include "backend/backend.h"
#include "backend/cuda/cuda_error.h"
#include "backend/cuda/cuda_symbols.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

struct cuda_device;

struct cuda_backend {
    struct mr_backend base;
    void *library;
    struct cuda_symbols cu;
    int driver_version; /* 13000 is 13.0 */
    uint32_t device_count;
    pthread_mutex_t lock;         /* the fields below */
    struct cuda_device **devices; /* the open ones by index, for peers; NULL where closed */
};

/* Pinned memory through which a busy queue takes its pageable sources. */
struct cuda_bounce {
    unsigned char *bytes;
    struct cuda_bounce *next;
};

/* Rows that a host thread copies (source) or fills with `value` (no source). */
struct cuda_host_job {
    unsigned char *target;
    const unsigned char *source;
    size_t target_pitch, source_pitch;
    size_t row_bytes, row_count;
    uint32_t value, value_bytes;
};

/* A pooled event. Points with and without timing live in pools of their own, and those of a capture in
 * the capturing thread's. */
struct cuda_point {
    struct mr_point base;
    struct cuda_device *device;
    CUevent event;
    bool has_timing;
    bool is_captured;
    pthread_t thread;       /* of that capture */
    atomic_bool is_reached; /* seen fired: the driver is not asked again */
    atomic_uint reference_count;
    struct cuda_point *next; /* in a pool */
};

/* Host work in flight. It is listed until it starts, so that the caller's functions run even when the
 * driver drops them behind a failure. */
struct cuda_call {
    struct cuda_device *device;
    struct cuda_queue *queue;        /* NULL: disowned, runs nothing */
    void (*function)(void *context); /* the caller's, or: */
    void *context;
    struct cuda_host_job job;          /* a copy or fill of host memory */
    struct cuda_call *previous, *next; /* in its queue's list; next: in the free list too */
};

/* What is known of the way to another device's memory. */
enum cuda_peer { CUDA_PEER_NONE, CUDA_PEER_REFUSED, CUDA_PEER_CORRUPT, CUDA_PEER_SOUND };
enum { CUDA_PEER_LIMIT = 64 };

struct cuda_device {
    struct mr_backend_device base;
    const struct cuda_symbols *cu;
    struct cuda_backend *backend;
    uint32_t index;
    CUdevice ordinal;
    CUcontext context; /* the primary context, retained */
    mr_device_properties properties;
    size_t pitch_limit;   /* of 2-D copies */
    bool can_wait_values; /* streams wait for words in host memory by themselves */
    bool can_register_read_only;
    atomic_bool wants_context;           /* see mr__cuda_is_unbound */
    CUmemoryPool pool;                   /* NULL without ordered pools */
    atomic_uchar peers[CUDA_PEER_LIMIT]; /* enum cuda_peer, by index */

    /* Points given back: [0] without, [1] with timing. Pushed one by one, taken all at once, which
     * is why no entry can come back between a look and an exchange. */
    _Atomic(struct cuda_point *) returned[2];

    pthread_mutex_t gate_lock; /* the two fields below */
    struct cuda_gate *gates;   /* free ones */
    struct cuda_gate_slab *gate_slabs;

    pthread_mutex_t bounce_lock; /* the field below */
    struct cuda_bounce *bounces; /* free ones */

    pthread_mutex_t call_lock; /* the calls below and every queue's list of calls */
    pthread_cond_t call_ended;
    struct cuda_call *calls; /* free ones */
    uint32_t disowned_count; /* already run behind a failure, but the driver still holds them */
};

struct cuda_queue {
    struct mr_queue base;
    struct cuda_device *device;
    CUstream stream;
    mr_stream_kind kind;
    bool is_owned;               /* destroyed with the queue */
    bool is_created;             /* no default stream: its handle means the same everywhere */
    pthread_t thread;            /* PER_THREAD: whose stream it is */
    CUevent tail;                /* PER_THREAD: after the newest work, for waits by other threads */
    struct cuda_bounce *bounce;  /* NULL until it is needed */
    struct cuda_point *spare[2]; /* points at hand for the recording thread */
    struct cuda_call *first_call; /* in flight, oldest first; under the device's call_lock */
    struct cuda_call *last_call;
    uint32_t running_count; /* calls that have started and not ended; likewise */
    /* What was submitted last is a launch, as far as we know: a launch may overlap its end. */
    atomic_bool ends_in_launch;
};

extern const struct mr_backend_ops mr__cuda_backend;

/* Downcasts. */
static inline struct cuda_backend *cuda_backend_from(struct mr_backend *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_backend *)base;
}

static inline struct cuda_device *cuda_device_from(struct mr_backend_device *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_device *)base;
}

static inline struct cuda_queue *cuda_queue_from(struct mr_queue *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_queue *)base;
}

static inline struct cuda_point *cuda_point_from(struct mr_point *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_point *)base;
}

/* Captures that this thread has running, and how it then treats calls that the driver takes for unsafe
 * in one (anything that may wait or allocate). */
extern _Thread_local uint32_t mr__cuda_capture_count;
extern _Thread_local int mr__cuda_capture_mode;

/*
 * Between the two the thread may make such calls while it captures: ours, about other streams than
 * the captured ones, harm no capture. Calls of others are refused by the driver, as they should be.
 */
static inline void mr__cuda_relax(const struct cuda_device *device)
{
    int mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    if (__builtin_expect(mr__cuda_capture_count != 0, 0))
        (void)device->cu->cuThreadExchangeStreamCaptureMode(&mode);
}

static inline void mr__cuda_tighten(const struct cuda_device *device)
{
    int mode = mr__cuda_capture_mode;
    if (__builtin_expect(mr__cuda_capture_count != 0, 0))
        (void)device->cu->cuThreadExchangeStreamCaptureMode(&mode);
}

/*
 * Makes the device's context current for this thread; mr__cuda_leave puts the caller's back. Other
 * code in the thread may change the current context at any time, so the driver is asked each time:
 * it keeps it in thread-local memory, and answers in a few nanoseconds.
 *
 *     bool is_pushed;
 *     CUresult result = mr__cuda_enter(device, &is_pushed);
 *     if (!result)
 *         result = device->cu->cuMemAlloc(&address, size_bytes);
 *     mr__cuda_leave(device, is_pushed);
 *
 * Work for a stream is safe in any capture: bind and unbind are the same for it, and cheaper there.
 */
static inline CUresult mr__cuda_bind(const struct cuda_device *device, bool *is_pushed)
{
    *is_pushed = false;
    CUcontext current = NULL;
    if (!device->cu->cuCtxGetCurrent(&current) && current == device->context)
        return CUDA_SUCCESS;
    CUresult result = device->cu->cuCtxPushCurrent(device->context);
    *is_pushed = !result;
    return result;
}

static inline void mr__cuda_unbind(const struct cuda_device *device, bool is_pushed)
{
    CUcontext popped;
    if (is_pushed)
        device->cu->cuCtxPopCurrent(&popped);
}

static inline CUresult mr__cuda_enter(const struct cuda_device *device, bool *is_pushed)
{
    mr__cuda_relax(device);
    return mr__cuda_bind(device, is_pushed);
}

static inline void mr__cuda_leave(const struct cuda_device *device, bool is_pushed)
{
    mr__cuda_unbind(device, is_pushed);
    mr__cuda_tighten(device);
}

/*
 * Copies, fills, and what is done with events need no current context where the stream was created
 * (it knows its own), on the drivers seen (580); CUDA's manual promises as much for another device's.
 * So the hot calls are made as they are, which saves 6 ns where the context is current and 27 where it
 * is not. A driver that answers that it misses the context is called again with it, and believed.
 *
 *     if (mr__cuda_is_unbound(queue)) {
 *         result = device->cu->cuEventRecord(event, queue->stream);
 *         if (!mr__cuda_misses_context(device, result))
 *             return result;
 *     }
 */
static inline bool mr__cuda_is_unbound(const struct cuda_queue *queue)
{
    return queue->is_created &&
           !atomic_load_explicit(&queue->device->wants_context, memory_order_relaxed);
}

static inline bool mr__cuda_misses_context(struct cuda_device *device, CUresult result)
{
    if (__builtin_expect(result != CUDA_ERROR_INVALID_CONTEXT, 1))
        return false;
    atomic_store_explicit(&device->wants_context, true, memory_order_relaxed);
    return true;
}

/* The entries, by file. What each does is said in backend.h. */

mr_status mr__cuda_device_open(struct mr_backend *backend, uint32_t index,
                               const mr_device_options *options, struct mr_backend_device **out);
void mr__cuda_device_close(struct mr_backend_device *device);
void mr__cuda_device_describe(struct mr_backend_device *device, mr_device_properties *properties);
mr_status mr__cuda_device_memory(struct mr_backend_device *device, uint64_t *free_bytes,
                                 uint64_t *total_bytes);
uint64_t mr__cuda_device_now_ns(struct mr_backend_device *device);
mr_status mr__cuda_device_synchronize(struct mr_backend_device *device);
void *mr__cuda_device_native(struct mr_backend_device *device);
bool mr__cuda_peer_possible(struct mr_backend_device *device, struct mr_backend_device *peer);

mr_status mr__cuda_memory_create(struct mr_backend_device *device, size_t size_bytes,
                                 mr_place place, struct mr_memory *out);
void mr__cuda_memory_destroy(struct mr_memory *memory);
mr_status mr__cuda_memory_create_ordered(struct mr_queue *queue, size_t size_bytes,
                                         struct mr_memory *out);
void mr__cuda_memory_destroy_ordered(struct mr_queue *queue, struct mr_memory *memory);
mr_status mr__cuda_memory_register(struct mr_backend_device *device, void *address,
                                   size_t size_bytes, struct mr_memory *out);
void mr__cuda_memory_unregister(struct mr_memory *memory);

mr_status mr__cuda_queue_create(struct mr_backend_device *device, mr_stream_kind kind, int priority,
                                struct mr_queue **out);
mr_status mr__cuda_queue_wrap(struct mr_backend_device *device, void *native,
                              struct mr_queue **out);
void mr__cuda_queue_destroy(struct mr_queue *queue);
void *mr__cuda_queue_native(struct mr_queue *queue);
mr_status mr__cuda_queue_query(struct mr_queue *queue);
mr_status mr__cuda_queue_wait(struct mr_queue *queue, uint64_t timeout_ns);

mr_status mr__cuda_copy(struct mr_queue *queue, const struct mr_transfer *transfer);
mr_status mr__cuda_fill(struct mr_queue *queue, const struct mr_memory *memory, size_t offset,
                        size_t size_bytes, uint32_t value, uint32_t value_bytes);
mr_status mr__cuda_call(struct mr_queue *queue, void (*function)(void *context), void *context);

mr_status mr__cuda_point_record(struct mr_queue *queue, bool has_timing, struct mr_point **out);
mr_status mr__cuda_point_renew(struct mr_queue *queue, bool has_timing, struct mr_point **point);
void mr__cuda_point_retain(struct mr_point *point);
void mr__cuda_point_release(struct mr_point *point);
mr_status mr__cuda_point_query(struct mr_point *point);
mr_status mr__cuda_point_wait(struct mr_point *point, uint64_t timeout_ns);
mr_status mr__cuda_point_elapsed(struct mr_point *start, struct mr_point *end, int64_t *elapsed_ns);
mr_status mr__cuda_queue_wait_point(struct mr_queue *queue, struct mr_point *point);

mr_status mr__cuda_gate_create(struct mr_backend_device *device, struct mr_gate **out);
void mr__cuda_gate_open(struct mr_gate *gate);
void mr__cuda_gate_destroy(struct mr_gate *gate);
mr_status mr__cuda_queue_wait_gate(struct mr_queue *queue, struct mr_gate *gate);

mr_status mr__cuda_launch(struct mr_queue *queue, struct mr_function *function,
                          const struct mr_function_launch *launch);
mr_status mr__cuda_function_create(struct mr_backend_device *device,
                                   const struct mr_function_source *source,
                                   struct mr_function **out);
void mr__cuda_function_destroy(struct mr_function *function);
const char *mr__cuda_function_signature(struct mr_function *function);

mr_status mr__cuda_capture_begin(struct mr_queue *queue);
mr_status mr__cuda_capture_end(struct mr_queue *queue, struct mr_plan **out);
mr_status mr__cuda_plan_create(struct mr_backend_device *device, struct mr_plan **out);
mr_status mr__cuda_plan_clone(const struct mr_plan *plan, struct mr_plan **out);
void mr__cuda_plan_destroy(struct mr_plan *plan);
mr_status mr__cuda_plan_add(struct mr_plan *plan, const struct mr_work *work, const uint32_t *after,
                            size_t after_count);
void mr__cuda_plan_size(const struct mr_plan *plan, size_t *node_count, size_t *edge_count);
mr_status mr__cuda_replay_create(const struct mr_plan *plan, const struct mr_binder *binder,
                                 struct mr_replay **out);
mr_status mr__cuda_replay_update(struct mr_replay *replay, const struct mr_plan *plan,
                                 const struct mr_binder *binder);
mr_status mr__cuda_replay_update_launch(struct mr_replay *replay, uint32_t node,
                                        struct mr_function *function,
                                        const struct mr_function_launch *launch);
mr_status mr__cuda_replay_launch(struct mr_replay *replay, struct mr_queue *queue);
mr_status mr__cuda_replay_upload(struct mr_replay *replay, struct mr_queue *queue);
void mr__cuda_replay_destroy(struct mr_replay *replay);
uint64_t mr__cuda_replay_memory(const struct mr_replay *replay);

/* Said after every submission to a queue: other threads wait for a PER_THREAD queue through its
 * tail, because the driver's handle means each caller's own stream. */
void mr__cuda_queue_mark_tail(struct cuda_queue *queue);

static inline void mr__cuda_queue_submitted(struct cuda_queue *queue)
{
    atomic_store_explicit(&queue->ends_in_launch, false, memory_order_relaxed);
    if (queue->kind == MR_STREAM_PER_THREAD)
        mr__cuda_queue_mark_tail(queue);
}

/* Whether the queue's work goes into a capture that this thread began. Costs nothing otherwise. */
bool mr__cuda_asks_captured(const struct cuda_queue *queue);

static inline bool mr__cuda_is_captured(const struct cuda_queue *queue)
{
    return __builtin_expect(mr__cuda_capture_count != 0, 0) && mr__cuda_asks_captured(queue);
}

/* Between files of this folder. */
mr_status mr__cuda_no_heap(const char *what);
CUresult mr__cuda_event_query(struct cuda_device *device, CUevent event);
CUresult mr__cuda_event_wait(struct cuda_device *device, CUevent event, uint64_t timeout_ns);
CUresult mr__cuda_point_acquire(struct cuda_device *device, bool has_timing,
                                struct cuda_point **at_hand, struct cuda_point **out);
void mr__cuda_points_destroy(struct cuda_device *device);
void mr__cuda_captured_points_destroy(void); /* the thread's last capture has ended */
void mr__cuda_peers_meet(struct cuda_device *device, struct cuda_device *peer);
void mr__cuda_point_give_back(struct cuda_device *device, struct cuda_point *points);
mr_status mr__cuda_gates_prepare(struct cuda_device *device);
void mr__cuda_gates_destroy(struct cuda_device *device);
mr_status mr__cuda_host_job(struct cuda_queue *queue, const struct cuda_host_job *job);
mr_status mr__cuda_bounce_copy(struct cuda_queue *queue, const struct mr_transfer *transfer);
void mr__cuda_bounce_give_back(struct cuda_device *device, struct cuda_bounce *bounce);
void mr__cuda_bounces_destroy(struct cuda_device *device);
void mr__cuda_calls_finish(struct cuda_queue *queue);
void mr__cuda_calls_destroy(struct cuda_device *device);

#endif
