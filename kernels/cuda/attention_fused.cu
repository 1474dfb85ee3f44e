/* attention_fused.cu - causal attention in one kernel forward, two backward (attention.h).
 *
 * A block of 16 x 16 threads makes 64 queries by 64 keys at a time, 4 x 4 scores a thread: queries
 * ty, ty + 16, ..., keys tx, tx + 16, ..., so the sixteen lanes of a row share it and exchange by shuffles.
 * Tiles of q, k, v, dout lie in shared memory with D + 1 floats a line (D is even): reads along a line and
 * reads across lines both meet every bank once.
 *
 *   forward    a block has 64 queries and walks over their keys.  For each tile of keys
 *                m' = max(m, row's largest score),  e = exp(s score - s m'),  f = exp(s m - s m')
 *                l = f l + sum e,   o = f o + e v
 *              out = o / l;  kept: -s m and 1 / l
 *   backward   P = exp(s score + kept[0]) kept[1];  dP = dout v^T;  dS = P (dP - delta),
 *              delta = sum_d dout out, which is sum_j P dP
 *              dq: a block has 64 queries, walks over keys:  dq = dS k
 *              dk, dv: a block has 64 keys, walks over the queries that see them: dv = P^T dout, dk = dS^T q
 *              dq and dk are scaled and rotated back before they leave
 *
 * Order of sums.  Scores and dP: one chain of fused multiply-adds in increasing column.  Sums over keys or
 * queries: chains in increasing index, forward with the factor f between tiles of 64.  Sums of e: four
 * columns 16 apart in a thread, then distances 8, 4, 2, 1, tile by tile.  delta: columns tx, tx + 16, ... in
 * a chain, then the same distances.  All follow from T and D alone.
 *
 * The chains end at the diagonal, so no position sees a later one, not even its NaN.  A row whose scores are
 * all -infinity or NaN becomes NaN.
 */
#include "attention.h"
#include "operations.h"
#include "reduce.h"
#include "scalar_math.h"

static const int SIDE = FPL_ROW_LANES, EACH = 4, TILE = SIDE * EACH, THREADS = SIDE * SIDE, PITCH = TILE + 1;

/* What a block knows of its head. */
struct head {
    int64_t T, row; /* row: floats from one position to the next in qkv */
    const float *q; /* of position 0; k and v lie C and 2 C behind */
    int64_t C, D;
    int64_t at;     /* of position 0 in out and dout, rows of C */
    int64_t kept;   /* of position 0 in `kept` */
    int64_t in_qkv; /* of position 0's q in qkv */
    int64_t line;   /* of position 0 among the positions of all heads */
    int64_t first;  /* first line of the block's own tile */
};

/* Long tiles first: the last queries have the most keys, the first keys the most queries. */
__device__ static inline struct head head_of(const struct fpl_cuda_heads *a, const float *qkv,
                                             int by_queries) {
    const int64_t tiles = (a->T + TILE - 1) / TILE, z = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const int64_t sequence = z / a->H, h = z % a->H;
    struct head x;
    x.T = a->T;
    x.D = a->D;
    x.C = a->H * a->D;
    x.row = 3 * x.C;
    x.in_qkv = sequence * x.T * x.row + h * x.D;
    x.q = qkv + x.in_qkv;
    x.at = sequence * x.T * x.C + h * x.D;
    x.kept = z / a->each * a->kept + z % a->each * x.T * FPL_FUSED_KEPT;
    x.line = z * x.T;
    x.first = (by_queries ? tiles - 1 - tile : tile) * TILE;
    return x;
}

/* Lines [first, first + TILE) of [T, D] into to[TILE][D + 1], zeros beyond T. */
__device__ static inline void load_tile(const struct head *x, const float *from, int64_t row, int64_t first,
                                        float *to) {
    const int D = (int)x->D;
    for (int i = (int)threadIdx.x / SIDE; i < TILE; i += SIDE)
        for (int d = (int)threadIdx.x % SIDE; d < D; d += SIDE)
            to[i * (D + 1) + d] = first + i < x->T ? from[(first + i) * row + d] : 0.0f;
}

