#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check_static finds what it is there to find: a leak, a read beyond an array, a lost file.
set -eu
tools=$1 folder=$2
rm -rf "$folder" && mkdir -p "$folder/tree/src" && cd "$folder"

expect() {
    local wanted=$1 code=0
    "$tools/check_static" cache tree >out 2>&1 || code=$?
    [ $code -ne 77 ] || { cat out; exit 77; }
    [ $code -eq "$wanted" ] || { echo "expected exit $wanted, got $code"; cat out; exit 1; }
}

echo 'int one(void) { return 1; }' >tree/src/good.c
expect 0
printf 'int two(int i) { int a[2] = { 1, 2 }; a[2] = i; return a[0]; }\n' >tree/src/bad.c
expect 1
grep -q '^src/bad.c:1: error: .*out of bounds' out
printf '#include <stdlib.h>\nvoid three(void) { char *p = malloc(3); if (p) *p = 1; }\n' >tree/src/bad.c
expect 1
grep -q 'memleak' out
rm tree/src/bad.c
expect 0
