# SPDX-License-Identifier: MIT
# Feeds tools/check_quotes small guides: quotes that stand in the program, and some that do not.
set -u
check=$(cd "$(dirname "$0")/../.." && pwd)/tools/check_quotes
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
bad=0
mkdir -p "$tree/docs/guide" "$tree/examples"
printf '%s\n' 'int main(void)' '{' '    if (a) {' '        first();' '' '        second(1, 2);' '    }' \
    '    third();' '}' >"$tree/examples/one.c"

# judge EXPECTED WORDS LINE...: a page with this quote is accepted (0) or refused (1) with the words.
judge() {
    local expected=$1 wanted=$2 words code
    shift 2
    printf '%s\n' '<!-- from examples/one.c -->' '```c' "$@" '```' >"$tree/docs/guide/page.md"
    words=$("$check" "$tree")
    code=$?
    if [ $code -ne "$expected" ] || [[ $words != *"$wanted"* ]]; then
        echo "quote '$*': exit $code, expected $expected with '$wanted'. $words"
        bad=1
    fi
}

judge 0 '' 'int main(void)' '{'
judge 0 '' 'first();' '' 'second(1, 2);'
judge 0 '' 'if (a) {' '    first();'
judge 0 '' 'first();' '...' 'third();'
judge 0 '' '    second(1, 2);' '}' 'third();'
judge 1 'page.md:2: not in examples/one.c any more: first();' 'first();' 'second(1, 2);'
judge 1 'not in examples/one.c' 'second(1, 3);'
judge 1 'not in examples/one.c' 'third();' '...' 'first();'
judge 1 'not in examples/one.c' 'if (a) {' 'first();'
judge 1 'not in examples/one.c' '        third();'

printf '%s\n' '<!-- from examples/two.c -->' '```c' 'x' '```' >"$tree/docs/guide/page.md"
"$check" "$tree" | grep -q 'examples/two.c is not there' || { echo "a missing program is not found"; bad=1; }
printf '%s\n' '```c' 'anything();' '```' '[a](page.md) [b](gone.md)' >"$tree/docs/guide/page.md"
[ "$("$check" "$tree")" = "docs/guide/page.md: gone.md is not there" ] ||
    { echo "a broken link is not found"; bad=1; }
exit $bad
