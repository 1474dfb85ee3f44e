/* identify.c - which parameters the data pin down, told in words.
 *
 * The covariance of theta near the minimum is scale^2 H^-1, H the information matrix and scale
 * the noise of one run.  Measured in each parameter's own unit (struct fpl_law_param, scale:
 * the standard error beyond which its value means nothing), a parameter whose standard error
 * exceeds 1 is free.  H may be singular, so the inverse is built from eigenvalues with a
 * floor; the direction of the least one tells which parameters trade off.
 *
 * lr_shift is judged by what it moves: its standard error times the root mean square penalty
 * of the quantized runs, against half an octave of learning rate.
 *
 * A parameter that the data push against a bound is left out of H (the bound identifies it)
 * and named in the message.
 */
#include "identify.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define P FPL_LAW_PARAMS
#define HALF_OCTAVE 0.34657359027997264

static double shift_unit(const struct fpl_problem *p, const double *theta) {
    const struct fpl_law *law = p->law;
    double sum = 0.0, count = 0.0;
    for (size_t i = 0; i < p->count; i++) {
        if (!p->row[i].at.quantized) continue;
        double grad[P];
        law->log_lr(law, theta, &p->row[i].at, grad);
        sum += grad[law->shift_at] * grad[law->shift_at]; /* the penalty, squared */
        count += 1.0;
    }
    return HALF_OCTAVE / fmax(1e-9, sqrt(sum / fmax(1.0, count)));
}

static int at_bound(const struct fpl_problem *p, const double *theta, int j) {
    const double slack = 1e-9 * (1.0 + fabs(theta[j]));
    return theta[j] <= p->lo[j] + slack || theta[j] >= p->hi[j] - slack;
}

static void append(char *text, size_t size, const char *piece) {
    const size_t used = strlen(text);
    snprintf(text + used, size - used, "%s", piece);
}

static void append_name(char *text, size_t size, const char *name, int *count) {
    if (*count > 0) append(text, size, ", ");
    append(text, size, name);
    (*count)++;
}

/* Covariates that do not vary, named first: the usual reason. */
static void explain(const struct fpl_problem *p, char *text, size_t size) {
    double x0 = HUGE_VAL, x1 = -HUGE_VAL, y0 = HUGE_VAL, y1 = -HUGE_VAL;
    for (size_t i = 0; i < p->count; i++) {
        x0 = fmin(x0, p->row[i].at.x);
        x1 = fmax(x1, p->row[i].at.x);
        y0 = fmin(y0, p->row[i].at.y);
        y1 = fmax(y1, p->row[i].at.y);
    }
    const int needs_lr = (p->law->use & FPL_NEED_LR) != 0;
    if (p->N[0] == p->N[1]) append(text, size, "; all runs have one N");
    if (p->D[0] == p->D[1]) append(text, size, "; all runs have one D");
    if (needs_lr && x0 == x1) append(text, size, "; all runs have one learning rate");
    if (needs_lr && y0 == y1) append(text, size, "; all runs have one batch");
}

static void describe(const struct fpl_problem *p, const int *index, int count, const double *variance,
                     const double *trade, struct fpl_fit *fit) {
    const struct fpl_law *law = p->law;
    char *text = fit->message;
    const size_t size = sizeof fit->message;
    int named = 0;
    append(text, size, "the runs do not determine ");
    for (int i = 0; i < count; i++)
        if (variance[i] > 1.0 && !law->param[index[i]].nuisance)
            append_name(text, size, law->param[index[i]].name, &named);
    explain(p, text, size);
    for (int i = 0; i < count; i++)
        if (index[i] == law->shift_at && variance[i] > 1.0)
            append(text, size,
                   "; quantized runs stand too near their optimal learning rate to tell its shift");
    named = 0;
    for (int i = 0; i < count; i++) named += fabs(trade[i]) > 0.3;
    if (named < 2) return;
    append(text, size, "; least determined together: ");
    named = 0;
    for (int i = 0; i < count; i++)
        if (fabs(trade[i]) > 0.3) append_name(text, size, law->param[index[i]].name, &named);
}

