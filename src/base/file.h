/* SPDX-License-Identifier: MIT */
/*
 * base/file.h - reads and writes that go on where the system stopped in the middle or was
 * interrupted, and folders that go with all that is in them.
 */
#ifndef MR__FILE_H
#define MR__FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Up to `size_bytes`, `*got` of them; fewer only at the file's end. False after a failure: then errno
 * is set, and `*got` says how far it came. */
bool mr__file_read(int file, void *data, size_t size_bytes, size_t *got);
/* The same from `offset` on; the file's own position stays. */
bool mr__file_read_at(int file, void *data, size_t size_bytes, uint64_t offset, size_t *got);

/* All of it. False after a failure: then errno is set, and `*done` (may be NULL) says how far it
 * came. */
bool mr__file_write(int file, const void *data, size_t size_bytes, size_t *done);
bool mr__file_write_at(int file, const void *data, size_t size_bytes, uint64_t offset);

/* A folder with all that is in it, or a file. Links go, what they lead to stays; so does what cannot
 * be removed. */
void mr__folder_remove(const char *path);

#endif
