/* joint.c - one fit of every run: loss, precision, learning rate and batch together.
 *
 *   ln L = ln( base(N, D) + penalty(N, D, E, M, block) ) + q(u, v)
 *   u = ln lr - ln lr*(N, D) + lr_shift penalty          lr* = lr_c N^lr_N D^lr_D
 *   v = ln batch - ln batch*(N, D)                    batch* = batch_c N^batch_N D^batch_D
 *
 * base: one of base.h; the law is four rows of one name that differ in it, and a fit may choose
 * among them by held-out error (choose.c).  With a poor base the bowl absorbs its misfit and puts
 * the optimum in the wrong place (shared notes, section 4).  penalty: penalty.c (arXiv 2501.02423;
 * its exponents of N and D are the base's where that has exponents of N and D alone, else
 * penalty_N and penalty_D).  q: bowl.c.  A format moves the optimal learning rate down by one
 * parameter, ln lr*(format) = ln lr* - lr_shift penalty, which is identified only where quantized
 * runs lie off their optimum.
 *
 * theta: the base's, [penalty_N, penalty_D,] gamma, delta, nu, lr_c, lr_N, lr_D, batch_c, batch_N,
 * batch_D, six of the bowl, lr_shift.  A table without quantized runs is fitted without those of the
 * penalty.  The bowl's directions and skews carry one pseudo-run each (struct fpl_law_param, prior):
 * for a purely quadratic bowl one direction is arbitrary, and a fit must not wander along it.  So do
 * the four exponents of the optima, at 0 +- 0.5: along the ridge, where learning rate and batch rise
 * together, noisy runs hardly tell where the optimum is, and exponents of 4 would fit as well as
 * those of 0.5 that every published study finds.  On the 1,911 runs of Step Law the pseudo-runs move
 * the exponents by less than a tenth of their standard errors.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "joint.h"

#define ROW_E                                                                                                \
    { "E", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data" }
#define ROWS_CHINCHILLA                                                                                      \
    ROW_E, {"A", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size"},                           \
        {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size"},                                \
        {"B", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"}, {                             \
        "beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"                                     \
    }
#define ROWS_OWN                                                                                             \
    {"penalty_N", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size in the precision penalty"}, {     \
        "penalty_D", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size in the precision penalty"       \
    }
#define ROWS_TAIL                                                                                            \
    {"gamma", "1/nats", -10.0, 30.0, 3.0, 0.0, 0.0, 0, "inverse strength of the precision penalty"},         \
        {"delta", "", 0.0, 12.0, 2.5, 0.0, 0.0, 0, "exponent of exponent bits"},                             \
        {"nu", "", 0.0, 12.0, 2.5, 0.0, 0.0, 0, "exponent of mantissa bits"},                                \
        {"lr_c", "", -60.0, 20.0, 3.0, 0.0, 0.0, 0, "prefactor of the optimal peak learning rate"},          \
        {"lr_N", "", -4.0, 4.0, 1.0, 0.5, 0.0, 0, "its exponent of model size"},                             \
        {"lr_D", "", -4.0, 4.0, 1.0, 0.5, 0.0, 0, "its exponent of data size"},                              \
        {"batch_c", "tokens", -20.0, 60.0, 3.0, 0.0, 0.0, 0, "prefactor of the optimal batch"},              \
        {"batch_N", "", -4.0, 4.0, 1.0, 0.5, 0.0, 0, "its exponent of model size"},                          \
        {"batch_D", "", -4.0, 4.0, 1.0, 0.5, 0.0, 0, "its exponent of data size"},                           \
        {"bowl_k1", "", -14.0, 3.0, 3.0, 0.0, 0.0, 0, "curvature along the first direction"},                \
        {"bowl_r1", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "first direction: ln lr + r1 ln batch"},                \
        {"bowl_s1", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "its skew"},                                            \
        {"bowl_k2", "", -14.0, 3.0, 3.0, 0.0, 0.0, 0, "curvature along the second direction"},               \
        {"bowl_r2", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "second direction: ln batch + r2 ln lr"},               \
        {"bowl_s2", "", -3.0, 3.0, 0.7, 1.0, 0.0, 1, "its skew"}, {                                          \
        "lr_shift", "1/nats", 0.0, 100.0, 20.0, 0.0, 0.0, 0, "fall of ln lr* per nat of penalty"             \
    }

static const struct fpl_law_param chinchilla_params[] = {ROWS_CHINCHILLA, ROWS_TAIL};
static const struct fpl_law_param nd_params[] = {
    ROWS_CHINCHILLA,
    {"c", "", -1.0, 1.0, 0.5, 0.0, 0.0, 0, "interaction: exponent of model size in the data term"},
    ROWS_TAIL};
static const struct fpl_law_param capacity_params[] = {
    ROW_E,
    {"A", "", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size, inside the common exponent"},
    {"alpha", "", 0.005, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size, inside the common exponent"},
    {"B", "", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size, inside the common exponent"},
    {"beta", "", 0.005, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size, inside the common exponent"},
    {"k", "", 0.05, 3.0, 0.7, 0.0, 0.0, 1, "common exponent of both terms"},
    ROWS_OWN,
    ROWS_TAIL};
/* The bends g are hardly told by a handful of model sizes: one pseudo-run each, of the width of
 * exponents that studies find. */
