/* fit.c - from a table of runs to a fitted law.
 *
 *   1. choose rows (rows.c)
 *   2. starts from the law (start.c), each screened by a few steps, the best ones minimised
 *   3. Huber's delta = 1.35 times the robust scale of the residuals, floor 1e-3, re-estimated
 *      until it stands; where the window follows the noise, the rows too
 *   4. a Newton polish on the stated objective; restarts must come back to it (restart.c): only
 *      gradient and restarts together make a fit "converged"
 *   5. what the data identify (identify.c), held-out error (holdout.c), bootstrap (bootstrap.c)
 *
 * Huber on log residuals, summed (arXiv 2404.10102, appendix).  Laws of optima are least
 * squares of logarithms, as published.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "findings.h"
#include "fitting.h"
#include "identify.h"
#include "manner.h"
#include "restart.h"

#define STARTS 64
#define POLISHED 6
#define DELTA_FLOOR 1e-3
#define DELTA_FACTOR 1.35
#define WINDOW_WIDEST 0.30
#define WINDOW_NARROWEST 0.02
#define WINDOW_STEP 1.5 /* narrowed by this factor */
#define WINDOW_STEPS 8
#define WINDOW_NOISE 10.0 /* never below so many residual scales */
#define WINDOW_GAIN 1.1   /* a wider window may cost this factor in residual scale */
#define WINDOW_RUNS 5     /* runs per parameter that must remain */
#define WINDOW_OPTIMA 0.0025
#define ROUNDS 12 /* of restarts, each from the lowest minimum so far */

const char *const fpl_objective_names[FPL_OBJECTIVES + 1] = {"huber_log", "squared_log", "absolute_log",
                                                             NULL};
const char *const fpl_fit_status_names[FPL_FIT_STATUSES + 1] = {"converged", "not_converged", "unidentified",
                                                                NULL};

/* State of one fit on its way. */
struct work {
    struct fpl_problem problem;
    struct fpl_fit *fit;
    double theta[FPL_LAW_PARAMS];
    struct fpl_minimum minimum;
    double *residual; /* room for two per row */
    int fixed_delta;
    const struct fpl_fit_options *options;
    double seed_noise, seed_freedom; /* between repeated seeds; NaN, 0: none */
};

static struct fpl_objective objective_of(const struct work *w) {
    return (struct fpl_objective){.problem = &w->problem, .delta = w->fit->delta, .scale = w->fit->scale};
}

double fpl_robust_scale(double *residual, size_t count, int params) {
    for (size_t i = 0; i < count; i++) residual[i] = fabs(residual[i]);
    /* quickselect would do; a table is sorted once per fit */
    for (size_t gap = count / 2; gap > 0; gap /= 2)
        for (size_t i = gap; i < count; i++) {
            const double x = residual[i];
            size_t j = i;
            for (; j >= gap && residual[j - gap] > x; j -= gap) residual[j] = residual[j - gap];
            residual[j] = x;
        }
    const double median = fpl_quantile(residual, count, 0.5), n = (double)count, p = params;
    return 1.4826 * median * (n > p ? sqrt(n / (n - p)) : 1.0);
}

/* ---- starts ---------------------------------------------------------------------------------- */

static int by_value(const struct fpl_minimum *m, int a, int b) {
    const double x = isfinite(m[a].value) ? m[a].value : HUGE_VAL,
                 y = isfinite(m[b].value) ? m[b].value : HUGE_VAL;
    return x < y || (!(y < x) && a < b);
}

/* Order the indices of minima by value. */
static void rank(const struct fpl_minimum *m, int count, int *order) {
    for (int i = 0; i < count; i++) {
        int at = i;
        for (; at > 0 && by_value(m, i, order[at - 1]); at--) order[at] = order[at - 1];
        order[at] = i;
    }
}

