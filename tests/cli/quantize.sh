#!/bin/sh
# quantize.sh - `fplaw quantize` on raw float32, .npy and .safetensors files: values, codes,
# tables, forms, refusals.
#
# Expected values are worked out by hand: e2m1 has 0 0.5 1 1.5 2 3 4 6.  Needs FPLAW, the
# built program.
set -u
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

fail() {
    echo "quantize.sh: $*" >&2
    failures=$((failures + 1))
}

# values FILE [skip]: float32 values of a file, one line
values() {
    od -An -v -tf4 -w4 -j "${2:-0}" "$1" | tr -d ' ' | tr '\n' ' ' | sed 's/ $//'
}

# expect WHAT GOT WANTED
expect() {
    [ "$2" = "$3" ] || fail "$1: got '$2', expected '$3'"
}

# refused STATUS PATTERN ARGUMENT...: exit status, one line, nothing written
refused() {
    status=$1
    pattern=$2
    shift 2
    rm -f out
    "$FPLAW" quantize "$@" >stdout 2>stderr
    got=$?
    [ "$got" = "$status" ] || fail "$*: exit $got, expected $status"
    [ "$(wc -l <stderr)" = 1 ] || fail "$*: $(wc -l <stderr) lines of message"
    grep -q "^fplaw: .*$pattern" stderr || fail "$*: message '$(cat stderr)' lacks '$pattern'"
    [ ! -s stdout ] || fail "$*: wrote to standard output"
    [ ! -e out ] || fail "$*: left OUT behind"
    set -- .fplaw* out.* tmp*
    [ ! -e "$1" ] || fail "left a temporary file: $1"
}

# 1, 5, 0.1, -7, 2.5, -0.0, 12, 0.3
printf '\000\000\200\077\000\000\240\100\315\314\314\075\000\000\340\300' >x
printf '\000\000\040\100\000\000\000\200\000\000\100\101\232\231\231\076' >>x

"$FPLAW" quantize --to e2m1 x y 2>line || fail "e2m1 failed"
expect e2m1 "$(values y)" "1 4 0 -6 2 -0 6 0.5"
grep -q '^e2m1 (largest 6): 8 values, 4 bits each' line || fail "summary: $(cat line)"

# amax 12: s = 2^(3-2) = 2, amax 7: s = 1
"$FPLAW" quantize --to e2m1/1x4:e8m0 x y 2>line || fail "blocks failed"
expect "blocks of 4" "$(values y)" "1 4 0 -6 2 -0 12 0"
"$FPLAW" quantize --to e2m1/row:e8m0 --shape 2x4 x y 2>line || fail "rows failed"
expect "two rows" "$(values y)" "1 4 0 -6 2 -0 12 0"
# columns: (1 2.5) (5 0) (0.1 12) (7 0.3): scales 0.5 1 2 1
"$FPLAW" quantize --to E2M1/COL:FLOOR --shape 2x4 x y 2>line || fail "columns failed"
expect "four columns" "$(values y)" "1 4 0 -6 2 -0 12 0.5"

"$FPLAW" quantize --to fp32 x y 2>line || fail "fp32 failed"
cmp -s x y || fail "fp32 is not the identity"
"$FPLAW" quantize --to e3m2:sr/1x4 --seed 7 x y 2>line || fail "sr failed"
"$FPLAW" quantize --to e3m2:sr/1x4 --seed 7 - - <x >z 2>line || fail "standard input failed"
cmp -s y z || fail "the same seed gives other bits"
cp x same
"$FPLAW" quantize --to e2m1 same same 2>line || fail "in place failed"
expect "in place" "$(values same)" "1 4 0 -6 2 -0 6 0.5"

"$FPLAW" quantize --to e2m1 --json x y >json 2>line || fail "--json failed"
for line in '"quantizer": "e2m1"' '"elements": 8' '"bits_per_value": 4.0' '"nonfinite": 0' '"amax": 12.0' \
    '"clipped": 0.25' '"underflow": 0.1428571428571428'; do
    grep -q "$line" json || fail "JSON lacks $line: $(cat json)"
done
: >empty
"$FPLAW" quantize --to e2m1/row --json empty y >json 2>line || fail "empty input failed"
[ ! -s y ] || fail "empty input gave output"
grep -q '"sqnr_db": null' json || fail "empty input: $(cat json)"

