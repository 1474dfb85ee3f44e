/* cross_entropy.cu - softmax, loss in nats and gradient of one row per block.
 *
 *   m = max x,  z = sum exp(x_v - m),  loss = log z + (m - x_target)
 *   dlogits = exp(x_v - m) (scale / z),  less scale at the target
 *
 * Order of z: thread t of W adds columns t, t + W, ... in double, then reduce.h; W follows from V.
 * Each thread overwrites only logits that it alone reads, so dlogits may be logits; the target's
 * logit is read by all before the first write.  A NaN or +infinity anywhere in a row makes its
 * loss NaN.
 */
#include "operations.h"
#include "reduce.h"
#include "scalar_math.h"

static const int MOST_THREADS = 256;

__global__ void cross_entropy_rows(int64_t V, const float *logits, const int32_t *targets, double scale,
                                   double *loss, float *dlogits) {
    FPL_SHARED(float, part, MOST_THREADS / FPL_WARP);
    FPL_SHARED(double, sums, MOST_THREADS / FPL_WARP);
    const int64_t row = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
    const float *x = logits + row * V;
    const int32_t target = targets[row];
    const float x_target = x[target];
    float most = -INFINITY;
    for (int64_t v = threadIdx.x; v < V; v += blockDim.x) most = x[v] > most ? x[v] : most;
    const float m = fpl_block_max(most, part); /* its barriers: all have read x_target */
    double sum = 0.0;
    for (int64_t v = threadIdx.x; v < V; v += blockDim.x) sum += (double)fpl_exp(x[v] - m);
    const double z = fpl_block_sum(sum, sums);
    if (threadIdx.x == 0) loss[row] = fpl_log(z) + ((double)m - (double)x_target);
    if (dlogits == NULL) return;
    const float factor = (float)(scale / z), one = (float)scale;
    for (int64_t v = threadIdx.x; v < V; v += blockDim.x) {
        const float d = fpl_exp(x[v] - m) * factor;
        dlogits[row * V + v] = v == target ? d - one : d;
    }
}

void fpl_cuda_cross_entropy(struct fpl_device *dev, int R, int64_t n, int64_t V, const float *logits,
                            const int32_t *targets, double scale, double *loss, float *dlogits) {
    if (fpl_cuda_failed(dev)) return;
    const int64_t whole = (V + FPL_WARP - 1) / FPL_WARP * FPL_WARP;
    const unsigned threads = (unsigned)(whole < MOST_THREADS ? whole : MOST_THREADS);
    FPL_LAUNCH(cross_entropy_rows, dim3((unsigned)n, (unsigned)R), dim3(threads), 0, dev, V, logits, targets,
               scale, loss, dlogits);
}
