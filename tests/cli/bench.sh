#!/bin/sh
# bench: JSON by its schema, the same bits twice, exit 3 with the row's name where bits differ
# or a row is gone, bad arguments refused before anything is measured.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "bench.sh: $*" >&2
    exit 1
}

"$FPLAW" bench --quick --json >"$work/first.json" 2>"$work/err" || fail "$(cat "$work/err")"
grep -q '"schema": "fplaw-bench/1"' "$work/first.json" || fail "no schema"
for key in machine rows name value unit peer ratio bits repeats spread; do
    grep -q "\"$key\":" "$work/first.json" || fail "no $key"
done
[ "$(grep -c '"bits": "[0-9a-f]\{32\}"' "$work/first.json")" -ge 10 ] || fail "too few rows with bits"

# ratios of a quick run mean little, so any may fall; bits may not change
"$FPLAW" bench --quick --baseline "$work/first.json" --tolerance 1 --junit "$work/ok.xml" >"$work/table" 2>"$work/err" ||
    fail "a second run differs: $(cat "$work/err")"
grep -q 'tokens/s' "$work/table" || fail "no table"
grep -q '<testsuite ' "$work/ok.xml" || fail "no JUnit report"
if grep -q '<failure' "$work/ok.xml"; then fail "JUnit report of a good run has failures"; fi

# one part alone, compared with its own rows
"$FPLAW" bench --quick --suite quantizers --baseline "$work/first.json" --tolerance 1 >"$work/table" 2>"$work/err" ||
    fail "a part alone differs: $(cat "$work/err")"
grep -q '^turn ' "$work/table" || fail "no transposing row"
if grep -q '^step' "$work/table"; then fail "--suite ran other parts"; fi

# another instruction set, the same bits
FPLAW_SIMD=avx2 "$FPLAW" bench --quick --baseline "$work/first.json" --tolerance 1 >/dev/null 2>"$work/err" ||
    fail "avx2: $(cat "$work/err")"

sed '0,/"bits": "[0-9a-f]\{32\}"/s//"bits": "00000000000000000000000000000000"/;s/"quantize bf16"/"quantize gone"/' \
    "$work/first.json" >"$work/other.json"
status=0
"$FPLAW" bench --quick --baseline "$work/other.json" --tolerance 1 --junit "$work/bad.xml" >/dev/null 2>"$work/err" || status=$?
[ $status -eq 3 ] || fail "exit $status instead of 3"
grep -q "'step N=5120 fp32' computes other bits" "$work/err" || fail "row with other bits not named: $(cat "$work/err")"
grep -q "'quantize gone' is not measured" "$work/err" || fail "missing row not named: $(cat "$work/err")"
[ "$(grep -c '<failure' "$work/bad.xml")" -eq 2 ] || fail "JUnit report names other failures"

refuse() {
    status=0
    "$FPLAW" bench "$@" >/dev/null 2>"$work/err" || status=$?
    [ $status -eq 2 ] || fail "bench $*: exit $status instead of 2"
    [ "$(wc -l <"$work/err")" -eq 1 ] || fail "bench $*: not one line"
}
echo '{"schema":"fplaw-bench/1","rows":[{}]}' >"$work/bad.json"
refuse --baseline "$work/bad.json"
refuse --baseline "$work/none.json"
refuse --tolerance much
refuse --suite quantisers
refuse --suite quantizers,quantizers,
refuse --junit "$work/x.xml"
