/* quantize_chunk.c - one chunk of an operand: amax, scales, every line. */
#include "quantize_matrix.h"

#include "parallel.h"
#include "stream.h"

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

/* ---- chunks ------------------------------------------------------------------------------------ */

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

/* Index of x[first] in the operand, for random bits. */
static uint64_t element_of(const struct matrix *m, int64_t first) {
    return m->rounding.at != NULL ? m->rounding.at->element + (uint64_t)first : 0;
}

/* Lines [from, to) of a piece of a chunk, the general way. */
static void lines_part(const struct matrix *m, const struct chunk *c, int64_t from, int64_t to,
                       struct target target) {
    const struct chunk part = {c->line + from, to - from, c->column, c->n};
    target.out += from * target.stride;
    if (to > from) bands_part(m, &part, target);
}

/* A chunk of whole lines, one group of theirs after the other. */
static void lines_chunk(const struct matrix *m, const struct chunk *c, struct target to) {
    for (int64_t i = 0; i < c->n; i += m->wide) {
        const struct chunk group = {c->line, c->lines, c->column + i, smaller(m->wide, c->n - i)};
        const struct target there = {to.out + i, to.stride, to.past};
        int64_t line = 0;
        for (; line + NL <= c->lines; line += NL) {
            const int64_t first = (c->line + line) * m->stride + group.column;
            const struct batches t = {.r = &m->rounding,
                                      .keys = m->keys,
                                      .x = m->rounding.x + first,
                                      .out = there.out + line * to.stride,
                                      .vectors = group.n / NL,
                                      .stride = m->stride,
                                      .out_stride = to.stride,
                                      .count = (c->lines - line) / NL,
                                      .past = to.past,
                                      .at = element_of(m, first)};
            line += NL * m->fused(&t);
            if (line + NL > c->lines) break;
            lines_part(m, &group, line, line + NL, there); /* a batch that only this covers */
        }
        lines_part(m, &group, line, c->lines, there);
    }
}

/* Where the next batches start, in bands of `across` batches. */
static void fused_from(const struct matrix *m, const struct chunk *c, struct target to, int64_t band,
                       int64_t b, struct batches *t) {
    const int64_t batch = NL * m->wide;
    const int64_t first = (c->line + band * m->tall) * m->stride + c->column + b * batch;
    t->x = m->rounding.x + first;
    t->out = to.out + band * m->tall * to.stride + b * batch;
    t->at = element_of(m, first);
}

/* A chunk, batch after batch: those of whole bands at once, the rest in the general way. */
static void fused_chunk(const struct matrix *m, const struct chunk *c, struct target to) {
    const int64_t batch = NL * m->wide, across = quotient(c->n, batch), bands = quotient(c->lines, m->tall);
    struct batches t = {.r = &m->rounding,
                        .keys = m->keys,
                        .vectors = m->wide == 1 ? m->tall : m->wide / NL,
                        .stride = m->wide == NL ? NL : m->stride,
                        .out_stride = m->wide == NL ? NL : to.stride,
                        .across = across,
                        .ahead = m->ahead,
                        .far = m->transposed != 0,
                        .past = to.past};
    int64_t band = 0, b = 0; /* the next batch */
    while (across > 0 && band < bands) {
        fused_from(m, c, to, band, b, &t);
        t.count = b > 0 ? across - b : (bands - band) * across; /* from within a band, to its end */
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
    if (m->by_lines)
        lines_chunk(m, c, to);
    else if (m->fused != NULL)
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

void FPL_VEC(quantize_chunk)(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct matrix *m = job;
    const int64_t high = m->bands * m->tall, row = m->across == 1 ? tile : tile / m->across;
    const int64_t line = row * high, column = (tile - row * m->across) * m->columns;
    const struct chunk c = {line, smaller(high, m->lines - line), column,
                            smaller(m->columns, m->width - column)};
    chunk_to(m, &c, NULL);
}

void FPL_VEC(quantize_part)(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct part *p = job;
    const int64_t column = tile * p->m->columns;
    const struct chunk c = {p->group.line, p->group.lines, p->group.column + column,
                            smaller(p->m->columns, p->group.n - column)};
    chunk_to(p->m, &c, p);
}
