# device.sh - `--device`: which names this build takes, and what it says where there is no GPU.
#
# Builds with and without CUDA both pass: what is accepted follows from `fplaw --version`.  Where a device is
# present the lines about a missing one are made by hiding it (CUDA_VISIBLE_DEVICES).
set -u
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() {
    echo "device.sh: $*" >&2
    failures=$((failures + 1))
}

# expect STATUS REGEX COMMAND...: one line on standard error that matches
expect() {
    status=$1 regex=$2
    shift 2
    "$@" >out.txt 2>err.txt
    got=$?
    [ "$got" -eq "$status" ] || fail "$*: status $got, not $status: $(cat err.txt)"
    [ "$(wc -l <err.txt)" -eq 1 ] || fail "$*: not one line: $(cat err.txt)"
    grep -qE "$regex" err.txt || fail "$*: '$(cat err.txt)' lacks '$regex'"
}

tiny="layers=1 width=16 heads=2 seq=16 batch_tokens=64 steps=2 eval_tokens=512 data=lexicon:words=64"
cat >s.yaml <<'Y'
options: { layers: 1, width: 16, heads: 2, seq: 16, batch_tokens: 64, eval_tokens: 512, data: "lexicon:words=64" }
grid: { steps: [2] }
Y

"$FPLAW" --version >version.txt || fail '--version'
grep -qE '^backends: cpu( cuda)?$' version.txt || fail "backends: $(cat version.txt)"

# the CPU has no numbers; a name that no backend has is refused by both commands, and they say what is accepted
for device in cpu:0 cpu: cuda0 rocm ''; do
    expect 2 'accepted: cpu' "$FPLAW" train $tiny --device "$device"
    expect 2 'accepted: cpu' "$FPLAW" study s.yaml --out d --device "$device"
    expect 2 'accepted: cpu' "$FPLAW" study s.yaml --dry-run --device "$device"
done
"$FPLAW" train $tiny --device cpu >out.txt 2>err.txt || fail "cpu: $(cat err.txt)"

if grep -q '^backends:.* cuda' version.txt; then
    grep -qE '^cuda: runtime [0-9.]+, driver ([0-9.]+|none), ' version.txt || fail "no word on cuda: $(cat version.txt)"
    for device in cuda: cuda:x cuda:-1 cuda:1x cuda:99999; do
        expect 2 'accepted: cpu, cuda, cuda:N' "$FPLAW" train $tiny --device "$device"
    done
    export CUDA_VISIBLE_DEVICES=
    expect 1 'cuda: no device: .*--device cpu' "$FPLAW" train $tiny --device cuda
    expect 1 'cuda: no device: ' "$FPLAW" train $tiny --device cuda:1
    expect 1 'cuda: no device: ' "$FPLAW" study s.yaml --out d --device cuda
    [ -e d ] && fail 'a study without a device left a directory'
    # planning needs no device
    "$FPLAW" study s.yaml --dry-run --device cuda >out.txt 2>err.txt || fail "dry run: $(cat err.txt)"
    grep -q '1 runs, 0 done, 1 to run' out.txt || fail "dry run: $(cat out.txt)"
    # the products' library is chosen by name, and its absence is told
    FPLAW_CUBLASLT=none "$FPLAW" --version | grep -q 'products by own kernels (FPLAW_CUBLASLT=none)' || fail 'none'
    FPLAW_CUBLASLT=/no/such.so "$FPLAW" --version | grep -q 'products by own kernels (/no/such.so: ' || fail 'no such'
    "$FPLAW" --version | grep -qE 'products by (cuBLASLt [0-9]+\.[0-9]+\.[0-9]+ \(|own kernels \()' || fail 'products'
    # nothing of the driver or of the C++ library is wanted before a device is asked for
    if ldd "$FPLAW" 2>/dev/null | grep -E 'libcuda|libcudart|libcublas|libstdc'; then fail 'a CUDA library is linked'; fi
else
    expect 2 'cuda: this build has no such backend; accepted: cpu$' "$FPLAW" train $tiny --device cuda
    expect 2 'accepted: cpu$' "$FPLAW" study s.yaml --out d --device cuda:1
fi
[ "$failures" -eq 0 ] && echo 'devices are named, numbered and missed as they should be'
exit "$failures"
