/* SPDX-License-Identifier: MIT */
/*
 * vision/vision_model.h - the numbers of the vision job: what each is, how it is computed, and what
 * is enqueued for it. Files, pictures and the pipeline are elsewhere; the layouts are those of
 * docs/design/0002-vision.md.
 *
 *     image ──► textures ──┬► propositional ─┐
 *                          ├► perspectival ──┼► relevance ──► tokens ──► compressed
 *                          └► participatory ─┘
 *
 * Everything is a function of the image and the parameters alone, down to the last bit, on every
 * device: histograms are counts of the integer image; sums are of integers (values rounded to a
 * 16384th), so that their order is free; what is left is IEEE arithmetic in a fixed order. No host
 * wait stands between the image and the compressed array.
 *
 * ---- textures: 13 planes of f32, each height * width ----
 *
 *   0 1 2  R G B        0 to 1      as stored: value / 255 or / 65535 (IEC 61966-2-1, encoded)
 *   3 4 5  L a b        0 to 1, -0.68 to 0.77, -0.85 to 0.74: CIE 1976 L* / 100, a* / 128, b* / 128.
 *                       linear = c / 12.92 up to 0.04045, else ((c + 0.055) / 1.055)^2.4 (sRGB);
 *                       X Y Z over the white of D65 by the matrix of IEC 61966-2-1, each row over
 *                       its sum, so that white is white exactly and grey has a = b = 0 exactly;
 *                       f(t) = cbrt t above (6/29)^3, else t (29/6)^2 / 3 + 4/29; L* = 116 fy - 16,
 *                       a* = 500 (fx - fy), b* = 200 (fy - fz)
 *   6 7 8  Sobel x, y, magnitude    -1 to 1, -1 to 1, 0 to 1.119 (sqrt 5 / 2): of plane 12 with the
 *                       borders repeated; weights 1 2 1 across, -1 0 1 along, over 4; x grows to
 *                       the right, y downwards; magnitude sqrt(x^2 + y^2)
 *   9 10   x, y         -1 to 1     (2 i + 1 - width) / width: pixel centres, 0 in the middle
 *   11     eccentricity 0 to 1      distance in pixels from the image's centre, over a corner's
 *   12     luminance    0 to 1      linear Y: 0.2126 R + 0.7152 G + 0.0722 B of linear values
 *
 * ---- scores: four grids of f32, rows * columns each, 0 to 1 ----
 *
 *   0 propositional   how much there is to know. Half the Shannon entropy of the luminance
 *                     histogram and half that of the colour histogram of the patch, over 6 bits.
 *                     Luminance: 64 bins of (54 R + 183 G + 19 B) / 1024, whole numbers, of the
 *                     upper 8 bits of each channel (Rec. 709 weights, encoded values); colour: the
 *                     upper 2 bits of R, G, B.
 *   1 perspectival    what stands out. The patch's 4 x 4 cells, each against the box around it of
 *                     3, 5 and 9 cells a side (cut at the image's borders, itself left out):
 *                     distance of the mean colours (CIE 1976, over 100) plus that of the mean Sobel
 *                     magnitudes. Mean over scales and cells, cells by pixels, then over the
 *                     image's greatest, or over MR__VISION_CONTRAST_FLOOR where that is greater.
 *                     (After Itti, Koch and Niebur 1998, and Achanta et al. 2008.)
 *   2 participatory   how much it is like the query: cosine of the patch's descriptor and the
 *                     query's, each number times its weight; below 0 is 0. Without a query 0
 *                     everywhere.
 *   3 relevance       see mr__vision_parameters.
 *
 * ---- tokens: u32, rows * columns; their sum is the budget ----
 *
 *   Every patch gets the least. The rest is shared in proportion to relevance (rounded to a 2^24th,
 *   plus one of them, so that nothing is 0 by itself); a share that would pass the most is cut
 *   there, and what it leaves is shared among the others again. Parts of a token go to the largest
 *   remainders, equal ones to the first patch. Whole numbers throughout.
 *
 * ---- compressed: what the tokens can say of the textures ----
 *
 *   A patch of t tokens becomes a grid of at most t boxes, no finer than its pixels: the one whose
 *   boxes' longer sides are shortest, then of most boxes, then of most columns. Box borders are
 *   floor(i * size / boxes) within the patch; a value is the mean of the box's pixels.
 *
 * Threads  Functions without a device are [any thread]. A model is shared by any number of threads,
 *          each with its own streams and scorers.
 */
#ifndef MR__VISION_MODEL_H
#define MR__VISION_MODEL_H

