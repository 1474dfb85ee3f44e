# Bad input of every kind: one clear line on standard error that names the place and what
# would be accepted, the exit status of design.md, and nothing lost or half-written.
# A case is `bad STATUS PATTERN COMMAND...`; the pattern is an extended regular expression
# that the one line must match.
set -u
work=$(mktemp -d)
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
cases=0
failures=0

bad() {
    want=$1
    pattern=$2
    shift 2
    cases=$((cases + 1))
    timeout 60 "$@" >out.txt 2>err.txt </dev/null
    got=$?
    lines=$(wc -l <err.txt)
    if [ "$got" -ne "$want" ] || [ "$lines" -ne 1 ] || ! grep -Eiq -- "$pattern" err.txt; then
        failures=$((failures + 1))
        echo "case $cases: $*"
        echo "  wanted status $want and one line matching: $pattern"
        echo "  got status $got and $lines lines:"
        head -c 600 err.txt | sed 's/^/    /'
    fi
}
yaml() { printf '%b' "$2" >"$1"; }
absent() { [ ! -e "$1" ] || { failures=$((failures + 1)); echo "case $cases: $1 was left behind"; }; }

# ---- the command line -----------------------------------------------------------------------
bad 2 'no command' "$FPLAW"
bad 2 "unknown command 'trian'.*'train'" "$FPLAW" trian
bad 2 "unknown command 'xyzzy'" "$FPLAW" xyzzy
bad 2 "unknown option '--bootstrp'.*--bootstrap" "$FPLAW" fit --bootstrp 5
bad 2 'needs a value' "$FPLAW" report --out
bad 2 'no --out' "$FPLAW" report .
bad 2 'no input' "$FPLAW" report --out r.html

# ---- formats and quantizers ---------------------------------------------------------------------
bad 2 'e9m3' "$FPLAW" formats e9m3
bad 2 'e8m3' "$FPLAW" formats e8m3
bad 2 'e4m3xyz' "$FPLAW" formats e4m3xyz
head -c 64 /dev/zero >zeros.f32
printf 'abc' >odd.f32
bad 2 'divisible by 4|multiple of 4' "$FPLAW" quantize --to e4m3 odd.f32 out.f32
absent out.f32
bad 2 'shape|16' "$FPLAW" quantize --to e4m3/1x32 --shape 5x5 zeros.f32 out.f32
absent out.f32
bad 2 'e4m3/0x32' "$FPLAW" quantize --to e4m3/0x32 zeros.f32 out.f32
bad 2 'e4m3:rnx' "$FPLAW" quantize --to e4m3:rnx zeros.f32 out.f32
bad 2 'e4m3/1x32:foo' "$FPLAW" quantize --to e4m3/1x32:foo zeros.f32 out.f32
bad 2 'missing.f32' "$FPLAW" quantize --to e4m3 missing.f32 out.f32
bad 2 '\-\-to' "$FPLAW" quantize zeros.f32 out.f32
printf '\223NUMPY\001\000\377\377{' >hostile.npy
bad 2 'hostile.npy' "$FPLAW" quantize --to e4m3 hostile.npy out.npy
absent out.npy

