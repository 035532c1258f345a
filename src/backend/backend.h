/* SPDX-License-Identifier: MIT */
/*
 * backend/backend.h - the seam: what a backend must do, and what core promises it.
 *
 * Core checks, backends trust: arguments are in range, handles belong together, sizes are not zero and
 * objects are alive. Backends set the thread's words (mr_error_set) where a failure begins.
 *
 * Objects are structs of the backend that embed the base struct below as their first member; each
 * backend has one checked downcast per object. Entries are required unless marked optional (NULL).
 * Unless an entry says "may block" it never waits for the device.
 */
#ifndef MR__BACKEND_H
#define MR__BACKEND_H

#include <millrace/kernel.h>

/* Base structs. `ops` is set by the backend that creates the object. */
struct mr_backend_ops;

struct mr_backend {
    const struct mr_backend_ops *ops;
};
struct mr_backend_device {
    const struct mr_backend_ops *ops;
    struct mr_backend *backend;
};
struct mr_queue {
    const struct mr_backend_ops *ops;
    struct mr_backend_device *device;
};
/* A snapshot of a queue: reached when everything submitted before it has ended. Reference counted by
 * the backend; valid after its queue is gone. */
struct mr_point {
    const struct mr_backend_ops *ops;
};
/* Opened once by a host thread; queues wait for it. How a queue waits for another backend's point. */
struct mr_gate {
    const struct mr_backend_ops *ops;
};
struct mr_function {
    const struct mr_backend_ops *ops;
};
/* A description of work: nodes numbered 1, 2, 3... in the order of adding, and their order. */
struct mr_plan {
    const struct mr_backend_ops *ops;
    struct mr_backend_device *device;
};
/* A plan made ready to launch. */
struct mr_replay {
    const struct mr_backend_ops *ops;
    struct mr_backend_device *device;
};

/* One allocation or adopted range. `host` and `address` as in mr_buffer_host and mr_buffer_address.
 * Memory of another backend comes to copy and fill as pageable host memory of the queue's device. */
struct mr_memory {
    void *host;
    uint64_t address;
    size_t size_bytes;
    mr_place place;
    struct mr_backend_device *device;
    void *handle; /* the backend's own */
};

/* A copy; row_count 1 is a plain copy. Offsets are in the memories. */
struct mr_transfer {
    const struct mr_memory *target, *source;
    size_t target_offset, source_offset;
    size_t target_pitch, source_pitch;
    size_t row_bytes, row_count;
};

/* What function_create compiles or loads. */
struct mr_function_source {
    mr_kernel_language language;
    const char *name;
    const char *text; /* PORTABLE, CUDA: zero-terminated source. IMAGE: the bytes */
    size_t text_bytes;
    const char *path;         /* for messages; "<memory>" when there is none */
    const char *flags;        /* may be NULL */
    const char *cache_path;   /* folder for compiled code; NULL = keep nothing. Exists, writable */
    uint64_t cache_bytes;     /* what may be kept there in all */
    mr_native_kernel native;  /* NATIVE, and embedded portable kernels on the CPU */
    const char *image;        /* embedded portable kernels on a GPU: `text` as PTX, tried first;
                                  NULL when the build had no compiler for it */
    bool is_dependent_launch; /* CUDA, IMAGE: the code begins by waiting for the grid before it */
};

/* Arguments are checked and converted: `values[k]` points to a device address (uint64_t, 8 bytes; the
 * host address on the CPU) or to the number in its declared type. Backends copy what they need. */
struct mr_function_launch {
    mr_launch shape; /* as the caller gave it: zeros mean auto */
    const mr_parameter *parameters;
    void *const *values;
    size_t value_count;
    /* Iteration i touches element i of each buffer alone and writes all it puts out; `count` is the
     * number of iterations. Then `memory_bytes[k]` is the size of the whole memory that argument k lies
     * in, else it may be NULL. */
    bool is_element_wise;
    const size_t *memory_bytes;
};

/* What one node of a plan does. Backends copy what they need. */
enum mr_work_kind {
    MR_WORK_EMPTY,
    MR_WORK_COPY,
    MR_WORK_FILL,
    MR_WORK_LAUNCH,
    MR_WORK_CALL,
    MR_WORK_PLAN /* another plan's nodes, copied */
};

struct mr_work {
    enum mr_work_kind kind;
    union {
        const struct mr_transfer *transfer;
        struct {
            const struct mr_memory *memory;
            size_t offset, size_bytes;
            uint32_t value, value_bytes;
        } fill;
        struct {
            struct mr_function *function;
            const struct mr_function_launch *launch;
        } launch;
        struct {
            void (*function)(void *context); /* of core: called at each replay */
            void *context;                   /* a template: replays call what it is bound to */
        } call;
        const struct mr_plan *plan;
    } as;
};

