#!/bin/sh
# quantize.sh - `fplaw quantize` on raw float32 and .npy files: values, forms, refusals.
#
# Expected values are worked out by hand: e2m1 has 0 0.5 1 1.5 2 3 4 6.  Needs FPLAW, the
# built program.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

fail() {
    echo "quantize.sh: $*" >&2
    failures=$((failures + 1))
}

# values FILE [skip]: float32 values of a file, one line
values() {
    od -An -v -tf4 -w4 -j "${2:-0}" "$1" | tr -d ' ' | tr '\n' ' ' | sed 's/ $//'
}

# expect WHAT GOT WANTED
expect() {
    [ "$2" = "$3" ] || fail "$1: got '$2', expected '$3'"
}

# refused STATUS PATTERN ARGUMENT...: exit status, one line, nothing written
refused() {
    status=$1
    pattern=$2
    shift 2
    rm -f out
    "$FPLAW" quantize "$@" >stdout 2>stderr
    got=$?
    [ "$got" = "$status" ] || fail "$*: exit $got, expected $status"
    [ "$(wc -l <stderr)" = 1 ] || fail "$*: $(wc -l <stderr) lines of message"
    grep -q "^fplaw: .*$pattern" stderr || fail "$*: message '$(cat stderr)' lacks '$pattern'"
    [ ! -s stdout ] || fail "$*: wrote to standard output"
    [ ! -e out ] || fail "$*: left OUT behind"
    set -- .fplaw* out.* tmp*
    [ ! -e "$1" ] || fail "left a temporary file: $1"
}

# 1, 5, 0.1, -7, 2.5, -0.0, 12, 0.3
printf '\000\000\200\077\000\000\240\100\315\314\314\075\000\000\340\300' >x
printf '\000\000\040\100\000\000\000\200\000\000\100\101\232\231\231\076' >>x

"$FPLAW" quantize --to e2m1 x y 2>line || fail "e2m1 failed"
expect e2m1 "$(values y)" "1 4 0 -6 2 -0 6 0.5"
grep -q '^e2m1 (largest 6): 8 values, 4 bits each' line || fail "summary: $(cat line)"

# amax 12: s = 2^(3-2) = 2, amax 7: s = 1
"$FPLAW" quantize --to e2m1/1x4:e8m0 x y 2>line || fail "blocks failed"
expect "blocks of 4" "$(values y)" "1 4 0 -6 2 -0 12 0"
"$FPLAW" quantize --to e2m1/row:e8m0 --shape 2x4 x y 2>line || fail "rows failed"
expect "two rows" "$(values y)" "1 4 0 -6 2 -0 12 0"
# columns: (1 2.5) (5 0) (0.1 12) (7 0.3): scales 0.5 1 2 1
"$FPLAW" quantize --to E2M1/COL:FLOOR --shape 2x4 x y 2>line || fail "columns failed"
expect "four columns" "$(values y)" "1 4 0 -6 2 -0 12 0.5"

"$FPLAW" quantize --to fp32 x y 2>line || fail "fp32 failed"
cmp -s x y || fail "fp32 is not the identity"
"$FPLAW" quantize --to e3m2:sr/1x4 --seed 7 x y 2>line || fail "sr failed"
"$FPLAW" quantize --to e3m2:sr/1x4 --seed 7 - - <x >z 2>line || fail "standard input failed"
cmp -s y z || fail "the same seed gives other bits"
cp x same
"$FPLAW" quantize --to e2m1 same same 2>line || fail "in place failed"
expect "in place" "$(values same)" "1 4 0 -6 2 -0 6 0.5"

"$FPLAW" quantize --to e2m1 --json x y >json 2>line || fail "--json failed"
for line in '"quantizer": "e2m1"' '"elements": 8' '"bits_per_value": 4.0' '"nonfinite": 0' '"amax": 12.0' \
    '"clipped": 0.25' '"underflow": 0.1428571428571428'; do
    grep -q "$line" json || fail "JSON lacks $line: $(cat json)"
