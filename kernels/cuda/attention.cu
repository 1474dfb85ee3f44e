/* attention.cu - causal attention with rotary positions (kernels.h), as batched products and a row softmax,
 * for the replicas that do not go the fused way (attention.h).
 *
 *   forward    rotate q, k;  S = q k^T;  P = softmax(S / sqrt D) row by row, zero above the diagonal;
 *              out = P v
 *   backward   dP = dout v^T;  dS = P (dP - sum_j P dP);  dv = P^T dout;  dk = dS^T q;  dq = dS k;
 *              dq, dk rotated back and scaled
 *
 * The products are those of product.h with the heads as inner matrices, read where they lie in qkv;
 * triangular operands end each chain at the diagonal, so no position sees a later one, not even its NaN.
 * Order of sums: products are chains in increasing index; row sums go lane by lane, then by reduce.h, one
 * warp a row.
 *
 * Quantized operands (struct fpl_attention) are gathered to [matrices, T, D], or copied as [matrices, T, T],
 * and quantized there, every head a matrix of its own.
 */
#include "attention.h"
#include "operand.h"
#include "operations.h"
#include "product.h"
#include "reduce.h"
#include "scalar_math.h"
#include "work.h"

#include <stdlib.h>

enum { LANES = FPL_ROW_LANES, ROWS = 8, HEAD_THREADS = 128 }; /* softmax: threads of a row, rows of a block */

struct shape {
    int R;
    int64_t B, T, H, D, C, sequences, heads; /* heads: of all sequences */
    int64_t kept;                            /* floats from one replica to the next */
    float scale;
};

/* Where it keeps less than the probabilities. */
static int fuses(int64_t T, int64_t D) {
    const char *way = getenv("FPLAW_CUDA_ATTENTION");
    return T > FPL_FUSED_KEPT && D <= FPL_FUSED_WIDTH && !(way != NULL && strcmp(way, "batched") == 0);
}

int64_t fpl_cuda_attention_kept(int64_t B, int64_t T, int64_t H, int64_t D, int quantized) {
    return B * H * T * (fuses(T, D) && !quantized ? (int64_t)FPL_FUSED_KEPT : T);
}

static struct shape shape_of(int R, int64_t B, int64_t T, int64_t H, int64_t D, int quantized) {
    const struct shape s = {R,
                            B,
                            T,
                            H,
                            D,
                            H * D,
                            R * B,
                            R * B * H,
                            fpl_cuda_attention_kept(B, T, H, D, quantized),
                            (float)(1.0 / sqrt((double)D))};
    return s;
}

/* ---- kernels ---------------------------------------------------------------------------------------------
 */

/* Pairs (i, i + D/2) of q and k, each with one fused multiply-add; a block takes one position. */
__global__ void rotate_positions(int64_t T, int64_t C, int64_t D, const float *cosines, const float *sines,
                                 float *qkv) {
    const int64_t half = D / 2, t = blockIdx.x % T;
    float *row = qkv + (int64_t)blockIdx.x * 3 * C;
    for (int64_t e = threadIdx.x; e < C; e += blockDim.x) { /* C / 2 pairs of q, then of k */
        float *head = row + e / half * D;
        const int64_t i = e % half;
        const float c = cosines[t * half + i], s = sines[t * half + i], a = head[i], b = head[i + half];
        head[i] = fmaf(a, c, -(b * s));
        head[i + half] = fmaf(b, c, a * s);
    }
}

/* Gradients of rotated, scaled q and k back to those of q and k, in place. */
__global__ void rotate_back_positions(int64_t T, int64_t C, int64_t D, float scale, const float *cosines,
                                      const float *sines, float *dqkv) {
    const int64_t half = D / 2, t = blockIdx.x % T;
    float *row = dqkv + (int64_t)blockIdx.x * 3 * C;
    for (int64_t e = threadIdx.x; e < C; e += blockDim.x) {
        float *head = row + e / half * D;
        const int64_t i = e % half;
        const float c = cosines[t * half + i], s = sines[t * half + i];
        const float a = head[i] * scale, b = head[i + half] * scale;
        head[i] = fmaf(a, c, b * s);
        head[i + half] = fmaf(b, c, -(a * s));
    }
}

/* Rows of scores become rows of P.  Threads beyond the last row share the shuffles and nothing else. */
__global__ void softmax_rows(int64_t T, int64_t rows, float scale, float *scores) {
    const int64_t row = (int64_t)blockIdx.x * ROWS + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int64_t i = row < rows ? row % T : -1;
    float *x = scores + row * T;
    float most = -INFINITY, sum = 0.0f;
    for (int64_t j = lane; j <= i; j += LANES) most = x[j] > most ? x[j] : most;
    const float shift = fpl_row_max(most) * -scale;
    for (int64_t j = lane; j <= i; j += LANES) {
        const float e = fpl_exp(fmaf(x[j], scale, shift));
        x[j] = e;
        sum += e;
    }
    const float inverse = 1.0f / fpl_row_sum(sum);
    for (int64_t j = lane; i >= 0 && j < T; j += LANES) x[j] = j <= i ? x[j] * inverse : 0.0f;
}

