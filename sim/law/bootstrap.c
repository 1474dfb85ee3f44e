/* bootstrap.c - intervals by resampling runs, cells, or runs paired by seed.
 *
 * Every resample gives each unit an independent random weight of mean 1 (the Bayesian bootstrap,
 * Rubin 1981) and refits from the full fit's parameters.  Weights have the same mean as the counts
 * of drawing units with replacement, but no unit ever vanishes: with 84 runs and 20 parameters a
 * third of the design missing makes refits singular, and intervals useless.
 *
 * Residuals of a fit are smaller than its errors, most where a run stands alone: the variance of
 * run i's residual is sigma^2 (1 - h_i), h_i its leverage.  Its weight is therefore a gamma variate
 * of variance 1/(1 - h_i), which makes the spread of refits what the leverage-corrected covariance HC2
 * of MacKinnon and White (1985) is; with h = 0 it is Rubin's exponential.  Cells and seeds get the usual
 * cluster factor G/(G-1) (n-1)/(n-p) instead.  Deviations are widened by t/z, the quantile of Student's
 * t over the normal one, at n - p degrees of freedom (cells and seeds: G - 1).  On synthetic tables of
 * every law these intervals cover what they say (tests/sim/test_law_coverage.c).
 *
 *   run    every run by itself.  Rows of one loss curve are neighbours in time and alike: there a
 *          unit is a block of rows, of the length that its autocorrelation asks for (Carlstein 1986),
 *          and the weights' variance makes good what blocks of that length miss of it
 *   cell   all runs of equal (N, D): also covers what the law's form misses there
 *   seed   runs of a cell that share a seed, so that differences between formats keep their pairing
 *
 * The parameter vectors are kept, so that any decision (optimum, critical size, best split)
 * gets its interval by evaluating it on each.
 *
 * Determinism: weight u of resample k is a function of (seed, k, u), and resamples are
 * independent, so any number of threads gives the same bits.
 */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/random.h"
#include "fitting.h"

#define MOST_LEVERAGE 0.7 /* beyond it the weights' skew does more harm than the correction good */
#define CLIPPED 3.0       /* residual scales */
#define STREAM 0

const char *const fpl_unit_names[FPL_UNITS + 1] = {"run", "cell", "seed", NULL};

/* ---- gamma variates --------------------------------------------------------------------------- */

struct source {
    uint64_t seed, unit;
    uint32_t resample, attempt;
};

static void uniforms(struct source *s, double u[2]) {
    uint32_t w[4];
    fpl_random_block(s->seed, s->unit | (uint64_t)s->attempt++ << 40, s->resample,
                     fpl_stream(FPL_STREAM_BOOTSTRAP, STREAM), w);
    u[0] = fpl_random_uniform(w[0], w[1]);
    u[1] = fpl_random_uniform(w[2], w[3]);
}

/* Mean 1, variance v: shape 1/v (Marsaglia and Tsang 2000; shapes below 1 by the power of a uniform). */
static double gamma_weight(struct source *s, double v) {
    double u[2];
    if (v == 1.0) {
        uniforms(s, u);
        return -log1p(-u[0]);
    }
    const double shape = 1.0 / v, lifted = shape < 1.0 ? shape + 1.0 : shape;
    const double d = lifted - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    double x, t;
    do {
        do {
            uniforms(s, u);
            x = sqrt(-2.0 * log1p(-u[0])) * cos(6.2831853071795865 * u[1]);
            t = 1.0 + c * x;
        } while (t <= 0.0);
        t = t * t * t;
        uniforms(s, u);
    } while (log1p(-u[0]) >= 0.5 * x * x + d - d * t + d * log(t));
    return d * t * v * (shape < 1.0 ? pow(1.0 - u[1], v) : 1.0);
}

/* ---- units -------------------------------------------------------------------------------------- */

struct units {
    size_t count;
    size_t *of;       /* per row */
    double *leverage; /* per row */
    double *variance; /* per unit, of its weight */
    double wider;
};

/* Autocorrelation of neighbouring rows; a mislabelled row must not hide it, so residuals are clipped. */
static double lag_one(const struct fpl_problem *p, const double *residual, double limit) {
    double product = 0.0, square = 0.0;
    for (size_t i = 1; i < p->count; i++) {
        if (p->row[i].cell != p->row[i - 1].cell) continue;
        const double a = fmax(-limit, fmin(limit, residual[i])),
                     b = fmax(-limit, fmin(limit, residual[i - 1]));
        product += a * b;
        square += 0.5 * (a * a + b * b);
    }
    return square > 0.0 ? fmin(0.99, fmax(0.0, product / square)) : 0.0;
}

/* Block of an autoregression of order one, (2 rho/(1 - rho^2))^(2/3) n^(1/3), n rows per curve. */
static size_t block_length(const struct fpl_problem *p, double rho) {
    const double n = (double)p->count / (double)p->cells;
    const double length = pow(2.0 * rho / (1.0 - rho * rho), 2.0 / 3.0) * cbrt(n);
    return (size_t)fmax(1.0, fmin(ceil(length), floor(n / 4.0)));
}

