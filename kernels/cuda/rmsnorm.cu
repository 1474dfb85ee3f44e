/* rmsnorm.cu - root-mean-square norm with the residual addition around it (arXiv 1910.07467).
 *
 *   forward    h = x + delta,  rstd = 1 / sqrt(mean(h^2) + eps),  y = (h rstd) gain
 *   backward   dh    = rstd dy gain - h rstd^3 mean(dy gain h) + dh_in
 *              dgain += sum over rows of dy rstd h
 *
 * Order of sums.  Thread t of a block of W threads adds columns t, t + W, ... of a row in order, then
 * reduce.h; W follows from C.  dgain: rows of a tile of 16 in order, one partial sum per tile, tiles in
 * order, then onto the old dgain.  One read of dy and h serves dh and dgain: a block keeps its
 * tile's partial sums of all columns in shared memory, each column in one thread's hands.
 */
#include "operations.h"
#include "reduce.h"

static const int TILE_ROWS = 16, MOST_THREADS = 256;

/* Threads of a block: one per column up to 256, whole warps. */
static unsigned threads_of(int64_t C) {
    const int64_t whole = (C + FPL_WARP - 1) / FPL_WARP * FPL_WARP;
    return (unsigned)(whole < MOST_THREADS ? whole : MOST_THREADS);
}

__global__ void rmsnorm_rows(int64_t C, float eps, const float *x, const float *delta, const float *gain,
                             float *h, float *y, float *rstd) {
    FPL_SHARED(float, part, MOST_THREADS / FPL_WARP);
    const int64_t row = (int64_t)blockIdx.y * gridDim.x + blockIdx.x, at = row * C;
    float squares = 0.0f;
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
        float v = x[at + c];
        if (delta != NULL) h[at + c] = v = v + delta[at + c];
        squares = fmaf(v, v, squares);
    }
    const float mean = fpl_block_sum(squares, part) / (float)C, scale = 1.0f / sqrtf(mean + eps);
    if (threadIdx.x == 0) rstd[row] = scale;
    const float *from = delta != NULL ? h : x; /* each thread reads back its own columns only */
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
        y[at + c] = from[at + c] * scale * gain[(int64_t)blockIdx.y * C + c];
}

__global__ void rmsnorm_gradients(int64_t n, int64_t C, const float *dy, const float *h, const float *gain,
                                  const float *rstd, const float *dh_in, float *dh, float *partial) {
    FPL_SHARED(float, part, MOST_THREADS / FPL_WARP);
    FPL_SHARED_DYNAMIC(float, dgain); /* [C] */
    const int64_t r = blockIdx.y, first = (int64_t)blockIdx.x * TILE_ROWS;
    const int64_t end = first + TILE_ROWS < n ? first + TILE_ROWS : n;
    const float *g = gain + r * C;
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x) dgain[c] = 0.0f;
    for (int64_t row = first; row < end; row++) {
        const int64_t at = (r * n + row) * C;
        const float scale = rstd[r * n + row];
        float dot = 0.0f;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) dot = fmaf(dy[at + c] * g[c], h[at + c], dot);
        const float mean = fpl_block_sum(dot, part) / (float)C, back = scale * scale * scale * mean;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            const float d = dy[at + c], v = h[at + c], in = dh_in != NULL ? dh_in[at + c] : 0.0f;
            dgain[c] = fmaf(d * scale, v, dgain[c]);
            dh[at + c] = fmaf(scale * d, g[c], fmaf(-v, back, in));
        }
    }
    for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
        partial[(r * gridDim.x + blockIdx.x) * C + c] = dgain[c];
}

/* to[r, c] += partial[r, 0, c] + partial[r, 1, c] + ..., in order. */
__global__ void add_tiles(int64_t C, int64_t tiles, const float *partial, float *to) {
    const int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y;
    if (c >= C) return;
    float sum = 0.0f;
    for (int64_t t = 0; t < tiles; t++) sum += partial[(r * tiles + t) * C + c];
    to[r * C + c] += sum;
}

void fpl_cuda_rmsnorm_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, double eps, const float *x,
                              const float *delta, const float *gain, float *h, float *y, float *rstd) {
    if (fpl_cuda_failed(dev)) return;
    FPL_LAUNCH(rmsnorm_rows, dim3((unsigned)n, (unsigned)R), dim3(threads_of(C)), 0, dev, C, (float)eps, x,
               delta, gain, h, y, rstd);
}

void fpl_cuda_rmsnorm_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, const float *dy,
                               const float *h, const float *gain, const float *rstd, const float *dh_in,
                               float *dh, float *dgain) {
    const unsigned tiles = fpl_cuda_blocks(n, TILE_ROWS);
    const size_t shared = (size_t)C * sizeof(float);
    float *partial = (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_SUMS, (size_t)R * tiles * shared);
    if (partial == NULL || !fpl_cuda_shared(dev, rmsnorm_gradients, shared, "rmsnorm_gradients")) return;
    FPL_LAUNCH(rmsnorm_gradients, dim3(tiles, (unsigned)R), dim3(threads_of(C)), shared, dev, n, C, dy, h,
               gain, rstd, dh_in, dh, partial);
    FPL_LAUNCH(add_tiles, dim3(fpl_cuda_blocks(C, 128), (unsigned)R), dim3(128), 0, dev, C, (int64_t)tiles,
               partial, dgain);
}
