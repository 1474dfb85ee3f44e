/* targets.c - what a law is fitted to, per run of a table: its loss, its learning rate, or the rise of its
 * loss over unquantized runs of the same size, data, learning rate and batch.
 */
#include <math.h>
#include <stdlib.h>

#include "manner.h"

/* Loss of run i above the mean of its unquantized twins, those of its seed if there are any. */
static double rise_over_twins(const struct fpl_runs *runs, size_t i) {
    const struct fpl_run *r = &runs->run[i];
    double sum[2] = {0.0, 0.0}, count[2] = {0.0, 0.0};
    if (!fpl_run_is_quantized(r)) return (double)NAN;
    for (size_t k = 0; k < runs->count; k++) {
        const struct fpl_run *t = &runs->run[k];
        if (t->status != FPL_RUN_OK || fpl_run_is_quantized(t) || t->N != r->N || t->D != r->D ||
            t->lr != r->lr || t->batch_tokens != r->batch_tokens)
            continue;
        sum[t->seed == r->seed] += t->loss;
        count[t->seed == r->seed] += 1.0;
    }
    const int own = count[1] > 0.0;
    return r->loss - sum[own] / count[own]; /* 0/0 where there is no twin */
}

/* What the law is fitted to, per run.  A table without rises of the loss gets them from twins. */
double *fpl_law_targets(const struct fpl_law *law, const struct fpl_runs *runs) {
    double *target = malloc((runs->count + 1) * sizeof *target);
    size_t known = 0;
    if (target == NULL) return NULL;
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *r = &runs->run[i];
        target[i] = (law->use & FPL_TARGET_DELTA) != 0 ? r->delta
                    : (law->use & FPL_TARGET_LR) != 0  ? r->lr
                                                       : r->loss;
        known += isnan(target[i]) ? 0 : 1;
    }
    if ((law->use & FPL_TARGET_DELTA) != 0 && known == 0)
        for (size_t i = 0; i < runs->count; i++) target[i] = rise_over_twins(runs, i);
    return target;
}
