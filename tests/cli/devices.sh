#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The CPU is always there; without a GPU the reason is in words and the exit code is still 0.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

expect 0 "$MILLRACE" devices
saw out '^cpu$'
saw out '^  workers +[1-9]'
expect 0 "$MILLRACE" devices --json
python3 - <<'PY'
import json
devices = json.load(open("out"))["devices"]
cpu = [d for d in devices if d["id"] == "cpu"]
assert len(cpu) == 1 and cpu[0]["available"] and cpu[0]["memory_bytes"] > 0, devices
for d in devices:
    assert d["available"] or d["reason"], d
PY