# ---- training options ------------------------------------------------------------------------------
tiny="layers=1 width=16 heads=1 seq=16 batch_tokens=64 eval_tokens=256"
bad 2 "unknown option 'widht'.*'width'" "$FPLAW" train widht=32
bad 2 'width.*abc' "$FPLAW" train width=abc
bad 2 'width' "$FPLAW" train width=-4
bad 2 'layers' "$FPLAW" train layers=0
bad 2 'lr' "$FPLAW" train lr=nan
bad 2 'lr' "$FPLAW" train lr=-1
bad 2 'heads' "$FPLAW" train width=32 heads=5
bad 2 'batch_tokens' "$FPLAW" train seq=64 batch_tokens=100
bad 2 'micro_tokens' "$FPLAW" train seq=64 batch_tokens=256 micro_tokens=192
bad 2 'tokens' "$FPLAW" train tokens=1e6 steps=10
bad 2 'recipe|full' "$FPLAW" train recipe=full
bad 2 'e4m33' "$FPLAW" train recipe=full:e4m33/1x32
bad 2 'schedule' "$FPLAW" train schedule=cosin
bad 2 'warmup' "$FPLAW" train warmup=1.5
bad 2 'seed' "$FPLAW" train seed=-1
bad 2 'device|rocm' "$FPLAW" train --device rocm
bad 2 'width32|key=value' "$FPLAW" train width32
bad 2 'no-such.yaml' "$FPLAW" train no-such.yaml
bad 2 'data|lexicn' "$FPLAW" train data=lexicn
bad 2 'words' "$FPLAW" train data=lexicon:words=3
bad 2 'no-such.txt' "$FPLAW" train $tiny data=bytes:no-such.txt
: >empty.txt
bad 2 'empty.txt' "$FPLAW" train $tiny data=bytes:empty.txt
printf 'short' >short.txt
bad 2 'short.txt' "$FPLAW" train $tiny data=bytes:short.txt
bad 2 'is a directory|directory' "$FPLAW" train $tiny data=bytes:.
yes 'some words of text' | head -c 20000 >text.txt
bad 2 'tokens|corpus|repeat' "$FPLAW" train $tiny data=bytes:text.txt tokens=1e6
bad 2 'text.txt.*(magic|shard|20240520)' "$FPLAW" train $tiny data=tokens:text.txt
"$FPLAW" data --tokenizer bytes shard.bin text.txt >/dev/null 2>err.txt || { cat err.txt; failures=$((failures + 1)); }
head -c 5000 shard.bin >cut.bin
bad 2 'cut.bin' "$FPLAW" train $tiny data=tokens:cut.bin
head -c 100 shard.bin >header.bin
bad 2 'header.bin' "$FPLAW" train $tiny data=tokens:header.bin
bad 2 'vocab|token' "$FPLAW" train $tiny data=tokens:vocab=20,shard.bin
bad 2 'tokenizer|bpe' "$FPLAW" data --tokenizer bpe shard2.bin text.txt
absent shard2.bin
bad 2 'no-such.txt' "$FPLAW" data --tokenizer bytes shard2.bin no-such.txt
absent shard2.bin

# ---- YAML ---------------------------------------------------------------------------------------------
yaml a.yaml 'width: 32\nwidth: 64\n'
bad 2 'a.yaml:2.*width' "$FPLAW" train a.yaml
yaml a.yaml 'widht: 32\n'
bad 2 "a.yaml:1.*widht.*width" "$FPLAW" train a.yaml
yaml a.yaml 'width: [32\n'
bad 2 'a.yaml:' "$FPLAW" train a.yaml
yaml a.yaml 'width: {a: 1}\n'
bad 2 'a.yaml:1.*width' "$FPLAW" train a.yaml
yaml a.yaml '- width\n'
bad 2 'a.yaml:1' "$FPLAW" train a.yaml
yaml a.yaml 'width: &x 32\nlayers: *x\n'
bad 2 'a.yaml:[12].*(alias|anchor)' "$FPLAW" train a.yaml
head -c 100000 /dev/zero | tr '\0' '[' >deep.yaml
bad 2 'deep.yaml:1.*(depth|deep|nest)' "$FPLAW" study deep.yaml --out s
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "a: {" }' >deep2.yaml
bad 2 'deep2.yaml' "$FPLAW" study deep2.yaml --out s
head -c 2000000 /dev/zero | tr '\0' '#' >large.yaml
bad 2 'large.yaml' "$FPLAW" study large.yaml --out s
printf 'name: \377\376\n' >foreign.yaml
bad 2 'foreign.yaml' "$FPLAW" study foreign.yaml --out s
: >empty.yaml
bad 2 'empty.yaml' "$FPLAW" study empty.yaml --out s
absent s

