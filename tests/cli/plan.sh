# plan.sh - `fplaw plan` from the command line: published constants and the demo's fit, tables, limits,
# JSON, what a law cannot tell, bad input, and proposals that `fplaw study --dry-run` accepts.
# Needs FPLAW, the built program, SOURCE, and python3 to read JSON.
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
# The demo's fit with a tenth of its resamples, which keeps this test short.
demo=demo.json
python3 -c "import json
fit = json.load(open('$SOURCE/results/2026-11-22-demo/fit.json'))
for law in fit['laws']:
    law['bootstrap']['vectors'] = law['bootstrap']['vectors'][:100]
    law['bootstrap']['n'] = 100
json.dump(fit, open('demo.json', 'w'))" || exit 1

fail() {
    echo "plan.sh: $*" >&2
    failures=$((failures + 1))
}
# says PATTERN ARGUMENTS...: plan succeeds and prints PATTERN
says() {
    pattern=$1
    shift
    "$FPLAW" plan "$@" >out 2>err || fail "plan $*: $(cat err)"
    grep -Eq -- "$pattern" out || fail "plan $*: no '$pattern' in: $(cat out)"
}
# refuses PATTERN ARGUMENTS...: plan ends with 2, one line with PATTERN and no output
refuses() {
    pattern=$1
    shift
    "$FPLAW" plan "$@" >out 2>err
    [ $? -eq 2 ] || fail "plan $*: not refused"
    [ "$(wc -l <err)" -eq 1 ] || fail "plan $*: $(cat err)"
    [ -s out ] && fail "plan $*: prints although it is refused"
    grep -Eq -- "$pattern" err || fail "plan $*: no '$pattern' in: $(cat err)"
}
# json CODE ARGUMENTS...: CODE, python with the object as `p`, holds
json() {
    code=$1
    shift
    "$FPLAW" plan "$@" --json >out 2>err || fail "plan $* --json: $(cat err)"
    python3 -c "import json, sys
p = json.load(open('out'))
assert $code" 2>why || fail "plan $* --json: not '$code': $(tail -1 why)"
}

# ---- published constants: the numbers of the shared notes -------------------------------------------

for pair in 1e21:4.190 1e24:5.005 1e28:6.344 1e31:7.578; do
    json "abs(p['budgets'][0]['bits']['bits']['value'] - ${pair##*:}) < 5e-4" capybara:paper --flops "${pair%%:*}"
done
says '1e\+24 +5\.005 .*fewer tokens than parameters' capybara:paper --flops 1e24
says '2:E1M0 3:E1M1 4:E2M1 5:E2M2 6:E3M2 7:E3M3 8:E4M3 9:E4M4 10:E5M4' capybara:paper --flops 1e21
says 'no learning rate and no batch' capybara:paper --flops 1e21
says 'no resamples' capybara:paper --flops 1e21
says 'extrapolation' capybara:paper --flops 1e21
says 'blocks of 128 are assumed' capybara:paper --flops 1e21
json "p['budgets'][0]['formats'][0]['format'] == 'e2m1' and p['budgets'][0]['formats'][0]['lr'] is None" \
    capybara:paper --flops 1e21 --speed e4m3=2,e2m1=4 --block 128
json "len(p['budgets'][0]['formats']) == 6" capybara:paper --flops 1e21 --speed e4m3=2,e2m1=4,e3m2/32=3 --block 32,128
says 'lr and batch are those of steplaw:paper' capybara:paper --flops 1e21 --optima steplaw:paper
says 'lr and batch are those of steplaw:paper.*at its limit' capybara:paper --flops 1e21 --optima steplaw:paper --batch-max 1e5
says 'no precision term' chinchilla:refit --flops 1e21
json "abs(p['allocation']['N']['value'] - 0.3658/(0.3478+0.3658)) < 2e-3" chinchilla:refit --flops 1e20,1e21,1e22
json "len(p['budgets']) == 9 and abs(p['budgets'][8]['flop']/1e23 - 1) < 1e-9" chinchilla:refit --flops 1e21 --table
json "len(p['isoflop']) == 13" chinchilla:refit --flops 1e21 --isoflop

# hours on hardware are FLOP
"$FPLAW" plan capybara:paper --flops 3.6e21 --json >a.json && "$FPLAW" plan capybara:paper --hours 1000 --hardware-flops 1e15 --json >b.json
cmp -s a.json b.json || fail "1000 hours at 1e15 per second are not 3.6e21 FLOP"

# ---- limits -----------------------------------------------------------------------------------------

json "p['budgets'][0]['formats'][0]['N']['value'] == 1e9" capybara:paper --flops 1e21 --N 1G
json "abs(p['budgets'][0]['formats'][0]['D']['value']/2e10 - 1) < 1e-6" chinchilla:refit --flops 1e21 --max-D 2e10
says 'N is what the memory holds' capybara:paper --flops 1e22 --memory 1.4e10
says 'critical data size' capybara:paper --flops 1e23 --N 1e9 --speed e2m1=4
json "p['budgets'][0]['formats'][0]['spent'] < 1" capybara:paper --flops 1e25 --N 1e9 --max-D 1e12
json "p['budgets'][0]['formats'][0]['N']['value'] < 2.7e9" chinchilla:refit --flops 1e21 --inference-tokens 3e11

# ---- a fit with resamples ------------------------------------------------------------------------------

