/* embedding.cu - rows of a table by token, and their gradients.
 *
 * Backward.  The rows of dout that belong to one token are added in increasing row order, so no
 * atomics: link_rows finds for every row the next row with the same token and marks the first ones;
 * then one block walks each first row's chain.  Links depend on the tokens only and cost n^2/2
 * comparisons of integers per replica, out of shared memory.
 */
#include "operations.h"

enum { ROWS_PER_BLOCK = 8, LINK_TILE = 256 };

__global__ void embedding_rows(int64_t n, int64_t C, int64_t V, const int32_t *tokens, const float *table,
                               float *out) {
    const int64_t row = (int64_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.y;
    const int64_t r = blockIdx.y;
    if (row >= n) return;
    const float *from = table + (r * V + tokens[r * n + row]) * C;
    for (int64_t c = threadIdx.x; c < C; c += FPL_WARP) out[(r * n + row) * C + c] = from[c];
}

/* next[r, i]: the first j > i with the same token, or n; first[r, i]: no j < i has it. */
__global__ void link_rows(int64_t n, const int32_t *tokens, int32_t *next, int32_t *first) {
    FPL_SHARED(int32_t, tile, LINK_TILE);
    const int64_t i = (int64_t)blockIdx.x * LINK_TILE + threadIdx.x;
    const int32_t *t = tokens + (int64_t)blockIdx.y * n;
    const int32_t mine = i < n ? t[i] : -1;
    int64_t after = n;
    int is_first = 1;
    for (int64_t begin = 0; begin < n; begin += LINK_TILE) {
        tile[threadIdx.x] = begin + threadIdx.x < n ? t[begin + threadIdx.x] : -2;
        __syncthreads();
        for (int k = 0; k < LINK_TILE; k++) {
            if (tile[k] != mine) continue;
            if (begin + k < i) is_first = 0;
            if (begin + k > i && begin + k < after) after = begin + k;
        }
        __syncthreads();
    }
    if (i >= n) return;
    next[(int64_t)blockIdx.y * n + i] = (int32_t)after;
    first[(int64_t)blockIdx.y * n + i] = is_first;
}

__global__ void embedding_chains(int64_t n, int64_t C, int64_t V, const int32_t *tokens, const int32_t *next,
                                 const int32_t *first, const float *dout, float *dtable) {
    const int64_t r = blockIdx.y, row = (int64_t)blockIdx.x * ROWS_PER_BLOCK + threadIdx.y;
    if (row >= n || !first[r * n + row]) return;
    float *to = dtable + (r * V + tokens[r * n + row]) * C;
    for (int64_t c = threadIdx.x; c < C; c += FPL_WARP) {
        float sum = to[c];
        for (int64_t i = row; i < n; i = next[r * n + i]) sum += dout[(r * n + i) * C + c];
        to[c] = sum;
    }
}

void fpl_cuda_embedding_forward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                const int32_t *tokens, const float *table, float *out) {
    if (fpl_cuda_failed(dev)) return;
    FPL_LAUNCH(embedding_rows, dim3(fpl_cuda_blocks(n, ROWS_PER_BLOCK), (unsigned)R),
               dim3(FPL_WARP, ROWS_PER_BLOCK), 0, dev, n, C, V, tokens, table, out);
}

void fpl_cuda_embedding_backward(struct fpl_device *dev, int R, int64_t n, int64_t C, int64_t V,
                                 const int32_t *tokens, const float *dout, float *dtable) {
    int32_t *links =
        (int32_t *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_SUMS, (size_t)R * (size_t)n * 2 * sizeof *links);
    if (links == NULL) return;
    int32_t *next = links, *first = links + (int64_t)R * n;
    FPL_LAUNCH(link_rows, dim3(fpl_cuda_blocks(n, LINK_TILE), (unsigned)R), dim3(LINK_TILE), 0, dev, n,
               tokens, next, first);
    FPL_LAUNCH(embedding_chains, dim3(fpl_cuda_blocks(n, ROWS_PER_BLOCK), (unsigned)R),
               dim3(FPL_WARP, ROWS_PER_BLOCK), 0, dev, n, C, V, tokens, next, first, dout, dtable);
}
