/* test_accumulator.c - accumulators against exact arithmetic written another way, and their text.
 *
 * The oracle knows nothing of two-sums, rounding to odd or bit masks.  Every finite float32 is a
 * whole multiple of 2^-149, so every product is one of 2^-298; sums of them are kept as whole
 * numbers of that unit in 700 bits (struct big).  A rounding walks the values of F itself: it
 * finds the largest |v| <= |x| by comparing whole numbers, asks for its successor, and decides by
 * comparing 2 |x| with v + successor.  The successors come from the definition of the format
 * (exponents, mantissa bits), and parity from counting steps.
 *
 * `align` is recomputed on whole numbers too: truncation is division by a power of two.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/accumulator.h"

/* ---- whole numbers of 2^-298 ------------------------------------------------------------------ */

enum { WORDS = 22, UNIT = -298 }; /* 704 bits: products reach 2^256, that is bit 554 */

struct big {
    uint32_t w[WORDS]; /* magnitude, low word first */
    int negative;
};

static int big_compare(const struct big *a, const struct big *b) {
    for (int i = WORDS - 1; i >= 0; i--)
        if (a->w[i] != b->w[i]) return a->w[i] < b->w[i] ? -1 : 1;
    return 0;
}

static int big_is_zero(const struct big *a) {
    for (int i = 0; i < WORDS; i++)
        if (a->w[i] != 0) return 0;
    return 1;
}

/* significand * 2^(exponent), exponent >= UNIT */
static struct big big_of(uint64_t significand, int exponent, int negative) {
    struct big r = {{0}, negative};
    for (int bit = 0; bit < 64; bit++) {
        const int at = bit + exponent - UNIT;
        if (significand >> bit & 1) r.w[at / 32] |= 1u << (at % 32);
    }
    return r;
}

