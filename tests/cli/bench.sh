#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The benchmark runs on the CPU, as a table and as JSON that says the same things.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

expect 0 "$MILLRACE" bench --device cpu --size 4M --repeat 1
saw out '^copies$'
saw out '^  speed-up +[0-9.]+ x$'
expect 0 "$MILLRACE" bench --device cpu --size 4M --repeat 1 --json
python3 - <<'PY'
import json
report = json.load(open("out"))
names = {(r["group"], r["name"]) for r in report["results"]}
assert report["device"] == "cpu" and len(names) == len(report["results"]) >= 15, report
assert all(r["value"] > 0 for r in report["results"]), report
PY
expect 3 "$MILLRACE" bench --device cuda:63
expect 2 "$MILLRACE" bench --device toaster
saw err 'toaster'
