/* capybara.c - the floating-point quantization law (arXiv 2501.02423v3).
 *
 *   L(N, D, E, M, B) = n/N^alpha + d/D^beta + eps
 *                    + D^beta/N^alpha * log2(B) / (gamma (E + 1/2)^delta (M + 1/2)^nu)
 *
 * B = elements that share one scale.  The penalty grows with D while d/D^beta falls, so there
 * is a critical data size beyond which more data raises the loss:
 *
 *   D_crit = [ d gamma N^alpha (E + 1/2)^delta (M + 1/2)^nu / log2 B ]^(1/(2 beta))
 *
 * theta = ln(n/N0^alpha), alpha, ln(d/D0^beta), beta, eps, g, delta, nu (g: penalty.c).
 * Of runs that differ only in learning rate, batch and seed the best setting is used: the law
 * knows no learning rate.  The paper's runs quantize three of six GEMM operands (shared notes,
 * section 1); a fully quantized recipe has constants of its own.
 */
#include <math.h>

#include "../../formats/clones.h"
#include "capybara.h"

enum { PARAMS = 8 };

static const struct fpl_law_param params[PARAMS] = {
    {"n", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},
    {"d", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"},
    {"beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
    {"eps", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"},
    {"gamma", "1/nats", -10.0, 30.0, 3.0, 0.0, 0.0, 0, "inverse strength of the precision penalty"},
    {"delta", "", 0.0, 12.0, 2.5, 0.0, 0.0, 0, "exponent of exponent bits"},
    {"nu", "", 0.0, 12.0, 2.5, 0.0, 0.0, 0, "exponent of mantissa bits"},
};

void fpl_capybara_publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    (void)law;
    p[CN] = exp(t[CN] + t[ALPHA] * c->n);
    p[ALPHA] = t[ALPHA];
    p[CD] = exp(t[CD] + t[BETA] * c->d);
    p[BETA] = t[BETA];
    p[EPS] = t[EPS];
    p[GAMMA] = fpl_gamma_publish(t + GAMMA, t[ALPHA], t[BETA], c);
    p[DELTA] = t[DELTA];
    p[NU] = t[NU];
}

void fpl_capybara_internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c,
                           double *t) {
    (void)law;
    t[CN] = log(p[CN]) - p[ALPHA] * c->n;
    t[ALPHA] = p[ALPHA];
    t[CD] = log(p[CD]) - p[BETA] * c->d;
    t[BETA] = p[BETA];
    t[EPS] = p[EPS];
    t[GAMMA] = fpl_gamma_internal(p[GAMMA], p[DELTA], p[NU], p[ALPHA], p[BETA], c);
    t[DELTA] = p[DELTA];
    t[NU] = p[NU];
}

static FPL_CLONES void loop(const double *t, const struct fpl_block *at, const struct fpl_values *out) {
    capybara_loop(t, at, t[ALPHA], t[BETA], out);
}

void fpl_capybara_rows(const struct fpl_law *law, const double *t, const struct fpl_block *at,
                       const struct fpl_values *out) {
    (void)law;
    loop(t, at, out);
}

double fpl_capybara_log_dcrit(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                              double *grad) {
    (void)law;
    if (!at->quantized || !(at->g > 0.0)) return (double)NAN;
    const double half = 0.5 / t[BETA];
    const double sum = t[CD] + t[GAMMA] + t[ALPHA] * at->n + t[DELTA] * at->e + t[NU] * at->m - log(at->g);
    if (grad != NULL) {
        grad[CN] = grad[EPS] = 0.0;
        grad[ALPHA] = half * at->n;
        grad[CD] = grad[GAMMA] = half;
        grad[BETA] = -half * sum / t[BETA];
        grad[DELTA] = half * at->e;
        grad[NU] = half * at->m;
    }
    return half * sum;
}

int fpl_capybara_start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    struct fpl_levels best[8];
    const int count = fpl_start_levels(problem, NULL, 0, best, room < 8 ? room : 8);
    for (int i = 0; i < count; i++) {
        theta[i][CN] = best[i].a;
        theta[i][ALPHA] = best[i].alpha;
        theta[i][CD] = best[i].b;
        theta[i][BETA] = best[i].beta;
        theta[i][EPS] = best[i].E;
        for (int j = 0; j < 3; j++) theta[i][GAMMA + j] = best[i].penalty[j];
    }
    return count;
}

static const struct fpl_preset presets[] = {
    {"paper",
     "arXiv 2501.02423v3",
     {69.2343, 0.2368, 68973.0621, 0.5162, 1.9061, 11334.5197, 3.1926, 2.9543},
     {40e6, 680e6},
     {10e9, 105e9}},
};

const struct fpl_law fpl_law_capybara = {
    .name = "capybara",
    .citation = "arXiv 2501.02423v3",
    .formula = "L = n/N^alpha + d/D^beta + eps + D^beta/N^alpha log2(B)/(gamma (E+0.5)^delta (M+0.5)^nu)",
    .params = PARAMS,
    .param = params,
    .use = FPL_NEED_FORMAT | FPL_ONLY_BEST,
    .floor_at = EPS,
    .penalty_at = GAMMA,
    .shift_at = -1,
    .publish = fpl_capybara_publish,
    .internal = fpl_capybara_internal,
    .log_loss = fpl_law_one,
    .rows = fpl_capybara_rows,
    .log_dcrit = fpl_capybara_log_dcrit,
    .start = fpl_capybara_start,
    .takes = fpl_takes_format,
    .cell_keys = 2,
    .tellers = fpl_tellers_bits,
    .presets = presets,
    .preset_count = 1,
};
