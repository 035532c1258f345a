#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Ctrl-C stops a run cleanly: exit 130, what was done is said, and no output that looks whole.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

cat >job.yaml <<'JOB'
device: cpu
source: { stdin: { dtype: u8, shape: [1024] } }
sinks:
  - { raw: out.raw }
JOB
mkfifo input
set -m # else the shell has background runs ignore Ctrl-C
"$MILLRACE" run job.yaml <input >out 2>err &
run=$!
# The run has the first items, and waits for more when the signal comes.
exec 3>input
head -c 65536 /dev/zero >&3
for ((i = 0; i < 1000; i++)); do
    ls .millrace-* >/dev/null 2>&1 && break
    read -r -t 0.01 <> <(:) || :
done
kill -INT $run
code=0
wait $run || code=$?
exec 3>&-
[ $code = 130 ] || { echo "exit $code"; cat out err; exit 1; }
saw err 'stopped'
saw out 'cancelled'
absent out.raw
no_leftovers
