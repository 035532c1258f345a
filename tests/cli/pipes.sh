#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Standard input and output: whole streams pass; short input, a reader that leaves and a full disk are
# failures with words.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

cat >job.yaml <<'JOB'
device: cpu
source: { stdin: { dtype: u8, shape: [64] } }
stages:
  - { op: convert, to: u16 }
sinks:
  - { stdout: raw }
JOB

head -c 640000 /dev/urandom >in.raw
"$MILLRACE" run --quiet job.yaml <in.raw >out.raw
python3 - <<'PY'
a, b = open("in.raw", "rb").read(), open("out.raw", "rb").read()
assert b[0::2] == a and not any(b[1::2])
PY

expect 0 "$MILLRACE" run --quiet job.yaml </dev/null
[ ! -s out ]
head -c 65 in.raw >short.raw
expect 1 "$MILLRACE" run --quiet job.yaml <short.raw
saw err 'item 1: standard input: it ends after 1 of the 64 bytes'

code=0
head -c 50000000 /dev/zero | { "$MILLRACE" run --quiet job.yaml 2>err; echo $? >code; } | head -c 10 >/dev/null
[ "$(cat code)" = 1 ] && saw err 'closed the pipe'
code=0
head -c 5000000 /dev/zero | "$MILLRACE" run --quiet job.yaml >/dev/full 2>err || code=$?
[ $code = 1 ] && saw err 'No space left'