/* Rows of dP become rows of dS. */
__global__ void softmax_backward_rows(int64_t T, int64_t rows, const float *probs, float *dscores) {
    const int64_t row = (int64_t)blockIdx.x * ROWS + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int64_t i = row < rows ? row % T : -1;
    const float *p = probs + row * T;
    float *d = dscores + row * T, dot = 0.0f;
    for (int64_t j = lane; j <= i; j += LANES) dot = fmaf(p[j], d[j], dot);
    dot = fpl_row_sum(dot);
    for (int64_t j = lane; i >= 0 && j < T; j += LANES) d[j] = j <= i ? p[j] * (d[j] - dot) : 0.0f;
}

/* to[z, T, D] from head z mod H of sequence z / H. */
__global__ void gather_heads(int64_t T, int64_t H, int64_t D, int64_t row, const float *from, float *to) {
    const int64_t t = blockIdx.x, z = blockIdx.y;
    for (int64_t d = threadIdx.x; d < D; d += blockDim.x)
        to[(z * T + t) * D + d] = from[(z / H * T + t) * row + z % H * D + d];
}

/* ---- operands
 * ---------------------------------------------------------------------------------------------- */

/* Replicas that go one way: the shape of their part, and the call's quantizers, which still count all. */
struct call {
    struct fpl_device *dev;
    struct shape s;
    const struct fpl_attention *quantized;
    int first, all; /* first replica of this part, replicas of the call */
};

/* An operand of a product: where it lies. */
struct place {
    const float *x;
    struct fpl_cuda_matrices at;
};

static struct place heads_in(const struct shape *s, const float *x, int64_t row) {
    const struct place p = {x, {row, 1, s->T * row, s->D}};
    return p;
}

static struct place squares(const struct shape *s, const float *x) {
    const struct place p = {x, {s->T, 1, s->H * s->T * s->T, s->T * s->T}};
    return p;
}

static struct fpl_cuda_matrices transposed(struct fpl_cuda_matrices m) {
    const struct fpl_cuda_matrices t = {m.col, m.row, m.outer, m.inner};
    return t;
}

/* 1 if some replica quantizes this operand. */
static int slot_is_used(const struct call *c, int slot) {
    if (c->quantized == NULL || c->quantized->slot[slot] == NULL) return 0;
    for (int r = 0; r < c->s.R; r++) {
        const struct fpl_operand *q = &c->quantized->slot[slot][c->first + r];
        if (!(q->plan.identity && q->plan.post.identity)) return 1;
    }
    return 0;
}

