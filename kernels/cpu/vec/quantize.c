/* quantize.c - quantizers on matrices: exactly fpl_quantize_reference, at vector speed.
 *
 * An operand is seen with its reduction axis as columns, but lies in memory as `lines` of
 * `width` consecutive floats, and which of the two runs along the lines depends on the
 * product.  So everything here is in terms of memory: a group of one scale is a rectangle of
 * tall x wide floats, and both orientations are the same code.
 *
 *   1  amax: per column over the tall lines, then across wide columns.  Blocks along the
 *      reduction axis of wgrad are tall and one wide: no lane ever meets another
 *   2  scales of all groups of a chunk (quantize_scale.c), spread to one per column
 *   3  every line: scale, round (quantize_round.h), scale back, each lane with its own scale
 *
 * A chunk is a band of groups by at most CHUNK columns, so that its second reading and its
 * scales come from the first-level cache.  Contiguous lines of whole groups are one long
 * line.  Groups wider than a chunk get their amax beforehand.
 *
 * Lanes that quantize_round.h does not cover (infinities, NaNs, overflow other than `sat`) and
 * formats it does not cover go through scale.h one by one.  Non-finite elements are found by
 * the maxima, for nothing.
 */
#include "ops.h"

#include "parallel.h"
#include "quantize.h"
#include "quantize_apply.h"
#include "quantize_random.h"

enum { CHUNK = 2048, CHUNK_FLOATS = 4096 };

struct matrix {
    struct rounding rounding;
    struct philox keys;
    float *out;
    int64_t lines, width, stride;
    int64_t tall, wide; /* of a group */
    int64_t columns;    /* of a chunk: a multiple of wide, or any where wide is larger */
    int64_t bands;      /* of a chunk, each of `tall` lines */
    int64_t room;       /* of a band's scales: whole vectors */
    int64_t across;     /* chunks side by side */
    int64_t *nonfinite;
};

/* Divisions by 64-bit numbers take longer than rounding a vector; most here are by one. */
static int64_t divide_up(int64_t n, int64_t by) {
    if (by == 1) return n;
    return (n | by) >> 31 == 0 ? (int64_t)(((uint32_t)n + (uint32_t)by - 1) / (uint32_t)by)
                               : (n + by - 1) / by;
}

/* ---- one chunk --------------------------------------------------------------------------------- */

/* Lines [line, line + lines) by columns [column, column + n): bands of groups, the last of
 * which may be less tall. */
struct chunk {
    int64_t line, lines, column, n;
};

/* A group wider than a chunk, with its scale. */
struct part {
    const struct matrix *m;
    struct chunk group;
    float quant, dequant;
};

static int64_t count_nonfinite(const struct chunk *c, int64_t stride, const float *x) {
    int64_t count = 0;
    for (int64_t l = 0; l < c->lines; l++)
        for (int64_t i = 0; i < c->n; i++)
            count += (fpl_float_bits(x[l * stride + i]) & 0x7f800000u) == 0x7f800000u;
    return count;
}

/* amax of one band's groups, padded by zeros; returns the bits of the largest magnitude. */
static uint32_t band_amax(const struct matrix *m, int64_t lines, int64_t n, const float *x, float *amax) {
    _Alignas(64) float columns[CHUNK];
    uint32_t all;
    if (lines == 1) {
        all = FPL_VEC(group_largest)(n, m->wide, x, amax);
    } else {
        all = FPL_VEC(column_largest)(lines, m->stride, n, x, 0, m->wide == 1 ? amax : columns);
        if (m->wide > 1) FPL_VEC(group_largest)(n, m->wide, columns, amax);
    }
    if (all >= 0x7f800000u) {
        FPL_VEC(column_largest)(lines, m->stride, n, x, 1, columns);
        FPL_VEC(group_largest)(n, m->wide, columns, amax);
    }
    for (int64_t g = divide_up(n, m->wide); g < m->room; g++) amax[g] = 0.0f;
    return all;
}

/* Stochastic rounding: as many lines at once as there is room for their random bits. */
static void random_rectangle(const struct matrix *m, struct rectangle *t, rectangle_fn run) {
    _Alignas(64) uint16_t random[2 * CHUNK_FLOATS + RANDOM_ROOM];
    const struct rounding *r = &m->rounding;
    const uint64_t first = r->at->element + (uint64_t)(t->x - r->x);
    const int64_t most = t->n == t->stride && t->n < CHUNK_FLOATS ? CHUNK_FLOATS / t->n : 1, lines = t->lines;
    for (int64_t l = 0; l < lines; l += most) {
        t->lines = smaller(lines - l, most);
        t->random = random_halves(&m->keys, first + (uint64_t)(l * t->stride), t->lines * t->n, random);
        t->random_stride = t->n;
        run(t);
        t->x += t->lines * t->stride;
        t->out += t->lines * t->stride;
    }
}

