# Bad input of every kind: one clear line on standard error that names the place and what
# would be accepted, the exit status of design.md, and nothing lost or half-written.
# A case is `bad STATUS PATTERN COMMAND...`; the pattern is an extended regular expression
# that the one line must match.
set -u
work=$(mktemp -d)
holder=
trap 'kill $holder 2>/dev/null; chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
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
bad 2 "fit: unknown option '-z' in '-z'" "$FPLAW" fit -z
bad 2 'study: option -o needs a value' "$FPLAW" study s.yaml -o
bad 2 "takes no value.*'--json=3'" "$FPLAW" formats --json=3
bad 2 "unknown command ''" "$FPLAW" ''
bad 2 'unknown command .*fplaw --help' "$FPLAW" "$(printf 'two\nlines\033[31m')"
bad 2 'a/a/a.* \.\.\. .*cannot be opened' "$FPLAW" train "$(awk 'BEGIN { for (i = 0; i < 3000; i++) printf "a/" }')"
bad 2 'an empty name.*file' "$FPLAW" train ''
bad 2 'FPLAW_SIMD.*avx9.*accepted' env FPLAW_SIMD=avx9 "$FPLAW" formats

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
bad 2 'width: given twice' "$FPLAW" train width=32 width=64
bad 2 'tokens and steps: only one' "$FPLAW" train tokens=1000 steps=10
bad 2 'width.*1e18.*too large' "$FPLAW" train width=1e18
bad 2 'width.*1e6.*2 to 65536' "$FPLAW" train width=1e6
bad 2 'parameters, at most 1e10' "$FPLAW" train width=65536 heads=2
bad 2 'seq.*1e6.*1 to 65536' "$FPLAW" train seq=1e6
bad 2 'layers.*1e999.*too large' "$FPLAW" train layers=1e999
bad 2 "layers.*'0x10'.*2\\^10" "$FPLAW" train layers=0x10
bad 2 "tokens: '1_000'" "$FPLAW" train tokens=1_000
bad 2 'tokens: 1e18.*0 to 1e' "$FPLAW" train tokens=1e18
bad 2 'steps.*4294967296.*4294967295' "$FPLAW" train steps=4294967296
bad 2 'lr: 1e-400.*1e-12' "$FPLAW" train lr=1e-400
bad 2 'lr_final 1 is above the peak lr' "$FPLAW" train lr_final=1
bad 2 'warmup and decay_share' "$FPLAW" train schedule=wsd warmup=0.6 decay_share=0.6
bad 2 'seed.*18446744073709551616.*too large' "$FPLAW" train seed=18446744073709551616
bad 2 'width 32, heads 7' "$FPLAW" train width=32 heads=7
bad 2 'vocab=1.*2 to 65536' "$FPLAW" train data=tokens:vocab=1,x.bin
bad 2 'words.*1e9' "$FPLAW" train data=lexicon:words=1e9
bad 2 'words.*twice' "$FPLAW" train data=lexicon:words=64,words=32
bad 2 'recipe: is empty' "$FPLAW" train recipe=
bad 2 'e4m3/0.*1 to' "$FPLAW" train recipe=capybara:e4m3/0
bad 2 'sr99' "$FPLAW" train recipe=full:e2m1:sr99
bad 2 'threads.*1 to 1024' "$FPLAW" train --threads 0
bad 1 'no memory.*needs less' "$FPLAW" train layers=1 width=128 heads=64 seq=65536 batch_tokens=65536 \
    eval_tokens=65536 steps=1
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
bad 2 'texts are empty' "$FPLAW" data --tokenizer bytes shard2.bin empty.txt
absent shard2.bin
bad 2 "standard input.*once" "$FPLAW" data --tokenizer bytes shard2.bin - -
ln -s loop loop
for command in "quantize --to e4m3 loop out.f32" "train loop" "study loop --out s" "predict loop N=1e9 D=1e9" \
    "fit --law chinchilla loop --out f.json" "report loop --out r.html" "data --tokenizer bytes o.bin loop"; do
    # shellcheck disable=SC2086
    bad 2 'loop: cannot be opened: .*symbolic' "$FPLAW" $command