/* Variance of a sum over that which blocks of this length see of it: blocks cut neighbours apart. */
static double missed_by_blocks(double rho, size_t length) {
    double seen = 1.0, power = 1.0;
    for (size_t k = 1; k < length; k++) {
        power *= rho;
        seen += 2.0 * (1.0 - (double)k / (double)length) * power;
    }
    return (1.0 + rho) / (1.0 - rho) / seen;
}

/* Blocks of rows; the factor by which their weights' variance must exceed that of whole clusters, 0: out
 * of memory. */
static double mark_blocks(struct units *u, const struct fpl_objective *o, const double *theta) {
    const struct fpl_problem *p = o->problem;
    double *residual = malloc((p->count + 1) * sizeof *residual);
    if (residual == NULL) return 0.0;
    fpl_residuals(p, theta, residual);
    const double rho = lag_one(p, residual, CLIPPED * o->scale);
    const size_t length = block_length(p, rho);
    size_t inside = 0;
    free(residual);
    for (size_t i = 0; i < p->count; i++) {
        const int fresh = i == 0 || p->row[i].cell != p->row[i - 1].cell;
        inside = fresh ? 0 : inside + 1;
        if (inside % length == 0) u->count++;
        u->of[i] = u->count - 1;
    }
    return missed_by_blocks(rho, length);
}

/* Runs of a cell with one seed, numbered as they appear. */
static void mark_seeds(struct units *u, const struct fpl_problem *p, const struct fpl_runs *runs) {
    for (size_t i = 0; i < p->count; i++) {
        size_t k = 0;
        while (k < i && !(p->row[k].cell == p->row[i].cell &&
                          runs->run[p->row[k].run].seed == runs->run[p->row[i].run].seed))
            k++;
        u->of[i] = k < i ? u->of[k] : u->count++;
    }
}

/* Leverage of every row; of laws of two residuals a row their mean. */
static void leverages(const struct fpl_objective *o, const double *theta, double *leverage) {
    const struct fpl_problem *p = o->problem;
    const struct fpl_law *law = p->law;
    double h[FPL_LAW_PARAMS * FPL_LAW_PARAMS], a[FPL_LAW_PARAMS * FPL_LAW_PARAMS];
    int index[FPL_LAW_PARAMS], n = 0;
    for (int j = 0; j < law->params; j++)
        if (p->active[j]) index[n++] = j;
    fpl_information(o, theta, h);
    for (int i = 0; i < n; i++) {
        const struct fpl_law_param *info = &law->param[index[i]];
        for (int k = 0; k < n; k++) a[i * n + k] = h[index[i] * law->params + index[k]];
        a[i * n + i] *= 1.0 + 1e-10;
        if (info->prior > 0.0) a[i * n + i] += o->scale * o->scale / (info->prior * info->prior);
        a[i * n + i] += 1e-300;
    }
    const int definite = fpl_factor(a, n), pairs = (law->use & FPL_OPTIMA) != 0;
    for (size_t r = 0; r < p->count; r++) {
        double sum = 0.0;
        for (int k = 0; k <= pairs && definite; k++) {
            double grad[FPL_LAW_PARAMS], g[FPL_LAW_PARAMS];
            const struct fpl_law_at *at = &p->row[r].at;
            if (pairs)
                (k == 0 ? law->log_lr : law->log_batch)(law, theta, at, grad);
            else
                fpl_law_fitted(law)(law, theta, at, grad);
            for (int i = 0; i < n; i++) g[i] = grad[index[i]];
            fpl_forward(a, g, n);
            for (int i = 0; i < n; i++) sum += g[i] * g[i] / (1.0 + pairs);
        }
        const double weight = p->weight != NULL ? p->weight[r] : 1.0;
        leverage[r] = weight * sum;
    }
}

static double corrected(double leverage) { return 1.0 / (1.0 - fmin(MOST_LEVERAGE, leverage)); }

/* A block's leverage is the sum of its rows', the trace of its part of the hat matrix. */
static void block_variances(struct units *u, size_t rows, double missed) {
    for (size_t k = 0; k < u->count; k++) u->variance[k] = 0.0;
    for (size_t i = 0; i < rows; i++) u->variance[u->of[i]] += u->leverage[i];
    for (size_t k = 0; k < u->count; k++) u->variance[k] = missed * corrected(u->variance[k]);
}

