/* split.c - how a width is best split into exponent and mantissa, and how many bits pay.
 *
 *   (E + 1/2) : (M + 1/2) = delta : nu          at 1 + E + M = bits  (arXiv 2501.02423)
 *   min over P, N of L(N, 16 C/(6 P N), E_opt(P), M_opt(P), B)       at cost C = (6/16) P N D
 *
 * The second takes real-valued splits, as the paper does, and golden sections over ln N inside
 * golden sections over P.  N and D at the optimum belong to the answer: at large budgets the law
 * asks for far fewer tokens than parameters, where it was never tested.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fitting.h"

/* A fitted penalty of both exponent and mantissa; a law's part holds one of them. */
static int has_penalty(const struct fpl_fit *fit) {
    const struct fpl_law_param *p = fit->law->param + fit->law->penalty_at;
    return fit->law->penalty_at >= 0 && fit->active[fit->law->penalty_at] && p[1].hi > p[1].lo &&
           p[2].hi > p[2].lo;
}

/* ---- splits of a bit width ------------------------------------------------------------------------ */

/* E + 1/2 : M + 1/2 = delta : nu at the optimum of a fixed sum. */
static double decide_split(const struct fpl_fit *fit, const double *theta, const void *bits) {
    const double delta = theta[fit->law->penalty_at + 1], nu = theta[fit->law->penalty_at + 2];
    return delta + nu > 0.0 ? delta / (delta + nu) * (double)*(const int *)bits - 0.5 : (double)NAN;
}

#define WIDEST_EXPONENT 8 /* of formats whose values are float32 values */

static int best_integer(const double *theta, int penalty_at, int bits) {
    int best = 1;
    double value = -HUGE_VAL;
    for (int e = 1; e <= bits - 1 && e <= WIDEST_EXPONENT; e++) {
        const double gain = theta[penalty_at + 1] * log((double)e + 0.5) +
                            theta[penalty_at + 2] * log((double)(bits - 1 - e) + 0.5);
        if (gain > value) value = gain, best = e;
    }
    return best;
}

int fpl_fit_split(const struct fpl_fit *fit, int bits, struct fpl_split *out) {
    if (!has_penalty(fit) || bits < 2 || bits > 32) return 0;
    double theta[FPL_LAW_PARAMS];
    fit->law->internal(fit->law, fit->value, &fit->centre, theta);
    out->bits = bits;
    out->E = best_integer(theta, fit->law->penalty_at, bits);
    out->M = bits - 1 - out->E;
    out->E_opt = fpl_estimate_of(fit, decide_split, &bits);
    int agree = 0;
    for (int k = 0; k < fit->bootstrap; k++) {
        fit->law->internal(fit->law, fit->vector + (size_t)k * (size_t)fit->law->params, &fit->centre, theta);
        agree += best_integer(theta, fit->law->penalty_at, bits) == out->E;
    }
    out->share = fit->bootstrap > 0 ? (double)agree / (double)fit->bootstrap : (double)NAN;
    return 1;
}

/* ---- cost-optimal bits ------------------------------------------------------------------------------ */

struct budget {
    const struct fpl_fit *fit;
    const double *theta;
    double flop, block, bits, log_n;
};

static double loss_of_size(double log_n, void *data) {
    const struct budget *b = data;
    const double delta = b->theta[b->fit->law->penalty_at + 1], nu = b->theta[b->fit->law->penalty_at + 2];
    const double share = delta / (delta + nu);
    const struct fpl_point_at at = {exp(log_n),
                                    16.0 / 6.0 * b->flop / (b->bits * exp(log_n)),
                                    (double)NAN,
                                    (double)NAN,
                                    share * b->bits - 0.5,
                                    (1.0 - share) * b->bits - 0.5,
                                    b->block};
    struct fpl_law_at point;
    const struct fpl_question q = fpl_question_of_point(&at);
    fpl_law_place(b->fit->law, &q, &b->fit->centre, &point);
    return b->fit->law->log_loss(b->fit->law, b->theta, &point, NULL);
}

static double loss_of_bits(double bits, void *data) {
    struct budget *b = data;
    double value;
    b->bits = bits;
    b->log_n = fpl_golden(loss_of_size, b, log(1e2), log(1e18), &value);
    return value;
}

int fpl_best_bits_of(const struct fpl_fit *fit, const double *theta, double flop, double block, double *bits,
                     double *N, double *D) {
    double value;
    if (!has_penalty(fit) || !(flop > 0.0) || !(block > 1.0)) return 0;
    if (!(theta[fit->law->penalty_at + 1] + theta[fit->law->penalty_at + 2] > 0.0)) return 0;
    struct budget b = {fit, theta, flop, block, 0.0, 0.0};
    *bits = fpl_golden(loss_of_bits, &b, 1.0, 24.0, &value);
    *N = exp(b.log_n);
    *D = 16.0 / 6.0 * flop / (*bits * *N);
    return 1;
}

int fpl_fit_best_bits(const struct fpl_fit *fit, double flop, double block, double *bits, double *N,
                      double *D) {
    double theta[FPL_LAW_PARAMS];
    if (!has_penalty(fit)) return 0;
    fit->law->internal(fit->law, fit->value, &fit->centre, theta);
    return fpl_best_bits_of(fit, theta, flop, block, bits, N, D);
}
