# laws.sh - every law from the command line: `fplaw predict LAW:PRESET` without a fit, `fplaw fit --law
# X` from a CSV made of known constants, the fit asked again, and what is said about missing names.
# Needs FPLAW, the built program, and python3, which makes the tables from formulas of its own.
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "laws.sh: $*" >&2
    failures=$((failures + 1))
}

# ---- published constants ------------------------------------------------------------------------

# says PATTERN ARGUMENTS...: predict succeeds and prints PATTERN
says() {
    pattern=$1
    shift
    "$FPLAW" predict "$@" >out 2>err || fail "predict $*: $(cat err)"
    grep -Eq -- "$pattern" out || fail "predict $*: no '$pattern' in: $(cat out)"
}
# refuses PATTERN ARGUMENTS...: predict ends with 2 and one line with PATTERN
refuses() {
    pattern=$1
    shift
    "$FPLAW" predict "$@" >out 2>err
    [ $? -eq 2 ] || fail "predict $*: not refused"
    [ "$(wc -l <err)" -eq 1 ] || fail "predict $*: $(cat err)"
    grep -Eq -- "$pattern" err || fail "predict $*: no '$pattern' in: $(cat err)"
}
says 'critical D +2\.73' capybara:paper N=1e9 D=1e11 format=e4m3 block=128
says 'bits_opt +5\.00' capybara:paper N=1e9 D=1e11 format=e4m3 block=128 flop=1e24
says 'loss +2\.988' capybara-channel:paper N=679477248 D=104857600000 E=1 M=1
says 'bits_opt +7\.00' kumar:paper N=1e9 D=1e11 Pw=8 Pa=8
says '"N_eff"' kumar:paper N=1e9 D=1e11 format=e4m3 --json
says 'rise of the loss' kumar-ptq:paper N=1e9 D=1e11 bits=4
says 'rise of the loss' qat:paper N=1e9 D=1e11 group=128
says '"delta": \{"value": 0\.05' qat:paper N=1e9 D=1e11 block=128 E=2 M=1 --json
says 'N_eff +6e\+08' capacity:paper N=1e9 D=1e11 eff_N=0.6 eff_D=0.9
says 'N_opt' chinchilla:refit N=1e9 D=1e11
says 'asked at N = 9\.586e\+10 and D = 1\.739e\+12' chinchilla:refit flop=1e24
says 'loss +1\.9666' chinchilla:refit flop=1e24 N=4e10
says 'loss' average-n:refit N=1e9 N_final=5e8 prune=0.25:0.75 D=1e11
says 'lr_lo' bowl:steplaw
says 'lr_at_batch' bowl:steplaw batch_tokens=1e6
says 'optimal lr' steplaw:paper N=1e9 D=1e11
refuses 'tells no optimum at a budget' steplaw:paper flop=1e21
refuses 'group= is missing: qat takes N D group' qat:paper N=1e9 D=1e11
refuses 'qat takes no x' qat:paper N=1e9 D=1e11 group=128 x=3
refuses 'unknown name.*did you mean .group' qat:paper N=1e9 D=1e11 gruop=128
refuses 'no published constants' farseer:paper N=1e9 D=1e11
refuses 'prune=' average-n:refit N=1e9 N_final=5e8 prune=1:0 D=1e11
refuses 'N_final' average-n:refit prune=0.2:0.5 D=1e11 N_mean=1e9
"$FPLAW" predict kumar:paper N=1e9 D=1e11 Pw=8 Pa=3 >out 2>err || fail "outside its domain: $(cat err)"
grep -q 'outside its domain' err || fail "no word about the domain: $(cat err)"
grep -q 'loss' out && fail "a loss outside the domain: $(cat out)"

# ---- fits from CSVs -------------------------------------------------------------------------------

cat >tables.py <<'PY'
import csv, math, sys
def table(name, header, rows):
    with open(name + ".csv", "w", newline="") as f:
        w = csv.writer(f); w.writerow(header)
        for r in rows: w.writerow(["" if x is None else repr(x) if isinstance(x, float) else x for x in r])
