/* SPDX-License-Identifier: MIT */
/*
 * Peers: devices that reach each other's memory. On some machines the driver allows it and the bytes that
 * arrive are wrong (a bridge or an IOMMU between them); so each way is tried once, when the second of the
 * two opens, and a way that is not sound is not used. A refusal is no failure: there is the host.
 */
#include "backend/cuda/cuda_backend.h"

#include <string.h>

enum { TRIAL_BYTES = 64 << 10, TRIAL_BLOCKS = 16, BLOCK_WORDS = TRIAL_BYTES / TRIAL_BLOCKS / 4 };

/* One way's trial: the peer's memory, twice as much, and as much of the device's. */
struct trial {
    struct cuda_device *device, *peer;
    CUdeviceptr mine, theirs;
    CUstream stream, peer_stream;
};

static uint32_t word_of(uint32_t block)
{
    return (block + 1) * 0x9e3779b9u;
}

/* From the ordered pool and on a stream of its own: a plain free, or a plain copy, would wait for other
 * streams, and what they wait for may never come meanwhile. */
static CUresult open_side(struct cuda_device *device, size_t size_bytes, CUdeviceptr *memory,
                          CUstream *stream)
{
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuStreamCreateWithPriority(stream, CU_STREAM_NON_BLOCKING, 0);
    if (!result)
        result = device->cu->cuMemAllocFromPoolAsync(memory, size_bytes, device->pool, *stream);
    if (!result)
        result = device->cu->cuStreamSynchronize(*stream);
    mr__cuda_leave(device, is_pushed);
    return result;
}

static void close_side(struct cuda_device *device, CUdeviceptr memory, CUstream stream)
{
    bool is_pushed;
    (void)mr__cuda_enter(device, &is_pushed);
    if (memory)
        (void)device->cu->cuMemFreeAsync(memory, stream);
    if (stream)
        (void)device->cu->cuStreamDestroy(stream);
    mr__cuda_leave(device, is_pushed);
}

static CUresult fill_theirs(const struct trial *trial)
{
    const struct cuda_symbols *cu = trial->peer->cu;
    bool is_pushed;
    CUresult result = mr__cuda_enter(trial->peer, &is_pushed);
    for (uint32_t i = 0; i < TRIAL_BLOCKS && !result; i++)
        result = cu->cuMemsetD32Async(trial->theirs + 4ull * BLOCK_WORDS * i, word_of(i),
                                      BLOCK_WORDS, trial->peer_stream);
    if (!result)
        result = cu->cuStreamSynchronize(trial->peer_stream);
    mr__cuda_leave(trial->peer, is_pushed);
    return result;
}

/* There and back by the device's own engines: both its reads and its writes. */
static CUresult copy_both_ways(const struct trial *trial)
{
    const struct cuda_symbols *cu = trial->device->cu;
    bool is_pushed;
    CUresult result = mr__cuda_enter(trial->device, &is_pushed);
    if (!result)
        result = cu->cuMemcpyPeerAsync(trial->mine, trial->device->context, trial->theirs,
                                       trial->peer->context, TRIAL_BYTES, trial->stream);
    if (!result)
        result =
            cu->cuMemcpyPeerAsync(trial->theirs + TRIAL_BYTES, trial->peer->context, trial->mine,
                                  trial->device->context, TRIAL_BYTES, trial->stream);
    if (!result)
        result = cu->cuStreamSynchronize(trial->stream);
    mr__cuda_leave(trial->device, is_pushed);
    return result;
}

static CUresult compare(const struct trial *trial, bool *is_sound)
{
    static uint32_t words[TRIAL_BYTES / 4]; /* under the backend's lock */
    bool is_pushed;
    CUresult result = mr__cuda_enter(trial->peer, &is_pushed);
    memset(words, 0, sizeof words);
    if (!result)
        result = trial->peer->cu->cuMemcpyAsync((CUdeviceptr)(uintptr_t)words,
                                                trial->theirs + TRIAL_BYTES, TRIAL_BYTES,
                                                trial->peer_stream);
    if (!result)
        result = trial->peer->cu->cuStreamSynchronize(trial->peer_stream);
    mr__cuda_leave(trial->peer, is_pushed);
    *is_sound = !result;
    for (uint32_t i = 0; i < TRIAL_BYTES / 4 && *is_sound; i++)
        *is_sound = words[i] == word_of(i / BLOCK_WORDS);
    return result;
}

static enum cuda_peer try_way(struct cuda_device *device, struct cuda_device *peer)
{
    struct trial trial = { .device = device, .peer = peer };
    bool is_sound = false;
    CUresult result = open_side(peer, 2 * TRIAL_BYTES, &trial.theirs, &trial.peer_stream);
    if (!result)
        result = open_side(device, TRIAL_BYTES, &trial.mine, &trial.stream);
    if (!result)
        result = fill_theirs(&trial);
    if (!result)
        result = copy_both_ways(&trial);
    if (!result)
        result = compare(&trial, &is_sound);
    close_side(device, trial.mine, trial.stream);
    close_side(peer, trial.theirs, trial.peer_stream);
    return result ? CUDA_PEER_REFUSED : is_sound ? CUDA_PEER_SOUND : CUDA_PEER_CORRUPT;
}

static enum cuda_peer meet(struct cuda_device *device, struct cuda_device *peer)
{
    const struct cuda_symbols *cu = device->cu;
    int is_possible = 0;
    if (cu->cuDeviceCanAccessPeer(&is_possible, device->ordinal, peer->ordinal) || !is_possible)
        return CUDA_PEER_NONE;

    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = cu->cuCtxEnablePeerAccess(peer->context, 0);
    mr__cuda_leave(device, is_pushed);
    if (result && result != CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED)
        return CUDA_PEER_REFUSED;

    const CUmemAccessDesc access = {
        .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device->ordinal },
        .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
    };
    if (!peer->pool || !device->pool)
        return CUDA_PEER_SOUND; /* not tried: these devices are older than the trouble */
    (void)cu->cuMemPoolSetAccess(peer->pool, &access, 1);
    return try_way(device, peer);
}

void mr__cuda_peers_meet(struct cuda_device *device, struct cuda_device *peer)
{
    if (peer->index < CUDA_PEER_LIMIT)
        atomic_store(&device->peers[peer->index], (unsigned char)meet(device, peer));
}

bool mr__cuda_peer_possible(struct mr_backend_device *base, struct mr_backend_device *other)
{
    const struct cuda_device *device = cuda_device_from(base), *peer = cuda_device_from(other);
    if (device == peer)
        return true;
    const enum cuda_peer known = peer->index < CUDA_PEER_LIMIT
                                     ? (enum cuda_peer)atomic_load(&device->peers[peer->index])
                                     : CUDA_PEER_NONE;
    if (known == CUDA_PEER_SOUND)
        return true;
    (void)mr_error_set(
        MR_E_UNSUPPORTED, "cuda:%u cannot reach the memory of cuda:%u: %s", device->index,
        peer->index,
        known == CUDA_PEER_CORRUPT
            ? "the driver allows it, but bytes that were copied to try it arrived "
              "wrong; copies go through the host"
        : known == CUDA_PEER_REFUSED
            ? "the driver says that it can, and failed to; copies go through the host"
            : "the driver knows no way; copies go through the host");
    return false;
}
