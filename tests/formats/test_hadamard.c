/* test_hadamard.c - the random Hadamard transform: its definition, written another way.
 *
 * Every output of formats/hadamard.h is held to the dense formula y_i = n^(-1/2) sum_j
 * (-1)^popcount(i & j) s_j x_j in double.  A sum of n = 2^m terms by m levels of additions and
 * one product errs by at most gamma_(m+1) sum |x_j| n^(-1/2) (+ u for the rounded factor of 32).
 * Signs are written out here a second time, with what they are derived from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "../../formats/hadamard.h"
#include "../../formats/random.h"

#define U 0x1p-24
enum { TRIALS = 300 };

static const int sizes[] = {16, 32};

/* Transformer Engine's sign vector for wgrad, then the bits of 0xe8d5. */
static const int signs[32] = {1,  1, 1,  -1, 1,  -1, -1, -1, -1, -1, -1, 1,  -1, 1,  -1, -1,
                              -1, 1, -1, 1,  -1, 1,  -1, -1, 1,  1,  1,  -1, 1,  -1, -1, -1};

static uint32_t word(uint64_t i) {
    uint32_t w[4];
    fpl_random_block(41, i / 4, 0, fpl_stream(FPL_STREAM_TEST, 41), w);
    return w[i % 4];
}

/* Magnitudes over many binades. */
static float sample(uint64_t i) {
    const uint32_t w = word(i);
    return ldexpf((float)(w & 0xffffu) / 65536.0f - 0.5f, (int)(w >> 28) - 8);
}

static double dense(int n, int i, const float *x, int transposed) {
    double sum = 0;
    for (int j = 0; j < n; j++) {
        const double h = __builtin_popcount((unsigned)(i & j)) % 2 ? -1.0 : 1.0;
        sum += h * signs[transposed ? i : j] * (double)x[j];
    }
    return sum / sqrt((double)n);
}

static void test_signs(void **state) {
    uint32_t w[4];
    (void)state;
    for (int i = 0; i < 32; i++) {
        assert_int_equal(FPL_HADAMARD_SIGNS >> i & 1u, signs[i] < 0);
        const float y = fpl_hadamard_sign(i, 3.0f);
        assert_true(y == (float)(3 * signs[i]));
    }
    fpl_random_block(0, 0, 0, 0, w);
    assert_int_equal(FPL_HADAMARD_SIGNS >> 16, w[0] & 0xffffu);
    assert_true(fpl_hadamard_factor(16) == 0.25f);
    assert_true(fabs((double)fpl_hadamard_factor(32) - sqrt(1.0 / 32)) <= U * sqrt(1.0 / 32));
}

static void test_against_dense(void **state) {
    (void)state;
    for (int s = 0; s < 2; s++) {
        const int n = sizes[s], roundings = n == 16 ? 5 : 7; /* levels, product, rounded factor */
        const double gamma = roundings * U / (1 - roundings * U);
        for (int t = 0; t < TRIALS; t++) {
            float x[32], y[32], z[32];
            double magnitude = 0;
            for (int i = 0; i < n; i++) x[i] = y[i] = z[i] = sample((uint64_t)t * 64 + (uint64_t)i);
            for (int i = 0; i < n; i++) magnitude += fabs((double)x[i]);
            fpl_hadamard(n, y);
            fpl_hadamard_transposed(n, z);
            for (int i = 0; i < n; i++) {
                const double bound = gamma * magnitude / sqrt((double)n) + 0x1p-149;
                assert_true(fabs((double)y[i] - dense(n, i, x, 0)) <= bound);
                assert_true(fabs((double)z[i] - dense(n, i, x, 1)) <= bound);
            }
            /* There and back: two transforms, each with the bound above, the second of a vector
             * whose sum of magnitudes is at most n^(1/2) times x's norm. */
            fpl_hadamard_transposed(n, y);
            for (int i = 0; i < n; i++)
                assert_true(fabs((double)y[i] - (double)x[i]) <= 3 * gamma * magnitude);
        }
    }
}

/* The exact order of operations on one group, by hand: n = 16, x = unit vectors scaled so that
 * every sum is exact, and a case whose rounding tells (a + b) + c from a + (b + c). */
static void test_exact_cases(void **state) {
    (void)state;
    for (int s = 0; s < 2; s++) {
        const int n = sizes[s];
        for (int j = 0; j < n; j++) {
            float x[32] = {0};
            x[j] = 4.0f;
            fpl_hadamard(n, x);
            for (int i = 0; i < n; i++) {
                const int odd = __builtin_popcount((unsigned)(i & j)) % 2;
                const float magnitude = 4.0f * fpl_hadamard_factor(n);
                assert_true(x[i] == (float)((odd ? -1 : 1) * signs[j]) * magnitude);
            }
        }
    }
    /* y_0 = ((s0 x0 + s1 x1) + (s2 x2 + s3 x3)) + ...: 1 and 2^-24, 2^-24 meet first in pairs */
    float x[32] = {0};
    x[0] = 1.0f;
    x[1] = 0x1p-24f; /* 1 + 2^-24 ties to 1 */
    x[2] = x[4] = 0x1p-24f;
    fpl_hadamard(16, x);
    assert_true(x[0] == 0.25f); /* each 2^-24 is added to 1 on its own, and lost */
    memset(x, 0, sizeof x);
    x[0] = 1.0f;
    x[4] = 0x1p-24f;  /* signs of 2 and 4 are + */
    x[6] = -0x1p-24f; /* sign - : meets x[4] two levels before x[0] */
    fpl_hadamard(16, x);
    assert_true(x[0] == 0.25f * (1.0f + 0x1p-23f));
}

static void test_non_finite(void **state) {
    (void)state;
    for (int s = 0; s < 2; s++) {
        float x[32] = {1.0f};
        x[5] = INFINITY;
        fpl_hadamard(sizes[s], x);
        for (int i = 0; i < sizes[s]; i++) assert_true(isnan(x[i]) || isinf(x[i]));
        float y[32] = {1.0f};
        y[7] = NAN;
        fpl_hadamard(sizes[s], y);
        for (int i = 0; i < sizes[s]; i++) assert_true(isnan(y[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs),
        cmocka_unit_test(test_against_dense),
        cmocka_unit_test(test_exact_cases),
        cmocka_unit_test(test_non_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
