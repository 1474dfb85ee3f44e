/* gemm_tile.h - the register tile: MR rows by NV vectors of C, in registers over all of k.
 *
 *   c[i][j] (+)= sum over k of a[i][k] b[k][j]
 *
 * Each element is one fused-multiply-add chain in increasing k from +0 (or from the old c).
 * That fixes the bits: tile sizes, packing, blocking of k (the chain goes on from the stored
 * value), instruction set and threads cannot change them.
 *
 * Per step of k the tile loads NV vectors of b and broadcasts MR values of a for MR*NV
 * multiply-adds; with two 64-byte loads and two multiply-adds per cycle (Zen 4 and 5, Intel
 * server cores) every shape below is bound by the multiply-adds:
 *
 *   AVX-512 (32 registers)   12x2: 14 loads, 24 fma     8x3: 11, 24     16x1: 17, 16
 *   AVX2    (16 registers)    6x2:  8 loads, 12 fma
 *
 * A row's address is base + 4*stride*{0, 1, 2}: three rows share one pointer, since twelve
 * pointers would not fit the general registers.
 */
#ifndef FPL_VEC_GEMM_TILE_H
#define FPL_VEC_GEMM_TILE_H

#include "native.h"

#define NU (16 / NL) /* native vectors in a unit of sixteen columns */

#if defined(FPL_LEVEL_avx512)
#define MAX_UNITS 3
#else
#define MAX_UNITS 1
#endif

struct tile {
    int64_t K, cols; /* cols: columns of c that exist, at most 16 per unit */
    const float *a;
    int64_t a_row, a_col; /* element (i, k) at a[i*a_row + k*a_col] */
    const float *b;
    int64_t b_row; /* row k at b + k*b_row */
    float *c;
    int64_t c_row;
    int accumulate;
};

/* A ragged tile misses columns of c in its last unit, and reads and writes c under masks; b is
 * packed, padded with zeros, and read whole. */
VINLINE void tile_body(const struct tile *t, const int MR, const int NV, const int ragged) {
    nf acc[16][6];
    UNROLL(16)
    for (int i = 0; i < MR; i++) {
        UNROLL(6)
        for (int j = 0; j < NV; j++) acc[i][j] = nset(0.0f);
    }
    if (t->accumulate) {
        UNROLL(16)
        for (int i = 0; i < MR; i++) {
            UNROLL(6)
            for (int j = 0; j < NV; j++) {
                const float *c = t->c + i * t->c_row + j * NL;
                acc[i][j] = ragged ? nload_n(c, t->cols - j * NL) : nload(c);
            }
        }
    }

    const float *a[6];
    UNROLL(6)
    for (int g = 0; g < 6; g++) a[g] = t->a + 3 * g * t->a_row;
    const float *b = t->b;
    const int64_t stride = t->a_row, a_col = t->a_col, b_row = t->b_row;
    for (int64_t k = t->K; k > 0; k--) {
        nf bv[6];
        UNROLL(6)
        for (int j = 0; j < NV; j++) bv[j] = nload(b + j * NL);
        UNROLL(16)
        for (int i = 0; i < MR; i++) {
            const nf av = nset(a[i / 3][i % 3 * stride]);
            UNROLL(6)
            for (int j = 0; j < NV; j++) acc[i][j] = nfma(av, bv[j], acc[i][j]);
        }
        UNROLL(6)
        for (int g = 0; 3 * g < MR; g++) a[g] += a_col;
        b += b_row;
    }

    UNROLL(16)
    for (int i = 0; i < MR; i++) {
        UNROLL(6)
        for (int j = 0; j < NV; j++) {
            float *c = t->c + i * t->c_row + j * NL;
            if (ragged)
                nstore_n(c, acc[i][j], t->cols - j * NL);
            else
                nstore(c, acc[i][j]);
        }
    }
}

/* Columns of the next panel of a matrix with `rest` columns left, in units of sixteen. */
static inline int panel_units(int64_t rest) {
    const int64_t units = (rest + 15) / 16;
    if (units == 4 && MAX_UNITS >= 2) return 2; /* 2 + 2 rather than 3 + 1 */
    return units < MAX_UNITS ? (int)units : MAX_UNITS;
}

/* Multiply `rows` rows of a by one panel of `units` units. */
void FPL_VEC(gemm_panel)(struct tile t, int64_t rows, int units);

#endif