/* Bands of up to `tall` lines with one scale per `wide` columns; each band has `room` of the
 * `scales` scales (padding included). largest: bits of the largest magnitude of all. */
static void round_bands(const struct matrix *m, const struct chunk *c, int64_t tall, int64_t wide,
                        int64_t room, int64_t scales, uint32_t largest, float *quant, const float *dequant) {
    _Alignas(64) float column_quant[CHUNK], column_dequant[CHUNK];
    const struct rounding *r = &m->rounding;
    const int grouped = wide % NL == 0 && c->n % NL == 0, spread = !grouped && wide > 1;
    const int64_t first = c->line * m->stride + c->column;
    const rectangle_fn fast = FPL_VEC(fast_rectangle)(r, largest, grouped ? wide : 1);
    const rectangle_fn run =
        fast != NULL ? fast : FPL_VEC(any_rectangle)(r, largest >= 0x7f800000u, grouped ? wide : 1);
    struct rectangle t = {.r = r, .stride = m->stride, .n = c->n, .wide = grouped ? wide : 1};
    if (fast != NULL && r->scaling.divide) FPL_VEC(inverses)(scales, quant, quant);
    for (int64_t l = 0; l < c->lines; l += tall, quant += room, dequant += room) {
        t.x = r->x + first + l * m->stride;
        t.out = m->out + first + l * m->stride;
        t.lines = smaller(tall, c->lines - l);
        t.quant = quant;
        t.dequant = dequant;
        if (spread) {
            FPL_VEC(spread)(c->n, wide, quant, column_quant);
            FPL_VEC(spread)(c->n, wide, dequant, column_dequant);
            t.quant = column_quant;
            t.dequant = column_dequant;
        }
        if (r->round.way == WAY_SR)
            random_rectangle(m, &t, run);
        else
            run(&t);
    }
}

/* A chunk of whole groups. */
static void quantize_bands(const struct matrix *m, const struct chunk *c) {
    _Alignas(64) float quant[CHUNK + NL], dequant[CHUNK + NL], amax[CHUNK + NL];
    const float *x = m->rounding.x + c->line * m->stride + c->column;
    uint32_t all = 0;
    int64_t l = 0, b = 0;
    do {
        const uint32_t largest =
            band_amax(m, smaller(m->tall, c->lines - l), c->n, x + l * m->stride, amax + b);
        all = largest > all ? largest : all;
        l += m->tall;
        b += m->room;
    } while (l < c->lines);
    FPL_VEC(group_scales)(&m->rounding.scaling, b, amax, quant, dequant);
    if (all >= 0x7f800000u)
        __atomic_fetch_add(m->nonfinite, count_nonfinite(c, m->stride, x), __ATOMIC_RELAXED);
    round_bands(m, c, m->tall, m->wide, m->room, b, all, quant, dequant);
}

/* A chunk of a group that is wider than chunks. */
static void quantize_part(const struct matrix *m, const struct chunk *c, const struct part *p) {
    _Alignas(64) float quant[NL], dequant[NL];
    const float *x = m->rounding.x + c->line * m->stride + c->column;
    const uint32_t all = FPL_VEC(largest_bits)(c->lines, m->stride, c->n, x);
    if (all >= 0x7f800000u)
        __atomic_fetch_add(m->nonfinite, count_nonfinite(c, m->stride, x), __ATOMIC_RELAXED);
    nstore(quant, nset(p->quant));
    nstore(dequant, nset(p->dequant));
    round_bands(m, c, c->lines, CHUNK, NL, NL, all, quant, dequant);
}

/* ---- the matrix -------------------------------------------------------------------------------- */

/* Chunk `tile` of a matrix whose groups fit chunks. */
static void chunk_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct matrix *m = job;
    const int64_t high = m->bands * m->tall, row = m->across == 1 ? tile : tile / m->across;
    const int64_t line = row * high, column = (tile - row * m->across) * m->columns;
    const struct chunk c = {line, smaller(high, m->lines - line), column,
                            smaller(m->columns, m->width - column)};
    quantize_bands(m, &c);
}

static void part_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct part *p = job;
    const int64_t column = tile * p->m->columns;
    const struct chunk c = {p->group.line, p->group.lines, p->group.column + column,
                            smaller(p->m->columns, p->group.n - column)};
    quantize_part(p->m, &c, p);
}