#include <millrace/buffer.h>

enum {
    MR__VISION_CHANNELS = 13,
    MR__VISION_SCORES = 4,
    MR__VISION_DESCRIPTOR = 24,
    MR__VISION_PATCH_LIMIT = 16384,
    MR__VISION_SIDE_LIMIT = 65535 /* pixels */
};
#define MR__VISION_PIXEL_LIMIT ((uint64_t)1 << 30)
#define MR__VISION_BUDGET_LIMIT ((uint32_t)1 << 22)
#define MR__VISION_CONTRAST_FLOOR (1.0 / 64)

enum mr__vision_channel {
    MR__VISION_RED,
    MR__VISION_GREEN,
    MR__VISION_BLUE,
    MR__VISION_LAB_L,
    MR__VISION_LAB_A,
    MR__VISION_LAB_B,
    MR__VISION_SOBEL_X,
    MR__VISION_SOBEL_Y,
    MR__VISION_SOBEL,
    MR__VISION_X,
    MR__VISION_Y,
    MR__VISION_ECCENTRICITY,
    MR__VISION_LUMINANCE
};

enum mr__vision_score {
    MR__VISION_PROPOSITIONAL,
    MR__VISION_PERSPECTIVAL,
    MR__VISION_PARTICIPATORY,
    MR__VISION_RELEVANCE
};

/* "red", "Sobel x"... and "propositional"... Static. NULL past the last. */
const char *mr__vision_channel_name(uint32_t channel);
const char *mr__vision_score_name(uint32_t score);

/* ---- an image as it comes ---- */

/* Interleaved RGB without gaps, u8 or u16 (of this machine's order). */
struct mr__vision_image {
    const void *pixels;
    uint32_t width, height;
    uint32_t channel_bytes; /* 1 or 2 */
};

/* ---- the query ---- */

/*
 * A descriptor is 24 numbers of a patch:
 *    0 to 10  how much of it is black, grey, white, red, orange, yellow, green, blue, purple, pink,
 *             brown: each cell's mean colour belongs to each in the proportion exp(-d^2 / 2 s^2), d
 *             the CIE 1976 distance, s = 20; the proportions of a cell sum to 1, cells weigh by
 *             pixels
 *   11        mean L
 *   12 to 14  twice the standard deviations of L, a, b
 *   15        four times the mean Sobel magnitude, at most 1
 *   16 to 23  number 15 parted by the orientation of the gradient, each pixel by its magnitude: 0,
 *             22.5 ... 157.5 degrees from x towards y, nearest
 */
struct mr__vision_query {
    bool is_set;
    float vector[MR__VISION_DESCRIPTOR];
    float weights[MR__VISION_DESCRIPTOR]; /* at least 0 */
};

/* A colour: numbers 0 to 10 of its descriptor; the others weigh nothing. The 11 basic terms of
 * Berlin and Kay and the 16 basic colours of CSS; the basic term wins where both have the word.
 * Case does not matter. MR_E_INVALID names the nearest word. */
MR_MUST_USE mr_status mr__vision_query_from_word(const char *word, struct mr__vision_query *out);
/* The words that there are; NULL past the last. */
const char *mr__vision_query_word(uint32_t index);

/* A part of an image, as one patch; all weigh 1. Width and height 0: the whole image. MR_E_INVALID
 * where it lies outside. Computed here and now. */
MR_MUST_USE mr_status mr__vision_query_from_image(const struct mr__vision_image *image, uint32_t x,
                                                  uint32_t y, uint32_t width, uint32_t height,
                                                  struct mr__vision_query *out);

/* 24 numbers, or 24 and 24 weights. MR_E_INVALID: another count, one that is not finite, a weight
 * below 0, or nothing that weighs. */
MR_MUST_USE mr_status mr__vision_query_from_numbers(const float *numbers, size_t count,
                                                    struct mr__vision_query *out);

/* ---- parameters ---- */

enum { MR__VISION_COMPRESS, MR__VISION_EXPLOIT, MR__VISION_FOCUS, MR__VISION_TENSIONS };

/*
 * Zero means the default for every field. Relevance, with scores p, s, q of a patch:
 *
 *    base = (w0 p + w1 s + w2 q) / (w0 + w1 + w2), without a query w2 = 0
 *    z    = base + t0 g(s - p) + t1 g(q - (p + s) / 2) + t2 g(base - mean of base over the image)
 *    g(d) = 2 / (1 + exp(-4 d)) - 1, from -1 to 1; t1 counts only with a query
 *    relevance = exp((z - greatest z of the image) / temperature): a softmax, over its greatest
 */
