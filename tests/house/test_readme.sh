# SPDX-License-Identifier: MIT
# test_readme.sh BUILD WORK: the program and the job file of README.md do what it says.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$1 work=$2
tool=$build/cli/millrace
rm -rf "$work" && mkdir -p "$work" && cd "$work"

# block LANGUAGE: the first such block of the README.
block() {
    awk -v fence="\`\`\`$1" '/^```$/{on = 0} on; $0 == fence{on = 1}' "$root/README.md"
}

block c >program.c
gcc -Wall -Wextra -Werror program.c -o program "-I$root/include" "-L$build/src" -lmillrace \
    "-Wl,-rpath,$build/src"
words=$(./program)
[[ $words == *": 7" ]] || { echo "the program says '$words', not 7"; exit 1; }

# Files such as the job reads, small.
make() {
    printf 'source: { generate: { kind: %s, dtype: u16, shape: [64, 64], count: %s } }\n' "$1" "$2"
    printf 'sinks: [{ npy: %s.npy }]\n' "$1"
}
for what in "dark 1" "flat 1" "frames 16"; do
    # shellcheck disable=SC2086 # two words
    make $what >make.yaml
    "$tool" run --quiet make.yaml
done
block yaml >calibrate.yaml
"$tool" run --check calibrate.yaml
"$tool" run --verify calibrate.yaml
for output in grey.npy statistics.json preview.png; do
    [ -s $output ] || { echo "no $output"; exit 1; }
done
