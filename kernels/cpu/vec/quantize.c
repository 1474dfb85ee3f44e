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
#include "quantize_matrix.h"
#include "stream.h"

/* Bits of the largest finite magnitude of a slice of lines and columns; clears *finite where there
 * are others. */
static uint32_t largest_finite(const struct matrix *m, const struct chunk *c, int *finite) {
    const float *x = m->rounding.x + c->line * m->stride + c->column;
    const uint32_t all = FPL_VEC(largest_bits)(c->lines, m->stride, c->n, x);
    if (all < 0x7f800000u) return all;
    __atomic_store_n(finite, 0, __ATOMIC_RELAXED);
    return FPL_VEC(largest_finite_bits)(c->lines, m->stride, c->n, x);
}

/* Slices of a large group, for threads to share. */
enum { SLICES = 64, SLICE_FLOATS = 1 << 14 };
struct slices {
    const struct matrix *m;
    struct chunk group;
    int64_t lines, n; /* of a slice: one of the two is the group's */
    uint32_t *largest;
    int *finite;
};

static void slice_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct slices *s = job;
    const int by_lines = s->n == s->group.n;
    const int64_t line = by_lines ? tile * s->lines : 0, column = by_lines ? 0 : tile * s->n;
    const struct chunk c = {s->group.line + line, smaller(s->lines, s->group.lines - line),
                            s->group.column + column, smaller(s->n, s->group.n - column)};
    s->largest[tile] = largest_finite(s->m, &c, s->finite);
}

static float amax_of(struct fpl_device *dev, const struct matrix *m, const struct chunk *c, int *finite) {
    uint32_t largest[SLICES], most = 0;
    *finite = 1;
    if (dev->threads == 1 || c->lines * c->n < 2 * SLICE_FLOATS)
        return fpl_bits_float(largest_finite(m, c, finite));
    struct slices s = {m, *c, c->lines, c->n, largest, finite};
    if (c->lines > 1)
        s.lines = divide_up(c->lines, smaller(SLICES, c->lines));
    else
        s.n = divide_up(c->n, SLICES);
    const int64_t tiles = c->lines > 1 ? divide_up(c->lines, s.lines) : divide_up(c->n, s.n);
    for_tiles(dev, tiles, slice_tile, &s);
    for (int64_t t = 0; t < tiles; t++) most = largest[t] > most ? largest[t] : most;
    return fpl_bits_float(most);
}

/* Group number `index` of those wider than a chunk. */
static void wide_group(struct fpl_device *dev, const struct matrix *m, int64_t index) {
    const struct fpl_quantizer_plan *plan = m->rounding.plan;
    const int64_t across = divide_up(m->width, m->wide), band = quotient(index, across);
    const int64_t line = band * m->tall, column = (index - band * across) * m->wide;
    const struct chunk group = {line, smaller(m->tall, m->lines - line), column,
                                smaller(m->wide, m->width - column)};
    struct part p = {.m = m, .group = group, .quant = 1.0f, .dequant = 1.0f};
    if (!plan->identity && plan->granularity != FPL_UNSCALED) {
        const float amax[NL] = {amax_of(dev, m, &group, &p.finite)};
        float quant[NL], dequant[NL];
        p.largest = fpl_float_bits(amax[0]);
        FPL_VEC(group_scales)(&m->rounding.scaling, 1, amax, quant, dequant);
        p.quant = quant[0];
        p.dequant = dequant[0];
    }
    for_tiles(dev, tiles_of(group.n, m->columns), FPL_VEC(quantize_part), &p);
}

static void wide_tile(const void *job, int64_t tile, int thread) {
    struct fpl_device alone = {.threads = 1};
    (void)thread;
    wide_group(&alone, job, tile);
}

/* Threads share the groups where there are enough of them, or else the parts of each. */
static void wide_groups(struct fpl_device *dev, const struct matrix *m) {
    const int64_t groups = divide_up(m->lines, m->tall) * divide_up(m->width, m->wide);
    if (groups >= 4 * dev->threads)
        for_tiles(dev, groups, wide_tile, m);
    else
        for (int64_t g = 0; g < groups; g++) wide_group(dev, m, g);
}

