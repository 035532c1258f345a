#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every mistake in a job file is told with file, line and remedy, all at once; nothing runs.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

cat >job.yaml <<'JOB'
source: { generate: { kind: frames, dtype: u16, shape: [96, 64], count: 10 } }
stages:
  - { op: medain3x3 }
  - { op: convert, too: f32 }
  - { op: scale, from: nowhere }
sinks:
  - { npy: no/such/folder/out.npy }
JOB
expect 2 "$MILLRACE" run --device cpu job.yaml
saw err "^job.yaml:3:.*medain3x3.*did you mean 'median3x3'"
saw err "^job.yaml:4:.*too"
saw err "nothing was run$"

printf 'source: { generate: [1, 2\n' >broken.yaml
expect 2 "$MILLRACE" run broken.yaml
saw err '^broken.yaml:[0-9]+:'

cat >job.yaml <<'JOB'
source: { npy: frames.npy }
stages:
  - { op: median3x3 }
sinks:
  - { npy: out.npy }
JOB
expect 2 "$MILLRACE" run --device cpu job.yaml
saw err 'frames.npy'

python3 - <<'PY'
import struct
def npy(path, header, data=b""):
    text = header.encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    open(path, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)
good = "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 4, 4), }"
npy("good.npy", good, bytes(64))
npy("truncated.npy", good, bytes(63))
npy("oversized.npy", good, bytes(65))
npy("big.npy", good.replace("<u2", ">u2"), bytes(64))
npy("fortran.npy", good.replace("False", "True"), bytes(64))
npy("object.npy", good.replace("<u2", "|O"), bytes(64))
npy("overflow.npy", good.replace("(2, 4, 4)", "(4294967296, 4294967296, 4)"), bytes(64))
npy("negative.npy", good.replace("(2, 4, 4)", "(2, -4, 4)"), bytes(64))
open("magic.npy", "wb").write(b"\x93NUMPX" + bytes(100))
PY
expect 0 "$MILLRACE" run --device cpu --set source.npy=good.npy job.yaml
rm out.npy
for kind in truncated oversized big fortran object overflow negative magic; do
    expect 2 "$MILLRACE" run --device cpu --set source.npy=$kind.npy job.yaml
    saw err "$kind.npy"
    absent out.npy
done
no_leftovers
