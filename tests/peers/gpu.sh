#!/bin/sh
# Everything that results/gpu/README.md tells, on a machine with a GPU:
#
#     FPLAW=path/to/fplaw sh tests/peers/gpu.sh OUT [bench] [torch] [table] [study]
#
# Parts as in results/gpu/README.md; without any: bench, torch, table.  Each can run by itself, in any
# order, and again; a part that fails leaves the others' files alone.  FPLAW is a build with CUDA, such as the
# portable one; PYTHON (python3) one with PyPI's torch.  SUITE=packs measures only these parts of the bench.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] && [ -x "${FPLAW:-}" ] || {
    echo "usage: FPLAW=path/to/fplaw sh $0 OUT [bench] [torch] [table] [study]" >&2
    exit 2
}
python=${PYTHON:-python3}
out=$1
shift
[ $# -gt 0 ] || set -- bench torch table
mkdir -p "$out"
status=0

bench() {
    {
        "$FPLAW" --version
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader 2>/dev/null || :
        grep -m 1 'model name' /proc/cpuinfo || :
        date -u +%Y-%m-%d
    } >"$out/machine.txt"
    "$FPLAW" bench --device "${DEVICE:-cuda}" --json ${SUITE:+--suite "$SUITE"} ${QUICK:+--quick} >"$out/bench.json.part"
    mv "$out/bench.json.part" "$out/bench.json"
}
peers() { "$python" "$here/gpu_torch.py" --out "$out/torch.json"; }
table() {
    "$python" "$here/gpu_table.py" "$out" >"$out/README.md.part"
    mv "$out/README.md.part" "$out/README.md"
}
study() {
    "$FPLAW" study "${STUDY:-$here/../../results/gpu/study.yaml}" --out "$out/study" --device "${DEVICE:-cuda}"
    "$FPLAW" study "$out/study" --export "$out/runs.csv"
    "$FPLAW" fit "$out/runs.csv" --law joint --out "$out/fit.json" >"$out/fit.txt"
    "$FPLAW" report "$out/study" --out "$out/report.html"
}

for part in "$@"; do
    case $part in
    bench | table | study) run=$part ;;
    torch) run=peers ;;
    *)
        echo "gpu.sh: '$part' is no part; bench, torch, table and study are" >&2
        exit 2
        ;;
    esac
    # In a shell of its own, where a failure ends the part; not in a condition, where none would.
    set +e
    (
        set -e
        "$run"
    )
    failed=$?
    set -e
    if [ $failed -ne 0 ]; then
        echo "gpu.sh: $part failed (status $failed)" >&2
        status=1
    fi
done
exit $status