/* Lay the operand out in terms of memory. */
static void layout(struct matrix *m, const struct fpl_quantizer_plan *plan, int64_t rows, int64_t cols,
                   int64_t row_stride, int64_t col_stride) {
    const int by_rows = col_stride == 1; /* a row of the operand is a line of memory */
    int64_t group_rows, group_cols;
    fpl_quantizer_group_shape(plan, rows, cols, &group_rows, &group_cols);
    m->lines = by_rows ? rows : cols;
    m->width = by_rows ? cols : rows;
    m->stride = by_rows ? row_stride : col_stride;
    m->tall = by_rows ? group_rows : group_cols;
    m->wide = by_rows ? group_cols : group_rows;
    const int whole = m->tall == m->lines && m->wide == m->width; /* one group, or none */
    if (m->stride != m->width || m->transposed != 0) return;
    if (whole || (m->tall == 1 && quotient(m->width, m->wide) * m->wide == m->width)) {
        if (whole) m->wide = m->width * m->lines;
        m->width *= m->lines;
        m->stride = m->width;
        m->lines = m->tall = 1;
    }
}

/* Chunks for the general way. */
static void choose_chunks(struct matrix *m) {
    m->columns = CHUNK;
    m->bands = 1;
    if (m->wide <= CHUNK) {
        const int64_t fit = smaller(quotient(CHUNK_FLOATS, m->tall), CHUNK);
        const int64_t most = fit < 128 ? 128 : fit;
        m->columns = m->wide > most ? m->wide : quotient(most, m->wide) * m->wide;
        const int64_t n = smaller(m->columns, m->width);
        m->room = scales_room(n, m->wide);
        m->bands = smaller(quotient(CHUNK_FLOATS, m->tall * n), quotient(CHUNK, m->room));
        if (m->bands < 1) m->bands = 1;
    }
    m->across = divide_up(m->width, m->columns);
    if (m->stream && m->wide > CHUNK && m->wide <= 2 * CHUNK_FLOATS)
        m->ahead = m->wide;
    else if (m->stream)
        m->ahead = m->across > 1 || m->lines == 1 ? m->columns : m->bands * m->tall * m->stride;
}

/* Lines whose last group is shorter: the same group of NL lines at once.  Chunks are of whole lines. */
static int choose_lines(struct matrix *m, const struct fused_shape *shape) {
    if (m->tall != 1 || m->lines < NL || m->wide > CHUNK_FLOATS / NL || m->width > CHUNK) return 0;
    if (m->wide % NL != 0 || m->width % NL != 0 || m->stream || m->transposed != 0) return 0;
    m->fused = FPL_VEC(fused)(&m->rounding, shape);
    if (m->fused == NULL) return 0;
    const int64_t fit = quotient(FUSED_FLOATS, m->width * NL);
    m->by_lines = 1;
    m->columns = m->width;
    m->bands = fit < 1 ? NL : fit * NL;
    m->across = 1;
    return 1;
}

