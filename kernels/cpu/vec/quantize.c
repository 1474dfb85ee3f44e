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
#include "quantize_fused.h"
#include "quantize_random.h"
#include "stream.h"

enum {
    CHUNK = 2048,
    CHUNK_FLOATS = 4096,
    FUSED_FLOATS = 1 << 15,
    STREAM_FLOATS = 1 << 22,
    TILE_FLOATS = 1 << 14,
    TILE_LINES = 64,
    TILE_COLUMNS = 128,
    AHEAD_FROM = 1 << 14, /* smaller operands are in the first caches */
    AHEAD_FLAT = 1024,
    AHEAD_COLUMNS = 64
};

struct matrix {
    struct rounding rounding;
    const struct philox *keys; /* where rounding is stochastic */
    float *out;
    int64_t lines, width, stride;
    int64_t tall, wide; /* of a group */
    int64_t columns;    /* of a chunk: a multiple of wide, or any where wide is larger */
    int64_t bands;      /* of a chunk, each of `tall` lines */
    int64_t room;       /* of a band's scales: whole vectors */
    int64_t across;     /* chunks side by side */
    fused_fn fused;     /* batches of NL groups; NULL: none */
    int stream;         /* out is too large to be read again from a cache */
    int64_t ahead;      /* then x is asked for this many floats before its turn; else 0 */
    int64_t transposed; /* out's row, where lines become its columns; else 0 */
    int64_t *nonfinite;
};

/* Where a chunk goes: lines stride apart. */
struct target {
    float *out;
    int64_t stride;
    int past; /* the caches, in whole vectors */
};

/* Whether vectors of a line that starts at out, and of the next ones, are aligned. */
static int whole_vectors(const float *out, int64_t stride) {
    return (uintptr_t)out % (NL * sizeof(float)) == 0 && stride % NL == 0;
}

/* Divisions by 64-bit numbers take longer than rounding a vector; n >= 0, by > 0. */
static int64_t quotient(int64_t n, int64_t by) {
    if (by == 1) return n;
    return (n | by) >> 32 == 0 ? (int64_t)((uint32_t)n / (uint32_t)by) : n / by;
}

static int64_t divide_up(int64_t n, int64_t by) { return quotient(n + by - 1, by); }

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
    int finite; /* known to be */
    uint32_t largest;
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
    /* words of r > 16 bits lie as pairs of halves: those of elements 2 i and 2 i + 1 */
    const int64_t pieces = HALVES(r->round.way);
    const uint64_t first = r->at->element + (uint64_t)(t->x - r->x);
    const int64_t most = t->n == t->stride && t->n < CHUNK_FLOATS ? CHUNK_FLOATS / t->n : 1, lines = t->lines;
    for (int64_t l = 0; l < lines; l += most) {
        t->lines = smaller(lines - l, most);
        t->random = random_halves(m->keys, (uint64_t)pieces * (first + (uint64_t)(l * t->stride)),
                                  pieces * t->lines * t->n, random);
        t->random_stride = pieces * t->n;
        run(t);
        t->x += t->lines * t->stride;
        t->out += t->lines * t->out_stride;
    }
}

/* Bands of up to `tall` lines with one scale per `wide` columns; each band has `room` of the
 * `scales` scales (padding included). largest: bits of the largest magnitude of all. */