done
mkdir plain
for command in "quantize --to e4m3 plain out.f32" "train plain" "study plain --out s" "predict plain N=1e9 D=1e9" \
    "data --tokenizer bytes o.bin plain" "quantize --to e4m3 zeros.f32 plain" "report plain --out r.html"; do
    # shellcheck disable=SC2086
    bad 2 'plain: .*(directory|holds no study)' "$FPLAW" $command
done

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
printf 'width: 3\0002\n' >nul.yaml
bad 2 'nul.yaml:1.*not UTF-8' "$FPLAW" train nul.yaml
printf 'w\000i\000d\000t\000h\000' >wide.yaml
bad 2 'wide.yaml:1.*not UTF-8' "$FPLAW" train wide.yaml
yaml a.yaml 'a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n'
bad 2 'a.yaml:1.*anchor' "$FPLAW" study a.yaml --out s
yaml a.yaml '!!python/object:os.system {}\n'
bad 2 'a.yaml:1.*tags' "$FPLAW" study a.yaml --out s
yaml a.yaml 'width: 16\n---\nwidth: 16\n'
bad 2 'a.yaml:2.*second document' "$FPLAW" train a.yaml
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
yaml s.yaml "$base"'seeds: 1000000000\n'
bad 2 's.yaml:2.*seeds.*1 to 1000' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'seeds: [18446744073709551616]\n'
bad 2 's.yaml:2.*18446744073709551616' "$FPLAW" study s.yaml --out s
{ printf '%b' "$base" && awk 'BEGIN { printf "grid: {"; for (k = 0; k < 2; k++) {
    printf "%s: [1", k ? "clip" : ", eps"; for (i = 1; i < 500; i++) printf ", 0.%03d1", i; printf "]" }
    print "}" }' | sed 's/{, eps/{eps/; s/]clip/], clip/'; } >many.yaml
bad 2 'many.yaml:.*more than 20000 runs' "$FPLAW" study many.yaml --out s
yaml s.yaml "$base"'stages: [{name: ../x, grid: {lr: [1e-3]}}]\n'
bad 2 's.yaml:2.*name of a stage' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'law: {lr: {c: 1e300}}\ngrid: {lr: [law]}\n'
bad 2 's.yaml:2.*1e300' "$FPLAW" study s.yaml --out s
yaml s.yaml "$base"'law: {fit: no-such.json}\ngrid: {lr: [law]}\n'
bad 2 's.yaml:2.*no-such.json' "$FPLAW" study s.yaml --out s
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
cp -r good flipped
dd if=/dev/zero of="flipped/$(basename "$db")" bs=1 seek=0 count=16 conv=notrunc 2>/dev/null
bad 2 'flipped/' "$FPLAW" study flipped --export x.csv
bad 2 'flipped/' "$FPLAW" fit --law chinchilla flipped --out x.json
bad 2 'flipped/' "$FPLAW" report flipped --out x.html
mkdir -p folder/study.db
bad 2 'folder/study.db.*regular' "$FPLAW" study s.yaml --out folder
bad 2 'good.csv.*directory of a study' "$FPLAW" study good.csv --export x.csv
bad 2 'good: is a directory' "$FPLAW" study good --out s
absent s
# Two studies on one directory: the second is told of the first.
cp -r good busy
(exec 9>>busy/lock && flock 9 && exec sleep 60) >out.txt 2>&1 & # one process, nothing of ctest's in it
holder=$!
until ! flock -n busy/lock true; do sleep 0.02; done
bad 1 'busy: another study is running' "$FPLAW" study s.yaml --out busy
kill $holder

