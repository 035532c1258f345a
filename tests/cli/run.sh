#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A job runs, is compared with the reference, and reports in words and as JSON; --check runs nothing.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

cat >job.yaml <<'JOB'
name: try
device: cpu
source: { generate: { kind: frames, dtype: u16, shape: [96, 64], count: 10, seed: 7 } }
stages:
  - { op: median3x3 }
  - { op: convert, to: f32 }
  - { name: q, op: quantise, low: 0, high: 4000, to: u8 }
sinks:
  - { npy: out.npy, from: q }
JOB

expect 0 "$MILLRACE" run --check job.yaml
saw out '^stage q \(quantise\)'
absent out.npy

expect 0 "$MILLRACE" run --verify job.yaml
saw out '^try: done$'
saw out 'compared with the reference: 61440 numbers, all agree'
[ ! -s err ] || { echo "a run that is not watched on a terminal is quiet on standard error"; cat err; exit 1; }

expect 0 "$MILLRACE" run --quiet job.yaml
[ ! -s out ] && [ ! -s err ]

expect 0 "$MILLRACE" run --json --set source.generate.count=4 --set stages.q.high=2000 job.yaml
python3 - <<'PY'
import json
report = json.load(open("out"))
assert report["status"] == "MR_OK" and report["items_in"] == report["items_out"] == 4, report
assert all(node["busy_seconds"] >= 0 for node in report["nodes"]), report
shape = open("out.npy", "rb").read(128)
assert b"'shape': (4, 96, 64)" in shape, shape
PY

expect 0 "$MILLRACE" run --report report.json job.yaml
saw out '^try: done$'
saw report.json '"status": "MR_OK"'
expect 1 "$MILLRACE" run --report /dev/full job.yaml

expect 2 "$MILLRACE" run --set stages.q.hihg=1 job.yaml
saw err "hihg.*high"
expect 2 "$MILLRACE" run --set source.generate.count=many job.yaml
expect 2 "$MILLRACE" run --device toaster job.yaml
expect 3 "$MILLRACE" run --device cuda:63 job.yaml
no_leftovers
