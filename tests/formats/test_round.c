/* test_round.c - the rounder: hand-computed cases, identities, exact probabilities.
 *
 * test_oracle.c compares every format with an enumeration of codes; here stand the facts
 * that need no second implementation: published ties and boundaries, what NaN, Inf and zero
 * become, neighbours found by bisecting a sorted value set, and the identities of formats.md,
 * section 4 (idempotence, monotonicity, odd symmetry, fixed points, to-odd then nearest).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/format.h"
#include "../../formats/random.h"

static const char *const formats[] = {"e4m3",     "e4m3fn", "e5m2ieee", "e2m1",        "e3m2", "e2m3",
                                      "e3m0",     "e2m0",   "e1m2",     "int4",        "int8", "mxint8",
                                      "fp16",     "bf16",   "e4m3fnuz", "e4m3b11fnuz", "e1m0", "e4m3p3109e",
                                      "e4m3fnns", "e5m0",   "e8m2ieee", "e4m3p3109f",  "tf32", "fp32"};
enum { FORMATS = sizeof formats / sizeof formats[0] };

static struct fpl_round lower(const char *text, int mode, int overflow) {
    struct fpl_format f;
    struct fpl_round r;
    if (fpl_format_parse(text, &f, NULL) != FPL_OK) fail_msg("%s", text);
    fpl_round_lower(&f, mode, 16, overflow, &r);
    return r;
}

static void check(const char *what, float x, float got, float want) {
    const int both_nan = isnan(got) && isnan(want);
    if (!both_nan && fpl_float_bits(got) != fpl_float_bits(want))
        fail_msg("%s: %a gives %a, expected %a", what, (double)x, (double)got, (double)want);
}

/* A stratified walk over float32 bit patterns: every exponent, mantissas near its ends and
 * middle, both signs. */
enum { WALK = 2 * 256 * 24 };
static float walk(int i) {
    static const uint32_t low[8] = {0, 1, 0x3fffff, 0x400000, 0x400001, 0x600000, 0x7ffffe, 0x7fffff};
    const uint32_t sign = (uint32_t)(i & 1) << 31, exponent = (uint32_t)(i >> 1 & 255) << 23;
    const int pick = i >> 9;
    uint32_t w[4] = {0, 0, 0, 0};
    if (pick >= 8) fpl_random_block(7, (uint64_t)i, 0, fpl_stream(FPL_STREAM_TEST, 9), w);
    return fpl_bits_float(sign | exponent | (pick < 8 ? low[pick] : w[0] & 0x7fffff));
}