# ---- studies ----------------------------------------------------------------------------------------------
base='options: {layers: 1, width: 16, heads: 1, seq: 16, batch_tokens: 64, steps: 4, eval_tokens: 256, data: "lexicon:words=64"}\n'
yaml s.yaml "$base"'grid: {lr: []}\n'
bad 2 's.yaml:2.*lr' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'grid: {lrr: [1e-3]}\n'
bad 2 "s.yaml:2.*lrr.*lr" "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'gird: {lr: [1e-3]}\n'
bad 2 "s.yaml:2.*gird.*grid" "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'zip: {lr: [1e-3, 2e-3], width: [16]}\n'
bad 2 's.yaml:2.*(length|values)' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'grid: {width: [16, thirty]}\n'
bad 2 's.yaml:2.*thirty' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'grid: {heads: [1, 3]}\n'
bad 2 's.yaml:.*heads' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'grid: {recipe: [fp32, "full:e4m3/1x"]}\n'
bad 2 's.yaml:2' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'grid: {lr: law}\n'
bad 2 's.yaml:' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'budget: {seconds: soon}\n'
bad 2 's.yaml:2.*(budget|seconds)' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'stages:\n  - {name: b, after: a, grid: {lr: [1e-3]}}\n'
bad 2 "s.yaml:3.*a" "$FPLAW" study s.yaml --out s
absent s
yaml s.yaml "$base"'grid: {lr: [1e-3, 2e-3]}\n'
bad 2 'out' "$FPLAW" study s.yaml
bad 2 'workers' "$FPLAW" study s.yaml --out s --workers 0
absent s
"$FPLAW" study s.yaml --out good >/dev/null 2>err.txt || { cat err.txt; failures=$((failures + 1)); }
"$FPLAW" study good --export good.csv 2>err.txt || { cat err.txt; failures=$((failures + 1)); }
bad 2 'no-such-dir' "$FPLAW" study no-such-dir --export x.csv
absent x.csv
mkdir nodb
bad 2 'nodb' "$FPLAW" study nodb --export x.csv

