/* test_oracle.c - the rounder against an exact oracle and against MPFR.
 *
 * Every accepted format [u]e<E>m<M><policy>[ns] with E 0..8 and M 0..10, plus biased and scale
 * formats and all aliases, meets every rounding mode and overflow policy on: values of the
 * format, midpoints of neighbours, both at distance 0 and one float32 ulp, zeros, the
 * smallest and largest float32 values, Inf, NaN and random bit patterns.  Formats of up to
 * 8 bits list every value; wider ones a fixed sample of binade edges and random codes.
 * That takes half a minute: by default one in eight of (format, mode, overflow) is met, all of
 * them with the argument `all` (ctest -L slow).
 * MPFR rounds to the precision, exponent range and subnormals of `ieee` formats in the four
 * directions that it has.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mpfr.h>

#include "../../formats/random.h"
#include "oracle.h"

static const char *const mode_names[FPL_ROUNDINGS] = {"rne", "rna", "rtz", "rup", "rdn",
                                                      "rto", "sr",  "srb", "src"};
static const char *const overflow_names[FPL_OVERFLOWS] = {"sat", "satp", "ovf"};

static uint64_t state;

static uint32_t draw(void) {
    uint32_t w[4];
    fpl_random_block(17, state++, 0, fpl_stream(FPL_STREAM_TEST, 1), w);
    return w[0];
}

struct cases {
    float *x;
    int64_t count, room;
};

static void put(struct cases *c, float x) {
    if (c->count == c->room) {
        c->room = c->room ? 2 * c->room : 1024;
        c->x = realloc(c->x, (size_t)c->room * sizeof *c->x);
        assert_non_null(c->x);
    }
    c->x[c->count++] = x;
}

/* v (any double within float32 range), its float32 neighbours, and the three negated */
static void put_around(struct cases *c, double v) {
    if (v > 0x1.fffffep127) return;
    const float x = (float)v;
    const float three[3] = {x, nextafterf(x, INFINITY), nextafterf(x, -INFINITY)};
    for (int i = 0; i < 3; i++) {
        put(c, three[i]);
        put(c, -three[i]);
    }
}

static void put_code(struct cases *c, const struct oracle *o, int64_t code) {
    if (code < 0 || code >= o->count) return;
    put_around(c, o->value[code]);
    put_around(c, (o->value[code] + o->value[code + 1]) / 2);
}

static void make_cases(struct cases *c, const struct oracle *o) {
    c->count = 0;
    if (o->is_fp32) {
        for (int i = 0; i < 2000; i++) put(c, fpl_bits_float(draw()));
        return;
    }
    static const float special[] = {0.0f, 0x1p-149f,       0x1p-148f, 0x1.fffffcp-127f, 0x1p-126f, 0x1p-127f,
                                    1.0f, 0x1.fffffep127f, 0x1p127f,  INFINITY,         NAN};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        put(c, special[i]);
        put(c, -special[i]);
    }
    if (o->count <= 128) {
        for (int64_t code = 0; code < o->count; code++) put_code(c, o, code);
    } else {
        const int64_t binade = (int64_t)1 << o->format.mbits;
        for (int64_t i = 0; i < 4; i++) {
            put_code(c, o, i);
            put_code(c, o, o->count - 1 - i);
            put_code(c, o, binade - 2 + i);
            put_code(c, o, 2 * binade - 2 + i);
        }
        for (int i = 0; i < 40; i++) put_code(c, o, (int64_t)(draw() % (uint32_t)o->count));
    }
    put_around(c, o->value[o->count]);
    const double ratio = 2 * o->value[o->count];
    for (int i = 0; i < 60; i++) {
        put(c, fpl_bits_float(draw()));
        const double u = (double)draw() * 0x1p-31 - 1.0;
        put(c, (float)fmin(0x1.fffffep127, ratio * u));
        put(c, (float)(o->value[1] * 4.0 * u));
    }
}

static int same(float a, float b) {
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    return fpl_float_bits(a) == fpl_float_bits(b);
}

static int64_t compared;
static int all_pairs, pair; /* which of (format, mode, overflow) are met */