# .npy: 10 bytes of prefix, 118 of text
npy() { # DESCR ORDER SHAPE
    printf '\223NUMPY\001\000\166\000'
    printf '%-117s\n' "{'descr': '$1', 'fortran_order': $2, 'shape': $3, }"
}
(npy '<f4' False '(2, 4)' && cat x) >x.npy
"$FPLAW" quantize --to e2m1/row:e8m0 x.npy y.npy 2>line || fail ".npy failed: $(cat line)"
expect ".npy" "$(values y.npy 128)" "1 4 0 -6 2 -0 12 0"
head -c 128 x.npy >head_x
head -c 128 y.npy >head_y
cmp -s head_x head_y || fail ".npy header changed"
(npy '<f4' False '(2, 2, 2)' && cat x) >cube.npy
"$FPLAW" quantize --to e2m1/1x4:e8m0 --shape 2x4 cube.npy y.npy 2>line || fail ".npy with --shape failed"
expect ".npy with --shape" "$(values y.npy 128)" "1 4 0 -6 2 -0 12 0"

# float16 and bfloat16: values in the array's own type, 1 5 -7 12 and what e4m3 makes of 1.1
printf '\000\074\000\105\000\307\000\112\146\074' >half
(npy '<f2' False '(5,)' && cat half) >half.npy
"$FPLAW" quantize --to e4m3 half.npy y.npy 2>line || fail "float16 failed: $(cat line)"
expect "float16" "$(tail -c 10 y.npy | od -An -v -tx2)" " 3c00 4500 c700 4a00 3c80"
"$FPLAW" quantize --to e4m3 --dtype f16 half y 2>line || fail "raw float16 failed"
expect "raw float16" "$(od -An -v -tx2 y)" " 3c00 4500 c700 4a00 3c80"
# A scale of fl(12/448) is no half: what is written is rounded again, and a line says so.
"$FPLAW" quantize --to e4m3fn/tensor --dtype f16 half y 2>line || fail "inexact failed"
grep -q 'of the 5 dequantized values are not values of f16' line || fail "inexact: $(cat line)"
printf '\200\077\240\100' >brain
(npy '<V2' False '(2, 1)' && cat brain) >brain.npy
"$FPLAW" quantize --to e2m1 brain.npy y.npy 2>line || fail "bfloat16 failed: $(cat line)"
expect "bfloat16" "$(tail -c 4 y.npy | od -An -v -tx2)" " 3f80 4080"

