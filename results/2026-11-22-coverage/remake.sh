#!/bin/sh
# Remakes README.md: synthetic recovery of every law and of plans, 200 tables x 200 resamples each.
#   sh results/2026-11-22-coverage/remake.sh BUILD        (six minutes on two quiet cores)
# The same programs judge themselves under ctest -L slow -R coverage.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tests=$(realpath "$1")/tests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive # on a busy machine waiting threads would hold up the others
"$tests/test_law_coverage" --full >"$work/law" 2>"$work/log" || echo "a law is outside its band" >&2
"$tests/test_plan_coverage" --full >"$work/plan" 2>>"$work/log" || echo "a plan is outside its band" >&2
rows() { # LABEL: "label  quantity  share % of tries[, note]" lines as a table
    printf '\n| %s | quantity | covered, %% | of |\n| --- | --- | --- | --- |\n' "$1"
    sed -n 's/^\(.\{18\}\) \(.\{22\}\) *\([0-9.]*\) % of \([0-9]*\)\(.*\)$/| \1 | \2 | \3 | \4\5 |/p' | sed 's/  */ /g'
}
{
    cat <<'TEXT'
# Do 95 % intervals hold the truth?

For every law of the registry 200 tables are made from known constants with the troubles of real ones: run noise of
1.5 %, collapsed runs, a pair of mislabelled ones, loss curves with autocorrelated noise
(`tests/sim/law_design.h`). Each is fitted with 200 resamples; counted is how often the interval holds the truth, for every parameter
that the fit calls identified ("of": in how many tables it did; of farseer's nine parameters in none) and for what it predicts in the
middle and at the end of the table. Asked for are 88 to 99 % of each (with at least 100 tries) and 92 to 97 % pooled. `steplaw` is judged by its optimum alone.

    sh results/2026-11-22-coverage/remake.sh BUILD

TEXT
    echo '## Pooled'
    grep ' pooled ' "$work/law" | rows law
    echo
    echo '## Plans: best size, tokens, loss and comparisons of formats, with inference tokens in the budget and without'
    rows budget <"$work/plan"
    echo
    echo '## Every quantity'
    grep -v ' pooled ' "$work/law" | rows law
} >"$here/README.md"