/* to[u][v] = sum over columns of line ty + 16 u of a and line tx + 16 v of b. */
__device__ static inline void line_products(int D, const float *a, const float *b, float to[EACH][EACH]) {
    const int ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE, pitch = D + 1;
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) FPL_UNROLL
    for (int v = 0; v < EACH; v++) to[u][v] = 0.0f;
    for (int d = 0; d < D; d++) {
        float x[EACH], y[EACH];
        FPL_UNROLL
        for (int u = 0; u < EACH; u++) x[u] = a[(ty + u * SIDE) * pitch + d];
        FPL_UNROLL
        for (int v = 0; v < EACH; v++) y[v] = b[(tx + v * SIDE) * pitch + d];
        FPL_UNROLL
        for (int u = 0; u < EACH; u++) FPL_UNROLL
        for (int v = 0; v < EACH; v++) to[u][v] = fmaf(x[u], y[v], to[u][v]);
    }
}

/* sum[u][v] += over k of w(ty + 16 u, k) lines[k][tx + 16 v]: w[line][k], or w[k][line] where `turned`.
 * Only k with first_k + k <= first_line + line enter, or >= where `turned`; V columns of 16. */
template <int V>
__device__ static inline void add_weighted(int D, const float *w, int turned, const float *lines,
                                           int64_t first_line, int64_t first_k, float sum[EACH][V]) {
    const int ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    const int along = turned ? PITCH : 1, across = turned ? 1 : PITCH;
    const int whole = turned ? first_k >= first_line + TILE - 1 : first_k + TILE - 1 <= first_line;
    int column[V]; /* threads beyond D repeat the last one and throw it away */
    FPL_UNROLL
    for (int v = 0; v < V; v++) column[v] = tx + v * SIDE < D ? tx + v * SIDE : D - 1;
    for (int k = 0; k < TILE; k++) {
        float y[V];
        FPL_UNROLL
        for (int v = 0; v < V; v++) y[v] = lines[k * (D + 1) + column[v]];
        FPL_UNROLL
        for (int u = 0; u < EACH; u++) {
            const int line = ty + u * SIDE;
            const int64_t ahead = first_k + k - (first_line + line);
            if (!whole && (turned ? ahead < 0 : ahead > 0)) continue;
            const float x = w[line * across + k * along];
            FPL_UNROLL
            for (int v = 0; v < V; v++) sum[u][v] = fmaf(x, y[v], sum[u][v]);
        }
    }
}

/* ---- forward ---------------------------------------------------------------------------------------- */

/* The running maximum, as -s m, and sum of one query. */
struct online {
    float most, shift, sum;
};

/* Scores of a row become e; returns f. */
__device__ static inline float absorb(struct online *row, float scale, const int seen[EACH],
                                      float score[EACH]) {
    float most = -INFINITY, sum = 0.0f;
    FPL_UNROLL
    for (int v = 0; v < EACH; v++) most = seen[v] && score[v] > most ? score[v] : most;
    most = fpl_row_max(most);
    most = row->most > most ? row->most : most;
    /* -infinity: nothing finite yet, and nothing to scale. */
    const float shift = most > -INFINITY ? most * -scale : 0.0f;
    const float f = row->most > -INFINITY ? fpl_exp(shift - row->shift) : 1.0f;
    FPL_UNROLL
    for (int v = 0; v < EACH; v++) {
        score[v] = seen[v] ? fpl_exp(fmaf(score[v], scale, shift)) : 0.0f;
        sum += score[v];
    }
    row->most = most;
    row->shift = shift;
    row->sum = fmaf(row->sum, f, fpl_row_sum(sum));
    return f;
}

