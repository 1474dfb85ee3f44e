/* nested.c - nested models compared: what a law says only if a parameter is needed.
 *
 * The restricted model is refitted on the same rows and objective; the test is of the likelihood-ratio
 * type for Huber's loss,
 *
 *   T = 2 (F_restricted - F_full) E psi' / E psi^2   ~   chi squared, q degrees of freedom
 *
 * (Hampel, Ronchetti, Rousseeuw and Stahel 1986, chapter 7; for squared loss the usual ratio).  It
 * takes runs as independent: misfit that runs of a cell share makes it too sure, so the error on held
 * out cells with and without the parameter stands beside it.
 *
 * Questions name parameters, so they are asked of every law that has them.  The free shifts of ln lr*
 * by format are a larger model than joint's: one parameter per format beyond lr_shift (fitted by
 * moving each quantized row's learning rate, struct fpl_problem, shifts).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "findings.h"
#include "restart.h"

#define CERTAIN 0.01
#define MOST_SHIFTS 12

struct question {
    const char *text;     /* asked of the data */
    const char *param[2]; /* held at 0; or tied, the second to the first */
    int tied;
    const char *yes, *no;
};

static const struct question questions[] = {
    {"does the optimal batch depend on N", {"batch_N", NULL}, 0, "it does", "it need not"},
    {"does the optimal batch depend on D", {"batch_D", NULL}, 0, "it does", "it need not"},
    {"does the optimal learning rate depend on N", {"lr_N", NULL}, 0, "it does", "it need not"},
    {"does the optimal learning rate depend on D", {"lr_D", NULL}, 0, "it does", "it need not"},
    {"does the optimal learning rate depend on the format", {"lr_shift", NULL}, 0, "it does", "it need not"},
    {"do N and D interact", {"c", NULL}, 0, "they do", "they need not"},
    {"are delta and nu equal", {"delta", "nu"}, 1, "they differ", "they may be"},
    {"are alpha and beta equal", {"alpha", "beta"}, 1, "they differ", "they may be"},
    {"is the bowl skewed", {"bowl_s1", "bowl_s2"}, 0, "it is", "it need not be"},
};

double fpl_test_factor(const struct fpl_objective *o, const double *theta, int params) {
    const size_t room = 2 * o->problem->count;
    double *residual = malloc(room * sizeof *residual), inside = 0.0, square = 0.0;
    if (residual == NULL) return (double)NAN;
    const size_t count = fpl_residuals(o->problem, theta, residual);
    for (size_t i = 0; i < count; i++) {
        const double r = fmin(fabs(residual[i]), o->delta);
        inside += fabs(residual[i]) <= o->delta;
        square += r * r;
    }
    free(residual);
    const double n = (double)count, left = n > params ? n - params : 1.0;
    return inside / n / fmax(1e-300, square / left);
}

static int index_of(const struct fpl_law *law, const char *name) {
    for (int j = 0; name != NULL && j < law->params; j++)
        if (strcmp(law->param[j].name, name) == 0) return j;
    return -1;
}

/* Restrict a copy of the problem as the question says; the number of parameters less, 0: cannot. */
static int restrict_problem(struct fpl_problem *p, const struct question *q) {
    const int first = index_of(p->law, q->param[0]), second = index_of(p->law, q->param[1]);
    if (first < 0 || !p->active[first]) return 0;
    if (q->tied) {
        if (second < 0 || !p->active[second]) return 0;
        p->active[second] = 0;
        p->tie[second] = first + 1;
        p->lo[first] = fmax(p->lo[first], p->lo[second]);
        p->hi[first] = fmin(p->hi[first], p->hi[second]);
        return 1;
    }
    int fewer = 0;
    for (int k = 0; k < 2; k++) {
        const int j = k == 0 ? first : second;
        if (j < 0 || !p->active[j]) continue;
        if (p->lo[j] > 0.0 || p->hi[j] < 0.0) return 0; /* 0 is outside its domain */
        p->active[j] = 0;
        p->lo[j] = p->hi[j] = 0.0;
        fewer++;
    }
    return fewer;
}

/* The k-th restricted model in *less and its minimum from theta; the number of parameters less. */
static int nested_model(const struct fpl_objective *full, const double *theta, size_t k,
                        struct fpl_problem *less, double *at, double *value) {
    struct fpl_objective o = *full;
    struct fpl_minimum minimum;
    *less = *full->problem;
    const int fewer = restrict_problem(less, &questions[k]);
    if (fewer == 0) return 0;
    o.problem = less;
    memcpy(at, theta, (size_t)less->law->params * sizeof *at);
    fpl_minimise(&o, at, 300, 1e-10, &minimum);
    *value = minimum.value;
    return fewer;
}

int fpl_nested_minimum(const struct fpl_objective *full, const double *theta, size_t k, double *at,
                       double *value) {
    struct fpl_problem less;
    return k < sizeof questions / sizeof questions[0] ? nested_model(full, theta, k, &less, at, value) : -1;
}

/* Root mean square of cells held out one at a time; NaN where there is one cell only. */
static double held_out_error(const struct fpl_objective *o, const double *theta,
                             const struct fpl_runs *runs) {
    struct fpl_fit scratch = {.law = o->problem->law};
    const enum fpl_code code = fpl_hold_out(&scratch, o, theta, runs, "cell", NULL);
    free(scratch.held);
    return code == FPL_OK ? scratch.held_out_rms : (double)NAN;
}

