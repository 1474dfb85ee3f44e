/* allocate.c - tables over sizes and over budgets.
 *
 *   isoFLOP      L(N, D(N)) at one compute, N from an eighth of N* to 8 N* in steps of 2^(1/2)
 *   allocation   N* ~ C^a, D* ~ C^b: least squares of ln N* on ln C over budgets; for a Chinchilla loss
 *                a = beta/(alpha + beta), b = alpha/(alpha + beta) exactly
 *   bits         min over P, N of L at C = (6/16) P N D with the best real-valued split
 *                (arXiv 2501.02423; law/split.c)
 *
 * An isoFLOP curve is judged by its rise above its own least loss, paired by resample: its level
 * is far less certain than its shape.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define STEP 0.34657359027997264 /* ln 2 / 2 */
#define REACH 6
#define MOST_BUDGETS 64

/* ---- isoFLOP --------------------------------------------------------------------------------------- */

struct curve {
    const struct fpl_fit *fit;
    const struct fpl_plan_format *format;
    const struct fpl_plan_limits *limits;
    double flop;
    struct fpl_isoflop *out;
    size_t count;
    double N; /* of the fit's own optimum */
};

static double loss_of(const struct curve *c, const struct fpl_fit_vector *v, double N, double *D) {
    struct fpl_plan_point p;
    if (!fpl_plan_at_size(v, c->format, c->limits, c->flop, N, &p)) return (double)NAN;
    if (D != NULL) *D = p.D;
    return p.loss;
}

static void resample_curve(const struct curve *c, const struct fpl_samples *s) {
    for (int k = 0; k < (int)s->count; k++) {
        struct fpl_fit_vector v;
        struct fpl_plan_point best;
        fpl_fit_vector_at(c->fit, k, &v);
        const int have = fpl_plan_best(&v, c->format, c->limits, c->flop, c->N, &best);
        for (size_t i = 0; i < c->count; i++) {
            const double loss = loss_of(c, &v, c->out[i].N, NULL);
            fpl_samples_of(s, 2 * i)[k] = loss;
            fpl_samples_of(s, 2 * i + 1)[k] = have ? log(loss / best.loss) : (double)NAN;
        }
    }
}

size_t fpl_plan_isoflop(const struct fpl_fit *fit, const struct fpl_plan_format *format,
                        const struct fpl_plan_limits *limits, double flop, struct fpl_isoflop *out,
                        size_t room) {
    struct fpl_fit_vector own;
    struct fpl_plan_point best;
    struct fpl_samples samples;
    struct curve c = {fit, format, limits, flop, out, 0, 0.0};
    fpl_fit_vector_at(fit, -1, &own);
    if (!fpl_plan_best(&own, format, limits, flop, 0.0, &best)) return 0;
    c.N = best.N;
    for (int i = -REACH; i <= REACH && c.count < room; i++) {
        struct fpl_isoflop *row = &out[c.count];
        row->N = best.N * exp(STEP * i);
        row->loss.value = loss_of(&c, &own, row->N, &row->D);
        row->above.value = log(row->loss.value / best.loss);
        c.count += isfinite(row->loss.value) ? 1 : 0;
    }
    if (!fpl_samples_make(fit, 2 * c.count, &samples)) return 0;
    resample_curve(&c, &samples);
    for (size_t i = 0; i < c.count; i++) {
        out[i].loss =
            fpl_estimate_from(fit, out[i].loss.value, fpl_samples_of(&samples, 2 * i), samples.count);
        out[i].above =
            fpl_estimate_from(fit, out[i].above.value, fpl_samples_of(&samples, 2 * i + 1), samples.count);
    }
    fpl_samples_free(&samples);
    return c.count;
}

/* ---- allocation ------------------------------------------------------------------------------------ */

static double slope(const double *x, const double *y, size_t count) {
    double mx = 0.0, my = 0.0, xx = 0.0, xy = 0.0;
    for (size_t i = 0; i < count; i++) mx += x[i] / (double)count, my += y[i] / (double)count;
    for (size_t i = 0; i < count; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xx > 0.0 ? xy / xx : (double)NAN;
}

/* Both slopes on one vector; hint[count] holds the sizes of the fit's own optima, or 0. */
static int slopes(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                  const struct fpl_plan_limits *limits, const double *flop, size_t count, double *hint,
                  double out[2]) {
    double c[MOST_BUDGETS], n[MOST_BUDGETS], d[MOST_BUDGETS];
    for (size_t i = 0; i < count; i++) {
        struct fpl_plan_point p;
        if (!fpl_plan_best(v, format, limits, flop[i], hint[i], &p)) return 0;
        if (hint[i] == 0.0) hint[i] = p.N;
        c[i] = log(flop[i]);
        n[i] = log(p.N);
        d[i] = log(p.D);
    }
    out[0] = slope(c, n, count);
    out[1] = slope(c, d, count);
    return !isnan(out[0]);
}

int fpl_plan_allocation(const struct fpl_fit *fit, const struct fpl_plan_format *format,
                        const struct fpl_plan_limits *limits, const double *flop, size_t count,
                        struct fpl_allocation *out) {
    struct fpl_fit_vector v;
    struct fpl_samples samples;
    double own[2], each[2], hint[MOST_BUDGETS] = {0};
    if (count < 2 || count > MOST_BUDGETS || limits->N > 0.0) return 0;
    fpl_fit_vector_at(fit, -1, &v);
    if (!slopes(&v, format, limits, flop, count, hint, own) || !fpl_samples_make(fit, 2, &samples)) return 0;
    for (int k = 0; k < (int)samples.count; k++) {
        fpl_fit_vector_at(fit, k, &v);
        if (!slopes(&v, format, limits, flop, count, hint, each)) continue;
        fpl_samples_of(&samples, 0)[k] = each[0];
        fpl_samples_of(&samples, 1)[k] = each[1];
    }
    out->N = fpl_estimate_from(fit, own[0], fpl_samples_of(&samples, 0), samples.count);
    out->D = fpl_estimate_from(fit, own[1], fpl_samples_of(&samples, 1), samples.count);
    fpl_samples_free(&samples);
    return 1;
}

/* ---- bits -------------------------------------------------------------------------------------------- */

int fpl_plan_best_bits(const struct fpl_fit *fit, double flop, double block, struct fpl_plan_bits *out) {
    struct fpl_fit_vector v;
    struct fpl_samples samples;
    double bits, N, D;
    fpl_fit_vector_at(fit, -1, &v);
    if (!fpl_vector_best_bits(&v, flop, block, &bits, &N, &D)) return 0;
    if (!fpl_samples_make(fit, 3, &samples)) return 0;
    const int vectors = (int)samples.count;
#pragma omp parallel for schedule(static)
    for (int k = 0; k < vectors; k++) {
        struct fpl_fit_vector each;
        double value[3];
        fpl_fit_vector_at(fit, k, &each);
        if (!fpl_vector_best_bits(&each, flop, block, &value[0], &value[1], &value[2])) continue;
        for (size_t j = 0; j < 3; j++) fpl_samples_of(&samples, j)[k] = value[j];
    }
    out->flop = flop;
    out->bits = fpl_estimate_from(fit, bits, fpl_samples_of(&samples, 0), samples.count);
    out->N = fpl_estimate_from(fit, N, fpl_samples_of(&samples, 1), samples.count);
    out->D = fpl_estimate_from(fit, D, fpl_samples_of(&samples, 2), samples.count);
    fpl_samples_free(&samples);
    return 1;
}
