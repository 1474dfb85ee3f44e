/* delay.cu - delayed scaling's state (kernels.h, struct fpl_delay): amaxes met, and the end of a step.
 *
 * The window is a ring over steps.  Magnitudes order as their bits do, so raising is an integer
 * maximum.
 */
#include "operand.h"
#include "operations.h"

#include <stdlib.h>

__global__ void raise_amax(int R, int heads, float *const *states, const unsigned *amax) {
    const int r = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (r >= R || states[r] == NULL) return;
    for (int h = 0; h < heads; h++)
        if (amax[r * heads + h] > __float_as_uint(states[r][0]))
            states[r][0] = __uint_as_float(amax[r * heads + h]);
}

__global__ void end_step(int count, const struct fpl_delay *states, int64_t step, float *buffer) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    float *state = buffer + states[i].offset, *window = state + FPL_DELAY_HEAD, largest = 0.0f;
    window[step % states[i].length] = state[0];
    for (int32_t s = 0; s < states[i].length; s++) largest = window[s] > largest ? window[s] : largest;
    state[0] = 0.0f;
    state[1] = largest;
}

void fpl_cuda_observe(struct fpl_device *dev, int R, int heads, const struct fpl_operand *q,
                      const unsigned *amax) {
    if (fpl_cuda_failed(dev) || amax == NULL) return;
    float **states = (float **)calloc((size_t)R, sizeof *states);
    if (states == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return;
    }
    int any = 0;
    for (int r = 0; r < R; r++) {
        states[r] = q[r].observe && q[r].plan.history > 0 ? q[r].delay : NULL;
        any |= states[r] != NULL;
    }
    float *const *device =
        any ? (float *const *)fpl_cuda_parameter(dev, states, (size_t)R * sizeof *states) : NULL;
    free(states);
    if (device == NULL) return;
    FPL_LAUNCH(raise_amax, dim3(fpl_cuda_blocks(R, 128)), dim3(128), 0, dev, R, heads, device, amax);
}

void fpl_cuda_delay(struct fpl_device *dev, const struct fpl_delay *states, int count, int64_t step,
                    float *buffer) {
    if (fpl_cuda_failed(dev) || count == 0) return;
    const struct fpl_delay *device =
        (const struct fpl_delay *)fpl_cuda_parameter(dev, states, (size_t)count * sizeof *states);
    if (device == NULL) return;
    FPL_LAUNCH(end_step, dim3(fpl_cuda_blocks(count, 128)), dim3(128), 0, dev, count, device, step, buffer);
}
