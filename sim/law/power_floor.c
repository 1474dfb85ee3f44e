/* power_floor.c - a power law of one variable and a constant (arXiv 2010.14701).
 *
 *   L(x) = L_inf + (x0/x)^a
 *
 * x is any positive column (--columns x=D).  With unlimited models or data L_inf estimates the entropy
 * of the data itself, so on a source of known entropy it can be checked against the truth.
 *
 * theta = L_inf, a ln(x0/x_centre), a.
 */
#include <math.h>

#include "fitting.h"

enum { L_INF, X0, EXPONENT, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"L_inf", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "irreducible loss"},
    {"x0", "x", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "where the reducible loss is one nat"},
    {"a", "", 0.01, 3.0, 0.5, 0.0, 0.0, 0, "exponent"},
};

static void publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    (void)law;
    p[L_INF] = t[L_INF];
    p[X0] = exp(c->n + t[X0] / t[EXPONENT]);
    p[EXPONENT] = t[EXPONENT];
}

static void internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c, double *t) {
    (void)law;
    t[L_INF] = p[L_INF];
    t[X0] = p[EXPONENT] * (log(p[X0]) - c->n);
    t[EXPONENT] = p[EXPONENT];
}

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->n = log(q->value[FPL_VAR_X]);
    at->d = 0.0;
    at->quantized = 0;
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    (void)law;
    const double excess = exp(t[X0] - t[EXPONENT] * at->n), loss = t[L_INF] + excess;
    if (grad != NULL) {
        grad[L_INF] = 1.0 / loss;
        grad[X0] = excess / loss;
        grad[EXPONENT] = -excess * at->n / loss;
    }
    return log(loss);
}

/* The exponent by a grid, floor and excess by non-negative least squares. */
static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double exponents[] = {0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 2.0};
    int count = 0;
    for (int k = 0; k < 8 && count < room; k++) {
        double a[4] = {0.0}, b[2] = {0.0}, x[2];
        for (size_t i = 0; i < problem->count; i++) {
            const double w = exp(-problem->row[i].target),
                         f[2] = {w, w * exp(-exponents[k] * problem->row[i].at.n)};
            for (int r = 0; r < 2; r++) {
                for (int s = 0; s < 2; s++) a[2 * r + s] += f[r] * f[s];
                b[r] += f[r];
            }
        }
        fpl_nonnegative(a, b, x, 2);
        double *t = theta[count++];
        t[L_INF] = fmin(x[0], 0.98 * problem->least_loss);
        t[X0] = log(fmax(x[1], 1e-4));
        t[EXPONENT] = exponents[k];
    }
    return count;
}

static double tell_floor(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    (void)fit;
    (void)q;
    return t[L_INF];
}
static double tell_excess(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    struct fpl_law_at at;
    fpl_law_place(fit->law, q, &fit->centre, &at);
    return exp(t[X0] - t[EXPONENT] * at.n);
}
static double tell_half(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    (void)fit;
    return q->value[FPL_VAR_X] * exp(0.69314718055994531 / t[EXPONENT]);
}

static const struct fpl_teller tellers[] = {
    {"L_inf", "nats", "irreducible loss, an estimate of the data's entropy", tell_floor},
    {"excess", "nats", "reducible loss", tell_excess},
    {"x_half", "x", "where the reducible loss is half as large", tell_half},
    {NULL, NULL, NULL, NULL},
};

static const struct fpl_takes takes[] = {{FPL_VAR_X, FPL_REQUIRED}, {FPL_VARIABLES, 0}};

const struct fpl_law fpl_law_power_floor = {
    .name = "power-floor",
    .citation = "arXiv 2010.14701",
    .formula = "L = L_inf + (x0/x)^a",
    .params = PARAMS,
    .param = params,
    .use = FPL_ONLY_BEST | FPL_ANY_FORMAT,
    .floor_at = L_INF,
    .penalty_at = -1,
    .shift_at = -1,
    .publish = publish,
    .internal = internal,
    .place = place,
    .log_loss = log_loss,
    .start = start,
    .takes = takes,
    .cell_keys = 1,
    .tellers = tellers,
};
