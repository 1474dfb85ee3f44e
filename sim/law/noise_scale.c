/* noise_scale.c - the best learning rate against batch for gradient descent (arXiv 1812.06162).
 *
 *   eta(B) = eta_max / (1 + Bn/B)
 *
 * Linear in B far below the noise scale Bn, constant far above it.  Bn is what the gradient noise scale
 * tr S/|G|^2 measures.  Fitted to ln lr of the best run at each batch (least mean loss; every row where
 * there is no loss column), at one model and data size.
 *
 * theta = ln eta_max, ln Bn.
 */
#include <math.h>

#include "problem.h"

enum { LR_MAX = FPL_BATCH_LR_MAX, B_N = FPL_BATCH_NOISE, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"lr_max", "", -60.0, 20.0, 1.0, 0.0, 0.0, 0, "learning rate at infinite batch"},
    {"Bn", "tokens", -20.0, 60.0, 1.5, 0.0, 0.0, 0, "noise scale"},
};

static const struct fpl_form forms[PARAMS] = {[LR_MAX] = {.log = 1}, [B_N] = {.log = 1}};

static double log_lr(const struct fpl_law *law, const double *t, const struct fpl_law_at *at, double *grad) {
    (void)law;
    const double z = t[B_N] - at->y, share = 1.0 / (1.0 + exp(-z));
    if (grad != NULL) {
        grad[LR_MAX] = 1.0;
        grad[B_N] = -share;
    }
    return t[LR_MAX] - (z > 0.0 ? z + log1p(exp(-z)) : log1p(exp(z)));
}

static const struct fpl_teller tellers[] = {
    {"B_noise", "tokens", "batch at half the largest learning rate", fpl_tell_noise_scale},
    {NULL, NULL, NULL, NULL},
};

static const struct fpl_takes takes[] = {{FPL_VAR_BATCH, FPL_REQUIRED}, {FPL_VARIABLES, 0}};

const struct fpl_law fpl_law_noise_scale = {
    .name = "noise-scale",
    .citation = "arXiv 1812.06162",
    .formula = "lr = lr_max / (1 + Bn/batch_tokens)",
    .params = PARAMS,
    .param = params,
    .use = FPL_TARGET_LR | FPL_ONLY_BEST | FPL_ANY_FORMAT | FPL_ONE_CELL,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .form = forms,
    .publish = fpl_publish,
    .internal = fpl_internal,
    .place = fpl_place_batch,
    .log_lr = log_lr,
    .start = fpl_start_batch,
    .takes = takes,
    .cell_keys = 1,
    .tellers = tellers,
};
