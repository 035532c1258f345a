/* SPDX-License-Identifier: MIT */
/*
 * millrace/kernel.h - a function over buffers that runs on a device.
 *
 * A kernel comes from portable C source (portable.h: one file for the CPU and the GPU), from CUDA
 * source (compiled by NVRTC at run time), from a PTX, cubin or fatbin image, from a native function
 * (CPU), or by name from those embedded in the library. Compiled code is cached on disk, keyed by the
 * source, the compiler, its flags and the device's architecture.
 *
 * Every kernel has a signature: its parameters in order, each an access (in, out, inout, or value), a
 * type and a name, written as text: "in f32 source, out f32 target, value f32 scale, value u64 count".
 * A launch is checked against it before anything is queued.
 *
 * Ownership  mr_kernel_create gives; mr_kernel_destroy takes, after its launches have ended (it waits
 *            for none: destroy streams or wait first).
 * Threads    Launching is [any thread], each on its own stream.
 * Errors     MR_E_COMPILE with file, line and the compiler's words; MR_E_SIGNATURE naming the
 *            parameter, what was declared and what came.
 */
#ifndef MR_KERNEL_H
#define MR_KERNEL_H

#include <millrace/buffer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_kernel mr_kernel;

typedef enum mr_type {
    MR_TYPE_U8 = 1,
    MR_TYPE_I8,
    MR_TYPE_U16,
    MR_TYPE_I16,
    MR_TYPE_U32,
    MR_TYPE_I32,
    MR_TYPE_U64,
    MR_TYPE_I64,
    MR_TYPE_F32,
    MR_TYPE_F64
} mr_type;

MR_API size_t mr_type_size(mr_type type);      /* bytes; 0 for no type. [any thread] */
MR_API const char *mr_type_name(mr_type type); /* "f32". Static. [any thread] */
MR_API mr_status mr_type_parse(const char *name, mr_type *out); /* "f32", "float32", "uint16"... */

typedef enum mr_access {
    MR_ACCESS_VALUE = 0, /* a number, passed by value */
    MR_ACCESS_IN = 1,    /* a buffer that is read */
    MR_ACCESS_OUT = 2,   /* a buffer that is written */
    MR_ACCESS_INOUT = 3  /* both */
} mr_access;

typedef struct mr_parameter {
    char name[48];
    mr_access access;
    mr_type type;
} mr_parameter;

#define MR_PARAMETER_LIMIT 24

/* A part of a launch, as a native function and a portable kernel on the CPU see it: part `index` of
 * `count`. A loop over n runs from n * index / count to n * (index + 1) / count. */
#ifndef MR_SLICE
#define MR_SLICE /* portable.h, which stands alone, says the same */
typedef struct mr_slice {
    uint32_t index;
    uint32_t count;
} mr_slice;
#endif

/* `arguments[k]` points to the k-th argument: to the first element of a buffer's range, or to the
 * number, in the parameter's type. Called on several threads at once with different slices. */
typedef void (*mr_native_kernel)(const mr_slice *slice, void *const *arguments);

typedef enum mr_kernel_language {
    /* C source with <millrace/portable.h>; CPU: compiled with the system's C compiler ($CC, cc,
     * gcc or clang); GPU: with NVRTC. */
    MR_KERNEL_PORTABLE = 0,
    MR_KERNEL_CUDA = 1,  /* CUDA source; GPU only */
    MR_KERNEL_IMAGE = 2, /* PTX, cubin or fatbin; GPU only */
    MR_KERNEL_NATIVE = 3 /* a C function; CPU only */
} mr_kernel_language;

