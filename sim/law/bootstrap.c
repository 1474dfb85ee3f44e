/* bootstrap.c - intervals by resampling runs.
 *
 * Every resample gives each run an independent exponential weight of mean 1 (the Bayesian
 * bootstrap, Rubin 1981) and refits from the full fit's parameters.  Weights have the same
 * mean and variance as the counts of drawing runs with replacement, but no run ever vanishes:
 * with 84 runs and 20 parameters a third of the design missing makes refits singular, and
 * intervals useless.  Deviations from the full fit are widened by sqrt(n/(n - p)), since
 * residuals of a fit are smaller than its errors.
 *
 * The parameter vectors are kept, so that any decision (optimum, critical size, best split)
 * gets its interval by evaluating it on each.
 *
 * Determinism: weight i of resample k is a function of (seed, k, i), and resamples are
 * independent, so any number of threads gives the same bits.
 */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/random.h"
#include "law_internal.h"

static void draw_weights(uint64_t seed, uint32_t resample, double *weight, size_t count) {
    for (size_t i = 0; i < count; i += 2) {
        uint32_t w[4];
        fpl_random_block(seed, i / 2, resample, fpl_stream(FPL_STREAM_BOOTSTRAP, 0), w);
        weight[i] = -log1p(-fpl_random_uniform(w[0], w[1]));
        if (i + 1 < count) weight[i + 1] = -log1p(-fpl_random_uniform(w[2], w[3]));
    }
}

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double fpl_quantile(const double *sorted, size_t count, double p) {
    if (count == 0) return (double)NAN;
    const double at = p * (double)(count - 1);
    const size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

static int intervals(struct fpl_fit *fit) {
    const size_t count = (size_t)fit->bootstrap, params = (size_t)fit->law->params;
    double *column = malloc(count * sizeof *column);
    if (column == NULL) return 0;
    for (size_t j = 0; j < params; j++) {
        for (size_t k = 0; k < count; k++) column[k] = fit->vector[k * params + j];
        qsort(column, count, sizeof *column, ascending);
        fit->lo[j] = fpl_quantile(column, count, 0.5 * (1.0 - fit->level));
        fit->hi[j] = fpl_quantile(column, count, 0.5 * (1.0 + fit->level));
    }
    free(column);
    return 1;
}

/* One refit; writes the published vector. */
static void resample(const struct fpl_fit *fit, const struct fpl_problem *problem, const double *theta,
                     double wider, uint64_t seed, uint32_t k, double *weight, double *published) {
    const int params = problem->law->params;
    double t[FPL_LAW_PARAMS];
    struct fpl_minimum minimum;
    draw_weights(seed, k, weight, problem->count);
    memcpy(t, theta, (size_t)params * sizeof *t);
    const struct fpl_objective objective = {problem, weight, fit->delta, fit->scale};
    fpl_minimise(&objective, t, 60, 1e-6, &minimum);
    for (int j = 0; j < params; j++)
        if (problem->active[j])
            t[j] = fmin(problem->hi[j], fmax(problem->lo[j], theta[j] + wider * (t[j] - theta[j])));
    problem->law->publish(t, &problem->centre, published);
}

enum fpl_code fpl_bootstrap(struct fpl_fit *fit, const struct fpl_problem *problem, const double *theta,
                            int count, uint64_t seed, struct fpl_error *err) {
    const size_t params = (size_t)problem->law->params;
    const double n = (double)problem->count, p = fpl_problem_active(problem);
    const double wider = n > p ? sqrt(n / (n - p)) : 1.0;
    fit->vector = malloc((size_t)count * params * sizeof *fit->vector);
    double *weights = malloc((size_t)problem->threads * problem->count * sizeof *weights);
    if (fit->vector == NULL || weights == NULL) {
        free(weights);
        return fpl_fail(err, FPL_SYSTEM, "out of memory for %d resamples", count);
    }
    fit->bootstrap = count;
#pragma omp parallel num_threads(problem->threads)
    {
        double *weight = weights + (size_t)omp_get_thread_num() * problem->count;
#pragma omp for schedule(dynamic, 4)
        for (int k = 0; k < count; k++)
            resample(fit, problem, theta, wider, seed, (uint32_t)k, weight, fit->vector + (size_t)k * params);
    }
    free(weights);
    if (!intervals(fit)) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    return FPL_OK;
}
