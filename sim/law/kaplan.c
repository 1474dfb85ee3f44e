/* kaplan.c - loss from model size, steps and batch (arXiv 2001.08361; re-estimated in arXiv 2403.06563).
 *
 *   L(N, S_min) = (Nc/N)^aN + (Sc/S_min)^aS
 *   S_min = S/(1 + B_crit/B),  E_min = B S/(1 + B/B_crit),  B_crit(L) = Bstar/L^(1/aB)
 *
 * S steps of B tokens.  S_min is the number of steps at very large batch, E_min the number of tokens
 * at very small batch, that reach the same loss; B_crit is the batch at which both are doubled.  The
 * critical batch depends on the loss, so the loss is the root of
 *
 *   F(L) = L - a - b (1 + q L^(-1/aB))^aS = 0,   a = (Nc/N)^aN, b = (Sc/S)^aS, q = Bstar/B
 *
 * F rises with L and is concave in ln L from below the root, so Newton from a + b converges to it; the
 * gradient is that of an implicit function.  Every step of a trajectory is a row: S steps so far.
 *
 * theta = ln a and ln b at the centre, aN, aS, ln B_crit at a loss of 3, ln aB.  The published constants
 * could not be confirmed (their unit of B, their vocabulary), so there is no preset.
 */
#include <math.h>

#include "fitting.h"

enum { NC, A_N, SC, A_S, B_STAR, A_B, PARAMS };

#define LOG_LOSS_ORIGIN 1.0986122886681098 /* ln 3 */

static const struct fpl_law_param params[PARAMS] = {
    {"Nc", "parameters", -15.0, 5.0, 3.0, 0.0, 0.0, 0, "scale of model size"},
    {"aN", "", 0.005, 2.0, 0.3, 0.0, 0.0, 0, "exponent of model size"},
    {"Sc", "steps", -15.0, 5.0, 3.0, 0.0, 0.0, 0, "scale of steps"},
    {"aS", "", 0.02, 4.0, 0.5, 0.0, 0.0, 0, "exponent of steps"},
    {"Bstar", "tokens", -10.0, 60.0, 3.0, 0.0, 0.0, 0, "critical batch at a loss of 1"},
    {"aB", "", -3.5, 1.5, 1.0, 0.0, 0.0, 0, "1/aB: exponent of the loss in the critical batch"},
};

static void publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    (void)law;
    p[NC] = exp(c->n + t[NC] / t[A_N]);
    p[A_N] = t[A_N];
    p[SC] = exp(c->d + t[SC] / t[A_S]);
    p[A_S] = t[A_S];
    p[A_B] = exp(t[A_B]);
    p[B_STAR] = exp(t[B_STAR] + LOG_LOSS_ORIGIN / p[A_B]);
}

static void internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c, double *t) {
    (void)law;
    t[NC] = p[A_N] * (log(p[NC]) - c->n);
    t[A_N] = p[A_N];
    t[SC] = p[A_S] * (log(p[SC]) - c->d);
    t[A_S] = p[A_S];
    t[A_B] = log(p[A_B]);
    t[B_STAR] = log(p[B_STAR]) - LOG_LOSS_ORIGIN / p[A_B];
}

/* n = ln N, d = ln S, y = ln B. */
static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->d = log(q->value[FPL_VAR_STEPS]);
    at->quantized = 0;
}