typedef struct mr_kernel_options {
    mr_kernel_language language;
    const char *name;    /* the entry point (extern "C" in CUDA source). Required; copied */
    const char *path;    /* read the source or image from this file, or: */
    const char *source;  /* the source as text, or the image's bytes; borrowed for the call */
    size_t source_bytes; /* of an image; 0 for text */
    /* Required for CUDA, IMAGE and NATIVE. PORTABLE: NULL takes the source's own; text must
     * equal it, else MR_E_SIGNATURE. */
    const char *signature;
    const char *flags;         /* more compiler flags, separated by blanks; copied */
    mr_native_kernel function; /* NATIVE */
    bool is_cache_off;         /* compile afresh and keep nothing on disk */
    /* A promise: iteration i reads and writes element i of each buffer and nothing else, writes element i
     * of each that is `out`, and there are as many as a launch's `count`, which a parameter "value u64
     * count" repeats. The CPU then runs such launches that follow each other tile by tile, while their
     * data is in the first cache, and stores around the caches what goes to memory larger than they are. */
    bool is_element_wise;
    /* CUDA, IMAGE: a promise: each thread executes griddepcontrol.wait (cudaGridDependencySynchronize)
     * before it touches memory. GPUs of compute capability 9.0 or more then set the grid up while the one
     * before it in the stream ends (programmatic dependent launch); elsewhere nothing changes. Portable
     * kernels wait by themselves: for them it is ignored. */
    bool is_dependent_launch;
} mr_kernel_options;

/* May block (compiles). */
MR_API MR_MUST_USE mr_status mr_kernel_create(mr_device *device, const mr_kernel_options *options,
                                              mr_kernel **out);

/* A kernel embedded in the library: see mr_kernel_embedded_name for which. Needs no compiler. */
MR_API MR_MUST_USE mr_status mr_kernel_open(mr_device *device, const char *name, mr_kernel **out);

/* The index-th embedded kernel's name, NULL past the last. [any thread] */
MR_API const char *mr_kernel_embedded_name(size_t index);

MR_API void mr_kernel_destroy(mr_kernel *kernel);

MR_API const char *mr_kernel_name(const mr_kernel *kernel);
MR_API size_t mr_kernel_parameter_count(const mr_kernel *kernel);
MR_API const mr_parameter *mr_kernel_parameters(const mr_kernel *kernel);

/* Parses a signature; writes at most MR_PARAMETER_LIMIT parameters. MR_E_FORMAT says where. */
MR_API MR_MUST_USE mr_status mr_signature_parse(const char *text, mr_parameter *parameters,
                                                size_t *count);

/* One argument. Made by the functions below; buffers are borrowed until the launch has run. */
typedef struct mr_argument {
    mr_access access; /* VALUE, or anything else for a buffer */
    mr_type type;     /* of a value; 0 for a buffer: any element type */
    mr_buffer *buffer;
    size_t offset;     /* bytes into the buffer; a multiple of the element's size */
    size_t size_bytes; /* of the range; 0 = to the end. Used for checks and records */
    union {
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } value;
} mr_argument;

MR_API mr_argument mr_argument_buffer(mr_buffer *buffer);
MR_API mr_argument mr_argument_range(mr_buffer *buffer, size_t offset, size_t size_bytes);
/* Integers fit any integer parameter that can hold them. */
MR_API mr_argument mr_argument_u64(uint64_t value);
MR_API mr_argument mr_argument_i64(int64_t value);
MR_API mr_argument mr_argument_f32(float value);  /* fits f32 and f64 */
MR_API mr_argument mr_argument_f64(double value); /* fits f64, and f32 by rounding */

/* The shape of a launch. Zero means auto for every field but `count`. */
typedef struct mr_launch {
    uint64_t count;        /* portable and native kernels: iterations of the outer loop */
    uint32_t grid[3];      /* blocks; auto: from count for portable kernels, else required */
    uint32_t block[3];     /* threads in a block; auto 256 */
    uint32_t shared_bytes; /* dynamic shared memory in a block */
    uint32_t slice_limit;  /* CPU: parts at most; 1 keeps the launch on one worker */
} mr_launch;

/* Enqueues. Never blocks. */
MR_API MR_MUST_USE mr_status mr_kernel_launch(mr_stream *stream, mr_kernel *kernel,
                                              const mr_launch *launch, const mr_argument *arguments,
                                              size_t argument_count);

/* Where compiled kernels are kept: `path` is copied; NULL goes back to the default,
 * $MILLRACE_CACHE, else $XDG_CACHE_HOME/millrace, else ~/.cache/millrace. [any thread] */
MR_API mr_status mr_kernel_cache_set(const char *path);

/* Bytes that are kept there at most: what was used longest ago goes first, whenever something is added.
 * 0 goes back to the default, $MILLRACE_CACHE_LIMIT (bytes, or with K, M, G or T), else 1 GiB. [any
 * thread] */
MR_API void mr_kernel_cache_limit(uint64_t size_bytes);

#ifdef __cplusplus
}
#endif
#endif