/* Gives the context with which a replay calls a call node, in place of the plan's own: so core tells the
 * launches of two replays of one plan apart. Asked exactly once for every call node, those inside plans
 * that are nodes among them, on the calling thread, in any order; also before a refusal. Contexts, bound
 * or not, live as long as plans and replays that name them, and bound ones until the last launch with
 * them has ended. A bound context may itself be bound anew, when a captured launch put it in a plan. */
struct mr_binder {
    void *(*bind)(void *self, void *context);
    void *self;
};

struct mr_backend_ops {
    const char *name; /* "cpu", "cuda" */

    /* ---- device ---- any thread */

    /* Finds the backend. MR_E_UNAVAILABLE with words when it is not here. May block. */
    mr_status (*open)(struct mr_backend **out);
    void (*close)(struct mr_backend *backend);
    uint32_t (*device_count)(struct mr_backend *backend);
    /* May block. */
    mr_status (*device_open)(struct mr_backend *backend, uint32_t index,
                             const mr_device_options *options, struct mr_backend_device **out);
    void (*device_close)(struct mr_backend_device *device);
    void (*device_describe)(struct mr_backend_device *device, mr_device_properties *properties);
    mr_status (*device_memory)(struct mr_backend_device *device, uint64_t *free_bytes,
                               uint64_t *total_bytes);
    uint64_t (*device_now_ns)(struct mr_backend_device *device);
    mr_status (*device_synchronize)(struct mr_backend_device *device); /* may block */
    void *(*device_native)(struct mr_backend_device *device);

    /* ---- memory ---- any thread; may block, except the ordered pair */

    mr_status (*memory_create)(struct mr_backend_device *device, size_t size_bytes, mr_place place,
                               struct mr_memory *out);
    void (*memory_destroy)(struct mr_memory *memory);
    /* optional */
    mr_status (*memory_create_ordered)(struct mr_queue *queue, size_t size_bytes,
                                       struct mr_memory *out);
    /* optional; frees in the queue's order */
    void (*memory_destroy_ordered)(struct mr_queue *queue, struct mr_memory *memory);
    mr_status (*memory_register)(struct mr_backend_device *device, void *address, size_t size_bytes,
                                 struct mr_memory *out);
    void (*memory_unregister)(struct mr_memory *memory);

    /* ---- queue ---- creation by any thread; work by one thread at a time per queue */

    /* `kind` NON_BLOCKING or BLOCKING creates; LEGACY and PER_THREAD give the device's or the calling
     * thread's default queue. May block. */
    mr_status (*queue_create)(struct mr_backend_device *device, mr_stream_kind kind, int priority,
                              struct mr_queue **out);
    /* optional */
    mr_status (*queue_wrap)(struct mr_backend_device *device, void *native, struct mr_queue **out);
    /* Its work has ended (core waited). */
    void (*queue_destroy)(struct mr_queue *queue);
    void *(*queue_native)(struct mr_queue *queue);
    /* The first failure of work on the queue (with words set), MR_E_BUSY while there is work, else
     * MR_OK. Any thread. */
    mr_status (*queue_query)(struct mr_queue *queue);
    /* Any thread; may block. MR_E_TIMEOUT; MR_FOREVER is no limit. */
    mr_status (*queue_wait)(struct mr_queue *queue, uint64_t timeout_ns);

    /* ---- work ---- one thread at a time per queue; each is one submission in the queue's order */

    mr_status (*copy)(struct mr_queue *queue, const struct mr_transfer *transfer);
    mr_status (*fill)(struct mr_queue *queue, const struct mr_memory *memory, size_t offset,
                      size_t size_bytes, uint32_t value, uint32_t value_bytes);
    mr_status (*launch)(struct mr_queue *queue, struct mr_function *function,
                        const struct mr_function_launch *launch);
    /* `function` always runs, also behind a failure, so that its context can be freed. */
    mr_status (*call)(struct mr_queue *queue, void (*function)(void *context), void *context);

    /* ---- sync ---- record: one thread at a time per queue; the rest any thread */