static void tell(struct fpl_fit *fit, const struct question *q, double statistic, int freedom, double p,
                 const double rms[2]) {
    char held[96] = "";
    if (!isnan(rms[0]) && !isnan(rms[1]))
        snprintf(held, sizeof held, "; held-out cells: rms %.3g %% with, %.3g %% without", 100.0 * rms[0],
                 100.0 * rms[1]);
    fpl_finding(fit, "%s? %s (likelihood-ratio-type test: %.1f on %d, p %s%.2g%s)", q->text,
                p < CERTAIN ? q->yes : q->no, statistic, freedom, p < 1e-10 ? "< " : "= ", fmax(p, 1e-10),
                held);
}

/* Index from 1 of each quantized row's format; the number of formats, 0: none or too many. */
static int number_formats(struct fpl_problem *p) {
    int formats = 0;
    for (size_t i = 0; i < p->count; i++) {
        p->row[i].format = 0;
        if (!p->row[i].at.quantized) continue;
        for (size_t k = 0; k < i && p->row[i].format == 0; k++)
            if (p->row[k].at.quantized && p->row[k].at.e == p->row[i].at.e &&
                p->row[k].at.m == p->row[i].at.m && p->row[k].at.g == p->row[i].at.g)
                p->row[i].format = p->row[k].format;
        if (p->row[i].format == 0) p->row[i].format = ++formats;
        if (formats > MOST_SHIFTS || p->law->params + formats > FPL_LAW_PARAMS) return 0;
    }
    return formats;
}

/* Free shifts of ln lr* by format instead of one lr_shift. */
static enum fpl_code ask_free_shifts(struct fpl_fit *fit, const struct fpl_objective *full,
                                     const double *theta, double factor, struct fpl_error *err) {
    const struct fpl_law *law = full->problem->law;
    if (law->shift_at < 0 || !full->problem->active[law->shift_at]) return FPL_OK;
    struct fpl_problem wide = *full->problem;
    wide.row = malloc(wide.count * sizeof *wide.row);
    if (wide.row == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    memcpy(wide.row, full->problem->row, wide.count * sizeof *wide.row);
    wide.shifts = number_formats(&wide);
    if (wide.shifts > 1) {
        double moved[FPL_LAW_PARAMS];
        struct fpl_objective o = *full;
        struct fpl_minimum before, after;
        memcpy(moved, theta, (size_t)law->params * sizeof *moved);
        fpl_minimise(full, moved, 300, 1e-10, &before);
        wide.active[law->shift_at] = 0;
        wide.lo[law->shift_at] = wide.hi[law->shift_at] = moved[law->shift_at];
        for (int k = 0; k < wide.shifts; k++) {
            const int j = law->params + k;
            moved[j] = 0.0;
            wide.active[j] = 1;
            wide.lo[j] = -5.0;
            wide.hi[j] = 5.0;
        }
        o.problem = &wide;
        fpl_minimise(&o, moved, 300, 1e-10, &after);
        const int freedom = wide.shifts - 1;
        const double statistic = fmax(0.0, 2.0 * factor * (before.value - after.value)),
                     p = fpl_chi_squared_above(statistic, freedom);
        fpl_finding(
            fit,
            "does every format need a shift of its own beyond lr_shift? %s (%d formats, likelihood-ratio-"
            "type test: %.1f on %d, p = %.2g)",
            p < CERTAIN ? "it does" : "it need not", wide.shifts, statistic, freedom, p);
    }
    free(wide.row);
    return FPL_OK;
}

enum fpl_code fpl_find_nested(struct fpl_fit *fit, const struct fpl_objective *full, const double *theta,
                              const struct fpl_runs *runs, struct fpl_error *err) {
    const struct fpl_problem *problem = full->problem;
    const double factor = fpl_test_factor(full, theta, fpl_problem_active(problem));
    double rms[2] = {(double)NAN, (double)NAN};
    struct fpl_minimum minimum;
    double at[FPL_LAW_PARAMS];
    if (!(factor > 0.0)) return FPL_OK;
    memcpy(at, theta, sizeof at);
    fpl_minimise(full, at, 300, 1e-10, &minimum);
    const double best = minimum.value;
    const int cells = problem->cells >= 4 && problem->cells <= 64 && (problem->law->use & FPL_CURVES) == 0;
    if (cells) rms[0] = held_out_error(full, theta, runs);
    for (size_t k = 0; k < sizeof questions / sizeof questions[0]; k++) {
        struct fpl_problem less;
        struct fpl_objective o = *full;
        double value;
        const int freedom = nested_model(full, theta, k, &less, at, &value);
        if (freedom == 0) continue;
        const double statistic = fmax(0.0, 2.0 * factor * (value - best)); /* below 0: rounding alone */
        o.problem = &less;
        if (cells) rms[1] = held_out_error(&o, at, runs);
        tell(fit, &questions[k], statistic, freedom, fpl_chi_squared_above(statistic, freedom), rms);
    }
    return ask_free_shifts(fit, full, theta, factor, err);
}