noise = lambda i: math.exp(0.001 * math.sin(12.9898 * i) * 1.4)
sizes = [(3e7 * 3**n, 1e9 * 4**d) for n in range(4) for d in range(4)]
def chin(N, D): return 1.8 + 480 / N**0.35 + 2000 / D**0.37
i = 0
def n():
    global i; i += 1; return noise(i)
base = [(N, D, chin(N, D) * n()) for N, D in sizes]
for law in ("chinchilla", "chinchilla-nd", "farseer"):
    table(law, ["N", "D", "loss"], base)
table("average-n", ["N_mean", "D", "loss"], base)
fmts = [(4, 3), (3, 2), (2, 1), (1, 2), (3, 0), (2, 3)]
def pen(N, D, E, M, B): return D**0.52 / N**0.24 * math.log2(B) / (11000 * (E + .5)**3.2 * (M + .5)**2.9)
def cap(N, D): return 69 / N**0.2368 + 69000 / D**0.5162 + 1.9
unq = [(N, D, None, None, None, cap(N, D) * n()) for N, D in sizes]
H = ["N", "D", "E", "M", "block", "loss"]
table("capybara", H, unq + [(N, D, E, M, B, (cap(N, D) + pen(N, D, E, M, B)) * n())
      for N, D in sizes for k, (E, M) in enumerate(fmts) for B in ([32, 128][k % 2],)])
table("capybara-e", H, unq + [(N, D, E, 1, 32, (cap(N, D) + pen(N, D, E, 1, 32)) * n()) for N, D in sizes for E in (1, 2, 3)])
table("capybara-m", H, unq + [(N, D, 2, M, 32, (cap(N, D) + pen(N, D, 2, M, 32)) * n()) for N, D in sizes for M in (0, 1, 2)])
table("capybara-b", H, unq + [(N, D, 2, 1, B, (cap(N, D) + pen(N, D, 2, 1, B)) * n()) for N, D in sizes for B in (16, 64, 512)])
G = H[:4] + ["granularity", "loss"]
def gran(g): return [(N, D, None, None, None, L) for N, D, *_, L in unq] + [(N, D, E, M, g, (cap(N, D) + pen(N, D, E, M, 9000)) * n()) for N, D in sizes for E, M in fmts]
table("capybara-channel", G, gran("row"))
table("capybara-tensor", G, gran("tensor"))
f = lambda P, g, o: 1 - math.exp(-P / g + o)
table("kumar", ["N", "D", "Pw", "Pa", "loss"],
      [(N, D, None, None, chin(N, D) * n()) for N, D in sizes]
      + [(N, D, Pw, None, chin(N * f(Pw, 2.67, .3), D) * n()) for N, D in sizes for Pw in (2, 3, 4, 6)]
      + [(N, D, None, Pa, chin(N * f(Pa, 2.2, 1.4), D) * n()) for N, D in sizes for Pa in (4, 5, 6, 8)])
table("kumar-ptq", ["N", "D", "bits", "delta"], [(N, D, b, .06 * D**.5 / N**.34 * math.exp(-b / .6) * n()) for N, D in sizes for b in (3, 4, 6)])
table("qat", ["N", "D", "group", "delta"], [(N, D, g, .16 * D**.07 * math.log2(g)**.78 / N**.22 * n()) for N, D in sizes for g in (16, 64, 256)])
def capac(N, D): return (1.5e5 / N**.59 + 5.2e5 / D**.54)**.27 + 1.35
table("capacity", ["N", "D", "E", "M", "loss"], [(N, D, None, None, capac(N, D) * n()) for N, D in sizes]
      + [(N, D, 2, 1, capac(.6 * N, .85 * D) * n()) for N, D in sizes])
