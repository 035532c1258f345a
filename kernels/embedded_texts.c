/* SPDX-License-Identifier: MIT */
/*
 * The texts that the library carries, byte by byte and with a zero at the end: portable.h, the
 * kernels' sources and their PTX. embedded_texts.inc, which the build writes, lists them.
 */
#define EMBED(symbol, path)                                                                        \
    __asm__(".pushsection .rodata\n"                                                               \
            ".balign 16\n"                                                                         \
            ".hidden " #symbol "\n"                                                                \
            ".globl " #symbol "\n" #symbol ":\n"                                                   \
            ".incbin \"" path "\"\n"                                                               \
            ".byte 0\n"                                                                            \
            ".popsection\n");
#include "embedded_texts.inc"
