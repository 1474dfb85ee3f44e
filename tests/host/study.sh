#!/bin/sh
# `fplaw study --device cuda` on CUDA kernels that the host executes (no GPU): runs side by side have
# the bits that they have alone, whatever the size of packs, the number of devices and their memory;
# and the losses of the CPU backend but for rounding.   FPLAW: the program with that backend;
# ON_DEVICE=1: on a real GPU, whose number and memory are what they are (tests/gpu).
set -eu
: "${FPLAW:?the program under test}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
fail() {
    echo "host_study: $*" >&2
    exit 1
}
cat >s.yaml <<'YAML'
name: packs
options: { layers: 1, width: 8, heads: 1, seq: 8, steps: 5, batch_tokens: 32, eval_tokens: 64, data: "lexicon:words=64" }
list:
  - grid: { recipe: [fp32, "full:e4m3/1x8", nvfp4, "full:e2m1:sr/tensor:delayed2"], lr: [2e-2, 5e-3] }
  - { lr: 900, weight_decay: 1000, seed: 5 }
  - { width: 12, heads: 3, recipe: mxfp8 }
YAML
study() { # name, options: a study into it, what it said into NAME.txt
    name=$1
    shift
    "$FPLAW" study s.yaml --out "$name" "$@" 2>"$name.txt" || fail "$name: $(tail -n 1 "$name.txt")"
    "$FPLAW" study "$name" --export "$name.csv"
    [ "$(wc -l <"$name.csv")" -eq 11 ] || fail "$name: ten runs and a header are expected"
}
same() { cmp alone.csv "$1.csv" || fail "$1: another table than that of runs alone"; }

study alone --device cuda --pack 1 --workers 1
grep -q ,cuda, alone.csv || fail 'the runs were not on the CUDA backend'
[ "$(grep -c ,diverged, alone.csv)" -eq 1 ] || fail 'one run that breaks is expected'
study packed --device cuda --workers 1
grep -q '9 of 9 runs of this shape train side by side' packed.txt || fail "packed: $(cat packed.txt)"
same packed

study four --device cuda --workers 1 --pack 4
same four

if [ -z "${ON_DEVICE:-}" ]; then
    # Two devices have two workers, each with its part of the runs.
    FPLAW_HOST_DEVICES=2 study two --device cuda --pack 4
    grep -q 'with 2 workers' two.txt || fail "two devices: $(cat two.txt)"
    same two

    # Memory for three of them.
    FPLAW_HOST_MEMORY=12000000 study small --device cuda --workers 1
    grep -q ' 3 of 9 runs of this shape train side by side' small.txt || fail "little memory: $(cat small.txt)"
    same small
fi

# Against the CPU: five steps, in which rounding to coarse formats turns ulps into rounding errors of
# single values (test_host_training derives bounds).
study cpu --device cpu
for table in alone cpu; do # run ids hold the backend: order by what the runs are
    tail -n +2 $table.csv | grep -v ,diverged, | cut -d, -f2-8,16 | LC_ALL=C sort >$table.part
done
paste -d, alone.part cpu.part | awk -F, '{ d = $8 - $16; if (d < 0) d = -d
    if ($2 != $10 || d > ($7 == "fp32" ? 1e-5 : 1e-2)) { print; bad = 1 } }
    END { exit bad || NR != 9 }' || fail 'the CPU backend has other losses'
echo 'host_study: done'
