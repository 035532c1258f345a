/* SPDX-License-Identifier: MIT */
/*
 * fakecuda/fake_shim.h - what the stand-in compiler leaves in a shared object for each __global__
 * function, as the symbol fakecuda_shim_NAME. Read by C and by the generated C++.
 */
#ifndef FAKE_SHIM_H
#define FAKE_SHIM_H

struct fakecuda_shim {
    int count;
    int size_bytes[32];
    int is_pointer[32];
    /* Every thread of every block, one after another: barriers are not to be had here. */
    void (*run)(void *const *arguments, const unsigned *grid, const unsigned *block);
};

#endif
