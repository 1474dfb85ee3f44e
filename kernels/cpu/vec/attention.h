/* attention.h - what the two forms of attention share: a head's layout and its softmax.
 *
 * A head is worked on in copies made of 16 x 16 blocks, each contiguous and row-major, T and D
 * padded to multiples of sixteen (Tp, Dp).  A "panel matrix" [Dp/16][Tp][16] keeps sixteen
 * columns of the head for all positions; transposed matrices are [Tp/16][Dp][16]; a tile of
 * sixteen queries against all keys is [Tp/16][16][16].  So every product is a sum of block
 * products with fixed strides (blocks.h).
 */
#ifndef FPL_VEC_ATTENTION_H
#define FPL_VEC_ATTENTION_H

#include "blocks.h"
#include "ops.h"
#include "parallel.h"
#include "rotary.h"
#include "rows.h"
#include "vexp.h"

struct attention {
    struct fpl_device *dev;
    int replicas;
    int64_t B, T, H, D, Tp, Dp, C;
    int64_t work_size; /* floats per thread */
    float scale;
    const float *cosines, *sines, *qkv, *dout, *probs_in;
    float *qkv_out, *probs, *out, *dqkv, *work;
    const struct fpl_attention *quantized; /* NULL: none */
};

/* Sixteen floats, or the first n of them and zeros. */
VINLINE void copy_16(const float *from, float *to) {
    for (int p = 0; p < PER; p++) nstore(to + p * NL, nload(from + p * NL));
}

/* Panel matrix `to` from T rows of D columns; zeros in the padding. */
static inline void copy_in(const struct attention *p, const float *from, int64_t from_row, float *to) {
    const int64_t T = p->T, D = p->D;
    for (int64_t d = 0; d < D; d += 16, to += p->Tp * 16) {
        const float *x = from + d;
        if (d + 16 <= D)
            for (int64_t t = 0; t < T; t++) copy_16(x + t * from_row, to + t * 16);
        else
            for (int64_t t = 0; t < T; t++)
                for (int i = 0; i < 16; i += NL)
                    nstore(to + t * 16 + i, nload_n(x + t * from_row + i, D - d - i));
        memset(to + T * 16, 0, (size_t)(p->Tp - T) * 16 * sizeof(float));
    }
}

/* Sixteen positions of a panel matrix (its rows from t0) back to rows of D columns. */
static inline void copy_out(const struct attention *p, const float *from, int64_t panel, int64_t t0,
                            float *to, int64_t to_row) {
    const int64_t rows = smaller(16, p->T - t0), D = p->D;
    for (int64_t d = 0; d < D; d += 16, from += panel)
        for (int64_t r = 0; r < rows; r++)
            for (int i = 0; i < 16; i += NL)
                nstore_n(to + r * to_row + d + i, nload(from + r * 16 + i), D - d - i);
}

/* [Tp/16][Dp][16] from T rows of D columns; `panels` is room for a panel matrix. */
static inline void transpose_in(const struct attention *p, const float *from, int64_t from_row, float *panels,
                                float *to) {
    int64_t row = from_row, panel = 16;
    if (p->T != p->Tp || p->D != p->Dp) {
        copy_in(p, from, from_row, panels);
        from = panels, row = 16, panel = p->Tp * 16;
    }
    for (int64_t t = 0; t < p->Tp; t += 16)
        for (int64_t d = 0; d < p->Dp; d += 16)
            transpose_16x16(from + d / 16 * panel + t * row, row, to + t * p->Dp + d * 16, 16);
}

/* x in the lanes up to r of the sixteen whose p-th part this is, `other` beyond */
VINLINE nf up_to(int r, int p, nf x, float other) {
    static const uint32_t lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    nu index;
    memcpy(&index, lane + p * NL, sizeof index);
    return nselect_f(nmore_i(index, nsetu((uint32_t)r)), nset(other), x);
}

/* Scores of sixteen queries against `blocks` blocks of keys, the last one diagonal, become
 * exp(scale (score - row maximum)), and the diagonal's upper half zero; inverse[16] = 1 / row
 * sums. */
