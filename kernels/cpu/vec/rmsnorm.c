/* rmsnorm.c - root-mean-square norm with the residual addition around it (arXiv 1910.07467).
 *
 *   forward    h = x + delta,  rstd = 1 / sqrt(mean(h^2) + eps),  y = (h rstd) gain
 *   backward   dh    = rstd dy gain - h rstd^3 mean(dy gain h) + dh_in
 *              dgain += sum over rows of dy rstd h
 *
 * Order of sums.  Along a row: two vector accumulators, one of even and one of odd vectors of
 * sixteen, masked rest into the odd one, added, then the lane tree of vsum().  dgain: groups
 * of sixteen rows (two chains, even and odd rows, added), groups in order within tiles of 128
 * rows, tiles in order, then onto the old dgain.  Rows are taken sixteen at a time so that one
 * square root and one division serve them all (rows.h).
 */
#include "ops.h"
#include "parallel.h"
#include "rows.h"
#include "vexp.h"

enum { TILE_ROWS = 128, PARTIALS = 3 };

struct rmsnorm {
    int64_t n, C, tiles; /* tiles per replica */
    float eps, per_column;
    const float *x, *delta, *dy, *gain, *rstd_in, *dh_in;
    float *h, *y, *rstd, *dh, *partial;
};

/* Sixteen columns of one row: h, and its squares onto a sum of sixteen lanes. */
VINLINE void forward_squares(const float *x, const float *delta, float *h, int64_t lanes, const int residual,
                             nf sum[PER]) {
    UNROLL(4)
    for (int p = 0; p < PER; p++) {
        const int64_t n = lanes - p * NL;
        nf v = nload_n(x + p * NL, n);
        if (residual) {
            v += nload_n(delta + p * NL, n);
            nstore_n(h + p * NL, v, n);
        }
        sum[p] = nfma(v, v, sum[p]);
    }
}

VINLINE void lanes_start(nf sum[PER]) {
    for (int p = 0; p < PER; p++) sum[p] = nset(0.0f);
}

VINLINE void lanes_end(const nf even[PER], const nf odd[PER], float *lanes) {
    for (int p = 0; p < PER; p++) nstore(lanes + p * NL, even[p] + odd[p]);
}

/* h of one row, and the lanes of its sum of squares; without a residual delta and h are idle */
VINLINE void forward_row(const float *x, const float *delta, float *h, int64_t C, const int residual,
                         float *lanes) {
    nf even[PER], odd[PER];
    lanes_start(even);
    lanes_start(odd);
    int64_t c = 0;
    for (; c + 32 <= C; c += 32) {
        forward_squares(x + c, delta + c, h + c, 16, residual, even);
        forward_squares(x + c + 16, delta + c + 16, h + c + 16, 16, residual, odd);
    }
    if (c + 16 <= C) {
        forward_squares(x + c, delta + c, h + c, 16, residual, even);
        c += 16;
    }
    if (c < C) forward_squares(x + c, delta + c, h + c, C - c, residual, odd);
    lanes_end(even, odd, lanes);
}

VINLINE void forward_group(const struct rmsnorm *p, const float *gain, int64_t row, int64_t rows,
                           const int residual) {
    const int64_t C = p->C, at = row * C;
    const float *delta = residual ? p->delta + at : p->x + at;
    float lanes[ROWS * 16], rstd[ROWS], *sum = residual ? p->h + at : p->y + at;
    for (int64_t i = 0; i < rows; i++)
        forward_row(p->x + at + i * C, delta + i * C, sum + i * C, C, residual, lanes + i * 16);
    fill_rows(lanes, (int)rows, 0.0f);
    sum_rows(lanes, rstd);
    for (int i = 0; i < ROWS; i += NL)
        nstore(rstd + i, nset(1.0f) / nsqrt(nfma(nload(rstd + i), nset(p->per_column), nset(p->eps))));
    memcpy(p->rstd + row, rstd, (size_t)rows * sizeof(float));
    for (int64_t i = 0; i < rows; i++) {
        const float *h = (residual ? p->h : p->x) + at + i * C;
        float *y = p->y + at + i * C;
        nf scale = nset(rstd[i]);
        int64_t c = 0;
        for (; c + NL <= C; c += NL) nstore(y + c, nload(h + c) * scale * nload(gain + c));
        if (c < C) nstore_n(y + c, nload_n(h + c, C - c) * scale * nload_n(gain + c, C - c), C - c);
    }
}

static void forward_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct rmsnorm *p = job;
    int64_t r = tile / p->tiles, begin = (tile % p->tiles) * TILE_ROWS,
            end = smaller(begin + TILE_ROWS, p->n);
    for (int64_t i = begin; i < end; i += ROWS) {
        int64_t rows = smaller(ROWS, end - i);
        if (p->delta != NULL)
            forward_group(p, p->gain + r * p->C, r * p->n + i, rows, 1);
        else
            forward_group(p, p->gain + r * p->C, r * p->n + i, rows, 0);
    }
}

void FPL_VEC(rmsnorm_forward)(struct fpl_device *dev, int R, int64_t n, int64_t C, double eps, const float *x,
                              const float *delta, const float *gain, float *h, float *y, float *rstd) {
    if (dev->error.code != FPL_OK) return;
    struct rmsnorm p = {.n = n,
                        .C = C,
                        .tiles = tiles_of(n, TILE_ROWS),
                        .eps = (float)eps,
                        .per_column = (float)(1.0 / (double)C),
                        .x = x,
                        .delta = delta,
                        .gain = gain,
                        .h = h,
                        .y = y,
                        .rstd = rstd};
    for_tiles(dev, R * p.tiles, forward_tile, &p);
}

