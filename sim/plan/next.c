/* next.c - the runs that would narrow a decision most per FLOP.
 *
 * The bootstrap vectors are an ensemble of what the parameters may be.  On each, the decision has a
 * value t and every candidate run c a predicted ln loss y_c.  Their covariances over the ensemble are
 * the linear-Gaussian account of the fit: a run of noise s^2 takes from the decision's variance
 *
 *   var(t | y_c) = var(t) - cov(t, y_c)^2 / (var(y_c) + s^2)
 *
 * and moves every other covariance likewise, so the next run is chosen given those before it
 * (sequential design; the update is that of a Kalman filter, C <- C - k k', with k = C e_c /
 * sqrt(C_cc + s^2)).  Only columns of C are ever needed: they follow from the anomalies and the k so far.
 *
 * Choice: among the candidates whose fall of ln var(t) is at least `least_gain` of the largest, the
 * one with the largest fall per FLOP.  Per FLOP alone would pick the smallest run there is, for a fall of
 * nothing; the fall alone the largest.
 *
 * An ensemble of a bootstrap has far outliers; values are drawn in to 4 robust deviations from the
 * median, or one bad resample would decide.  What the account leaves out: the form's own error, and that
 * parameters which no run of the table has told (a shift never seen) have no spread to be narrowed.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "decision.h"
#include "proposal.h"

#define LEAST_VECTORS 20
#define FAR 4.0

struct design {
    size_t candidates, vectors; /* columns 0 .. candidates - 1: runs; `candidates`: the decision */
    double *anomaly;            /* [candidates + 1][vectors], mean 0, scaled by 1/sqrt(vectors - 1) */
    double *variance;           /* [candidates + 1] */
    double *cross;              /* [candidates]: covariance with the decision */
    double *gain;               /* [chosen so far][candidates + 1]: k */
    size_t steps;
    double noise;
};

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Draw in outliers, centre, scale; 0 where a value is not finite. */
static int tame(double *x, double *scratch, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    memcpy(scratch, x, n * sizeof *x);
    qsort(scratch, n, sizeof *scratch, ascending);
    const double median = 0.5 * (scratch[(n - 1) / 2] + scratch[n / 2]);
    for (size_t i = 0; i < n; i++) scratch[i] = fabs(x[i] - median);
    qsort(scratch, n, sizeof *scratch, ascending);
    const double reach = FAR * 1.4826 * scratch[n / 2], scale = 1.0 / sqrt((double)(n - 1));
    double mean = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (reach > 0.0) x[i] = fmin(median + reach, fmax(median - reach, x[i]));
        mean += x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) x[i] = (x[i] - mean) * scale;
    return 1;
}

