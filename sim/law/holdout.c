/* holdout.c - the error of a law on runs that it has not seen.
 *
 * The fit is repeated without the held-out runs, from the full fit's parameters and under its
 * objective (delta and rows stand), and the log residuals of those runs are summed: root mean
 * square and mean, the latter telling a bias such as an extrapolation that runs too low.
 *
 *   an expression         one refit without the runs for which it holds: 'N>1e9'
 *   largest-N, largest-D  one refit without the runs of the largest N (D): the direction of use
 *   cell                  each exactly equal (N, D) held out in turn, every run once
 *
 * Hold out along the direction of extrapolation: a random share of the runs flatters a law.  Errors
 * are also kept by cell, with the optimum that a fit without the cell predicts there (regret.h).
 */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting.h"

/* Refit without the rows of weight 0, from theta, which becomes that of the refit. */
static void refit_without(const struct fpl_objective *full, double *theta, const double *weight) {
    struct fpl_minimum minimum;
    struct fpl_objective o = *full;
    o.weight = weight;
    fpl_minimise(&o, theta, 300, 1e-9, &minimum);
}

/* Residuals of one row: one, or two for laws of optima. */
static int residuals_of(const struct fpl_law *law, const double *theta, const struct fpl_row *row,
                        double r[2]) {
    if ((law->use & FPL_OPTIMA) != 0) {
        r[0] = row->at.x - law->log_lr(law, theta, &row->at, NULL);
        r[1] = row->at.y - law->log_batch(law, theta, &row->at, NULL);
        return 2;
    }
    r[0] = row->target - fpl_law_fitted(law)(law, theta, &row->at, NULL);
    return 1;
}

/* Sums over the held-out rows of one cell: runs, residuals, their squares, the optimum. */
struct sums {
    double runs, count, mean, square, lr, batch;
};

static void add_row(const struct fpl_law *law, const double *theta, const struct fpl_row *row,
                    struct sums *s) {
    double r[2];
    if (row->censored) return;
    const int count = residuals_of(law, theta, row, r);
    for (int k = 0; k < count; k++) {
        s->count += 1.0;
        s->mean += r[k];
        s->square += r[k] * r[k];
    }
    s->runs += 1.0;
    struct fpl_law_at at = row->at;
    at.x = at.y = (double)NAN;
    at.quantized = 0;
    s->lr = law->log_lr != NULL ? exp(law->log_lr(law, theta, &at, NULL)) : (double)NAN;
    s->batch = law->log_batch != NULL ? exp(law->log_batch(law, theta, &at, NULL)) : (double)NAN;
}

