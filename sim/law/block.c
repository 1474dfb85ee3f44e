/* block.c - see block.h: blocks of rows, and one row as the smallest of them, so that a law's formula is
 * written once.
 */
#include "block.h"

#include <stdlib.h>

#include "base.h"

static void set_row(struct fpl_columns *c, int k, const struct fpl_law_at *at, double target) {
    FPL_AT(c->n, k) = at->n;
    FPL_AT(c->d, k) = at->d;
    FPL_AT(c->x, k) = at->x;
    FPL_AT(c->y, k) = at->y;
    FPL_AT(c->e, k) = at->quantized ? at->e : 0.0;
    FPL_AT(c->m, k) = at->quantized ? at->m : 0.0;
    FPL_AT(c->g, k) = at->quantized ? at->g : 0.0;
    FPL_AT(c->target, k) = target;
    c->quantized |= at->quantized;
}

int fpl_problem_columns(struct fpl_problem *p) {
    const size_t blocks = (p->count + FPL_BLOCK - 1) / FPL_BLOCK;
    free(p->columns);
    p->columns = aligned_alloc(_Alignof(struct fpl_columns), (blocks + 1) * sizeof *p->columns);
    if (p->columns == NULL) return 0;
    for (size_t b = 0; b < blocks; b++) {
        struct fpl_columns *c = &p->columns[b];
        const size_t begin = b * FPL_BLOCK, left = p->count - begin;
        c->rows = left < FPL_BLOCK ? (int)left : FPL_BLOCK;
        c->quantized = c->censored = 0;
        for (int k = 0; k < c->rows || k % FPL_LANES != 0; k++) {
            const struct fpl_row *row = &p->row[begin + (size_t)(k < c->rows ? k : c->rows - 1)];
            set_row(c, k, &row->at, row->target);
            c->censored |= row->censored;
        }
    }
    return 1;
}

struct fpl_block fpl_columns_block(const struct fpl_columns *c, double n0, double d0) {
    return (struct fpl_block){.count = (c->rows + FPL_LANES - 1) / FPL_LANES,
                              .quantized = c->quantized,
                              .n0 = n0,
                              .d0 = d0,
                              .n = c->n,
                              .d = c->d,
                              .x = c->x,
                              .y = c->y,
                              .e = c->e,
                              .m = c->m,
                              .g = c->g};
}

static struct fpl_block block_of_one(struct fpl_columns *c, const struct fpl_law_at *at) {
    c->rows = 1;
    c->quantized = 0;
    for (int k = 0; k < FPL_LANES; k++) set_row(c, k, at, 0.0);
    return fpl_columns_block(c, at->n0, at->d0);
}

double fpl_law_one(const struct fpl_law *law, const double *theta, const struct fpl_law_at *at,
                   double *grad) {
    lanes value, gradient[FPL_LAW_PARAMS];
    const struct fpl_values out = {&value, gradient, 1};
    struct fpl_columns columns;
    const struct fpl_block block = block_of_one(&columns, at);
    law->rows(law, theta, &block, &out);
    for (int j = 0; grad != NULL && j < law->params; j++) grad[j] = gradient[j][0];
    return value[0];
}

double fpl_base_one(const struct fpl_base *base, const double *t, const struct fpl_law_at *at, double *grad,
                    double *by_d) {
    lanes value, slope, gradient[FPL_BASE_PARAMS];
    const struct fpl_values out = {&value, gradient, 1};
    struct fpl_columns columns;
    const struct fpl_block block = block_of_one(&columns, at);
    base->rows(t, &block, &out, &slope);
    for (int j = 0; grad != NULL && j < base->params; j++) grad[j] = gradient[j][0];
    if (by_d != NULL) *by_d = slope[0];
    return value[0];
}
