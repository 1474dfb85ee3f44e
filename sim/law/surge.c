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

#include "law_internal.h"

enum { LR_MAX, B_N, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"lr_max", "", -60.0, 20.0, 1.0, 0.0, 0.0, 0, "learning rate at the noise scale, the largest"},
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
    const double half = 0.5 * (at->y - t[B_N]);
    if (grad != NULL) {
        grad[LR_MAX] = 1.0;
        grad[B_N] = 0.5 * tanh(half);
    }
    const double size = fabs(half); /* ln cosh without overflow */
    return t[LR_MAX] - (size + log1p(exp(-2.0 * size)) - 0.69314718055994531);
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
    {"B_noise", "tokens", "batch with the largest learning rate", tell_noise_scale},
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
    .place = place,
    .log_lr = log_lr,
    .start = start,
    .takes = takes,
    .cell_keys = 1,
    .tellers = tellers,
};