static void test_hand_cases(void **state) {
    static const struct {
        const char *format;
        int mode, overflow;
        float x, want;
    } rows[] = {
        /* nearest even: ties 2.5 between 2 and 3, 5 between 4 and 6, 0.25 between 0 and 0.5 */
        {"e2m1", FPL_RNE, FPL_SAT, 2.5f, 2.0f},
        {"e2m1", FPL_RNE, FPL_SAT, 3.5f, 4.0f},
        {"e2m1", FPL_RNE, FPL_SAT, 5.0f, 4.0f},
        {"e2m1", FPL_RNE, FPL_SAT, 0.25f, 0.0f},
        {"e2m1", FPL_RNE, FPL_SAT, 0.75f, 1.0f},
        {"e2m1", FPL_RNE, FPL_SAT, -0.25f, -0.0f},
        {"e2m1", FPL_RNA, FPL_SAT, 0.25f, 0.5f},
        {"e2m1", FPL_RNA, FPL_SAT, -2.5f, -3.0f},
        {"e2m1", FPL_RNA, FPL_SAT, 5.0f, 6.0f},
        /* M = 0: 3 lies between 2 (field 2) and 4 (field 3) of e2m0, 1.5 between fields 1 and 2 */
        {"e2m0", FPL_RNE, FPL_SAT, 3.0f, 2.0f},
        {"e2m0", FPL_RNE, FPL_SAT, 1.5f, 2.0f},
        {"e2m0", FPL_RNE, FPL_SAT, 0.5f, 0.0f},
        {"e2m0", FPL_RNA, FPL_SAT, 0.5f, 1.0f},
        {"e2m0", FPL_RNE, FPL_SAT, 0x1.000002p-1f, 1.0f},
        {"e2m0", FPL_RTO, FPL_SAT, 1.5f, 1.0f},
        {"e2m0", FPL_RTO, FPL_SAT, 2.5f, 4.0f},
        {"e2m0", FPL_RTO, FPL_SAT, 0x1p-140f, 1.0f},
        /* ue8m0: the field of 2^e is e + 127, so 2^0 is odd and 2^1 even */
        {"ue8m0", FPL_RNE, FPL_SAT, 1.5f, 2.0f},
        {"ue8m0", FPL_RNE, FPL_SAT, 3.0f, 2.0f},
        {"ue8m0", FPL_RNE, FPL_SAT, 0.0f, 0x1p-127f},
        {"ue8m0", FPL_RNE, FPL_SAT, 0x1p-149f, 0x1p-127f},
        {"ue8m0", FPL_RNE, FPL_SAT, -2.0f, 0x1p-127f},
        {"ue8m0", FPL_RNE, FPL_SAT, FLT_MAX, 0x1p127f},
        {"ue8m0", FPL_RNE, FPL_OVF, FLT_MAX, NAN},
        {"ue8m0", FPL_RTZ, FPL_OVF, FLT_MAX, 0x1p127f},
        /* e4m3fn: 464 is the tie between 448 and the unbounded 480, which has the odd code */
        {"e4m3fn", FPL_RNE, FPL_OVF, 464.0f, 448.0f},
        {"e4m3fn", FPL_RNE, FPL_OVF, 0x1.d00002p8f, NAN},
        {"e4m3fn", FPL_RNA, FPL_OVF, 464.0f, NAN},
        {"e4m3fn", FPL_RNE, FPL_SAT, 1e30f, 448.0f},
        {"e4m3fn", FPL_RTZ, FPL_OVF, 1e30f, 448.0f},
        {"e4m3fn", FPL_RTZ, FPL_OVF, INFINITY, NAN},
        {"e4m3fn", FPL_RNE, FPL_SAT, -INFINITY, -448.0f},
        {"e4m3fn", FPL_RNE, FPL_SATP, -INFINITY, -INFINITY},
        {"e4m3fn", FPL_RNE, FPL_SATP, -FLT_MAX, -448.0f},
        {"e4m3", FPL_RNE, FPL_OVF, 1e30f, 480.0f}, /* no special code to give */
        /* ties at the subnormal end of e4m3fn, quantum 2^-9 */
        {"e4m3fn", FPL_RNE, FPL_SAT, 0x1p-10f, 0.0f},
        {"e4m3fn", FPL_RNE, FPL_SAT, 0x1.8p-9f, 0x1p-8f},
        {"e4m3fn", FPL_RNE, FPL_SAT, 0x1.000002p-10f, 0x1p-9f},
        {"e4m3fn", FPL_RUP, FPL_SAT, 0x1p-149f, 0x1p-9f},
        {"e4m3fn", FPL_RUP, FPL_SAT, -0x1p-149f, -0.0f},
        {"e4m3fn", FPL_RDN, FPL_SAT, -0x1p-149f, -0x1p-9f},
        {"e4m3fn", FPL_RTO, FPL_SAT, 0x1p-149f, 0x1p-9f},
        /* without subnormals: zero or 2^-6 */
        {"e4m3fnns", FPL_RNE, FPL_SAT, 0x1p-7f, 0.0f},
        {"e4m3fnns", FPL_RNE, FPL_SAT, 0x1.000002p-7f, 0x1p-6f},
        {"e4m3fnns", FPL_RNA, FPL_SAT, 0x1p-7f, 0x1p-6f},
        {"e4m3fnns", FPL_RTZ, FPL_SAT, 0x1.fffffep-7f, 0.0f},
        /* ieee: fp16 overflows at 65520 */
        {"fp16", FPL_RNE, FPL_OVF, 65519.996f, 65504.0f},
        {"fp16", FPL_RNE, FPL_OVF, 65520.0f, INFINITY},
        {"fp16", FPL_RTZ, FPL_OVF, 1e10f, 65504.0f},
        {"fp16", FPL_RTO, FPL_OVF, 1e10f, 65504.0f},
        {"fp16", FPL_RUP, FPL_OVF, 65505.0f, INFINITY},
        {"fp16", FPL_RUP, FPL_OVF, -1e10f, -65504.0f},
        {"fp16", FPL_RDN, FPL_OVF, -65505.0f, -INFINITY},
        {"fp16", FPL_RDN, FPL_OVF, 1e10f, 65504.0f},
        {"bf16", FPL_RNE, FPL_OVF, FLT_MAX, INFINITY},
        {"bf16", FPL_RNE, FPL_OVF, 0x1p-134f, 0.0f},
        {"bf16", FPL_RNE, FPL_OVF, 0x1.8p-133f, 0x1p-132f},
        /* one zero */
        {"e4m3fnuz", FPL_RNE, FPL_SAT, -0.0f, 0.0f},
        {"e4m3fnuz", FPL_RNE, FPL_SAT, -0x1p-30f, 0.0f},
        {"e4m3p3109e", FPL_RNE, FPL_OVF, -250.0f, -INFINITY},
        {"e4m3p3109f", FPL_RNE, FPL_OVF, 260.0f, NAN},
        /* integers */
        {"int8", FPL_RNE, FPL_SAT, 2.5f, 2.0f},
        {"int8", FPL_RNE, FPL_SAT, -200.0f, -127.0f},
        {"int8", FPL_RNA, FPL_SAT, 126.5f, 127.0f},
        {"mxint8", FPL_RNE, FPL_SAT, 0x1.8p-6f, 0x1p-5f},
        {"mxint8", FPL_RNE, FPL_SAT, 2.0f, 0x1.fcp0f},
        /* unsigned */
        {"ue4m3fn", FPL_RNE, FPL_SAT, -3.0f, 0.0f},
        {"ue4m3fn", FPL_RNE, FPL_OVF, -3.0f, NAN},
        {"ue4m3fn", FPL_RNE, FPL_OVF, -0.0f, 0.0f},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fpl_round r = lower(rows[i].format, rows[i].mode, rows[i].overflow);
        check(rows[i].format, rows[i].x, fpl_round_value(&r, rows[i].x, 0), rows[i].want);
    }
}

