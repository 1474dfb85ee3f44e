/* test_strict.c - the floating point that everything else assumes: no contraction, no
 * reassociation, no reciprocal division, subnormals kept in every thread.  Each check fails
 * under the flag it guards against (-ffp-contract=fast with -mfma, -ffast-math,
 * -fassociative-math, -freciprocal-math, flush-to-zero). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "../../formats/round.h"

#ifdef __FAST_MATH__
#error "fast-math is forbidden: it deletes add-a-constant rounders"
#endif

static volatile float one_plus = 1.0f + 0x1p-12f, minus_one = -1.0f, big = 0x1.8p23f, third = 1.0f / 3.0f;
static volatile float tiny = 0x1p-140f, half = 0.5f, three = 3.0f;

/* (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term survives only in a fused operation. */
static void test_no_contraction(void **state) {
    (void)state;
    const float a = one_plus, b = one_plus, c = minus_one;
    const float separate = a * b + c;
    assert_true(separate == 0x1p-11f);
    assert_true(fmaf(a, b, c) == 0x1p-11f + 0x1p-24f);
}

/* (x + c) - c rounds x to an integer; a reassociating compiler gives x back. */
static void test_no_reassociation(void **state) {
    (void)state;
    const float x = 2.25f * (float)(int)three, c = big;
    assert_true((x + c) - c == 7.0f);
}

/* x / y, not x * (1/y): 5/3 of float32 differ in the last bit for some x. */
static void test_true_division(void **state) {
    (void)state;
    int different = 0;
    for (int i = 1; i < 1000; i++) {
        const float x = (float)i, q = x / three;
        const double exact = (double)x / 3.0;
        assert_true(q == (float)exact); /* double rounding cannot matter: 24-bit by 2-bit quotients */
        different += q != x * third;
    }
    assert_true(different > 0);
}

static void test_subnormals_in_every_thread(void **state) {
    (void)state;
    int flushed = 0;
#pragma omp parallel num_threads(4) reduction(+ : flushed)
    flushed += !(tiny * half > 0.0f) + !(0x1p-126f * half == 0x1p-127f);
    assert_int_equal(flushed, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_contraction),
        cmocka_unit_test(test_no_reassociation),
        cmocka_unit_test(test_true_division),
        cmocka_unit_test(test_subnormals_in_every_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