says '95 % intervals over 100' "$demo" --flops 1e12 --speed e4m3=2,e2m1=4 --block 32
json "all(f['N']['lo'] <= f['N']['value'] <= f['N']['hi'] for f in p['budgets'][0]['formats'])" \
    "$demo" --flops 1e12 --speed e4m3=2,e2m1=4 --block 32
json "abs(sum(f['share_best'] for f in p['budgets'][0]['formats']) - 1) < 1e-9 and not p['cannot']" \
    "$demo" --flops 1e12 --speed e4m3=2,e2m1=4 --block 32
says 'within the noise of the best' "$demo" --flops 1e12 --speed e4m3=1.7,e4m2=1.87 --block 32
says 'other laws of the file' "$demo" --flops 1e12
json "p['law'] == 'capybara'" "$demo" --flops 1e12 --law capybara
says 'batch is at its limit' "$demo" --flops 1e12 --batch-max 256
json "p['budgets'][0]['formats'][0]['batch_tokens']['value'] == 4096" "$demo" --flops 1e12 --batch-min 4096

# ---- which run next -------------------------------------------------------------------------------------

common="--set layers=2 --set heads=2 --set seq=64"
for decision in "loss@N=1e6,D=1e7,format=e2m1,block=32" "lr@N=1e5,D=1e6" "batch@N=1e5,D=1e6" \
    "D_crit@N=1e5,D=1e6,format=e2m1,block=32"; do
    # shellcheck disable=SC2086
    "$FPLAW" plan "$demo" --next 5 --decide "$decision" --format e4m3,e2m1 --block 32 --max-flops 1e12 $common \
        --out next.yaml 2>err || fail "--next $decision: $(cat err)"
    "$FPLAW" study next.yaml --dry-run >dry 2>&1 || fail "study refuses the proposals for $decision: $(cat dry)"
    grep -q '5 runs, 0 done, 5 to run' dry || fail "not five runs for $decision: $(cat dry)"
done
# shellcheck disable=SC2086
"$FPLAW" plan "$demo" --next 5 --decide best-format --flops 1e12 --speed e4m3=2,e2m1=4 --block 32 $common >next.yaml \
    2>err || fail "--next best-format: $(cat err)"
"$FPLAW" study next.yaml --dry-run >dry 2>&1 || fail "study refuses the proposals for best-format: $(cat dry)"
grep -q 'sd of best-format' err || fail "no word of what the runs tell: $(cat err)"
# shellcheck disable=SC2086
"$FPLAW" plan "$demo" --law chinchilla --next 3 --decide "loss@N=1e6,D=1e7" $common >next.yaml 2>err || fail "$(cat err)"
grep -q 'tells no learning rate' next.yaml || fail "a law without a learning rate does not say so"
"$FPLAW" study next.yaml --dry-run >dry 2>&1 || fail "study refuses chinchilla's proposals: $(cat dry)"

# ---- refused ----------------------------------------------------------------------------------------------

refuses 'budget is expected' capybara:paper
refuses 'flops: found 0' capybara:paper --flops 0
refuses 'flops: found -1' capybara:paper --flops=-1
refuses 'flops' capybara:paper --flops many
refuses 'both are given' capybara:paper --flops 1e21 --hours 3 --hardware-flops 1e15
refuses 'belong together' capybara:paper --hours 3
refuses "did you mean 'e4m3'" capybara:paper --flops 1e21 --speed e4n3=2
refuses 'FORMAT=SPEED' capybara:paper --flops 1e21 --speed e4m3
refuses 'speed of e4m3' capybara:paper --flops 1e21 --speed e4m3=0
refuses 'given twice' capybara:paper --flops 1e21 --speed e4m3=2,e4m3=3
refuses 'block' capybara:paper --flops 1e21 --block x
refuses 'batch-min' capybara:paper --flops 1e21 --batch-min 1e6 --batch-max 1e5
refuses 'state-bytes' capybara:paper --flops 1e21 --state-bytes=-3
refuses 'no size within the limits' capybara:paper --flops 1e21 --N 1e9 --memory 1e6
refuses 'cannot plan' steplaw:paper --flops 1e21
refuses 'cannot plan' qat:paper --flops 1e21
refuses 'no such published constants' capybara:mine --flops 1e21
refuses 'needs the fit.s resamples' capybara:paper --flops 1e21 --next 3
refuses 'did you mean loss' "$demo" --next 3 --decide los
refuses 'N= and D= are expected' "$demo" --next 3 --decide loss@N=1e6
"$FPLAW" plan "$demo" --next 2 >out 2>err && grep -q 'recipe' out && grep -q 'at N ' err ||
    fail "plan FIT.json --next K alone: $(cat err)"
refuses 'accepted is 1 to 10000' "$demo" --next 2.5 --flops 1e12
refuses 'what --next chooses' "$demo" --next 2 --flops 1e12 --set lr=1
refuses 'has no law' "$demo" --flops 1e12 --law nothing
refuses 'gives a learning rate' capybara:paper --flops 1e21 --optima chinchilla:refit
refuses 'one FIT.json' --flops 1e21
"$FPLAW" plan nothing.json --flops 1e21 >out 2>err
[ $? -ne 0 ] || fail "a missing file is no error"
"$FPLAW" plan --help | grep -q -- --inference-tokens || fail "--help is not complete"

[ "$failures" -eq 0 ] && echo "plans hold"
[ "$failures" -eq 0 ]
