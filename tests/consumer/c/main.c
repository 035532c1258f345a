/* SPDX-License-Identifier: MIT */
/* Fills a buffer on the CPU device and looks at what is there. */
#include <millrace/millrace.h>

#include <stdio.h>

int main(void)
{
    mr_device *device;
    mr_stream *stream;
    mr_buffer *buffer;
    if (mr_version() != MR_VERSION || mr_device_open("cpu", NULL, &device) ||
        mr_stream_create(device, NULL, &stream) || mr_buffer_create(device, 4096, NULL, &buffer) ||
        mr_fill(stream, buffer, 0, 4096, 7, 1) || mr_stream_wait(stream)) {
        fprintf(stderr, "consumer: %s\n", mr_last_error());
        return 1;
    }
    const unsigned char *bytes = mr_buffer_host(buffer);
    const int is_filled = bytes[0] == 7 && bytes[4095] == 7;

    mr_buffer_destroy(buffer);
    mr_stream_destroy(stream);
    return !is_filled || mr_device_close(device) != MR_OK;
}