    mr_status (*point_record)(struct mr_queue *queue, bool has_timing, struct mr_point **out);
    /* optional; there when records are cheap, so that core keeps none for later. Takes the caller's
     * count on `*point` (which may be NULL) and gives the record in its place: the same object when
     * nobody else holds it. On failure `*point` stays the caller's as it was. */
    mr_status (*point_renew)(struct mr_queue *queue, bool has_timing, struct mr_point **point);
    void (*point_retain)(struct mr_point *point);
    void (*point_release)(struct mr_point *point);
    /* MR_OK when reached, MR_E_BUSY before, or the device's failure. */
    mr_status (*point_query)(struct mr_point *point);
    /* May block. */
    mr_status (*point_wait)(struct mr_point *point, uint64_t timeout_ns);
    mr_status (*point_elapsed)(struct mr_point *start, struct mr_point *end, int64_t *elapsed_ns);
    /* The queue waits for a point of the same backend, any device of it. */
    mr_status (*queue_wait_point)(struct mr_queue *queue, struct mr_point *point);
    /* A gate belongs to the device of the queues that wait for it. Opened exactly once, by any thread;
     * destroyed by core after both the wait has passed and the gate was opened. */
    mr_status (*gate_create)(struct mr_backend_device *device, struct mr_gate **out);
    void (*gate_open)(struct mr_gate *gate);
    void (*gate_destroy)(struct mr_gate *gate);
    mr_status (*queue_wait_gate)(struct mr_queue *queue, struct mr_gate *gate);

    /* ---- kernels ---- any thread; may block */

    mr_status (*function_create)(struct mr_backend_device *device,
                                 const struct mr_function_source *source, struct mr_function **out);
    void (*function_destroy)(struct mr_function *function);
    /* The signature that portable source carries (mr_kernel.h), "" when there is none. */
    const char *(*function_signature)(struct mr_function *function);

    /* ---- graph ---- one thread at a time per plan and replay; optional, all or none */

    /* From here to capture_end what the thread submits to `queue` goes into a plan, and so does what it
     * submits to queues that wait for a point recorded in it (core knows which: it tracks forks, and
     * refuses what does not belong in a capture). `call` takes a template then, `has_timing` of records
     * means nothing. Points recorded meanwhile mark places in the plan; only queues that are or become
     * captured wait for them, nobody asks them, and they may be released at any time, also after the
     * end. point_renew is not called on captured queues, nor with points of a capture. Native work
     * counts. Thread-local: other threads are not disturbed, and this one may use the rest of the
     * device (other queues, memory, functions) as ever. */
    mr_status (*capture_begin)(struct mr_queue *queue);
    /* MR_E_STATE with words when the capture was broken. Ends it for all its queues, either way. Core has
     * seen to it that what it knows of is joined. Nodes of such a plan have no numbers that mean
     * anything to core, but plan_add goes on counting behind plan_size. */
    mr_status (*capture_end)(struct mr_queue *queue, struct mr_plan **out);

    mr_status (*plan_create)(struct mr_backend_device *device, struct mr_plan **out);
    mr_status (*plan_clone)(const struct mr_plan *plan, struct mr_plan **out);
    void (*plan_destroy)(struct mr_plan *plan);
    /* The new node is the plan's next number and comes after `after`. */
    mr_status (*plan_add)(struct mr_plan *plan, const struct mr_work *work, const uint32_t *after,
                          size_t after_count);
    void (*plan_size)(const struct mr_plan *plan, size_t *node_count, size_t *edge_count);

    /* The plan may go or change afterwards. May block. */
    mr_status (*replay_create)(const struct mr_plan *plan, const struct mr_binder *binder,
                               struct mr_replay **out);
    /* MR_E_MISMATCH with words when refused: the replay is as it was, and nothing sticks. Launches
     * submitted before keep what they had, contexts too. */
    mr_status (*replay_update)(struct mr_replay *replay, const struct mr_plan *plan,
                               const struct mr_binder *binder);
    /* `node` came from plan_add with MR_WORK_LAUNCH, with this function. */
    mr_status (*replay_update_launch)(struct mr_replay *replay, uint32_t node,
                                      struct mr_function *function,
                                      const struct mr_function_launch *launch);
    /* One submission in the queue's order; launches of one replay run one after the other, in the order
     * of these calls. On a captured queue it becomes a node, a plan of what the replay would run now. */
    mr_status (*replay_launch)(struct mr_replay *replay, struct mr_queue *queue);
    mr_status (*replay_upload)(struct mr_replay *replay, struct mr_queue *queue);
    /* Its launches have ended (core waited). */
    void (*replay_destroy)(struct mr_replay *replay);
    /* Bytes it holds, as far as known; 0 unknown. */
    uint64_t (*replay_memory)(const struct mr_replay *replay);

    /* ---- peer ---- any thread */

    bool (*peer_possible)(struct mr_backend_device *device, struct mr_backend_device *peer);
};

/* Every backend in the order in which "auto" tries them, NULL-terminated. src/backend/registry.c. */
extern const struct mr_backend_ops *const mr__backends[];

extern const struct mr_backend_ops mr__cpu_backend;
extern const struct mr_backend_ops mr__cuda_backend;

#endif
