#!/bin/sh
# A study that is killed at random moments ends with the table of an undisturbed one.
#
# The same study file is run four times: undisturbed with one worker, undisturbed with two, in packs of
# up to eight runs side by side, and with two workers killed 20 times: SIGKILL to the parent, SIGKILL
# to a worker, SIGTERM, SIGINT, in turn, after a delay that differs each time, with packs of another
# size in every call.  The exported tables must be equal to the byte, the database sound after every
# kill, the exit statuses those of design.md.  Half of the third stage's runs break early, each at
# its own step.
set -eu
: "${FPLAW:?the program under test}"
work=$(mktemp -d)
pid=
trap 'kill -KILL $pid 2>/dev/null || :; rm -rf "$work"' EXIT INT TERM

fail() {
    echo "study_kill: $*" >&2
    exit 1
}

cat >"$work/study.yaml" <<'YAML'
name: kill
options: { layers: 1, width: 16, heads: 1, seq: 32, tokens: 320k, batch_tokens: 128, eval_tokens: 4096,
           data: "lexicon:words=1024", checkpoint_every: 50 }
stages:
  - name: first
    seeds: 2
    grid: { lr: [2e-3, 5e-3, 1.2e-2] }
    list:
      - recipe: fp32
      - grid: { recipe: ["full:e4m3/1x32", "full:e2m1:sr/1x16"] }
  - name: second
    after: first
    options: { lr: law, batch_tokens: law }
    law: { lr: { c: 6.0, N: -0.6, D: 0.05 }, batch: { c: 0.6, D: 0.5 } }
    grid: { tokens: [128k, 192k], lr_octaves: [-0.5, 0.5, 1.5] }
  - name: third
    options: { tokens: 96k, eval_every: 100, diagnose_every: 400, recipe: "full:e4m3/1x32" }
    zip: { lr: [300, 5e-3, 900, 4e-3, 30, 6e-3, 1000, 2e-3], weight_decay: [100, 0.1, 10, 0.2, 100, 0.1, 1, 0] }
YAML

run() { # directory, workers, options: in the background, its process id in $pid
    directory=$1 workers=$2
    shift 2
    "$FPLAW" study "$work/study.yaml" --out "$work/$directory" --workers "$workers" "$@" >>"$work/log" 2>&1 &
    pid=$!
}
table() { "$FPLAW" study "$work/$1" --export "$work/$1.csv"; }

for plain in one two packed; do
    case $plain in
    one) run one 1 ;;
    two) run two 2 ;;
    packed) run packed 2 --pack 8 ;;
    esac
    wait $pid || fail "the undisturbed study '$plain' ended with status $?: $(tail -n 1 "$work/log")"
    table $plain
done
[ "$(wc -l <"$work/one.csv")" -eq 33 ] || fail "32 runs and a header expected"
[ "$(grep -c ,diverged, "$work/one.csv")" -eq 4 ] || fail "four runs that break are expected"
cmp "$work/one.csv" "$work/two.csv" || fail "one worker and two give different tables"
cmp "$work/one.csv" "$work/packed.csv" || fail "packs change the table"
for directory in one packed; do "$FPLAW" study "$work/$directory" --export-diagnostics "$work/$directory.diagnostics"; done
cmp "$work/one.diagnostics" "$work/packed.diagnostics" || fail "packs change diagnoses"

kills=0
tries=0
while [ $kills -lt 20 ]; do
    tries=$((tries + 1))
    [ $tries -le 60 ] || fail "the study ended before it could be killed: $kills kills"
    # Delays of 0.03 to 0.25 s without a pattern; early kills meet starting workers.
    sleep "0.$(awk "BEGIN { srand($tries); printf \"%02d\", 3 + int(23 * rand()) }")" &
    delay=$!
    run killed 2 --pack $((1 + tries % 4))
    wait $delay
    case $((kills % 4)) in
    0) kill -KILL $pid 2>/dev/null || : ; expected=137 ;;
    1) victims=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || :)
       # shellcheck disable=SC2086
       set -- $victims
       if [ $# -gt 0 ]; then kill -KILL "$1" 2>/dev/null || : ; fi
       # The study goes on without it; the next kill is for the parent.
       sleep 0.05
       kill -TERM $pid 2>/dev/null || : ; expected=143 ;;
    2) kill -TERM $pid 2>/dev/null || : ; expected=143 ;;
    3) kill -INT $pid 2>/dev/null || : ; expected=130 ;;
    esac
    status=0
    wait $pid 2>/dev/null || status=$?
    if [ $status -eq "$expected" ]; then
        kills=$((kills + 1))
        [ ! -f "$work/killed/study.db" ] || "$FPLAW" study "$work/killed" --export - >"$work/part.csv" ||
            [ $kills -lt 3 ] || fail "the database is damaged after kill $kills"
    elif [ $status -ne 0 ]; then
        fail "status $status where $expected was expected: $(tail -n 1 "$work/log")"
    else # finished first: start again from nothing, keeping the count
        rm -rf "$work/killed"
    fi
done
run killed 2
wait $pid || fail "the last call ended with status $?: $(tail -n 1 "$work/log")"
table killed
cmp "$work/one.csv" "$work/killed.csv" || fail "the killed study's table differs"
[ -z "$(ls "$work/killed/checkpoints")" ] || fail "checkpoints are left: $(ls "$work/killed/checkpoints")"
echo "study_kill: $kills kills in $tries calls, table unchanged"
