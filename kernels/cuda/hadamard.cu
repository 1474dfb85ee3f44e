/* hadamard.cu - the random Hadamard transform of an operand along its reduction axis.
 *
 * formats/hadamard.h defines it; its additions of one distance are independent of each other, so both
 * kernels give its bits.
 *
 *   within lines   one lane per element; the partner at distance h comes by a shuffle, and lane i takes
 *                  partner + own where bit h of i is clear, partner - own where it is set
 *   along lines    a thread takes the n elements of one column, neighbours neighbouring columns
 */
#include "operand.h"
#include "operations.h"

#include "../../formats/hadamard.h"

#include <stdlib.h>

static const int THREADS = 256;

__global__ void hadamard_within(int64_t width, const int *sizes, const float *x, float *out) {
    const int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.z;
    const int64_t at = (r * gridDim.y + blockIdx.y) * width + j;
    const int n = sizes[r], lane = n == 0 ? 0 : (int)(j % n);
    const float given = j < width ? x[at] : 0.0f;
    float y = n != 0 ? fpl_hadamard_sign(lane, given) : given;
    for (int h = 1; h < n; h *= 2) {
        const float partner = __shfl_xor_sync(FPL_ALL_LANES, y, h);
        y = lane & h ? partner - y : partner + y;
    }
    if (j >= width) return;
    out[at] = n != 0 && j < width / n * n ? y * fpl_hadamard_factor(n) : given;
}

/* blockIdx.y counts groups of 16 lines, of which a transform of 32 takes every other one. */
__global__ void hadamard_along(int64_t lines, int64_t width, const int *sizes, const float *x, float *out) {
    const int64_t j = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.z;
    const int64_t first = (int64_t)blockIdx.y * 16, base = r * lines * width + j;
    const int n = sizes[r];
    float v[FPL_HADAMARD_MOST];
    if (j >= width) return;
    const int64_t group = n == 0 ? 0 : first / n * n;
    if (n != 0 && group + n <= lines) {
        if (first != group) return;
        for (int i = 0; i < n; i++) v[i] = x[base + (group + i) * width];
        fpl_hadamard(n, v);
        for (int i = 0; i < n; i++) out[base + (group + i) * width] = v[i];
        return;
    }
    for (int64_t i = first; i < first + 16 && i < lines; i++) out[base + i * width] = x[base + i * width];
}

void fpl_cuda_hadamard(struct fpl_device *dev, int R, const struct fpl_operand *q, int64_t lines,
                       int64_t width, int along_lines, const float *x, float *out) {
    if (fpl_cuda_failed(dev) || lines == 0 || width == 0) return;
    int *sizes = (int *)calloc((size_t)R, sizeof *sizes);
    if (sizes == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return;
    }
    for (int r = 0; r < R; r++) sizes[r] = q[r].hadamard;
    const int *device = (const int *)fpl_cuda_parameter(dev, sizes, (size_t)R * sizeof *sizes);
    free(sizes);
    if (device == NULL) return;
    if (along_lines) {
        FPL_LAUNCH(hadamard_along,
                   dim3(fpl_cuda_blocks(width, THREADS), fpl_cuda_blocks(lines, 16), (unsigned)R),
                   dim3(THREADS), 0, dev, lines, width, device, x, out);
        return;
    }
    /* A grid has at most 65535 blocks in its second direction. */
    const int64_t most = 65535;
    for (int r = 0; lines > most && r < R; r++)
        for (int64_t first = 0; first < lines; first += most) {
            const int64_t count = lines - first < most ? lines - first : most,
                          at = (r * lines + first) * width;
            FPL_LAUNCH(hadamard_within, dim3(fpl_cuda_blocks(width, THREADS), (unsigned)count, 1),
                       dim3(THREADS), 0, dev, width, device + r, x + at, out + at);
        }
    if (lines > most) return;
    FPL_LAUNCH(hadamard_within, dim3(fpl_cuda_blocks(width, THREADS), (unsigned)lines, (unsigned)R),
               dim3(THREADS), 0, dev, width, device, x, out);
}