static struct big big_add_magnitudes(const struct big *a, const struct big *b) {
    struct big r = {{0}, a->negative};
    uint64_t carry = 0;
    for (int i = 0; i < WORDS; i++) {
        carry += (uint64_t)a->w[i] + b->w[i];
        r.w[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return r;
}

/* |a| - |b| for |a| >= |b| */
static struct big big_subtract_magnitudes(const struct big *a, const struct big *b) {
    struct big r = {{0}, a->negative};
    int64_t borrow = 0;
    for (int i = 0; i < WORDS; i++) {
        borrow += (int64_t)a->w[i] - (int64_t)b->w[i];
        r.w[i] = (uint32_t)borrow;
        borrow = borrow < 0 ? -1 : 0;
    }
    return r;
}

static struct big big_add(const struct big *a, const struct big *b) {
    if (a->negative == b->negative) return big_add_magnitudes(a, b);
    return big_compare(a, b) >= 0 ? big_subtract_magnitudes(a, b) : big_subtract_magnitudes(b, a);
}

/* x = m 2^e with a whole m */
static void split(double x, uint64_t *m, int *e) {
    int power;
    const double f = frexp(fabs(x), &power);
    *m = (uint64_t)ldexp(f, 53);
    *e = power - 53;
    while (*m != 0 && (*m & 1) == 0) {
        *m >>= 1;
        ++*e;
    }
}

static struct big big_of_double(double x) {
    uint64_t m;
    int e;
    split(x, &m, &e);
    return big_of(m, m == 0 ? 0 : e, signbit(x) != 0);
}

/* Exact products of float32 numbers are doubles. */
static struct big big_product(float a, float b) { return big_of_double((double)a * (double)b); }

/* ---- rounding to F ------------------------------------------------------------------------------ */

struct target {
    struct fpl_round f;
    double quantum0; /* of subnormals: 2^(emin - M) */
};

/* The value of F after v >= 0, as if exponents were unbounded; its parity bit flips with each. */
static double successor(const struct target *t, double v) {
    const double low = ldexp(1.0, t->f.emin);
    if (!t->f.subnormals && v < low) return low;
    if (v < low) return v + t->quantum0;
    return v + ldexp(1.0, ilogb(v) - t->f.mbits);
}

/* Parity of v's code: its count of steps from zero. */
static int odd_code(const struct target *t, double v) {
    const double low = ldexp(1.0, t->f.emin);
    if (v == 0.0) return 0;
    if (v < low) return (int)fmod(v / t->quantum0, 2.0);
    const int e = ilogb(v);
    if (t->f.mbits == 0) return (e - t->f.emin + 1) & 1;
    return (int)fmod(ldexp(v, t->f.mbits - e), 2.0);
}

/* The largest value of F not above |x|, x not zero: bisection over exponents, then bits. */
static double floor_value(const struct target *t, const struct big *x) {
    double v = 0.0;
    const double low = ldexp(1.0, t->f.emin);
    struct big b = big_of_double(low);
    if (big_compare(&b, x) > 0) {
        if (!t->f.subnormals) return 0.0;
        for (double step = low / 2.0; step >= t->quantum0; step /= 2.0) {
            b = big_of_double(v + step);
            if (big_compare(&b, x) <= 0) v += step;
        }
        return v;
    }
    int e = t->f.emin;
    for (b = big_of_double(ldexp(1.0, e + 1)); big_compare(&b, x) <= 0; b = big_of_double(ldexp(1.0, e + 1)))
        e++;
    v = ldexp(1.0, e);
    for (int bit = 1; bit <= t->f.mbits; bit++) {
        b = big_of_double(v + ldexp(1.0, e - bit));
        if (big_compare(&b, x) <= 0) v += ldexp(1.0, e - bit);
    }
    return v;
}

static float with_sign(double v, int negative) { return negative ? -(float)v : (float)v; }

static float overflowed(const struct target *t, int negative) {
    const double largest = (double)t->f.largest;
    const int mode = t->f.mode;
    if (t->f.overflow != FPL_OVF) return with_sign(largest, negative);
    if (mode == FPL_RTZ || mode == FPL_RTO || (mode == FPL_RUP && negative) || (mode == FPL_RDN && !negative))
        return with_sign(largest, negative);
    return t->f.has_inf   ? with_sign((double)INFINITY, negative)
           : t->f.has_nan ? NAN
                          : with_sign(largest, negative);
}

/* zero_sign: of an exact zero */
static float round_exact(const struct target *t, const struct big *x, int zero_sign) {
    if (big_is_zero(x)) return t->f.one_zero ? 0.0f : with_sign(0.0, zero_sign);
    const double below = floor_value(t, x), above = successor(t, below);
    const struct big b = big_of_double(below), a = big_of_double(above);
    const struct big twice = big_add_magnitudes(x, x), middle = big_add_magnitudes(&a, &b);
    const int exact = big_compare(&b, x) == 0, half = big_compare(&twice, &middle), odd = odd_code(t, below);
    int up = 0;
    switch (t->f.mode) {
    case FPL_RNE:
        up = half > 0 || (half == 0 && odd);
        break;
    case FPL_RNA:
        up = half >= 0;
        break;
    case FPL_RUP:
        up = !x->negative;
        break;
    case FPL_RDN:
        up = x->negative;
        break;
    case FPL_RTO:
        up = !odd;
        break;
    default:
        break;
    }
    const double v = exact || !up ? below : above;
    if (v > (double)t->f.largest) return overflowed(t, x->negative);
    return v == 0.0 && t->f.one_zero ? 0.0f : with_sign(v, x->negative);
}

/* acc + a b by the oracle; all finite. */
static float oracle_each(const struct target *t, float acc, float a, float b) {
    const struct big p = big_product(a, b), c = big_of_double((double)acc), s = big_add(&p, &c);
    return round_exact(t, &s, signbit(acc) && p.negative);
}

/* ---- align ---------------------------------------------------------------------------------------- */

/* |x| cut to a multiple of 2^e, signed; 0 below that. */
static struct big cut(const struct big *x, int e) {
    struct big r = *x;
    for (int bit = 0; bit < e - UNIT && bit < WORDS * 32; bit++) r.w[bit / 32] &= ~(1u << (bit % 32));
    return r;
}

static int top_bit(const struct big *x) {
    for (int bit = WORDS * 32 - 1; bit >= 0; bit--)
        if (x->w[bit / 32] >> (bit % 32) & 1) return bit + UNIT;
    return UNIT - 1;
}

static double big_value(const struct big *x) {
    double v = 0.0;
    for (int i = WORDS - 1; i >= 0; i--) v += ldexp((double)x->w[i], 32 * i + UNIT);
    return x->negative ? -v : v;
}

static float oracle_align(int w, float acc, int n, const float *a, const float *b) {
    const int kept = w < 23 ? w : 23;
    int e = -1000;
    if (acc != 0.0f) e = ilogbf(acc);
    for (int i = 0; i < n; i++)
        if (a[i] != 0.0f && b[i] != 0.0f && ilogbf(a[i]) + ilogbf(b[i]) > e) e = ilogbf(a[i]) + ilogbf(b[i]);
    struct big sum = big_of(0, 0, 0);
    for (int i = -1; i < n; i++) {
        const struct big term = i < 0 ? big_of_double((double)acc) : big_product(a[i], b[i]),
                         part = cut(&term, e - w);
        sum = big_add(&sum, &part);
    }
    if (big_is_zero(&sum)) return 0.0f;
    const int top = top_bit(&sum);
    const struct big r = cut(&sum, (top < -126 ? -126 : top) - kept);
    if (top > 127) return r.negative ? -INFINITY : INFINITY;
    return big_is_zero(&r) ? 0.0f : (float)big_value(&r);
}

/* ---- values --------------------------------------------------------------------------------------- */

static uint64_t state = 12345;
static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

/* Finite, of any exponent in [low, high], its lower mantissa bits often all zeros or ones. */
static float random_float(int low, int high) {
    const int e = low + (int)(draw() % (uint32_t)(high - low + 1)), bits = (int)(draw() % 24);
    uint32_t m = draw() & 0x7fffffu;
    if (draw() & 1) m &= ~((1u << bits) - 1u);
    if ((draw() & 3) == 0) m |= (1u << bits) - 1u;
    const float x = ldexpf((float)(m | 0x800000u), e - 23);
    return (draw() & 1) != 0 ? -x : x;
}

static struct target target_of(const char *text) {
    struct fpl_accumulator a;
    struct fpl_accumulator_plan plan;
    struct fpl_error err;
    if (fpl_accumulator_parse(text, &a, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_accumulator_lower(&a, &plan);
    struct target t = {plan.round, ldexp(1.0, plan.round.emin - plan.round.mbits)};
    return t;
}

static void same(const char *text, float got, float want, float acc, float a, float b) {
    if (isnan(want) ? fpl_float_bits(got) != 0x7fc00000u : fpl_float_bits(got) != fpl_float_bits(want))
        fail_msg("%s: %a + %a * %a is %a, not %a", text, (double)acc, (double)a, (double)b, (double)got,
                 (double)want);
}

/* ---- tests: steps ----------------------------------------------------------------------------------- */

static const char *const formats[] = {"fp16",       "bf16",   "tf32",      "fp32",     "e4m3fn",
                                      "e4m3fn:ovf", "e4m3",   "e5m2ieee",  "e4m3fnuz", "e4m3p3109e:ovf",
                                      "e2m1",       "e3m4ns", "e5m0",      "int8",     "mxint8",
                                      "e8m22ieee",  "e5m13",  "e5m10b140", "e4m6b-30"};
static const char *const modes[] = {"rne", "rna", "rtz", "rup", "rdn", "rto"};

static void each_is_one_rounding(void **unused) {
    (void)unused;
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        for (size_t m = 0; m < 6; m++) {
            char text[64];
            const char *colon = strchr(formats[f], ':');
            const int n = colon != NULL ? (int)(colon - formats[f]) : (int)strlen(formats[f]);
            snprintf(text, sizeof text, "%.*s:%s%s", n, formats[f], modes[m], colon != NULL ? colon : "");
            const struct target t = target_of(text);
            const int top = ilogbf(t.f.largest), bottom = t.f.emin - t.f.mbits;
            float acc = 0.0f;
            for (int i = 0; i < 400; i++) {
                /* a b near acc, near acc's half quantum and far below; sometimes anything */
                const int e =
                    acc == 0.0f ? bottom + (int)(draw() % (uint32_t)(top - bottom + 1)) : ilogbf(acc);
                int at = e - (int)(draw() % (uint32_t)(t.f.mbits + 6)) + (int)(draw() % 3);
                if (draw() % 9 == 0) at = bottom - 3 + (int)(draw() % 5);
                const int half = at / 2 + (int)(draw() % 7) - 3;
                const float a = random_float(half, half), b = random_float(at - half, at - half);
                const float got = fpl_accumulate_each(&t.f, acc, a, b, 0), want = oracle_each(&t, acc, a, b);
                same(text, got, want, acc, a, b);
                acc = isfinite(got) && draw() % 40 != 0 ? got : 0.0f;
            }
            for (int i = 0; i < 100; i++) { /* any operands, any accumulator of F */
                const float a = random_float(-126, 127), b = random_float(-149, 127);
                const struct big zero = big_of(0, 0, 0);
                const struct big seed = big_of_double((double)random_float(bottom, top));
                acc = (draw() & 3) == 0 ? round_exact(&t, &zero, 0) : round_exact(&t, &seed, 0);
                if (!isfinite(acc)) acc = t.f.largest;
                same(text, fpl_accumulate_each(&t.f, acc, a, b, 0), oracle_each(&t, acc, a, b), acc, a, b);
            }
        }
    }
}

/* Exact ties and their neighbours by one part in 2^48, where rounding twice goes wrong. */
static void never_two_roundings(void **unused) {
    (void)unused;
    const struct target fp16 = target_of("fp16"), bf16 = target_of("bf16");
    assert_true(fpl_accumulate_each(&fp16.f, 1.0f, 0x1p-11f + 0x1p-25f, 1.0f, 0) == 1.0f + 0x1p-10f);
    assert_true(fpl_accumulate_each(&fp16.f, 1.0f, 0x1p-11f, 1.0f, 0) == 1.0f);
    assert_true((float)(1.0 + 0x1p-11 + 0x1p-25) == 1.0f + 0x1p-11f); /* float32 first: a tie, then 1 */
    const float up = 1.0f + 0x1p-23f, down = 1.0f - 0x1p-24f;
    for (int sign = -1; sign <= 1; sign += 2) {
        const float s = (float)sign;
        assert_true(fpl_accumulate_each(&fp16.f, s, s * 0x1p-11f * up, down, 0) == s * (1.0f + 0x1p-10f));
        assert_true(fpl_accumulate_each(&bf16.f, s, s * 0x1p-8f * up, up, 0) == s * (1.0f + 0x1p-7f));
        assert_true(fpl_accumulate_each(&bf16.f, s, s * 0x1p-8f * down, down, 0) == s);
        /* far below anything: 2^-140 breaks the tie */
        const struct target wide = target_of("e8m10ieee");
        assert_true(fpl_accumulate_each(&wide.f, s * (1.0f + 0x1p-10f), s * 0x1p-70f, -0x1p-70f, 0) ==
                    s * (1.0f + 0x1p-10f));
    }
    /* subnormal results of fp16: one rounding at 2^-24 */
    assert_true(fpl_accumulate_each(&fp16.f, 0.0f, 0x1p-13f * up, 0x1p-12f, 0) == 0x1p-24f);
    assert_true(fpl_accumulate_each(&fp16.f, 0.0f, 0x1p-13f, 0x1p-12f, 0) == 0.0f);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, 0.0f, -0x1p-20f, 0x1p-20f, 0)), 0x80000000u);
}