static enum fpl_code each_cell(const struct fpl_objective *o, const double *theta, struct sums *sums,
                               struct fpl_error *err) {
    const struct fpl_problem *p = o->problem;
    const size_t count = p->count;
    if (p->cells < 2) return fpl_fail(err, FPL_INVALID, "--hold-out cell: the runs have only one (N, D)");
    double *weights = malloc((size_t)p->threads * count * sizeof *weights);
    if (weights == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
#pragma omp parallel for schedule(dynamic) num_threads(p->threads)
    for (size_t c = 0; c < p->cells; c++) {
        double *weight = weights + (size_t)omp_get_thread_num() * count, moved[FPL_LAW_PARAMS];
        for (size_t i = 0; i < count; i++) weight[i] = p->row[i].cell == c ? 0.0 : 1.0;
        memcpy(moved, theta, sizeof moved);
        refit_without(o, moved, weight);
        for (size_t i = 0; i < count; i++)
            if (weight[i] == 0.0) add_row(p->law, moved, &p->row[i], &sums[c]);
    }
    free(weights);
    return FPL_OK;
}

/* match[i] is 1 for the rows to hold out. */
static enum fpl_code choose_rows(const struct fpl_problem *p, const struct fpl_runs *runs,
                                 const char *expression, unsigned char *match, struct fpl_error *err) {
    const int size = strcmp(expression, "largest-N") == 0, data = strcmp(expression, "largest-D") == 0;
    if (size || data) {
        double largest = 0.0; /* of the runs: not every law takes D */
        for (int pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < p->count; i++) {
                const struct fpl_run *r = &runs->run[p->row[i].run];
                const double x = size ? r->N : r->D;
                if (pass == 0) largest = fmax(largest, x); /* passes over NaN */
                match[i] = x == largest;
            }
        return FPL_OK;
    }
    unsigned char *all = malloc(runs->count + 1);
    if (all == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    enum fpl_code code = fpl_runs_match(runs, expression, all, err);
    if (code != FPL_OK) code = fpl_fail_at(err, "--hold-out");
    for (size_t i = 0; code == FPL_OK && i < p->count; i++) match[i] = all[p->row[i].run];
    free(all);
    return code;
}

static enum fpl_code some_rows(const struct fpl_objective *o, const double *theta,
                               const struct fpl_runs *runs, const char *expression, struct sums *sums,
                               struct fpl_error *err) {
    const struct fpl_problem *p = o->problem;
    const size_t need = (size_t)fpl_problem_active(p);
    unsigned char *match = malloc(p->count);
    double *weight = malloc(p->count * sizeof *weight), moved[FPL_LAW_PARAMS];
    size_t held = 0;
    enum fpl_code code = FPL_OK;
    if (match == NULL || weight == NULL) {
        code = fpl_fail(err, FPL_SYSTEM, "out of memory");
        goto done;
    }
    code = choose_rows(p, runs, expression, match, err);
    if (code != FPL_OK) goto done;
    for (size_t i = 0; i < p->count; i++) {
        weight[i] = match[i] ? 0.0 : 1.0;
        held += match[i];
    }
    if (held == 0)
        code = fpl_fail(err, FPL_INVALID, "--hold-out '%s': holds for none of the %zu runs of the fit",
                        expression, p->count);
    else if (p->count - held < need)
        code = fpl_fail(err, FPL_INVALID, "--hold-out '%s': leaves %zu runs for %zu parameters", expression,
                        p->count - held, need);
    if (code != FPL_OK) goto done;
    memcpy(moved, theta, sizeof moved);
    refit_without(o, moved, weight);
    for (size_t i = 0; i < p->count; i++)
        if (match[i]) add_row(p->law, moved, &p->row[i], &sums[p->row[i].cell]);
done:
    free(match);
    free(weight);
    return code;
}

/* The fit's held-out fields, whole and by cell. */
static enum fpl_code keep(struct fpl_fit *fit, const struct fpl_problem *p, const struct fpl_runs *runs,
                          const struct sums *sums, const char *expression, struct fpl_error *err) {
    struct sums all = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    free(fit->held);
    fit->held_count = 0;
    fit->held = calloc(p->cells, sizeof *fit->held);
    if (fit->held == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    for (size_t c = 0; c < p->cells; c++) {
        const struct sums *s = &sums[c];
        if (!(s->count > 0.0)) continue;
        all.runs += s->runs;
        all.count += s->count;
        all.mean += s->mean;
        all.square += s->square;
        size_t i = 0;
        while (p->row[i].cell != c) i++;
        const struct fpl_run *r = &runs->run[p->row[i].run];
        fit->held[fit->held_count++] = (struct fpl_held_cell){
            r->N, r->D, (size_t)s->runs, s->mean / s->count, sqrt(s->square / s->count), s->lr, s->batch};
    }
    snprintf(fit->hold_out, sizeof fit->hold_out, "%s", expression);
    fit->held_out_runs = (size_t)all.runs;
    fit->held_out_mean = all.mean / all.count;
    fit->held_out_rms = sqrt(all.square / all.count);
    return FPL_OK;
}

enum fpl_code fpl_hold_out(struct fpl_fit *fit, const struct fpl_objective *o, const double *theta,
                           const struct fpl_runs *runs, const char *expression, struct fpl_error *err) {
    struct sums *sums = calloc(o->problem->cells + 1, sizeof *sums);
    if (sums == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    enum fpl_code code = strcmp(expression, "cell") == 0 ? each_cell(o, theta, sums, err)
                                                         : some_rows(o, theta, runs, expression, sums, err);
    if (code == FPL_OK) code = keep(fit, o->problem, runs, sums, expression, err);
    free(sums);
    return code;
}