/* Quantile of Student's t over the normal one (Cornish-Fisher), level two-sided. */
static double student_over_normal(double level, double freedom) {
    const double z = fpl_normal_width(level), z2 = z * z, f = fmax(freedom, 2.0);
    const double t = z + z * (z2 + 1.0) / (4.0 * f) + z * ((5.0 * z2 + 16.0) * z2 + 3.0) / (96.0 * f * f) +
                     z * (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / (384.0 * f * f * f);
    return t / z;
}

static enum fpl_code make_units(struct units *u, const struct fpl_fit *fit, const struct fpl_objective *o,
                                const double *theta, const struct fpl_runs *runs, struct fpl_error *err) {
    const struct fpl_problem *p = o->problem;
    const double n = (double)p->count, params = fpl_problem_active(p);
    const int curves = (p->law->use & FPL_CURVES) != 0;
    u->of = malloc(p->count * sizeof *u->of);
    u->variance = malloc(p->count * sizeof *u->variance);
    u->leverage = malloc(p->count * sizeof *u->leverage);
    if (u->of == NULL || u->variance == NULL || u->leverage == NULL)
        return fpl_fail(err, FPL_SYSTEM, "out of memory");
    int clusters = 1;
    double missed = 0.0; /* of blocks */
    if (fit->unit == FPL_UNIT_CELL) {
        u->count = p->cells;
        for (size_t i = 0; i < p->count; i++) u->of[i] = p->row[i].cell;
    } else if (fit->unit == FPL_UNIT_SEED) {
        mark_seeds(u, p, runs);
    } else if (curves) {
        missed = mark_blocks(u, o, theta);
        if (!(missed > 0.0)) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    } else {
        clusters = 0;
        u->count = p->count;
        for (size_t i = 0; i < p->count; i++) u->of[i] = i;
    }
    if (u->count < 2)
        return fpl_fail(err, FPL_INVALID,
                        "--bootstrap-unit %s: the %zu runs of the fit are one unit; at least two are needed",
                        fpl_unit_names[fit->unit], p->count);
    const double groups = (double)u->count;
    if (missed > 0.0) {
        leverages(o, theta, u->leverage);
        block_variances(u, p->count, missed);
    } else if (clusters) {
        const double factor = groups / (groups - 1.0) * (n > params ? (n - 1.0) / (n - params) : 1.0);
        for (size_t k = 0; k < u->count; k++) u->variance[k] = factor;
    } else {
        leverages(o, theta, u->leverage);
        for (size_t k = 0; k < u->count; k++) u->variance[k] = corrected(u->leverage[k]);
    }
    u->wider = student_over_normal(fit->level, clusters && !curves ? groups - 1.0 : groups - params);
    return FPL_OK;
}

/* ---- intervals ------------------------------------------------------------------------------------- */

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double fpl_quantile(const double *sorted, size_t count, double p) {
    if (count == 0) return (double)NAN;
    const double at = fmin(fmax(p * ((double)count + 1.0) - 1.0, 0.0), (double)count - 1.0);
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

/* ---- resamples --------------------------------------------------------------------------------------- */

/* One refit; writes the published vector.  weight: room for units and rows. */
static void resample(const struct fpl_objective *full, const struct units *u, const double *theta,
                     uint64_t seed, uint32_t k, double *weight, double *published) {
    const struct fpl_problem *problem = full->problem;
    double t[FPL_LAW_PARAMS], *row = weight + u->count;
    struct fpl_minimum minimum;
    struct fpl_objective objective = *full;
    for (size_t i = 0; i < u->count; i++) {
        struct source source = {seed, i, k, 0};
        weight[i] = gamma_weight(&source, u->variance[i]);
    }
    for (size_t i = 0; i < problem->count; i++) row[i] = weight[u->of[i]];
    objective.weight = row;
    memcpy(t, theta, (size_t)problem->law->params * sizeof *t);
    fpl_minimise(&objective, t, 60, 1e-6, &minimum);
    for (int j = 0; j < problem->law->params; j++)
        if (problem->active[j]) t[j] = theta[j] + u->wider * (t[j] - theta[j]);
    fpl_problem_settle(problem, t);
    problem->law->publish(problem->law, t, &problem->centre, published);
}

enum fpl_code fpl_bootstrap(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                            const struct fpl_runs *runs, int count, uint64_t seed, struct fpl_error *err) {
    const struct fpl_problem *problem = objective->problem;
    const size_t params = (size_t)problem->law->params;
    struct units u = {0, NULL, NULL, NULL, 1.0};
    double *weights = NULL;
    enum fpl_code code = make_units(&u, fit, objective, theta, runs, err);
    if (code != FPL_OK) goto done;
    const size_t room = u.count + problem->count;
    fit->vector = malloc((size_t)count * params * sizeof *fit->vector);
    weights = malloc((size_t)problem->threads * room * sizeof *weights);
    if (fit->vector == NULL || weights == NULL) {
        code = fpl_fail(err, FPL_SYSTEM, "out of memory for %d resamples", count);
        goto done;
    }
    fit->bootstrap = count;
    fit->units = u.count;
#pragma omp parallel num_threads(problem->threads)
    {
        double *weight = weights + (size_t)omp_get_thread_num() * room;
#pragma omp for schedule(dynamic, 4)
        for (int k = 0; k < count; k++)
            resample(objective, &u, theta, seed, (uint32_t)k, weight, fit->vector + (size_t)k * params);
    }
    if (!intervals(fit)) code = fpl_fail(err, FPL_SYSTEM, "out of memory");
done:
    free(weights);
    free(u.of);
    free(u.leverage);
    free(u.variance);
    return code;
}
