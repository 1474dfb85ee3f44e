/* swiglu.cu - the gated unit of the feed-forward layer (arXiv 2002.05202).
 *
 *   forward    out = silu(gate) up,  silu(x) = x s,  s = 1 / (1 + exp(-x))
 *   backward   dup = dout silu(gate),  dgate = dout up s (1 + gate (1 - s))
 *
 * gate_up[R, n, 2F] holds gate, then up, in each row.  One thread per element; nothing is summed.
 */
#include "operations.h"
#include "scalar_math.h"

enum { THREADS = 256 };

__device__ static inline float sigmoid(float x) { return 1.0f / (1.0f + fpl_exp(-x)); }

__global__ void swiglu_elements(int64_t count, int64_t F, const float *gate_up, float *out) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    const int64_t row = i / F, at = row * 2 * F + i % F;
    const float gate = gate_up[at];
    out[i] = gate * sigmoid(gate) * gate_up[at + F];
}

__global__ void swiglu_gradients(int64_t count, int64_t F, const float *gate_up, const float *dout,
                                 float *dgate_up) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    const int64_t row = i / F, at = row * 2 * F + i % F;
    const float gate = gate_up[at], up = gate_up[at + F], d = dout[i], s = sigmoid(gate);
    dgate_up[at] = d * up * s * fmaf(gate, 1.0f - s, 1.0f);
    dgate_up[at + F] = d * (gate * s);
}

void fpl_cuda_swiglu_forward(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up,
                             float *out) {
    const int64_t count = R * n * F;
    if (fpl_cuda_failed(dev) || count == 0) return;
    FPL_LAUNCH(swiglu_elements, dim3(fpl_cuda_blocks(count, THREADS)), dim3(THREADS), 0, dev, count, F,
               gate_up, out);
}

void fpl_cuda_swiglu_backward(struct fpl_device *dev, int R, int64_t n, int64_t F, const float *gate_up,
                              const float *dout, float *dgate_up) {
    const int64_t count = R * n * F;
    if (fpl_cuda_failed(dev) || count == 0) return;
    FPL_LAUNCH(swiglu_gradients, dim3(fpl_cuda_blocks(count, THREADS)), dim3(THREADS), 0, dev, count, F,
               gate_up, dout, dgate_up);
}
