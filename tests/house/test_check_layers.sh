# SPDX-License-Identifier: MIT
# Feeds tools/check_layers small trees: each with one include that the table forbids or allows.
set -u
check=$(cd "$(dirname "$0")/../.." && pwd)/tools/check_layers
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
bad=0

# judge EXPECTED FILE INCLUDE: a tree of just this file is accepted (0) or refused (1).
judge() {
    rm -rf "${tree:?}"/*
    mkdir -p "$tree/$(dirname "$2")"
    echo "#include $3" >"$tree/$2"
    local words
    words=$("$check" "$tree")
    local code=$?
    if [ $code -ne "$1" ]; then
        echo "$2 with #include $3: exit $code, expected $1. $words"
        bad=1
    elif [ $code -ne 0 ] && [[ $words != "$2:1: "* ]]; then
        echo "$2: the message does not name file and line: $words"
        bad=1
    fi
}

judge 0 src/core/stream.c '"backend/backend.h"'
judge 0 src/core/stream.c '<millrace/stream.h>'
judge 0 src/core/stream.c '<pthread.h>'
judge 1 src/core/stream.c '"backend/cpu/cpu_queue.h"'
judge 1 src/core/stream.c '"flow/ring.h"'
judge 0 src/base/alloc.c '<millrace/status.h>'
judge 1 src/base/alloc.c '<millrace/stream.h>'
judge 1 src/base/alloc.c '"core/stream.h"'
judge 0 src/flow/ring.c '"base/queue.h"'
judge 1 src/flow/ring.c '"core/stream.h"'
judge 1 src/flow/ring.c '"backend/backend.h"'
judge 0 src/backend/cpu/cpu_queue.c '"backend/backend.h"'
judge 1 src/backend/cpu/cpu_queue.c '"core/stream.h"'
judge 1 src/backend/cuda/cuda_queue.c '"backend/cpu/cpu_queue.h"'
judge 0 src/backend/registry.c '"backend/cuda/cuda.h"'
judge 1 src/backend/backend.h '"backend/cuda/cuda.h"'
judge 0 src/job/npy.c '<jansson.h>'
judge 1 src/core/stream.c '<jansson.h>'
judge 1 src/job/npy.c '"flow/ring.h"'
judge 1 kernels/image.c '"core/embedded.h"'
judge 1 cli/main.c '"core/stream.h"'
judge 0 tests/conformance/stream.c '"support/check.h"'
judge 1 tests/conformance/stream.c '"core/stream.h"'
judge 1 examples/01_first.c '"base/alloc.h"'
exit $bad