struct mr__vision_parameters {
    /* Of patches; both 0 = auto: at most budget / 128 of them and near that, nearly square. */
    uint32_t columns, rows;
    uint32_t budget; /* tokens of an image; 0 = 4096 */
    /* Tokens of a patch, 1 to 65535; 0 = 64 and 400, or what the other needs if that is given: 1
     * below 64, the least above 400. */
    uint32_t least, most;
    float weights[3]; /* at least 0, at most 1e6; all 0 = 1, 1, 1 */
    /* -1 to 1 each: compress (1: the gist, what stands out) against particularise (-1: detail);
     * exploit (1: what was asked for) against explore (-1: what else there is); focus (1: on the
     * best) against diversify (-1). */
    float tensions[MR__VISION_TENSIONS];
    float temperature; /* 0 = 0.25; 0.01 to 100; high: nearly the same for all */
    struct mr__vision_query query;
};

/* Fills in defaults, in place, and checks the ranges. MR_E_INVALID names the field and its
 * range. */
MR_MUST_USE mr_status mr__vision_parameters_check(struct mr__vision_parameters *parameters);

/* ---- the plan of one image size ---- */

/* Where things are and how large. Grid borders: column i begins at floor(i * width / columns). */
struct mr__vision_plan {
    uint32_t width, height, channel_bytes;
    uint32_t columns, rows, patch_count;
    uint32_t budget, least, most;
    size_t image_bytes;    /* width * height * 3 * channel_bytes */
    size_t textures_bytes; /* width * height * 13 * 4 */
    size_t scores_bytes;   /* patch_count * 4 * 4 */
    /* The result: scores, tokens, boxes and compressed in one block, at these offsets in bytes. */
    size_t result_bytes;
    size_t scores_offset;      /* f32 [4][patch_count] */
    size_t tokens_offset;      /* u32 [patch_count] */
    size_t box_columns_offset; /* u32 [patch_count] */
    size_t box_rows_offset;    /* u32 [patch_count] */
    size_t box_first_offset;   /* u32 [patch_count + 1]: boxes before each patch; the last: all */
    /* f32: patch k from 13 * box_first[k] on, [13][box_rows[k]][box_columns[k]]. Room for the whole
     * budget; what lies beyond 13 * box_first[patch_count] is undefined. */
    size_t compressed_offset;
    size_t scratch_bytes; /* that scorers need */

    /* How the work is cut; of no use elsewhere. A patch has 4 x 4 cells, columns first. */
    uint32_t cell_columns, cell_rows;
    uint32_t histogram_rows, histogram_bands;     /* rows of a band, bands of a patch */
    uint32_t tile_cells, tile_columns;            /* cells across a tile, tiles across the image */
    uint32_t piece_segments, piece_bands, pieces; /* of a cell; pieces = segments * bands */
    size_t colour_offset, sums_offset;            /* in the scratch */
    /* In the result, behind what is of use: u32 [patch_count + 1], rows of boxes before each patch;
     * u32 [budget], the patch of each row; about how many rows there will be; and into how many
     * parts their channels are cut. */
    size_t row_first_offset, row_patch_offset;
    uint32_t likely_rows, channel_parts;
};

/* `parameters` as checked. MR_E_INVALID: the size is outside the limits, or a grid is given that is
 * finer than the pixels, or the budget cannot be met; the words name the budgets or grids that
 * can. */
MR_MUST_USE mr_status mr__vision_plan(const struct mr__vision_parameters *parameters,
                                      uint32_t width, uint32_t height, uint32_t channel_bytes,
                                      struct mr__vision_plan *out);

/* ---- the plain reference: one thread, libm, written to be read ---- */

/*
 * What the devices compute is held against these, each stage from the same inputs. Tokens and boxes
 * are equal. Floats differ at most by these bounds; those of the second and third score are wider,
 * as a device's sums are of values rounded to a 16384th.
 */
#define MR__VISION_BOUND_TEXTURES 4e-6f
#define MR__VISION_BOUND_PROPOSITIONAL 1e-6f
#define MR__VISION_BOUND_PERSPECTIVAL 1e-2f /* 1.5e-4 before it is put over the greatest */
#define MR__VISION_BOUND_PARTICIPATORY 2e-3f
#define MR__VISION_BOUND_RELEVANCE 1e-6f
#define MR__VISION_BOUND_COMPRESSED 2e-6f

void mr__vision_reference_textures(const struct mr__vision_plan *plan, const void *pixels,
                                   float *textures);