static void round_bands(const struct matrix *m, const struct chunk *c, struct target to, int64_t tall,
                        int64_t wide, int64_t room, int64_t scales, uint32_t largest, float *quant,
                        const float *dequant) {
    _Alignas(64) float column_quant[CHUNK], column_dequant[CHUNK];
    const struct rounding *r = &m->rounding;
    const int grouped = wide % NL == 0 && c->n % NL == 0, spread = !grouped && wide > 1;
    const int64_t first = c->line * m->stride + c->column;
    const rectangle_fn fast = FPL_VEC(fast_rectangle)(r, largest, grouped ? wide : 1);
    const rectangle_fn run = fast != NULL ? fast : FPL_VEC(any_rectangle)(r, largest, grouped ? wide : 1);
    struct rectangle t = {.r = r,
                          .stride = m->stride,
                          .out_stride = to.stride,
                          .n = c->n,
                          .wide = grouped ? wide : 1,
                          .ahead = m->ahead,
                          .past = to.past && whole_vectors(to.out, to.stride)};
    if (fast != NULL && r->scaling.divide) FPL_VEC(inverses)(scales, quant, quant);
    for (int64_t l = 0; l < c->lines; l += tall, quant += room, dequant += room) {
        t.x = r->x + first + l * m->stride;
        t.out = to.out + l * to.stride;
        t.lines = smaller(tall, c->lines - l);
        t.quant = quant;
        t.dequant = dequant;
        if (spread) {
            FPL_VEC(spread)(c->n, wide, quant, column_quant);
            FPL_VEC(spread)(c->n, wide, dequant, column_dequant);
            t.quant = column_quant;
            t.dequant = column_dequant;
        }
        if (HALVES(r->round.way) > 0)
            random_rectangle(m, &t, run);
        else
            run(&t);
    }
}

/* A chunk of whole groups. */
static void quantize_bands(const struct matrix *m, const struct chunk *c, struct target to) {
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
    round_bands(m, c, to, m->tall, m->wide, m->room, b, all, quant, dequant);
}

/* A chunk of a group that is wider than chunks. */
static void quantize_part(const struct matrix *m, const struct chunk *c, const struct part *p,
                          struct target to) {
    _Alignas(64) float quant[NL], dequant[NL];
    const float *x = m->rounding.x + c->line * m->stride + c->column;
    const uint32_t all = p->finite ? p->largest : FPL_VEC(largest_bits)(c->lines, m->stride, c->n, x);
    if (all >= 0x7f800000u)
        __atomic_fetch_add(m->nonfinite, count_nonfinite(c, m->stride, x), __ATOMIC_RELAXED);
    nstore(quant, nset(p->quant));
    nstore(dequant, nset(p->dequant));
    round_bands(m, c, to, c->lines, CHUNK, NL, NL, all, quant, dequant);
}

/* ---- the matrix -------------------------------------------------------------------------------- */

static int64_t scales_room(int64_t n, int64_t wide) { return (divide_up(n, wide) + NL - 1) / NL * NL; }

/* A chunk of one band, the general way, in pieces that fit. */
static void bands_part(const struct matrix *m, const struct chunk *c, struct target to) {
    struct matrix part = *m;
    const int64_t most = m->wide > CHUNK / 2 ? m->wide : CHUNK / m->wide * m->wide;
    for (int64_t i = 0; i < c->n; i += most) {
        const struct chunk piece = {c->line, c->lines, c->column + i, smaller(c->n - i, most)};
        part.room = scales_room(piece.n, m->wide);
        quantize_bands(&part, &piece, (struct target){to.out + i, to.stride, to.past});
    }
}

/* A chunk, batch after batch: those of whole bands at once, the rest in the general way. */
static void fused_chunk(const struct matrix *m, const struct chunk *c, struct target to) {
    const int64_t batch = NL * m->wide, across = quotient(c->n, batch), bands = quotient(c->lines, m->tall);
    struct batches t = {.r = &m->rounding,
                        .keys = m->keys,
                        .vectors = m->wide == 1 ? m->tall : m->wide / NL,
                        .stride = m->stride,
                        .out_stride = to.stride,
                        .across = across,
                        .ahead = m->ahead,
                        .past = to.past};
    int64_t band = 0, b = 0; /* the next batch */
    while (across > 0 && band < bands) {
        const int64_t first = (c->line + band * m->tall) * m->stride + c->column + b * batch;
        t.x = m->rounding.x + first;
        t.out = to.out + band * m->tall * to.stride + b * batch;
        t.count = b > 0 ? across - b : (bands - band) * across; /* from within a band, to its end */
        t.at = m->rounding.at != NULL ? m->rounding.at->element + (uint64_t)first : 0;
        const int64_t did = m->fused(&t);
        if (did == t.count) {
            band = b > 0 ? band + 1 : bands;
            b = 0;
            continue;
        }
        band += quotient(b + did, across);
        b = (b + did) % across;
        const struct chunk stuck = {c->line + band * m->tall, m->tall, c->column + b * batch, batch};
        bands_part(m, &stuck,
                   (struct target){to.out + band * m->tall * to.stride + b * batch, to.stride, to.past});
        if (++b == across) {
            b = 0;
            band++;
        }
    }
    if (bands * m->tall == c->lines && across * batch == c->n) return;
    for (int64_t l = 0; l < c->lines; l += m->tall) {
        const int64_t from = l < bands * m->tall ? across * batch : 0;
        const struct chunk rest = {c->line + l, smaller(m->tall, c->lines - l), c->column + from,
                                   c->n - from};
        bands_part(m, &rest, (struct target){to.out + l * to.stride + from, to.stride, to.past});
    }
}

