/* SPDX-License-Identifier: MIT */
/* A shared object as users write them: stages for the tests of jobs. */
#include <millrace/pipeline.h>

#include <stdlib.h>
#include <string.h>

struct settings {
    uint64_t fail_at;
    uint32_t fail_attempts; /* this many attempts of that item fail */
};

/* "ITEM" or "ITEM ATTEMPTS". */
MR_API mr_status settings_open(const char *arguments, void **context)
{
    struct settings *settings = calloc(1, sizeof *settings);
    if (!settings)
        return MR_E_NO_MEMORY;
    char *rest = NULL;
    settings->fail_at = arguments ? strtoull(arguments, &rest, 10) : UINT64_MAX;
    settings->fail_attempts = rest && *rest ? (uint32_t)strtoul(rest, NULL, 10) : UINT32_MAX;
    *context = settings;
    return MR_OK;
}

MR_API void settings_close(void *context)
{
    free(context);
}

MR_API mr_status open_refuses(const char *arguments, void **context)
{
    (void)context;
    return mr_error_set(MR_E_CALLBACK, "no settings called '%s'", arguments ? arguments : "");
}

/* Every byte by its complement. */
MR_API mr_status invert(void *context, mr_host_call *call)
{
    const struct settings *settings = context;
    for (uint32_t k = 0; k < call->item_count; k++) {
        const uint64_t index = call->first_index + k;
        if (settings && index == settings->fail_at && call->attempt < settings->fail_attempts)
            return mr_error_set(MR_E_CALLBACK, "item %d has no sync word", (int)index);
        const unsigned char *in =
            (const unsigned char *)call->inputs[0] + k * call->input_strides[0];
        unsigned char *out = (unsigned char *)call->output + k * call->output_stride;
        for (size_t i = 0; i < call->input_sizes[0][k]; i++)
            out[i] = (unsigned char)~in[i];
    }
    return MR_OK;
}

/* A copy on the device. */
MR_API mr_status duplicate(void *context, mr_stage_call *call)
{
    (void)context;
    return mr_copy(call->stream, call->output->buffer, call->output->offset, call->inputs[0].buffer,
                   call->inputs[0].offset, call->inputs[0].sizes[0]);
}