void mr__vision_reference_propositional(const struct mr__vision_plan *plan, const void *pixels,
                                        float *score);
void mr__vision_reference_perspectival(const struct mr__vision_plan *plan, const float *textures,
                                       float *score);
void mr__vision_reference_participatory(const struct mr__vision_plan *plan,
                                        const struct mr__vision_query *query, const float *textures,
                                        float *score);
/* Reads scores 0 to 2, writes 3. */
void mr__vision_reference_relevance(const struct mr__vision_plan *plan,
                                    const struct mr__vision_parameters *parameters, float *scores);
void mr__vision_reference_tokens(const struct mr__vision_plan *plan, const float *relevance,
                                 uint32_t *tokens);
/* Reads the tokens of `result`, writes its boxes and compressed array. */
void mr__vision_reference_compress(const struct mr__vision_plan *plan, const float *textures,
                                   void *result);
/* All of them: `textures` and `result` as the plan says, every part of the result written. */
void mr__vision_reference(const struct mr__vision_plan *plan,
                          const struct mr__vision_parameters *parameters, const void *pixels,
                          float *textures, void *result);

/* ---- on a device ---- */

/* A place in device memory: image k's part begins at offset + k * stride_bytes, both multiples of 16. */
struct mr__vision_place {
    mr_buffer *buffer;
    size_t offset;
    size_t stride_bytes; /* of no account for one image */
};

/* Kernels, tables and parameters on one device. Not changed once made. */
struct mr__vision_model;

/* `parameters` as checked; copied. May block. */
MR_MUST_USE mr_status mr__vision_model_create(mr_device *device,
                                              const struct mr__vision_parameters *parameters,
                                              struct mr__vision_model **out);
/* After the work that uses it. NULL is accepted. May block. */
void mr__vision_model_destroy(struct mr__vision_model *model);

/* Three streams, the events that join them, and scratch memory: one for each batch that is scored
 * at the same time. Work of one set is ordered by the streams that it is enqueued on: use a set
 * again only behind its earlier use. One thread at a time. */
struct mr__vision_scorers;

/* Scratch for batches that need up to `scratch_bytes`, the plan's for each image. `priority` as of a
 * stream. May block. */
MR_MUST_USE mr_status mr__vision_scorers_create(struct mr__vision_model *model,
                                                size_t scratch_bytes, int priority,
                                                struct mr__vision_scorers **out);
/* Waits for its streams. NULL is accepted. May block. */
void mr__vision_scorers_destroy(struct mr__vision_scorers *scorers);
/* The stream of a score (0 to 2), for those who watch. Borrowed. */
mr_stream *mr__vision_scorers_stream(const struct mr__vision_scorers *scorers, uint32_t score);

enum { MR__VISION_BATCH_LIMIT = 64 };

/*
 * The stages, for a batch: `image_count` images, 1 to MR__VISION_BATCH_LIMIT, of the one plan. As many
 * launches as for one image, so that small images fill a device too; what becomes of an image does not
 * depend on its batch. Each stage enqueues and never blocks; places are borrowed until the work has run
 * and do not overlap. `slice_limit` as in mr_launch (mr_stage_call hands it on): 0 spreads one image
 * over the workers of a CPU.
 */

/* image_bytes in, textures_bytes out. */
MR_MUST_USE mr_status mr__vision_enqueue_textures(const struct mr__vision_model *model,
                                                  const struct mr__vision_plan *plan,
                                                  uint32_t image_count, mr_stream *stream,
                                                  uint32_t slice_limit,
                                                  struct mr__vision_place image,
                                                  struct mr__vision_place textures);

/* The three scorers on their own streams, behind what `stream` holds now, and on `stream`, behind
 * them, the balance: scores_bytes out, all four grids. */
MR_MUST_USE mr_status
mr__vision_enqueue_scores(const struct mr__vision_model *model, const struct mr__vision_plan *plan,
                          uint32_t image_count, struct mr__vision_scorers *scorers,
                          mr_stream *stream, uint32_t slice_limit, struct mr__vision_place image,
                          struct mr__vision_place textures, struct mr__vision_place scores);

/* Tokens, boxes and compressed array; the scores are copied along: the whole result_bytes. */
MR_MUST_USE mr_status mr__vision_enqueue_tokens(
    const struct mr__vision_model *model, const struct mr__vision_plan *plan, uint32_t image_count,
    mr_stream *stream, uint32_t slice_limit, struct mr__vision_place textures,
    struct mr__vision_place scores, struct mr__vision_place result);

#endif
