/* residuals.c - what is left in the residuals: patterns by covariate, and the noise floor.
 *
 * Residuals clipped at delta (Huber's psi) are regressed on each covariate (straight line, then
 * square) and compared between formats; patterns whose t or F probability, times the number of
 * covariates tried (Bonferroni), is below 1 % are told, with their size from end to end.  A pattern in
 * N or D is a wrong form, in learning rate or batch a wrong bowl, between formats a wrong penalty.
 *
 * Noise floor: repeated seeds tell the noise of one run, whatever the law (weights.c).  If the fit's
 * residual variance s^2 were noise, d s_seed^2 / s^2 would be chi squared with the d degrees of freedom
 * between seeds; where it is improbably small, the law misses something that is not noise.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "findings.h"

#define CERTAIN 0.01

struct covariate {
    const char *name;
    double (*of)(const struct fpl_row *row);
};

static double of_n(const struct fpl_row *row) { return row->at.n; }
static double of_d(const struct fpl_row *row) { return row->at.d; }
static double of_lr(const struct fpl_row *row) { return row->at.x; }
static double of_batch(const struct fpl_row *row) { return row->at.y; }
static double of_e(const struct fpl_row *row) { return row->at.quantized ? row->at.e : (double)NAN; }
static double of_m(const struct fpl_row *row) { return row->at.quantized ? row->at.m : (double)NAN; }
static double of_g(const struct fpl_row *row) { return row->at.quantized ? row->at.g : (double)NAN; }
static double of_quantized(const struct fpl_row *row) { return row->at.quantized; }

static const struct covariate covariates[] = {
    {"ln N", of_n},          {"ln D", of_d},          {"ln lr", of_lr},     {"ln batch", of_batch},
    {"exponent bits", of_e}, {"mantissa bits", of_m}, {"log2 block", of_g}, {"being quantized", of_quantized},
};
enum { COVARIATES = sizeof covariates / sizeof covariates[0] };

/* Correlation of psi with x (order 1), or with (x - mean)^2 freed of x (order 2), its count and
 * slope times range. */
static double correlate(const struct fpl_problem *p, const double *psi, const struct covariate *c, int order,
                        double *count, double *swing) {
    double n = 0.0, mean = 0.0, mean2 = 0.0, xx = 0.0, x3 = 0.0, low = HUGE_VAL, high = -HUGE_VAL;
    for (size_t i = 0; i < p->count; i++) {
        const double x = c->of(&p->row[i]);
        if (p->row[i].censored || !isfinite(x)) continue;
        n += 1.0;
        mean += x;
        low = fmin(low, x);
        high = fmax(high, x);
    }
    *count = n;
    if (n < 8.0 || !(high > low)) return 0.0;
    mean /= n;
    for (size_t i = 0; i < p->count; i++) {
        const double x = c->of(&p->row[i]) - mean;
        if (p->row[i].censored || !isfinite(x)) continue;
        xx += x * x;
        x3 += x * x * x;
        mean2 += x * x / n;
    }
    double zz = 0.0, zr = 0.0, rr = 0.0, r_mean = 0.0, z_low = HUGE_VAL, z_high = -HUGE_VAL;
    for (size_t i = 0, k = 0; i < p->count; i++) {
        if (p->row[i].censored) continue;
        const double r = psi[k++];
        if (isfinite(c->of(&p->row[i]))) r_mean += r / n;
    }
    for (size_t i = 0, k = 0; i < p->count; i++) {
        if (p->row[i].censored) continue;
        const double x = c->of(&p->row[i]) - mean, r = psi[k++] - r_mean;
        if (!isfinite(x)) continue;
        const double z = order == 1 ? x : x * x - mean2 - x3 / xx * x;
        zz += z * z;
        zr += z * r;
        rr += r * r;
        z_low = fmin(z_low, z);
        z_high = fmax(z_high, z);
    }
    if (!(zz > 1e-12 * n) || !(rr > 0.0)) return 0.0;
    *swing = zr / zz * (z_high - z_low);
    return zr / sqrt(zz * rr);
}

/* Two-sided probability of a correlation among n values, by Fisher's z. */
static double probability(double correlation, double n) {
    const double z = atanh(fmin(fabs(correlation), 1.0 - 1e-12)) * sqrt(fmax(1.0, n - 3.0));
    return erfc(z / sqrt(2.0));
}

