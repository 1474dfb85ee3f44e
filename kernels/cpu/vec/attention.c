/* attention.c - causal attention with rotary positions (arXiv 1706.03762, 2104.09864).
 *
 * Per sequence and head, with rotated q, k and s = 1/sqrt(D):
 *   forward    P = softmax(s q k^T, causal),  out = P v
 *   backward   dP = dout v^T,  dS = P (dP - sum_j P dP),
 *              dq = s dS k,  dk = s dS^T q,  dv = P^T dout;  dq and dk are rotated back
 *
 * Layout.  A head is worked on in copies made of 16 x 16 blocks, each contiguous and row-major,
 * T and D padded to multiples of sixteen (Tp, Dp).  A "panel matrix" [Dp/16][Tp][16] keeps
 * sixteen columns of the head for all positions; transposed matrices are [Tp/16][Dp][16]; a
 * tile of sixteen queries against all keys is [Tp/16][16][16].  So every product is a sum of
 * block products with fixed strides (blocks.h).
 *
 * Queries go by tiles of sixteen.  A tile needs the keys up to its own last query only:
 * blocks above the diagonal are not computed, and products that run over keys or queries of a
 * diagonal block skip its zero half.
 *
 * Order of sums: an element of q k^T and dP is one chain of fused multiply-adds in increasing
 * column of the head; of out and dq, in increasing key j; of dk and dv, in increasing query i.
 * Softmax sums and sum_j P dP: one accumulator of sixteen lanes in increasing j, then the lane
 * tree of vsum().  out is the sum of exp(..) v times 1 / sum of exp(..).  Heads stand alone, so
 * threads share them out freely.
 *
 * Non-finite scores make their row of P NaN up to the diagonal; above it P is zero always.
 */
#include "blocks.h"
#include "ops.h"
#include "parallel.h"
#include "rotary.h"
#include "rows.h"
#include "vexp.h"

enum { HEADS = 2 }; /* scratch slot */

struct attention {
    int64_t T, H, D, Tp, Dp, C;
    int64_t work_size; /* floats per thread */
    float scale;
    const float *cosines, *sines, *qkv, *dout, *probs_in;
    float *qkv_out, *probs, *out, *dqkv, *work;
};

/* Sixteen floats, or the first n of them and zeros. */
VINLINE void copy_16(const float *from, float *to) {
    for (int p = 0; p < PER; p++) nstore(to + p * NL, nload(from + p * NL));
}

