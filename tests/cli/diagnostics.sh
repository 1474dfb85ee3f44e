#!/bin/sh
# What quantizing does to each operand, from the outside: `diagnose_every` of fplaw train and of a
# study, the CSV that either writes, and what is refused.
set -eu
: "${FPLAW:?the program under test}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"
fail() {
    echo "diagnostics: $*" >&2
    exit 1
}
expect() { # status, pattern on standard error, command
    want=$1 pattern=$2 got=0
    shift 2
    "$@" >out.txt 2>err.txt || got=$?
    [ $got -eq "$want" ] || fail "status $got, expected $want: $* : $(tail -n 1 err.txt)"
    [ -z "$pattern" ] || grep -Eq -- "$pattern" err.txt || fail "'$pattern' is not said by: $* : $(cat err.txt)"
}
header=run,step,layer,operand,elements,nonfinite,sqnr_db,underflow,clipped,amax,exponents
run='layers=1 width=8 heads=1 seq=16 steps=7 batch_tokens=64 eval_tokens=1024 data=lexicon:words=256'

# Steps 1, 4, 7; 24 operands of the one block and 10 of attention.
expect 0 '' "$FPLAW" train $run diagnose_every=3 'recipe=full:e4m3/1x8;attn.qk=e4m3fn/row;attn.pv=e4m3fn/row' --out t
[ "$(head -n 1 t/diagnostics.csv)" = "$header" ] || fail "header: $(head -n 1 t/diagnostics.csv)"
[ "$(wc -l <t/diagnostics.csv)" -eq 103 ] || fail "$(wc -l <t/diagnostics.csv) lines"
[ "$(cut -d, -f2 t/diagnostics.csv | sort -nu | tr '\n' ' ')" = '1 4 7 step ' ] ||
    [ "$(cut -d, -f2 t/diagnostics.csv | sed 1d | sort -nu | tr '\n' ' ')" = '1 4 7 ' ] || fail steps
awk -F, 'NR > 1 && NF != 11 { exit 1 }' t/diagnostics.csv || fail 'a line has not 11 columns'

# Nothing is quantized, or nothing was asked for: no file.
expect 0 '' "$FPLAW" train $run diagnose_every=3 --out u
[ ! -e u/diagnostics.csv ] || fail 'diagnostics of a run without quantized operands'
expect 0 '' "$FPLAW" train $run recipe=full:e4m3/1x8 --out v
[ ! -e v/diagnostics.csv ] || fail 'diagnostics that nobody asked for'
expect 2 'diagnose_every: -1 is outside' "$FPLAW" train $run diagnose_every=-1

# The option is not part of a run's identity: the same study, with and without it.
study() {
    printf '%s\n' 'name: d' "options: { layers: 1, width: 8, heads: 1, seq: 16, steps: 7, batch_tokens: 64, eval_tokens: 1024, data: \"lexicon:words=256\"$1 }" \
        'seeds: 2' 'grid: { recipe: [fp32, "full:e4m3/1x8"] }'
}
study '' >plain.yaml
study ', diagnose_every: 3' >diagnosed.yaml
expect 0 '' "$FPLAW" study plain.yaml --out p --workers 1
expect 0 '' "$FPLAW" study diagnosed.yaml --out d --workers 1
"$FPLAW" study p --export p.csv
"$FPLAW" study d --export d.csv
cmp p.csv d.csv || fail 'diagnosing changed a study'
expect 0 '' "$FPLAW" study d --export-diagnostics d-points.csv
[ "$(head -n 1 d-points.csv)" = "$header" ] || fail 'header of a study'
[ "$(wc -l <d-points.csv)" -eq 145 ] || fail "$(wc -l <d-points.csv) lines of a study"
expect 0 '' "$FPLAW" study d --export-diagnostics -
cmp d-points.csv out.txt || fail 'standard output differs'
expect 0 'no run has diagnostics' "$FPLAW" study p --export-diagnostics -
[ "$(cat out.txt)" = "$header" ] || fail 'a study without diagnostics has a header'
expect 0 '' "$FPLAW" study d --export both.csv --export-diagnostics both-points.csv
cmp both.csv d.csv && cmp both-points.csv d-points.csv || fail 'both exports at once'

# One clear line.
expect 2 '--export-diagnostics takes the directory of a study' "$FPLAW" study plain.yaml --export-diagnostics x.csv
expect 2 'nowhere: --export-diagnostics takes' "$FPLAW" study nowhere --export-diagnostics x.csv
expect 2 'goes with --export' "$FPLAW" study d --export-diagnostics x.csv --timing
expect 2 'goes with' "$FPLAW" study d --export-diagnostics x.csv --dry-run
expect 1 '/nowhere/x.csv' "$FPLAW" study d --export-diagnostics /nowhere/x.csv
[ ! -e x.csv ] || fail 'a refused export left a file'
