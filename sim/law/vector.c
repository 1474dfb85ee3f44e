/* vector.c - one parameter vector of a fit, asked many times.
 *
 * predict.c answers one question with the intervals of everything a law tells.  A planner asks for
 * one number at thousands of points on every bootstrap vector, so here a vector is translated to
 * the law's internal parameters once and each question costs one evaluation.
 *
 * Where the law cannot tell - it has no loss, or its penalty does not know the format, or the point
 * lies outside its domain - the answer is NaN, as predict.c leaves its estimates NaN.
 *
 * The loss at a given batch without a learning rate is that of the best learning rate at that batch,
 * which in a bowl with a tilted axis is not the learning rate of the best batch.
 */
#include <math.h>
#include <stdlib.h>

#include "fitting.h"

#define LR_SEARCH 6.0 /* e-folds to either side of the optimum */
#define LR_STEPS 60

int fpl_fit_vectors(const struct fpl_fit *fit) { return fit->vector != NULL ? fit->bootstrap : 0; }

void fpl_fit_vector_at(const struct fpl_fit *fit, int k, struct fpl_fit_vector *out) {
    const struct fpl_law *law = fit->law;
    const double *published = k < 0 ? fit->value : fit->vector + (size_t)k * (size_t)law->params;
    out->fit = fit;
    law->internal(law, published, &fit->centre, out->theta);
    for (int j = 0; j < law->params; j++)
        if (!fit->active[j]) out->theta[j] = 0.0;
}

/* The point in the law's coordinates; 0: the law says nothing of this format. */
static int place(const struct fpl_fit_vector *v, const struct fpl_point_at *at, struct fpl_law_at *point) {
    const struct fpl_law *law = v->fit->law;
    struct fpl_question q = fpl_question_of_point(at);
    q.value[FPL_VAR_N_MEAN] = at->N;
    fpl_question_derive(&q);
    fpl_law_place(law, &q, &v->fit->centre, point);
    const int formatted = !isnan(at->E);
    if (formatted && !fpl_fit_knows_formats(v->fit)) return 0;
    return !(formatted && law->penalty_at >= 0 && !point->quantized);
}

/* ln of the best learning rate at the point's batch.  The bowl is convex, so the sign of the slope
 * brackets the minimum and Newton's step, by central differences, is taken wherever it stays inside;
 * the place is good to about 1e-8, the loss to rounding. */
static double best_lr(const struct fpl_fit_vector *v, const struct fpl_law_at *point, double *log_loss) {
    const struct fpl_law *law = v->fit->law;
    const double h = 1e-4, middle = law->log_lr(law, v->theta, point, NULL);
    double low = middle - LR_SEARCH, high = middle + LR_SEARCH, x = middle;
    struct fpl_law_at at = *point;
    for (int i = 0; i < LR_STEPS; i++) {
        at.x = x - h;
        const double left = law->log_loss(law, v->theta, &at, NULL);
        at.x = x + h;
        const double right = law->log_loss(law, v->theta, &at, NULL);
        at.x = x;
        *log_loss = law->log_loss(law, v->theta, &at, NULL);
        const double slope = (right - left) / (2.0 * h), bend = (right - 2.0 * *log_loss + left) / (h * h);
        *(slope > 0.0 ? &high : &low) = x;
        const double next = x - slope / bend;
        const double to = next > low && next < high ? next : 0.5 * (low + high);
        if (fabs(to - x) < 1e-7 || high - low < 1e-7) break;
        x = to;
    }
    return x;
}

static int tilted(const struct fpl_law *law, const struct fpl_law_at *point) {
    return law->log_loss != NULL && law->log_lr != NULL && isnan(point->x) && !isnan(point->y);
}

double fpl_vector_loss(const struct fpl_fit_vector *v, const struct fpl_point_at *at) {
    const struct fpl_law *law = v->fit->law;
    struct fpl_law_at point;
    double value;
    if (law->log_loss == NULL || (law->use & FPL_TARGET_DELTA) != 0) return (double)NAN;
    if (!place(v, at, &point)) return (double)NAN;
    if (law->domain != NULL && law->domain(v->fit, v->theta, &point)[0] != '\0') return (double)NAN;
    if (tilted(law, &point))
        best_lr(v, &point, &value);
    else
        value = law->log_loss(law, v->theta, &point, NULL);
    return exp(value);
}

double fpl_vector_lr(const struct fpl_fit_vector *v, const struct fpl_point_at *at) {
    const struct fpl_law *law = v->fit->law;
    struct fpl_law_at point;
    double value;
    if (law->log_lr == NULL) return (double)NAN;
    if (!place(v, at, &point)) point.quantized = 0;
    if (tilted(law, &point)) return exp(best_lr(v, &point, &value));
    return exp(law->log_lr(law, v->theta, &point, NULL));
}

double fpl_vector_batch(const struct fpl_fit_vector *v, const struct fpl_point_at *at) {
    const struct fpl_law *law = v->fit->law;
    struct fpl_law_at point;
    if (law->log_batch == NULL) return (double)NAN;
    if (!place(v, at, &point)) point.quantized = 0;
    return exp(law->log_batch(law, v->theta, &point, NULL));
}

double fpl_vector_dcrit(const struct fpl_fit_vector *v, const struct fpl_point_at *at) {
    const struct fpl_law *law = v->fit->law;
    struct fpl_law_at point;
    if (law->log_dcrit == NULL || !place(v, at, &point)) return (double)NAN;
    return exp(law->log_dcrit(law, v->theta, &point, NULL) + v->fit->centre.d);
}

int fpl_vector_best_bits(const struct fpl_fit_vector *v, double flop, double block, double *bits, double *N,
                         double *D) {
    return fpl_best_bits_of(v->fit, v->theta, flop, block, bits, N, D);
}

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

struct fpl_estimate fpl_estimate_from(const struct fpl_fit *fit, double value, double *resampled,
                                      size_t count) {
    struct fpl_estimate out = {value, (double)NAN, (double)NAN};
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(resampled[i])) resampled[kept++] = resampled[i];
    if (kept < 2 || isnan(value)) return out;
    qsort(resampled, kept, sizeof *resampled, ascending);
    out.lo = fpl_quantile(resampled, kept, 0.5 * (1.0 - fit->level));
    out.hi = fpl_quantile(resampled, kept, 0.5 * (1.0 + fit->level));
    return out;
}
