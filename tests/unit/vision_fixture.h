/* SPDX-License-Identifier: MIT */
/* Images of several kinds for the vision job, and what two runs left held against one another. */
#ifndef TEST_VISION_FIXTURE_H
#define TEST_VISION_FIXTURE_H

#include "job_fixture.h"

void save_png(const char *path, uint32_t width, uint32_t height, uint64_t seed);
void save_jpeg(const char *path, uint32_t width, uint32_t height, uint32_t orientation);
/* Six images of several sizes and kinds in `in`, and a file that is none. */
void make_images(void);

void assert_same_file(const char *a, const char *b);
/* Every file of one run with all outputs stands in the other, with the same bytes. Their number. */
size_t assert_same_outputs(const char *a, const char *b);

#endif