def bowl(lr, b): u, v = math.log(lr / 2e-3), math.log(b / 4e5); return 2.3 * math.exp(.02 * (u + .4 * v)**2 + .015 * (v - .5 * u)**2)
grid = [(2e-3 * 2**(x / 2), 4e5 * 2.0**y) for x in range(-4, 5) for y in range(-2, 3)]
table("bowl", ["lr", "batch_tokens", "loss"], [(lr, b, bowl(lr, b) * n()) for lr, b in grid])
def stepbowl(N, D, lr, b): u, v = math.log(lr / (1.79 * N**-.713 * D**.307)), math.log(b / (.58 * D**.571)); return chin(N, D) * math.exp(.02 * (u + .3 * v)**2 + .02 * v * v)
full = [(N, D, 1.79 * N**-.713 * D**.307 * 2**(x / 2), .58 * D**.571 * 2.0**y) for N, D in sizes[::2] for x in range(-3, 4) for y in range(-2, 3)]
for law in ("steplaw", "joint"):
    table(law, ["N", "D", "lr", "batch_tokens", "loss"], [(*s, stepbowl(*s) * n()) for s in full])
def kaplan(N, B, S):
    L = 3.0
    for _ in range(400): L = .5 * L + .5 * ((7e13 / N)**.08 + (2200 / (S / (1 + 2e8 / L**(1 / .21) / B)))**.72)
    return L
table("kaplan", ["N", "batch_tokens", "steps", "loss"], [(N, B, S, kaplan(N, B, S) * n()) for N in (1e7, 1e8, 1e9) for B in (3e4, 2e5, 1.5e6, 1e7) for S in (500, 2000, 8000, 32000)])
def curves():
    for c in range(3):
        S1 = m = S2 = 0.0; last = None
        for s in range(0, 1201):
            t = (s - 100) / 1100
            lr = 1e-3 * ((s + 1) / 101 if t < 0 else .55 + .45 * math.cos(math.pi * t) if c == 0 else min(1, (1.02 - t) / .3) if c == 1 else (1 if t < .5 else .3))
            if s > 0: S1 += lr
            if s > 100: m = .999 * m + last - lr; S2 += m
            last = lr
            if s % 10 == 0: yield c, s, lr, (2.6 + .4 * S1**-.5 - .8 * S2) * n() if S1 else None
C = list(curves())
for law in ("annealing", "multipower"):
    table(law, ["run", "step", "lr", "loss"], [(f"c{c}", s, lr, L) for c, s, lr, L in C])
table("power-floor", ["tokens", "loss"], [(1e6 * 2.0**k, (1.7 + (3e7 / (1e6 * 2.0**k))**.3) * n()) for k in range(14)])
table("surge", ["batch_tokens", "lr"], [(1e4 * 2.0**k, 3e-3 / (.5 * ((3e5 / (1e4 * 2.0**k))**.5 + (1e4 * 2.0**k / 3e5)**.5)) * n()) for k in range(12)])
table("noise-scale", ["batch_tokens", "lr"], [(1e4 * 2.0**k, 3e-3 / (1 + 3e5 / (1e4 * 2.0**k)) * n()) for k in range(12)])
# what the formulas say at the points that are asked below
N, D = 3e8, 2e10
lr_star = 1.79 * N**-.713 * D**.307
def annealed(kind):
    S1 = m = S2 = last = 0.0
    for s in range(1, 1201):
        t = (s - 100) / 1100
        lr = 1e-3 * (s + 1) / 101 if t < 0 else (1e-4 + 9e-4 * (.5 + .5 * math.cos(math.pi * t)) if kind == "cosine" else 1e-3 * (1 if t < 1 - 360 / 1100 else (1 - t) / (360 / 1100)))
        S1 += lr
        if s > 100: m = .999 * m + last - lr; S2 += m
        last = lr
    return 2.6 + .4 * S1**-.5 - .8 * S2
crit = (69000 * 11000 * 1e9**.24 * 2.5**3.2 * 1.5**2.9 / 7)
L = kaplan(1e8, 2e5, 8000)
expected = {"chinchilla": chin(N, D), "capybara": cap(N, D) + pen(N, D, 2, 1, 128),
  "capybara-part": cap(N, D) + pen(N, D, 2, 1, 32), "granular": cap(N, D) + pen(N, D, 3, 2, 9000),
  "kumar": chin(N * f(4, 2.67, .3) * f(6, 2.2, 1.4), D), "kumar-ptq": .06 * D**.5 / N**.34 * math.exp(-4 / .6),
  "qat": .16 * D**.07 * 6**.78 / N**.22, "lr": lr_star, "kaplan": 2e8 / L**(1 / .21),
  "cosine": annealed("cosine"), "wsd": annealed("wsd")}
