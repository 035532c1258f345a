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

# A run that waits for its input tells how far it is, on request as JSON.
mkfifo input progress
"$MILLRACE" run --quiet --progress json job.yaml <input 2>progress >/dev/null &
run=$!
exec 3>input 4<progress
head -c 64 in.raw >&3
read -r line <&4
exec 3>&-
cat <&4 >/dev/null
wait $run
python3 - "$line" <<'PY'
import json, sys
now = json.loads(sys.argv[1])
assert now["bytes_in"] in (0, 64) and now["seconds"] >= 0 and "devices" not in now, now
PY
expect 2 "$MILLRACE" run --progress yaml job.yaml
saw err "'yaml' is not known"