static void align_is_exact(void **unused) {
    (void)unused;
    for (int i = 0; i < 6000; i++) {
        float a[40], b[40];
        const int n = 1 + (int)(draw() % 40), w = 1 + (int)(draw() % 38), spread = (int)(draw() % 40);
        const int centre = i % 5 == 0 ? -70 : i % 7 == 0 ? 62 : 0;
        for (int k = 0; k < n; k++) {
            a[k] = draw() % 11 == 0 ? 0.0f : random_float(centre - spread / 2, centre + 1);
            b[k] = draw() % 13 == 0 ? 0.0f : random_float(centre - spread / 2, centre + 1);
        }
        const float acc =
            (draw() & 3) == 0
                ? 0.0f
                : random_float(2 * centre - spread < -149 ? -149 : 2 * centre - spread, 2 * centre + 1);
        const float got = fpl_accumulate_align(w, acc, n, a, 1, b, 1), want = oracle_align(w, acc, n, a, b);
        if (fpl_float_bits(got) != fpl_float_bits(want))
            fail_msg("align:%d,%d from %a: %a, not %a", n, w, (double)acc, (double)got, (double)want);
    }
}

/* Published behaviour: with w = 13 a term below 2^-13 of the largest is lost, and negative
 * terms are truncated toward zero; products above 2 keep their exponent (no normalization). */