# ---- full disk, read-only directory ----------------------------------------------------------------------
bad 1 '(space|full|standard output)' sh -c '"$0" formats --json >/dev/full' "$FPLAW"
bad 1 '(space|full|/dev/full)' "$FPLAW" study good --export /dev/full
bad 1 '(space|full|/dev/full|permission|cannot)' "$FPLAW" quantize --to e4m3 zeros.f32 /dev/full
limited() { # a file size limit in blocks of 512 bytes, then bad's arguments
    limit=$1
    shift
    bad "$1" "$2" sh -c 'ulimit -f "$1" && shift && exec "$@"' sh "$limit" "$FPLAW" "$3" "$4" "$5" "$6"
}
limited 1 1 'x.bin: cannot be written: File too large' data --tokenizer=bytes x.bin text.txt
absent x.bin
limited 1 1 'x.html: cannot be written: File too large' report good --out x.html
absent x.html
bad 1 'standard output' sh -c 'exec "$0" formats >&-' "$FPLAW"
bad 1 'standard output' sh -c 'exec "$0" study good --export - >&-' "$FPLAW"
bad 1 'standard input' sh -c 'exec "$0" train - <&-' "$FPLAW"
# Root may write everywhere: what a plain user meets is tried as one.
chmod 755 .
user=
[ "$(id -u)" -ne 0 ] || user='setpriv --reuid=65534 --regid=65534 --clear-groups'
# shellcheck disable=SC2086
if $user "$FPLAW" --version >out.txt 2>err.txt; then
    mkdir readonly
    chmod 555 readonly
    : >secret.csv
    chmod 0 secret.csv
    bad 1 'readonly/s.*denied' $user "$FPLAW" study s.yaml --out readonly/s
    bad 1 'readonly.*denied' $user "$FPLAW" study s.yaml --out readonly
    bad 1 'readonly.*denied' $user "$FPLAW" train $tiny data=lexicon:words=64 steps=4 --out readonly
    bad 1 'readonly/x.csv.*denied' $user "$FPLAW" study good --export readonly/x.csv
    bad 1 'readonly/x.bin.*denied' $user "$FPLAW" data --tokenizer bytes readonly/x.bin text.txt
    bad 1 'readonly/o.f32.*denied' $user "$FPLAW" quantize --to e4m3 zeros.f32 readonly/o.f32
    bad 1 'secret.csv.*denied' $user "$FPLAW" fit --law chinchilla secret.csv --out f.json
fi
bad 1 '/proc/' "$FPLAW" study s.yaml --out /proc/fplaw-study
bad 1 '/proc/' "$FPLAW" study good --export /proc/fplaw.csv

