/* predict.c - what a fit says: loss, optimal learning rate and batch, critical data size, and what
 * else its law tells (struct fpl_teller); splits and cost-optimal bits are in split.c.
 *
 * Every decision is evaluated on the fit's parameters and on each bootstrap vector; its interval
 * is between quantiles of the latter.  The interval of a new run adds the noise of one run,
 * the larger of the robust residual scale, the residuals' root mean square and the held-out error, in
 * quadrature and in logarithms.  The error on runs held out in a direction of extrapolation counts
 * outside the fitted range only, that of cells everywhere.
 *
 * A bootstrap knows nothing of an error in the law's form: outside the fitted range the
 * intervals are too narrow, so `outside` and the warning say how far out the question lies.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting.h"

/* ---- a decision with its interval ----------------------------------------------------------- */

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Resamples on which the decision is undefined are left out of the interval. */
struct fpl_estimate fpl_estimate_of(const struct fpl_fit *fit, fpl_decision *decide, const void *question) {
    const size_t params = (size_t)fit->law->params;
    double theta[FPL_LAW_PARAMS];
    struct fpl_estimate out = {(double)NAN, (double)NAN, (double)NAN};
    fit->law->internal(fit->law, fit->value, &fit->centre, theta);
    out.value = decide(fit, theta, question);
    if (isnan(out.value) || fit->bootstrap == 0) return out;
    double *value = malloc((size_t)fit->bootstrap * sizeof *value);
    if (value == NULL) return out;
    size_t count = 0;
    for (int k = 0; k < fit->bootstrap; k++) {
        fit->law->internal(fit->law, fit->vector + (size_t)k * params, &fit->centre, theta);
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
    return exp(fit->law->log_loss(fit->law, theta, at, NULL));
}
static double decide_lr(const struct fpl_fit *fit, const double *theta, const void *at) {
    return exp(fit->law->log_lr(fit->law, theta, at, NULL));
}
static double decide_batch(const struct fpl_fit *fit, const double *theta, const void *at) {
    return exp(fit->law->log_batch(fit->law, theta, at, NULL));
}
static double decide_dcrit(const struct fpl_fit *fit, const double *theta, const void *at) {
    return exp(fit->law->log_dcrit(fit->law, theta, at, NULL) + fit->centre.d);
}

static int has_penalty(const struct fpl_fit *fit) {
    return fit->law->penalty_at >= 0 && fit->active[fit->law->penalty_at];
}

/* ---- intervals of a new run -------------------------------------------------------------------- */

static struct fpl_estimate new_run(const struct fpl_fit *fit, const struct fpl_estimate *mean,
                                   double outside) {
    struct fpl_estimate out = {mean->value, (double)NAN, (double)NAN};
    if (isnan(mean->lo)) return out;
    const int held = strcmp(fit->hold_out, "cell") == 0 || outside > 0.0;
    const double noise = fmax(fmax(fit->scale, fit->rms), held ? fit->held_out_rms : 0.0);
    const double z = fpl_normal_width(fit->level) * noise;
    const double down = log(mean->value / mean->lo), up = log(mean->hi / mean->value);
    out.lo = mean->value * exp(-sqrt(down * down + z * z));
    out.hi = mean->value * exp(sqrt(up * up + z * z));
    return out;
}

/* ---- the question -------------------------------------------------------------------------------- */

/* In a law's words: what it takes. */
static enum fpl_code refuse_question(const struct fpl_law *law, const char *what, struct fpl_error *err) {
    char takes[128];
    fpl_law_describe(law, takes, sizeof takes);
    return fpl_fail(err, FPL_INVALID, "%s; %s takes %s", what, law->name, takes);
}

static enum fpl_code check_question(const struct fpl_law *law, const struct fpl_question *q,
                                    struct fpl_error *err) {
    const double E = q->value[FPL_VAR_E], M = q->value[FPL_VAR_M], block = q->value[FPL_VAR_BLOCK];
    char what[128];
    if ((!isnan(E) && !(E >= 0.0 && E <= 64.0)) || (!isnan(M) && !(M >= 0.0 && M <= 64.0)))
        return fpl_fail(err, FPL_INVALID, "E = %g, M = %g: expected 0 to 64 bits", E, M);
    const int whole = fpl_law_takes(law, FPL_VAR_E) && fpl_law_takes(law, FPL_VAR_M);
    if (whole && fpl_law_takes(law, FPL_VAR_BLOCK) && (isnan(E) != isnan(M) || (isnan(E) && !isnan(block))))
        return fpl_fail(err, FPL_INVALID, "a format needs E, M and block together (format=e4m3 block=32)");
    for (int v = 0; v < FPL_VARIABLES; v++) {
        const double x = q->value[v];
        const int required = fpl_law_takes(law, (enum fpl_variable)v) == 2;
        if (isnan(x) && !required) continue;
        if (x >= fpl_variables[v].lo && x <= fpl_variables[v].hi) continue;
        snprintf(what, sizeof what, "%s: found %g, accepted is %g to %g", fpl_variables[v].name, x,
                 fpl_variables[v].lo, fpl_variables[v].hi);
        return refuse_question(law, what, err);
    }
    if (fpl_law_takes_schedule(law) && q->schedule == NULL)
        return refuse_question(law, "a learning-rate schedule is missing", err);
    if (!isnan(q->flop) && !(q->flop > 0.0 && q->flop <= 1e60))
        return fpl_fail(err, FPL_INVALID, "flop: found %g, accepted is a positive number", q->flop);
    return FPL_OK;
}

/* Variables that follow from others. */
void fpl_question_derive(struct fpl_question *q) {
    double *v = q->value;
    const double bits = 1.0 + v[FPL_VAR_E] + v[FPL_VAR_M];
    if (isnan(v[FPL_VAR_PW]) && isnan(v[FPL_VAR_PA])) v[FPL_VAR_PW] = v[FPL_VAR_PA] = bits;
    if (isnan(v[FPL_VAR_BITS])) v[FPL_VAR_BITS] = bits;
    if (isnan(v[FPL_VAR_GROUP])) v[FPL_VAR_GROUP] = v[FPL_VAR_BLOCK];
    if (isnan(v[FPL_VAR_STEPS])) v[FPL_VAR_STEPS] = v[FPL_VAR_D] / v[FPL_VAR_BATCH];
    if (isnan(v[FPL_VAR_D])) v[FPL_VAR_D] = v[FPL_VAR_STEPS] * v[FPL_VAR_BATCH];
    if (isnan(v[FPL_VAR_STEP]) && q->curve != NULL) v[FPL_VAR_STEP] = q->curve->last_step;
}

/* ---- warnings --------------------------------------------------------------------------------------- */

/* Of E and M, 1/2 added: the law's own coordinates, in which 0 is at a finite distance; the range of
 * one of them may be 0 to 0, that of both is not known then. */
static double octaves_outside(const struct fpl_fit *fit, enum fpl_variable which, double x,
                              const double range[2]) {
    const int bits = which == FPL_VAR_E || which == FPL_VAR_M;
    const double more = bits ? 0.5 : 0.0;
    const int known =
        bits ? fit->range[FPL_VAR_E][1] > 0.0 || fit->range[FPL_VAR_M][1] > 0.0 : range[1] > 0.0;
    if (isnan(x) || !known) return 0.0;
    if (x < range[0]) return log2((range[0] + more) / (x + more));
    return x > range[1] ? log2((x + more) / (range[1] + more)) : 0.0;
}

static void warn(char *text, size_t size, const char *piece) {
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used > 0 ? "; " : "", piece);
}