done
: >empty
"$FPLAW" quantize --to e2m1/row --json empty y >json 2>line || fail "empty input failed"
[ ! -s y ] || fail "empty input gave output"
grep -q '"sqnr_db": null' json || fail "empty input: $(cat json)"

# .npy: 10 bytes of prefix, 118 of text
npy() { # DESCR ORDER SHAPE
    printf '\223NUMPY\001\000\166\000'
    printf '%-117s\n' "{'descr': '$1', 'fortran_order': $2, 'shape': $3, }"
}
(npy '<f4' False '(2, 4)' && cat x) >x.npy
"$FPLAW" quantize --to e2m1/row:e8m0 x.npy y.npy 2>line || fail ".npy failed: $(cat line)"
expect ".npy" "$(values y.npy 128)" "1 4 0 -6 2 -0 12 0"
head -c 128 x.npy >head_x
head -c 128 y.npy >head_y
cmp -s head_x head_y || fail ".npy header changed"
(npy '<f4' False '(2, 2, 2)' && cat x) >cube.npy
"$FPLAW" quantize --to e2m1/1x4:e8m0 --shape 2x4 cube.npy y.npy 2>line || fail ".npy with --shape failed"
expect ".npy with --shape" "$(values y.npy 128)" "1 4 0 -6 2 -0 12 0"

(npy '<f8' False '(4,)' && cat x) >double.npy
(npy '<f4' True '(4, 2)' && cat x) >fortran.npy
(npy '<f4' False '(3, 4)' && cat x) >short.npy
(npy '<f4' False '(2, x)' && cat x) >shape.npy
(npy '<f4' False '(99999999999999999999,)' && cat x) >huge.npy
printf '\223NUMPY\001' >cut.npy
printf '\223NUMPY\001\000\377\377 {}' >long.npy
printf '1234567' >odd
mkdir directory
[ "$(id -u)" = 0 ] || { mkdir locked && chmod 500 locked; }

refused 2 "no --to given" x out
refused 2 "no OUT given" --to e2m1 x
refused 2 "no files given" --to e2m1
refused 2 "unexpected argument" --to e2m1 x out third
refused 2 "did you mean '--shape'" --to e2m1 --shap=2x4 x out
refused 2 "needs a value" x out --to
refused 2 "character 3" --to e2q1 x out
refused 2 "a granularity" --to e2m1/1y4 x out
refused 2 "beyond float32" --to e8m3 x out
refused 2 "rows x columns" --to e2m1 --shape 8 x out
refused 2 "rows x columns" --to e2m1 --shape 0x8 x out
refused 2 "rows x columns" --to e2m1 --shape 2x-4 x out
refused 2 "are not --shape 3x3" --to e2m1 --shape 3x3 x out
refused 2 "are not --shape" --to e2m1 --shape 4294967296x4294967296 x out
refused 2 "accepted: 0 to 18446744073709551615" --to e2m1 --seed -1 x out
refused 2 "accepted: 0 to 18446744073709551615" --to e2m1 --seed 18446744073709551616 x out
refused 2 "want standard output" --to e2m1 --json x -
refused 2 "not divisible by 4" --to e2m1 odd out
refused 2 "'<f4'" --to e2m1 double.npy out
refused 2 "Fortran order" --to e2m1 fortran.npy out
refused 2 "do not hold the .npy shape, 3 x 4" --to e2m1 short.npy out
refused 2 "unreadable shape" --to e2m1 shape.npy out
refused 2 "unreadable shape" --to e2m1 huge.npy out
refused 2 "truncated" --to e2m1 cut.npy out
refused 2 "header of 65535 bytes" --to e2m1 long.npy out
refused 2 "missing" --to e2m1 missing out
refused 2 "directory" --to e2m1 directory out
refused 1 "full" --to e2m1 x /dev/full
refused 1 "nowhere" --to e2m1 x nowhere/out
[ ! -d locked ] || refused 1 "locked" --to e2m1 x locked/out

[ "$failures" = 0 ]
