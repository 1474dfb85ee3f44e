/* quantize_matrix.h - an operand as it lies in memory, and how it is cut into chunks. */
#ifndef FPL_VEC_QUANTIZE_MATRIX_H
#define FPL_VEC_QUANTIZE_MATRIX_H

#include "quantize_apply.h"
#include "quantize_fused.h"
#include "quantize_random.h"

enum {
    CHUNK = 2048,
    CHUNK_FLOATS = 4096,
    FUSED_FLOATS = 1 << 15,
    STREAM_FLOATS = 1 << 22,
    TILE_FLOATS = 1 << 14,
    TILE_LINES = 64,
    TILE_COLUMNS = 128,
    AHEAD_FROM = 1 << 15, /* smaller operands are in the second cache */
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
    int by_lines;       /* batches are the same group of NL lines */
    int stream;         /* out is too large to be read again from a cache */
    int64_t ahead;      /* x is asked for this many floats before its turn; 0: not */
    int64_t transposed; /* out's row, where lines become its columns; else 0 */
    int64_t *nonfinite;
};

/* Divisions by 64-bit numbers take longer than rounding a vector; n >= 0, by > 0. */
static inline int64_t quotient(int64_t n, int64_t by) {
    if (by == 1) return n;
    return (n | by) >> 32 == 0 ? (int64_t)((uint32_t)n / (uint32_t)by) : n / by;
}

static inline int64_t divide_up(int64_t n, int64_t by) { return quotient(n + by - 1, by); }

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

static inline int64_t scales_room(int64_t n, int64_t wide) { return (divide_up(n, wide) + NL - 1) / NL * NL; }

/* Chunk `tile` of a struct matrix whose groups fit chunks; a part of a struct part. */
void FPL_VEC(quantize_chunk)(const void *job, int64_t tile, int thread);
void FPL_VEC(quantize_part)(const void *job, int64_t tile, int thread);

#endif