static void align_by_hand(void **unused) {
    (void)unused;
    const float one[4] = {1.0f, 1.0f, 1.0f, 1.0f}, small[4] = {1.0f, 0x1.8p-13f, -0x1.8p-13f, 0x1.fp-14f};
    assert_true(fpl_accumulate_align(13, 0.0f, 4, small, 1, one, 1) == 1.0f);
    assert_true(fpl_accumulate_align(13, 0.0f, 2, small, 1, one, 1) == 1.0f + 0x1p-13f);
    assert_true(fpl_accumulate_align(14, 0.0f, 2, small, 1, one, 1) == 1.0f + 0x1.8p-13f);
    /* 1.5 * 1.5 = 2.25 has exponent 0: with w = 1 it keeps halves */
    const float x[2] = {1.5f, 0.25f}, y[2] = {1.5f, 1.0f};
    assert_true(fpl_accumulate_align(1, 0.0f, 1, x, 1, y, 1) == 2.0f);
    assert_true(fpl_accumulate_align(2, 0.0f, 2, x, 1, y, 1) == 2.5f);
    assert_true(fpl_accumulate_align(2, 0.0f, 1, x, 1, y, 1) ==
                2.0f); /* 2.25 has three fraction bits of its own */
}

/* ---- tests: special values ---------------------------------------------------------------------------- */

