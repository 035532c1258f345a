/* SPDX-License-Identifier: MIT */
/*
 * millrace/device.h - something that runs streams: the CPU, or a GPU.
 *
 * A device is named "cpu", "cuda:0", "cuda:1"..., "cuda" (the same as "cuda:0") or "auto" (the first
 * CUDA device if a driver and a device are here, else the CPU). Opening the same device twice gives
 * the same object with its count raised.
 *
 * Ownership  mr_device_open gives the caller a count on the device; mr_device_close takes it back.
 *            A device outlives everything made on it.
 * Threads    Every call here is [any thread].
 * Errors     mr_status. No driver or no such device is MR_E_UNAVAILABLE with the reason in words. A GPU
 *            whose kernel trapped or used a bad address answers MR_E_DEVICE to every call until the
 *            process ends, and on the drivers seen (580) so does every other GPU of the process.
 */
#ifndef MR_DEVICE_H
#define MR_DEVICE_H

#include <millrace/status.h>

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_device mr_device;

#define MR_NAME_BYTES 128

/* Zero means the default for every field. Options count only for the first open of a device; a later
 * open with other options gives the device as it is. */
typedef struct mr_device_options {
    /* CPU: threads that run work; 0 = one per CPU this process may use; at most 1024. CUDA:
     * ignored. */
    uint32_t worker_count;
} mr_device_options;

/* What the device is and can do. Sizes in bytes; 0 where unknown. */
typedef struct mr_device_properties {
    char id[32];              /* "cpu", "cuda:0" */
    char name[MR_NAME_BYTES]; /* the maker's name */
    uint64_t memory_bytes;    /* total device memory */
    /* Engines that copy beside kernels: 0 none, 1 one way at a time, 2 or more both ways at
     * once. CPU: 0. */
    uint32_t copy_engine_count;
    uint32_t multiprocessor_count; /* CPU: worker threads */
    uint32_t threads_per_block_limit;
    uint32_t shared_bytes_per_block; /* CPU: 0 */
    int priority_lowest;             /* numerically largest; 0 */
    int priority_highest;            /* numerically smallest, for example -5 */
    uint32_t compute_major;          /* CUDA compute capability, "9" of 9.0 */
    uint32_t compute_minor;
    uint32_t driver_version; /* CUDA: 13000 is 13.0 */
    bool has_concurrent_kernels;
    bool can_overlap_copy_and_kernel;
    bool can_overlap_both_copies;
    bool has_ordered_pools; /* allocation in stream order */
    bool is_host_memory;    /* device memory is host memory: a copy to it can be left out */
    bool is_integrated;     /* shares its memory with the host by hardware */
    bool has_error_correction;
    uint32_t pci_domain, pci_bus, pci_device; /* CUDA: its place on the bus */
    int numa_node;                            /* host memory nearest to it; -1 unknown */
} mr_device_properties;

/* Opens a device by name. `options` may be NULL. May block (the CUDA driver starts on first use; its
 * primary context is adopted, never replaced). */
MR_API MR_MUST_USE mr_status mr_device_open(const char *name, const mr_device_options *options,
                                            mr_device **out);

/* Gives the count back; the last one closes the device. Everything made on it must be gone: a device
 * with live children stays open and the answer is MR_E_BUSY. NULL is accepted. May block. */
MR_API mr_status mr_device_close(mr_device *device);

/* Fills `properties`. */
MR_API void mr_device_describe(const mr_device *device, mr_device_properties *properties);

/* "cpu", "cuda:0". Lives as long as the device. */
MR_API const char *mr_device_id(const mr_device *device);

/* Bytes of device memory free and in all, now. CPU: of the machine, or what limits of the process leave
 * of it. May block. */
MR_API MR_MUST_USE mr_status mr_device_memory(mr_device *device, uint64_t *free_bytes,
                                              uint64_t *total_bytes);

/* The device's clock in nanoseconds, steady, with an origin of its own. Code that times a pipeline
 * reads this clock and no other. Never blocks. */
MR_API uint64_t mr_device_now_ns(const mr_device *device);

/* True when `device` can read and write the memory of `peer` directly, which has been tried: a way that
 * the driver allows and that brings wrong bytes is none. False leaves the reason in mr_last_error(),
 * unless the two are of different backends. */
MR_API bool mr_device_can_peer(const mr_device *device, const mr_device *peer);

/* Waits until every stream of the device is idle. For ends of programs and tests: the library itself
 * never calls it. May block. */
MR_API MR_MUST_USE mr_status mr_device_synchronize(mr_device *device);

/* The native handle: CUcontext as an address for CUDA, NULL for the CPU. */
MR_API void *mr_device_native(const mr_device *device);

/* One line of what could be here: each backend answers with its devices, or with why it has none. */
typedef struct mr_device_listing {
    char id[32]; /* "cpu", "cuda:0"; "cuda" when the backend has no device */
    bool is_available;
    char reason[256]; /* why not, and how to get it; "" when available */
} mr_device_listing;

/* Writes at most `capacity` lines and the number there is to `*count`. Never fails for lack of a
 * driver. May block (the driver starts). */
MR_API MR_MUST_USE mr_status mr_device_list(mr_device_listing *lines, size_t capacity,
                                            size_t *count);

#ifdef __cplusplus
}
#endif
#endif