/* Sorted non-negative finite values, one past the largest included, by formulas of formats.md. */
static int value_set(const char *text, double *values, int room) {
    struct fpl_format f;
    assert_int_equal(fpl_format_parse(text, &f, NULL), FPL_OK);
    const double step = f.ebits == 0 ? ldexp(1, -f.bias) : ldexp(1, 1 - f.bias - f.mbits);
    struct fpl_format_limits l;
    fpl_format_limits(&f, &l);
    const int per_binade = 1 << f.mbits;
    int n = 0;
    for (int c = 0; n < room; c++) {
        const int binade = f.ebits == 0 || c < per_binade ? 0 : c / per_binade - 1;
        const double v = step * ldexp(f.ebits == 0 ? c : c - binade * per_binade, binade);
        if (f.subnormals || v == 0 || v >= l.smallest_normal) values[n++] = v;
        if (v > l.largest) break;
    }
    return n;
}

/* rtz, rup, rdn, rne and rna by bisection and distances in double (exact: 24 bits each). */
static void test_neighbours(void **state) {
    static const char *const names[] = {"e4m3", "e4m3fn", "e5m2ieee", "e2m1", "e3m2",     "e2m3",
                                        "e3m0", "e1m6",   "int8",     "fp16", "e4m3fnuz", "e4m3fnns"};
    static double values[70000];
    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        const int n = value_set(names[k], values, 70000);
        const struct fpl_round rtz = lower(names[k], FPL_RTZ, FPL_SAT),
                               rup = lower(names[k], FPL_RUP, FPL_SAT),
                               rdn = lower(names[k], FPL_RDN, FPL_SAT),
                               rne = lower(names[k], FPL_RNE, FPL_SAT),
                               rna = lower(names[k], FPL_RNA, FPL_SAT);
        for (int i = 0; i < WALK; i++) {
            const float x = walk(i);
            const double a = fabs((double)x);
            if (!isfinite(x) || a >= values[n - 1]) continue;
            int lo = 0, hi = n - 1;
            while (hi - lo > 1) {
                const int mid = lo + (hi - lo) / 2;
                if (values[mid] <= a)
                    lo = mid;
                else
                    hi = mid;
            }
            if (values[lo] == a) hi = lo;
            const double top = values[n - 2], above = fmin(values[hi], top), below = values[lo];
            const double to_low = a - values[lo], to_high = values[hi] - a;
            /* + 0.0: -0 and +0 compare equal below */
            assert_true(fabs((double)fpl_round_value(&rtz, x, 0)) == below);
            assert_true(fabs((double)fpl_round_value(&rup, x, 0)) == (x > 0 ? above : below));
            assert_true(fabs((double)fpl_round_value(&rdn, x, 0)) == (x > 0 ? below : above));
            const double even = fabs((double)fpl_round_value(&rne, x, 0)),
                         away = fabs((double)fpl_round_value(&rna, x, 0));
            if (to_low != to_high) {
                assert_true(even == (to_low < to_high ? below : above));
                assert_true(away == even);
            } else if (lo != hi) {
                assert_true(away == above);
                assert_true(even == (lo % 2 == 0 ? below : above));
            }
        }
    }
}

