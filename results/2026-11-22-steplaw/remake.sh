#!/bin/sh
# Remakes this folder from the 1,911 published runs of Step Law (arXiv 2503.04715): the table of laws, a
# joint fit with its findings, and README.md around them.  The runs carry no licence and are read where
# they lie; about half a minute on two quiet cores.
#   sh results/2026-11-22-steplaw/remake.sh path/to/fplaw [RUNS.csv]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
fplaw=$(realpath "$1")
data=$(realpath "${2-$here/../../../shared/data/steplaw-dense.csv}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
ln -s "$data" "$work/steplaw-dense.csv" # so that no path of this machine is written down
cd "$work"
fit() {
    "$fplaw" fit steplaw-dense.csv --columns 'loss=smooth loss' --columns 'batch_tokens=bs*2048' "$@"
}
fit --regret --hold-out 'N>1e9' --out regret.json >table.md
fit --law joint --hold-out cell --bootstrap 400 --bootstrap-unit cell --profile lr_N,lr_D,batch_N,batch_D \
    --out fit.json >fit.txt
fit --law joint --fix batch_N=0 --window 0.02 --hold-out cell --bootstrap 0 --out without.json >without.txt
fit --law steplaw --bootstrap 1000 --out recipe.json >recipe.txt
cp regret.json fit.json "$here"
{
    cat <<'TEXT'
# Learning-rate and batch laws on 1,911 published runs

Step Law (arXiv 2503.04715) published a grid of learning rates and batches at 17 sizes (N, D) of dense
language models. Here every law of the optimum is scored on it by *regret*: the loss given away by
training at the law's learning rate and batch instead of the cell's best. Fitted laws are scored on cells
that they have not seen, each of the 17 held out in turn. `sim/law/regret.h` defines both regrets.

    sh results/2026-11-22-steplaw/remake.sh path/to/fplaw [RUNS.csv]

remakes `regret.json` (all figures, with the optimum and noise of every cell), `fit.json` and this file.
Intervals are 95 %, over resampled cells.

TEXT
    cat table.md
    cat <<'TEXT'

## How to read it

- Nearest-grid regret has a floor: the best run of a cell is also its luckiest. A law that knew the truth
  would still score the figure in the line below the table, with the interval that noise alone gives
  it; laws that differ by less cannot be told apart by it. Smoothed regret and the held-out error of the
  loss discriminate.
- An additive Chinchilla base misses the cells' levels, and the bowl of learning rate and batch absorbs part
  of the misfit: error and regret are higher. An interaction of N and D, or a common exponent of both terms
  (capacity), repairs it. `--base auto` finds that by held-out error alone.
- Farseer's form fits as well in sample and extrapolates worst: nine parameters for the few model sizes below
  1e9.
- "Batch depends on D only" is rejected on these runs: holding the exponent of N in the batch law at 0 costs
  loss in sample and on held-out cells alike.

## The joint fit, base chosen by held-out error

Bootstrap over cells, profile-likelihood intervals beside it where asked for:

TEXT
    sed 's/^/    /' fit.txt
    cat <<'TEXT'

The same with the exponent of N in the batch law held at 0, on the same runs:

TEXT
    sed -n '1,4s/^/    /p' without.txt
    cat <<'TEXT'

The published recipe (runs within 0.25 % of their cell's least, least squares in logarithms):

TEXT
    sed 's/^/    /' recipe.txt
} >"$here/README.md"
