# recipes.sh - every preset and every option of the registry trains the demo's model: the loss
# is finite, below that of the words' frequencies alone (3.05), and not fp32's (or, of an option, not that of the recipe
# without it); results depend neither on threads nor on the instruction set.  Needs FPLAW, the
# built program, and python3.
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

fail() {
    echo "recipes.sh: $*" >&2
    failures=$((failures + 1))
}

# The demo's smallest model (sim/demo.yaml).
model="data=lexicon:words=1024,exponent=1.2 layers=2 width=32 heads=2 seq=64 batch_tokens=256 tokens=8192 eval_tokens=2048 lr=5e-3"

# loss RECIPE [ARGUMENT...]: of a run that must end well
loss() {
    recipe=$1
    shift
    rm -rf out
    # shellcheck disable=SC2086
    "$FPLAW" train $model recipe="$recipe" --out out "$@" >stdout 2>stderr || fail "$recipe: exit $?: $(cat stderr)"
    grep -q '"status":"ok"' out/record.json || fail "$recipe: $(cat stdout)"
    found=$(sed 's/.*"loss":\([0-9.]*\),.*/\1/' out/record.json)
    awk -v loss="$found" 'BEGIN { exit !(loss > 0.8 && loss < 3.0) }' || fail "$recipe: loss $found"
    echo "$found"
}

fp32=$(loss fp32)
"$FPLAW" formats --json >formats.json || fail "formats --json"

python3 -c 'import json; [print(r["example"]) for r in json.load(open("formats.json"))["recipes"]]' >presets
[ "$(wc -l <presets)" -ge 13 ] || fail "only $(wc -l <presets) presets are listed"
while read -r preset; do
    got=$(loss "$preset")
    [ "$preset" = fp32 ] || [ "$got" != "$fp32" ] || fail "$preset trains exactly as fp32"
done <presets

# An option of gradients in attention shows only where attention is quantized.  The base clips
# (power-of-two scales, rounded down) and its products fill more than fp16's bits.
python3 - >options <<'PY'
import json
base = "full:e3m2/1x32:e8m0;"
for o in json.load(open("formats.json"))["recipe_options"]:
    roles = ["", "fwd.", "dgrad.", "wgrad."] if o["roles"] else [""]
    for role in roles:
        text = role + o["name"] + "=" + o["example"]
        print(base + ("attn.qk=e4m3fn/row;" if o["name"] == "attn.grad" else "") + text)
PY
[ "$(wc -l <options)" -ge 19 ] || fail "only $(wc -l <options) options are listed"
base=$(loss "full:e3m2/1x32:e8m0")
attention=$(loss "full:e3m2/1x32:e8m0;attn.qk=e4m3fn/row")
while read -r recipe; do
    got=$(loss "$recipe")
    without=$base
    case $recipe in *attn.grad*) without=$attention ;; esac
    [ "$got" != "$without" ] || fail "$recipe: the option changes nothing"
done <options

# ---- the same bits ----------------------------------------------------------------------------------
for recipe in nvfp4 'deepseek_v3' 'full:e4m3:sr/1x32;ste=clip;had=32;acc=fp16/32;first=1'; do
    once=$(loss "$recipe")
    [ "$(loss "$recipe" --threads 2)" = "$once" ] || fail "$recipe: two threads change the loss"
    for level in avx2 baseline; do
        [ "$(FPLAW_SIMD=$level loss "$recipe")" = "$once" ] || fail "$recipe: $level changes the loss"
    done
done

# ---- refusals ------------------------------------------------------------------------------------------
refused() { # PATTERN ARGUMENT...
    pattern=$1
    shift
    "$FPLAW" train --out bad "$@" >stdout 2>stderr
    got=$?
    [ "$got" = 2 ] || fail "$*: exit $got, expected 2"
    [ "$(wc -l <stderr)" = 1 ] || fail "$*: $(wc -l <stderr) lines of message"
    grep -q "$pattern" stderr || fail "$*: message '$(cat stderr)' lacks '$pattern'"
    [ ! -e bad ] || fail "$*: wrote a record"
}
refused 'wgrad.had=16 .* which is 24; accepted: a multiple of 16' recipe=nvfp4 seq=24 batch_tokens=24
refused 'fwd.had=32 .* width, which is 48' 'recipe=mxfp4;fwd.had=32' width=48
refused 'fwd.had=32 .* ffn, which is 40' 'recipe=mxfp4;fwd.had=32' ffn=40
refused 'dgrad.had=32 .* twice ffn, which is 80' 'recipe=mxfp4;dgrad.had=32' ffn=40
refused 'exempt all of the 2 layers' 'recipe=mxfp4;first=1;last=1' layers=2
refused 'did you mean last' 'recipe=mxfp4;lest=1'
refused 'given twice' 'recipe=mxfp4;last=1;last=1'

[ "$failures" = 0 ]
