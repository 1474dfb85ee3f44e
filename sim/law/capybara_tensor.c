/* capybara_tensor.c - the floating-point quantization law at one scale per tensor (arXiv 2501.02423v3).
 *
 *   log2 B = N^omega / (xi D^eta)
 *   L = n/N^alpha + d/D^beta + eps
 *     + D^(beta - eta) / N^(alpha - omega) / (gamma (E + 1/2)^delta (M + 1/2)^nu)
 *
 * xi multiplies gamma and no run tells them apart, so gamma stands for gamma xi.  The paper publishes
 * no constants of this form.  More data raises the penalty by D^(beta - eta), and
 *
 *   D_crit = [ d beta gamma N^(alpha - omega) (E + 1/2)^delta (M + 1/2)^nu / (beta - eta) ]^(1/(2 beta -
 * eta))
 *
 * while beta > eta; otherwise data never harms.  theta: ln of each term at the centre, exponents; the
 * penalty is e^(-g + (beta - eta) d - (alpha - omega) n - delta e - nu m).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/clones.h"
#include "capybara.h"

enum { OMEGA = NU + 1, ETA, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"n", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},
    {"d", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"},
    {"beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
    {"eps", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"},
    {"gamma", "1/nats", -15.0, 30.0, 3.0, 0.0, 0.0, 0, "inverse strength of the penalty, gamma xi"},
    {"delta", "", 0.0, 12.0, 2.5, 0.0, 0.0, 0, "exponent of exponent bits"},
    {"nu", "", 0.0, 12.0, 2.5, 0.0, 0.0, 0, "exponent of mantissa bits"},
    {"omega", "", -2.0, 2.0, 0.7, 0.0, 0.0, 0, "exponent of model size in log2 B"},
    {"eta", "", -2.0, 2.0, 0.7, 0.0, 0.0, 0, "exponent of data size in 1/log2 B"},
};

/* 1/gamma = e^-g at the centre and at E2M1. */
static const struct fpl_form forms[PARAMS] = {
    [CN] = {.log = 1, .link = {FPL_LINK_N(ALPHA, 1.0)}},
    [CD] = {.log = 1, .link = {FPL_LINK_D(BETA, 1.0)}},
    [GAMMA] = {.log = 1,
               .precision = 1,
               .link = {{BETA, 0.0, 1.0, 0.0},
                        {ALPHA, -1.0, 0.0, 0.0},
                        {ETA, 0.0, -1.0, 0.0},
                        {OMEGA, 1.0, 0.0, 0.0},
                        {DELTA, 0.0, 0.0, -0.91629073187415511}, /* ln 2.5 */
                        {NU, 0.0, 0.0, -0.40546510810816438}}},  /* ln 1.5 */
    [DELTA] = {.precision = 1},
    [NU] = {.precision = 1},
    [OMEGA] = {.precision = 1},
    [ETA] = {.precision = 1},
};

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->quantized = !isnan(q->value[FPL_VAR_E]) && !isnan(q->value[FPL_VAR_M]);
    at->g = 1.0;
    if (!at->quantized) return;
    at->e = log((q->value[FPL_VAR_E] + 0.5) / FPL_E_ORIGIN);
    at->m = log((q->value[FPL_VAR_M] + 0.5) / FPL_M_ORIGIN);
}

static int refuse(const struct fpl_law *law, const struct fpl_run *r, char *why, size_t size) {
    (void)law;
    if (isnan(r->E) || r->granularity[0] == '\0' || strcmp(r->granularity, "tensor") == 0) return 0;
    return snprintf(why, size, "scale is per %s, not per tensor", r->granularity);
}

static FPL_CLONES void loop(const double *t, const struct fpl_block *at, const struct fpl_values *out) {
    const int s = out->stride;
    capybara_loop(t, at, t[ALPHA] - t[OMEGA], t[BETA] - t[ETA], out);
    for (int k = 0; k < at->count; k++) {
        const lanes by_gamma = out->grad[GAMMA * s + k];
        out->grad[OMEGA * s + k] = -by_gamma * at->n[k];
        out->grad[ETA * s + k] = by_gamma * at->d[k];
    }
}

static void rows(const struct fpl_law *law, const double *t, const struct fpl_block *at,
                 const struct fpl_values *out) {
    (void)law;
    loop(t, at, out);
}

static double log_dcrit(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                        double *grad) {
    (void)law;
    const double rise = t[BETA] - t[ETA], whole = t[BETA] + rise;
    if (!at->quantized || !(rise > 0.0)) return (double)NAN;
    const double sum = t[CD] + t[GAMMA] + (t[ALPHA] - t[OMEGA]) * at->n + t[DELTA] * at->e + t[NU] * at->m +
                       log(t[BETA] / rise);
    if (grad != NULL) {
        grad[CN] = grad[EPS] = 0.0;
        grad[CD] = grad[GAMMA] = 1.0 / whole;
        grad[ALPHA] = at->n / whole;
        grad[OMEGA] = -at->n / whole;
        grad[DELTA] = at->e / whole;
        grad[NU] = at->m / whole;
        grad[BETA] = (1.0 / t[BETA] - 1.0 / rise - 2.0 * sum / whole) / whole;
        grad[ETA] = (1.0 / rise + sum / whole) / whole;
    }
    return sum / whole;
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    const int count = fpl_capybara_start(problem, theta, room);
    for (int i = 0; i < count; i++) theta[i][OMEGA] = theta[i][ETA] = 0.1;
    return count;
}

static const struct fpl_takes takes[] = {{FPL_VAR_N, FPL_REQUIRED},
                                         {FPL_VAR_D, FPL_REQUIRED},
                                         {FPL_VAR_E, FPL_FORMAT},
                                         {FPL_VAR_M, FPL_FORMAT},
                                         {FPL_VARIABLES, 0}};

const struct fpl_law fpl_law_capybara_tensor = {
    .name = "capybara-tensor",
    .citation = "arXiv 2501.02423v3",
    .formula =
        "L = n/N^alpha + d/D^beta + eps + D^(beta-eta)/N^(alpha-omega)/(gamma (E+0.5)^delta (M+0.5)^nu)",
    .params = PARAMS,
    .param = params,
    .use = FPL_NEED_FORMAT | FPL_ONLY_BEST,
    .floor_at = EPS,
    .penalty_at = GAMMA,
    .shift_at = -1,
    .form = forms,
    .publish = fpl_publish,
    .internal = fpl_internal,
    .place = place,
    .refuse = refuse,
    .log_loss = fpl_law_one,
    .rows = rows,
    .log_dcrit = log_dcrit,
    .start = start,
    .takes = takes,
    .cell_keys = 2,
    .scaling = "tensor",
};