static const struct fpl_law_param farseer_params[] = {
    {"a3", "", -3.0, 3.0, 0.5, 0.0, 0.0, 0, "floor: slope of its logarithm in N^g3"},
    {"b3", "", -5.0, 5.0, 2.0, 0.0, 0.0, 0, "floor: its logarithm"},
    {"g3", "", 0.01, 2.0, 0.7, 0.15, 0.2, 1, "floor: bend"},
    {"a2", "", -15.0, 15.0, 0.5, 0.0, 0.0, 0, "data term: slope of its logarithm in N^g2"},
    {"b2", "", -30.0, 30.0, 3.0, 0.0, 0.0, 0, "data term: its logarithm"},
    {"g2", "", 0.01, 2.0, 0.7, 0.15, 0.2, 1, "data term: bend"},
    {"a1", "", -3.0, 3.0, 0.7, 0.0, 0.0, 0, "exponent of data size: slope of its logarithm in N^g1"},
    {"b1", "", -5.0, 1.0, 1.0, 0.0, 0.0, 0, "exponent of data size: its logarithm"},
    {"g1", "", 0.01, 2.0, 0.7, 0.15, 0.2, 1, "exponent of data size: bend"},
    ROWS_OWN,
    ROWS_TAIL};

/* ---- where things are in theta ------------------------------------------------------------------- */

static double penalty_of(const struct fpl_law *law, const double *t, const struct fpl_law_at *at) {
    return fpl_penalty(t + law->penalty_at, t[joint_alpha(law)], t[joint_beta(law)], at);
}

static double lr_of(const double *tail, const struct fpl_law_at *at) {
    return tail[LR_C] + tail[LR_N] * at->n + tail[LR_D] * at->d;
}

static double batch_of(const double *tail, const struct fpl_law_at *at) {
    return tail[BATCH_C] + tail[BATCH_N] * at->n + tail[BATCH_D] * at->d;
}

static void publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    const double *tail = t + law->penalty_at;
    double *out = p + law->penalty_at;
    for (int j = 0; j < law->params; j++) p[j] = t[j];
    law->base->publish(t, c, p);
    out[GAMMA] = fpl_gamma_publish(tail, t[joint_alpha(law)], t[joint_beta(law)], c);
    out[LR_C] = exp(tail[LR_C] - tail[LR_N] * c->n - tail[LR_D] * c->d);
    out[BATCH_C] = exp(tail[BATCH_C] - tail[BATCH_N] * c->n - tail[BATCH_D] * c->d);
    out[K1] = exp(tail[K1]);
    out[K2] = exp(tail[K2]);
}

static void internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c, double *t) {
    const double *in = p + law->penalty_at;
    double *tail = t + law->penalty_at;
    for (int j = 0; j < law->params; j++) t[j] = p[j];
    law->base->internal(p, c, t);
    tail[GAMMA] = in[GAMMA] > 0.0 ? fpl_gamma_internal(in[GAMMA], in[DELTA], in[NU], t[joint_alpha(law)],
                                                       t[joint_beta(law)], c)
                                  : 0.0;
    tail[LR_C] = log(in[LR_C]) + in[LR_N] * c->n + in[LR_D] * c->d;
    tail[BATCH_C] = log(in[BATCH_C]) + in[BATCH_N] * c->n + in[BATCH_D] * c->d;
    tail[K1] = log(in[K1]);
    tail[K2] = log(in[K2]);
}

/* ---- values and gradients ------------------------------------------------------------------------ */

/* Gradient of the penalty (nats) in the five parameters that it knows, times f, added. */
static void add_penalty_gradient(const struct fpl_law *law, double penalty, const struct fpl_law_at *at,
                                 double f, double *grad) {
    const double p = penalty * f;
    double *tail = grad + law->penalty_at;
    grad[joint_alpha(law)] -= p * at->n;
    grad[joint_beta(law)] += p * at->d;
    tail[GAMMA] -= p;
    tail[DELTA] -= p * at->e;
    tail[NU] -= p * at->m;
}

