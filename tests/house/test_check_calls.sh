# SPDX-License-Identifier: MIT
# tools/check_calls finds a call that it forbids, and stands the words about it.
set -u
check=$(cd "$(dirname "$0")/../.." && pwd)/tools/check_calls
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/src"

echo '/* pthread_cond_signal is not used. */' >"$tree/src/good.c"
"$check" "$tree" || { echo "words were taken for a call"; exit 1; }
echo 'void one(void) { pthread_cond_signal(&changed); }' >"$tree/src/bad.c"
words=$("$check" "$tree") && { echo "a call was not found"; exit 1; }
[[ $words == src/bad.c:1:* ]] || { echo "the message does not name file and line: $words"; exit 1; }
