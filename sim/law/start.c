/* start.c - where a minimisation begins.
 *
 * Levels: L = E + A e^(-alpha n) + B e^(-beta d + c n) + P log2(block) e^(beta d - alpha n - delta e - nu m)
 * is linear in (E, A, B, P) once the exponents are fixed.  The exponents run over a grid, the
 * linear four are projected out by non-negative least squares of relative residuals, and
 * the best grid points are handed on (variable projection, on a grid).
 *
 * Bowl: inside a group (equal N, D, format) the level is constant, so a regression of ln loss
 * with group means removed gives the quadratic bowl and its optimum with no model of levels.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "problem.h"

#define ROW_LIMIT 2000 /* of longer tables every k-th row is used: it is only a start */

static const double exponents[] = {0.08, 0.2, 0.32, 0.48, 0.7}, interactions[] = {0.0, 0.2, 0.4},
                    widths[] = {0.5, 1.2, 2.2, 3.5};
#define COUNT(array) ((int)(sizeof(array) / sizeof(array)[0]))

/* Powers of every row at every grid value, so that the grid itself needs no exponential. */
struct tables {
    size_t rows;
    int quantized, interactions;
    double *weight;                                    /* 1/L */
    double *n[COUNT(exponents)], *d[COUNT(exponents)]; /* e^(-alpha n), e^(-beta d) */
    double *c[COUNT(interactions)];                    /* e^(c n) */
    double *e[COUNT(widths)], *m[COUNT(widths)], *g;   /* 0 where nothing is quantized */
    double *memory;
};

static int fill_tables(struct tables *t, const struct fpl_problem *problem, const double *level, int with_c) {
    const size_t stride = (problem->count + ROW_LIMIT - 1) / ROW_LIMIT;
    const size_t columns = 2 + 2 * COUNT(exponents) + COUNT(interactions) + 2 * COUNT(widths);
    memset(t, 0, sizeof *t);
    t->rows = (problem->count + stride - 1) / stride;
    t->interactions = with_c ? COUNT(interactions) : 1;
    t->memory = calloc(columns * t->rows, sizeof *t->memory);
    if (t->memory == NULL) return 0;
    double *next = t->memory;
    t->weight = next, next += t->rows;
    t->g = next, next += t->rows;
    for (int j = 0; j < COUNT(exponents); j++) t->n[j] = next, next += t->rows;
    for (int j = 0; j < COUNT(exponents); j++) t->d[j] = next, next += t->rows;
    for (int j = 0; j < COUNT(interactions); j++) t->c[j] = next, next += t->rows;
    for (int j = 0; j < COUNT(widths); j++) t->e[j] = next, next += t->rows;
    for (int j = 0; j < COUNT(widths); j++) t->m[j] = next, next += t->rows;
    for (size_t k = 0; k < t->rows; k++) {
        const struct fpl_row *row = &problem->row[k * stride];
        t->weight[k] = 1.0 / (level != NULL ? level[k * stride] : exp(row->target));
        t->g[k] = row->at.quantized ? row->at.g : 0.0;
        t->quantized |= row->at.quantized;
        for (int j = 0; j < COUNT(exponents); j++) {
            t->n[j][k] = exp(-exponents[j] * row->at.n);
            t->d[j][k] = exp(-exponents[j] * row->at.d);
        }
        for (int j = 0; j < COUNT(interactions); j++) t->c[j][k] = exp(interactions[j] * row->at.n);
        for (int j = 0; j < COUNT(widths); j++) {
            t->e[j][k] = exp(-widths[j] * row->at.e);
            t->m[j][k] = exp(-widths[j] * row->at.m);
        }
    }
    return 1;
}

/* Sum of squared relative residuals at one grid point, with the linear parameters in x. */
static double project(const struct tables *t, int ia, int ib, int ic, int ie, int im, double x[4]) {
    const int n = t->quantized ? 4 : 3;
    double a[16] = {0.0}, b[4] = {0.0};
    for (size_t k = 0; k < t->rows; k++) {
        const double w = t->weight[k], size = t->n[ia][k], data = t->d[ib][k];
        const double f[4] = {w, w * size, w * data * t->c[ic][k],
                             t->quantized ? w * t->g[k] * size / data * t->e[ie][k] * t->m[im][k] : 0.0};
        for (int i = 0; i < n; i++) {
            for (int j = 0; j <= i; j++) a[i * n + j] += f[i] * f[j];
            b[i] += f[i]; /* the target is 1, relatively */
        }
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) a[j * n + i] = a[i * n + j];
    x[3] = 0.0;
    return (double)t->rows + fpl_nonnegative(a, b, x, n);
}

static double safe_log(double x) { return log(fmax(x, 1e-4)); }

static void insert_best(struct fpl_levels *out, int *count, int room, const struct fpl_levels *found) {
    int at = *count;
    if (at == room && found->misfit >= out[room - 1].misfit) return;
    if (at == room) at--;
    for (; at > 0 && out[at - 1].misfit > found->misfit; at--) out[at] = out[at - 1];
    out[at] = *found;
    if (*count < room) (*count)++;
}