# ---- .safetensors ---------------------------------------------------------------------------------
# length N (low byte first), N bytes of JSON, data: w F32 [2, 4] = x, i I32 [2], h F16 [5] = half
json='{"w":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},"i":{"dtype":"I32","shape":[2],"data_offsets":[32,40]},"m.h":{"dtype":"F16","shape":[5],"data_offsets":[40,50]}}'
(printf "\\$(printf '%03o' ${#json})\000\000\000\000\000\000\000%s" "$json" && cat x && printf 'abcdefgh' && cat half) >m.safetensors
head=$((8 + ${#json}))
"$FPLAW" quantize --to e2m1/row:e8m0 m.safetensors y.st >table 2>line || fail ".safetensors failed: $(cat line)"
expect "safetensors w" "$(head -c $((head + 32)) y.st | tail -c 32 >w; values w)" "1 4 0 -6 2 -0 12 0"
expect "safetensors h" "$(tail -c 10 y.st | od -An -v -tx2)" " 3c00 4400 c800 4a00 3c00"
head -c "$head" m.safetensors >head_x
head -c "$head" y.st >head_y
cmp -s head_x head_y || fail ".safetensors header changed"
expect "other tensors" "$(tail -c 18 y.st | head -c 8)" "abcdefgh"
[ "$(wc -l <table)" = 4 ] || fail "table: $(cat table)"
grep -q '^e2m1/row:e8m0 total  *13 ' table || fail "no total: $(cat table)"
"$FPLAW" quantize --to e2m1 --tensor 'm.*' m.safetensors y.st >table 2>line || fail "--tensor failed"
expect "w untouched" "$(head -c $((head + 32)) y.st | tail -c 32 >w; values w)" "$(values x)"
(cat m.safetensors) | "$FPLAW" quantize --to e2m1/row:e8m0 - - 2>table >y2 || fail "a pipe failed"
"$FPLAW" quantize --to e2m1/row:e8m0 m.safetensors y.st >/dev/null 2>&1
cmp -s y.st y2 || fail "a pipe gives other bytes"
cp m.safetensors same
"$FPLAW" quantize --to e2m1/row:e8m0 --threads 3 same same >/dev/null 2>&1 || fail "in place failed"
cmp -s y.st same || fail "in place or three threads give other bytes"

# Codes: e2m1 codes 0.5 = 1, 1 = 2, 1.5 = 3, 2 = 4, 3 = 5, 4 = 6, 6 = 7; sign 8.
# Row 1, scale 1: 1 4 0 -6 -> 2 6 0 f; row 2, scale 2: 1 -0 6 0 -> 2 8 7 0; E8M0 127, 128.
"$FPLAW" quantize --to e2m1/row:e8m0 --codes --shape 2x4 x codes.st >table 2>line || fail "--codes failed: $(cat line)"
expect "codes and scales" "$(tail -c 6 codes.st | od -An -v -tx1)" " 62 f0 82 07 7f 80"
grep -q '"tensor.codes":{"dtype":"U8","shape":\[2,2\]' codes.st || fail "codes header: $(head -c 300 codes.st)"
grep -q '"fplaw.quantizer":"e2m1/row:e8m0"' codes.st || fail "no quantizer in the metadata"
# NVFP4: amax 12: s_enc = 2688/12 = 224, block amax 12: s_b = 448 = 0x7e, scale_2 = fl(1/224);
# 12 -> 6, 7 -> 3.5 (tie to the even code, 4), 5 -> 2.5 (2), 2.5 -> 1.25 (1), 1 -> 0.5.
"$FPLAW" quantize --to nvfp4 --codes x codes.st >table 2>line || fail "nvfp4 codes failed: $(cat line)"
grep -q '"fplaw.layout":"nvfp4"' codes.st || fail "no layout in the metadata"
expect "nvfp4" "$(tail -c 9 codes.st | od -An -v -tx1)" " 41 e0 82 07 7e 25 49 92 3b"

# ---- several quantizers, tables, pictures -----------------------------------------------------------
"$FPLAW" quantize --to mxfp4,nvfp4 --to e4m3fn:sr x >table 2>line || fail "several failed: $(cat line)"
expect "rows" "$(cut -d' ' -f1 table | tr '\n' ' ')" "quantizer e2m1/1x32:e8m0 e2m1/1x16:e4m3fn+t e4m3fn:sr "
"$FPLAW" quantize --to mxfp4,nvfp4 x 'y_%' >table 2>line || fail "pattern failed: $(cat line)"
"$FPLAW" quantize --to mxfp4 x y 2>line
cmp -s y y_e2m1_1x32_e8m0 || fail "pattern gives other bytes"
[ -s y_e2m1_1x16_e4m3fn+t ] || fail "pattern: $(ls)"
head -c 4096 /dev/zero | tr '\000' '\101' >many
"$FPLAW" quantize --to mxfp4,nvfp4 --json many >json 2>line || fail "several --json failed"
grep -q '"bits_per_value": 4.25' json || fail "mxfp4 bits: $(cat json)"
grep -q '"bits_per_value": 4.53125' json || fail "nvfp4 bits: 4.5 and 32 per tensor: $(cat json)"
"$FPLAW" quantize --to e2m1 --histogram --svg h.svg --json x y >json 2>line || fail "--histogram failed"
# |x| = 1 5 0.1 7 2.5 12 0.3: exponents 0 2 -4 2 1 3 -2, and 0.1 is lost
tr -d ' \n' <json | grep -q '"exponents":{"first":-4,"counts":\[1,0,1,0,1,1,2,1\],"lost":\[1,0,0,0,0,0,0,0\]}' ||
    fail "histogram: $(cat json)"
head -c 5 h.svg | grep -q '<svg' || fail "no SVG"
"$FPLAW" quantize --to e2m1 --histogram x y >picture 2>line || fail "drawing failed"
grep -q '^2^-4    14.2857 % \.' picture || fail "drawing: $(cat picture)"
if command -v xmllint >/dev/null 2>&1; then xmllint --noout h.svg || fail "SVG is no XML"; fi
for T in 1 2 5; do
    "$FPLAW" quantize --to e2m1:sr/1x4 --threads $T --json many y$T >json$T 2>line || fail "--threads $T failed"
    sed -i /out/d json$T
done
cmp -s y1 y2 && cmp -s y1 y5 && cmp -s json1 json2 && cmp -s json1 json5 || fail "threads change results"
ln -s pointed dangling
"$FPLAW" quantize --to e2m1 x dangling 2>line || fail "dangling link failed: $(cat line)"
[ -L dangling ] && [ -s pointed ] || fail "a dangling link is not followed"
printf '{' >broken.safetensors
mkdir directory

refused 2 "too few" --to e2m1 broken.safetensors out
refused 2 "none of its 3 tensors.*matches --tensor 'q'" --to e2m1 --tensor q m.safetensors out
refused 2 "no tensors by name" --to e2m1 --tensor q x out
refused 2 "tensor w: 8 float32 values are not --shape 3x3" --to e2m1 --shape 3x3 m.safetensors out
refused 2 "one OUT for 2 quantizers" --to e2m1,e4m3 x out
refused 2 "given twice" --to e2m1 --to E2M1 x 'out%'
refused 2 "character 3" --to e2m1,e2q1 x 'out%'
refused 2 "no OUT given" --to e2m1 --codes x
refused 2 "codes of 32 bits" --to - --codes x out
refused 2 "regular file" --to e2m1 --codes x /dev/null
refused 2 "accepted: f32, f16, bf16" --to e2m1 --dtype f64 x out
refused 2 "accepted: 1 to 1024" --to e2m1 --threads 0 x out
refused 2 "longer than the 1073741824 bytes" --to e2m1 /dev/zero out
refused 2 "is a directory" --to e2m1 x directory
refused 1 "nowhere" --to e2m1 --svg nowhere/h.svg x out2 # OUT stays: it was whole
refused 1 "full" --to mxfp4 m.safetensors /dev/full

(npy '<f8' False '(4,)' && cat x) >double.npy
(npy '<f4' True '(4, 2)' && cat x) >fortran.npy
(npy '<f4' False '(3, 4)' && cat x) >short.npy
(npy '<f4' False '(2, x)' && cat x) >shape.npy
(npy '<f4' False '(99999999999999999999,)' && cat x) >huge.npy
printf '\223NUMPY\001' >cut.npy
printf '\223NUMPY\001\000\377\377 {}' >long.npy
printf '1234567' >odd
[ "$(id -u)" = 0 ] || { mkdir locked && chmod 500 locked; }

refused 2 "no --to given" x out
refused 2 "no files given" --to e2m1
refused 2 "unexpected argument" --to e2m1 x out third
refused 2 "did you mean '--shape'" --to e2m1 --shap=2x4 x out
refused 2 "needs a value" x out --to
refused 2 "character 3" --to e2q1 x out
refused 2 "a granularity" --to e2m1/1y4 x out
refused 2 "beyond float32" --to e8m3 x out
refused 2 "rows x columns" --to e2m1 --shape 8 x out
refused 2 "rows x columns" --to e2m1 --shape 0x8 x out
refused 2 "rows x columns" --to e2m1 --shape 2x-4 x out
refused 2 "are not --shape 3x3" --to e2m1 --shape 3x3 x out
refused 2 "are not --shape" --to e2m1 --shape 4294967296x4294967296 x out
refused 2 "accepted: 0 to 18446744073709551615" --to e2m1 --seed -1 x out
refused 2 "accepted: 0 to 18446744073709551615" --to e2m1 --seed 18446744073709551616 x out
refused 2 "want standard output" --to e2m1 --json x -
refused 2 "not divisible by 4" --to e2m1 odd out
refused 2 "'<f4'" --to e2m1 double.npy out
refused 2 "Fortran order" --to e2m1 fortran.npy out
refused 2 "do not hold the .npy shape, 3 x 4" --to e2m1 short.npy out
refused 2 "unreadable shape" --to e2m1 shape.npy out
refused 2 "unreadable shape" --to e2m1 huge.npy out
refused 2 "truncated" --to e2m1 cut.npy out
refused 2 "header of 65535 bytes" --to e2m1 long.npy out
refused 2 "missing" --to e2m1 missing out
refused 2 "directory" --to e2m1 directory out
refused 1 "full" --to e2m1 x /dev/full
refused 1 "nowhere" --to e2m1 x nowhere/out
[ ! -d locked ] || refused 1 "locked" --to e2m1 x locked/out

[ "$failures" = 0 ]
