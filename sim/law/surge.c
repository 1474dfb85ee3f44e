/* surge.c - the best learning rate against batch, for optimizers that use the sign of the gradient
 * (Adam-like; arXiv 2405.14578).
 *
 *   eta(B) = eta_max / ( (sqrt(Bn/B) + sqrt(B/Bn)) / 2 )
 *
 * It rises as sqrt(B), is largest at the noise scale Bn, and falls beyond: larger batches need smaller
 * rates again.  Fitted to ln lr of the best run at each batch (least mean loss; every row where
 * there is no loss column), at one model and data size.
 *
 * theta = ln eta_max, ln Bn.
 */
#include <math.h>

#include "problem.h"

enum { LR_MAX = FPL_BATCH_LR_MAX, B_N = FPL_BATCH_NOISE, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"lr_max", "", -60.0, 20.0, 1.0, 0.0, 0.0, 0, "learning rate at the noise scale, the largest"},
    {"Bn", "tokens", -20.0, 60.0, 1.5, 0.0, 0.0, 0, "noise scale"},
};

static const struct fpl_form forms[PARAMS] = {[LR_MAX] = {.log = 1}, [B_N] = {.log = 1}};

static double log_lr(const struct fpl_law *law, const double *t, const struct fpl_law_at *at, double *grad) {
    (void)law;
    const double half = 0.5 * (at->y - t[B_N]);
    if (grad != NULL) {
        grad[LR_MAX] = 1.0;
        grad[B_N] = 0.5 * tanh(half);
    }
    const double size = fabs(half); /* ln cosh without overflow */
    return t[LR_MAX] - (size + log1p(exp(-2.0 * size)) - 0.69314718055994531);
}

static const struct fpl_teller tellers[] = {
    {"B_noise", "tokens", "batch with the largest learning rate", fpl_tell_noise_scale},
    {NULL, NULL, NULL, NULL},
};

static const struct fpl_takes takes[] = {{FPL_VAR_BATCH, FPL_REQUIRED}, {FPL_VARIABLES, 0}};

const struct fpl_law fpl_law_surge = {
    .name = "surge",
    .citation = "arXiv 2405.14578",
    .formula = "lr = lr_max / (0.5 (sqrt(Bn/batch_tokens) + sqrt(batch_tokens/Bn)))",
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
