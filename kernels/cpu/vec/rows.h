/* rows.h - sixteen rows of sixteen lanes at a time: their sums, their maxima, their transpose.
 *
 * A norm, a softmax or a loss ends each row with a sum over sixteen lanes (PER native registers).
 * One row's sum is a chain of four dependent shuffles and adds; sixteen rows together take 15
 * adds and 30 independent shuffles, and the results come out side by side, ready for vector
 * square roots and divisions.  Rows lie in memory, float[16][16].
 *
 * sum_rows: every row by one tree, lane i + lane i+8, then +4, +2, +1, the order of vsum().
 * max_rows: the same tree; the greater operand, the later one where they compare equal or not
 * at all, so rows must hold no NaN.
 */
#ifndef FPL_VEC_ROWS_H
#define FPL_VEC_ROWS_H

#include "native.h"

#define ROWS 16
#define PER (16 / NL) /* native registers in sixteen lanes */

#if defined(FPL_LEVEL_avx512)

/* Fold the upper halves of x's and y's groups onto the lower ones. */
#define FPL_FOLD(op, x, y, shuffle, low, high) op(shuffle(x, y, low), shuffle(x, y, high))

#define FPL_FOLD_ROWS(op, rows, out)                                                                         \
    __m512 a[8], b[4], c[2];                                                                                 \
    for (int i = 0; i < 8; i++) {                                                                            \
        const float *x = rows + ((i & 3) + 8 * (i >> 2)) * 16;                                               \
        a[i] = FPL_FOLD(op, _mm512_loadu_ps(x), _mm512_loadu_ps(x + 64), _mm512_shuffle_f32x4, 0x44, 0xee);  \
    }                                                                                                        \
    for (int i = 0; i < 4; i++) b[i] = FPL_FOLD(op, a[i], a[i + 4], _mm512_shuffle_f32x4, 0x88, 0xdd);       \
    for (int i = 0; i < 2; i++) c[i] = FPL_FOLD(op, b[2 * i], b[2 * i + 1], _mm512_shuffle_ps, 0x44, 0xee);  \
    _mm512_storeu_ps(out, FPL_FOLD(op, c[0], c[1], _mm512_shuffle_ps, 0x88, 0xdd))

VINLINE void sum_rows(const float *rows, float *sums) { FPL_FOLD_ROWS(_mm512_add_ps, rows, sums); }
VINLINE void max_rows(const float *rows, float *maxima) { FPL_FOLD_ROWS(_mm512_max_ps, rows, maxima); }

#elif defined(FPL_LEVEL_avx2)

#define FPL_FOLD(op, x, y, shuffle, low, high) op(shuffle(x, y, low), shuffle(x, y, high))

/* Eight rows per round. */
#define FPL_FOLD_ROWS(op, rows, out)                                                                         \
    for (int half = 0; half < 2; half++) {                                                                   \
        const float *x = rows + half * 128;                                                                  \
        __m256 a[8], b[4], c[2];                                                                             \
        for (int i = 0; i < 8; i++) a[i] = op(_mm256_loadu_ps(x + i * 16), _mm256_loadu_ps(x + i * 16 + 8)); \
        for (int i = 0; i < 4; i++) b[i] = FPL_FOLD(op, a[i], a[i + 4], _mm256_permute2f128_ps, 0x20, 0x31); \
        for (int i = 0; i < 2; i++)                                                                          \
            c[i] = FPL_FOLD(op, b[2 * i], b[2 * i + 1], _mm256_shuffle_ps, 0x44, 0xee);                      \
        _mm256_storeu_ps(out + half * 8, FPL_FOLD(op, c[0], c[1], _mm256_shuffle_ps, 0x88, 0xdd));           \
    }

VINLINE void sum_rows(const float *rows, float *sums){FPL_FOLD_ROWS(_mm256_add_ps, rows, sums)} VINLINE
    void max_rows(const float *rows, float *maxima){FPL_FOLD_ROWS(_mm256_max_ps, rows, maxima)}

#else

VINLINE void sum_rows(const float *rows, float *sums) {
    for (int r = 0; r < ROWS; r++) {
        float a[16];
        memcpy(a, rows + r * 16, sizeof a);
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++) a[i] += a[i + half];
        sums[r] = a[0];
    }
}

VINLINE void max_rows(const float *rows, float *maxima) {
    for (int r = 0; r < ROWS; r++) {
        float a[16];
        memcpy(a, rows + r * 16, sizeof a);
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++) a[i] = a[i] > a[i + half] ? a[i] : a[i + half];
        maxima[r] = a[0];
    }
}

#endif

/* Sixteen lanes of a row: NL at a time, PER times. */
VINLINE void add_to_row(float *row, int p, nf x) { nstore(row + p * NL, nload(row + p * NL) + x); }

VINLINE void fill_rows(float *rows, int first, float x) {
    for (float *at = rows + first * 16; at < rows + ROWS * 16; at += NL) nstore(at, nset(x));
}

/* out[c * out_row + r] = in[r * in_row + c] for r, c < 16 */
#if defined(FPL_LEVEL_avx512)
/* The columns of sixteen rows. */
VINLINE void columns_of_16(const float *in, int64_t in_row, __m512 out[16]) {
    __m512 a[16], b[16];
    for (int r = 0; r < 16; r++) a[r] = _mm512_loadu_ps(in + r * in_row);
    for (int r = 0; r < 16; r += 2) {
        b[r] = _mm512_unpacklo_ps(a[r], a[r + 1]);
        b[r + 1] = _mm512_unpackhi_ps(a[r], a[r + 1]);
    }
    for (int r = 0; r < 16; r += 4) {
        a[r + 0] = _mm512_shuffle_ps(b[r], b[r + 2], 0x44);
        a[r + 1] = _mm512_shuffle_ps(b[r], b[r + 2], 0xee);
        a[r + 2] = _mm512_shuffle_ps(b[r + 1], b[r + 3], 0x44);
        a[r + 3] = _mm512_shuffle_ps(b[r + 1], b[r + 3], 0xee);
    }
    for (int r = 0; r < 4; r++) {
        b[r] = _mm512_shuffle_f32x4(a[r], a[r + 4], 0x88);
        b[r + 4] = _mm512_shuffle_f32x4(a[r], a[r + 4], 0xdd);
        b[r + 8] = _mm512_shuffle_f32x4(a[r + 8], a[r + 12], 0x88);
        b[r + 12] = _mm512_shuffle_f32x4(a[r + 8], a[r + 12], 0xdd);
    }
    for (int r = 0; r < 8; r++) {
        out[r] = _mm512_shuffle_f32x4(b[r], b[r + 8], 0x88);
        out[r + 8] = _mm512_shuffle_f32x4(b[r], b[r + 8], 0xdd);
    }
}
#endif

VINLINE void transpose_16x16(const float *in, int64_t in_row, float *out, int64_t out_row) {
#if defined(FPL_LEVEL_avx512)
    __m512 columns[16];
    columns_of_16(in, in_row, columns);
    for (int r = 0; r < 16; r++) _mm512_storeu_ps(out + r * out_row, columns[r]);
#else
    for (int c = 0; c < 16; c++)
        for (int r = 0; r < 16; r++) out[c * out_row + r] = in[r * in_row + c];
#endif
}

#endif
