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

#include "law_internal.h"

enum { LR_MAX, B_N, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"lr_max", "", -60.0, 20.0, 1.0, 0.0, 0.0, 0, "learning rate at infinite batch"},
    {"Bn", "tokens", -20.0, 60.0, 1.5, 0.0, 0.0, 0, "noise scale"},
};

static const struct fpl_form forms[PARAMS] = {[LR_MAX] = {.log = 1}, [B_N] = {.log = 1}};

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->n = at->d = 0.0;
    at->quantized = 0;
}

static double log_lr(const struct fpl_law *law, const double *t, const struct fpl_law_at *at, double *grad) {
    (void)law;
    const double z = t[B_N] - at->y, share = 1.0 / (1.0 + exp(-z));
    if (grad != NULL) {
        grad[LR_MAX] = 1.0;
        grad[B_N] = -share;
    }
    return t[LR_MAX] - (z > 0.0 ? z + log1p(exp(-z)) : log1p(exp(z)));
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double offsets[] = {0.0, -3.0, 3.0, -6.0, 6.0};
    double level = 0.0, batch = 0.0;
    for (size_t i = 0; i < problem->count; i++) {
        level += problem->row[i].target / (double)problem->count;
        batch += problem->row[i].at.y / (double)problem->count;
    }
    const int count = room < 5 ? room : 5;
    for (int i = 0; i < count; i++) {
        theta[i][LR_MAX] = level;
        theta[i][B_N] = batch + offsets[i];
    }
    return count;
}

static double tell_noise_scale(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    (void)fit;
    (void)q;
    return exp(t[B_N]);
}

static const struct fpl_teller tellers[] = {
    {"B_noise", "tokens", "batch at half the largest learning rate", tell_noise_scale},
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
    .place = place,
    .log_lr = log_lr,
    .start = start,
    .takes = takes,
    .cell_keys = 1,
    .tellers = tellers,
};
