#!/bin/sh
# formats.sh - `fplaw formats`: the list, descriptions, JSON, refusals.  Needs FPLAW.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

fail() {
    echo "formats.sh: $*" >&2
    failures=$((failures + 1))
}

# shows PATTERN ARGUMENT...
shows() {
    pattern=$1
    shift
    "$FPLAW" formats "$@" >stdout 2>stderr || fail "$*: exit $?"
    [ ! -s stderr ] || fail "$*: $(cat stderr)"
    grep -q -- "$pattern" stdout || fail "$*: '$pattern' is missing in: $(cat stdout)"
}

refused() {
    pattern=$1
    shift
    "$FPLAW" formats "$@" >stdout 2>stderr
    got=$?
    [ "$got" = 2 ] || fail "$*: exit $got, expected 2"
    [ "$(wc -l <stderr)" = 1 ] || fail "$*: $(wc -l <stderr) lines of message"
    grep -q "^fplaw: .*$pattern" stderr || fail "$*: message '$(cat stderr)' lacks '$pattern'"
    [ ! -s stdout ] || fail "$*: wrote to standard output"
}

for name in fp32 tf32 bf16 fp16 fp8_e4m3 fp8_e5m2 fp6_e3m2 fp6_e2m3 fp4_e2m1 int2 int16 mxint8 ue8m0 ue4m3fn \
    uint1 uint16 nf4 finite ieee fn fnuz p3109e p3109f rne rna rtz rup rdn rto sr srb src sat satp ovf \
    tensor row col RxC mul e8m0 rceil delayed t z mse 46 acc chunk:F/k \
    capybara full qat fp8 mxfp8 mxfp4 ops; do
    shows "^  $name "
done

# every E4M3 with its largest value
for row in 'e4m3  *largest 480' 'e4m3ieee  *largest 240' 'e4m3fn  *largest 448' 'e4m3fnuz  *largest 240' \
    'e4m3p3109e  *largest 224' 'e4m3p3109f  *largest 240' 'e4m3b11fnuz  *largest 30'; do
    shows "$row" E4M3
done
shows '^fp8_e5m2: format e5m2ieee, largest 57344$' fp8_e5m2
shows 'values 0 0.5 1 1.5 2 3 4 6$' e2m1
shows 'smallest normal 0.015625 (2^-6), smallest positive 0.001953125$' e4m3fn
shows '^  wgrad.dy e5m2ieee/tensor (largest 57344)$' fp8
shows 'then rounded to bf16' capybara:e2m1/32
shows '"largest": 448.0' e4m3fn --json
shows '"wgrad.x": "e4m3fn/1x32:rceil"' --json mxfp8
shows '"scale_rules"' --json
shows 'Usage' --help

# what each E4M3 differs in, special codes, dynamic range, every value
shows 'e4m3fn  *largest 448  *NaN 0x7f 0xff, 253 of its 253 values' e4m3
shows 'codes  Inf 0x7c 0xfc; NaN 0x7d..0x7f, and negative; -0 0x80$' e5m2ieee
shows 'codes  Inf 0x7f 0xff; NaN 0x80; -0 none$' e4m3p3109e
shows 'codes  Inf 0xfe; NaN 0xff; -0 none$' ue4m4p3109e
shows 'range  5.36 decades.*; 253 finite values$' e4m3fn
shows '^         448 480$\|[^0-9]448 480$' e4m3
shows 'e1m6  *largest 3.96875' int8
shows '^nf4: codebook nf4, largest 1$' nf4
shows '16 values, content hash [0-9a-f]\{16\}$' NF4
shows 'arXiv 2305.14314' nf4
"$FPLAW" formats e3m4 >stdout
[ "$(sed -n '/^  values/,/^  relatives/p' stdout | sed 's/and the same.*//' | tr -cs '0-9.e-' '\n' | grep -c '^[0-9]')" = 128 ] ||
    fail 'e3m4 does not list its 128 magnitudes'

# side by side, quantizers, accumulators
shows '^largest  *448  *57344  *6  *1$' e4m3fn e5m2ieee e2m1 nf4
shows '^smallest normal  *2^-6  *2^-14' fp8_e4m3 fp8_e5m2
shows '^  bits per value  4.5$' e2m1/1x16:e4m3fn+t
shows '^  bits per value  5.125$' uint4/1x32+z
shows '^  bits per value  8, and a scale per tensor$' e4m3fn/tensor:delayed
shows 'accumulator align:32,13/128$' align:32,13/128
shows '"difference": "this one"' --json e2m1
shows '"nan": "0x7f 0xff"' --json e4m3fn
shows '"count": 253' --json e4m3fn
shows '"policy": "codebook"' --json nf4
shows '"flags"' --json
shows '"accumulators"' --json
shows '"bits_per_value": 4.25' --json e2m1/1x32:e8m0
for names in '' e4m3 nf4 e5m10ieee e4m3fn/1x32+mse 'e4m3fn e5m2 e2m1 nf4 int8 fp16' 'mxfp8'; do
    # shellcheck disable=SC2086
    "$FPLAW" formats $names >stdout
    awk 'length > 80 { exit 1 }' stdout || fail "formats $names: lines beyond 80 columns"
done
"$FPLAW" formats --json | python3 -m json.tool >parsed || fail 'the list is no JSON'

refused 'did you mean fp32' fp99
refused 'did you mean nf4' nf5
refused 'a zero point only with uint1 to uint16' int8/1x32+z
refused 'character 16: found "z"' e4m3fn/1x32 e4m3fn/row+mse+z
refused 'character 3' e4q3
refused 'beyond float32' e4m3fn e8m3
refused 'beyond float32' --json e4m3fn e8m3
refused 'finite format' capybara:e4m3fn
refused "did you mean '--json'" --jsn

[ "$failures" = 0 ]