static void check_pair(const char *text, const struct fpl_format *f, const struct oracle *o,
                       const struct cases *c, int mode, int overflow) {
    const int widths[] = {16, 1, 8, 32}, stochastic = fpl_is_stochastic(mode);
    for (int w = 0; w < (stochastic ? 4 : 1); w++) {
        struct fpl_round p;
        const int bits = widths[w];
        fpl_round_lower(f, mode, bits, overflow, &p);
        for (int64_t i = 0; i < c->count; i++) {
            uint32_t random = stochastic ? draw() >> (32 - bits) : 0;
            if (stochastic && i % 8 == 0) random = 0;
            if (stochastic && i % 8 == 1) random = 0xffffffffu >> (32 - bits);
            const float got = fpl_round_value(&p, c->x[i], random);
            const float want = oracle_round(o, mode, bits, overflow, c->x[i], random);
            compared++;
            if (!same(got, want))
                fail_msg("%s:%s:%s (sr bits %d, random %#x): %a (%#x) rounds to %a, oracle %a", text,
                         mode_names[mode], overflow_names[overflow], bits, random, (double)c->x[i],
                         fpl_float_bits(c->x[i]), (double)got, (double)want);
        }
    }
}

static void check_format(const char *text, const struct fpl_format *f) {
    static struct cases c;
    struct oracle o;
    oracle_open(&o, f);
    make_cases(&c, &o);
    for (int mode = 0; mode < FPL_ROUNDINGS; mode++)
        for (int overflow = 0; overflow < FPL_OVERFLOWS; overflow++)
            if (all_pairs || pair++ % 8 == 0) check_pair(text, f, &o, &c, mode, overflow);
    oracle_close(&o);
}

static int accepted(const char *text, struct fpl_format *f) {
    struct fpl_error err = {0};
    return fpl_format_parse(text, f, &err) == FPL_OK;
}

static void test_limits_match(const char *text, const struct fpl_format *f) {
    struct oracle o;
    struct fpl_format_limits l;
    oracle_open(&o, f);
    fpl_format_limits(f, &l);
    if (!o.is_fp32) {
        for (int64_t i = 0; i < o.count; i++) {
            if ((double)(float)o.value[i] != o.value[i])
                fail_msg("%s: %a is not a float32", text, o.value[i]);
        }
        const double smallest = o.value[0] > 0 ? o.value[0] : o.value[1];
        if (l.largest != o.value[o.count - 1] || l.smallest != smallest)
            fail_msg("%s: limits %a %a, oracle %a %a", text, l.largest, l.smallest, o.value[o.count - 1],
                     smallest);
        if (l.has_inf != o.has_inf || l.has_nan != o.has_nan || l.has_negative_zero != !o.one_zero)
            fail_msg("%s: special codes differ", text);
    }
    oracle_close(&o);
}

/* Formats every sign, E, M, policy and ns can make. */
static void test_every_format(void **unused) {
    (void)unused;
    static const char *const signs[] = {"", "u"}, *const tails[] = {"", "ns"};
    compared = 0;
    int formats = 0, plain[FPL_POLICIES] = {0};
    for (int policy = 0; policy < FPL_POLICIES; policy++) {
        for (int e = 0; e <= 8; e++) {
            for (int m = 0; m <= 10; m++) {
                for (int variant = 0; variant < 4; variant++) {
                    char text[48];
                    struct fpl_format f;
                    snprintf(text, sizeof text, "%se%dm%d%s%s", signs[variant & 1], e, m,
                             fpl_policy_names[policy], tails[variant >> 1]);
                    if (!accepted(text, &f) || (variant >> 1 && f.subnormals)) continue;
                    assert_int_equal(f.policy, policy);
                    test_limits_match(text, &f);
                    check_format(text, &f);
                    formats++;
                    plain[policy] += variant == 0;
                }
            }
        }
    }
    print_message("%d formats, %lld roundings compared\n", formats, (long long)compared);
    /* E 1..7 times M 1..10 at least; ieee starts at E = 2. */
    for (int policy = 0; policy < FPL_POLICIES; policy++) assert_true(plain[policy] >= 60);
}

static void test_variants(void **unused) {
    (void)unused;
    static const char *const texts[] = {
        "ue8m0",       "ue4m3fn",    "ue5m3fn",     "ue4m3",  "ue5m2ieee", "ue2m1",     "mxint8",
        "int2",        "int4",       "int8",        "int12",  "int16",     "tf32",      "bf16",
        "fp16",        "fp32",       "e4m3b11fnuz", "e4m3b0", "e5m2b20",   "e4m3b4fn",  "e2m1b-3",
        "e4m3ns",      "e5m2ieeens", "e2m1ns",      "e3m0ns", "e4m3fnns",  "ue4m3fnns", "e8m7b140",
        "e5m10ieeens", "e8m3ieeens", "e2m3ns",      "e1m6"};
    int known = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct fpl_format f;
        if (!accepted(texts[i], &f)) {
            print_message("not accepted: %s\n", texts[i]);
            continue;
        }
        known++;
        test_limits_match(texts[i], &f);
        check_format(texts[i], &f);
    }
    assert_true(known >= 25);
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name; a++) {
        struct fpl_format f;
        if (!accepted(a->name, &f)) fail_msg("alias %s is not accepted", a->name);
        check_format(a->name, &f);
    }
}