template <int V>
__global__ void fused_forward(struct fpl_cuda_heads a, const float *qkv, float *kept, float *out) {
    FPL_SHARED_DYNAMIC(float, q);
    const struct head x = head_of(&a, qkv, 1);
    const int D = (int)x.D, ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    float *other = q + TILE * (D + 1), *e = other + TILE * (D + 1); /* k, then v; e[TILE][PITCH] */
    struct online row[EACH];
    float o[EACH][V];
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) {
        const struct online none = {-INFINITY, 0.0f, 0.0f};
        row[u] = none;
        FPL_UNROLL
        for (int v = 0; v < V; v++) o[u][v] = 0.0f;
    }
    load_tile(&x, x.q, x.row, x.first, q);
    for (int64_t j0 = 0; j0 <= x.first; j0 += TILE) {
        float score[EACH][EACH];
        __syncthreads(); /* the last tile's v is done with */
        load_tile(&x, x.q + x.C, x.row, j0, other);
        __syncthreads();
        line_products(D, q, other, score);
        FPL_UNROLL
        for (int u = 0; u < EACH; u++) {
            int seen[EACH];
            FPL_UNROLL
            for (int v = 0; v < EACH; v++) seen[v] = j0 + tx + v * SIDE <= x.first + ty + u * SIDE;
            const float f = absorb(&row[u], a.scale, seen, score[u]);
            FPL_UNROLL
            for (int v = 0; v < V; v++) o[u][v] *= f;
            FPL_UNROLL
            for (int v = 0; v < EACH; v++) e[(ty + u * SIDE) * PITCH + tx + v * SIDE] = score[u][v];
        }
        __syncthreads(); /* all have read k */
        load_tile(&x, x.q + 2 * x.C, x.row, j0, other);
        __syncthreads();
        add_weighted<V>(D, e, 0, other, x.first, j0, o);
    }
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) {
        const int64_t i = x.first + ty + u * SIDE;
        const float inverse = 1.0f / row[u].sum;
        if (i >= x.T) continue;
        FPL_UNROLL
        for (int v = 0; v < V; v++)
            if (tx + v * SIDE < D) out[x.at + i * x.C + tx + v * SIDE] = o[u][v] * inverse;
        if (tx != 0) continue;
        kept[x.kept + i * FPL_FUSED_KEPT] = row[u].shift;
        kept[x.kept + i * FPL_FUSED_KEPT + 1] = inverse;
    }
}

/* ---- backward --------------------------------------------------------------------------------------- */

/* What the forward pass and the gradient say of the thread's four queries from `first` on. */
struct queries {
    float shift[EACH], inverse[EACH], delta[EACH];
};

__device__ static inline void recall(const struct head *x, const float *kept, const float *delta,
                                     int64_t first, struct queries *to) {
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) {
        const int64_t i = first + (int)threadIdx.x / SIDE + u * SIDE;
        const int64_t at = x->kept + (i < x->T ? i : 0) * FPL_FUSED_KEPT;
        to->shift[u] = kept[at];
        to->inverse[u] = kept[at + 1];
        to->delta[u] = delta != NULL ? delta[i < x->T ? i : 0] : 0.0f;
    }
}

/* score and dP of queries from i0 on and keys from j0 on become P and dS; zeros where none is seen. */
__device__ static inline void gradients(const struct head *x, float scale, const struct queries *of,
                                        int64_t i0, int64_t j0, float score[EACH][EACH],
                                        float dP[EACH][EACH]) {
    const int ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) FPL_UNROLL
    for (int v = 0; v < EACH; v++) {
        const int64_t i = i0 + ty + u * SIDE;
        const int seen = i < x->T && j0 + tx + v * SIDE <= i;
        const float p = fpl_exp(fmaf(score[u][v], scale, of->shift[u])) * of->inverse[u];
        score[u][v] = seen ? p : 0.0f;
        dP[u][v] = seen ? p * (dP[u][v] - of->delta[u]) : 0.0f;
    }
}

__device__ static inline void put_tile(const float from[EACH][EACH], float *to) {
    const int ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) FPL_UNROLL
    for (int v = 0; v < EACH; v++) to[(ty + u * SIDE) * PITCH + tx + v * SIDE] = from[u][v];
}

/* Gradients of the rotated, scaled lines of the block's tile, back to those of the unrotated ones, into
 * `to` = position 0's line in dqkv.  room: shared, [TILE][D + 1]. */
