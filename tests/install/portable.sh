# portable.sh [FOLDER] - the folder that runs elsewhere (cmake --preset portable): wants nothing but glibc, stays
# under 60 MB, starts with an empty environment from wherever it was moved to, and finds cuBLASLt, where it
# has CUDA, by name or beside itself.  Without FOLDER it is built first, in BUILD/portable.
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
fail() {
    echo "portable.sh: $*" >&2
    exit 1
}

folder=${1-}
if [ -z "$folder" ]; then
    folder=$BUILD/portable/folder
    { cmake -S "$SOURCE" -B "$BUILD/portable" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFPLAW_PORTABLE=ON \
        -DFPLAW_TESTS=OFF && cmake --build "$BUILD/portable" --target fplaw &&
        cmake --install "$BUILD/portable" --component program --strip --prefix "$folder"; } >"$work/log" 2>&1 ||
        { tail -20 "$work/log"; fail 'the build'; }
fi
program=$folder/bin/fplaw
[ -x "$program" ] || fail "no $program"

wanted=$(ldd "$program" | grep -vE 'linux-vdso|ld-linux|/lib(c|m|dl|rt|pthread)\.so')
[ -z "$wanted" ] || fail "wants more than glibc: $wanted"
size=$(du -sk "$folder" | cut -f1)
[ "$size" -lt 60000 ] || fail "$size kB"

mkdir "$work/elsewhere" && cp -r "$folder" "$work/elsewhere/fplaw-folder" && cd "$work" || fail 'the copy'
program=$work/elsewhere/fplaw-folder/bin/fplaw
env -i "$program" --version >version.txt 2>&1 || fail "--version: $(cat version.txt)"
tiny="layers=1 width=16 heads=2 seq=16 batch_tokens=64 steps=3 eval_tokens=512 data=lexicon:words=64"
env -i "$program" train $tiny recipe=mxfp4 --json >here.json 2>err.txt || fail "train: $(cat err.txt)"
env -i "$program" quantize --to e2m1/1x32:e8m0 /dev/null out.f32 2>err.txt || fail "quantize: $(cat err.txt)"

# The same loss as the ordinary program's, where there is one to ask.
loss() { sed -n 's/.*"loss": *\([^,}]*\).*/\1/p' "$1" | head -n 1; }
if [ -n "${FPLAW-}" ]; then
    "$FPLAW" train $tiny recipe=mxfp4 --json >there.json 2>/dev/null || fail 'the ordinary program'
    [ -n "$(loss here.json)" ] && [ "$(loss here.json)" = "$(loss there.json)" ] || fail 'another loss'
fi

if grep -q '^cuda:' version.txt; then
    env -i FPLAW_CUBLASLT=none "$program" --version | grep -q 'own kernels (FPLAW_CUBLASLT=none)' || fail 'no library'
    library=$(ls /usr/local/cuda/lib64/libcublasLt.so.13 2>/dev/null)
    if [ -n "$library" ]; then
        env -i FPLAW_CUBLASLT="$library" "$program" --version | grep -q "cuBLASLt .*($library)" || fail 'by name'
        # The loader's own places come first; where they have none, the folder's is found.
        ln -s "$library" elsewhere/fplaw-folder/bin/libcublasLt.so.13
        env -i "$program" --version | grep -q 'products by cuBLASLt ' || fail 'beside the program'
    fi
fi
glibc=$(objdump -T "$program" 2>/dev/null | grep -oE 'GLIBC_[0-9.]+' | sort -V | tail -n 1)
echo "portable: $size kB, needs ${glibc:-glibc} or newer"
