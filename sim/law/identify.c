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
        law->log_lr(theta, &p->row[i].at, grad);
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

void fpl_identify(const struct fpl_objective *objective, const double *theta, struct fpl_fit *fit) {
    const struct fpl_problem *p = objective->problem;
    const struct fpl_law *law = p->law;
    double h[P * P], a[P * P], values[P], vectors[P * P], variance[P], trade[P], unit[P];
    int index[P], count = 0;
    fit->message[0] = '\0';
    fpl_information(objective, theta, h);
    const double noise = objective->scale * objective->scale;
    for (int j = 0; j < law->params; j++) {
        if (!p->active[j]) continue;
        unit[count] = j == law->shift_at ? shift_unit(p, theta) : law->param[j].scale;
        const double own = unit[count] * unit[count] * h[j * law->params + j] / noise;
        if (at_bound(p, theta, j) && j != law->shift_at && own > 1.0) continue;
        index[count++] = j;
    }
    if (count == 0) return;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < count; k++)
            a[i * count + k] = unit[i] * unit[k] * h[index[i] * law->params + index[k]] / noise;
        const double prior = law->param[index[i]].prior;
        if (prior > 0.0) a[i * count + i] += unit[i] * unit[i] / (prior * prior);
    }
    fpl_eigen(a, values, vectors, count);
    const double least = 1e-10 * fmax(1.0, values[count - 1]);
    int unidentified = 0;
    for (int i = 0; i < count; i++) {
        variance[i] = 0.0;
        for (int k = 0; k < count; k++)
            variance[i] += vectors[i * count + k] * vectors[i * count + k] / fmax(least, values[k]);
        trade[i] = vectors[i * count];
        unidentified |= variance[i] > 1.0 && !law->param[index[i]].nuisance;
    }
    if (unidentified) {
        fit->status = FPL_FIT_UNIDENTIFIED;
        describe(p, index, count, variance, trade, fit);
    } else {
        remark(p, theta, index, count, variance, fit);
    }
}
