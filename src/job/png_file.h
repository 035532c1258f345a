/* SPDX-License-Identifier: MIT */
/*
 * job/png_file.h - PNG images in and out, as arrays of u8 or u16.
 */
#ifndef MR__JOB_PNG_FILE_H
#define MR__JOB_PNG_FILE_H

#include "job/item_type.h"

#include <stdio.h>

/* The type of an image file: u8 or u16, [height, width] for grey, [height, width, channels]
 * otherwise (palettes become RGB). With `data` (of the type's size) also its numbers. When `due` is
 * given, the image must be of that type. MR_E_IO, MR_E_FORMAT or MR_E_NO_MEMORY; the words name
 * `path`. */
mr_status mr__png_read(const char *path, const struct mr__item_type *due,
                       struct mr__item_type *type, void *data);

/* Writes a grey image, `dtype` u8 or u16. The words of a failure do not name the file. */
mr_status mr__png_write(FILE *file, mr_type dtype, uint32_t height, uint32_t width,
                        const void *data);

#endif