/* ln(1 + q L^(-1/aB)) and its derivative in the exponent. */
static double penalty(const double *t, double log_loss, double y, double *share) {
    const double z = t[B_STAR] - (log_loss - LOG_LOSS_ORIGIN) * exp(-t[A_B]) - y;
    *share = 1.0 / (1.0 + exp(-z));
    return z > 0.0 ? z + log1p(exp(-z)) : log1p(exp(z));
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    (void)law;
    const double a = exp(t[NC] - t[A_N] * at->n), b = exp(t[SC] - t[A_S] * at->d), rate = exp(-t[A_B]);
    double l = log(a + b), share, slowed, by_l, data;
    for (int i = 0; i < 60; i++) {
        slowed = penalty(t, l, at->y, &share);
        data = b * exp(t[A_S] * slowed);
        by_l = exp(l) + data * t[A_S] * share * rate;
        const double step = (exp(l) - a - data) / by_l;
        l -= step;
        if (!(fabs(step) > 1e-15 * (1.0 + fabs(l)))) break;
    }
    if (grad != NULL) {
        slowed = penalty(t, l, at->y, &share);
        data = b * exp(t[A_S] * slowed);
        by_l = exp(l) + data * t[A_S] * share * rate;
        const double by = 1.0 / by_l, q = data * t[A_S] * share * by;
        grad[NC] = a * by;
        grad[A_N] = -a * at->n * by;
        grad[SC] = data * by;
        grad[A_S] = data * (slowed - at->d) * by;
        grad[B_STAR] = q;
        grad[A_B] = q * (l - LOG_LOSS_ORIGIN) * rate;
    }
    return l;
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double exponents_n[] = {0.05, 0.1, 0.25}, exponents_s[] = {0.3, 0.7, 1.2},
                        criticals[] = {-2.0, 0.0, 2.0}, shares[] = {0.2, 0.6};
    double level = 0.0, y = 0.0;
    int count = 0;
    for (size_t i = 0; i < problem->count; i++) {
        level += problem->row[i].target / (double)problem->count;
        y += problem->row[i].at.y / (double)problem->count;
    }
    for (int n = 0; n < 3; n++)
        for (int s = 0; s < 3; s++)
            for (int b = 0; b < 3; b++)
                for (int k = 0; k < 2 && count < room; k++) {
                    double *t = theta[count++];
                    t[NC] = level + log(1.0 - shares[k]);
                    t[A_N] = exponents_n[n];
                    t[SC] = level + log(shares[k]) - 0.3;
                    t[A_S] = exponents_s[s];
                    t[B_STAR] = y + criticals[b];
                    t[A_B] = log(0.2);
                }
    return count;
}

/* ---- what it tells ---------------------------------------------------------------------------------- */

static double critical(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    struct fpl_law_at at;
    fpl_law_place(fit->law, q, &fit->centre, &at);
    return exp(t[B_STAR] - (log_loss(fit->law, t, &at, NULL) - LOG_LOSS_ORIGIN) * exp(-t[A_B]));
}
static double tell_steps(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    return q->value[FPL_VAR_STEPS] / (1.0 + critical(fit, t, q) / q->value[FPL_VAR_BATCH]);
}
static double tell_tokens(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    const double batch = q->value[FPL_VAR_BATCH];
    return q->value[FPL_VAR_STEPS] * batch / (1.0 + batch / critical(fit, t, q));
}

static const struct fpl_teller tellers[] = {
    {"B_crit", "tokens", "critical batch at this loss", critical},
    {"S_min", "steps", "steps to this loss at very large batch", tell_steps},
    {"E_min", "tokens", "tokens to this loss at very small batch", tell_tokens},
    {NULL, NULL, NULL, NULL},
};

static const struct fpl_takes takes[] = {{FPL_VAR_N, FPL_REQUIRED},
                                         {FPL_VAR_STEPS, FPL_REQUIRED},
                                         {FPL_VAR_BATCH, FPL_REQUIRED},
                                         {FPL_VARIABLES, 0}};

const struct fpl_law fpl_law_kaplan = {
    .name = "kaplan",
    .citation = "arXiv 2001.08361, 2403.06563",
    .formula =
        "L = (Nc/N)^aN + (Sc/S_min)^aS, S_min = steps/(1 + B_crit/batch_tokens), B_crit = Bstar/L^(1/aB)",
    .params = PARAMS,
    .param = params,
    .use = FPL_ONLY_BEST,
    .floor_at = -1,
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
