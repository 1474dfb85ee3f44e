/* weights.c - what repeated seeds say: the noise of one run, and weights for runs of unequal noise.
 *
 * A setting is everything but the seed: N, D, learning rate, batch, recipe, format, scale.  Settings
 * with n >= 2 runs give variances of ln loss with n - 1 degrees of freedom; pooled, they are the
 * noise floor that no law can fit below.
 *
 * Weights (--weights seed) are the inverse variances, each shrunk towards the pooled one,
 *
 *   s~^2 = (4 s0^2 + d s^2) / (4 + d)
 *
 * as if 4 further degrees of freedom had shown the pooled variance (the form of Smyth 2004,
 * doi:10.2202/1544-6115.1027): two seeds that agree by chance must not outweigh the table.  Settings
 * run once get the pooled variance.  Weights have mean 1.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "problem.h"

#define PRIOR_FREEDOM 4.0

struct entry {
    const struct fpl_run *run;
    size_t row;
    double target;
};

/* NaN equals NaN and comes first. */
static int compare(double a, double b) {
    if (isnan(a) || isnan(b)) return isnan(b) - isnan(a);
    return (a > b) - (a < b);
}

static int by_setting(const struct fpl_run *a, const struct fpl_run *b) {
    const double x[] = {a->N, a->D, a->lr, a->batch_tokens, a->E, a->M, a->block, a->steps},
                 y[] = {b->N, b->D, b->lr, b->batch_tokens, b->E, b->M, b->block, b->steps};
    for (size_t k = 0; k < sizeof x / sizeof x[0]; k++) {
        const int order = compare(x[k], y[k]);
        if (order != 0) return order;
    }
    int order = strcmp(a->recipe, b->recipe);
    if (order == 0) order = strcmp(a->format, b->format);
    return order != 0 ? order : strcmp(a->granularity, b->granularity);
}

static int by_everything(const void *left, const void *right) {
    const struct entry *a = left, *b = right;
    const int order = by_setting(a->run, b->run);
    return order != 0 ? order : (a->row > b->row) - (a->row < b->row);
}

/* Sum of squares around the mean of entries [begin, end), and their degrees of freedom. */
static double spread(const struct entry *e, size_t begin, size_t end, double *freedom) {
    double mean = 0.0, sum = 0.0;
    for (size_t i = begin; i < end; i++) mean += e[i].target / (double)(end - begin);
    for (size_t i = begin; i < end; i++) sum += (e[i].target - mean) * (e[i].target - mean);
    *freedom = (double)(end - begin) - 1.0;
    return sum;
}

static size_t end_of_setting(const struct entry *e, size_t begin, size_t count) {
    size_t end = begin + 1;
    while (end < count && by_setting(e[begin].run, e[end].run) == 0) end++;
    return end;
}

static void weigh_settings(struct fpl_problem *problem, const struct entry *e, size_t count, double pooled) {
    double total = 0.0;
    for (size_t i = 0; i < problem->count; i++) problem->weight[i] = 1.0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        double freedom;
        end = end_of_setting(e, begin, count);
        const double sum = spread(e, begin, end, &freedom);
        for (size_t i = begin; i < end; i++)
            problem->weight[e[i].row] = pooled * (PRIOR_FREEDOM + freedom) / (PRIOR_FREEDOM * pooled + sum);
    }
    for (size_t i = 0; i < problem->count; i++) total += problem->weight[i] / (double)problem->count;
    for (size_t i = 0; i < problem->count; i++) problem->weight[i] /= total;
}

enum fpl_code fpl_seed_weights(struct fpl_problem *problem, const struct fpl_runs *runs, int weigh,
                               double *noise, double *freedom, struct fpl_error *err) {
    *noise = (double)NAN;
    *freedom = 0.0;
    if ((problem->law->use & (FPL_CURVES | FPL_OPTIMA)) != 0) {
        if (!weigh) return FPL_OK;
        return fpl_fail(err, FPL_INVALID, "--weights seed: law %s is not fitted to single runs' losses",
                        problem->law->name);
    }
    struct entry *e = malloc(problem->count * sizeof *e);
    if (e == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", problem->count);
    size_t count = 0;
    for (size_t i = 0; i < problem->count; i++)
        if (!problem->row[i].censored)
            e[count++] = (struct entry){&runs->run[problem->row[i].run], i, problem->row[i].target};
    qsort(e, count, sizeof *e, by_everything);
    double sum = 0.0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        double own;
        end = end_of_setting(e, begin, count);
        sum += spread(e, begin, end, &own);
        *freedom += own;
    }
    if (*freedom > 0.0 && sum > 0.0) *noise = sqrt(sum / *freedom);
    enum fpl_code code = FPL_OK;
    if (weigh && isnan(*noise)) {
        code = fpl_fail(err, FPL_INVALID,
                        "%s: --weights seed: no setting was run with two seeds, so the variance between "
                        "seeds is unknown",
                        runs->source);
    } else if (weigh) {
        free(problem->weight);
        problem->weight = malloc(problem->count * sizeof *problem->weight);
        if (problem->weight == NULL)
            code = fpl_fail(err, FPL_SYSTEM, "out of memory");
        else
            weigh_settings(problem, e, count, *noise * *noise);
    }
    free(e);
    return code;
}