/* Minimise from every start: a few steps of all, then the best to the end. */
static enum fpl_code minimise_from_starts(struct work *w, struct fpl_error *err) {
    double(*theta)[FPL_LAW_PARAMS] = calloc(STARTS, sizeof *theta);
    struct fpl_minimum minima[STARTS];
    int order[STARTS];
    if (theta == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    const int count = w->problem.law->start(&w->problem, theta, STARTS);
    if (count == 0) {
        free(theta);
        return fpl_fail(err, FPL_SYSTEM, "%s: out of memory for starts", w->problem.law->name);
    }
    const struct fpl_objective o = objective_of(w);
#pragma omp parallel for schedule(dynamic) num_threads(w->problem.threads)
    for (int i = 0; i < count; i++) fpl_approach(&o, theta[i], 12, 1e-9, &minima[i]);
    rank(minima, count, order);
    const int kept = count < POLISHED ? count : POLISHED;
#pragma omp parallel for schedule(dynamic) num_threads(w->problem.threads)
    for (int i = 0; i < kept; i++) fpl_minimise(&o, theta[order[i]], 300, 1e-9, &minima[order[i]]);
    int best = order[0];
    for (int i = 1; i < kept; i++)
        if (by_value(minima, order[i], best)) best = order[i];
    w->fit->starts = kept;
    w->fit->starts_agree = 0;
    for (int i = 0; i < kept; i++)
        w->fit->starts_agree +=
            minima[order[i]].value <= minima[best].value * (1.0 + 1e-5) + fpl_negligible(&w->problem);
    memcpy(w->theta, theta[best], sizeof w->theta);
    w->minimum = minima[best];
    free(theta);
    if (!isfinite(w->minimum.value))
        return fpl_fail(err, FPL_INVALID, "%s: no start gives a finite loss for these runs",
                        w->problem.law->name);
    return FPL_OK;
}

/* ---- delta and window ------------------------------------------------------------------------ */

static int is_optima(const struct work *w) { return (w->fit->law->use & FPL_OPTIMA) != 0; }

static void measure_scale(struct work *w) {
    const size_t count = fpl_residuals(&w->problem, w->theta, w->residual);
    w->fit->scale = fmax(1e-9, fpl_robust_scale(w->residual, count, fpl_problem_active(&w->problem)));
}

/* Alternate between the minimum and the scale that its delta follows. */
static void settle_delta(struct work *w) {
    for (int round = 0; round < 25; round++) {
        const double before = w->fit->delta;
        measure_scale(w);
        if (w->fixed_delta) {
            if (round > 0) break; /* the priors' scale stands after one more minimisation */
        } else {
            w->fit->delta = fmax(DELTA_FLOOR, DELTA_FACTOR * w->fit->scale);
        }
        const struct fpl_objective o = objective_of(w);
        fpl_minimise(&o, w->theta, 300, 1e-9, &w->minimum);
        if (!w->fixed_delta && fabs(w->fit->delta - before) <= 1e-3 * before) break;
    }
    if (w->fit->kind == FPL_ABSOLUTE_LOG) {
        w->fit->delta = fpl_absolute_delta(w->fit->scale);
        const struct fpl_objective o = objective_of(w);
        fpl_descend(&o, w->fit->kind, w->theta, 1e-9, &w->minimum);
    }
}

static enum fpl_code take_rows(struct work *w, const struct fpl_runs *runs, double window,
                               struct fpl_error *err) {
    struct fpl_problem next = {.threads = w->problem.threads};
    const struct fpl_law *law = w->fit->law;
    enum fpl_code code = fpl_rows_select(law, runs, window, &next, &w->fit->left, err);
    if (code != FPL_OK) return code;
    code = fpl_problem_restrict(&next, w->options->fix, w->options->release, err);
    if (code == FPL_OK && w->options->censor) code = fpl_censor_rows(&next, runs, &w->fit->left, err);
    if (code == FPL_OK)
        code = fpl_seed_weights(&next, runs, w->options->seed_weights, &w->seed_noise, &w->seed_freedom, err);
    if (code != FPL_OK) {
        fpl_problem_free(&next);
        return code;
    }
    fpl_problem_free(&w->problem);
    w->problem = next;
    const size_t need = (size_t)fpl_problem_active(&next);
    if (next.count < need)
        return fpl_fail(err, FPL_INVALID,
                        "%s: %s has %zu parameters and only %zu runs can be used (%zu left out%s%s)",
                        runs->source, law->name, need, next.count, w->fit->left.count,
                        w->fit->left.count > 0 ? ", the first: " : "",
                        w->fit->left.count > 0 ? w->fit->left.item[0].why : "");
    free(w->residual);
    w->residual = malloc(2 * next.count * sizeof *w->residual);
    if (w->residual == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory for %zu runs", next.count);
    return FPL_OK;
}

static enum fpl_code fit_rows(struct work *w, struct fpl_error *err) {
    if (!w->fixed_delta) w->fit->delta = 0.02;
    w->fit->scale = 0.01;
    const enum fpl_code code = minimise_from_starts(w, err);
    if (code == FPL_OK) settle_delta(w);
    return code;
}

/* Rows of a window and the minimum over them, from where the last window left off. */
static enum fpl_code narrow(struct work *w, const struct fpl_runs *runs, double window,
                            struct fpl_error *err) {
    double published[FPL_LAW_PARAMS];
    const struct fpl_law *law = w->fit->law;
    law->publish(law, w->theta, &w->problem.centre, published);
    const enum fpl_code code = take_rows(w, runs, window, err);
    if (code != FPL_OK) return code;
    law->internal(law, published, &w->problem.centre, w->theta);
    fpl_problem_settle(&w->problem, w->theta);
    w->fit->window = window;
    settle_delta(w);
    return FPL_OK;
}

/* Windows from the widest down while runs remain and noise stays a tenth of them; then back to
 * the widest whose residual scale is within a tenth of the least (rows.c says why). */
static enum fpl_code follow_noise(struct work *w, const struct fpl_runs *runs, struct fpl_error *err) {
    double windows[WINDOW_STEPS] = {w->fit->window}, scales[WINDOW_STEPS] = {w->fit->scale};
    double least = w->fit->scale, last = w->fit->window;
    int count = 1;
    while (count < WINDOW_STEPS) {
        const double next = fmax(WINDOW_NARROWEST, last / WINDOW_STEP);
        const size_t enough = WINDOW_RUNS * (size_t)fpl_problem_active(&w->problem);
        if (next > 0.95 * last || next < WINDOW_NOISE * w->fit->scale || w->problem.count < enough) break;
        last = next;
        const enum fpl_code code = narrow(w, runs, next, err);
        if (code != FPL_OK) return code;
        if (w->problem.count < enough) break;
        windows[count] = next;
        scales[count++] = w->fit->scale;
        least = fmin(least, w->fit->scale);
    }
    int chosen = 0;
    while (scales[chosen] > WINDOW_GAIN * least) chosen++;
    if (windows[chosen] != w->fit->window) {
        const enum fpl_code code = narrow(w, runs, windows[chosen], err);
        if (code != FPL_OK) return code;
    }
    return chosen > 0 ? fit_rows(w, err) : FPL_OK;
}

static enum fpl_code fit_window(struct work *w, const struct fpl_runs *runs,
                                const struct fpl_fit_options *options, struct fpl_error *err) {
    const int near = (w->fit->law->use & FPL_ONLY_NEAR_BEST) != 0, given = options->window > 0.0;
    const int follow = near && !given && !is_optima(w);
    w->fit->window = !near ? (double)NAN : given ? options->window : follow ? WINDOW_WIDEST : WINDOW_OPTIMA;
    enum fpl_code code = take_rows(w, runs, near ? w->fit->window : 0.0, err);
    if (code == FPL_OK) code = fit_rows(w, err);
    if (code == FPL_OK && follow) code = follow_noise(w, runs, err);
    return code;
}

/* ---- convergence ------------------------------------------------------------------------------- */

/* 1 if gradient and restarts agree; the reason otherwise. */
static int judge(struct work *w, char *why, size_t size) {
    int moved = 1, back = 0;
    for (int round = 0; round < ROUNDS && moved; round++) {
        settle_delta(w);
        const struct fpl_objective o = objective_of(w);
        fpl_polish(&o, w->theta, &w->minimum);
        moved = fpl_restart(&o, w->fit->kind, round, w->theta, &w->minimum, &back);
    }
    w->fit->starts += FPL_JITTERS;
    w->fit->starts_agree += back;
    if (moved) {
        snprintf(why, size, "restarts keep finding a lower objective");
        return 0;
    }
    if (!w->minimum.converged) {
        snprintf(why, size,
                 "the gradient is not zero at the best point (a further decrease of %.1e of the objective is "
                 "predicted)",
                 w->minimum.decrement);
        return 0;
    }
    if (back == 0 && w->fit->starts_agree < 2) {
        snprintf(why, size, "no two starts reach the same objective");
        return 0;
    }
    return 1;
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static void publish(struct work *w, const struct fpl_runs *runs) {
    struct fpl_fit *fit = w->fit;
    const struct fpl_problem *p = &w->problem;
    const size_t residuals = fpl_residuals(p, w->theta, w->residual);
    double sum = 0.0;
    for (size_t i = 0; i < residuals; i++) sum += w->residual[i] * w->residual[i];
    fit->rms = sqrt(sum / (double)residuals);
    fit->objective = w->minimum.value;
    if (fit->kind == FPL_ABSOLUTE_LOG) fit->objective /= fit->delta; /* delta |r| far from 0 */
    fit->used = p->count;
    memcpy(fit->where, runs->where, sizeof fit->where);
    for (size_t i = 0; i < p->count; i++) {
        const char *schedule = runs->run[p->row[i].run].schedule;
        if (i > 0 && strcmp(schedule, fit->schedule) != 0) schedule = "mixed";
        snprintf(fit->schedule, sizeof fit->schedule, "%.15s", schedule);
    }
    for (size_t i = 0; i < p->count && fit->recipe[0] == '\0'; i++)
        if (fpl_run_is_quantized(&runs->run[p->row[i].run]))
            memcpy(fit->recipe, runs->run[p->row[i].run].recipe, sizeof fit->recipe);
    fit->free_params = fpl_problem_active(p);
    fit->centre = p->centre;
    memcpy(fit->N, p->N, sizeof fit->N);
    memcpy(fit->D, p->D, sizeof fit->D);
    memcpy(fit->range, p->range, sizeof fit->range);
    fit->law->publish(fit->law, w->theta, &p->centre, fit->value);
    if (p->other_manners > 0)
        fpl_finding(fit,
                    "%zu quantized runs are left out: their recipes compute otherwise than most (rounding, "
                    "scales, operands), which the law does not tell; --where fits them alone",
                    p->other_manners);
    for (int j = 0; j < fit->law->params; j++) {
        /* A parameter held by its bounds is reported as what it was held at. */
        fit->active[j] = p->active[j] || !(p->hi[j] > p->lo[j]);
        fit->lo[j] = fit->hi[j] = (double)NAN;
    }
}

static enum fpl_code diagnose(struct work *w, const struct fpl_objective *o, const struct fpl_runs *runs,
                              struct fpl_error *err) {
    fpl_find_trades(o, w->theta, w->fit);
    enum fpl_code code = fpl_find_patterns(w->fit, o, w->theta, runs, w->seed_noise, w->seed_freedom, err);
    if (code == FPL_OK && w->fit->status == FPL_FIT_CONVERGED)
        code = fpl_find_nested(w->fit, o, w->theta, runs, err);
    return code;
}

static enum fpl_code run_fit(struct work *w, const struct fpl_runs *runs,
                             const struct fpl_fit_options *options, struct fpl_error *err) {
    struct fpl_fit *fit = w->fit;
    enum fpl_code code = fit_window(w, runs, options, err);
    if (code != FPL_OK) return code;
    char why[256] = "";
    const int converged = judge(w, why, sizeof why);
    publish(w, runs);
    const struct fpl_objective o = objective_of(w);
    /* In a valley that the data leave flat no minimisation settles, and which parameters are free
     * says more than that it did not. */
    fit->status = FPL_FIT_CONVERGED;
    fpl_identify(&o, w->theta, fit);
    if (!converged && fit->status != FPL_FIT_UNIDENTIFIED) {
        fit->status = FPL_FIT_NOT_CONVERGED;
        snprintf(fit->message, sizeof fit->message, "not converged: %s", why);
    }
    if (options->hold_out != NULL) code = fpl_hold_out(fit, &o, w->theta, runs, options->hold_out, err);
    if (code == FPL_OK && options->bootstrap > 0)
        code = fpl_bootstrap(fit, &o, w->theta, runs, options->bootstrap, options->seed, err);
    if (code == FPL_OK && options->profile != NULL)
        code = fpl_profile(fit, &o, w->theta, options->profile, err);
    if (code == FPL_OK && options->diagnose) code = diagnose(w, &o, runs, err);
    if (code == FPL_OK && fit->status == FPL_FIT_NOT_CONVERGED)
        code = fpl_fail(err, FPL_NOT_CONVERGED, "%s: %s", fit->law->name, fit->message);
    return code;
}

static enum fpl_code fit_law(const struct fpl_law *law, const struct fpl_runs *runs,
                             const struct fpl_fit_options *options, struct fpl_fit **out,
                             struct fpl_error *err) {
    const int squared = (law->use & FPL_OPTIMA) != 0 || options->objective == FPL_SQUARED_LOG;
    struct work w = {.problem = {.threads = options->threads > 0 ? options->threads : 1},
                     .fixed_delta = squared || (options->delta > 0.0 && options->objective == FPL_HUBER_LOG),
                     .options = options};
    if (!(options->level > 0.0 && options->level < 1.0))
        return fpl_fail(err, FPL_INVALID, "level %g: expected a share between 0 and 1", options->level);
    if (options->bootstrap < 0 || options->bootstrap > 1000000)
        return fpl_fail(err, FPL_INVALID, "bootstrap %d: expected 0 to 1000000 resamples",
                        options->bootstrap);
    w.fit = calloc(1, sizeof *w.fit);
    if (w.fit == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    w.fit->law = law;
    w.fit->level = options->level;
    w.fit->kind = squared ? FPL_SQUARED_LOG : options->objective;
    w.fit->unit = options->unit;
    w.fit->delta = squared ? HUGE_VAL : options->delta;
    w.fit->held_out_rms = w.fit->held_out_mean = (double)NAN;
    const enum fpl_code code = run_fit(&w, runs, options, err);
    fpl_problem_free(&w.problem);
    free(w.residual);
    if (code == FPL_OK || code == FPL_NOT_CONVERGED)
        *out = w.fit;
    else
        fpl_fit_free(w.fit);
    return code;
}

enum fpl_code fpl_law_fit(const struct fpl_law *law, const struct fpl_runs *runs,
                          const struct fpl_fit_options *options, struct fpl_fit **out,
                          struct fpl_error *err) {
    double rms[4] = {0.0, 0.0, 0.0, 0.0};
    *out = NULL;
    enum fpl_code code = fpl_law_of_options(&law, runs, options, rms, err);
    if (code == FPL_OK) code = fit_law(law, runs, options, out, err);
    if (*out != NULL) memcpy((*out)->base_rms, rms, sizeof rms);
    return code;
}