static double dot(const double *a, const double *b, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void design_free(struct design *d) {
    free(d->anomaly);
    free(d->variance);
    free(d->cross);
    free(d->gain);
}

static enum fpl_code design_room(struct design *d, size_t candidates, size_t vectors, size_t steps,
                                 struct fpl_error *err) {
    d->candidates = candidates;
    d->vectors = vectors;
    d->anomaly = malloc((candidates + 1) * vectors * sizeof *d->anomaly);
    d->variance = malloc((candidates + 1) * sizeof *d->variance);
    d->cross = malloc((candidates + 1) * sizeof *d->cross);
    d->gain = malloc((steps + 1) * (candidates + 1) * sizeof *d->gain);
    if (d->anomaly != NULL && d->variance != NULL && d->cross != NULL && d->gain != NULL) return FPL_OK;
    return fpl_fail(err, FPL_SYSTEM, "out of memory for %zu candidate runs", candidates);
}

/* Values of the decision on the vectors where it is defined; kept[] names those. */
static size_t decisions(const struct fpl_fit *fit, const struct fpl_decision_of *decision, double *value,
                        int *kept) {
    size_t count = 0;
    for (int k = 0; k < fpl_fit_vectors(fit); k++) {
        struct fpl_fit_vector v;
        fpl_fit_vector_at(fit, k, &v);
        value[count] = fpl_decision_value(decision, &v);
        kept[count] = k;
        count += isfinite(value[count]) ? 1 : 0;
    }
    return count;
}

/* Anomalies of every candidate; those that are undefined somewhere get variance -1. */
static enum fpl_code spread(const struct fpl_fit *fit, const struct fpl_proposal *run, const int *kept,
                            struct design *d, struct fpl_error *err) {
    const size_t n = d->vectors;
    double *scratch = malloc(n * sizeof *scratch);
    if (scratch == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
#pragma omp parallel for schedule(static)
    for (int k = 0; k < (int)n; k++) {
        struct fpl_fit_vector v;
        fpl_fit_vector_at(fit, kept[k], &v);
        for (size_t c = 0; c < d->candidates; c++)
            d->anomaly[c * n + (size_t)k] = log(fpl_vector_loss(&v, &run[c].at));
    }
    for (size_t c = 0; c <= d->candidates; c++) {
        double *x = d->anomaly + c * n;
        d->variance[c] = tame(x, scratch, n) ? dot(x, x, n) : -1.0;
    }
    const double *t = d->anomaly + d->candidates * n;
    for (size_t c = 0; c < d->candidates; c++) d->cross[c] = dot(d->anomaly + c * n, t, n);
    free(scratch);
    return FPL_OK;
}

/* ln of the share of the decision's variance that a run takes, positive. */
static double fall(const struct design *d, size_t c) {
    const double total = d->variance[d->candidates], own = d->variance[c] + d->noise * d->noise;
    if (d->variance[c] < 0.0 || !(total > 0.0)) return 0.0;
    const double share = d->cross[c] * d->cross[c] / (own * total);
    return -log1p(-fmin(share, 1.0 - 1e-12));
}

static size_t choose(const struct design *d, const struct fpl_proposal *run, double least_gain) {
    double most = 0.0, best = 0.0;
    size_t chosen = d->candidates;
    for (size_t c = 0; c < d->candidates; c++) most = fmax(most, fall(d, c));
    for (size_t c = 0; c < d->candidates; c++) {
        const double f = fall(d, c);
        if (!(f > 0.0) || f < least_gain * most || !(f / run[c].flop > best)) continue;
        best = f / run[c].flop;
        chosen = c;
    }
    return chosen;
}

/* Take the run into account: C <- C - k k'. */
static void observe(struct design *d, size_t c) {
    const size_t n = d->vectors, all = d->candidates + 1;
    double *k = d->gain + d->steps * all;
    const double norm = 1.0 / sqrt(d->variance[c] + d->noise * d->noise);
    for (size_t i = 0; i < all; i++) {
        k[i] = 0.0;
        if (d->variance[i] < 0.0) continue;
        double column = dot(d->anomaly + i * n, d->anomaly + c * n, n);
        for (size_t s = 0; s < d->steps; s++) column -= d->gain[s * all + i] * d->gain[s * all + c];
        k[i] = column * norm;
    }
    for (size_t i = 0; i < all; i++)
        if (d->variance[i] >= 0.0) d->variance[i] = fmax(0.0, d->variance[i] - k[i] * k[i]);
    for (size_t i = 0; i < d->candidates; i++) d->cross[i] -= k[i] * k[d->candidates];
    d->steps++;
}

static enum fpl_code propose(struct design *d, const struct fpl_proposal *run,
                             const struct fpl_next_options *options, struct fpl_next *out,
                             struct fpl_error *err) {
    out->run = calloc((size_t)options->count, sizeof *out->run);
    if (out->run == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    out->sd_before = out->sd_after = sqrt(d->variance[d->candidates]);
    for (int i = 0; i < options->count; i++) {
        const size_t c = choose(d, run, options->least_gain);
        if (c == d->candidates) break;
        struct fpl_proposal *p = &out->run[out->runs++];
        *p = run[c];
        for (size_t j = 0; j + 1 < out->runs; j++)
            p->repeats += out->run[j].flop == p->flop && memcmp(&out->run[j].at, &p->at, sizeof p->at) == 0;
        observe(d, c);
        p->sd = sqrt(d->variance[d->candidates]);
        p->gain = 1.0 - p->sd / out->sd_after;
        out->sd_after = p->sd;
    }
    if (out->runs > 0) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "no candidate run tells anything of the decision");
}

static double noise_of(const struct fpl_fit *fit, const struct fpl_next_options *options) {
    struct fpl_fit_summary s;
    if (options->noise > 0.0) return options->noise;
    fpl_fit_summarize(fit, &s);
    return fmax(s.scale, s.rms_log_residual);
}

static enum fpl_code check(const struct fpl_fit *fit, const struct fpl_next_options *options, double noise,
                           struct fpl_error *err) {
    if (fpl_fit_vectors(fit) < LEAST_VECTORS)
        return fpl_fail(
            err, FPL_INVALID,
            "--next needs the fit's resamples, at least %d: found %d (fit with --bootstrap; published "
            "constants have none)",
            LEAST_VECTORS, fpl_fit_vectors(fit));
    if (!(options->count >= 1 && options->count <= 10000))
        return fpl_fail(err, FPL_INVALID, "--next: found %d, accepted is 1 to 10000 runs", options->count);
    if (!(options->least_gain >= 0.0 && options->least_gain <= 1.0))
        return fpl_fail(err, FPL_INVALID, "--least-gain: found %g, accepted is 0 to 1", options->least_gain);
    if (!(noise > 0.0))
        return fpl_fail(err, FPL_INVALID,
                        "--noise: the fit does not know the noise of a run; give its sd of ln loss");
    return FPL_OK;
}

enum fpl_code fpl_plan_next(const struct fpl_fit *fit, const struct fpl_decision_of *decision,
                            const struct fpl_next_options *options, struct fpl_next *out,
                            struct fpl_error *err) {
    struct design d = {.noise = noise_of(fit, options)};
    struct fpl_proposal *run = NULL;
    const size_t most = (size_t)fpl_fit_vectors(fit);
    size_t candidates = 0;
    *out = (struct fpl_next){.noise = d.noise};
    enum fpl_code code = check(fit, options, d.noise, err);
    if (code == FPL_OK) code = fpl_plan_check(fit, err);
    if (code == FPL_OK) code = fpl_proposals_make(fit, options, &run, &candidates, err);
    if (code != FPL_OK) return code;
    double *value = malloc((most + 1) * sizeof *value);
    int *kept = malloc((most + 1) * sizeof *kept);
    if (value == NULL || kept == NULL) code = fpl_fail(err, FPL_SYSTEM, "out of memory");
    const size_t vectors = code == FPL_OK ? decisions(fit, decision, value, kept) : 0;
    if (code == FPL_OK && vectors < LEAST_VECTORS)
        code =
            fpl_fail(err, FPL_INVALID, "the decision is defined on %zu of %zu resamples only", vectors, most);
    if (code == FPL_OK) code = design_room(&d, candidates, vectors, (size_t)options->count, err);
    if (code == FPL_OK) {
        memcpy(d.anomaly + candidates * vectors, value, vectors * sizeof *value);
        code = spread(fit, run, kept, &d, err);
    }
    out->candidates = candidates;
    if (code == FPL_OK) code = propose(&d, run, options, out, err);
    design_free(&d);
    free(value);
    free(kept);
    free(run);
    if (code != FPL_OK) fpl_next_free(out);
    return code;
}

void fpl_next_free(struct fpl_next *next) {
    free(next->run);
    next->run = NULL;
    next->runs = 0;
}
