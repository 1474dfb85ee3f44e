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
    finite ieee fn fnuz p3109e p3109f rne rna rtz rup rdn rto sr sat satp ovf tensor row col RxC mul e8m0 rceil \
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

refused 'did you mean fp32' fp99
refused 'character 3' e4q3
refused 'beyond float32' e4m3fn e8m3
refused 'beyond float32' --json e4m3fn e8m3
refused 'finite format' capybara:e4m3fn
refused "did you mean '--json'" --jsn

[ "$failures" = 0 ]