static void special_values(void **unused) {
    (void)unused;
    const struct target fp16 = target_of("fp16"), sat = target_of("e4m3fn"), satp = target_of("fp16:satp");
    const float inf = INFINITY, nan = fpl_bits_float(0xff812345u);
    const uint32_t one_nan = 0x7fc00000u;
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, nan, 1.0f, 1.0f, 0)), one_nan);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, 1.0f, nan, 1.0f, 0)), one_nan);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, 1.0f, 0.0f, inf, 0)), one_nan);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, inf, -inf, 1.0f, 0)), one_nan);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&sat.f, 1.0f, 0.0f, inf, 0)), one_nan);
    assert_true(fpl_accumulate_each(&fp16.f, 1.0f, inf, -1.0f, 0) == -inf);
    assert_true(fpl_accumulate_each(&sat.f, 1.0f, inf, -1.0f, 0) == -448.0f);
    assert_true(fpl_accumulate_each(&satp.f, 1.0f, inf, -1.0f, 0) == -inf);
    assert_true(fpl_accumulate_each(&fp16.f, 65504.0f, 15.99f, 1.0f, 0) == 65504.0f);
    assert_true(fpl_accumulate_each(&fp16.f, 65504.0f, 16.0f, 1.0f, 0) == inf);
    assert_true(fpl_accumulate_each(&satp.f, 65504.0f, 0x1p127f, 0x1p127f, 0) == 65504.0f);
    assert_true(fpl_accumulate_each(&sat.f, 448.0f, -0x1p127f, 0x1p127f, 0) == -448.0f);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, 1.0f, -1.0f, 1.0f, 0)), 0);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, -0.0f, -0.0f, 1.0f, 0)), 0x80000000u);
    assert_int_equal(fpl_float_bits(fpl_accumulate_each(&fp16.f, 0.0f, -0.0f, 1.0f, 0)), 0);

    const float a[3] = {inf, 2.0f, -inf}, b[3] = {1.0f, inf, 1.0f}, z[3] = {0.0f, 0.0f, 0.0f};
    assert_true(fpl_accumulate_align(13, 1.0f, 2, a, 1, b, 1) == inf);
    assert_true(fpl_accumulate_align(13, -inf, 1, z, 1, z, 1) == -inf);
    assert_int_equal(fpl_float_bits(fpl_accumulate_align(13, 1.0f, 3, a, 1, b, 1)), one_nan);
    assert_int_equal(fpl_float_bits(fpl_accumulate_align(13, 1.0f, 3, a, 1, z, 1)), one_nan);
    assert_int_equal(fpl_float_bits(fpl_accumulate_align(13, nan, 1, z, 1, z, 1)), one_nan);
    assert_int_equal(fpl_float_bits(fpl_accumulate_align(13, 0.0f, 3, z, 1, z, 1)), 0);
    const float huge[1] = {0x1p64f};
    assert_true(fpl_accumulate_align(25, 0.0f, 1, huge, 1, huge, 1) == inf); /* 2^128 */
    assert_int_equal(fpl_float_bits(fpl_accumulate_chunk(nan, 1.0f)), one_nan);
}