/* The table of formats.md, section 1: largest, smallest normal, smallest subnormal. */
static void test_published_limits(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        double largest, smallest;
    } rows[] = {{"e4m3fn", 448, 0x1p-9},
                {"e4m3", 480, 0x1p-9},
                {"e5m2ieee", 57344, 0x1p-16},
                {"e5m2", 114688, 0x1p-16},
                {"e3m2", 28, 0x1p-4},
                {"e2m3", 7.5, 0x1p-3},
                {"e2m1", 6, 0.5},
                {"e4m3fnuz", 240, 0x1p-10},
                {"e5m2fnuz", 57344, 0x1p-17},
                {"e4m3p3109e", 224, 0x1p-10},
                {"e4m3p3109f", 240, 0x1p-10},
                {"e5m2p3109e", 49152, 0x1p-17},
                {"e5m2p3109f", 57344, 0x1p-17},
                {"int8", 127, 1},
                {"mxint8", 0x1.fcp0, 0x1p-6},
                {"e8m0", 0x1p127, 0x1p-127}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fpl_format f;
        struct oracle o;
        if (!accepted(rows[i].text, &f)) fail_msg("%s is not accepted", rows[i].text);
        oracle_open(&o, &f);
        assert_true(o.value[o.count - 1] == rows[i].largest);
        assert_true((o.value[0] > 0 ? o.value[0] : o.value[1]) == rows[i].smallest);
        oracle_close(&o);
    }
}

static void test_mpfr(void **unused) {
    (void)unused;
    static const struct {
        int fpl;
        mpfr_rnd_t mpfr;
    } modes[] = {{FPL_RNE, MPFR_RNDN}, {FPL_RTZ, MPFR_RNDZ}, {FPL_RUP, MPFR_RNDU}, {FPL_RDN, MPFR_RNDD}};
    static struct cases c;
    const mpfr_exp_t emin = mpfr_get_emin(), emax = mpfr_get_emax();
    for (int e = 2; e <= 8; e++) {
        for (int m = 1; m <= 10; m++) {
            char text[32];
            struct fpl_format f;
            struct oracle o;
            snprintf(text, sizeof text, "e%dm%dieee", e, m);
            if (!accepted(text, &f)) fail_msg("%s is not accepted", text);
            oracle_open(&o, &f);
            make_cases(&c, &o);
            oracle_close(&o);
            const int bias = (1 << (e - 1)) - 1;
            mpfr_t v;
            mpfr_set_emin(1 - bias - m + 1); /* MPFR significands lie in [1/2, 1) */
            mpfr_set_emax(bias + 1);
            mpfr_init2(v, m + 1);
            for (int k = 0; k < 4; k++) {
                struct fpl_round p;
                fpl_round_lower(&f, modes[k].fpl, 16, FPL_OVF, &p);
                for (int64_t i = 0; i < c.count; i++) {
                    if (isnan(c.x[i])) continue;
                    int ternary = mpfr_set_flt(v, c.x[i], modes[k].mpfr);
                    ternary = mpfr_check_range(v, ternary, modes[k].mpfr);
                    mpfr_subnormalize(v, ternary, modes[k].mpfr);
                    const float want = mpfr_get_flt(v, MPFR_RNDN);
                    const float got = fpl_round_value(&p, c.x[i], 0);
                    if (!same(got, want))
                        fail_msg("%s:%s: %a rounds to %a, MPFR %a", text, mode_names[modes[k].fpl],
                                 (double)c.x[i], (double)got, (double)want);
                }
            }
            mpfr_clear(v);
        }
    }
    mpfr_set_emin(emin);
    mpfr_set_emax(emax);
    mpfr_free_cache();
}

int main(int argc, char **argv) {
    all_pairs = argc > 1 && strcmp(argv[1], "all") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_limits),
        cmocka_unit_test(test_every_format),
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_mpfr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