/* Q(x[heads, lines, width]) in place; along_lines: the reduction axis runs over lines. */
static void quantize_heads(const struct call *c, int slot, int64_t lines, int64_t width, int along_lines,
                           float *x) {
    const struct fpl_attention *a = c->quantized;
    const int64_t size = lines * width, each = c->s.B * c->s.H;
    const struct fpl_cuda_view along = {width, lines, 1, width, size, each};
    const struct fpl_cuda_view within = {lines, width, width, 1, size, each};
    struct fpl_operand *q = (struct fpl_operand *)malloc((size_t)c->s.R * sizeof *q);
    if (q == NULL) {
        fpl_fail(&c->dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return;
    }
    for (int r = 0; r < c->s.R; r++) {
        q[r] = a->slot[slot][c->first + r];
        q[r].at.element = (uint64_t)(a->first_sequence * c->s.H) * (uint64_t)size;
    }
    if (a->diagnosis != NULL)
        for (int64_t z = 0; z < c->s.heads; z++) {
            const int r = (int)(z / each);
            struct fpl_operand one = q[r];
            if (one.plan.identity && one.plan.post.identity) continue;
            one.at.element += (uint64_t)(z % each * size);
            fpl_cuda_diagnose(c->dev, 1, lines, width, along_lines, &one, x + z * size,
                              &a->diagnosis[slot * c->all + c->first + r]);
        }
    fpl_cuda_quantize_view(c->dev, c->s.R, along_lines ? &along : &within, q, x, x, FPL_CARRIER_FP32,
                           a->nonfinite != NULL ? a->nonfinite + c->first : NULL);
    free(q);
}

/* The operand that lies in rows of `row` floats, or its quantized copy in scratch. */
static struct place head_operand(const struct call *c, int slot, int along_lines, const float *x, int64_t row,
                                 int scratch) {
    const struct shape *s = &c->s;
    if (!slot_is_used(c, slot)) return heads_in(s, x, row);
    float *copy =
        (float *)fpl_cuda_scratch(c->dev, scratch, (size_t)(s->heads * s->T * s->D) * sizeof(float));
    const struct place p = {copy, {s->D, 1, s->H * s->T * s->D, s->T * s->D}};
    if (copy == NULL) return p;
    FPL_LAUNCH(gather_heads, dim3((unsigned)s->T, (unsigned)s->heads), dim3(64), 0, c->dev, s->T, s->H, s->D,
               row, x, copy);
    quantize_heads(c, slot, s->T, s->D, along_lines, copy);
    return p;
}

/* The same for P and dS, [heads, T, T]. */
static struct place square_operand(const struct call *c, int slot, int along_lines, const float *x) {
    const struct shape *s = &c->s;
    const size_t bytes = (size_t)(s->heads * s->T * s->T) * sizeof(float);
    if (!slot_is_used(c, slot)) return squares(s, x);
    float *copy = (float *)fpl_cuda_scratch(c->dev, FPL_CUDA_SCRATCH_OUT, bytes);
    if (copy == NULL) return squares(s, x);
    fpl_cuda_copy_later(c->dev, copy, x, bytes, cudaMemcpyDeviceToDevice, "copying P");
    quantize_heads(c, slot, s->T, s->T, along_lines, copy);
    return squares(s, copy);
}

/* ---- products
 * ------------------------------------------------------------------------------------------------ */

static void multiply(const struct call *c, struct place a, struct place b, struct fpl_cuda_matrices to_at,
                     float *to, int64_t M, int64_t N, int64_t K, enum fpl_cuda_triangle triangle) {
    struct fpl_cuda_product p;
    memset(&p, 0, sizeof p);
    p.M = M;
    p.N = N;
    p.K = K;
    p.batch = c->s.heads;
    p.inner = c->s.H;
    p.a = a.x;
    p.a_at = a.at;
    p.b = b.x;
    p.b_at = b.at;
    p.c = to;
    p.c_at = to_at;
    p.triangle = triangle;
    fpl_cuda_multiply(c->dev, &p);
}

/* to[T, T] = a b^T for heads a, b; the lower triangle. */
static void scores(const struct call *c, struct place a, struct place b, float *to) {
    b.at = transposed(b.at);
    multiply(c, a, b, squares(&c->s, to).at, to, c->s.T, c->s.T, c->s.D, FPL_LOWER_RESULT);
}

/* to[T, D], rows of `row` floats, = square heads, or square^T heads. */
static void weighted(const struct call *c, struct place square, int transpose, struct place heads, float *to,
                     int64_t row) {
    if (transpose) square.at = transposed(square.at);
    multiply(c, square, heads, heads_in(&c->s, to, row).at, to, c->s.T, c->s.D, c->s.T,
             transpose ? FPL_UPPER_A : FPL_LOWER_A);
}

/* ---- a part of the pack ------------------------------------------------------------------------------ */

static void batched_forward(const struct call *c, const float *qkv, float *probs, float *out) {
    const struct shape *s = &c->s;
    const int64_t row = 3 * s->C, rows = s->heads * s->T;
    const struct place k = head_operand(c, FPL_ATTN_S_K, 0, qkv + s->C, row, FPL_CUDA_SCRATCH_B);
    const struct place q = head_operand(c, FPL_ATTN_S_Q, 0, qkv, row, FPL_CUDA_SCRATCH_A);
    scores(c, q, k, probs);
    if (fpl_cuda_failed(c->dev)) return;
    FPL_LAUNCH(softmax_rows, dim3(fpl_cuda_blocks(rows, ROWS)), dim3(ROWS * LANES), 0, c->dev, s->T, rows,
               s->scale, probs);
    const struct place v = head_operand(c, FPL_ATTN_OUT_V, 1, qkv + 2 * s->C, row, FPL_CUDA_SCRATCH_B);
    weighted(c, square_operand(c, FPL_ATTN_OUT_P, 0, probs), 0, v, out, s->C);
}

static void batched_backward(const struct call *c, const float *cosines, const float *sines, const float *qkv,
                             const float *probs, const float *dout, float *dqkv) {
    const struct shape *s = &c->s;
    const int64_t T = s->T, row = 3 * s->C, rows = s->heads * T;
    float *dS = (float *)fpl_cuda_scratch(c->dev, FPL_CUDA_SCRATCH_HEADS, (size_t)(rows * T) * sizeof(float));
    if (dS == NULL) return;
    const struct place d = head_operand(c, FPL_ATTN_DP_DOUT, 0, dout, s->C, FPL_CUDA_SCRATCH_A);
    scores(c, d, head_operand(c, FPL_ATTN_DP_V, 0, qkv + 2 * s->C, row, FPL_CUDA_SCRATCH_B), dS);
    if (fpl_cuda_failed(c->dev)) return;
    FPL_LAUNCH(softmax_backward_rows, dim3(fpl_cuda_blocks(rows, ROWS)), dim3(ROWS * LANES), 0, c->dev, T,
               rows, probs, dS);
    const struct place dv = head_operand(c, FPL_ATTN_DV_DOUT, 1, dout, s->C, FPL_CUDA_SCRATCH_A);
    weighted(c, square_operand(c, FPL_ATTN_DV_P, 1, probs), 1, dv, dqkv + 2 * s->C, row);
    const struct place q = head_operand(c, FPL_ATTN_DK_Q, 1, qkv, row, FPL_CUDA_SCRATCH_A);
    weighted(c, square_operand(c, FPL_ATTN_DK_DS, 1, dS), 1, q, dqkv + s->C, row);
    const struct place k = head_operand(c, FPL_ATTN_DQ_K, 1, qkv + s->C, row, FPL_CUDA_SCRATCH_A);
    weighted(c, square_operand(c, FPL_ATTN_DQ_DS, 0, dS), 0, k, dqkv, row);
    if (fpl_cuda_failed(c->dev)) return;
    FPL_LAUNCH(rotate_back_positions, dim3((unsigned)(s->sequences * T)), dim3(HEAD_THREADS), 0, c->dev, T,
               s->C, s->D, s->scale, cosines, sines, dqkv);
}

static int replica_fuses(const struct shape *s, const struct fpl_attention *quantized, int r) {
    if (!fuses(s->T, s->D)) return 0;
    for (int slot = 0; quantized != NULL && slot < FPL_ATTN_SLOTS; slot++) {
        const struct fpl_operand *q = quantized->slot[slot];
        if (q != NULL && !(q[r].plan.identity && q[r].plan.post.identity)) return 0;
    }
    return 1;
}

/* The longest part from replica `first` on that goes one way; *fused says which. */
static struct call next_part(struct fpl_device *dev, const struct shape *s,
                             const struct fpl_attention *quantized, int first, int *fused) {
    struct call c = {dev, *s, quantized, first, s->R};
    int end = first + 1;
    *fused = replica_fuses(s, quantized, first);
    *(*fused ? &dev->fuses : &dev->batches) = 1;
    while (end < s->R && replica_fuses(s, quantized, end) == *fused) end++;
    c.s.R = end - first;
    c.s.sequences = c.s.R * s->B;
    c.s.heads = c.s.sequences * s->H;
    return c;
}

static struct fpl_cuda_heads heads_of(const struct shape *s, const float *cosines, const float *sines) {
    const struct fpl_cuda_heads a = {s->T,    s->H,     s->D,    s->B * s->H, s->heads,
                                     s->kept, s->scale, cosines, sines};
    return a;
}

void fpl_cuda_attention_forward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                const float *cosines, const float *sines, float *qkv, float *kept, float *out,
                                const struct fpl_attention *quantized) {
    const struct shape s = shape_of(R, B, T, H, D, quantized != NULL);
    if (fpl_cuda_failed(dev) || s.heads * T == 0) return;
    FPL_LAUNCH(rotate_positions, dim3((unsigned)(s.sequences * T)), dim3(HEAD_THREADS), 0, dev, T, s.C, D,
               cosines, sines, qkv);
    for (int r = 0, fused; r < R;) {
        const struct call c = next_part(dev, &s, quantized, r, &fused);
        const int64_t at = r * B * T * s.C;
        const struct fpl_cuda_heads a = heads_of(&c.s, cosines, sines);
        if (fused)
            fpl_cuda_fused_forward(dev, &a, qkv + 3 * at, kept + r * s.kept, out + at);
        else
            batched_forward(&c, qkv + 3 * at, kept + r * s.kept, out + at);
        r += c.s.R;
    }
}

void fpl_cuda_attention_backward(struct fpl_device *dev, int R, int64_t B, int64_t T, int64_t H, int64_t D,
                                 const float *cosines, const float *sines, const float *qkv,
                                 const float *kept, const float *out, const float *dout, float *dqkv,
                                 const struct fpl_attention *quantized) {
    const struct shape s = shape_of(R, B, T, H, D, quantized != NULL);
    if (fpl_cuda_failed(dev) || s.heads * T == 0) return;
    for (int r = 0, fused; r < R;) {
        const struct call c = next_part(dev, &s, quantized, r, &fused);
        const int64_t at = r * B * T * s.C;
        const struct fpl_cuda_heads a = heads_of(&c.s, cosines, sines);
        if (fused)
            fpl_cuda_fused_backward(dev, &a, qkv + 3 * at, kept + r * s.kept, out + at, dout + at,
                                    dqkv + 3 * at);
        else
            batched_backward(&c, cosines, sines, qkv + 3 * at, kept + r * s.kept, dout + at, dqkv + 3 * at);
        r += c.s.R;
    }
}
