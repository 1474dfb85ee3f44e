/* blocks.h - products of contiguous 16 x 16 blocks, for attention.
 *
 * Each element of a result is one chain of fused multiply-adds in increasing k, from +0 or
 * from the old value; so registers per row may differ between levels without changing bits.
 * On AVX-512 the sixteen rows of a result are sixteen registers, one row of b is loaded per
 * step and elements of a are broadcast operands; AVX2 takes four rows at a time.
 *
 * Triangles: where a's block is lower triangular (a[i][k] = 0 for k > i), or is used
 * transposed, the zero half is not multiplied: no product of zero with a non-finite number is
 * formed there.
 */
#ifndef FPL_VEC_BLOCKS_H
#define FPL_VEC_BLOCKS_H

#include "rows.h"

#define GROUP (NL == 16 ? 16 : 4) /* rows of a result held in registers */

enum triangle { WHOLE, LOWER, UPPER }; /* LOWER: row i uses k <= i; UPPER: k >= i */

VINLINE void group_start(nf sum[GROUP][PER], const float *c, const int accumulate) {
    UNROLL(16)
    for (int i = 0; i < GROUP; i++) {
        UNROLL(4)
        for (int p = 0; p < PER; p++) sum[i][p] = accumulate ? nload(c + i * 16 + p * NL) : nset(0.0f);
    }
}

VINLINE void group_end(nf sum[GROUP][PER], float *c) {
    UNROLL(16)
    for (int i = 0; i < GROUP; i++) {
        UNROLL(4)
        for (int p = 0; p < PER; p++) nstore(c + i * 16 + p * NL, sum[i][p]);
    }
}

/* Step k: sum[i] += a[i * a_row] b, for the rows i that the triangle leaves. */
VINLINE void group_step(nf sum[GROUP][PER], const float *a, int64_t a_row, const float *b, const int k,
                        const int first, const enum triangle triangle) {
    nf row[PER];
    UNROLL(4)
    for (int p = 0; p < PER; p++) row[p] = nload(b + p * NL);
    UNROLL(16)
    for (int i = 0; i < GROUP; i++) {
        if (triangle == LOWER && k > first + i) continue;
        if (triangle == UPPER && k < first + i) continue;
        nf x = nset(a[i * a_row]);
        UNROLL(4)
        for (int p = 0; p < PER; p++) sum[i][p] = nfma(x, row[p], sum[i][p]);
    }
}

/* c[16][16] = sum over d < D of a[i][d] b[d][j]: a in panels of sixteen columns that lie
 * a_panel apart, b[D][16] contiguous */
static void block_scores(int64_t D, const float *a, int64_t a_panel, const float *b, float *c) {
    nf sum[GROUP][PER];
    for (int first = 0; first < 16; first += GROUP) {
        group_start(sum, c, 0);
        for (int64_t d = 0; d < D; d += 16) {
            const float *x = a + d / 16 * a_panel + first * 16, *y = b + d * 16;
            const int depth = D - d < 16 ? (int)(D - d) : 16;
            for (int k = 0; k < depth; k++) group_step(sum, x + k, 16, y + k * 16, k, first, WHOLE);
        }
        group_end(sum, c + first * 16);
    }
}

/* c[16][16] = sum over the blocks of a (16 x 16 each, the last lower triangular) of a b */
static void block_weighted(int64_t blocks, const float *a, const float *b, float *c) {
    nf sum[GROUP][PER];
    for (int first = 0; first < 16; first += GROUP) {
        const float *x = a + first * 16, *y = b;
        group_start(sum, c, 0);
        for (int64_t block = 1; block < blocks; block++, x += 256, y += 256) {
            UNROLL(4)
            for (int k = 0; k < 16; k++) group_step(sum, x + k, 16, y + k * 16, k, first, WHOLE);
        }
        UNROLL(16)
        for (int k = 0; k < 16; k++) group_step(sum, x + k, 16, y + k * 16, k, first, LOWER);
        group_end(sum, c + first * 16);
    }
}

/* c[16][16] += a^T b; a's rows lie a_row apart */
static void block_add_transposed(const float *a, int64_t a_row, const float *b, float *c) {
    nf sum[GROUP][PER];
    for (int first = 0; first < 16; first += GROUP) {
        group_start(sum, c + first * 16, 1);
        UNROLL(4)
        for (int k = 0; k < 16; k++) group_step(sum, a + k * a_row + first, 1, b + k * 16, k, first, WHOLE);
        group_end(sum, c + first * 16);
    }
}

/* c[16][16] = a^T b with a lower triangular */
static void block_set_transposed(const float *a, int64_t a_row, const float *b, float *c) {
    nf sum[GROUP][PER];
    for (int first = 0; first < 16; first += GROUP) {
        group_start(sum, c, 0);
        UNROLL(16)
        for (int k = 0; k < 16; k++) group_step(sum, a + k * a_row + first, 1, b + k * 16, k, first, UPPER);
        group_end(sum, c + first * 16);
    }
}

#endif