/* Batches of whole groups, where they lie in the way that they are made for; 0 if not. */
static int choose_fused(struct matrix *m) {
    const struct rounding *r = &m->rounding;
    const int unscaled = r->plan->granularity == FPL_UNSCALED;
    const int64_t wide = m->wide;
    struct fused_shape shape = {.layout = FUSED_LINES,
                                .vectors = m->wide / NL,
                                .stride = m->stride,
                                .at = r->at != NULL ? r->at->element : 0,
                                .in_place = m->out == r->x};
    m->fused = NULL;
    if (choose_lines(m, &shape)) return 1;
    if (unscaled && m->lines == 1 && m->width >= 32) /* no scale: any groups will do */
        m->wide = m->width < 4 * CHUNK_FLOATS ? 32 : CHUNK_FLOATS / NL;
    const int flat = m->lines == 1 && m->wide % NL == 0 && m->wide * NL <= (unscaled ? CHUNK_FLOATS : CHUNK);
    const int columns = m->wide == 1 && m->tall > 1 && m->tall <= 256;
    shape.vectors = columns ? m->tall : m->wide / NL;
    shape.layout = columns ? FUSED_COLUMNS : shape.vectors == 1 ? FUSED_LINES : FUSED_ROWS;
    if (flat) shape.stride = NL;
    if (flat || columns) m->fused = FPL_VEC(fused)(r, &shape);
    if (m->fused == NULL) {
        m->wide = wide;
        return 0;
    }
    const int64_t most = m->stream ? CHUNK_FLOATS : FUSED_FLOATS;
    const int64_t batch = flat ? m->wide * NL : m->tall * NL; /* floats */
    const int64_t fit = batch > most ? 1 : quotient(most, batch);
    m->columns = smaller(m->width, flat ? fit * batch : fit * NL);
    m->bands = 1;
    if (columns && !m->stream && m->columns == m->width && m->tall * m->width < most)
        m->bands = quotient(most, m->tall * m->width);
    m->across = divide_up(m->width, m->columns);
    if (m->stream || m->transposed != 0 || m->width * m->lines >= AHEAD_FROM)
        m->ahead = flat ? AHEAD_FLAT : AHEAD_COLUMNS;
    return 1;
}

/* What a plan comes to is kept: in training it is asked for again and again. */
static void lower(struct rounding *r, const struct fpl_quantizer_plan *plan, const struct fpl_random_at *at,
                  const float *x) {
    static _Thread_local struct {
        struct fpl_quantizer_plan plan;
        struct rounding rounding;
        int filled;
    } kept;
    if (!kept.filled || memcmp(&kept.plan, plan, sizeof *plan) != 0) {
        kept.rounding = FPL_VEC(rounding)(plan, 0.0f);
        kept.plan = *plan;
        kept.filled = 1;
    }
    *r = kept.rounding;
    r->plan = r->scaling.plan = plan;
    r->at = at;
    r->x = x;
}

/* Tiles of whole groups, to be transposed; 0 where a group is too large. */
static int choose_tiles(struct matrix *m) {
    if (m->rounding.plan->identity || m->rounding.plan->granularity == FPL_UNSCALED) {
        m->tall = smaller(m->lines, TILE_LINES); /* no scale: groups are what is convenient */
        m->wide = smaller(m->width, TILE_COLUMNS);
    }
    if (m->tall > 256 || m->wide > TILE_COLUMNS) return 0;
    choose_fused(m);
    /* narrow tiles keep stores and computing turn about; lines whole pages apart share few sets of
     * the caches, where longer pieces of them do better */
    const int64_t most = m->stride % 1024 == 0 ? 64 : 32;
    m->columns = m->wide > most ? TILE_COLUMNS / m->wide * m->wide : most / m->wide * m->wide;
    while (m->columns > m->wide && m->columns * m->tall > TILE_FLOATS) m->columns -= m->wide;
    if (m->columns * m->tall > TILE_FLOATS) return 0;
    m->room = scales_room(m->columns, m->wide);
    m->bands = smaller(TILE_LINES / m->tall, CHUNK / m->room);
    if (m->bands < 1) m->bands = 1;
    m->across = divide_up(m->width, m->columns);
    return 1;
}

