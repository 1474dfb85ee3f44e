/* clip_mask.c - gradients cut off where the forward quantizer clipped (kernels.h, clip_mask).
 *
 * Two passes over the operand: the scale of every group, then every line of elements.  Whether
 * an element clips is decided by fpl_element_clips alone, which draws the forward product's
 * random bits; a vector comparison first passes over the many that cannot, because a scaled
 * magnitude of at most the largest value never rounds beyond it.  That holds for signed
 * formats whose ends are +-largest: zero points and codebooks are asked element by element.
 *
 * With a Hadamard transform the mask lives where the quantizer does: x is transformed, and of
 * the gradient those groups in which something clips.  Scratch: 0 x, 4 scales.
 */
#include "../../../formats/hadamard.h"
#include "../../../formats/random.h"
#include "../../../formats/scale.h"
#include "hadamard.h"
#include "native.h"
#include "operand.h"
#include "ops.h"
#include "parallel.h"

enum { LINES = 16 }; /* of a tile */

struct mask {
    const struct fpl_quantizer_plan *plan;
    const struct fpl_random_at *at;
    int64_t rows, cols;
    int64_t group_rows, group_cols, across; /* groups of a band */
    int n;                                  /* of the Hadamard transform; 0: none */
    int filter;                             /* |y| <= largest never clips */
    float s_enc;
    const float *x; /* as the quantizer sees it */
    float *gradient;
    struct fpl_group_scale *scale;
};

/* ---- scales ---------------------------------------------------------------------------------- */

static float amax_of(int64_t lines, int64_t stride, int64_t n, const float *x) {
    uint32_t bits = FPL_VEC(largest_bits)(lines, stride, n, x);
    if (bits >= 0x7f800000u) bits = FPL_VEC(largest_finite_bits)(lines, stride, n, x);
    return fpl_bits_float(bits);
}

static void band_scales(const void *job, int64_t band, int thread) {
    (void)thread;
    const struct mask *m = job;
    const struct fpl_quantizer_plan *p = m->plan;
    const int64_t first = band * m->group_rows, rows = smaller(m->group_rows, m->rows - first);
    const int plain = !p->zero_point && p->search == FPL_SEARCH_NONE;
    for (int64_t g = 0; g < m->across; g++) {
        struct fpl_group_scale *to = &m->scale[band * m->across + g];
        const int64_t j = g * m->group_cols, n = smaller(m->group_cols, m->cols - j);
        if (!plain)
            fpl_quantizer_group_scale(p, m->rows, m->cols, m->x, m->s_enc, band * m->across + g, to);
        else if (p->granularity == FPL_UNSCALED)
            *to = fpl_group_scale(p, 0.0f, m->s_enc);
        else
            *to = fpl_group_scale(p, amax_of(rows, m->cols, n, m->x + first * m->cols + j), m->s_enc);
    }
}

static void scales(struct fpl_device *dev, struct mask *m) {
    const struct fpl_quantizer_plan *p = m->plan;
    if (p->two_level)
        m->s_enc = p->zero_point ? fpl_quantize_tensor_scale(p, m->rows, m->cols, m->cols, 1, m->x)
                                 : fpl_tensor_scale(p, amax_of(m->rows, m->cols, m->cols, m->x));
    for_tiles(dev, tiles_of(m->rows, m->group_rows), band_scales, m);
}

/* ---- elements -------------------------------------------------------------------------------- */

static int clips(const struct mask *m, const struct fpl_group_scale *s, int64_t k) {
    uint32_t random = 0;
    if (fpl_is_stochastic(m->plan->round.mode))
        random = fpl_random_bits(m->at->seed, m->at->step, m->at->stream, m->at->element + (uint64_t)k,
                                 m->plan->round.sr_bits);
    return fpl_element_clips(m->plan, s, m->x[k], random);
}

/* One bit per element k, k + 1, .. of at most NL that may clip. */
VINLINE uint32_t suspects(const struct mask *m, const struct fpl_group_scale *s, int64_t k, int64_t n) {
    const uint32_t all = n >= NL ? (uint32_t)(((uint64_t)1 << NL) - 1u) : (1u << n) - 1u;
    if (!m->filter) return all;
    const nf x = nload_n(m->x + k, n), quant = nset(s->quant);
    const nf y = s->divide ? x / quant : x * quant;
    /* Magnitudes order as their bits do, infinities and NaN above all. */
    const nu magnitude = (nu)y & nsetu(0x7fffffffu);
    return nlanes(nmore_i(magnitude, nsetu(fpl_float_bits(m->plan->largest)))) & all;
}

