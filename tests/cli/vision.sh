#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The vision job as a user meets it: a folder in, a folder out, mistakes told, bad images counted, and
# an interrupted run leaves nothing.
. "$MILLRACE_SOURCE/tests/cli/support.sh"

mkdir photos
python3 - <<'PY'
import struct, zlib
def png(path, width, height, seed):
    rows = b"".join(b"\0" + bytes((x * seed + y * c * 7) & 255 for x in range(width) for c in range(3))
                    for y in range(height))
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    open(path, "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) +
                           chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
for k in range(1, 7):
    png("photos/%d <&>.png" % k, 60 + 20 * k, 200 - 20 * k, k)
PY
cat >vision.yaml <<'JOB'
vision:
  images: photos
  query: blue
  size: 256
  folder: made
JOB

expect 0 "$MILLRACE" run --device cpu --check vision.yaml
saw out '^images: photos, 6 images$'
absent made

expect 0 "$MILLRACE" run --device cpu --verify vision.yaml
saw out '6 of 6 images done'
saw out 'compared with the reference: [0-9]+ numbers, all agree'
[ ! -s err ]
[ -s made/index.html ] && [ -s "made/overlay/3 <&>.png" ] && [ -s "made/sheet/3 <&>.jpg" ]
saw made/index.html 'src="sheet/3%20%3C%26%3E.jpg"'
python3 - <<'PY'
import glob, html.parser, json, os, struct, urllib.parse
summary = json.load(open("made/summary.json"))
assert summary["done"] == 6 and summary["skipped"] == [] and len(summary["list"]) == 6, summary
assert sum(bin["patches"] for bin in summary["tokens_histogram"]) > 6
names = glob.glob("made/tokens/*.json")
assert len(names) == 6
for name in names:
    image = json.load(open(name))
    patches = image["patches"]
    assert sum(patch["tokens"] for patch in patches) == 4096
    assert len(patches) == image["columns"] * image["rows"]
    array = open(name[:-4] + "npy", "rb").read()
    assert b"'<u4'" in array[:256]
    tokens = struct.unpack("<%dI" % len(patches), array[256:])
    assert list(tokens) == [patch["tokens"] for patch in patches]
# Every link of the page leads to a file, and all that is opened is closed.
class Page(html.parser.HTMLParser):
    open_tags, links = [], 0
    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br"):
            self.open_tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href") and not value.startswith("#"):
                assert os.path.exists(os.path.join("made", urllib.parse.unquote(value))), value
                self.links += 1
    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag, tag
page = Page()
page.feed(open("made/index.html").read())
assert not page.open_tags and page.links == 6 * 6, (page.open_tags, page.links)
PY

# Paths on standard input; bad ones are counted, or stop the run.
echo nothing >photos/not.png
find photos -name '*.png' | sort >list
expect 0 "$MILLRACE" run --device cpu --json --set 'vision.images={list: -}' --set vision.folder=other vision.yaml <list
python3 - <<'PY'
import json
report = json.load(open("out"))
vision = report["vision"]
assert report["items_in"] == 7 and report["items_out"] == 6 and report["items_skipped"] == 1, report
assert vision["skipped"] == [{"image": "photos/not.png", "status": "MR_E_UNSUPPORTED",
                              "reason": "no JPEG or PNG image, whatever its name says"}], vision
PY
expect 1 "$MILLRACE" run --device cpu --set vision.on_error=stop --set vision.folder=third vision.yaml
saw err 'photos/not.png: no JPEG or PNG'
absent third
# A run without a single good image is a failure, and says why of each.
printf 'photos/not.png\nphotos/none.png\n' >list
expect 1 "$MILLRACE" run --device cpu --set 'vision.images={list: list}' --set vision.folder=third vision.yaml
saw err 'none of the 2 images could be used; the first: photos/not.png: no JPEG or PNG'
saw out 'photos/none.png: cannot be opened'
absent third

# An image that has no room in what ulimit leaves is left out, or stops the run, by name. (Programs under a
# sanitizer do not start below one.)
if (ulimit -v 800000; "$MILLRACE" --version) >/dev/null 2>&1; then
    python3 - <<'PY'
import struct, zlib
def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
open("large.png", "wb").write(
    b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 3000, 3000, 8, 0, 0, 0, 0)) +
    chunk(b"IDAT", zlib.compress(bytes(3001 * 3000))) + chunk(b"IEND", b""))
PY
    within_ulimit() { (ulimit -v 800000 && exec "$MILLRACE" run --device cpu --set vision.size=original "$@"); }
    printf 'large.png\nphotos/1 <&>.png\n' >list
    expect 0 within_ulimit --set 'vision.images={list: list}' --set vision.folder=room vision.yaml
    saw out 'large.png: too large for memory: 3000 x 3000 pixels need [0-9]+ MB on cpu'
    saw out '1 of 2 images done'
    expect 1 within_ulimit --set 'vision.images={list: list}' --set vision.on_error=stop \
        --set vision.folder=third vision.yaml
    saw err 'large.png: too large for memory'
    absent third
fi

expect 2 "$MILLRACE" run --device cpu --set vision.query=purpel vision.yaml
saw err "did you mean 'purple'"
expect 2 "$MILLRACE" run --device cpu --set 'vision.patches=[40, 40]' vision.yaml
saw err 'budget'

# Ctrl-C while the list is being read, and while images are on their way.
mkfifo input
set -m # else the shell has background runs ignore Ctrl-C
"$MILLRACE" run --device cpu --set 'vision.images={list: -}' --set vision.folder=fourth vision.yaml <input >run.out 2>run.err &
run=$!
exec 3>input
printf 'photos/1 <&>.png\n' >&3
for ((i = 0; i < 500; i++)); do
    [ "$(cat /proc/$run/comm 2>/dev/null)" = millrace ] && break
    read -r -t 0.01 <> <(:) || :
done
kill -INT $run || :
code=0
wait $run || code=$?
exec 3>&-
[ $code = 130 ] || { echo "exit $code"; cat run.out run.err; exit 1; }
absent fourth
no_leftovers

# Batches are on their way from the first line of progress on; there are images for minutes.
mkfifo progress
"$MILLRACE" run --device cpu --progress json --set vision.folder=fifth --set vision.mode=pipelined \
    --set vision.batch=8 --set 'vision.images={generate: {count: 100000, width: 96, height: 64}}' \
    vision.yaml 2>progress >run.out &
run=$!
exec 3<progress
read -r line <&3
kill -INT $run || :
cat <&3 >run.err
code=0
wait $run || code=$?
exec 3<&-
[ $code = 130 ] || { echo "exit $code, after $line"; cat run.out run.err; exit 1; }
saw run.out 'cancelled'
absent fifth
no_leftovers
