/* multipower.c - a whole loss curve under any learning-rate schedule (arXiv 2503.12811).
 *
 *   L(t) = L0 + A (S1 + SW)^-alpha - B sum_k (eta_(k-1) - eta_k) [1 - (1 + C eta_k^-gamma S_k)^-beta]
 *
 * S1 + SW is the sum of all learning rates to step t, warm-up included; S_k the sum from step k to t.
 * Each fall of the rate lowers the loss by a share that grows with the sum since, as a power law.  Valid
 * after warm-up, for one model size and batch.  curve.c groups the falls.
 *
 * theta = L0, ln(A S_0^-alpha), alpha, ln B, beta, ln(C eta_0^-gamma), gamma: n stands for ln(S1 + SW),
 * d for the logarithm of the curve's largest rate.
 */
#include <math.h>

#include "falls.h"
#include "fitting.h"

enum { L0, A, ALPHA, B, BETA, C, GAMMA, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"L0", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss after infinitely many steps, not annealed"},
    {"A", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of the summed rate"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of the summed rate"},
    {"B", "nats", -5.0, 18.0, 3.0, 0.0, 0.0, 0, "gain of a fall of the rate"},
    {"beta", "", 0.01, 4.0, 0.7, 0.0, 0.0, 0, "exponent with which the gain is reached"},
    {"C", "", -12.0, 18.0, 3.0, 0.0, 0.0, 0, "speed with which the gain is reached"},
    {"gamma", "", -2.0, 3.0, 1.0, 0.0, 0.0, 0, "exponent of the rate in that speed"},
};

static const struct fpl_form forms[PARAMS] = {
    [A] = {.log = 1, .link = {FPL_LINK_N(ALPHA, 1.0)}},
    [B] = {.log = 1},
    [C] = {.log = 1, .link = {FPL_LINK_D(GAMMA, 1.0)}},
};

/* z: {sum of rates, fall that the step cuts off, its ln rate, sum before it}; steps: whole bins. */
static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    double lr, area;
    fpl_place_classic(law, q, at);
    fpl_curve_at(q->curve, q->value[FPL_VAR_STEP], &lr, &at->z[0], &area);
    at->n = log(at->z[0]);
    at->d = log(q->curve->lr[0]);
    at->curve = q->curve;
    at->steps = fpl_curve_bins(q->curve, q->value[FPL_VAR_STEP], at->z + 1);
    at->quantized = 0;
}

static struct fpl_gain gain_of(const double *t, const struct fpl_law_at *at) {
    const struct fpl_speed speed = {t[BETA], t[C], t[GAMMA], at->d0};
    const struct fpl_curve *c = at->curve;
    struct fpl_gain g = {0.0, 0.0, 0.0, 0.0};
    fpl_add_falls(&g, &speed, at->steps, c->drop, c->log_lr, c->before, at->z[0]);
    if (at->z[1] != 0.0) fpl_add_falls(&g, &speed, 1, &at->z[1], &at->z[2], &at->z[3], at->z[0]);
    return g;
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    (void)law;
    const double a = exp(t[A] - t[ALPHA] * at->n), b = exp(t[B]);
    const struct fpl_gain g = gain_of(t, at);
    const double loss = t[L0] + a - b * g.value;
    if (grad != NULL) {
        const double by = 1.0 / loss;
        grad[L0] = by;
        grad[A] = a * by;
        grad[ALPHA] = -a * at->n * by;
        grad[B] = -b * g.value * by;
        grad[BETA] = -b * g.by_beta * by;
        grad[C] = -b * g.by_c * by;
        grad[GAMMA] = -b * g.by_gamma * by;
    }
    return log(loss);
}

/* alpha, beta, C and gamma by a grid; L0, A and B by least squares of relative residuals. */
static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double alphas[] = {0.2, 0.5, 0.9}, betas[] = {0.3, 0.8}, speeds[] = {-1.0, 1.5, 4.0},
                        gammas[] = {0.2, 0.7};
    const size_t stride = (problem->count + 199) / 200;
    int count = 0;
    for (int k = 0; k < 36 && count < room; k++) {
        double a[9] = {0.0}, b[3] = {0.0}, x[3], *t = theta[count++];
        t[ALPHA] = alphas[k % 3];
        t[BETA] = betas[k / 3 % 2];
        t[C] = speeds[k / 6 % 3] - problem->centre.n;
        t[GAMMA] = gammas[k / 18];
        t[C] += 2.0; /* the sum since a fall is a tenth of the whole */
        for (size_t i = 0; i < problem->count; i += stride) {
            const struct fpl_law_at *at = &problem->row[i].at;
            const double w = exp(-problem->row[i].target),
                         f[3] = {w, w * exp(-t[ALPHA] * at->n), -w * gain_of(t, at).value};
            for (int r = 0; r < 3; r++) {
                for (int s = 0; s < 3; s++) a[3 * r + s] += f[r] * f[s];
                b[r] += f[r];
            }
        }
        fpl_nonnegative(a, b, x, 3);
        t[L0] = x[0];
        t[A] = log(fmax(x[1], 1e-4));
        t[B] = log(fmax(x[2], 1e-2));
    }
    return count;
}

static double tell_gain(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    struct fpl_law_at at;
    fpl_law_place(fit->law, q, &fit->centre, &at);
    return exp(t[B]) * gain_of(t, &at).value;
}

static const struct fpl_teller tellers[] = {
    {"annealing_gain", "nats", "loss that the falls of the rate have saved so far", tell_gain},
    {NULL, NULL, NULL, NULL},
};

static const struct fpl_takes takes[] = {{FPL_VAR_STEP, FPL_OPTIONAL | FPL_SETTING}, {FPL_VARIABLES, 0}};

const struct fpl_law fpl_law_multipower = {
    .name = "multipower",
    .citation = "arXiv 2503.12811",
    .formula =
        "L(t) = L0 + A (S1+SW)^-alpha - B sum_k (eta_(k-1)-eta_k) [1 - (1 + C eta_k^-gamma S_k)^-beta]",
    .params = PARAMS,
    .param = params,
    .use = FPL_CURVES | FPL_ANY_FORMAT | FPL_ONE_CELL,
    .floor_at = -1,
    .penalty_at = -1,
    .shift_at = -1,
    .form = forms,
    .publish = fpl_publish,
    .internal = fpl_internal,
    .place = place,
    .log_loss = log_loss,
    .start = start,
    .takes = takes,
    .cell_keys = 0,
    .tellers = tellers,
};