VINLINE void softmax_tile(float scale, int64_t blocks, float *s, float *inverse) {
    float *diagonal = s + (blocks - 1) * 256, lanes[ROWS * 16], shift[ROWS];
    for (int r = 0; r < ROWS; r++)
        for (int p = 0; p < PER; p++) {
            float *x = diagonal + r * 16 + p * NL;
            nf masked = up_to(r, p, nload(x), -INFINITY);
            nstore(x, masked);
            nstore(lanes + r * 16 + p * NL, nmax(masked, nset(-INFINITY)));
        }
    for (const float *block = s; block < diagonal; block += 256)
        for (int i = 0; i < ROWS * 16; i += NL) nstore(lanes + i, nmax(nload(block + i), nload(lanes + i)));
    max_rows(lanes, shift);
    for (int i = 0; i < ROWS; i += NL) nstore(shift + i, nload(shift + i) * nset(-scale));
    fill_rows(lanes, 0, 0.0f);
    for (float *block = s; block <= diagonal; block += 256)
        for (int r = 0; r < ROWS; r++)
            for (int p = 0; p < PER; p++) {
                float *x = block + r * 16 + p * NL;
                nf e = nexp_below(nfma(nload(x), nset(scale), nset(shift[r])));
                nstore(x, e);
                add_to_row(lanes + r * 16, p, e);
            }
    sum_rows(lanes, inverse);
    for (int i = 0; i < ROWS; i += NL) nstore(inverse + i, nset(1.0f) / nload(inverse + i));
}

/* Rows i0.. of probs: the tile's exponentials times 1 / sum, zero above the diagonal. */
VINLINE void store_probs(int64_t T, int64_t i0, const float *s, const float *inverse, float *probs) {
    const int rows = (int)smaller(ROWS, T - i0);
    float *to = probs + i0 * T;
    for (int64_t j = 0; j < i0; j += 16, s += 256)
        for (int r = 0; r < rows; r++)
            for (int i = 0; i < 16; i += NL)
                nstore(to + r * T + j + i, nload(s + r * 16 + i) * nset(inverse[r]));
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < PER; p++) {
            const int64_t j = i0 + p * NL;
            nstore_n(to + r * T + j, up_to(r, p, nload(s + r * 16 + p * NL) * nset(inverse[r]), 0.0f), T - j);
        }
    for (int64_t j = i0 + 16; j < T; j += NL)
        for (int r = 0; r < rows; r++) nstore_n(to + r * T + j, nset(0.0f), T - j);
}

/* ds, `blocks` blocks of dP, becomes P (dP - sum_j P dP). */
VINLINE void softmax_backward_tile(int64_t blocks, const float *P, int64_t P_row, float *ds) {
    float lanes[ROWS * 16], dots[ROWS];
    fill_rows(lanes, 0, 0.0f);
    for (int64_t j = 0; j < blocks; j++)
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < 16; i += NL) {
                float *sum = lanes + r * 16 + i;
                nstore(sum,
                       nfma(nload(P + r * P_row + j * 16 + i), nload(ds + j * 256 + r * 16 + i), nload(sum)));
            }
    sum_rows(lanes, dots);
    for (int64_t j = 0; j < blocks; j++)
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < 16; i += NL) {
                float *x = ds + j * 256 + r * 16 + i;
                nstore(x, nload(P + r * P_row + j * 16 + i) * (nload(x) - nset(dots[r])));
            }
}

/* Sixteen rows (from t0) of a gradient with respect to rotated, scaled q or k, to dqkv. */
static inline void rotate_out(const struct attention *p, const float *from, int64_t panel, int64_t t0,
                              float *to) {
    const int64_t D = p->D, to_row = 3 * p->C, end = smaller(t0 + 16, p->T);
    if (D != 16) copy_out(p, from, panel, t0, to, to_row);
    for (int64_t t = t0; t < end; t++, to += to_row, from += 16)
        rotate_back(D, p->cosines + t * (D / 2), p->sines + t * (D / 2), p->scale, D == 16 ? from : to, to);
}

/* attention_quantized.c: heads whose products see quantized operands. */
int FPL_VEC(attention_is_quantized)(const struct attention *p, int replica, int backward);
int64_t FPL_VEC(attention_quantized_room)(const struct attention *p, int backward); /* floats per thread */
void FPL_VEC(attention_quantized_forward)(const struct attention *p, int64_t index, int thread);
void FPL_VEC(attention_quantized_backward)(const struct attention *p, int64_t index, int thread);

#endif
