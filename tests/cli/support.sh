# SPDX-License-Identifier: MIT
# What the scripts share. `expect CODE COMMAND...` runs a command, keeps its output in out and err,
# and fails the test when its exit code differs. `saw FILE PATTERN` asks for a line.

expect() {
    local wanted=$1 code=0
    shift
    "$@" >out 2>err || code=$?
    [ $code -eq "$wanted" ] && return 0
    echo "expected exit $wanted, got $code: $*"
    cat out err
    exit 1
}

saw() {
    grep -qE -- "$2" "$1" && return 0
    echo "no line like '$2' in $1:"
    cat "$1"
    exit 1
}

absent() {
    [ ! -e "$1" ] && return 0
    echo "$1 is there and should not be"
    exit 1
}

no_leftovers() {
    local left
    left=$(find . -name '*.part*' -o -name '*.tmp*' -o -name '.millrace-*')
    [ -z "$left" ] && return 0
    echo "left behind: $left"
    exit 1
}
