/* product.cu - batched float32 products on the ordinary cores (product.h).
 *
 * A block of 16 x 16 threads makes a tile of C of side 16 S, S x S elements a thread in registers, over
 * slices of 16 steps of k that it first copies to shared memory.  Threads take rows ty, ty + 16, ... and
 * columns tx, tx + 16, ..., so a warp's reads of shared memory have no conflicts and its stores are whole
 * lines.  The copies run along whichever index is contiguous.  A slice cut off at K is not padded: a product
 * of zeros would turn a sum of -0 into +0.
 *
 * S = 8 where tiles are plenty, S = 4 else; the bits do not tell which.
 */
#include "product.h"

static const int SIDE = 16, DEPTH = 16, THREADS = SIDE * SIDE;

/* Slice [k0, k0 + DEPTH) of rows [first, first + TILE) into to[k][i]. */
template <int TILE>
__device__ static inline void load_slice(const float *x, int64_t row, int64_t col, int64_t first,
                                         int64_t rows, int64_t k0, int64_t K, float *to) {
    for (int e = (int)threadIdx.x; e < TILE * DEPTH; e += THREADS) {
        const int i = col == 1 ? e / DEPTH : e % TILE, k = col == 1 ? e % DEPTH : e / TILE;
        to[k * (TILE + 1) + i] =
            first + i < rows && k0 + k < K ? x[(first + i) * row + (k0 + k) * col] : 0.0f;
    }
}

template <int S> __global__ void multiply_tiles(struct fpl_cuda_product p, int64_t first_matrix) {
    const int TILE = SIDE * S;
    FPL_SHARED(float, a_slice, DEPTH *(SIDE * S + 1));
    FPL_SHARED(float, b_slice, DEPTH *(SIDE * S + 1));
    const int64_t across = (p.N + TILE - 1) / TILE, z = first_matrix + blockIdx.y;
    const int64_t i0 = blockIdx.x / across * TILE, j0 = blockIdx.x % across * TILE;
    const int asked = (p.only[0] != NULL && p.only[0][z] != 0) || (p.only[1] != NULL && p.only[1][z] != 0);
    if ((p.only[0] != NULL || p.only[1] != NULL) && !asked) return;
    if (p.triangle == FPL_LOWER_RESULT && j0 > i0 + TILE - 1) return;
    const float *a = p.a + fpl_matrix_at(&p.a_at, p.inner, z), *b = p.b + fpl_matrix_at(&p.b_at, p.inner, z);
    float *c = p.c + fpl_matrix_at(&p.c_at, p.inner, z);
    const int ty = (int)threadIdx.x / SIDE, tx = (int)threadIdx.x % SIDE;
    float sum[S][S];
    for (int u = 0; u < S; u++)
        for (int v = 0; v < S; v++) {
            const int64_t i = i0 + ty + u * SIDE, j = j0 + tx + v * SIDE;
            sum[u][v] = p.accumulate && i < p.M && j < p.N ? c[i * p.c_at.row + j] : 0.0f;
        }
    int64_t begin = p.triangle == FPL_UPPER_A ? i0 / DEPTH * DEPTH : 0, end = p.K;
    if (p.triangle == FPL_LOWER_A && i0 + TILE < end) end = i0 + TILE;
    for (int64_t k0 = begin; k0 < end; k0 += DEPTH) {
        load_slice<SIDE * S>(a, p.a_at.row, p.a_at.col, i0, p.M, k0, p.K, a_slice);
        load_slice<SIDE * S>(b, p.b_at.col, p.b_at.row, j0, p.N, k0, p.K, b_slice);
        __syncthreads();
        const int depth = end - k0 < DEPTH ? (int)(end - k0) : DEPTH;
        /* Only slices that meet the diagonal ask element by element. */
        const int whole = p.triangle == FPL_LOWER_A ? k0 + DEPTH <= i0 + 1
                                                    : p.triangle != FPL_UPPER_A || k0 >= i0 + TILE - 1;
        for (int k = 0; k < depth; k++) {
            float x[S], y[S];
            for (int u = 0; u < S; u++) x[u] = a_slice[k * (TILE + 1) + ty + u * SIDE];
            for (int v = 0; v < S; v++) y[v] = b_slice[k * (TILE + 1) + tx + v * SIDE];
            for (int u = 0; u < S; u++) {
                const int64_t i = i0 + ty + u * SIDE;
                if (!whole && (p.triangle == FPL_LOWER_A ? k0 + k > i : k0 + k < i)) continue;
                for (int v = 0; v < S; v++) sum[u][v] = fmaf(x[u], y[v], sum[u][v]);
            }
        }
        __syncthreads();
    }
    for (int u = 0; u < S; u++)
        for (int v = 0; v < S; v++) {
            const int64_t i = i0 + ty + u * SIDE, j = j0 + tx + v * SIDE;
            if (i < p.M && j < p.N) c[i * p.c_at.row + j] = sum[u][v];
        }
}

static int64_t tiles_of(const struct fpl_cuda_product *p, int64_t tile) {
    return ((p->M + tile - 1) / tile) * ((p->N + tile - 1) / tile);
}

void fpl_cuda_multiply(struct fpl_device *dev, const struct fpl_cuda_product *p) {
    const int64_t most = 65535; /* matrices in one grid */
    if (fpl_cuda_failed(dev) || p->M == 0 || p->N == 0) return;
    const int large = p->M >= 128 && p->N >= 128 && tiles_of(p, 128) * p->batch >= 256;
    for (int64_t z = 0; z < p->batch; z += most) {
        const unsigned count = (unsigned)fpl_cuda_smaller(most, p->batch - z);
        if (large)
            FPL_LAUNCH(multiply_tiles<8>, dim3((unsigned)tiles_of(p, 128), count), dim3(THREADS), 0, dev, *p,
                       z);
        else
            FPL_LAUNCH(multiply_tiles<4>, dim3((unsigned)tiles_of(p, 64), count), dim3(THREADS), 0, dev, *p,
                       z);
    }
}
