#!/bin/sh
# formats_codebook.sh - formats from files of values, and the newer quantizers, from the outside:
# a run's identity is the file's content, records say the values, workers get them, and a changed
# file starts another run.  Needs FPLAW and python3.
set -u
: "${FPLAW:?the program under test}"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

fail() {
    echo "formats_codebook.sh: $*" >&2
    failures=$((failures + 1))
}

refused() { # pattern, arguments of fplaw
    pattern=$1
    shift
    "$FPLAW" "$@" >stdout 2>stderr
    got=$?
    [ "$got" = 2 ] || fail "$*: exit $got, expected 2"
    [ "$(wc -l <stderr)" = 1 ] || fail "$*: $(wc -l <stderr) lines of message"
    grep -q -- "$pattern" stderr || fail "$*: message '$(cat stderr)' lacks '$pattern'"
}

field() { # FILE NAME
    python3 -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1]))[sys.argv[2]]))' "$1" "$2"
}

mkdir Values
printf '%s\n' '-1 -0.5 0' '0.25 1 # lopsided' >Values/Five.txt
printf '1,0.25,0,-0.5,-1' >same.txt

# ---- describing -----------------------------------------------------------------------------------
"$FPLAW" formats 'codebook(Values/Five.txt)' >stdout 2>stderr || fail "formats: $(cat stderr)"
grep -q '5 values, content hash' stdout && grep -q 'values -1 -0.5 0 0.25 1$' stdout || fail "formats: $(cat stdout)"
refused 'No such file' formats 'codebook(values/five.txt)'
refused 'regular file' formats 'codebook(Values)'
printf '1 2 two\n' >bad.txt
refused 'line 1, column 5: found "two"' quantize --to 'codebook(bad.txt)/row' same.txt out.bin
: >empty.txt
refused '0 values' train 'recipe=full:codebook(empty.txt)/row'

# ---- quantizing: by hand, scale amax/1 = 2 ------------------------------------------------------------
python3 -c 'import struct, sys; sys.stdout.buffer.write(struct.pack("<6f", 2, -0.9, 0.25, 0.24, -2, 0.4))' >in.bin
"$FPLAW" quantize --to 'codebook(Values/Five.txt)/row' in.bin out.bin >stdout 2>stderr || fail "quantize: $(cat stderr)"
python3 -c 'import struct; print(*struct.unpack("<6f", open("out.bin", "rb").read()))' >values
[ "$(cat values)" = '2.0 -1.0 0.0 0.0 -2.0 0.5' ] || fail "quantize gives $(cat values)"

# ---- identity ----------------------------------------------------------------------------------------
tiny='layers=1 width=16 heads=2 seq=16 batch_tokens=64 eval_tokens=256 data=lexicon:words=64'
train() { # name, recipe, steps
    # shellcheck disable=SC2086
    "$FPLAW" train $tiny "recipe=$2" "steps=${3:-6}" --json >"$1.json" 2>stderr || fail "train $2: $(cat stderr)"
}
train a 'full:codebook(Values/Five.txt)/1x16'
train b 'full:codebook(same.txt)/1x16'
[ "$(field a.json id)" = "$(field b.json id)" ] || fail 'the same values under another name are another run'
[ "$(field a.json loss)" = "$(field b.json loss)" ] || fail 'the same run has two results'
field a.json codebooks | grep -q '\[-1.0, -0.5, 0.0, 0.25, 1.0\]' || fail "the record says $(field a.json codebooks)"
field a.json canonical | grep -q 'recipe=full:codebook(#[0-9a-f]\{16\})/1x16' || fail "canonical: $(field a.json canonical)"
if field a.json canonical | grep -q Five; then fail 'the path is in the identity'; fi
hash=$(field a.json canonical | sed 's/.*codebook(#\([0-9a-f]*\)).*/\1/')
printf '%s\n' '-1 -0.5 0 0.26 1' >same.txt
train c 'full:codebook(same.txt)/1x16'
[ "$(field a.json id)" != "$(field c.json id)" ] || fail 'a changed file is the same run'
refused 'not known here; accepted: codebook(FILE)' train "recipe=full:codebook(#$hash)/1x16"

# ---- studies: workers get the values, a second call has nothing to do, a changed file is new runs ------
cat >s.yaml <<'YAML'
options: { layers: 1, width: 8, heads: 1, seq: 16, tokens: 1k, batch_tokens: 64, eval_tokens: 256, data: "lexicon:words=64" }
grid: { recipe: [fp32, "full:codebook(Values/Five.txt)/row", "full:nf4/1x16"], lr: [2e-3, 5e-3] }
YAML
"$FPLAW" study s.yaml --out d --workers 2 >stdout 2>stderr || fail "study: $(cat stderr)"
grep -q '6 of 6 runs done; 6 in this call' stderr || fail "study: $(cat stderr)"
"$FPLAW" study s.yaml --out d >stdout 2>stderr || fail "study again: $(cat stderr)"
grep -q '6 done, 0 to run' stderr || fail "study again: $(cat stderr)"
"$FPLAW" study d --export runs.csv 2>stderr || fail "export: $(cat stderr)"
[ "$(grep -c "codebook(#$hash)" runs.csv)" = 2 ] || fail 'the table does not name the codebook'
printf '%s\n' '-1 -0.5 0 0.3 1' >Values/Five.txt
"$FPLAW" study s.yaml --out d --dry-run >stdout 2>stderr || fail "changed values: $(cat stderr)"
grep -q '4 done, 2 to run' stdout || fail "changed values: $(cat stdout)"

# ---- every newer quantizer trains -----------------------------------------------------------------------
for quantizer in nf4/1x16 uint4/1x16+z e2m1/1x16:e4m3fn+t+46 int4/1x16+mse uint8:sr8b/row+z+mse \
    e4m3fn/tensor:delayed4m1 e4m3fn:src/1x16; do
    train q "full:$quantizer" 60 # fewer do not get below the unigram entropy
    [ "$(field q.json status)" = '"ok"' ] || fail "$quantizer: status $(field q.json status)"
done

[ "$failures" = 0 ]
