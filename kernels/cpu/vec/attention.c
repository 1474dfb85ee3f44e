/* attention.c - causal attention with rotary positions (arXiv 1706.03762, 2104.09864).
 *
 * Per sequence and head, with rotated q, k and s = 1/sqrt(D):
 *   forward    P = softmax(s q k^T, causal),  out = P v
 *   backward   dP = dout v^T,  dS = P (dP - sum_j P dP),
 *              dq = s dS k,  dk = s dS^T q,  dv = P^T dout;  dq and dk are rotated back
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
 * Replicas whose recipe quantizes these products go through attention_quantized.c; which of the
 * two forms a head takes depends on its own replica alone.
 *
 * Non-finite scores make their row of P NaN up to the diagonal; above it P is zero always.
 */
#include "attention.h"

enum { HEADS = 2 }; /* scratch slot */

/* ---- forward -------------------------------------------------------------------------------- */

static void forward_head(const struct attention *p, int64_t index, int thread) {
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

static void forward_tile(const void *job, int64_t index, int thread) {
    const struct attention *p = job;
    if (FPL_VEC(attention_is_quantized)(p, (int)(index / (p->B * p->H)), 0))
        FPL_VEC(attention_quantized_forward)(p, index, thread);
    else
        forward_head(p, index, thread);
}

/* Sizes, and scratch for every thread: `matrices` panel matrices of the plain form. */
static int attention_open(struct fpl_device *dev, struct attention *p, int R, int64_t B, int64_t T, int64_t H,
                          int64_t D, int64_t matrices, int backward) {
    p->dev = dev, p->replicas = R;
    p->B = B, p->T = T, p->H = H, p->D = D, p->C = H * D;
    p->Tp = tiles_of(T, 16) * 16, p->Dp = tiles_of(D, 16) * 16;
    p->scale = (float)(1.0 / __builtin_sqrt((double)D));
    p->work_size = matrices * p->Tp * p->Dp + 32 * p->Tp + 16 * p->Dp;
    for (int r = 0; r < R; r++) {
        const int64_t room = FPL_VEC(attention_is_quantized)(p, r, backward)
                                 ? FPL_VEC(attention_quantized_room)(p, backward)
                                 : 0;
        if (room > p->work_size) p->work_size = room;
    }
    p->work = fpl_cpu_scratch(dev, HEADS, (size_t)(dev->threads * p->work_size) * sizeof(float));
    return p->work != NULL;
}

/* Diagnosed heads go one after the other: their sums are added in the order of heads. */
static void all_heads(struct fpl_device *dev, int64_t heads, fpl_tile_fn run, const struct attention *p) {
    if (p->quantized == NULL || p->quantized->diagnosis == NULL) {
        for_tiles(dev, heads, run, p);
        return;
    }
    for (int64_t i = 0; i < heads; i++) run(p, i, 0);
}

void FPL_VEC(attention_forward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                const float *cosines, const float *sines, float *qkv, float *probs,
                                float *out, const struct fpl_attention *quantized) {
    if (dev->error.code != FPL_OK) return;
    struct attention p = {.cosines = cosines,
                          .sines = sines,
                          .qkv_out = qkv,
                          .probs = probs,
                          .out = out,
                          .quantized = quantized};
    if (!attention_open(dev, &p, R, B, T, H, D, 3, 0)) return;
    all_heads(dev, R * B * H, forward_tile, &p);
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

static void backward_head(const struct attention *p, int64_t index, int thread) {
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

static void backward_tile(const void *job, int64_t index, int thread) {
    const struct attention *p = job;
    if (FPL_VEC(attention_is_quantized)(p, (int)(index / (p->B * p->H)), 1))
        FPL_VEC(attention_quantized_backward)(p, index, thread);
    else
        backward_head(p, index, thread);
}

void FPL_VEC(attention_backward)(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                 const float *cosines, const float *sines, const float *qkv,
                                 const float *probs, const float *out, const float *dout, float *dqkv,
                                 const struct fpl_attention *quantized) {
    (void)out;
    if (dev->error.code != FPL_OK) return;
    struct attention p = {.cosines = cosines,
                          .sines = sines,
                          .qkv = qkv,
                          .probs_in = probs,
                          .dout = dout,
                          .dqkv = dqkv,
                          .quantized = quantized};
    if (!attention_open(dev, &p, R, B, T, H, D, 6, 1)) return;
    all_heads(dev, R * B * H, backward_tile, &p);
}

/* The probabilities. */
int64_t FPL_VEC(attention_kept)(int64_t B, int64_t T, int64_t H, int64_t D, int quantized) {
    (void)D;
    (void)quantized;
    return B * H * T * T;
}