static void zero(const struct fpl_law *law, double *grad) {
    memset(grad, 0, (size_t)law->params * sizeof *grad);
}

static double log_lr(const struct fpl_law *law, const double *t, const struct fpl_law_at *at, double *grad) {
    const double *tail = t + law->penalty_at;
    const double penalty = penalty_of(law, t, at);
    if (grad != NULL) {
        zero(law, grad);
        double *g = grad + law->penalty_at;
        g[LR_C] = 1.0;
        g[LR_N] = at->n;
        g[LR_D] = at->d;
        if (at->quantized) {
            g[SHIFT] = -penalty;
            add_penalty_gradient(law, penalty, at, -tail[SHIFT], grad);
        }
    }
    return lr_of(tail, at) - tail[SHIFT] * penalty;
}

static double log_batch(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                        double *grad) {
    if (grad != NULL) {
        zero(law, grad);
        double *g = grad + law->penalty_at;
        g[BATCH_C] = 1.0;
        g[BATCH_N] = at->n;
        g[BATCH_D] = at->d;
    }
    return batch_of(t + law->penalty_at, at);
}

/* ---- critical data size -------------------------------------------------------------------------- */

/* ln of the base's fall over the penalty's rise per unit of ln D: falls with D, 0 at D_crit. */
static double balance(const struct fpl_law *law, const double *t, struct fpl_law_at at, double d) {
    double grad[FPL_BASE_PARAMS], by_d;
    at.d = d;
    fpl_base_one(law->base, t, &at, grad, &by_d);
    return log(-by_d) - log(t[joint_beta(law)] * penalty_of(law, t, &at));
}

/* The balance is decreasing and nearly a line, so bisection brackets and a secant would do; the
 * bracket of 120 either side of the centre covers every number that a double can hold. */
static double balanced_d(const struct fpl_law *law, const double *t, const struct fpl_law_at *at) {
    double low = -120.0, high = 120.0;
    for (int i = 0; i < 60; i++) {
        const double middle = 0.5 * (low + high);
        if (balance(law, t, *at, middle) > 0.0)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}

/* Implicit differentiation: dd/dtheta_j = -(dF/dtheta_j)/(dF/dd) at F(theta, d) = 0. */
static double log_dcrit(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                        double *grad) {
    if (!at->quantized || !(at->g > 0.0)) return (double)NAN;
    const double d = balanced_d(law, t, at), h = 1e-5;
    if (grad != NULL) {
        const double fall = (balance(law, t, *at, d + h) - balance(law, t, *at, d - h)) / (2.0 * h);
        double moved[FPL_LAW_PARAMS];
        memcpy(moved, t, (size_t)law->params * sizeof *moved);
        zero(law, grad);
        for (int j = 0; j < law->penalty_at + LR_C; j++) {
            moved[j] = t[j] + h;
            const double up = balance(law, moved, *at, d);
            moved[j] = t[j] - h;
            grad[j] = -(up - balance(law, moved, *at, d)) / (2.0 * h * fall);
            moved[j] = t[j];
        }
    }
    return d;
}

/* ---- starts -------------------------------------------------------------------------------- */

/* Losses as they would be at the optimal learning rate and batch of a quadratic bowl. */
static void free_levels(const struct fpl_problem *problem, const double p[6], const double h[3],
                        double *level) {
    for (size_t i = 0; i < problem->count; i++) {
        const struct fpl_law_at *at = &problem->row[i].at;
        const double u = at->x - p[0] - p[1] * at->n - p[2] * at->d,
                     v = at->y - p[3] - p[4] * at->n - p[5] * at->d;
        level[i] = exp(problem->row[i].target - h[0] * u * u - 2.0 * h[1] * u * v - h[2] * v * v);
    }
}

/* Bowl from a regression inside cells; levels freed of it; base and penalty by projection.
 * The starts differ in the bowl's directions and skews and in the base's exponents. */
static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double r1s[] = {0.5, 0.0, 1.0, -0.5},
                        skews[][2] = {{0.6, -0.6}, {0.0, 0.0}, {-0.6, 0.6}, {0.6, 0.6}};
    const struct fpl_law *law = problem->law;
    double p[6], h[3];
    struct fpl_levels best[2];
    fpl_start_bowl(problem, p, h);
    double *level = malloc(problem->count * sizeof *level);
    if (level == NULL) return 0;
    free_levels(problem, p, h, level);
    const int bases = fpl_start_levels(problem, level, law->base != &fpl_base_chinchilla, best, 2);
    free(level);
    int count = 0;
    for (int i = 0; i < bases; i++)
        for (int r = 0; r < 4; r++)
            for (int s = 0; s < 4 && count < room; s++) {
                double *t = theta[count++], *tail = t + law->penalty_at;
                t[joint_alpha(law)] = best[i].alpha;
                t[joint_beta(law)] = best[i].beta;
                law->base->start(&best[i], &problem->centre, t);
                for (int j = 0; j < 3; j++) tail[GAMMA + j] = best[i].penalty[j];
                for (int j = 0; j < 6; j++) tail[LR_C + j] = p[j];
                fpl_bowl_of_form(h, r1s[r], tail + K1);
                tail[S1] = skews[s][0];
                tail[S2] = skews[s][1];
                tail[SHIFT] = 1.0;
            }
    return count;
}