# ---- the store --------------------------------------------------------------------------------------------
db=$(ls good/*.db)
cp -r good foreign
echo 'this is no database, this is text, long enough to be looked at' >"foreign/$(basename "$db")"
bad 2 'foreign/' "$FPLAW" study foreign --export x.csv
bad 2 'foreign/' "$FPLAW" study s.yaml --out foreign
cp -r good cut
size=$(stat -c %s "$db")
truncate -s $((size / 2)) "cut/$(basename "$db")"
bad 2 'cut/' "$FPLAW" study cut --export x.csv
absent x.csv

# ---- full disk, read-only directory ----------------------------------------------------------------------
bad 1 '(space|full|standard output)' sh -c '"$0" formats --json >/dev/full' "$FPLAW"
bad 1 '(space|full|/dev/full)' "$FPLAW" study good --export /dev/full
bad 1 '(space|full|/dev/full|permission|cannot)' "$FPLAW" quantize --to e4m3 zeros.f32 /dev/full
if [ "$(id -u)" -ne 0 ]; then
    mkdir readonly && chmod a-w readonly
    bad 1 'readonly' "$FPLAW" study s.yaml --out readonly/s
fi
bad 1 '/proc/' "$FPLAW" study s.yaml --out /proc/fplaw-study
bad 1 '/proc/' "$FPLAW" study good --export /proc/fplaw.csv

# ---- checkpoints --------------------------------------------------------------------------------------------
echo garbage >ck.yaml
mkdir ck && printf 'not a checkpoint at all, only text' >ck/checkpoint.bin
bad 2 'ck/checkpoint.bin' "$FPLAW" train $tiny data=lexicon:words=64 steps=4 --out ck
grep -q 'not a checkpoint' ck/checkpoint.bin || { failures=$((failures + 1)); echo 'a foreign checkpoint was overwritten'; }

# ---- fits -------------------------------------------------------------------------------------------------------
bad 2 'chinchila.*chinchilla' "$FPLAW" fit --law chinchila good.csv --out f.json
bad 2 'law' "$FPLAW" fit good.csv --out f.json
bad 2 'no-such.csv' "$FPLAW" fit --law chinchilla no-such.csv --out f.json
bad 2 'good.csv.*no run.*collapsed' "$FPLAW" fit --law chinchilla good.csv --out f.json
printf 'N,D,loss\n1e6,1e7,3\n2e6,1e7,2.9\n4e6,2e7,2.8\n' >few.csv
bad 2 'few.csv.*3 runs.*5|5 .*3 runs|fewer' "$FPLAW" fit --law chinchilla few.csv --out f.json
absent f.json
: >empty.csv
bad 2 'empty.csv' "$FPLAW" fit --law chinchilla empty.csv --out f.json
printf 'N,D,loss\n1e6,1e7,3\n1e6,abc,3\n' >t.csv
bad 2 't.csv:3.*(D|abc)' "$FPLAW" fit --law chinchilla t.csv --out f.json
printf 'N,D,loss\n1e6,1e7\n' >t.csv
bad 2 't.csv:2' "$FPLAW" fit --law chinchilla t.csv --out f.json
printf 'N,tokens,loss\n1e6,1e7,3\n' >t.csv
bad 2 't.csv.*D' "$FPLAW" fit --law chinchilla t.csv --out f.json
awk 'BEGIN { print "N,D,loss,status"; for (i = 1; i < 30; i++) print i * 1e6 ",1e8,nan,diverged" }' >t.csv
bad 2 '(diverged|no run|none)' "$FPLAW" fit --law chinchilla t.csv --out f.json
awk 'BEGIN { print "N,D,loss"; for (i = 1; i < 30; i++) print i * 1e6 ",1e8,nan" }' >t.csv
bad 2 '(nan|no run|none|left)' "$FPLAW" fit --law chinchilla t.csv --out f.json
awk 'BEGIN { print "N,D,loss"; for (i = 1; i < 30; i++) print i * 1e6 "," i * 1e8 ",3" }' >t.csv
bad 2 'where' "$FPLAW" fit --law chinchilla t.csv --where 'N >' --out f.json
bad 2 '(where|column|Q)' "$FPLAW" fit --law chinchilla t.csv --where 'Q>3' --out f.json
bad 2 '(no run|none|where|left)' "$FPLAW" fit --law chinchilla t.csv --where 'N>1e30' --out f.json
bad 2 'columns' "$FPLAW" fit --law chinchilla t.csv --columns 'N' --out f.json
bad 2 '(delta|abc)' "$FPLAW" fit --law chinchilla t.csv --delta abc --out f.json
absent f.json
bad 2 '(preset|papre|paper)' "$FPLAW" predict capybara:papre N=1e9 D=1e11
bad 2 'format.*e4mm3|e4mm3' "$FPLAW" predict capybara:paper N=1e9 D=1e11 format=e4mm3
bad 2 '(N|1e9x)' "$FPLAW" predict capybara:paper N=1e9x D=1e11
bad 2 "unknown.*'bach'|bach" "$FPLAW" predict capybara:paper N=1e9 D=1e11 bach=4
bad 2 'no-such.json' "$FPLAW" predict no-such.json N=1e9 D=1e11
printf '{"schema":"fplaw-fit/1","laws":[{"law":' >broken.json
bad 2 'broken.json' "$FPLAW" predict broken.json N=1e9 D=1e11
printf '{"a":1}' >other.json
bad 2 'other.json.*(schema|fplaw-fit)' "$FPLAW" predict other.json N=1e9 D=1e11
head -c 200000 /dev/zero | tr '\0' '[' >deep.json
bad 2 'deep.json' "$FPLAW" predict deep.json N=1e9 D=1e11
bad 2 'other.json' "$FPLAW" report other.json --out r.html
absent r.html

# ---- bench ---------------------------------------------------------------------------------------------------
bad 2 'no-such.json' "$FPLAW" bench --quick --baseline no-such.json
bad 2 'broken.json' "$FPLAW" bench --quick --baseline broken.json

# Nothing of the good study was lost on the way.
"$FPLAW" study good --export again.csv && cmp good.csv again.csv || failures=$((failures + 1))
echo "$cases cases of bad input, $failures failures"
[ "$cases" -ge 60 ] && [ "$failures" -eq 0 ]