# ---- checkpoints --------------------------------------------------------------------------------------------
echo garbage >ck.yaml
mkdir ck && printf 'not a checkpoint at all, only text' >ck/checkpoint.bin
bad 2 'ck/checkpoint.bin' "$FPLAW" train $tiny data=lexicon:words=64 steps=4 --out ck
grep -q 'not a checkpoint' ck/checkpoint.bin || { failures=$((failures + 1)); echo 'a foreign checkpoint was overwritten'; }
run="$tiny data=lexicon:words=64 steps=4"
# shellcheck disable=SC2086
"$FPLAW" train $run --out ck2 >out.txt 2>err.txt || { cat err.txt; failures=$((failures + 1)); }
bad 2 'ck2/checkpoint.bin.*lr=0.005.*lr=0.002' "$FPLAW" train $run lr=2e-3 --out ck2
size=$(stat -c %s ck2/checkpoint.bin)
cp ck2/checkpoint.bin whole.bin
head -c $((size - 7)) whole.bin >ck2/checkpoint.bin
bad 2 'ck2/checkpoint.bin.*truncated' "$FPLAW" train $run --out ck2
{ head -c $((size / 2)) whole.bin && printf 'x' && tail -c +$((size / 2 + 2)) whole.bin; } >ck2/checkpoint.bin
bad 2 'ck2/checkpoint.bin.*damaged' "$FPLAW" train $run --out ck2
: >ck2/checkpoint.bin
bad 2 'ck2/checkpoint.bin.*truncated' "$FPLAW" train $run --out ck2
rm ck2/checkpoint.bin && mkdir ck2/checkpoint.bin
bad 2 'ck2/checkpoint.bin' "$FPLAW" train $run --out ck2

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
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "c%d,", i; print "N" }' >t.csv
bad 2 't.csv:1: more than 1024 columns' "$FPLAW" fit --law chinchilla t.csv --out f.json
printf 'N,N,D,loss\n1,1,1,1\n' >t.csv
bad 2 "t.csv:1.*two columns.*'N'" "$FPLAW" fit --law chinchilla t.csv --out f.json
printf 'N,D,loss\n"1e6,1e7,3\n' >t.csv
bad 2 't.csv:2.*quoted' "$FPLAW" fit --law chinchilla t.csv --out f.json
printf 'N,D,loss\n1e6,1e7,3\000\n' >t.csv
bad 2 't.csv.*zero' "$FPLAW" fit --law chinchilla t.csv --out f.json
bad 2 '(CSV|UTF|zero|header)' "$FPLAW" fit --law chinchilla "$db" --out f.json
awk 'BEGIN { print "N,D,loss,status"; for (i = 1; i < 30; i++) print i * 1e6 ",1e8,nan,diverged" }' >t.csv
bad 2 '(diverged|no run|none)' "$FPLAW" fit --law chinchilla t.csv --out f.json
awk 'BEGIN { print "N,D,loss"; for (i = 1; i < 30; i++) print i * 1e6 ",1e8,nan" }' >t.csv
bad 2 '(nan|no run|none|left)' "$FPLAW" fit --law chinchilla t.csv --out f.json
awk 'BEGIN { print "N,D,loss"; for (i = 1; i < 30; i++) print i * 1e6 "," i * 1e8 "," 3 + 1 / i }' >t.csv
bad 2 'where' "$FPLAW" fit --law chinchilla t.csv --where 'N >' --out f.json
bad 2 '(where|column|Q)' "$FPLAW" fit --law chinchilla t.csv --where 'Q>3' --out f.json
bad 2 '(no run|none|where|left)' "$FPLAW" fit --law chinchilla t.csv --where 'N>1e30' --out f.json
bad 2 'columns' "$FPLAW" fit --law chinchilla t.csv --columns 'N' --out f.json
bad 2 'columns.*N=N\*0' "$FPLAW" fit --law chinchilla t.csv --columns 'N=N*0' --out f.json
bad 2 "columns.*'Q'.*'N'" "$FPLAW" fit --law chinchilla t.csv --columns 'Q=N' --out f.json
bad 2 'where.*position' "$FPLAW" fit --law chinchilla t.csv --where "$(head -c 50000 /dev/zero | tr '\0' '(')" --out f.json
bad 2 'hold-out.*N>0.*5 parameters' "$FPLAW" fit --law chinchilla t.csv --hold-out 'N>0' --out f.json
bad 2 'bootstrap.*1e18' "$FPLAW" fit --law chinchilla t.csv --bootstrap 1e18 --out f.json
bad 2 "law.*'chinchilla' is named twice" "$FPLAW" fit --law chinchilla,chinchilla t.csv --out f.json
bad 2 "lr" "$FPLAW" fit --law steplaw t.csv --out f.json
bad 2 '(delta|abc)' "$FPLAW" fit --law chinchilla t.csv --delta abc --out f.json
absent f.json
bad 2 '(preset|papre|paper)' "$FPLAW" predict capybara:papre N=1e9 D=1e11
bad 2 'format.*e4mm3|e4mm3' "$FPLAW" predict capybara:paper N=1e9 D=1e11 format=e4mm3
bad 2 '(N|1e9x)' "$FPLAW" predict capybara:paper N=1e9x D=1e11
bad 2 "unknown.*'bach'|bach" "$FPLAW" predict capybara:paper N=1e9 D=1e11 bach=4
bad 2 "N' is given twice" "$FPLAW" predict capybara:paper N=1e9 N=1e9 D=1e11
bad 2 'N: found 0, accepted is 1 to 1e\+30' "$FPLAW" predict capybara:paper N=0 D=1e11
bad 2 'N: found 1e-308, accepted is 1 to' "$FPLAW" predict capybara:paper N=1e-308 D=1e11
bad 2 'D: found 1e\+300, accepted is 1 to' "$FPLAW" predict capybara:paper N=1e9 D=1e300
bad 2 'D= is missing' "$FPLAW" predict capybara:paper N=1e9
bad 2 'block= is missing' "$FPLAW" predict capybara:paper N=1e9 D=1e11 format=e4m3
bad 2 '1e400.*too large' "$FPLAW" predict capybara:paper N=1e400 D=1e11
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
[ "$cases" -ge 200 ] && [ "$failures" -eq 0 ]
