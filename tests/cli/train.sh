# train.sh - `fplaw train`: files and overrides, stopping and going on, and that neither
# threads, nor instruction sets, nor an interruption change a bit of the result.
#
# "The same result" compares every field of the record that does not tell of time or machine.
# Needs FPLAW, the built program, and python3.
set -u
work=$(mktemp -d) || exit 1
pid=
trap 'kill -KILL $pid 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "train.sh: $*" >&2
    failures=$((failures + 1))
}

# result FILE: the record's reproducible part, one line
result() {
    python3 - "$1" <<'PY'
import json, sys
record = json.load(open(sys.argv[1]))
for measured in ("seconds", "tokens_per_second", "peak_bytes", "joules", "variants", "simd"):
    record.pop(measured)
print(json.dumps(record, sort_keys=True))
PY
}

# same WHAT FILE FILE
same() {
    result "$2" >left && result "$3" >right && [ -s left ] && cmp -s left right || fail "$1: the results differ"
}

field() { # FILE NAME
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"
}

tiny="layers=1 width=16 heads=2 seq=16 batch_tokens=64 eval_tokens=512 data=lexicon:words=64"

# ---- a file and overrides -------------------------------------------------------------------------
cat >run.yaml <<'YAML'
layers: 1
width: 16
heads: 2
seq: 16
batch_tokens: 64
steps: 40
eval_tokens: 512
data: "lexicon:words=64"
recipe: full:e4m3:sr/1x16
lr: 4e-3
YAML
"$FPLAW" train run.yaml --json >file.json 2>err || fail "a file: $(cat err)"
# shellcheck disable=SC2086
"$FPLAW" train $tiny steps=40 recipe=full:e4m3:sr/1x16 lr=4e-3 --json >arguments.json 2>err || fail "arguments: $(cat err)"
same "file and arguments" file.json arguments.json
[ "$(field file.json D)" = 2560.0 ] || fail "40 steps of 64 tokens give D = $(field file.json D)"
"$FPLAW" train - --json <run.yaml >standard.json 2>err || fail "standard input: $(cat err)"
same "file and standard input" file.json standard.json
"$FPLAW" train run.yaml lr=2e-3 seed=7 --json >other.json 2>err || fail "overrides: $(cat err)"
python3 - <<'PY' || fail "overrides are not in the record"
import json
lines = json.load(open("other.json"))["canonical"].splitlines()
assert "lr=0.002" in lines and "seed=7" in lines and "width=16" in lines
PY
[ "$(field other.json id)" != "$(field file.json id)" ] || fail "other options, the same identity"
"$FPLAW" train run.yaml tokens=640 --json >tokens.json 2>err || fail "tokens for steps: $(cat err)"
[ "$(field tokens.json steps)" = 10 ] || fail "tokens=640 gives $(field tokens.json steps) steps"
"$FPLAW" train run.yaml --out plain >summary 2>err || fail "summary: $(cat err)"
grep -q "^held-out   loss " summary || fail "the summary has no loss: $(cat summary)"
same "record.json and --json" plain/record.json file.json
cp plain/record.json before.json
"$FPLAW" train run.yaml --out plain >summary 2>err || fail "a finished run again: $(cat err)"
same "a finished run again" plain/record.json before.json

# ---- a disk that fills at the end -----------------------------------------------------------------------
# File size limits in blocks of 512 bytes: the record fits and the checkpoint does not, then
# neither does. What was trained is told all the same.
full() { # DIRECTORY LIMIT REASON
    mkdir -p "$1"
    { sh -c 'ulimit -f "$1" && shift && exec "$@"' sh "$2" "$FPLAW" train run.yaml --json --out "$1" 2>err
      echo $? >status; } | cat >"$1.json"
    [ "$(cat status)" -eq 1 ] || fail "$1: exit $(cat status)"
    [ "$(wc -l <err)" -eq 1 ] && grep -q "$3: cannot be written: File too large" err || fail "$1: $(cat err)"
    same "$1" "$1.json" file.json
}
full roomy 12 roomy/checkpoint.bin
same "the record without a checkpoint" roomy/record.json file.json
set -- roomy/*
[ "$*" = roomy/record.json ] || fail "a failed checkpoint left $*"
full tight 2 tight/checkpoint.bin # 1 KB: as much as LLVM's OpenMP takes of /dev/shm
set -- tight/*
[ ! -e "$1" ] || fail "failed writes left $*"

# ---- threads and instruction sets --------------------------------------------------------------------
"$FPLAW" train run.yaml --threads 2 --json >threads.json 2>err || fail "--threads 2: $(cat err)"
same "two threads" file.json threads.json
for level in avx2 baseline; do
    FPLAW_SIMD=$level "$FPLAW" train run.yaml --json >level.json 2>err || fail "$level: $(cat err)"
    same "$level" file.json level.json
done
[ "$(field level.json simd)" = baseline ] || fail "FPLAW_SIMD=baseline ran $(field level.json simd)"

# ---- stopped and continued -----------------------------------------------------------------------------
# The step count makes the run take a few seconds on any machine, sanitizers included: it
# doubles until a signal half a second after the start finds it between two steps.
steps=2000
catches_signals() { # $pid has handlers for SIGINT and SIGTERM, however long a loaded machine took
    mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
    [ $((0x${mask:-0} & 0x4002)) -eq $((0x4002)) ]
}
stopped() { # SIGNAL STATUS DIRECTORY: start, signal, check; 1 if all steps were over before
    # shellcheck disable=SC2086
    "$FPLAW" train $tiny steps=$steps eval_every=$((steps / 4)) --out "$3" >out 2>err &
    pid=$!
    until catches_signals || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
    sleep "${4-0.5}"
    kill -"$1" $pid 2>/dev/null
    wait $pid
    status=$?
    pid=
    [ $status -ne 0 ] || return 1
    [ $status -eq "$2" ] || fail "SIG$1: exit $status, expected $2: $(cat err)"
    [ "$(wc -l <err)" -eq 1 ] || fail "SIG$1: $(wc -l <err) lines of message: $(cat err)"
    [ -s "$3/checkpoint.bin" ] || fail "SIG$1 left no checkpoint"
    [ "$(field "$3/record.json" status)" = stopped ] || fail "SIG$1: status $(field "$3/record.json" status)"
    # All steps done: the signal met the evaluation after the last one.
    [ "$(field "$3/record.json" steps)" -lt "$steps" ]
}
until stopped INT 130 cut; do
    rm -rf cut
    steps=$((steps * 2))
    [ $steps -le 4000000 ] || { fail "no run was long enough to be stopped"; break; }
done
# shellcheck disable=SC2086
"$FPLAW" train $tiny steps=$steps eval_every=$((steps / 4)) --json >whole.json 2>err || fail "undisturbed: $(cat err)"
stopped TERM 143 cut 0.3 # may have finished: then there is nothing to stop
# shellcheck disable=SC2086
"$FPLAW" train $tiny steps=$steps eval_every=$((steps / 4)) --threads 2 --out cut >out 2>err || fail "going on: $(cat err)"
same "stopped and continued" whole.json cut/record.json

# A checkpoint belongs to its run.
# shellcheck disable=SC2086
"$FPLAW" train $tiny steps=$steps lr=1e-3 --out cut >out 2>err
[ $? -eq 2 ] && grep -q 'cut/checkpoint.bin.*lr' err || fail "another run took the checkpoint: $(cat err)"

[ "$failures" -eq 0 ]
