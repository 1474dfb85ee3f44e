/* reduce.h - sums and maxima over a warp and over a block, in a fixed order.
 *
 * A warp adds by exchanges at distances 16, 8, 4, 2, 1: float32 addition commutes, so every lane
 * ends with the same bits.  A block adds its warps' sums in order, in every thread, after one
 * barrier; a second barrier lets the shared array be used again.
 */
#ifndef FPL_CUDA_REDUCE_H
#define FPL_CUDA_REDUCE_H

#include "launch.h"

template <typename T> __device__ static inline T fpl_warp_sum(T v) {
    for (int by = FPL_WARP / 2; by > 0; by /= 2) v += __shfl_xor_sync(FPL_ALL_LANES, v, by);
    return v;
}

/* The larger; a NaN never wins. */
template <typename T> __device__ static inline T fpl_warp_max(T v) {
    for (int by = FPL_WARP / 2; by > 0; by /= 2) {
        const T other = __shfl_xor_sync(FPL_ALL_LANES, v, by);
        v = other > v ? other : v;
    }
    return v;
}

/* Over 16 neighbouring lanes that share a row, at distances 8, 4, 2, 1; every lane of the warp takes part. */
enum { FPL_ROW_LANES = 16 };

__device__ static inline float fpl_row_sum(float v) {
    for (int by = FPL_ROW_LANES / 2; by > 0; by /= 2) v += __shfl_xor_sync(FPL_ALL_LANES, v, by);
    return v;
}

__device__ static inline float fpl_row_max(float v) {
    for (int by = FPL_ROW_LANES / 2; by > 0; by /= 2) {
        const float other = __shfl_xor_sync(FPL_ALL_LANES, v, by);
        v = other > v ? other : v;
    }
    return v;
}

/* part: shared, [blockDim.x / 32]; blockDim.x a multiple of 32. */
template <typename T> __device__ static inline T fpl_block_sum(T v, T *part) {
    v = fpl_warp_sum(v);
    if (threadIdx.x % FPL_WARP == 0) part[threadIdx.x / FPL_WARP] = v;
    __syncthreads();
    T sum = part[0];
    for (unsigned w = 1; w < blockDim.x / FPL_WARP; w++) sum += part[w];
    __syncthreads();
    return sum;
}

template <typename T> __device__ static inline T fpl_block_max(T v, T *part) {
    v = fpl_warp_max(v);
    if (threadIdx.x % FPL_WARP == 0) part[threadIdx.x / FPL_WARP] = v;
    __syncthreads();
    T most = part[0];
    for (unsigned w = 1; w < blockDim.x / FPL_WARP; w++) most = part[w] > most ? part[w] : most;
    __syncthreads();
    return most;
}

#endif