static void test_nan_and_identity(void **state) {
    (void)state;
    for (int i = 0; i < FORMATS; i++)
        for (int mode = 0; mode < FPL_ROUNDINGS; mode++)
            for (int overflow = 0; overflow < FPL_OVERFLOWS; overflow++) {
                const struct fpl_round r = lower(formats[i], mode, overflow);
                static const uint32_t nans[] = {0x7fc00000u, 0xffc00001u, 0x7f800001u, 0xffabcdefu};
                for (int n = 0; n < 4; n++)
                    assert_int_equal(fpl_float_bits(fpl_round_value(&r, fpl_bits_float(nans[n]), 0)),
                                     nans[n]);
            }
    const struct fpl_round fp32 = lower("fp32", FPL_SR, FPL_OVF);
    for (int i = 0; i < WALK; i++) {
        const float x = walk(i);
        assert_int_equal(fpl_float_bits(fpl_round_value(&fp32, x, 0xffff)), fpl_float_bits(x));
    }
    const struct fpl_round clamped = lower("fp32", FPL_RNE, FPL_SAT);
    check("fp32:sat", INFINITY, fpl_round_value(&clamped, INFINITY, 0), FLT_MAX);
    check("fp32:sat", 0x1p-149f, fpl_round_value(&clamped, 0x1p-149f, 0), 0x1p-149f);
}

static int compare_floats(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Idempotence, fixed points, monotonicity, odd symmetry, of every deterministic mode. */
static void test_identities(void **state) {
    static float sorted[WALK];
    int n = 0;
    (void)state;
    for (int i = 0; i < WALK; i++)
        if (isfinite(walk(i))) sorted[n++] = walk(i);
    qsort(sorted, (size_t)n, sizeof sorted[0], compare_floats);
    for (int i = 0; i < FORMATS; i++)
        for (int mode = 0; mode < FPL_SR; mode++)
            for (int overflow = 0; overflow < FPL_OVERFLOWS; overflow++) {
                const struct fpl_round r = lower(formats[i], mode, overflow);
                float last = -INFINITY;
                for (int k = 0; k < n; k++) {
                    const float y = fpl_round_value(&r, sorted[k], 0);
                    const float again = fpl_round_value(&r, y, 0);
                    if (!isnan(y)) check(formats[i], y, again, y);
                    if (!isnan(y) && y < last)
                        fail_msg("%s is not monotonic at %a", formats[i], (double)sorted[k]);
                    if (!isnan(y)) last = y;
                    if (mode == FPL_RUP || mode == FPL_RDN) continue;
                    const float mirrored = fpl_round_value(&r, -sorted[k], 0);
                    if (y == 0.0f && r.one_zero)
                        check(formats[i], -sorted[k], mirrored, 0.0f);
                    else
                        check(formats[i], -sorted[k], mirrored, -y);
                }
            }
}

/* Every code's value is a fixed point of every mode and of stochastic rounding. */
static void test_fixed_points(void **state) {
    (void)state;
    for (int i = 0; i < FORMATS; i++) {
        struct fpl_format f;
        assert_int_equal(fpl_format_parse(formats[i], &f, NULL), FPL_OK);
        const uint32_t top = fpl_format_top_code(&f), stride = top / 4096 + 1;
        for (uint32_t c = 0; c <= top; c += stride) {
            const float v = (float)fpl_format_value(&f, c);
            if (!f.subnormals && c > 0 && c < (uint32_t)1 << f.mbits) continue;
            for (int mode = 0; mode < FPL_ROUNDINGS; mode++) {
                const struct fpl_round r = lower(formats[i], mode, FPL_OVF);
                check(formats[i], v, fpl_round_value(&r, v, 0xffff), v);
            }
        }
    }
}

/* To odd into two more bits and at least the range, then nearest even: one rounding. */
static void test_odd_then_even(void **state) {
    static const char *const pairs[][2] = {
        {"e4m3fn", "e5m5ieee"}, {"e2m1", "e4m3"}, {"e5m2ieee", "e8m4ieee"}, {"bf16", "e8m9ieee"},
        {"fp16", "e8m12ieee"},  {"e3m0", "e4m2"}, {"int4", "e0m12b6"},      {"e2m0", "e4m2"}};
    (void)state;
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        const struct fpl_round narrow = lower(pairs[k][0], FPL_RNE, FPL_SAT),
                               wide = lower(pairs[k][1], FPL_RTO, FPL_SATP);
        for (int i = 0; i < WALK; i++) {
            const float x = walk(i);
            if (isnan(x)) continue;
            check(pairs[k][0], x, fpl_round_value(&narrow, fpl_round_value(&wide, x, 0), 0),
                  fpl_round_value(&narrow, x, 0));
        }
    }
}

