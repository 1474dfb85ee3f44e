/* hadamard.h - the random Hadamard transform of 16 or 32 along a GEMM's reduction axis.
 *
 * Along its reduction axis an operand is cut into groups of n = 16 or 32, from the first
 * element on; a last group of fewer than n elements is left as it is.  A group x becomes
 *
 *     y = (1/sqrt n) H D x,      D = diag(signs),  H the Sylvester-Hadamard matrix,
 *     H[i][j] = (-1)^(number of ones of i & j)
 *
 * y is orthonormal in x, so a product of two operands that are both transformed is unchanged
 * up to rounding, while an outlier of either is spread over its group before the quantizer
 * sees it (QuIP#, arXiv 2402.04396; NVFP4 training, arXiv 2509.25149, which transforms both
 * inputs of wgrad with n = 16, one sign vector for all layers and the whole training, and
 * factor 1/4).
 *
 * Every operation is float32, to nearest even, in this order: the sign flips of x; then the
 * butterflies (a, b) -> (a + b, a - b) of the pairs (i, i + h), h = 1, 2, 4, ..., n/2; then one
 * multiplication by the factor, 2^-2 exactly for 16 and fl(2^-2.5) for 32.  Butterflies of one
 * h are independent, so vector code gives the same bits in any lane order.  A non-finite
 * element makes its whole group non-finite or NaN, which nonfinite counters therefore see.
 *
 * Signs: bit i of FPL_HADAMARD_SIGNS set means that x[i] is negated.  The low 16 bits are the
 * sign vector that NVIDIA's Transformer Engine fixes for wgrad, so that results can be compared;
 * the high 16, which only n = 32 uses, are the low half of the first word of Philox 4x32-10 at
 * key 0 and counter 0 (random.h), 0xe8d5: bits that nobody chose.
 *     0..15   + + + - + - - - - - - + - + - -
 *     16..31  - + - + - + - - + + + - + - - -
 */
#ifndef FPL_HADAMARD_H
#define FPL_HADAMARD_H

#include <stdint.h>

#include "round.h"

#define FPL_HADAMARD_MOST 32
#define FPL_HADAMARD_SIGNS 0xe8d5d7e8u
#define FPL_HADAMARD_FACTOR_16 0x1p-2f
#define FPL_HADAMARD_FACTOR_32 0x1.6a09e6p-3f

FPL_HD float fpl_hadamard_factor(int n) { return n == 16 ? FPL_HADAMARD_FACTOR_16 : FPL_HADAMARD_FACTOR_32; }

FPL_HD float fpl_hadamard_sign(int i, float x) {
    return fpl_bits_float(fpl_float_bits(x) ^ (FPL_HADAMARD_SIGNS >> i & 1u) << 31);
}

/* H x / sqrt n, in place; symmetric, so also its own inverse up to rounding. */
FPL_HD void fpl_hadamard_butterflies(int n, float *x) {
    for (int h = 1; h < n; h *= 2) {
        for (int i = 0; i < n; i++) {
            if (i & h) continue;
            const float a = x[i], b = x[i + h];
            x[i] = a + b;
            x[i + h] = a - b;
        }
    }
    const float factor = fpl_hadamard_factor(n);
    for (int i = 0; i < n; i++) x[i] *= factor;
}

/* The transform of one whole group, in place. */
FPL_HD void fpl_hadamard(int n, float *x) {
    for (int i = 0; i < n; i++) x[i] = fpl_hadamard_sign(i, x[i]);
    fpl_hadamard_butterflies(n, x);
}

/* Its transpose, which takes gradients of y to gradients of x: D H y / sqrt n. */
FPL_HD void fpl_hadamard_transposed(int n, float *y) {
    fpl_hadamard_butterflies(n, y);
    for (int i = 0; i < n; i++) y[i] = fpl_hadamard_sign(i, y[i]);
}

#endif