static void remark(const struct fpl_problem *p, const double *theta, const int *index, int count,
                   const double *variance, struct fpl_fit *fit) {
    int named = 0;
    for (int j = 0; j < p->law->params; j++)
        if (p->active[j] && at_bound(p, theta, j)) {
            if (named == 0) append(fit->message, sizeof fit->message, "at a bound: ");
            append_name(fit->message, sizeof fit->message, p->law->param[j].name, &named);
        }
    const int bounds = named;
    named = 0;
    for (int i = 0; i < count; i++)
        if (variance[i] > 1.0) {
            if (named == 0)
                append(fit->message, sizeof fit->message,
                       bounds > 0 ? "; shape hardly determined: " : "shape hardly determined: ");
            append_name(fit->message, sizeof fit->message, p->law->param[index[i]].name, &named);
        }
}

/* Information in each parameter's own unit, divided by the noise of one run, and the indices of the
 * parameters in it.  `whole`: of the data alone, without the priors, and with the parameters that a bound
 * holds; else with the priors and without those. */
static int scaled_information(const struct fpl_objective *objective, const double *theta, int whole,
                              int *index, double *a) {
    const struct fpl_problem *p = objective->problem;
    const struct fpl_law *law = p->law;
    double h[P * P], unit[P];
    int count = 0;
    fpl_information(objective, theta, h);
    const double noise = objective->scale * objective->scale;
    for (int j = 0; j < law->params; j++) {
        if (!p->active[j]) continue;
        unit[count] = j == law->shift_at ? shift_unit(p, theta) : law->param[j].scale;
        const double own = unit[count] * unit[count] * h[j * law->params + j] / noise;
        if (!whole && at_bound(p, theta, j) && j != law->shift_at && own > 1.0) continue;
        index[count++] = j;
    }
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < count; k++)
            a[i * count + k] = unit[i] * unit[k] * h[index[i] * law->params + index[k]] / noise;
        const double prior = law->param[index[i]].prior;
        if (!whole && prior > 0.0) a[i * count + i] += unit[i] * unit[i] / (prior * prior);
    }
    return count;
}

#define TOLD_BY_DATA 0.3 /* of a pseudo-run's width: it moves such a parameter by less than a tenth */

/* Does the published parameter j change when theta_k does? */
static int depends_on(const struct fpl_problem *p, const double *theta, int j, int k) {
    double moved[P], before[P], after[P];
    memcpy(moved, theta, sizeof moved);
    p->law->publish(p->law, moved, &p->centre, before);
    moved[k] += 0.1 * p->law->param[k].scale;
    p->law->publish(p->law, moved, &p->centre, after);
    return fabs(after[j] - before[j]) > 1e-9 * fabs(before[j]);
}

/* Shapes that carry a pseudo-run tell each other apart: where one of them is not told, the others'
 * values are those of one description among many. */
static void shapes_stand_together(const struct fpl_problem *p, int *identified) {
    int all = 1;
    for (int pass = 0; pass < 2; pass++)
        for (int j = 0; j < p->law->params; j++) {
            const struct fpl_law_param *param = &p->law->param[j];
            if (!p->active[j] || !param->nuisance || !(param->prior > 0.0)) continue;
            if (pass == 0) all &= identified[j];
            if (pass == 1) identified[j] &= all;
        }
}

/* Parameters that the data alone tell, to within their unit and well within their pseudo-run's width;
 * and whose published form does not depend on one that they do not tell.  A parameter at a bound counts as
 * free here: the bound was chosen, not measured, and others that trade off with it are no surer for it. */