static void warn_outside(const struct fpl_fit *fit, struct fpl_answer *out, enum fpl_variable which,
                         const char *of, double x, const double range[2]) {
    const double octaves = octaves_outside(fit, which, x, range);
    char piece[160];
    if (octaves <= 1e-9) return;
    snprintf(piece, sizeof piece, "%s%s = %.3g lies %.1f octaves %s the fitted range %.3g to %.3g", of,
             fpl_variables[which].name, x, octaves, x < range[0] ? "below" : "above", range[0], range[1]);
    warn(out->warning, sizeof out->warning, piece);
    out->outside = fmax(out->outside, octaves);
}

/* N and D of every law, and the variables that it takes; where a setting is not given, its optimum. */
static void warn_ranges(const struct fpl_fit *fit, const struct fpl_question *q, struct fpl_answer *out) {
    warn_outside(fit, out, FPL_VAR_N, "", q->value[FPL_VAR_N], fit->N);
    warn_outside(fit, out, FPL_VAR_D, "", q->value[FPL_VAR_D], fit->D);
    for (int v = FPL_VAR_LR; v < FPL_VARIABLES; v++) {
        const enum fpl_variable which = (enum fpl_variable)v;
        if (!fpl_law_keeps_range(fit->law, which)) continue;
        const struct fpl_estimate *best = which == FPL_VAR_LR      ? &out->lr
                                          : which == FPL_VAR_BATCH ? &out->batch_tokens
                                                                   : NULL;
        const int optimal = best != NULL && isnan(q->value[which]);
        warn_outside(fit, out, which, optimal ? "the optimal " : "", optimal ? best->value : q->value[which],
                     fit->range[which]);
    }
}

