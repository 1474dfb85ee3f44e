/* steplaw.c - optimal learning rate and batch from a grid of runs (Step Law, arXiv 2503.04715).
 *
 *   lr*(N, D) = lr_c N^lr_N D^lr_D          batch*(D) = batch_c D^batch_D   (tokens per step)
 *
 * The published recipe: the runs within 0.25 % of the smoothed minimum of their (N, D) cell,
 * least squares in logarithms, bootstrap over runs.  batch_N is held at 0 as published; the
 * joint law frees it.  The recipe needs runs whose noise is well below its window: where the
 * noise is larger it keeps little more than each cell's luckiest run, and `joint`, which uses
 * every run, is the better estimate.
 *
 * theta = ln lr* at the centre, lr_N, lr_D, ln batch* at the centre, batch_N, batch_D.  The
 * residuals of the two regressions are fitted together; being linear they need no start.
 */
#include <math.h>

#include "problem.h"

enum { LR_C, LR_N, LR_D, BATCH_C, BATCH_N, BATCH_D, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"lr_c", "", -60.0, 60.0, 3.0, 0.0, 0.0, 0, "prefactor of the optimal peak learning rate"},
    {"lr_N", "", -10.0, 10.0, 1.0, 0.0, 0.0, 0, "its exponent of model size"},
    {"lr_D", "", -10.0, 10.0, 1.0, 0.0, 0.0, 0, "its exponent of data size"},
    {"batch_c", "tokens", -60.0, 60.0, 3.0, 0.0, 0.0, 0, "prefactor of the optimal batch"},
    {"batch_N", "", 0.0, 0.0, 1.0, 0.0, 0.0, 0, "its exponent of model size, held at 0 as published"},
    {"batch_D", "", -10.0, 10.0, 1.0, 0.0, 0.0, 0, "its exponent of data size"},
};

static void publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    (void)law;
    for (int j = 0; j < PARAMS; j++) p[j] = t[j];
    p[LR_C] = exp(t[LR_C] - t[LR_N] * c->n - t[LR_D] * c->d);
    p[BATCH_C] = exp(t[BATCH_C] - t[BATCH_N] * c->n - t[BATCH_D] * c->d);
}

static void internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c, double *t) {
    (void)law;
    for (int j = 0; j < PARAMS; j++) t[j] = p[j];
    t[LR_C] = log(p[LR_C]) + p[LR_N] * c->n + p[LR_D] * c->d;
    t[BATCH_C] = log(p[BATCH_C]) + p[BATCH_N] * c->n + p[BATCH_D] * c->d;
}

static double power(const double *t, int at_param, const struct fpl_law_at *at, double *grad) {
    if (grad != NULL) {
        for (int j = 0; j < PARAMS; j++) grad[j] = 0.0;
        grad[at_param] = 1.0;
        grad[at_param + 1] = at->n;
        grad[at_param + 2] = at->d;
    }
    return t[at_param] + t[at_param + 1] * at->n + t[at_param + 2] * at->d;
}

static double log_lr(const struct fpl_law *law, const double *t, const struct fpl_law_at *at, double *grad) {
    (void)law;
    return power(t, LR_C, at, grad);
}

static double log_batch(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                        double *grad) {
    (void)law;
    return power(t, BATCH_C, at, grad);
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    (void)problem;
    (void)room;
    for (int j = 0; j < PARAMS; j++) theta[0][j] = 0.0;
    return 1;
}

/* The other two are power laws of compute or of N alone, written in this law's parameters. */
static const struct fpl_preset presets[] = {
    {"paper", "arXiv 2503.04715", {1.79, -0.713, 0.307, 0.58, 0.0, 0.571}, {0, 0}, {0, 0}},
    {"deepseek",
     "arXiv 2401.02954: lr 0.3118 C^-0.125, batch 0.2920 C^0.3271, C = 6 N D",
     {0.24923395233808612, -0.125, -0.125, 0.5247061148685022, 0.3271, 0.3271},
     {0, 0},
     {0, 0}},
    {"porian",
     "arXiv 2406.19146: lr 3.7 N^-0.36, batch 0.7576 N^0.703",
     {3.7, -0.36, 0.0, 0.7576, 0.703, 0.0},
     {0, 0},
     {0, 0}},
};

const struct fpl_law fpl_law_steplaw = {
    .name = "steplaw",
    .citation = "arXiv 2503.04715",
    .formula = "lr* = lr_c N^lr_N D^lr_D, batch* = batch_c N^batch_N D^batch_D",
    .params = PARAMS,
    .param = params,
    .use = FPL_NEED_LR | FPL_ONLY_NEAR_BEST | FPL_OPTIMA,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .publish = publish,
    .internal = internal,
    .log_lr = log_lr,
    .log_batch = log_batch,
    .start = start,
    .takes = fpl_takes_optima,
    .cell_keys = 2,
    .presets = presets,
    .preset_count = 3,
};