static void mark_identified(const struct fpl_objective *objective, const double *theta, struct fpl_fit *fit) {
    const struct fpl_problem *p = objective->problem;
    double a[P * P], values[P], vectors[P * P];
    int index[P], own[P] = {0};
    const int count = scaled_information(objective, theta, 1, index, a);
    if (count == 0) return;
    fpl_eigen(a, values, vectors, count);
    for (int i = 0; i < count; i++) {
        const struct fpl_law_param *param = &p->law->param[index[i]];
        const double most = param->prior > 0.0 ? fmin(1.0, TOLD_BY_DATA * param->prior / param->scale) : 1.0;
        double variance = 0.0;
        for (int k = 0; k < count; k++)
            variance += vectors[i * count + k] * vectors[i * count + k] / fmax(values[k], 1e-10);
        own[index[i]] = variance <= most * most && !at_bound(p, theta, index[i]);
    }
    shapes_stand_together(p, own);
    for (int j = 0; j < p->law->params; j++) {
        fit->identified[j] = own[j];
        for (int k = 0; k < p->law->params && fit->identified[j]; k++)
            if (p->active[k] && !own[k] && depends_on(p, theta, j, k)) fit->identified[j] = 0;
    }
}

void fpl_identify(const struct fpl_objective *objective, const double *theta, struct fpl_fit *fit) {
    const struct fpl_problem *p = objective->problem;
    const struct fpl_law *law = p->law;
    double a[P * P], values[P], vectors[P * P], variance[P], trade[P];
    int index[P];
    fit->message[0] = '\0';
    memset(fit->identified, 0, sizeof fit->identified);
    const int count = scaled_information(objective, theta, 0, index, a);
    if (count == 0) return;
    fpl_eigen(a, values, vectors, count);
    const double least = 1e-10 * fmax(1.0, values[count - 1]);
    fit->condition = sqrt(values[count - 1] / fmax(values[0], 1e-16 * values[count - 1]));
    int unidentified = 0;
    for (int i = 0; i < count; i++) {
        variance[i] = 0.0;
        for (int k = 0; k < count; k++)
            variance[i] += vectors[i * count + k] * vectors[i * count + k] / fmax(least, values[k]);
        trade[i] = vectors[i * count];
        unidentified |= variance[i] > 1.0 && !law->param[index[i]].nuisance;
    }
    mark_identified(objective, theta, fit);
    if (unidentified) {
        fit->status = FPL_FIT_UNIDENTIFIED;
        describe(p, index, count, variance, trade, fit);
    } else {
        remark(p, theta, index, count, variance, fit);
    }
}

#define TRADES 4

void fpl_find_trades(const struct fpl_objective *objective, const double *theta, struct fpl_fit *fit) {
    const struct fpl_law *law = objective->problem->law;
    double a[P * P], values[P], vectors[P * P], covariance[P * P];
    int index[P];
    const int n = scaled_information(objective, theta, 0, index, a);
    if (n == 0) return;
    fpl_eigen(a, values, vectors, n);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            covariance[i * n + k] = 0.0;
            for (int e = 0; e < n; e++)
                covariance[i * n + k] +=
                    vectors[i * n + e] * vectors[k * n + e] / fmax(values[e], 1e-12 * values[n - 1]);
        }
    fpl_finding(fit, "condition number of the parameters in their own units: %.2g%s", fit->condition,
                fit->condition > 1e4 ? "; some combination of them is hardly determined" : "");
    char told[P * P] = {0};
    for (int rank = 0; rank < TRADES; rank++) {
        int first = -1, second = -1;
        double most = 0.95;
        for (int i = 0; i < n; i++)
            for (int k = 0; k < i; k++) {
                const double r =
                    fabs(covariance[i * n + k]) / sqrt(covariance[i * n + i] * covariance[k * n + k]);
                if (r > most && !told[i * n + k]) most = r, first = k, second = i;
            }
        if (first < 0) break;
        told[second * n + first] = 1;
        fpl_finding(fit, "%s and %s trade off (correlation %+.3f): read them together, not one by one",
                    law->param[index[first]].name, law->param[index[second]].name,
                    copysign(most, covariance[second * n + first]));
    }
}