static void find_patterns(struct fpl_fit *fit, const struct fpl_problem *p, const double *psi) {
    int told = 0;
    for (int c = 0; c < COVARIATES; c++)
        for (int order = 1; order <= 2; order++) {
            double count, swing = 0.0;
            const double r = correlate(p, psi, &covariates[c], order, &count, &swing);
            const double chance = fmin(1.0, probability(r, count) * 2.0 * COVARIATES);
            if (chance >= CERTAIN) continue;
            told++;
            fpl_finding(
                fit,
                "residuals %s with %s: %.2g %% from end to end (p = %.1g after Bonferroni); the law's form "
                "misses this",
                order == 2 ? (swing > 0.0 ? "are bent upwards" : "are bent downwards")
                           : (swing > 0.0 ? "rise" : "fall"),
                covariates[c].name, 100.0 * fabs(swing), fmax(chance, 1e-12));
        }
    if (told == 0) fpl_finding(fit, "residuals show no pattern by N, D, learning rate, batch or format");
}

/* Spread of cell means of residuals beyond what runs scattered at random would show. */
static void find_cells(struct fpl_fit *fit, const struct fpl_problem *p, const double *psi, double params) {
    double *sum = calloc(2 * p->cells, sizeof *sum), n = 0.0, between = 0.0, total = 0.0, used = 0.0;
    if (sum == NULL) return;
    for (size_t i = 0, k = 0; i < p->count; i++) {
        if (p->row[i].censored) continue;
        const double r = psi[k++];
        sum[2 * p->row[i].cell] += r;
        sum[2 * p->row[i].cell + 1] += 1.0;
        total += r * r;
        n += 1.0;
    }
    for (size_t c = 0; c < p->cells; c++)
        if (sum[2 * c + 1] > 0.0) {
            between += sum[2 * c] * sum[2 * c] / sum[2 * c + 1];
            used += 1.0;
        }
    free(sum);
    if (n - used - params < 4.0 || used < 3.0) return;
    const double within = (total - between) / (n - used), statistic = between / within;
    const double p_value = fpl_chi_squared_above(statistic, fmax(1.0, used - fmin(params, used - 1.0)));
    if (p_value < CERTAIN)
        fpl_finding(
            fit,
            "cells are off by %.2g %% on average beyond the noise inside them (p = %.1g): intervals from "
            "resampled runs are too narrow for new cells; --bootstrap-unit cell shows them",
            100.0 * sqrt(fmax(0.0, (between - (used - 1.0) * within) / n)), fmax(p_value, 1e-12));
}

enum fpl_code fpl_find_patterns(struct fpl_fit *fit, const struct fpl_objective *o, const double *theta,
                                const struct fpl_runs *runs, double seed_noise, double seed_freedom,
                                struct fpl_error *err) {
    const struct fpl_problem *p = o->problem;
    (void)runs;
    if ((p->law->use & FPL_OPTIMA) != 0) return FPL_OK;
    double *psi = malloc(2 * p->count * sizeof *psi);
    if (psi == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    const size_t count = fpl_residuals(p, theta, psi);
    const double params = fpl_problem_active(p), limit = isfinite(o->delta) ? o->delta : HUGE_VAL;
    for (size_t i = 0; i < count; i++) psi[i] = fmax(-limit, fmin(limit, psi[i]));
    find_patterns(fit, p, psi);
    find_cells(fit, p, psi, params);
    free(psi);
    if (!(seed_noise > 0.0)) {
        fpl_finding(
            fit, "no setting was run with two seeds: the noise floor is unknown, and misfit cannot be told "
                 "from noise");
        return FPL_OK;
    }
    const double freedom = (double)count - params, scale = fit->scale;
    const double ratio = scale * scale / (seed_noise * seed_noise);
    fpl_finding(fit,
                "noise floor from repeated seeds: %.3g %% (%.0f degrees of freedom); the fit's robust scale "
                "is %.3g %%, "
                "%s",
                100.0 * seed_noise, seed_freedom, 100.0 * scale,
                freedom > 0.0 && 1.0 - fpl_chi_squared_above(seed_freedom / ratio, seed_freedom) < CERTAIN
                    ? "more than noise explains: the law's form misses something"
                    : "no more than noise explains");
    return FPL_OK;
}