static float amax_of(const struct matrix *m, const struct chunk *c) {
    const float *x = m->rounding.x + c->line * m->stride + c->column;
    uint32_t all = FPL_VEC(largest_bits)(c->lines, m->stride, c->n, x);
    if (all >= 0x7f800000u) all = FPL_VEC(largest_finite_bits)(c->lines, m->stride, c->n, x);
    return fpl_bits_float(all);
}

/* Groups wider than a chunk, one after the other. */
static void wide_groups(struct fpl_device *dev, const struct matrix *m) {
    const struct fpl_quantizer_plan *plan = m->rounding.plan;
    const int scaled = !plan->identity && plan->granularity != FPL_UNSCALED;
    for (int64_t line = 0; line < m->lines; line += m->tall) {
        for (int64_t column = 0; column < m->width; column += m->wide) {
            const struct chunk group = {line, smaller(m->tall, m->lines - line), column,
                                        smaller(m->wide, m->width - column)};
            struct part p = {.m = m, .group = group, .quant = 1.0f, .dequant = 1.0f};
            if (scaled) {
                const float amax[NL] = {amax_of(m, &group)};
                float quant[NL], dequant[NL];
                FPL_VEC(group_scales)(&m->rounding.scaling, 1, amax, quant, dequant);
                p.quant = quant[0];
                p.dequant = dequant[0];
            }
            for_tiles(dev, tiles_of(group.n, m->columns), part_tile, &p);
        }
    }
}

/* Lay the operand out in terms of memory. */
static struct matrix layout(const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                            int64_t row_stride, int64_t col_stride) {
    const int by_rows = col_stride == 1; /* a row of the operand is a line of memory */
    int64_t group_rows, group_cols;
    fpl_quantizer_group_shape(plan, rows, cols, &group_rows, &group_cols);
    struct matrix m = {.lines = by_rows ? rows : cols,
                       .width = by_rows ? cols : rows,
                       .stride = by_rows ? row_stride : col_stride,
                       .tall = by_rows ? group_rows : group_cols,
                       .wide = by_rows ? group_cols : group_rows};
    const int whole = m.tall == m.lines && m.wide == m.width; /* one group, or none */
    if (m.stride == m.width && (whole || (m.tall == 1 && m.width % m.wide == 0))) {
        if (whole) m.wide = m.width * m.lines;
        m.width *= m.lines;
        m.stride = m.width;
        m.lines = m.tall = 1;
    }
    m.columns = CHUNK;
    m.bands = 1;
    if (m.wide <= CHUNK) {
        const int64_t fit = CHUNK_FLOATS / m.tall < CHUNK ? CHUNK_FLOATS / m.tall : CHUNK;
        const int64_t most = fit < 128 ? 128 : fit;
        m.columns = m.wide > most ? m.wide : m.wide == 1 ? most : most / m.wide * m.wide;
        const int64_t n = smaller(m.columns, m.width);
        m.room = (divide_up(n, m.wide) + NL - 1) / NL * NL;
        m.bands = smaller(CHUNK_FLOATS / (m.tall * n), CHUNK / m.room);
        if (m.bands < 1) m.bands = 1;
    }
    m.across = divide_up(m.width, m.columns);
    return m;
}

int64_t FPL_VEC(quantize_matrix)(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                 const struct fpl_random_at *at, int64_t rows, int64_t cols,
                                 int64_t row_stride, int64_t col_stride, const float *x, float *out) {
    if (rows <= 0 || cols <= 0) return 0;
    const uint64_t start = fpl_cpu_profile ? fpl_cpu_ticks() : 0;
    int64_t nonfinite = 0;
    struct matrix m = layout(plan, rows, cols, row_stride, col_stride);
    const struct chunk everything = {0, m.lines, 0, m.width};
    m.rounding.x = x;
    m.rounding = FPL_VEC(rounding)(plan, at, x, plan->two_level ? amax_of(&m, &everything) : 0.0f);
    if (m.rounding.stochastic) m.keys = philox_keys(at);
    m.out = out;
    m.nonfinite = &nonfinite;
    if (m.wide > CHUNK)
        wide_groups(dev, &m);
    else
        for_tiles(dev, divide_up(m.lines, m.bands * m.tall) * m.across, chunk_tile, &m);
    if (fpl_cpu_profile) fpl_cpu_profile_ticks += fpl_cpu_ticks() - start;
    return nonfinite;
}

void FPL_VEC(quantize)(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                       const float *x, float *out, int64_t *nonfinite) {
    for (int r = 0; r < R && dev->error.code == FPL_OK; r++) {
        const int64_t first = r * rows * cols;
        const int64_t bad =
            FPL_VEC(quantize_matrix)(dev, &q[r].plan, &q[r].at, rows, cols, cols, 1, x + first, out + first);
        if (nonfinite != NULL) nonfinite[r] += bad;
    }
}
