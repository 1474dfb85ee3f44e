/* predict.c - what a fit says: loss, optimal learning rate and batch, critical data size, best
 * split of a bit width, cost-optimal bits.
 *
 * Every decision is evaluated on the fit's parameters and on each bootstrap vector; its interval
 * is between quantiles of the latter.  The interval of a new run adds the noise of one run,
 * the larger of the robust residual scale, the residuals' root mean square and the
 * held-out error, in quadrature and in logarithms.
 *
 * A bootstrap knows nothing of an error in the law's form: outside the fitted range the
 * intervals are too narrow, so `outside` and the warning say how far out the question lies.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "law_internal.h"

/* ---- a decision with its interval ----------------------------------------------------------- */

typedef double decision(const struct fpl_fit *fit, const double *theta, const void *question);

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Resamples on which the decision is undefined are left out of the interval. */
static struct fpl_estimate estimate(const struct fpl_fit *fit, decision *decide, const void *question) {
    const size_t params = (size_t)fit->law->params;
    double theta[FPL_LAW_PARAMS];
    struct fpl_estimate out = {(double)NAN, (double)NAN, (double)NAN};
    fit->law->internal(fit->value, &fit->centre, theta);
    out.value = decide(fit, theta, question);
    if (isnan(out.value) || fit->bootstrap == 0) return out;
    double *value = malloc((size_t)fit->bootstrap * sizeof *value);
    if (value == NULL) return out;
    size_t count = 0;
    for (int k = 0; k < fit->bootstrap; k++) {
        fit->law->internal(fit->vector + (size_t)k * params, &fit->centre, theta);
        value[count] = decide(fit, theta, question);
        count += isnan(value[count]) ? 0 : 1;
    }
    qsort(value, count, sizeof *value, ascending);
    out.lo = fpl_quantile(value, count, 0.5 * (1.0 - fit->level));
    out.hi = fpl_quantile(value, count, 0.5 * (1.0 + fit->level));
    free(value);
    return out;
}

static double decide_loss(const struct fpl_fit *fit, const double *theta, const void *at) {
    return exp(fit->law->log_loss(theta, at, NULL));
}
static double decide_lr(const struct fpl_fit *fit, const double *theta, const void *at) {
    return exp(fit->law->log_lr(theta, at, NULL));
}
static double decide_batch(const struct fpl_fit *fit, const double *theta, const void *at) {
    return exp(fit->law->log_batch(theta, at, NULL));
}
static double decide_dcrit(const struct fpl_fit *fit, const double *theta, const void *at) {
    return exp(fit->law->log_dcrit(theta, at, NULL) + fit->centre.d);
}

static int has_penalty(const struct fpl_fit *fit) {
    return fit->law->penalty_at >= 0 && fit->active[fit->law->penalty_at];
}

/* ---- intervals of a new run -------------------------------------------------------------------- */