int fpl_start_levels(const struct fpl_problem *problem, const double *level, int with_c,
                     struct fpl_levels *out, int room) {
    struct tables t;
    int count = 0;
    if (!fill_tables(&t, problem, level, with_c)) return 0;
    const int splits = t.quantized ? COUNT(widths) : 1;
    for (int ia = 0; ia < COUNT(exponents); ia++)
        for (int ib = 0; ib < COUNT(exponents); ib++)
            for (int ic = 0; ic < t.interactions; ic++)
                for (int s = 0; s < splits * splits; s++) {
                    double x[4];
                    const double misfit = project(&t, ia, ib, ic, s / splits, s % splits, x);
                    const struct fpl_levels found = {fmin(x[0], 0.98 * problem->least_loss),
                                                     safe_log(x[1]),
                                                     exponents[ia],
                                                     safe_log(x[2]),
                                                     exponents[ib],
                                                     interactions[ic],
                                                     {t.quantized ? -safe_log(x[3]) : 0.0,
                                                      t.quantized ? widths[s / splits] : 0.0,
                                                      t.quantized ? widths[s % splits] : 0.0},
                                                     misfit};
                    insert_best(out, &count, room, &found);
                }
    free(t.memory);
    return count;
}

/* ---- the bowl ---------------------------------------------------------------------------------- */

enum { FEATURES = 9 };

static void bowl_features(const struct fpl_law_at *at, double x0, double y0, double f[FEATURES + 1],
                          double target) {
    const double x = at->x - x0, y = at->y - y0;
    const double all[FEATURES] = {x * x, x * y, y * y, x, x * at->n, x * at->d, y, y * at->n, y * at->d};
    memcpy(f, all, sizeof all);
    f[FEATURES] = target;
}

static int by_group(const void *left, const void *right) {
    const struct fpl_row *a = *(const struct fpl_row *const *)left,
                         *b = *(const struct fpl_row *const *)right;
    if (a->group != b->group) return a->group < b->group ? -1 : 1;
    return (a > b) - (a < b);
}

/* Normal equations of the regression with group means removed. */
static void bowl_equations(const struct fpl_row *const *row, size_t count, double x0, double y0, double *a,
                           double *b) {
    for (size_t begin = 0, end; begin < count; begin = end) {
        double mean[FEATURES + 1] = {0.0}, f[FEATURES + 1];
        for (end = begin; end < count && row[end]->group == row[begin]->group; end++) {
            bowl_features(&row[end]->at, x0, y0, f, row[end]->target);
            for (int i = 0; i <= FEATURES; i++) mean[i] += f[i];
        }
        for (int i = 0; i <= FEATURES; i++) mean[i] /= (double)(end - begin);
        for (size_t k = begin; k < end; k++) {
            bowl_features(&row[k]->at, x0, y0, f, row[k]->target);
            for (int i = 0; i < FEATURES; i++) {
                for (int j = 0; j < FEATURES; j++) a[i * FEATURES + j] += (f[i] - mean[i]) * (f[j] - mean[j]);
                b[i] += (f[i] - mean[i]) * (f[FEATURES] - mean[FEATURES]);
            }
        }
    }
}

void fpl_start_bowl(const struct fpl_problem *problem, double p[6], double h[3]) {
    const size_t count = problem->count;
    double a[FEATURES * FEATURES] = {0.0}, b[FEATURES] = {0.0}, x0 = 0.0, y0 = 0.0;
    for (size_t i = 0; i < count; i++) {
        x0 += problem->row[i].at.x / (double)count;
        y0 += problem->row[i].at.y / (double)count;
    }
    const struct fpl_row **row = malloc(count * sizeof *row);
    if (row != NULL) {
        for (size_t i = 0; i < count; i++) row[i] = &problem->row[i];
        qsort(row, count, sizeof *row, by_group);
        bowl_equations(row, count, x0, y0, a, b);
        free(row);
    }
    /* A weak pull towards a bowl of usual curvature, for tables that say little. */
    for (int i = 0; i < FEATURES; i++) a[i * FEATURES + i] = 1.0001 * a[i * FEATURES + i] + 1e-3;
    b[0] += 1e-3 * 0.05;
    b[2] += 1e-3 * 0.05;
    if (!fpl_solve(a, b, FEATURES)) memset(b, 0, sizeof b);
    h[0] = fmax(b[0], 2e-3);
    h[2] = fmax(b[2], 2e-3);
    const double limit = 0.8 * sqrt(h[0] * h[2]);
    h[1] = fmax(-limit, fmin(limit, 0.5 * b[1]));
    const double det = h[0] * h[2] - h[1] * h[1];
    for (int k = 0; k < 3; k++) { /* H (x*, y*) = -g/2 for the constant, n and d parts */
        const double gx = b[3 + k], gy = b[6 + k];
        p[k] = fmax(-3.0, fmin(3.0, -0.5 * (h[2] * gx - h[1] * gy) / det));
        p[3 + k] = fmax(-3.0, fmin(3.0, -0.5 * (h[0] * gy - h[1] * gx) / det));
    }
    p[0] += x0;
    p[3] += y0;
}
