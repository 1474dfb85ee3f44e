/* clip_mask.cu - gradients cut off where the forward quantizer clipped (kernels.h, clip_mask).
 *
 * The scale of every group (scales.cu), then one thread per piece: an element, or a group of the Hadamard
 * transform, whose gradient is transformed, masked and transformed back if any of its elements clips.
 * fpl_element_clips decides, with the random bits of the forward product.
 */
#include "element.h"
#include "operations.h"

#include "../../formats/hadamard.h"

struct mask {
    int64_t rows, cols;
    int n; /* of the transform; 0: none */
    struct fpl_cuda_groups groups;
    struct fpl_cuda_at at;
    const struct fpl_cuda_operand *operand;
    const struct fpl_group_scale *scales;
    const float *x; /* as the quantizer sees it */
    float *gradient;
};

__device__ static inline int clips(const struct mask *m, const struct fpl_quantizer_plan *p, int64_t i,
                                   int64_t j) {
    const struct fpl_group_scale s = m->scales[i / m->groups.rows * m->groups.across + j / m->groups.cols];
    const int64_t k = i * m->cols + j;
    return fpl_element_clips(p, &s, m->x[k], fpl_element_random(m->operand, &m->at, k));
}

/* A line has whole groups of the transform, then single elements. */
__global__ void mask_pieces(struct mask m, int64_t pieces) {
    const int64_t at = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= m.rows * pieces) return;
    const struct fpl_quantizer_plan p = fpl_plan_now(m.operand);
    const int64_t i = at / pieces, piece = at % pieces, whole = m.n != 0 ? m.cols / m.n : 0;
    const int64_t j = piece < whole ? piece * m.n : whole * m.n + (piece - whole);
    float *g = m.gradient + i * m.cols + j;
    if (piece >= whole) {
        if (clips(&m, &p, i, j)) *g = 0.0f;
        return;
    }
    uint32_t clipped = 0;
    for (int k = 0; k < m.n; k++) clipped |= (uint32_t)clips(&m, &p, i, j + k) << k;
    if (clipped == 0) return;
    float y[FPL_HADAMARD_MOST];
    for (int k = 0; k < m.n; k++) y[k] = g[k];
    fpl_hadamard(m.n, y);
    for (int k = 0; k < m.n; k++)
        if (clipped >> k & 1u) y[k] = 0.0f;
    fpl_hadamard_transposed(m.n, y);
    for (int k = 0; k < m.n; k++) g[k] = y[k];
}

static void mask_one(struct fpl_device *dev, int64_t rows, int64_t cols, const struct fpl_operand *q,
                     const float *x, float *gradient) {
    const struct fpl_cuda_view view = {rows, cols, cols, 1, rows * cols, 1};
    struct mask m;
    memset(&m, 0, sizeof m);
    m.rows = rows;
    m.cols = cols;
    m.n = q->hadamard;
    m.at = fpl_cuda_at_of(1, q);
    m.x = x;
    m.gradient = gradient;
    if (m.n != 0) {
        float *turned =
            (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_A, (size_t)(rows * cols) * sizeof *turned);
        if (turned == NULL) return;
        fpl_cuda_hadamard(dev, 1, q, rows, cols, 0, x, turned);
        m.x = turned;
    }
    m.groups = fpl_cuda_groups_of(&q->plan, &view);
    m.scales = fpl_cuda_group_scales(dev, FPL_CUDA_SCRATCH_SCALES, 1, &view, q, m.x, NULL);
    m.operand = fpl_cuda_operands(dev, 1, q);
    if (m.scales == NULL || m.operand == NULL || fpl_cuda_failed(dev)) return;
    const int64_t whole = m.n != 0 ? cols / m.n : 0, pieces = whole + cols - whole * m.n;
    FPL_LAUNCH(mask_pieces, dim3(fpl_cuda_blocks(rows * pieces, 128)), dim3(128), 0, dev, m, pieces);
}

void fpl_cuda_clip_mask(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                        const struct fpl_operand *q, const float *x, float *gradient) {
    if (rows <= 0 || cols <= 0) return;
    for (int r = 0; r < R && !fpl_cuda_failed(dev); r++)
        if (!q[r].plan.identity)
            mask_one(dev, rows, cols, &q[r], x + r * rows * cols, gradient + r * rows * cols);
}
