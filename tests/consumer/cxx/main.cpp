/* SPDX-License-Identifier: MIT */
/* Runs a function in stream order from C++. */
#include <millrace/millrace.h>

#include <cstdio>

static mr_status add_one(void *context)
{
    ++*static_cast<int *>(context);
    return MR_OK;
}

int main()
{
    mr_device *device = nullptr;
    mr_stream *stream = nullptr;
    int calls = 0;
    if (mr_device_open("cpu", nullptr, &device) || mr_stream_create(device, nullptr, &stream) ||
        mr_stream_call(stream, add_one, &calls) || mr_stream_call(stream, add_one, &calls) ||
        mr_stream_wait(stream)) {
        std::fprintf(stderr, "consumer: %s\n", mr_last_error());
        return 1;
    }
    mr_stream_destroy(stream);
    return calls != 2 || mr_device_close(device) != MR_OK;
}
