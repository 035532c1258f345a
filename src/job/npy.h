/* SPDX-License-Identifier: MIT */
/*
 * job/npy.h - the header of .npy files, versions 1.0, 2.0 and 3.0, read strictly and written.
 */
#ifndef MR__JOB_NPY_H
#define MR__JOB_NPY_H

#include "job/item_type.h"

#define MR__NPY_RANK_LIMIT (MR__RANK_LIMIT + 1)
#define MR__NPY_HEADER_LIMIT ((size_t)64 * 1024) /* bytes, all of it; NumPy writes about 128 */
#define MR__NPY_START_BYTES 12                   /* enough to know the header's length */

struct mr__npy_header {
    mr_type dtype;
    uint32_t rank;
    uint64_t shape[MR__NPY_RANK_LIMIT];
    uint64_t data_offset; /* bytes from the start of the file */
    uint64_t data_bytes;  /* of all elements */
};

/* The length of the whole header, from its first MR__NPY_START_BYTES bytes. MR_E_FORMAT in words
 * that do not name the file: the caller prefixes it. */
mr_status mr__npy_header_bytes(const void *start, size_t start_bytes, size_t *header_bytes);

/* Reads a whole header. MR_E_FORMAT when it is malformed, MR_E_UNSUPPORTED when it is fine but not
 * for us (big-endian, Fortran order, structures, objects...), each with the remedy. */
mr_status mr__npy_parse(const void *header, size_t header_bytes, struct mr__npy_header *out);

/* Reads the header at the start of a file and holds the file's length against it. The words name
 * `path`. The file's position is undefined afterwards. */
mr_status mr__npy_read(int file, const char *path, struct mr__npy_header *out);

/* Items of `type`, `count` of them, as a header of exactly MR__NPY_WRITTEN_BYTES, so that the count
 * can be put right when it is known. */
#define MR__NPY_WRITTEN_BYTES 256
void mr__npy_format(const struct mr__item_type *type, uint64_t count,
                    char header[MR__NPY_WRITTEN_BYTES]);

#endif