/* Stochastic: away from zero for exactly floor(f 2^r) of the 2^r draws (A), f 2^r to nearest for
 * B and C, f taken from the exact sum. */
static void stochastic_counts(void **unused) {
    (void)unused;
    static const char *const texts[] = {"e4m3:sr8", "e4m3:sr8b", "e4m3:sr8c"};
    for (int which = 0; which < 3; which++) {
        const struct target t = target_of(texts[which]);
        for (int i = 0; i < 300; i++) {
            /* acc = 1, quantum 1/8: the product is f/8 */
            const uint32_t sixteenths = draw() % 4096u; /* f in units of 2^-12, tiny part below */
            const double tiny = (draw() & 1) != 0 ? 0x1p-40 : 0.0, f = (double)sixteenths * 0x1p-12 + tiny;
            const float product = (float)(f / 8.0);
            const double scaled = (double)product * 8.0 * 256.0, part = scaled - floor(scaled);
            double want = floor(scaled);
            if (which == 1) want += part >= 0.5;
            if (which == 2) want += part > 0.5 || (part == 0.5 && fmod(want, 2.0) == 1.0);
            int away = 0;
            for (uint32_t r = 0; r < 256; r++)
                away += fpl_accumulate_each(&t.f, 1.0f, product, 1.0f, r) > 1.0f;
            assert_int_equal(away, (int)want);
        }
    }
}

/* ---- tests: text ------------------------------------------------------------------------------------- */