/* ---- the four rows ------------------------------------------------------------------------------ */

#define CITATION "penalty arXiv 2501.02423; optima arXiv 2503.04715"
#define BOWL " + penalty) + bowl(ln lr/lr*, ln batch/batch*), ln lr* falls by lr_shift penalty"
#define SHARED_FIELDS                                                                                        \
    .name = "joint", .use = FPL_NEED_LR | FPL_TAKE_FORMAT | FPL_ONLY_NEAR_BEST, .publish = publish,          \
    .internal = internal, .log_loss = fpl_law_one, .rows = fpl_joint_rows, .log_lr = log_lr,                 \
    .log_batch = log_batch, .log_dcrit = log_dcrit, .start = start, .takes = fpl_takes_joint, .cell_keys = 2

const struct fpl_law fpl_law_joint_chinchilla = {
    SHARED_FIELDS,
    .citation = "base arXiv 2203.15556; " CITATION,
    .formula = "ln L = ln(E + A/N^alpha + B/D^beta" BOWL,
    .params = 5 + TAIL,
    .param = chinchilla_params,
    .floor_at = 0,
    .penalty_at = 5,
    .shift_at = 5 + SHIFT,
    .bowl_at = 5 + K1,
    .base = &fpl_base_chinchilla,
};

const struct fpl_law fpl_law_joint = {
    SHARED_FIELDS,
    .citation = "base arXiv 2203.15556 with an N-D interaction; " CITATION,
    .formula = "ln L = ln(E + A/N^alpha + B N^c/D^beta" BOWL,
    .params = 6 + TAIL,
    .param = nd_params,
    .floor_at = 0,
    .penalty_at = 6,
    .shift_at = 6 + SHIFT,
    .bowl_at = 6 + K1,
    .base = &fpl_base_nd,
};

const struct fpl_law fpl_law_joint_capacity = {
    SHARED_FIELDS,
    .citation = "base arXiv 2505.14669; " CITATION,
    .formula = "ln L = ln(E + (A/N^alpha + B/D^beta)^k" BOWL,
    .params = 8 + TAIL,
    .param = capacity_params,
    .floor_at = 0,
    .penalty_at = 8,
    .shift_at = 8 + SHIFT,
    .bowl_at = 8 + K1,
    .penalty_own = 6,
    .base = &fpl_base_capacity,
};

const struct fpl_law fpl_law_joint_farseer = {
    SHARED_FIELDS,
    .citation = "base arXiv 2506.10972; " CITATION,
    .formula = "ln L = ln(e^(a3 N^g3 + b3) + e^(a2 N^g2 + b2) D^(-e^(a1 N^g1 + b1))" BOWL,
    .params = 11 + TAIL,
    .param = farseer_params,
    .floor_at = -1,
    .penalty_at = 11,
    .shift_at = 11 + SHIFT,
    .bowl_at = 11 + K1,
    .penalty_own = 9,
    .base = &fpl_base_farseer,
};

const struct fpl_law *const fpl_law_joints[] = {&fpl_law_joint_chinchilla, &fpl_law_joint,
                                                &fpl_law_joint_capacity, &fpl_law_joint_farseer, NULL};

const struct fpl_law *fpl_law_with_base(const struct fpl_law *law, const char *base) {
    if (law->base == NULL) return NULL;
    for (size_t i = 0; fpl_law_joints[i] != NULL; i++)
        if (strcmp(fpl_law_joints[i]->base->name, base) == 0) return fpl_law_joints[i];
    return NULL;
}

const char *fpl_law_base(const struct fpl_law *law) { return law->base != NULL ? law->base->name : NULL; }
