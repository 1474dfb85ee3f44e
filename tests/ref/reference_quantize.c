/* reference_quantize.c - operands and optimizer states through their quantizers.
 *
 * A double is rounded to float32, quantized by fpl_quantize_reference, and widened again.
 * Delayed scaling (kernels.h, struct fpl_delay): the plan's amax is the state's second float,
 * the amax that is met raises the first.
 */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

static float *narrow(const double *x, int64_t size) {
    float *f = malloc((size_t)(size ? size : 1) * sizeof *f);
    if (!f) abort();
    for (int64_t i = 0; i < size; i++) f[i] = (float)x[i];
    return f;
}

static struct fpl_quantizer_plan present_plan(const struct fpl_operand *q) {
    struct fpl_quantizer_plan plan = q->plan;
    if (plan.history > 0 && q->delay) plan.delayed_amax = q->delay[1];
    return plan;
}

int64_t ref_quantize_operand(const struct fpl_operand *q, int64_t lines, int64_t width, int along_lines,
                             double *x) {
    if (!q || (q->plan.identity && q->plan.post.identity)) return 0;
    const int64_t size = lines * width;
    float *f = narrow(x, size);
    const struct fpl_quantizer_plan plan = present_plan(q);
    for (int64_t i = 0; q->delay && plan.history > 0 && q->observe && i < size; i++)
        if (isfinite(f[i]) && fabsf(f[i]) > q->delay[0]) q->delay[0] = fabsf(f[i]);
    int64_t bad =
        fpl_quantize_reference(&plan, along_lines ? width : lines, along_lines ? lines : width,
                               along_lines ? 1 : width, along_lines ? width : 1, f, f, NULL, &q->at);
    for (int64_t i = 0; i < size; i++) x[i] = (double)f[i];
    free(f);
    return plan.identity ? 0 : bad;
}

void ref_quantize_tensors(int R, const struct fpl_segment *segments, int count, const struct fpl_operand *q,
                          const int32_t *active, double *x, int64_t *nonfinite) {
    for (int r = 0; q && r < R; r++) {
        for (int s = 0; s < count; s++) {
            struct fpl_operand of = q[r];
            const int64_t size = segments[s].size, cols = segments[s].cols ? segments[s].cols : size;
            if (size == 0 || (active && !active[r])) continue;
            of.at.stream += (uint32_t)s << 8;
            if (of.delay) of.delay += s * (FPL_DELAY_HEAD + of.plan.history);
            const int64_t bad =
                ref_quantize_operand(&of, size / cols, cols, 0, x + segments[s].offset + r * size);
            if (nonfinite) nonfinite[r] += bad;
        }
    }
}

void ref_delay(const struct fpl_delay *states, int count, int64_t step, float *buffer) {
    for (int i = 0; i < count; i++) {
        float *amax = buffer + states[i].offset;
        amax[FPL_DELAY_HEAD + step % states[i].length] = amax[0];
        amax[0] = 0;
        amax[1] = fpl_delayed_amax(amax + FPL_DELAY_HEAD, states[i].length);
    }
}