/* Panel matrix `to` from T rows of D columns; zeros in the padding. */
static void copy_in(const struct attention *p, const float *from, int64_t from_row, float *to) {
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
static void copy_out(const struct attention *p, const float *from, int64_t panel, int64_t t0, float *to,
                     int64_t to_row) {
    const int64_t rows = smaller(16, p->T - t0), D = p->D;
    for (int64_t d = 0; d < D; d += 16, from += panel)
        for (int64_t r = 0; r < rows; r++)
            for (int i = 0; i < 16; i += NL)
                nstore_n(to + r * to_row + d + i, nload(from + r * 16 + i), D - d - i);
}

/* [Tp/16][Dp][16] from T rows of D columns; `panels` is room for a panel matrix. */
static void transpose_in(const struct attention *p, const float *from, int64_t from_row, float *panels,
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

/* ---- forward -------------------------------------------------------------------------------- */

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

static void forward_head(const void *job, int64_t index, int thread) {
    const struct attention *p = job;
    const int64_t T = p->T, Tp = p->Tp, Dp = p->Dp, C = p->C, D = p->D, size = Tp * Dp;
    const int64_t sequence = index / p->H, head = index % p->H;
    float *q = p->work + thread * p->work_size, *v = q + size, *kt = v + size, *s = kt + size;
    float *o = s + 16 * Tp, inverse[ROWS];
    float *qkv = p->qkv_out + sequence * T * 3 * C + head * D;
    float *probs = p->probs + index * T * T, *out = p->out + sequence * T * C + head * D;
    for (int64_t t = 0; t < T; t++) {
        float *x = qkv + t * 3 * C;
        const float *cosine = p->cosines + t * (D / 2), *sine = p->sines + t * (D / 2);
        rotate(D, cosine, sine, x, x);
        rotate(D, cosine, sine, x + C, x + C);
    }
    copy_in(p, qkv, 3 * C, q);
    transpose_in(p, qkv + C, 3 * C, v, kt);
    copy_in(p, qkv + 2 * C, 3 * C, v);
    for (int64_t i0 = 0; i0 < T; i0 += 16) {
        const int64_t blocks = i0 / 16 + 1;
        for (int64_t j = 0; j < blocks; j++)
            block_scores(D, q + i0 * 16, Tp * 16, kt + j * 16 * Dp, s + j * 256);
        softmax_tile(p->scale, blocks, s, inverse);
        store_probs(T, i0, s, inverse, probs);
        for (int64_t d = 0; d < Dp; d += 16) {
            block_weighted(blocks, s, v + d * Tp, o + d * 16);
            for (int i = 0; i < ROWS * 16; i += NL)
                nstore(o + d * 16 + i, nload(o + d * 16 + i) * nset(inverse[i / 16]));
        }
        copy_out(p, o, 256, i0, out + i0 * C, C);
    }
}

static int attention_open(struct fpl_device *dev, struct attention *p, int64_t T, int64_t H, int64_t D,
                          int64_t matrices) {
    p->T = T, p->H = H, p->D = D, p->C = H * D;
    p->Tp = tiles_of(T, 16) * 16, p->Dp = tiles_of(D, 16) * 16;
    p->scale = (float)(1.0 / __builtin_sqrt((double)D));
    p->work_size = matrices * p->Tp * p->Dp + 32 * p->Tp + 16 * p->Dp;
    p->work = fpl_cpu_scratch(dev, HEADS, (size_t)(dev->threads * p->work_size) * sizeof(float));
    return p->work != NULL;
}

void FPL_VEC(attention_forward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                const float *cosines, const float *sines, float *qkv, float *probs,
                                float *out) {
    if (dev->error.code != FPL_OK) return;
    struct attention p = {.cosines = cosines, .sines = sines, .qkv_out = qkv, .probs = probs, .out = out};
    if (!attention_open(dev, &p, T, H, D, 3)) return;
    for_tiles(dev, R * B * H, forward_head, &p);
}

/* ---- backward ------------------------------------------------------------------------------- */

/* The tile's rows of probs: in place where all sixteen are full rows, else a padded copy. */
static const float *probs_tile(const struct attention *p, const float *probs, int64_t i0, float *copy,
                               int64_t *row) {
    const int64_t T = p->T;
    if (T % 16 == 0) {
        *row = T;
        return probs + i0 * T;
    }
    *row = p->Tp;
    for (int64_t r = 0; r < 16; r++)
        for (int64_t j = 0; j < i0 + 16; j += NL)
            nstore(copy + r * p->Tp + j, nload_n(probs + (i0 + r) * T + j, i0 + r < T ? T - j : 0));
    return copy;
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
static void rotate_out(const struct attention *p, const float *from, int64_t panel, int64_t t0, float *to) {
    const int64_t D = p->D, to_row = 3 * p->C, end = smaller(t0 + 16, p->T);
    if (D != 16) copy_out(p, from, panel, t0, to, to_row);
    for (int64_t t = t0; t < end; t++, to += to_row, from += 16)
        rotate_back(D, p->cosines + t * (D / 2), p->sines + t * (D / 2), p->scale, D == 16 ? from : to, to);
}

static void backward_head(const void *job, int64_t index, int thread) {
    const struct attention *p = job;
    const int64_t T = p->T, Tp = p->Tp, Dp = p->Dp, C = p->C, D = p->D, size = Tp * Dp;
    const int64_t sequence = index / p->H, head = index % p->H;
    float *q = p->work + thread * p->work_size, *k = q + size, *vt = k + size, *d = vt + size;
    float *dk = d + size, *dv = dk + size, *ds = dv + size, *copy = ds + 16 * Tp, *dq = copy + 16 * Tp;
    const float *qkv = p->qkv + sequence * T * 3 * C + head * D;
    const float *probs = p->probs_in + index * T * T;
    float *dqkv = p->dqkv + sequence * T * 3 * C + head * D;
    transpose_in(p, qkv + 2 * C, 3 * C, dv, vt);
    copy_in(p, qkv, 3 * C, q);
    copy_in(p, qkv + C, 3 * C, k);
    copy_in(p, p->dout + sequence * T * C + head * D, C, d);
    for (int64_t i0 = 0; i0 < T; i0 += 16) {
        const int64_t blocks = i0 / 16 + 1;
        int64_t P_row;
        const float *P = probs_tile(p, probs, i0, copy, &P_row);
        for (int64_t j = 0; j < blocks; j++)
            block_scores(D, d + i0 * 16, Tp * 16, vt + j * 16 * Dp, ds + j * 256);
        softmax_backward_tile(blocks, P, P_row, ds);
        for (int64_t c = 0; c < Dp; c += 16) {
            const int64_t at = c * Tp;
            block_weighted(blocks, ds, k + at, dq + c * 16);
            for (int64_t j = 0; j < i0; j += 16) {
                block_add_transposed(P + j, P_row, d + at + i0 * 16, dv + at + j * 16);
                block_add_transposed(ds + j * 16, 16, q + at + i0 * 16, dk + at + j * 16);
            }
            block_set_transposed(P + i0, P_row, d + at + i0 * 16, dv + at + i0 * 16);
            block_set_transposed(ds + i0 * 16, 16, q + at + i0 * 16, dk + at + i0 * 16);
        }
        rotate_out(p, dq, 256, i0, dqkv + i0 * 3 * C);
    }
    for (int64_t t = 0; t < T; t += 16) {
        rotate_out(p, dk + t * 16, Tp * 16, t, dqkv + t * 3 * C + C);
        copy_out(p, dv + t * 16, Tp * 16, t, dqkv + t * 3 * C + 2 * C, 3 * C);
    }
}

void FPL_VEC(attention_backward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                 const float *cosines, const float *sines, const float *qkv,
                                 const float *probs, const float *dout, float *dqkv) {
    if (dev->error.code != FPL_OK) return;
    struct attention p = {
        .cosines = cosines, .sines = sines, .qkv = qkv, .probs_in = probs, .dout = dout, .dqkv = dqkv};
    if (!attention_open(dev, &p, T, H, D, 6)) return;
    for_tiles(dev, R * B * H, backward_head, &p);
}
