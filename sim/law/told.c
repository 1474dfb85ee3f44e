/* told.c - what several laws tell alike: compute-optimal sizes, cost-optimal bits, and how far a
 * learning rate or batch may stand from its optimum.
 *
 *   compute   N, D minimising L at 6 N D = C, C the question's flop or its own 6 N D
 *   bits      P, N, D minimising L at (6/16) P N D = C (split.c); only for a given flop, since it is costly
 *   bowl      the learning rates, at the optimal batch, and the batches, at the optimal rate, between
 *             which the loss is less than 0.25 % above its least; and the best rate at a given batch
 *
 * Each is a decision like any other: evaluated on every bootstrap vector, it gets an interval.
 */
#include <math.h>

#include "fitting.h"

#define NEGLIGIBLE_LOSS 0.0025 /* relative */
#define WIDEST 11.0            /* e-folds from the optimum that are searched */

/* ---- compute ------------------------------------------------------------------------------------ */

struct compute {
    const struct fpl_fit *fit;
    const double *theta;
    const struct fpl_question *question;
    double flop;
};

static double loss_at_size(double log_n, void *data) {
    const struct compute *c = data;
    struct fpl_question q = *c->question;
    struct fpl_law_at at;
    q.value[FPL_VAR_N] = exp(log_n);
    q.value[FPL_VAR_D] = c->flop / (6.0 * q.value[FPL_VAR_N]);
    fpl_law_place(c->fit->law, &q, &c->fit->centre, &at);
    return c->fit->law->log_loss(c->fit->law, c->theta, &at, NULL);
}

static double best_size(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q,
                        double *flop, double *log_loss) {
    struct compute c = {fit, theta, q, q->flop};
    if (isnan(c.flop)) c.flop = 6.0 * q->value[FPL_VAR_N] * q->value[FPL_VAR_D];
    *flop = c.flop;
    return exp(fpl_golden(loss_at_size, &c, log(1e2), log(fmin(1e18, c.flop / 600.0)), log_loss));
}

static double tell_n(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    double flop, loss;
    return best_size(fit, theta, q, &flop, &loss);
}
static double tell_d(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    double flop, loss;
    const double n = best_size(fit, theta, q, &flop, &loss);
    return flop / (6.0 * n);
}
static double tell_loss(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    double flop, loss;
    best_size(fit, theta, q, &flop, &loss);
    return exp(loss);
}

const struct fpl_teller fpl_tellers_compute[] = {
    {"N_opt", "parameters", "best model size at this compute, 6 N D", tell_n},
    {"D_opt", "tokens", "its tokens", tell_d},
    {"loss_opt", "nats", "its loss", tell_loss},
    {NULL, NULL, NULL, NULL},
};

/* ---- bits ------------------------------------------------------------------------------------------ */

enum { BITS, BITS_N, BITS_D };

static double tell_bits(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q,
                        int which) {
    double out[3];
    const double block = q->value[FPL_VAR_BLOCK];
    if (isnan(q->flop) || !(block > 1.0)) return (double)NAN;
    if (!fpl_best_bits_of(fit, theta, q->flop, block, &out[BITS], &out[BITS_N], &out[BITS_D]))
        return (double)NAN;
    return out[which];
}
static double tell_best_bits(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    return tell_bits(fit, theta, q, BITS);
}
static double tell_bits_n(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    return tell_bits(fit, theta, q, BITS_N);
}
static double tell_bits_d(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    return tell_bits(fit, theta, q, BITS_D);
}

const struct fpl_teller fpl_tellers_bits[] = {
    {"bits_opt", "bits", "cost-optimal precision at the given flop = (6/16) P N D", tell_best_bits},
    {"N_bits", "parameters", "model size at it", tell_bits_n},
    {"D_bits", "tokens", "tokens at it", tell_bits_d},
    {NULL, NULL, NULL, NULL},
};

/* ---- bowl ------------------------------------------------------------------------------------------- */

/* The optimum, as a point of the law. */
static struct fpl_law_at optimum(const struct fpl_fit *fit, const double *theta,
                                 const struct fpl_question *q) {
    struct fpl_law_at at;
    fpl_law_place(fit->law, q, &fit->centre, &at);
    at.x = fit->law->log_lr(fit->law, theta, &at, NULL);
    at.y = fit->law->log_batch(fit->law, theta, &at, NULL);
    return at;
}

/* Where, to one side of the optimum, the loss has risen by 0.25 %; the bowl is convex, so once. */
static double edge(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q, int batch,
                   double side) {
    const struct fpl_law *law = fit->law;
    const struct fpl_law_at best = optimum(fit, theta, q);
    const double limit = law->log_loss(law, theta, &best, NULL) + log1p(NEGLIGIBLE_LOSS);
    double low = 0.0, high = WIDEST;
    for (int i = 0; i < 60; i++) {
        const double middle = 0.5 * (low + high);
        struct fpl_law_at at = best;
        *(batch ? &at.y : &at.x) += side * middle;
        if (law->log_loss(law, theta, &at, NULL) <= limit)
            low = middle;
        else
            high = middle;
    }
    if (low > 0.999 * WIDEST) return (double)NAN;
    return exp((batch ? best.y : best.x) + side * low);
}

static double tell_lr_lo(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    return edge(fit, theta, q, 0, -1.0);
}
static double tell_lr_hi(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    return edge(fit, theta, q, 0, 1.0);
}
static double tell_batch_lo(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    return edge(fit, theta, q, 1, -1.0);
}
static double tell_batch_hi(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    return edge(fit, theta, q, 1, 1.0);
}

struct slice {
    const struct fpl_fit *fit;
    const double *theta;
    struct fpl_law_at at;
};

static double loss_of_lr(double x, void *data) {
    struct slice *s = data;
    s->at.x = x;
    return s->fit->law->log_loss(s->fit->law, s->theta, &s->at, NULL);
}

static double tell_lr_at_batch(const struct fpl_fit *fit, const double *theta, const struct fpl_question *q) {
    struct slice s = {fit, theta, optimum(fit, theta, q)};
    double value;
    if (isnan(q->value[FPL_VAR_BATCH])) return (double)NAN;
    const double x = s.at.x;
    s.at.y = log(q->value[FPL_VAR_BATCH]);
    return exp(fpl_golden(loss_of_lr, &s, x - WIDEST, x + WIDEST, &value));
}

const struct fpl_teller fpl_tellers_bowl[] = {
    {"lr_lo", "", "least learning rate that costs under 0.25 %, at the best batch", tell_lr_lo},
    {"lr_hi", "", "largest such learning rate", tell_lr_hi},
    {"batch_lo", "tokens", "least batch that costs under 0.25 %, at the best learning rate", tell_batch_lo},
    {"batch_hi", "tokens", "largest such batch", tell_batch_hi},
    {"lr_at_batch", "", "best learning rate at the given batch", tell_lr_at_batch},
    {NULL, NULL, NULL, NULL},
};