template <int V>
__device__ static inline void store_rotated_back(const struct fpl_cuda_heads *a, const struct head *x,
                                                 const float sum[EACH][V], float *room, float *to) {
    const int D = (int)x->D, half = D / 2, ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    __syncthreads();
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) FPL_UNROLL
    for (int v = 0; v < V; v++)
        if (tx + v * SIDE < D) room[(ty + u * SIDE) * (D + 1) + tx + v * SIDE] = sum[u][v];
    __syncthreads();
    for (int u = 0; u < EACH; u++) {
        const int64_t t = x->first + ty + u * SIDE;
        const float *line = room + (ty + u * SIDE) * (D + 1);
        for (int i = tx; t < x->T && i < half; i += SIDE) {
            const float c = a->cosines[t * half + i], s = a->sines[t * half + i];
            const float low = line[i] * a->scale, high = line[i + half] * a->scale;
            to[t * x->row + i] = fmaf(low, c, high * s);
            to[t * x->row + i + half] = fmaf(high, c, -(low * s));
        }
    }
}

/* dq, and delta[heads, T] for the kernel after it. */
template <int V>
__global__ void fused_gradient_of_queries(struct fpl_cuda_heads a, const float *qkv, const float *kept,
                                          const float *out, const float *dout, float *delta, float *dqkv) {
    FPL_SHARED_DYNAMIC(float, q);
    const struct head x = head_of(&a, qkv, 1);
    const int D = (int)x.D, ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    const int size = TILE * (D + 1);
    float *g = q + size, *k = g + size, *v = k + size, *dS = v + size;
    float *own = delta + x.line;
    struct queries of;
    float sum[EACH][V];
    load_tile(&x, x.q, x.row, x.first, q);
    load_tile(&x, dout + x.at, x.C, x.first, g);
    recall(&x, kept, NULL, x.first, &of);
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) {
        const int64_t i = x.first + ty + u * SIDE, at = x.at + (i < x.T ? i : 0) * x.C;
        float dot = 0.0f;
        for (int d = tx; d < D; d += SIDE) dot = fmaf(dout[at + d], out[at + d], dot);
        of.delta[u] = fpl_row_sum(dot);
        if (tx == 0 && i < x.T) own[i] = of.delta[u];
        FPL_UNROLL
        for (int c = 0; c < V; c++) sum[u][c] = 0.0f;
    }
    for (int64_t j0 = 0; j0 <= x.first; j0 += TILE) {
        float score[EACH][EACH], dP[EACH][EACH];
        __syncthreads();
        load_tile(&x, x.q + x.C, x.row, j0, k);
        load_tile(&x, x.q + 2 * x.C, x.row, j0, v);
        __syncthreads();
        line_products(D, q, k, score);
        line_products(D, g, v, dP);
        gradients(&x, a.scale, &of, x.first, j0, score, dP);
        put_tile(dP, dS);
        __syncthreads();
        add_weighted<V>(D, dS, 0, k, x.first, j0, sum);
    }
    store_rotated_back<V>(&a, &x, sum, q, dqkv + x.in_qkv);
}

template <int V>
__global__ void fused_gradients_of_keys(struct fpl_cuda_heads a, const float *qkv, const float *kept,
                                        const float *delta, const float *dout, float *dqkv) {
    FPL_SHARED_DYNAMIC(float, q);
    const struct head x = head_of(&a, qkv, 0);
    const int D = (int)x.D, ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    const int size = TILE * (D + 1);
    float *g = q + size, *k = g + size, *v = k + size, *P = v + size, *dS = P + TILE * PITCH;
    const float *own = delta + x.line;
    float dk[EACH][V], dv[EACH][V];
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) FPL_UNROLL
    for (int c = 0; c < V; c++) dk[u][c] = dv[u][c] = 0.0f;
    load_tile(&x, x.q + x.C, x.row, x.first, k);
    load_tile(&x, x.q + 2 * x.C, x.row, x.first, v);
    for (int64_t i0 = x.first; i0 < x.T; i0 += TILE) {
        float score[EACH][EACH], dP[EACH][EACH];
        struct queries of;
        __syncthreads();
        load_tile(&x, x.q, x.row, i0, q);
        load_tile(&x, dout + x.at, x.C, i0, g);
        recall(&x, kept, own, i0, &of);
        __syncthreads();
        line_products(D, q, k, score);
        line_products(D, g, v, dP);
        gradients(&x, a.scale, &of, i0, x.first, score, dP);
        put_tile(score, P);
        put_tile(dP, dS);
        __syncthreads();
        add_weighted<V>(D, P, 1, g, x.first, i0, dv);
        add_weighted<V>(D, dS, 1, q, x.first, i0, dk);
    }
    FPL_UNROLL
    for (int u = 0; u < EACH; u++) {
        const int64_t j = x.first + ty + u * SIDE;
        FPL_UNROLL
        for (int c = 0; c < V; c++)
            if (j < x.T && tx + c * SIDE < D) dqkv[x.in_qkv + 2 * x.C + j * x.row + tx + c * SIDE] = dv[u][c];
    }
    store_rotated_back<V>(&a, &x, dk, k, dqkv + x.in_qkv + x.C);
}

