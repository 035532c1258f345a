#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Ctrl-C stops a run cleanly: exit 130, what was done is said, and no output that looks whole. A run
# that is killed leaves nothing either.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

# A run that has given its first item and waits for more input. `env`, as whoever runs the tests may
# ignore the signal.
begin_run() {
    rm -f input output
    mkfifo input output
    env --default-signal=INT "$MILLRACE" run job.yaml <input >output 2>err &
    run=$!
    exec 3>input 4<output
    head -c 65536 /dev/zero >&3
    head -c 1024 <&4 >first
}

end_run() {
    code=0
    wait $run || code=$?
    exec 3>&- 4<&-
}

cat >job.yaml <<'JOB'
device: cpu
source: { stdin: { dtype: u8, shape: [1024] } }
sinks:
  - { stdout: raw }
  - { raw: out.raw }
JOB

begin_run
kill -INT $run
end_run
[ $code = 130 ] || { echo "exit $code"; cat err; exit 1; }
saw err 'stopped'
saw err 'cancelled'
absent out.raw
no_leftovers

# Where the file system has files without names, and there is a way to name one later.
python3 - <<'PY' || exit 0
import os, sys
try:
    os.close(os.open(".", os.O_TMPFILE | os.O_RDWR))
except OSError:
    sys.exit(1)
PY
echo 'from yesterday' >out.raw
begin_run
kill -KILL $run
end_run
[ $code = 137 ]
[ "$(cat out.raw)" = 'from yesterday' ]
no_leftovers
