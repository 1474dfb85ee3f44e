/* block.h - rows in columns, so that a law is evaluated eight rows at a time (elementary.h).
 *
 * A block holds up to FPL_BLOCK rows, as whole lanes filled up with copies of its last row.  A law's `rows`
 * (law_internal.h) writes a value per row and the gradient as a column per parameter.  Rows do not know of
 * each other and every instruction set computes the same, so a row's numbers have the same bits in any block.
 */
#ifndef FPL_LAW_BLOCK_H
#define FPL_LAW_BLOCK_H

#include "elementary.h"
#include "problem.h"

enum { FPL_BLOCK = 128, FPL_BLOCK_LANES = FPL_BLOCK / FPL_LANES };

struct fpl_block {
    int count;                  /* of lanes */
    int quantized;              /* 0: no row is; the penalty and its gradient are 0 */
    double n0, d0;              /* the centre */
    const lanes *n, *d, *x, *y; /* as in fpl_law_at */
    const lanes *e, *m, *g;     /* 0 in rows that are not quantized: their penalty g exp(...) is 0 */
};
struct fpl_values {
    lanes *value, *grad; /* grad: the column of parameter j begins at j stride */
    int stride;
};

/* FPL_BLOCK rows of a problem and what they are fitted to; the rows of a problem in order, the last block
 * filled up. */
struct fpl_columns {
    lanes n[FPL_BLOCK_LANES], d[FPL_BLOCK_LANES], x[FPL_BLOCK_LANES], y[FPL_BLOCK_LANES], e[FPL_BLOCK_LANES],
        m[FPL_BLOCK_LANES], g[FPL_BLOCK_LANES], target[FPL_BLOCK_LANES];
    int rows, quantized, censored; /* rows; is one quantized, censored? */
};
struct fpl_block fpl_columns_block(const struct fpl_columns *c, double n0, double d0);
/* Entry k of a column. */
#define FPL_AT(column, k) (column)[(k) / FPL_LANES][(k) % FPL_LANES]

/* One row by a law's or a base's `rows`; grad, and of a base by_d, may be NULL. */
double fpl_law_one(const struct fpl_law *law, const double *theta, const struct fpl_law_at *at, double *grad);
double fpl_base_one(const struct fpl_base *base, const double *t, const struct fpl_law_at *at, double *grad,
                    double *by_d);

#endif
