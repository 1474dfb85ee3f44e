#!/bin/sh
# gpu.sh and gpu_table.py without a GPU: the committed table is what nothing measured gives; made-up
# figures, in a temporary directory only, land in their cells; gpu.sh's bench part feeds the table.
# FPLAW: a program with the CUDA backend that the host executes; SOURCE: the source tree.
set -eu
: "${FPLAW:?}" "${SOURCE:?}"
command -v python3 >/dev/null || { echo 'no python3'; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "gpu_table: $*" >&2
    exit 1
}
table() { python3 "$SOURCE/tests/peers/gpu_table.py" "$1"; }
cell() { # words of a row: its last column
    grep -F -- "$1" "$work/README.md" | awk -F'|' '{ print $4 }' | sed 's/^ *//;s/ *$//'
}
expect() {
    [ "$(cell "$1")" = "$2" ] || fail "'$1': '$(cell "$1")', expected '$2'"
}

mkdir "$work/none"
table "$work/none" | cmp - "$SOURCE/results/gpu/README.md" ||
    fail 'results/gpu/README.md is not what gpu_table.py writes: python3 tests/peers/gpu_table.py EMPTY'
[ "$(grep -c '| not yet measured |$' "$SOURCE/results/gpu/README.md")" -eq 9 ] || fail 'nine open cells are expected'

cat >"$work/bench.json" <<'JSON'
{"schema": "fplaw-bench/1", "rows": [
 {"name": "quantize e4m3/1x32", "value": 1, "ratio": 0.95}, {"name": "quantize e2m1", "value": 1, "ratio": 0.93},
 {"name": "quantize e4m3/tensor", "value": 1, "ratio": 0.5},
 {"name": "quantize e4m3fn:sr", "value": 1, "ratio": 0.9}, {"name": "quantize e4m3:sr/1x32", "value": 1, "ratio": 0.8},
 {"name": "product mxfp8 8192x1024x1024", "value": 300, "ratio": 0.6},
 {"name": "product mxfp4 8192x1024x1024", "value": 330, "ratio": 0.62},
 {"name": "product mxfp8 8192x2048x2048", "value": 400, "ratio": 0.7},
 {"name": "accumulate bf16", "value": 1, "ratio": 0.07}, {"name": "accumulate align:16,25", "value": 1, "ratio": 0.01},
 {"name": "pack N=3.32e+05 fp32", "value": 9e9, "ratio": 50}, {"name": "pack N=3.32e+05 full:e4m3/1x32", "value": 4e7, "ratio": 50},
 {"name": "pack N=1e+06 full:e4m3/1x32", "value": 1e7, "ratio": 20},
 {"name": "large N=9.91e+07 full:e4m3/1x32", "value": 2e5, "ratio": 0.9}]}
JSON
cat >"$work/torch.json" <<'JSON'
{"schema": "fplaw-gpu-peers/1", "rows": [
 {"what": "product", "kind": "bf16", "size": [8192, 1024, 1024], "flops": 6e14},
 {"what": "train", "shape": "0.3M", "mode": "eager", "precision": "amp", "tokens_per_second": 8e5},
 {"what": "train", "shape": "0.3M", "mode": "eager", "precision": "bf16", "tokens_per_second": 1e6},
 {"what": "train", "shape": "1M", "mode": "eager", "precision": "amp", "tokens_per_second": 1e6},
 {"what": "train", "shape": "0.3M", "mode": "reduce-overhead", "precision": "amp", "error": "made up"},
 {"what": "train", "shape": "100M", "mode": "compiled", "precision": "bf16", "tokens_per_second": 4e5},
 {"what": "train", "shape": "100M", "mode": "eager", "precision": "mx", "tokens_per_second": 2e4}]}
JSON
table "$work" >"$work/README.md"
expect 'quantize any format' '0.93'
expect '| sr (16 bits)' '0.8 (missed)'
expect 'copies from one read' 'not yet measured'
expect 'emulated GEMM' '0.5 (missed) / 0.7 / not yet measured'
expect 'accumulator rounded at every product' '0.07'
expect 'training one model of 100M' '0.5 (missed)'
expect 'microxcaling-style' '10'
expect 'one model at a time: eager' '40 / 10 (missed) / not yet measured'
expect 'reduce-overhead' 'not yet measured'
grep -q '^- 0.3M reduce-overhead amp: made up$' "$work/README.md" || fail 'a row that failed is not told'

# The real pipeline, as far as it goes here: the torch part has no GPU, which must not hide the rest.
status=0
QUICK=1 SUITE=quantizers sh "$SOURCE/tests/peers/gpu.sh" "$work/out" bench table >"$work/log" 2>&1 || status=$?
[ $status -eq 0 ] || fail "gpu.sh: status $status: $(cat "$work/log")"
grep -Eq '^\| quantize any format.*\| [0-9.e-]+ \(missed\) \|$' "$work/out/README.md" || fail 'no ratio from a real bench'
grep -q 'cuda' "$work/out/machine.txt" || fail 'machine.txt does not name the backend'
status=0
FPLAW=/bin/false sh "$SOURCE/tests/peers/gpu.sh" "$work/out" bench table >"$work/log" 2>&1 || status=$?
[ $status -eq 1 ] && grep -q 'bench failed' "$work/log" || fail "a part that fails: $status $(cat "$work/log")"
status=0
sh "$SOURCE/tests/peers/gpu.sh" "$work/out" bunch >"$work/log" 2>&1 || status=$?
[ $status -eq 2 ] || fail "an unknown part: $status"
"$FPLAW" study "$SOURCE/results/gpu/study.yaml" --device cuda --dry-run >"$work/log" || fail "study.yaml: $(cat "$work/log")"
runs=$(sed -n 's/^study gpu-packs: \([0-9]*\) runs.*/\1/p' "$work/log")
[ "$runs" -ge 200 ] || fail "study.yaml has $runs runs, 200 at least are expected"
echo "gpu_table: done; the study has $runs runs"