/* Does the law make something of a format? */
int fpl_fit_knows_formats(const struct fpl_fit *fit) {
    const struct fpl_law *law = fit->law;
    return has_penalty(fit) || (law->use & FPL_ANY_FORMAT) != 0 || fpl_law_takes(law, FPL_VAR_PW) ||
           fpl_law_takes(law, FPL_VAR_BITS) || fpl_law_takes(law, FPL_VAR_GROUP) ||
           fpl_law_takes(law, FPL_VAR_EFF_N);
}

/* ---- answers ------------------------------------------------------------------------------------------ */

struct teller_at {
    const struct fpl_teller *teller;
    const struct fpl_question *question;
};

static double decide_teller(const struct fpl_fit *fit, const double *theta, const void *at) {
    const struct teller_at *t = at;
    return t->teller->value(fit, theta, t->question);
}

static void tell(const struct fpl_fit *fit, const struct fpl_question *q, struct fpl_answer *out) {
    for (const struct fpl_teller *t = fit->law->tellers; t != NULL && t->name != NULL; t++) {
        const struct teller_at at = {t, q};
        const struct fpl_estimate e = fpl_estimate_of(fit, decide_teller, &at);
        if (isnan(e.value) || out->told_count == FPL_TOLD) continue;
        out->told[out->told_count++] = (struct fpl_told){t->name, t->unit, t->meaning, e};
    }
}

static double told_value(const struct fpl_answer *out, const char *name) {
    for (int i = 0; i < out->told_count; i++)
        if (strcmp(out->told[i].name, name) == 0) return out->told[i].value.value;
    return (double)NAN;
}

/* Large budgets have their cheapest point where the law was never tested. */
static void warn_few_tokens(struct fpl_answer *out) {
    const double N = told_value(out, "N_bits"), D = told_value(out, "D_bits");
    char piece[128];
    if (!(D < N)) return;
    snprintf(piece, sizeof piece,
             "at this budget the law's optimum has fewer tokens than parameters (D/N = %.2g)", D / N);
    warn(out->warning, sizeof out->warning, piece);
}

/* The law does not hold here: nothing is answered but why. */
static int outside_domain(const struct fpl_fit *fit, const struct fpl_law_at *point, struct fpl_answer *out) {
    double theta[FPL_LAW_PARAMS];
    if (fit->law->domain == NULL) return 0;
    fit->law->internal(fit->law, fit->value, &fit->centre, theta);
    const char *why = fit->law->domain(fit, theta, point);
    if (why[0] == '\0') return 0;
    warn(out->warning, sizeof out->warning, why);
    return 1;
}