VINLINE void backward_products(const float *dy, const float *h, const float *gain, int64_t lanes,
                               nf sum[PER]) {
    UNROLL(4)
    for (int p = 0; p < PER; p++) {
        const int64_t n = lanes - p * NL;
        sum[p] = nfma(nload_n(dy + p * NL, n) * nload_n(gain + p * NL, n), nload_n(h + p * NL, n), sum[p]);
    }
}

/* lanes of one row's sum of dy gain h */
VINLINE void backward_row(const float *dy, const float *h, const float *gain, int64_t C, float *lanes) {
    nf even[PER], odd[PER];
    lanes_start(even);
    lanes_start(odd);
    int64_t c = 0;
    for (; c + 32 <= C; c += 32) {
        backward_products(dy + c, h + c, gain + c, 16, even);
        backward_products(dy + c + 16, h + c + 16, gain + c + 16, 16, odd);
    }
    if (c + 16 <= C) {
        backward_products(dy + c, h + c, gain + c, 16, even);
        c += 16;
    }
    if (c < C) backward_products(dy + c, h + c, gain + c, C - c, odd);
    lanes_end(even, odd, lanes);
}

/* Up to NL columns of up to sixteen rows: dh, and this group's part of dgain. */
VINLINE void backward_columns(const struct rmsnorm *p, const float *gain, const float *rstd,
                              const float *pull, int64_t at, int64_t rows, int64_t lanes, float *partial,
                              const int residual) {
    nf sum[2] = {nset(0.0f), nset(0.0f)}, g = nload_n(gain, lanes);
    for (int64_t i = 0; i < rows; i++) {
        int64_t j = at + i * p->C;
        nf d = nload_n(p->dy + j, lanes) * nset(rstd[i]), h = nload_n(p->x + j, lanes);
        nf in = residual ? nload_n(p->dh_in + j, lanes) : nset(0.0f);
        if (i & 1)
            sum[1] = nfma(d, h, sum[1]);
        else
            sum[0] = nfma(d, h, sum[0]);
        nstore_n(p->dh + j, nfma(d, g, nfma(nset(-pull[i]), h, in)), lanes);
    }
    nstore_n(partial, nload_n(partial, lanes) + (sum[0] + sum[1]), lanes);
}

VINLINE void backward_group(const struct rmsnorm *p, const float *gain, int64_t row, int64_t rows,
                            float *partial, const int residual) {
    const int64_t C = p->C, at = row * C;
    float lanes[ROWS * 16], rstd[ROWS] = {0}, pull[ROWS];
    for (int64_t i = 0; i < rows; i++)
        backward_row(p->dy + at + i * C, p->x + at + i * C, gain, C, lanes + i * 16);
    fill_rows(lanes, (int)rows, 0.0f);
    sum_rows(lanes, pull);
    memcpy(rstd, p->rstd_in + row, (size_t)rows * sizeof(float));
    for (int i = 0; i < ROWS; i += NL) {
        nf s = nload(rstd + i);
        nstore(pull + i, nload(pull + i) * nset(p->per_column) * s * s * s);
    }
    int64_t c = 0;
    for (; c + NL <= C; c += NL)
        backward_columns(p, gain + c, rstd, pull, at + c, rows, NL, partial + c, residual);
    if (c < C) backward_columns(p, gain + c, rstd, pull, at + c, rows, C - c, partial + c, residual);
}

static void backward_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct rmsnorm *p = job;
    int64_t r = tile / p->tiles, begin = (tile % p->tiles) * TILE_ROWS,
            end = smaller(begin + TILE_ROWS, p->n);
    const float *gain = p->gain + r * p->C;
    float *partial = p->partial + tile * p->C;
    memset(partial, 0, (size_t)p->C * sizeof(float));
    for (int64_t i = begin; i < end; i += ROWS) {
        int64_t rows = smaller(ROWS, end - i);
        if (p->dh_in != NULL)
            backward_group(p, gain, r * p->n + i, rows, partial, 1);
        else
            backward_group(p, gain, r * p->n + i, rows, partial, 0);
    }
}

void FPL_VEC(rmsnorm_backward)(struct fpl_device *dev, int R, int64_t n, int64_t C, const float *dy,
                               const float *h, const float *gain, const float *rstd, const float *dh_in,
                               float *dh, float *dgain) {
    if (dev->error.code != FPL_OK) return;
    int64_t tiles = tiles_of(n, TILE_ROWS);
    float *partial = fpl_cpu_scratch(dev, PARTIALS, (size_t)(R * tiles * C) * sizeof(float));
    if (partial == NULL) return;
    struct rmsnorm p = {.n = n,
                        .C = C,
                        .tiles = tiles,
                        .per_column = (float)(1.0 / (double)C),
                        .x = h,
                        .dy = dy,
                        .gain = gain,
                        .rstd_in = rstd,
                        .dh_in = dh_in,
                        .dh = dh,
                        .partial = partial};
    for_tiles(dev, R * tiles, backward_tile, &p);
    for (int64_t r = 0; r < R; r++)
        for (int64_t c = 0; c < C; c++) {
            float sum = 0.0f;
            for (int64_t t = 0; t < tiles; t++) sum += partial[(r * tiles + t) * C + c];
            dgain[r * C + c] += sum;
        }
}
