#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The demo over a user's own stack: the results it names are there and are compared, and what is no
# stack is refused in words.
. "$MILLRACE_SOURCE/tests/cli/support.sh"
export DEMO_FOLDER=$PWD/results MILLRACE

mkdir "it's: a #folder"
frames="it's: a #folder/frames.npy"
expect 0 "$MILLRACE" run --quiet --device cpu \
    --set 'source={generate: {kind: frames, dtype: u16, shape: [30, 40], count: 12, seed: 3}}' \
    --set "sinks=[{npy: \"$PWD/$frames\"}]" "$MILLRACE_SOURCE/examples/jobs/camera.yaml"

expect 0 "$MILLRACE_SOURCE/tools/demo" "$frames"
saw out '12 frames of 30x40'
saw out 'numbers, all agree'
for file in calibrated.npy preview.png statistics.jsonl summary.json summary.txt calibrate.yaml; do
    saw out "^  $file"
    [ -s "results/$file" ]
done
saw results/summary.json '"mismatches": 0'
saw results/summary.txt 'bottleneck'

expect 2 "$MILLRACE_SOURCE/tools/demo" job.yaml
expect 2 "$MILLRACE_SOURCE/tools/demo" one two