/* ---- entries ---------------------------------------------------------------------------------------- */

static unsigned blocks_of(const struct fpl_cuda_heads *a) {
    return (unsigned)(a->count * ((a->T + TILE - 1) / TILE));
}

/* Bytes of `tiles` tiles of lines and `squares` of scores. */
static size_t shared_bytes(const struct fpl_cuda_heads *a, int tiles, int squares) {
    return ((size_t)tiles * TILE * (size_t)(a->D + 1) + (size_t)squares * TILE * PITCH) * sizeof(float);
}

template <int V>
static void forward(struct fpl_device *dev, const struct fpl_cuda_heads *a, const float *qkv, float *kept,
                    float *out) {
    const size_t shared = shared_bytes(a, 2, 1);
    if (!fpl_cuda_shared(dev, fused_forward<V>, shared, "fused_forward")) return;
    FPL_LAUNCH(fused_forward<V>, dim3(blocks_of(a)), dim3(THREADS), shared, dev, *a, qkv, kept, out);
}

template <int V>
static void backward(struct fpl_device *dev, const struct fpl_cuda_heads *a, const float *qkv,
                     const float *kept, const float *out, const float *dout, float *delta, float *dqkv) {
    const size_t of_queries = shared_bytes(a, 4, 1), of_keys = shared_bytes(a, 4, 2);
    if (!fpl_cuda_shared(dev, fused_gradient_of_queries<V>, of_queries, "fused_gradient_of_queries") ||
        !fpl_cuda_shared(dev, fused_gradients_of_keys<V>, of_keys, "fused_gradients_of_keys"))
        return;
    FPL_LAUNCH(fused_gradient_of_queries<V>, dim3(blocks_of(a)), dim3(THREADS), of_queries, dev, *a, qkv,
               kept, out, dout, delta, dqkv);
    FPL_LAUNCH(fused_gradients_of_keys<V>, dim3(blocks_of(a)), dim3(THREADS), of_keys, dev, *a, qkv, kept,
               delta, dout, dqkv);
}

void fpl_cuda_fused_forward(struct fpl_device *dev, const struct fpl_cuda_heads *heads, const float *qkv,
                            float *kept, float *out) {
    if (fpl_cuda_failed(dev) || heads->count == 0) return;
    if (heads->D <= SIDE)
        forward<1>(dev, heads, qkv, kept, out);
    else if (heads->D <= 2 * SIDE)
        forward<2>(dev, heads, qkv, kept, out);
    else
        forward<4>(dev, heads, qkv, kept, out);
}

void fpl_cuda_fused_backward(struct fpl_device *dev, const struct fpl_cuda_heads *heads, const float *qkv,
                             const float *kept, const float *out, const float *dout, float *dqkv) {
    float *delta = (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_SUMS,
                                             (size_t)(heads->count * heads->T) * sizeof(float));
    if (delta == NULL || heads->count == 0) return;
    if (heads->D <= SIDE)
        backward<1>(dev, heads, qkv, kept, out, dout, delta, dqkv);
    else if (heads->D <= 2 * SIDE)
        backward<2>(dev, heads, qkv, kept, out, dout, delta, dqkv);
    else
        backward<4>(dev, heads, qkv, kept, out, dout, delta, dqkv);
}
