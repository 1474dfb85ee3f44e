/* diagnose.cu - error, underflow, clipping and exponents of a quantized operand (kernels.h, diagnose).
 *
 * The operand is transformed and quantized once more on the device, by the code that training uses; its
 * values and what became of them are then measured on the host by formats/measure.h, whose definitions and
 * order of sums these are.  A diagnosis is taken every few hundred steps and may cost a copy.
 */
#include "gemm.h"
#include "operations.h"

#include <stdlib.h>

/* Finite elements beyond the largest value once scaled; x[rows, cols], the reduction axis as columns. */
static int64_t count_clipped(const struct fpl_quantizer_plan *p, int64_t rows, int64_t cols, const float *x,
                             const struct fpl_group_scale *scales) {
    int64_t high, wide, clipped = 0;
    fpl_quantizer_group_shape(p, rows, cols, &high, &wide);
    const int64_t across = (cols - 1) / wide + 1;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j += wide)
            clipped += fpl_count_clipped(p, &scales[i / high * across + j / wide],
                                         fpl_cuda_smaller(wide, cols - j), x + i * cols + j);
    return clipped;
}

/* Host copies of one operand: what is quantized, what came out, a transposed copy, the scales. */
struct copies {
    float *x, *out, *turned;
    struct fpl_group_scale *scales;
};

static int copies_open(struct fpl_device *dev, struct copies *c, int64_t size, int64_t groups) {
    const size_t bytes = (size_t)size * sizeof(float);
    c->x = (float *)malloc(bytes);
    c->out = (float *)malloc(bytes);
    c->turned = (float *)malloc(bytes);
    c->scales = (struct fpl_group_scale *)malloc((size_t)groups * sizeof *c->scales);
    if (c->x != NULL && c->out != NULL && c->turned != NULL && c->scales != NULL) return 1;
    fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
    return 0;
}

static void copies_close(struct copies *c) {
    free(c->x);
    free(c->out);
    free(c->turned);
    free(c->scales);
}

static void diagnose_one(struct fpl_device *dev, const struct fpl_cuda_source *s, struct fpl_diagnosis *d) {
    const int64_t size = s->lines * s->width;
    const struct fpl_cuda_view view = fpl_cuda_source_view(s);
    const int64_t groups = fpl_quantizer_groups(&s->q->plan, view.rows, view.cols);
    float *room =
        (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_DIAGNOSIS, 2 * (size_t)size * sizeof(float));
    struct copies c = {NULL, NULL, NULL, NULL};
    if (room == NULL) return;
    if (copies_open(dev, &c, size, groups)) {
        struct fpl_operand quiet = *s->q;
        quiet.observe = 0;
        const float *x = fpl_cuda_transformed(dev, 1, s, room);
        fpl_cuda_quantize_view(dev, 1, &view, &quiet, x, room + size, FPL_CARRIER_FP32, NULL);
        fpl_cuda_download(dev, c.x, x, (size_t)size * sizeof(float));
        fpl_cuda_download(dev, c.out, room + size, (size_t)size * sizeof(float));
        fpl_measure_values(&d->sums, size, c.x, c.out);
        fpl_exponents_add(&d->exponents, size, c.x, c.out);
        if (!s->q->plan.identity) {
            const struct fpl_group_scale *scales =
                fpl_cuda_group_scales(dev, FPL_CUDA_SCRATCH_SCALES, 1, &view, &quiet, x, NULL);
            if (scales != NULL) fpl_cuda_download(dev, c.scales, scales, (size_t)groups * sizeof *scales);
            for (int64_t i = 0; i < view.rows; i++)
                for (int64_t j = 0; j < view.cols; j++)
                    c.turned[i * view.cols + j] = c.x[i * view.row_stride + j * view.col_stride];
            if (!fpl_cuda_failed(dev))
                d->sums.clipped += count_clipped(&s->q->plan, view.rows, view.cols, c.turned, c.scales);
        }
    }
    copies_close(&c);
}

void fpl_cuda_diagnose(struct fpl_device *dev, int R, int64_t lines, int64_t width, int along_lines,
                       const struct fpl_operand *q, const float *x, struct fpl_diagnosis *diagnosis) {
    if (lines == 0 || width == 0) return;
    for (int r = 0; r < R && !fpl_cuda_failed(dev); r++) {
        const struct fpl_cuda_source s = {x + r * lines * width, lines, width, along_lines, &q[r], NULL};
        diagnose_one(dev, &s, &diagnosis[r]);
    }
}