/* For small r every random value is tried: the count away from zero is floor(f 2^r). */
static void test_stochastic_is_exact(void **state) {
    static const float fractions[] = {0, 0x1p-20f, 0.1f, 0.25f, 0.3333333f, 0.5f, 0.62f, 0.999999f};
    (void)state;
    for (int r = 1; r <= 12; r++) {
        struct fpl_format f;
        struct fpl_round p;
        assert_int_equal(fpl_format_parse("e4m3fn", &f, NULL), FPL_OK);
        fpl_round_lower(&f, FPL_SR, r, FPL_SAT, &p);
        for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++)
            for (int place = 0; place < 3; place++) {
                /* neighbours 8 and 9, -1.75 and -1.875, 3 and 4 quanta of the subnormals */
                static const float low[3] = {8.0f, -1.75f, 0x3p-9f}, gap[3] = {1.0f, -0.125f, 0x1p-9f};
                const float x = low[place] + fractions[i] * gap[place];
                const double exact = ((double)x - (double)low[place]) / (double)gap[place];
                int away = 0;
                for (uint32_t random = 0; random < 1u << r; random++) {
                    const float y = fpl_round_value(&p, x, random);
                    assert_true(y == low[place] || y == low[place] + gap[place]);
                    away += y != low[place];
                }
                assert_int_equal(away, (int)floor(exact * ldexp(1, r)));
            }
    }
}

static void test_stochastic_32_bits(void **state) {
    struct fpl_format f;
    struct fpl_round p;
    (void)state;
    assert_int_equal(fpl_format_parse("e2m1", &f, NULL), FPL_OK);
    fpl_round_lower(&f, FPL_SR, 32, FPL_SAT, &p);
    /* f = 2^-22 between 2 and 3: floor(f 2^32) = 1024 */
    const float x = 0x1.000002p1f; /* 2 + 2^-22 */
    check("sr32", x, fpl_round_value(&p, x, 0xffffffffu), 3.0f);
    check("sr32", x, fpl_round_value(&p, x, 0xffffffffu - 1023u), 3.0f);
    check("sr32", x, fpl_round_value(&p, x, 0xffffffffu - 1024u), 2.0f);
    /* far below the smallest value: only the all-ones bits could round away, and f 2^32 < 1 */
    check("sr32", 0x1p-100f, fpl_round_value(&p, 0x1p-100f, 0xffffffffu), 0.0f);
    check("sr32", -0x1p-149f, fpl_round_value(&p, -0x1p-149f, 0xffffffffu), -0.0f);
    check("sr32", 7.0f, fpl_round_value(&p, 7.0f, 0xffffffffu), 6.0f); /* saturates */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hand_cases),          cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_nan_and_identity),    cmocka_unit_test(test_identities),
        cmocka_unit_test(test_fixed_points),        cmocka_unit_test(test_odd_then_even),
        cmocka_unit_test(test_stochastic_is_exact), cmocka_unit_test(test_stochastic_32_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
