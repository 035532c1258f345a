/* SPDX-License-Identifier: MIT */
/*
 * vision/image_read.h - JPEG and PNG files as upright, interleaved RGB at the working size.
 *
 * Files come from strangers: every size is checked in the header, before memory is taken for it, and
 * a file that is damaged anywhere is refused as a whole, with the reason. Words of a failure do not
 * name the file; the caller prefixes it.
 *
 *   MR_E_FORMAT       empty, truncated or corrupt
 *   MR_E_UNSUPPORTED  no JPEG or PNG, a kind of JPEG that libjpeg does not read, or past a limit
 *   MR_E_NO_MEMORY    no memory for it
 */
#ifndef MR__VISION_IMAGE_READ_H
#define MR__VISION_IMAGE_READ_H

#include <millrace/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR__IMAGE_PIXEL_LIMIT ((uint64_t)128 * 1000 * 1000)
#define MR__IMAGE_SIDE_LIMIT 1000000
#define MR__IMAGE_FILE_LIMIT ((uint64_t)512 << 20)
#define MR__IMAGE_PROBE_BYTES ((size_t)64 << 10) /* mostly enough for mr__image_probe */

enum mr__image_kind { MR__IMAGE_JPEG, MR__IMAGE_PNG };

/* Zero means the default for every field. */
struct mr__image_options {
    /* Pixels on the longer edge of the working image; longer files are made smaller by area average,
     * none is made larger. 0: as the file is. */
    uint32_t edge_limit;
    uint64_t pixel_limit; /* width * height of a file; 0 = MR__IMAGE_PIXEL_LIMIT */
};

struct mr__image_info {
    enum mr__image_kind kind;
    uint32_t file_width, file_height; /* as stored */
    uint32_t orientation;             /* EXIF's 1 to 8; 1 where the file says none */
    uint32_t width, height;           /* of the working image, upright */
    uint32_t sample_bytes;            /* 1, or 2 for files of 16 bits */
    uint64_t least_file_bytes;        /* no file of these pixels is shorter */
    uint64_t decode_bytes;            /* that decoding holds beside the working image, rows apart */
};

/* Bytes of the working image: width * height * 3 samples. */
size_t mr__image_bytes(const struct mr__image_info *info);

/* Reads the header alone. `bytes` may be the beginning of a file; when that is too little,
 * *needs_more is set and the answer is MR_E_FORMAT. `options` may be NULL. */
mr_status mr__image_probe(const void *bytes, size_t size_bytes,
                          const struct mr__image_options *options, struct mr__image_info *out,
                          bool *needs_more);

/* Whether a file of `size_bytes` can hold what its header promises: MR_E_FORMAT where not even the best
 * compression could. */
mr_status mr__image_check_length(const struct mr__image_info *info, uint64_t size_bytes);

/* Decodes a whole file into `capacity_bytes` of `pixels` (u8 or u16 in the machine's order). Grey is
 * repeated, alpha is laid over black, CMYK becomes RGB without a profile, 16 bits are kept. */
mr_status mr__image_decode(const void *bytes, size_t size_bytes,
                           const struct mr__image_options *options, void *pixels,
                           size_t capacity_bytes, struct mr__image_info *out);

/* A file's bytes, in memory that is used again for the next one. Start with zeroes. */
struct mr__image_file {
    unsigned char *bytes;
    size_t size_bytes, capacity_bytes;
    uint64_t whole_bytes; /* of the file, however much of it is here */
};

/* Reads `path`, or its first `part_bytes` when that is not 0. Only regular files of at most
 * MR__IMAGE_FILE_LIMIT bytes. MR_E_IO as well. */
mr_status mr__image_file_read(struct mr__image_file *file, const char *path, size_t part_bytes);
void mr__image_file_fini(struct mr__image_file *file);

#endif
