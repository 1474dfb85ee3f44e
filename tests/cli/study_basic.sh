#!/bin/sh
# `fplaw study` from the outside: dry run, run, rerun, export, two at once, budget, a stage that
# takes LR and batch from a fit, and a disk that is really full.
set -eu
: "${FPLAW:?the program under test}"
work=$(mktemp -d)
pid=
trap 'kill -KILL $pid 2>/dev/null || :; rm -rf "$work"' EXIT INT TERM
cd "$work"
fail() {
    echo "study_basic: $*" >&2
    exit 1
}
expect() { # status, pattern on standard error, command
    want=$1 pattern=$2 got=0
    shift 2
    "$@" >out.txt 2>err.txt || got=$?
    [ $got -eq "$want" ] || fail "status $got, expected $want: $* : $(tail -n 1 err.txt)"
    [ -z "$pattern" ] || grep -Eq -- "$pattern" err.txt || fail "'$pattern' is not said by: $* : $(cat err.txt)"
}

options='options: { layers: 1, width: 8, heads: 1, seq: 16, tokens: 8k, batch_tokens: 64, eval_tokens: 1024, data: "lexicon:words=256" }'
printf '%s\n' 'name: basic' "$options" 'seeds: 2' 'grid: { lr: [2e-3, 5e-3], recipe: [fp32, "full:e4m3/1x32"] }' >s.yaml

# Nothing is written by a dry run, with a directory or without.
expect 0 '' "$FPLAW" study s.yaml --dry-run
grep -q 'study basic: 8 runs, 0 done, 8 to run' out.txt || fail "dry run: $(cat out.txt)"
grep -q 'FLOP' out.txt || fail "the dry run tells no cost"
expect 0 '' "$FPLAW" study s.yaml --out d --dry-run
[ ! -e d ] || fail 'the dry run made a directory'

expect 0 '8 of 8 runs done; 8 in this call' "$FPLAW" study s.yaml --out d --workers 2
cmp s.yaml d/study.yaml || fail 'the study file was not copied'
expect 0 '8 done, 0 to run' "$FPLAW" study s.yaml --out d
expect 0 '' "$FPLAW" study d --export runs.csv
expect 0 '' "$FPLAW" study d --export -
cmp runs.csv out.txt || fail 'the table on standard output differs'
[ "$(head -n 1 runs.csv)" = run,seed,status,N,D,lr,batch_tokens,recipe,format,granularity,E,M,block,steps,seq,loss,loss_se,backend,numerics ] ||
    fail "columns: $(head -n 1 runs.csv)"
[ "$(wc -l <runs.csv)" -eq 9 ] || fail 'a header and 8 runs are expected'
tail -n +2 runs.csv | cut -d, -f1 | LC_ALL=C sort -c || fail 'the table is not sorted by run'
expect 0 '' "$FPLAW" study d --export timing.csv --timing
head -n 1 timing.csv | grep -q 'numerics,seconds,tokens_per_second$' || fail 'measured columns are missing'
cut -d, -f1-19 timing.csv | cmp - runs.csv || fail '--timing changes other columns'
"$FPLAW" study - --out piped --workers 2 <s.yaml 2>/dev/null || fail 'a study file on standard input'
"$FPLAW" study piped --export - | cmp - runs.csv || fail 'the table depends on where the file came from'

expect 2 'is a directory' "$FPLAW" study d --out e
expect 2 'takes the directory' "$FPLAW" study s.yaml --export x.csv
expect 2 'goes with --timing only' "$FPLAW" study d --export x.csv --workers 2
expect 2 'goes with --export' "$FPLAW" study s.yaml --out d --timing
expect 2 'one study file' "$FPLAW" study s.yaml s.yaml --out d
expect 2 'budget' "$FPLAW" study s.yaml --out d --budget soon
expect 2 'pack: 1 to 4096' "$FPLAW" study s.yaml --out d --pack 0
expect 2 'abacus: this build has no such backend' "$FPLAW" study s.yaml --out d --device abacus

# Two at once on one directory; the second is refused, the first stops in good order.
printf '%s\n' "$options" 'grid: { tokens: [100M] }' >long.yaml
"$FPLAW" study long.yaml --out long --workers 1 2>long.txt &
pid=$!
tries=0
until grep -q 'estimated cost' long.txt; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail 'the long study does not start'
    sleep 0.05
done
expect 1 'another study is running here' "$FPLAW" study long.yaml --out long
kill -INT $pid
status=0
wait $pid || status=$?
[ $status -eq 130 ] || fail "SIGINT: status $status"
grep -q 'goes on where this one ended' long.txt || fail "SIGINT: $(cat long.txt)"
[ "$(find long/checkpoints -type f | wc -l)" -le 1 ] || fail 'more than one checkpoint'

# A budget too small for anything.
expect 0 'did not start: the time budget is used up' "$FPLAW" study long.yaml --out budget --budget 0.001

# LR and batch of the second stage from a fit of the first.
printf '%s\n' "$options" 'stages:' \
    '  - name: bowl' \
    '    grid: { tokens: [4k, 16k, 64k], lr: [2e-3, 8e-3, 3.2e-2], batch_tokens: [32, 64, 128], width: [8, 16, 24] }' \
    '  - { name: next, after: bowl, law: { fit: bowl }, options: { lr: law, batch_tokens: law }, grid: { tokens: [32k] } }' >f.yaml
expect 0 '82 of 82 runs done' "$FPLAW" study f.yaml --out f --workers 2
grep -q '"law":"steplaw"' f/fit-bowl.json || fail 'the fit of the stage was not written'

# A disk that is really full, where this machine lets us make one.
cat >full.sh <<'SH'
mount -t tmpfs -o size=48k none mnt || exit 77
status=0
"$FPLAW" study s.yaml --out mnt/d --workers 1 2>err.txt || status=$?
[ $status -eq 1 ] && grep -q 'mnt/d/study.db.*full' err.txt || { echo "full disk: $status $(tail -n 1 err.txt)"; exit 1; }
mount -o remount,size=4m mnt || exit 77
"$FPLAW" study s.yaml --out mnt/d --workers 1 2>err.txt || { echo "room again: $(tail -n 1 err.txt)"; exit 1; }
"$FPLAW" study mnt/d --export - | cmp - runs.csv
SH
mkdir mnt
status=0
unshare -rm sh full.sh >full.txt 2>&1 || status=$?
if [ $status -eq 1 ] && ! grep -Eq 'unshare|permitted|denied' full.txt; then fail "$(cat full.txt)"; fi
[ $status -eq 0 ] || echo 'study_basic: no file system of its own to fill up; that part is left out'
echo 'study_basic: done'