/* out_row: 0, or that of the transposed output.  -1 where it cannot be transposed directly. */
static int64_t quantize_strided(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                const struct fpl_random_at *at, int64_t rows, int64_t cols,
                                int64_t row_stride, int64_t col_stride, const float *x, float *out,
                                int64_t out_row) {
    int64_t nonfinite = 0;
    struct matrix m;
    struct philox keys;
    m.transposed = out_row;
    m.ahead = m.by_lines = 0;
    layout(&m, plan, rows, cols, row_stride, col_stride);
    lower(&m.rounding, plan, at, x);
    if (plan->two_level) {
        const struct chunk everything = {0, m.lines, 0, m.width};
        int finite;
        m.rounding.scaling = FPL_VEC(scaling)(plan, amax_of(dev, &m, &everything, &finite));
    }
    m.keys = &keys;
    if (m.rounding.stochastic) keys = philox_keys(at);
    m.out = out;
    m.stream = out != x && rows * cols >= STREAM_FLOATS;
    m.nonfinite = &nonfinite;
    if (out_row != 0 && !choose_tiles(&m)) return -1;
    if (out_row == 0 && !choose_fused(&m)) choose_chunks(&m);
    if (out_row == 0 && m.wide > CHUNK)
        wide_groups(dev, &m);
    else
        for_tiles(dev, divide_up(m.lines, m.bands * m.tall) * m.across, FPL_VEC(quantize_chunk), &m);
    if (m.stream || out_row != 0) stream_end();
    return nonfinite;
}

int64_t FPL_VEC(quantize_matrix)(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                 const struct fpl_random_at *at, int64_t rows, int64_t cols,
                                 int64_t row_stride, int64_t col_stride, const float *x, float *out) {
    if (rows <= 0 || cols <= 0) return 0;
    if (plan->zero_point || plan->search)
        return fpl_cpu_quantize_groups(dev, plan, at, rows, cols, row_stride, col_stride, x, out);
    const uint64_t start = fpl_cpu_profile ? fpl_cpu_ticks() : 0;
    const int64_t nonfinite = quantize_strided(dev, plan, at, rows, cols, row_stride, col_stride, x, out, 0);
    if (fpl_cpu_profile) fpl_cpu_profile_ticks += fpl_cpu_ticks() - start;
    return nonfinite;
}

/* The lines of x become the columns of out. */
struct turn {
    int64_t lines, width;
    const float *x;
    float *out;
};

static void turn_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct turn *t = job;
    const int64_t first = tile * TILE_LINES, lines = smaller(TILE_LINES, t->lines - first);
    for (int64_t i = 0; i < t->width; i += TILE_COLUMNS) {
        _Alignas(64) float part[TILE_LINES * TILE_COLUMNS];
        const int64_t n = smaller(TILE_COLUMNS, t->width - i);
        for (int64_t l = 0; l < lines; l++)
            memcpy(part + l * n, t->x + (first + l) * t->width + i, (size_t)n * sizeof(float));
        stream_transposed(lines, n, part, t->out + i * t->lines + first, t->lines);
    }
}

int64_t FPL_VEC(quantize_transposing)(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                      const struct fpl_random_at *at, int64_t lines, int64_t width,
                                      const float *x, float *out) {
    if (lines <= 0 || width <= 0) return 0;
    if (width == 1)
        return FPL_VEC(quantize_matrix)(dev, plan, at, 1, lines, lines, 1, x, out); /* a line either way */
    if (!plan->zero_point && !plan->search) {
        const int64_t direct = quantize_strided(dev, plan, at, width, lines, 1, width, x, out, lines);
        if (direct >= 0) return direct;
    }
    float *whole = fpl_cpu_scratch(dev, 5, (size_t)(lines * width) * sizeof(float));
    if (whole == NULL) return 0;
    const struct turn t = {lines, width, whole, out};
    const int64_t bad = FPL_VEC(quantize_matrix)(dev, plan, at, width, lines, 1, width, x, whole);
    for_tiles(dev, tiles_of(lines, TILE_LINES), turn_tile, &t);
    stream_end();
    return bad;
}

void FPL_VEC(quantize_transposed)(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                                  const struct fpl_operand *q, const float *x, float *out,
                                  int64_t *nonfinite) {
    for (int r = 0; r < R && dev->error.code == FPL_OK; r++) {
        const int64_t first = r * rows * cols;
        const int64_t bad =
            FPL_VEC(quantize_transposing)(dev, &q[r].plan, &q[r].at, rows, cols, x + first, out + first);
        if (nonfinite != NULL) nonfinite[r] += bad;
    }
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
