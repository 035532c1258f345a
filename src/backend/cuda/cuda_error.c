/* SPDX-License-Identifier: MIT */
/*
 * All translation of driver answers: to a status, and to words with the driver's own name and text.
 */
#include "backend/cuda/cuda_error.h"

#include <stdio.h>

mr_status mr__cuda_status(CUresult result)
{
    switch (result) {
    case CUDA_SUCCESS:
        return MR_OK;
    case CUDA_ERROR_NOT_READY:
        return MR_E_BUSY;
    case CUDA_ERROR_OUT_OF_MEMORY:
        return MR_E_NO_MEMORY;
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_STUB_LIBRARY:
    case CUDA_ERROR_SYSTEM_NOT_READY:
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        return MR_E_UNAVAILABLE;
    case CUDA_ERROR_NOT_SUPPORTED:
        return MR_E_UNSUPPORTED;
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
    case CUDA_ERROR_STREAM_CAPTURE_MERGE:
    case CUDA_ERROR_STREAM_CAPTURE_UNMATCHED:
    case CUDA_ERROR_STREAM_CAPTURE_UNJOINED:
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
    case CUDA_ERROR_CAPTURED_EVENT:
    case CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
        return MR_E_STATE;
    case CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE:
        return MR_E_MISMATCH;
    default:
        return MR_E_DEVICE;
    }
}

/* What the user can do about it; "" where the driver's text says all there is. */
static const char *remedy(CUresult result)
{
    switch (result) {
    case CUDA_ERROR_NO_DEVICE:
        return "; check that nvidia-smi lists a GPU and that CUDA_VISIBLE_DEVICES does not hide it";
    case CUDA_ERROR_STUB_LIBRARY:
        return "; the library found is the toolkit's stub: put the driver's own libcuda.so.1 first";
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
        return "; another process may hold the GPU in exclusive mode";
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        return "; the kernel module and libcuda.so.1 differ in version: reboot after the update";
    case CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED:
        return "; a part of the range is pinned already: register the whole of it once";
    case CUDA_ERROR_STREAM_CAPTURE_UNJOINED:
        return "; let the stream that began wait for an event at the end of each that joined in";
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
        return "; a blocking stream is being captured, and the legacy default stream would wait "
               "for "
               "it: capture a non-blocking stream";
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_PC:
        return "; a kernel went outside its memory: run the program under compute-sanitizer to "
               "find "
               "it; every later call on this GPU fails until the process ends";
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
        return "; every later call on this GPU fails until the process ends";
    default:
        return "";
    }
}

mr_status mr__cuda_error(const struct cuda_symbols *cu, CUresult result, const char *format, ...)
{
    mr_status status = mr__cuda_status(result);
    if (status == MR_OK || status == MR_E_BUSY)
        return status;

    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);

    const char *name = NULL, *text = NULL;
    if (cu->cuGetErrorName(result, &name) || !name)
        name = "an error that the driver has no name for";
    if (cu->cuGetErrorString(result, &text) || !text)
        text = "no text";
    return mr_error_set(status, "%s: %s (%d), %s%s", what, name, result, text, remedy(result));
}
