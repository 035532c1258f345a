#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A wrong command line is told in words that help, with exit code 2; help itself is code 0.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

expect 2 "$MILLRACE"
saw err '^usage: millrace COMMAND'
expect 0 "$MILLRACE" --help
saw out '^  run '
expect 0 "$MILLRACE" --version
saw out '^millrace [0-9]+\.[0-9]+\.[0-9]+$'
expect 2 "$MILLRACE" rnu
saw err "'rnu' is no command"
for command in run devices bench; do
    expect 0 "$MILLRACE" $command --help
    saw out "^usage: millrace $command"
    expect 2 "$MILLRACE" $command --jsno
    saw err "did you mean '--json'"
    expect 2 "$MILLRACE" $command --json=yes
    saw err "takes no value"
done
expect 2 "$MILLRACE" run
saw err 'which job file'
expect 2 "$MILLRACE" run a.yaml b.yaml
saw err "'b.yaml' is too many"
expect 2 "$MILLRACE" run --set high a.yaml
saw err "write --set KEY=VALUE"
expect 2 "$MILLRACE" run --device
saw err 'needs a value|lacks its value'
expect 2 "$MILLRACE" bench --size 12X
expect 2 "$MILLRACE" bench --repeat 0
expect 2 "$MILLRACE" run missing.yaml
saw err 'missing.yaml'
