/* holdout.c - the error of a law on runs that it has not seen.
 *
 * The fit is repeated without the held-out runs, from the full fit's parameters and under its
 * objective (delta and rows stand), and the log residuals of those runs are summed: root mean
 * square and mean, the latter telling a bias such as an extrapolation that runs too low.
 *
 *   an expression   one refit without the runs for which it holds: 'N>1e9'
 *   cell            each exactly equal (N, D) held out in turn, every run once
 *
 * Hold out along the direction of extrapolation: a random share of the runs flatters a law.
 */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "law_internal.h"

/* Refit without the masked rows; sums of the held-out log residuals. */
static void refit_without(const struct fpl_objective *full, const double *full_theta, const double *weight,
                          double sums[3]) {
    double theta[FPL_LAW_PARAMS];
    struct fpl_minimum minimum;
    memcpy(theta, full_theta, sizeof theta);
    struct fpl_objective o = *full;
    o.weight = weight;
    fpl_minimise(&o, theta, 300, 1e-9, &minimum);
    const struct fpl_law *law = o.problem->law;
    for (size_t i = 0; i < o.problem->count; i++) {
        if (weight[i] != 0.0) continue;
        const struct fpl_row *row = &o.problem->row[i];
        double r[2];
        int outcomes = 1;
        if ((law->use & FPL_OPTIMA) != 0) {
            r[0] = row->at.x - law->log_lr(theta, &row->at, NULL);
            r[1] = row->at.y - law->log_batch(theta, &row->at, NULL);
            outcomes = 2;
        } else {
            r[0] = row->target - law->log_loss(theta, &row->at, NULL);
        }
        for (int k = 0; k < outcomes; k++) {
            sums[0] += 1.0;
            sums[1] += r[k];
            sums[2] += r[k] * r[k];
        }
    }
}

static enum fpl_code hold_out_cells(const struct fpl_objective *o, const double *theta, double sums[3],
                                    struct fpl_error *err) {
    const size_t cells = o->problem->cells, count = o->problem->count;
    double(*part)[3] = calloc(cells, sizeof *part);
    double *weights = malloc((size_t)o->problem->threads * count * sizeof *weights);
    if (part == NULL || weights == NULL || cells < 2) {
        free(part);
        free(weights);
        if (cells < 2) return fpl_fail(err, FPL_INVALID, "--hold-out cell: the runs have only one (N, D)");
        return fpl_fail(err, FPL_SYSTEM, "out of memory");
    }
#pragma omp parallel for schedule(dynamic) num_threads(o->problem->threads)
    for (size_t c = 0; c < cells; c++) {
        double *weight = weights + (size_t)omp_get_thread_num() * count;
        for (size_t i = 0; i < count; i++) weight[i] = o->problem->row[i].cell == c ? 0.0 : 1.0;
        refit_without(o, theta, weight, part[c]);
    }
    for (size_t c = 0; c < cells; c++)
        for (int k = 0; k < 3; k++) sums[k] += part[c][k];
    free(part);
    free(weights);
    return FPL_OK;
}

static enum fpl_code hold_out_where(const struct fpl_objective *o, const double *theta,
                                    const struct fpl_runs *runs, const char *expression, double sums[3],
                                    struct fpl_error *err) {
    const size_t count = o->problem->count, need = (size_t)fpl_problem_active(o->problem);
    unsigned char *match = malloc(runs->count);
    double *weight = malloc(count * sizeof *weight);
    enum fpl_code code = FPL_OK;
    if (match == NULL || weight == NULL)
        code = fpl_fail(err, FPL_SYSTEM, "out of memory");
    else if (fpl_runs_match(runs, expression, match, err) != FPL_OK)
        code = fpl_fail_at(err, "--hold-out");
    if (code == FPL_OK) {
        size_t held = 0;
        for (size_t i = 0; i < count; i++) {
            weight[i] = match[o->problem->row[i].run] ? 0.0 : 1.0;
            held += match[o->problem->row[i].run];
        }
        if (held == 0)
            code = fpl_fail(err, FPL_INVALID, "--hold-out '%s': holds for none of the %zu runs of the fit",
                            expression, count);
        else if (count - held < need)
            code = fpl_fail(err, FPL_INVALID, "--hold-out '%s': leaves %zu runs for %zu parameters",
                            expression, count - held, need);
        else
            refit_without(o, theta, weight, sums);
    }
    free(match);
    free(weight);
    return code;
}

enum fpl_code fpl_hold_out(struct fpl_fit *fit, const struct fpl_objective *o, const double *theta,
                           const struct fpl_runs *runs, const char *expression, struct fpl_error *err) {
    double sums[3] = {0.0, 0.0, 0.0};
    const enum fpl_code code = strcmp(expression, "cell") == 0
                                   ? hold_out_cells(o, theta, sums, err)
                                   : hold_out_where(o, theta, runs, expression, sums, err);
    if (code != FPL_OK) return code;
    snprintf(fit->hold_out, sizeof fit->hold_out, "%s", expression);
    fit->held_out_runs = (size_t)sums[0] / ((fit->law->use & FPL_OPTIMA) != 0 ? 2 : 1);
    fit->held_out_mean = sums[1] / sums[0];
    fit->held_out_rms = sqrt(sums[2] / sums[0]);
    return FPL_OK;
}
