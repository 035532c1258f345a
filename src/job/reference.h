/* SPDX-License-Identifier: MIT */
/*
 * job/reference.h - every built-in operation once more, on one item and one thread, written to be
 * read. What the devices compute is held against these.
 */
#ifndef MR__JOB_REFERENCE_H
#define MR__JOB_REFERENCE_H

#include "job/stage.h"

mr_status mr__reference_convert(const struct mr__stage *stage, const void *const *inputs,
                                const size_t *input_bytes, void *output, size_t *output_bytes);
mr_status mr__reference_scale_offset(mr_type type, const void *source, size_t source_bytes,
                                     double scale, double offset, void *output,
                                     size_t *output_bytes);
mr_status mr__reference_clamp(mr_type type, const void *source, size_t size_bytes, double low,
                              double high, void *output);
/* `numbers`: limit, below, above. */
mr_status mr__reference_threshold(mr_type type, const void *source, size_t size_bytes,
                                  const double *numbers, void *output);
mr_status mr__reference_add(mr_type type, const void *const *inputs, size_t size_bytes,
                            void *output);
mr_status mr__reference_calibrate(mr_type type, const void *source, const float *dark,
                                  const float *flat, uint64_t count, float *output);
/* `height` and `width` of one image. */
mr_status mr__reference_median3x3(mr_type type, const void *source, uint64_t height, uint64_t width,
                                  void *output);
mr_status mr__reference_quantise(mr_type type, const void *source, uint64_t count, float low,
                                 float high, uint8_t *output);
/* sum, least, greatest, mean, number */
mr_status mr__reference_statistics(mr_type type, const void *source, uint64_t count,
                                   double output[5]);
mr_status mr__reference_histogram(mr_type type, const void *source, uint64_t count, float low,
                                  float high, uint32_t bin_count, uint32_t *output);

#endif