/* z with P(|normal| < z) = level. */
static double normal_width(double level) {
    double low = 0.0, high = 40.0;
    for (int i = 0; i < 200; i++) {
        const double middle = 0.5 * (low + high);
        if (erf(middle / sqrt(2.0)) < level)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static struct fpl_estimate new_run(const struct fpl_fit *fit, const struct fpl_estimate *mean) {
    struct fpl_estimate out = {mean->value, (double)NAN, (double)NAN};
    if (isnan(mean->lo)) return out;
    const double noise = fmax(fmax(fit->scale, fit->rms), fit->held_out_rms),
                 z = normal_width(fit->level) * noise;
    const double down = log(mean->value / mean->lo), up = log(mean->hi / mean->value);
    out.lo = mean->value * exp(-sqrt(down * down + z * z));
    out.hi = mean->value * exp(sqrt(up * up + z * z));
    return out;
}

/* ---- predict ------------------------------------------------------------------------------------ */

static double octaves_outside(double x, const double range[2]) {
    if (isnan(x) || !(range[0] > 0.0)) return 0.0;
    if (x < range[0]) return log2(range[0] / x);
    return x > range[1] ? log2(x / range[1]) : 0.0;
}

static void warn(char *text, size_t size, const char *piece) {
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used > 0 ? "; " : "", piece);
}

static void warn_outside(struct fpl_answer *out, const char *name, double x, const double range[2]) {
    const double octaves = octaves_outside(x, range);
    char piece[128];
    if (octaves <= 0.0) return;
    snprintf(piece, sizeof piece, "%s = %.3g lies %.1f octaves %s the fitted range %.3g to %.3g", name, x,
             octaves, x < range[0] ? "below" : "above", range[0], range[1]);
    warn(out->warning, sizeof out->warning, piece);
    out->outside = fmax(out->outside, octaves);
}

/* Parameters and tokens are counts: outside 1 to this a law says nothing, and its powers leave
 * the range of double. */
#define MOST_COUNT 1e30

static enum fpl_code check_point(const struct fpl_point_at *at, struct fpl_error *err) {
    const struct {
        const char *name;
        double value;
        int count;
    } parts[] = {{"N", at->N, 1},
                 {"D", at->D, 1},
                 {"lr", at->lr, 0},
                 {"batch_tokens", at->batch_tokens, 0},
                 {"block", at->block, 0}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const double x = parts[i].value;
        if (parts[i].count && !(x >= 1.0 && x <= MOST_COUNT))
            return fpl_fail(err, FPL_INVALID, "%s: found %g, accepted is 1 to %g", parts[i].name, x,
                            MOST_COUNT);
        if (!isnan(x) && !(isfinite(x) && x > 0.0))
            return fpl_fail(err, FPL_INVALID, "%s: found %g, expected a positive number", parts[i].name, x);
    }
    if ((!isnan(at->E) && !(at->E >= 0.0 && at->E <= 64.0)) ||
        (!isnan(at->M) && !(at->M >= 0.0 && at->M <= 64.0)))
        return fpl_fail(err, FPL_INVALID, "E = %g, M = %g: expected 0 to 64 bits", at->E, at->M);
    if (isnan(at->E) != isnan(at->M) || (isnan(at->E) && !isnan(at->block)))
        return fpl_fail(err, FPL_INVALID, "a format needs E, M and block together (format=e4m3 block=32)");
    return FPL_OK;
}

enum fpl_code fpl_fit_predict(const struct fpl_fit *fit, const struct fpl_point_at *at,
                              struct fpl_answer *out, struct fpl_error *err) {
    const struct fpl_estimate none = {(double)NAN, (double)NAN, (double)NAN};
    const struct fpl_law *law = fit->law;
    *out =
        (struct fpl_answer){.loss = none, .lr = none, .batch_tokens = none, .D_crit = none, .loss_new = none};
    const enum fpl_code code = check_point(at, err);
    if (code != FPL_OK) return code;
    struct fpl_law_at point;
    fpl_law_at_point(at, &fit->centre, &point);
    if (fit->status != FPL_FIT_CONVERGED) {
        warn(out->warning, sizeof out->warning, "the fit is ");
        const size_t used = strlen(out->warning);
        snprintf(out->warning + used, sizeof out->warning - used, "%s", fpl_fit_status_names[fit->status]);
    }
    warn_outside(out, "N", at->N, fit->N);
    warn_outside(out, "D", at->D, fit->D);
    /* Where the law cannot tell the penalty, neither loss nor critical size is answered, and the
     * optimal learning rate is that of the unquantized run. */
    const int formatted = !isnan(at->E), unknown = formatted && !(point.quantized && has_penalty(fit));
    if (unknown) point.quantized = 0;
    if (formatted && !has_penalty(fit))
        warn(out->warning, sizeof out->warning, "this fit knows nothing of number formats");
    else if (unknown)
        warn(out->warning, sizeof out->warning, "the law knows only scales per fixed block");
    if (point.quantized && at->E < 1.0 && has_penalty(fit))
        warn(out->warning, sizeof out->warning, "E = 0 is a uniform grid, which the law was not fitted to");
    if (!unknown && law->log_loss != NULL) out->loss = estimate(fit, decide_loss, &point);
    if (law->log_lr != NULL) out->lr = estimate(fit, decide_lr, &point);
    if (law->log_batch != NULL) out->batch_tokens = estimate(fit, decide_batch, &point);
    if (!unknown && law->log_dcrit != NULL) out->D_crit = estimate(fit, decide_dcrit, &point);
    out->loss_new = new_run(fit, &out->loss);
    return FPL_OK;
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
    fit->law->internal(fit->value, &fit->centre, theta);
    out->bits = bits;
    out->E = best_integer(theta, fit->law->penalty_at, bits);
    out->M = bits - 1 - out->E;
    out->E_opt = estimate(fit, decide_split, &bits);
    int agree = 0;
    for (int k = 0; k < fit->bootstrap; k++) {
        fit->law->internal(fit->vector + (size_t)k * (size_t)fit->law->params, &fit->centre, theta);
        agree += best_integer(theta, fit->law->penalty_at, bits) == out->E;
    }
    out->share = fit->bootstrap > 0 ? (double)agree / (double)fit->bootstrap : (double)NAN;
    return 1;
}

/* ---- cost-optimal bits ------------------------------------------------------------------------------ */

/* Golden-section minimum of f over [low, high]; f is unimodal there. */
static double golden(double (*f)(double, void *), void *data, double low, double high, double *value) {
    const double ratio = 0.61803398874989485;
    double a = high - ratio * (high - low), b = low + ratio * (high - low), fa = f(a, data), fb = f(b, data);
    for (int i = 0; i < 80; i++) {
        if (fa < fb) {
            high = b;
            b = a;
            fb = fa;
            a = high - ratio * (high - low);
            fa = f(a, data);
        } else {
            low = a;
            a = b;
            fa = fb;
            b = low + ratio * (high - low);
            fb = f(b, data);
        }
    }
    *value = f(0.5 * (low + high), data);
    return 0.5 * (low + high);
}

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
    fpl_law_at_point(&at, &b->fit->centre, &point);
    return b->fit->law->log_loss(b->theta, &point, NULL);
}

static double loss_of_bits(double bits, void *data) {
    struct budget *b = data;
    double value;
    b->bits = bits;
    b->log_n = golden(loss_of_size, b, log(1e2), log(1e18), &value);
    return value;
}

int fpl_fit_best_bits(const struct fpl_fit *fit, double flop, double block, double *bits, double *N,
                      double *D) {
    double theta[FPL_LAW_PARAMS], value;
    if (!has_penalty(fit) || !(flop > 0.0) || !(block > 1.0)) return 0;
    fit->law->internal(fit->value, &fit->centre, theta);
    if (!(theta[fit->law->penalty_at + 1] + theta[fit->law->penalty_at + 2] > 0.0)) return 0;
    struct budget b = {fit, theta, flop, block, 0.0, 0.0};
    *bits = golden(loss_of_bits, &b, 1.0, 24.0, &value);
    *N = exp(b.log_n);
    *D = 16.0 / 6.0 * flop / (*bits * *N);
    return 1;
}
