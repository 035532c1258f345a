#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every job file of examples/jobs is run as it stands, only smaller, and compared with the reference
# where it has one.
. "$MILLRACE_SOURCE/tests/cli/support.sh"
cp "$MILLRACE_SOURCE"/examples/jobs/* .

small() {
    local kind=$1 count=$2
    echo "source={generate: {kind: $kind, dtype: u16, shape: [64, 96], count: $count, seed: 7}}"
}

expect 0 "$MILLRACE" run --device cpu --verify --set "$(small frames 9)" camera.yaml
expect 0 "$MILLRACE" run --device cpu --set "$(small dark 1)" --set sinks.0.npy=dark.npy camera.yaml
expect 0 "$MILLRACE" run --device cpu --set "$(small flat 1)" --set sinks.0.npy=flat.npy camera.yaml
expect 0 "$MILLRACE" run --device cpu --verify calibrate.yaml
saw out 'calibrated.npy: 9 items'
[ "$(wc -l <statistics.jsonl)" -eq 9 ]
[ -s preview.png ]
expect 0 "$MILLRACE" run --device cpu --verify --set source.generate.count=12 threshold.yaml
expect 0 "$MILLRACE" run --device cpu --verify --set source.generate.count=5 statistics.yaml
expect 0 "$MILLRACE" run --device cpu --set source.generate.count=5 gamma.yaml
[ -s gamma.npy ] && [ -s gamma.png ]

head -c 300000 /dev/zero | "$MILLRACE" run --device cpu --quiet pipe.yaml >scaled.raw
[ "$(stat -c %s scaled.raw)" -eq 600000 ]

expect 0 "$MILLRACE" run --device cpu --verify --set vision.images.generate.width=200 \
    --set vision.images.generate.height=150 vision.yaml
[ -s tokens-out/index.html ] && [ -s tokens-out/overlay/generated-0007.png ]

# No example is left out here.
for job in *.yaml; do
    grep -q " $job" "$MILLRACE_SOURCE/tests/cli/jobs.sh" || { echo "$job is not run"; exit 1; }
done
no_leftovers
