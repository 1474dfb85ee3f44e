/* delay.c - the end of a step of delayed scaling (kernels.h, struct fpl_delay).
 *
 * The window is a ring over steps, so that a step costs one store and one pass over H floats per
 * operand, however long the window is.
 */
#include "cpu.h"

void fpl_cpu_delay(struct fpl_device *dev, const struct fpl_delay *states, int count, int64_t step,
                   float *buffer) {
    if (dev->error.code != FPL_OK) return;
    for (int i = 0; i < count; i++) {
        float *state = buffer + states[i].offset, *window = state + FPL_DELAY_HEAD, largest = 0.0f;
        window[step % states[i].length] = state[0];
        for (int32_t s = 0; s < states[i].length; s++) largest = window[s] > largest ? window[s] : largest;
        state[0] = 0.0f;
        state[1] = largest;
    }
}
