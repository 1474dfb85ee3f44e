#!/bin/sh
# `fplaw bench --device cuda --quick` on CUDA kernels that the host executes: every part has its rows,
# bits are the same twice, other bits are found, a file of another backend is refused.  Its ratios say
# nothing; a GPU's are measured by tests/peers/gpu.sh.   FPLAW: the program with that backend.
set -eu
: "${FPLAW:?the program under test}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "host_bench: $*" >&2
    exit 1
}
bench() { "$FPLAW" bench --device cuda --quick "$@"; }

bench --json >"$work/first.json" 2>"$work/err" || fail "$(cat "$work/err")"
for row in 'quantize e4m3/1x32' 'quantize e4m3:sr/1x32' 'product mxfp8 64x32x32' 'accumulate bf16' \
    'pack N=640 full:e4m3/1x32' 'large N=640 fp32'; do
    grep -q "\"name\": \"$row\"" "$work/first.json" || fail "no row '$row'"
done
grep -q '"backend": "cuda"' "$work/first.json" || fail 'the backend is not told'
grep -q '"device": "host execution' "$work/first.json" || fail 'the device is not told'
[ "$(grep -c '"bits": "[0-9a-f]\{32\}"' "$work/first.json")" -eq "$(grep -c '"bits":' "$work/first.json")" ] ||
    fail 'rows without bits'
bench --baseline "$work/first.json" --tolerance 1 >/dev/null 2>"$work/err" || fail "a second run differs: $(cat "$work/err")"

sed '0,/"bits": "[0-9a-f]\{32\}"/s//"bits": "00000000000000000000000000000000"/' "$work/first.json" >"$work/other.json"
status=0
bench --suite quantizers --baseline "$work/other.json" --tolerance 1 >/dev/null 2>"$work/err" || status=$?
[ $status -eq 3 ] || fail "other bits: status $status"
grep -q "'quantize bf16' computes other bits" "$work/err" || fail "other bits: $(cat "$work/err")"
status=0
"$FPLAW" bench --quick --suite products --baseline "$work/first.json" >/dev/null 2>"$work/err" || status=$?
[ $status -eq 2 ] || fail "another backend: status $status"
grep -q 'rows of the backend cuda, here cpu' "$work/err" || fail "another backend: $(cat "$work/err")"
status=0
bench --suite steps >/dev/null 2>"$work/err" || status=$?
[ $status -eq 2 ] && grep -q 'accepted are quantizers, products, accumulators, packs' "$work/err" ||
    fail "--suite steps: $status $(cat "$work/err")"
echo 'host_bench: done'