for k, v in expected.items(): print(k, repr(v))
PY
python3 tables.py >expected || exit 1
e() { sed -n "s/^$1 //p" expected; }

# value KEY FILE: .KEY.value of predict's JSON
value() { python3 -c 'import json,sys; print(json.load(open(sys.argv[2]))[sys.argv[1]]["value"])' "$1" "$2"; }
# near KEY EXPECTED SHARE: of out.json
near() {
    python3 -c 'import sys; x, y, s = map(float, sys.argv[1:]); sys.exit(not abs(x / y - 1) <= s)' \
        "$(value "$1" out.json)" "$2" "$3" || fail "$law: $1 is $(value "$1" out.json), expected $2"
}
# check LAW KEY EXPECTED SHARE [--columns ..] -- NAME=VALUE...: fit the law's table, ask the fit
check() {
    law=$1 key=$2 expected=$3 share=$4
    shift 4
    columns=
    while [ "$1" != -- ]; do
        columns="$columns --columns $1"
        shift
    done
    shift
    # shellcheck disable=SC2086
    "$FPLAW" fit --law "$law" $columns --bootstrap 20 "$law.csv" --out "$law.json" >log 2>&1
    status=$?
    [ $status -eq 0 ] || fail "fit --law $law: exit $status: $(cat log)"
    "$FPLAW" predict "$law.json" "$@" --json >out.json 2>err || fail "predict $law.json $*: $(cat err)"
    near "$key" "$expected" "$share"
}
# The noise put in is 0.14 %; tolerances grow where a number is a ratio of small differences.
check chinchilla loss "$(e chinchilla)" 0.002 -- N=3e8 D=2e10
check chinchilla-nd loss "$(e chinchilla)" 0.002 -- N=3e8 D=2e10
check farseer loss "$(e chinchilla)" 0.002 -- N=3e8 D=2e10
check average-n loss "$(e chinchilla)" 0.002 -- N_mean=3e8 D=2e10
check capybara loss "$(e capybara)" 0.002 -- N=3e8 D=2e10 format=e2m1 block=128
check capybara-e loss "$(e capybara-part)" 0.002 -- N=3e8 D=2e10 E=2
check capybara-m loss "$(e capybara-part)" 0.002 -- N=3e8 D=2e10 M=1
check capybara-b loss "$(e capybara-part)" 0.002 -- N=3e8 D=2e10 block=32
check capybara-channel loss "$(e granular)" 0.002 -- N=3e8 D=2e10 format=e3m2
check capybara-tensor loss "$(e granular)" 0.002 -- N=3e8 D=2e10 format=e3m2
check kumar loss "$(e kumar)" 0.01 -- N=3e8 D=2e10 Pw=4 Pa=6
check kumar-ptq delta "$(e kumar-ptq)" 0.002 -- N=3e8 D=2e10 bits=4
check qat delta "$(e qat)" 0.002 -- N=3e8 D=2e10 group=64
check capacity N_eff 1.8e8 0.1 -- N=3e8 D=2e10 format=e2m1
check bowl lr 2e-3 0.02 --
check steplaw lr "$(e lr)" 0.15 -- N=3e8 D=2e10
check joint lr "$(e lr)" 0.03 -- N=3e8 D=2e10
check kaplan B_crit "$(e kaplan)" 0.1 -- N=1e8 batch_tokens=2e5 steps=8000
check annealing loss "$(e cosine)" 0.002 -- schedule=cosine lr=1e-3 steps=1200 warmup=100 lr_final=1e-4
check multipower loss "$(e wsd)" 0.01 -- schedule=wsd lr=1e-3 steps=1200 warmup=100 decay=0.3 lr_final=0
check power-floor L_inf 1.7 0.02 x=tokens -- x=1e9
check surge B_noise 3e5 0.01 -- batch_tokens=1e5
"$FPLAW" predict power-floor.json x=1e13 >out 2>err
grep -q 'x = 1e+13 lies .* octaves above' err || fail "power-floor far outside: $(cat err)"
check noise-scale B_noise 3e5 0.01 -- batch_tokens=1e5