static void run_chunk(const struct matrix *m, const struct chunk *c, struct target to) {
    if (m->fused != NULL)
        fused_chunk(m, c, to);
    else
        quantize_bands(m, c, to);
}

/* A chunk to its place. */
static void chunk_in(const struct matrix *m, const struct chunk *c, const struct part *p, struct target to) {
    if (p != NULL)
        quantize_part(m, c, p, to);
    else
        run_chunk(m, c, to);
}

/* Past the caches, or transposed: by way of a buffer in the first cache. */
static void chunk_to(const struct matrix *m, const struct chunk *c, const struct part *p) {
    if (m->transposed != 0) {
        _Alignas(64) float tile[TILE_FLOATS];
        chunk_in(m, c, p, (struct target){tile, c->n, 0});
        stream_transposed(c->lines, c->n, tile, m->out + c->column * m->transposed + c->line, m->transposed);
        return;
    }
    float *out = m->out + c->line * m->stride + c->column;
    const int past = m->stream && whole_vectors(out, m->stride);
    if (m->stream && !past && c->n * c->lines <= CHUNK_FLOATS) {
        _Alignas(64) float buffer[CHUNK_FLOATS];
        chunk_in(m, c, p, (struct target){buffer, c->n, 0});
        stream_lines(c->lines, c->n, buffer, out, m->stride);
    } else {
        chunk_in(m, c, p, (struct target){out, m->stride, past});
    }
}

/* Chunk `tile` of a matrix whose groups fit chunks. */
static void chunk_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct matrix *m = job;
    const int64_t high = m->bands * m->tall, row = m->across == 1 ? tile : tile / m->across;
    const int64_t line = row * high, column = (tile - row * m->across) * m->columns;
    const struct chunk c = {line, smaller(high, m->lines - line), column,
                            smaller(m->columns, m->width - column)};
    chunk_to(m, &c, NULL);
}

static void part_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct part *p = job;
    const int64_t column = tile * p->m->columns;
    const struct chunk c = {p->group.line, p->group.lines, p->group.column + column,
                            smaller(p->m->columns, p->group.n - column)};
    chunk_to(p->m, &c, p);
}

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
    for_tiles(dev, tiles_of(group.n, m->columns), part_tile, &p);
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

/* Batches of whole groups, where they lie in the way that they are made for; 0 if not. */
static int choose_fused(struct matrix *m) {
    const struct rounding *r = &m->rounding;
    const uint64_t at = r->at != NULL ? r->at->element : 0;
    const int unscaled = r->plan->granularity == FPL_UNSCALED;
    const int64_t wide = m->wide;
    if (unscaled && m->lines == 1 && m->width >= 32) /* no scale: any groups will do */
        m->wide = m->width < 4 * CHUNK_FLOATS ? 32 : CHUNK_FLOATS / NL;
    const int flat = m->lines == 1 && m->wide % NL == 0 && m->wide * NL <= (unscaled ? CHUNK_FLOATS : CHUNK);
    const int columns = m->wide == 1 && m->tall > 1 && m->tall <= 256;
    m->fused = NULL;
    if (flat || columns)
        m->fused =
            FPL_VEC(fused)(r, columns, columns ? m->tall : m->wide / NL, m->stride, at, m->out == r->x);
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
    if (m->stream || m->transposed != 0 || m->width * m->lines >= AHEAD_FROM) m->ahead = flat ? AHEAD_FLAT : AHEAD_COLUMNS;
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
    m.ahead = 0;
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
        for_tiles(dev, divide_up(m.lines, m.bands * m.tall) * m.across, chunk_tile, &m);
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
