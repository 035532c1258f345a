/* SPDX-License-Identifier: MIT */
/*
 * Preprocess, encode, decode: three stages of a pipeline, each on a stream of its own, as in a model
 * that reads images. The first turns bytes into normalised floats, the second multiplies each patch of
 * the image with a matrix of weights, the third picks the likeliest word for each patch. While one
 * image is decoded, the next is encoded and the one after that preprocessed.
 *
 *     08_preprocess_encode_decode [DEVICE]
 *
 * Prints: 200 images in 9.1 ms, 3200 words, all as they were drawn
 */
#include "check.h"

enum { IMAGES = 200, PATCHES = 16, PIXELS = 64, WORDS = 32, IMAGE = PATCHES * PIXELS };

static const char model_text[] =
    "#include <millrace/portable.h>\n"
    "enum { PIXELS = 64, WORDS = 32 };\n"
    "MR_KERNEL(preprocess, MR_IN(uint8_t, image), MR_OUT(float, pixels),\n"
    "          MR_VALUE(uint64_t, count))\n"
    "{\n"
    "    MR_EACH (i, count)\n"
    "        pixels[i] = (float)image[i] / 64 - 2;\n"
    "}\n"
    "MR_KERNEL(encode, MR_IN(float, pixels), MR_IN(float, weights), MR_OUT(float, scores),\n"
    "          MR_VALUE(uint64_t, count))\n"
    "{\n"
    "    MR_EACH (i, count) {\n"
    "        const uint64_t patch = i / WORDS, word = i % WORDS;\n"
    "        float sum = 0;\n"
    "        for (int k = 0; k < PIXELS; k++)\n"
    "            sum += pixels[patch * PIXELS + k] * weights[k * WORDS + word];\n"
    "        scores[i] = sum;\n"
    "    }\n"
    "}\n"
    "MR_KERNEL(decode, MR_IN(float, scores), MR_OUT(uint32_t, best), MR_VALUE(uint64_t, count))\n"
    "{\n"
    "    MR_EACH (i, count) {\n"
    "        uint32_t word = 0;\n"
    "        for (uint32_t w = 1; w < WORDS; w++)\n"
    "            word = scores[i * WORDS + w] > scores[i * WORDS + word] ? w : word;\n"
    "        best[i] = word;\n"
    "    }\n"
    "}\n";

/* Each word is a pattern of 64 bright and dark pixels, and no two agree in more than half of them.
 * Each patch of an image shows a word. */
static int sign_at(uint32_t word, uint32_t pixel)
{
    return __builtin_parity(word & pixel) ? -1 : 1;
}

static uint32_t word_of(uint64_t image, uint32_t patch)
{
    return (uint32_t)(image * 7 + patch * 5) % WORDS;
}

static mr_status load(void *context, mr_source_item *item)
{
    (void)context;
    if (item->index == IMAGES)
        return MR_END;
    for (uint32_t i = 0; i < IMAGE; i++)
        ((uint8_t *)item->data)[i] =
            (uint8_t)(128 + 64 * sign_at(word_of(item->index, i / PIXELS), i % PIXELS));
    item->size_bytes = IMAGE;
    return MR_OK;
}

struct layer {
    const char *name;
    uint64_t count; /* results of one image, 4 bytes each */
    mr_kernel *kernel;
    mr_buffer *weights; /* of encode */
};

/* Enqueues a layer's kernel: the stage before has its results ready in this stream's order. */
static mr_status apply(void *context, mr_stage_call *call)
{
    const struct layer *layer = context;
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    mr_argument arguments[4];
    size_t n = 0;
    arguments[n++] = mr_argument_range(in->buffer, in->offset, in->sizes[0]);
    if (layer->weights)
        arguments[n++] = mr_argument_buffer(layer->weights);
    arguments[n++] = mr_argument_range(out->buffer, out->offset, out->sizes[0]);
    arguments[n++] = mr_argument_u64(layer->count);
    return mr_kernel_launch(call->stream, layer->kernel, &(mr_launch){ .count = layer->count },
                            arguments, n);
}

static mr_status compare(void *context, const mr_sink_item *item)
{
    for (uint32_t patch = 0; patch < PATCHES; patch++, ++*(int *)context)
        EXPECT(((const uint32_t *)item->data)[patch] == word_of(item->index, patch));
    return MR_OK;
}

/* In pinned memory, which kernels read directly: enough for a small matrix. */
static void make_weights(mr_device *device, mr_buffer **weights)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    CHECK(mr_buffer_create(device, PIXELS * WORDS * sizeof(float), &pinned, weights));
    for (uint32_t i = 0; i < PIXELS * WORDS; i++)
        ((float *)mr_buffer_host(*weights))[i] = (float)sign_at(i % WORDS, i / WORDS);
}

int main(int argc, char **argv)
{
    static struct layer layers[] = { { .name = "preprocess", .count = IMAGE },
                                     { .name = "encode", .count = PATCHES * WORDS },
                                     { .name = "decode", .count = PATCHES } };
    mr_device *device = open_device(argc, argv);
    mr_pipeline *pipeline;
    mr_node node;
    int count = 0; /* words compared */
    make_weights(device, &layers[1].weights);
    CHECK(mr_pipeline_create(NULL, &pipeline));
    CHECK(mr_pipeline_add_source(pipeline,
                                 &(mr_source_options){ .next = load, .item_bytes = IMAGE }, &node));
    for (int i = 0; i < 3; i++) {
        struct layer *layer = &layers[i];
        const mr_kernel_options options = { .name = layer->name, .source = model_text };
        CHECK(mr_kernel_create(device, &options, &layer->kernel));
        CHECK(mr_pipeline_add_stage(pipeline,
                                    &(mr_stage_options){ .name = layer->name,
                                                         .device = device,
                                                         .submit = apply,
                                                         .context = layer,
                                                         .output_bytes = layer->count * 4 },
                                    &node));
    }
    CHECK(mr_pipeline_add_sink(pipeline, &(mr_sink_options){ .take = compare, .context = &count },
                               &node));
    CHECK(mr_pipeline_run(pipeline));
    const mr_pipeline_report *report;
    CHECK(mr_pipeline_report_get(pipeline, &report));
    EXPECT(count == IMAGES * PATCHES);
    printf("%d images in %.1f ms, %d words, all as they were drawn\n", IMAGES,
           (double)report->elapsed_ns / 1e6, count);

    mr_pipeline_destroy(pipeline);
    mr_buffer_destroy(layers[1].weights);
    for (int i = 0; i < 3; i++)
        mr_kernel_destroy(layers[i].kernel);
    CHECK(mr_device_close(device));
    return 0;
}