static void answer(const struct fpl_fit *fit, const struct fpl_question *q, struct fpl_answer *out) {
    const struct fpl_law *law = fit->law;
    struct fpl_law_at point;
    fpl_law_place(law, q, &fit->centre, &point);
    if (fit->status != FPL_FIT_CONVERGED) {
        warn(out->warning, sizeof out->warning, "the fit is ");
        const size_t used = strlen(out->warning);
        snprintf(out->warning + used, sizeof out->warning - used, "%s", fpl_fit_status_names[fit->status]);
    }
    /* Where the law cannot tell the penalty, neither loss nor critical size is answered, and the
     * optimal learning rate is that of the unquantized run. */
    const int formatted = !isnan(q->value[FPL_VAR_E]), known = fpl_fit_knows_formats(fit);
    const int unknown = formatted && (!known || (law->penalty_at >= 0 && !point.quantized));
    if (unknown) point.quantized = 0;
    if (formatted && !known)
        warn(out->warning, sizeof out->warning, "this fit knows nothing of number formats");
    else if (unknown)
        warn(out->warning, sizeof out->warning, "the law knows only scales per fixed block");
    if (point.quantized && q->value[FPL_VAR_E] < 1.0 && has_penalty(fit))
        warn(out->warning, sizeof out->warning, "E = 0 is a uniform grid, which the law was not fitted to");
    const int outside = outside_domain(fit, &point, out);
    if (!unknown && !outside && law->log_loss != NULL) {
        struct fpl_estimate *target = (law->use & FPL_TARGET_DELTA) != 0 ? &out->delta : &out->loss;
        *target = fpl_estimate_of(fit, decide_loss, &point);
    }
    if (law->log_lr != NULL) out->lr = fpl_estimate_of(fit, decide_lr, &point);
    if (law->log_batch != NULL) out->batch_tokens = fpl_estimate_of(fit, decide_batch, &point);
    if (!unknown && law->log_dcrit != NULL) out->D_crit = fpl_estimate_of(fit, decide_dcrit, &point);
    warn_ranges(fit, q, out);
    out->loss_new = new_run(fit, &out->loss, out->outside);
    if (unknown || outside) return;
    tell(fit, q, out);
    warn_few_tokens(out);
}

enum fpl_code fpl_fit_ask(const struct fpl_fit *fit, const struct fpl_question *question,
                          struct fpl_answer *out, struct fpl_error *err) {
    const struct fpl_estimate none = {(double)NAN, (double)NAN, (double)NAN};
    struct fpl_question q = *question;
    struct fpl_curve curve = {0};
    *out = (struct fpl_answer){
        .loss = none, .lr = none, .batch_tokens = none, .D_crit = none, .delta = none, .loss_new = none};
    if (fpl_law_takes_schedule(fit->law) && q.schedule != NULL) {
        const enum fpl_code made = fpl_curve_make(q.schedule, &curve, err);
        if (made != FPL_OK) return made;
        q.curve = &curve;
    }
    fpl_question_derive(&q);
    enum fpl_code code = check_question(fit->law, &q, err);
    if (code == FPL_OK && q.curve != NULL &&
        !(q.value[FPL_VAR_STEP] > curve.warm_step && q.value[FPL_VAR_STEP] <= curve.last_step))
        code = fpl_fail(err, FPL_INVALID, "step: found %g, the law holds after warm-up, %g to %g",
                        q.value[FPL_VAR_STEP], curve.warm_step + 1.0, curve.last_step);
    if (code == FPL_OK) answer(fit, &q, out);
    fpl_curve_free(&curve);
    return code;
}

enum fpl_code fpl_fit_predict(const struct fpl_fit *fit, const struct fpl_point_at *at,
                              struct fpl_answer *out, struct fpl_error *err) {
    const struct fpl_question q = fpl_question_of_point(at);
    return fpl_fit_ask(fit, &q, out, err);
}