# ---- curves of a study --------------------------------------------------------------------------------

cat >study.yaml <<'YAML'
options: { layers: 1, width: 16, heads: 1, seq: 16, eval_tokens: 64, data: "lexicon:words=64", batch_tokens: 32,
           recipe: fp32, steps: 120, lr: 4e-3, eval_every: 5 }
list: [ { schedule: cosine }, { schedule: wsd }, { schedule: constant } ]
YAML
"$FPLAW" study study.yaml --out s >log 2>&1 || fail "study: $(cat log)"
"$FPLAW" fit --law annealing --bootstrap 0 s --out s.json >log 2>&1
status=$?
[ $status -le 1 ] || fail "fit --law annealing of a study: exit $status: $(cat log)"
python3 -c 'import json; r = json.load(open("s.json"))["laws"][0]["runs"]; assert 50 <= r["used"] <= 72, r["used"]' ||
    fail "rows of a study's curves"
"$FPLAW" fit --law annealing,chinchilla --bootstrap 0 s --out t.json >log 2>err
[ $? -eq 2 ] && grep -q 'by themselves' err || fail "curve laws beside others: $(cat err)"

# ---- what an interval of one law does not say: conventions, other forms ---------------------------

says 'measured with: cosine to a fixed 1e-5' steplaw:paper N=1e9 D=1e11 schedule=cosine
[ -s err ] && fail "its own schedule: $(cat err)"
says 'optimal lr' steplaw:paper N=1e9 D=1e11 schedule=wsd
grep -q 'schedule=wsd is asked for.*cosine' err || fail "another schedule: $(cat err)"
refuses 'needs lr= ' s.json schedule=wsd
python3 - >forms.csv <<'PY'
import random
random.seed(4)
print("N,D,loss,schedule")
for n in (1e4, 4e4, 1.6e5, 6.4e5):
    for d in (1e6, 4e6, 1.6e7, 6.4e7):
        for k in range(2):
            print(f"{n},{d},{(1 + 20 / n**0.4 + 30 / d**0.3) * random.gauss(1, 0.003)},wsd")
PY
"$FPLAW" fit --law chinchilla,chinchilla-nd forms.csv --bootstrap 50 --out forms.json >log 2>&1 || fail "forms: $(cat log)"
says 'over the forms that fit about as well .chinchilla, chinchilla-nd.' forms.json N=1e6 D=1e8 schedule=wsd
says 'schedule of the fit.s runs: wsd' forms.json N=1e6 D=1e8
"$FPLAW" predict forms.json N=1e6 D=1e8 schedule=cosine --json >out 2>err
grep -q 'schedule=cosine is asked for' err || fail "another schedule than the runs': $(cat err)"
python3 - out <<'PY' || fail "the range over forms: $(cat out)"
import json, subprocess, os
one = json.load(open("out"))
losses = []
for law in one["loss_over_forms"]["laws"]:
    text = subprocess.run([os.environ["FPLAW"], "predict", "forms.json", "--law", law, "N=1e6", "D=1e8", "--json"],
                          capture_output=True, text=True, check=True).stdout
    losses.append(json.loads(text)["loss"]["value"])
assert len(losses) == 2 and min(losses) == one["loss_over_forms"]["lo"] and max(losses) == one["loss_over_forms"]["hi"]
PY
"$FPLAW" plan forms.json --flops 1e14 --optima steplaw:paper 2>err | grep -q 'under schedule cosine, the loss under wsd' ||
    fail "a plan of two schedules"
[ "$failures" -eq 0 ] && echo "laws hold"
exit "$failures"