static void text_forms(void **unused) {
    (void)unused;
    static const char *const pairs[][2] = {{"fp32", "fp32"},
                                           {"FP32", "fp32"},
                                           {"e8m23ieee", "fp32"},
                                           {"fp16", "fp16"},
                                           {"e5m10ieee:rne:ovf", "fp16"},
                                           {"bf16:rtz/32", "bf16:rtz/32"},
                                           {"fp16:sat", "fp16:sat"},
                                           {"fp32:rtz", "fp32:rtz"},
                                           {"fp32/64", "fp32/64"},
                                           {"chunk:e5m10/128", "chunk:e5m10/128"},
                                           {"align:32,13/128", "align:32,13/128"},
                                           {"block", "block"},
                                           {"block:fp32", "block"},
                                           {"block:h100_fp8", "block:align:32,13"},
                                           {"v100", "align:4,23"},
                                           {"e4m3:sr", "e4m3:sr"}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct fpl_accumulator a, b;
        char text[FPL_ACCUMULATOR_TEXT];
        memset(&a, 0x55, sizeof a);
        memset(&b, 0xaa, sizeof b);
        assert_int_equal(fpl_accumulator_parse(pairs[i][0], &a, NULL), FPL_OK);
        assert_in_range(fpl_accumulator_print(&a, text, sizeof text), 1, FPL_ACCUMULATOR_TEXT - 1);
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(fpl_accumulator_parse(text, &b, NULL), FPL_OK);
        assert_memory_equal(&a, &b, sizeof a);
    }
    struct fpl_accumulator zero, fp32;
    memset(&zero, 0, sizeof zero);
    assert_int_equal(fpl_accumulator_parse("fp32", &fp32, NULL), FPL_OK);
    assert_memory_equal(&zero, &fp32, sizeof zero);
}

static void registries_parse(void **unused) {
    (void)unused;
    struct fpl_accumulator a, b;
    for (const struct fpl_accumulator_word *w = fpl_accumulator_words; w->name != NULL; w++)
        assert_int_equal(fpl_accumulator_parse(w->example, &a, NULL), FPL_OK);
    for (const struct fpl_accumulator_unit *u = fpl_accumulator_units; u->name != NULL; u++) {
        assert_int_equal(fpl_accumulator_parse(u->name, &a, NULL), FPL_OK);
        assert_int_equal(fpl_accumulator_parse(u->text, &b, NULL), FPL_OK);
        assert_memory_equal(&a, &b, sizeof a);
        assert_int_equal(a.kind, FPL_ACC_ALIGN);
    }
}

static void refused(void **unused) {
    (void)unused;
    static const char *const bad[][2] = {
        {"", "a format"},
        {"-", "a format"},
        {"fp17", "fp17"},
        {"fp16/", "a chunk length"},
        {"fp16/0", "a chunk length"},
        {"fp16/08", "a chunk length"},
        {"fp16/2147483648", "a chunk length"},
        {"fp16/1x32", "a chunk length"},
        {"fp16:rne:ovf:sat", "fp16"},
        {"chunk:fp16", "a chunk length"},
        {"chunk:/8", "a format"},
        {"align:32", "fraction bits"},
        {"align:0,3", "products per group"},
        {"align:1025,3", "products per group"},
        {"align:4,39", "fraction bits"},
        {"align:32,13/100", "multiple"},
        {"align:32,13x", "a chunk length"},
        {"blocky", "\":\""},
        {"block:", "a format"},
        {"ue4m3fn", "signed"},
        {"ue8m0", "signed"},
        {"fp32:sr27", "at most 49"}, /* 23 + 26 bits are accepted */
        {"h100_fp9", "h100_fp9"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fpl_accumulator a;
        struct fpl_error err;
        memset(&a, 0x77, sizeof a);
        const struct fpl_accumulator before = a;
        assert_int_equal(fpl_accumulator_parse(bad[i][0], &a, &err), FPL_INVALID);
        if (strstr(err.text, bad[i][1]) == NULL) fail_msg("%s: %s", bad[i][0], err.text);
        assert_non_null(strstr(err.text, "accumulator"));
        assert_memory_equal(&a, &before, sizeof a);
    }
    struct fpl_accumulator most;
    assert_int_equal(fpl_accumulator_parse("fp32:sr26", &most, NULL), FPL_OK);
    char longest[200];
    memset(longest, 'e', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(fpl_accumulator_parse(longest, &most, NULL), FPL_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_one_rounding),
        cmocka_unit_test(never_two_roundings),
        cmocka_unit_test(align_is_exact),
        cmocka_unit_test(align_by_hand),
        cmocka_unit_test(special_values),
        cmocka_unit_test(stochastic_counts),
        cmocka_unit_test(text_forms),
        cmocka_unit_test(registries_parse),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