/* Of the n elements from `first` on, all of one scale: those that clip, as bits counted from
 * `origin` (which is at most 63 before the last). */
static uint64_t clipped_bits(const struct mask *m, const struct fpl_group_scale *s, int64_t origin,
                             int64_t first, int64_t n) {
    uint64_t clipped = 0;
    for (int64_t k = first; k < first + n; k += NL) {
        uint32_t bits = suspects(m, s, k, first + n - k);
        for (; bits != 0; bits &= bits - 1u) {
            const int64_t i = k + __builtin_ctz(bits);
            if (clips(m, s, i)) clipped |= UINT64_C(1) << (i - origin);
        }
    }
    return clipped;
}

/* The gradient of one group of the transform, some of whose elements clip. */
static void mask_transformed(const struct mask *m, int64_t first, uint64_t clipped) {
    float g[FPL_HADAMARD_MOST];
    memcpy(g, m->gradient + first, (size_t)m->n * sizeof *g);
    fpl_hadamard(m->n, g);
    for (; clipped != 0; clipped &= clipped - 1u) g[__builtin_ctzll(clipped)] = 0.0f;
    fpl_hadamard_transposed(m->n, g);
    memcpy(m->gradient + first, g, (size_t)m->n * sizeof *g);
}

/* One line, a piece at a time: a group of the transform, or up to 64 elements of one scale. */
static void mask_line(const struct mask *m, const struct fpl_group_scale *band, int64_t line) {
    const int64_t first = line * m->cols, transformed = m->n != 0 ? m->cols / m->n * m->n : 0;
    for (int64_t j = 0; j < m->cols;) {
        const int64_t piece = j < transformed ? m->n : smaller(64, m->cols - j);
        uint64_t clipped = 0;
        for (int64_t i = j; i < j + piece;) {
            const int64_t g = i / m->group_cols, n = smaller((g + 1) * m->group_cols, j + piece) - i;
            clipped |= clipped_bits(m, &band[g], first + j, first + i, n);
            i += n;
        }
        if (clipped != 0 && j < transformed)
            mask_transformed(m, first + j, clipped);
        else
            for (; clipped != 0; clipped &= clipped - 1u)
                m->gradient[first + j + __builtin_ctzll(clipped)] = 0.0f;
        j += piece;
    }
}

static void mask_lines(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct mask *m = job;
    for (int64_t l = tile * LINES; l < smaller((tile + 1) * LINES, m->rows); l++)
        mask_line(m, m->scale + l / m->group_rows * m->across, l);
}

/* One replica. */
static void mask_one(struct fpl_device *dev, int64_t rows, int64_t cols, const struct fpl_operand *q,
                     const float *x, float *gradient) {
    const struct fpl_quantizer_plan plan = operand_plan(q);
    if (plan.identity || rows <= 0 || cols <= 0) return;
    struct mask m = {.plan = &plan, .at = &q->at, .rows = rows, .cols = cols, .n = q->hadamard, .x = x};
    m.gradient = gradient;
    m.s_enc = 1.0f;
    m.filter = plan.round.is_signed && !plan.zero_point && plan.round.codebook == 0;
    fpl_quantizer_group_shape(&plan, rows, cols, &m.group_rows, &m.group_cols);
    m.across = tiles_of(cols, m.group_cols);
    m.scale = fpl_cpu_scratch(dev, 4, (size_t)fpl_quantizer_groups(&plan, rows, cols) * sizeof *m.scale);
    if (m.n != 0) {
        float *transformed = fpl_cpu_scratch(dev, 0, (size_t)(rows * cols) * sizeof *transformed);
        if (transformed == NULL) return;
        FPL_VEC(hadamard)(dev, m.n, rows, cols, 0, x, transformed);
        m.x = transformed;
    }
    if (m.scale == NULL) return;
    scales(dev, &m);
    for_tiles(dev, tiles_of(rows, LINES), mask_lines, &m);
}

void FPL_VEC(clip_mask)(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                        const struct fpl_operand *q, const float *x, float *gradient) {
    for (int r = 0; r < R && dev->error.code == FPL_OK; r++)
        mask_one(dev, rows, cols, &q[r], x + r * rows * cols, gradient + r * rows * cols);
}
