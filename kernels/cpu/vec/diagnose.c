/* diagnose.c - error, underflow, clipping and exponents of a quantized operand.
 *
 * The operand is transformed and quantized once more, into scratch, by the code that training
 * uses; then what was quantized and what became of it are summed by formats/measure.h, whose
 * definitions these are.  Clipping asks for the scale of every element: groups are rectangles
 * of tall x wide floats in memory, as in quantize.c, and a band of `tall` lines has one scale
 * per column.
 */
#include "diagnose.h"

#include "hadamard.h"
#include "operand.h"
#include "ops.h"
#include "parallel.h"
#include "quantize.h"

/* ---- clipping ----------------------------------------------------------------------------------- */

/* A matrix as it lies in memory, and its groups. */
struct groups {
    const struct fpl_quantizer_plan *plan;
    int64_t lines, width, tall, wide;
    float s_enc;
};

/* The factors of one band, one per column; returns whether they divide. A group of zeros has
 * factor 1, which may do either. */
static int band_scales(const struct groups *m, int64_t lines, const float *x, float *scale) {
    int divide = 0;
    for (int64_t i = 0; i < m->width; i += m->wide) {
        const int64_t n = smaller(m->wide, m->width - i);
        const float amax = fpl_bits_float(FPL_VEC(largest_finite_bits)(lines, m->width, n, x + i));
        const struct fpl_group_scale g = fpl_group_scale(m->plan, amax, m->s_enc);
        divide |= g.divide;
        for (int64_t k = 0; k < n; k++) scale[i + k] = g.quant;
    }
    return divide;
}

/* Finite elements that lie beyond `largest` once scaled: fpl_count_clipped, column by column. */
static int64_t line_clipped(const float *x, const float *scale, int divide, float largest, int64_t n) {
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const float a = fpl_finite_magnitude(x[i]), y = divide ? a / scale[i] : a * scale[i];
        count += y > largest;
    }
    return count;
}

static int64_t count_clipped(const struct groups *m, const float *x, float *scale) {
    int64_t clipped = 0;
    if (m->plan->identity) return 0;
    for (int64_t l = 0; l < m->lines; l += m->tall) {
        const int64_t end = smaller(l + m->tall, m->lines);
        const int divide = band_scales(m, end - l, x + l * m->width, scale);
        for (int64_t i = l; i < end; i++)
            clipped += line_clipped(x + i * m->width, scale, divide, m->plan->largest, m->width);
    }
    return clipped;
}

/* The same for what amax alone does not decide (zero points, searches, codebooks), by the
 * definition: x[rows, cols] is the operand with its reduction axis as columns. */
static int64_t rare_clipped(const struct fpl_quantizer_plan *plan, float s_enc, int64_t rows, int64_t cols,
                            const float *x) {
    const int64_t groups = fpl_quantizer_groups(plan, rows, cols);
    int64_t high, wide, clipped = 0;
    fpl_quantizer_group_shape(plan, rows, cols, &high, &wide);
    const int64_t across = tiles_of(cols, wide);
    for (int64_t n = 0; n < groups; n++) {
        const int64_t first = n / across * high, column = n % across * wide;
        struct fpl_group_scale g;
        fpl_quantizer_group_scale(plan, rows, cols, x, s_enc, n, &g);
        for (int64_t i = first; i < smaller(first + high, rows); i++)
            clipped += fpl_count_clipped(plan, &g, smaller(wide, cols - column), x + i * cols + column);
    }
    return clipped;
}

/* ---- one operand -------------------------------------------------------------------------------- */

void FPL_VEC(diagnose_matrix)(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                              const struct fpl_random_at *at, int64_t lines, int64_t width, int along_lines,
                              const float *x, struct fpl_diagnosis *d) {
    struct fpl_device alone = {.threads = 1};
    const int64_t size = lines * width, rows = along_lines ? width : lines,
                  cols = along_lines ? lines : width;
    if (size == 0) return;
    float *out = fpl_cpu_scratch(dev, FPL_CPU_DIAGNOSIS, (size_t)(size + width) * sizeof *out);
    if (out == NULL) return;
    FPL_VEC(quantize_matrix)
    (&alone, plan, at, rows, cols, along_lines ? 1 : width, along_lines ? width : 1, x, out);
    struct groups m = {.plan = plan, .lines = lines, .width = width};
    fpl_quantizer_group_shape(plan, rows, cols, along_lines ? &m.wide : &m.tall,
                              along_lines ? &m.tall : &m.wide);
    m.s_enc = fpl_quantize_tensor_scale(plan, lines, width, width, 1, x);
    fpl_measure_values(&d->sums, size, x, out);
    fpl_exponents_add(&d->exponents, size, x, out);
    if (!plan->zero_point && !plan->search && plan->round.codebook == 0) {
        d->sums.clipped += count_clipped(&m, x, out + size);
        return;
    }
    for (int64_t i = 0; along_lines && i < rows; i++)
        for (int64_t j = 0; j < cols; j++) out[i * cols + j] = x[j * width + i];
    d->sums.clipped += rare_clipped(plan, m.s_enc, rows, cols, along_lines ? out : x);
}

void FPL_VEC(diagnose)(struct fpl_device *dev, int R, int64_t lines, int64_t width, int along_lines,
                       const struct fpl_operand *q, const float *x, struct fpl_diagnosis *diagnosis) {
    for (int r = 0; r < R && dev->error.code == FPL_OK; r++) {
        const struct fpl_quantizer_plan plan = operand_plan(&q[r]);
        const float *from = x + r * lines * width;
        if (q[r].hadamard != 0) {
            float *turned =
                fpl_cpu_scratch(dev, FPL_CPU_TRANSFORMED, (size_t)(lines * width) * sizeof *turned);
            if (turned == NULL) return;
            FPL_VEC(hadamard)(dev, q[r].hadamard, lines, width, along_lines, from, turned);
            from = turned;
        }
        FPL_VEC(diagnose_matrix)(dev, &plan, &q[r].at, lines, width, along_lines, from, &diagnosis[r]);
    }
}
