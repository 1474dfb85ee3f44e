/* test_format.c - element formats: text form, registry, limits.
 *
 * Expected numbers are typed from formats.md and from the published tables (OCP OFP8, MX,
 * IEEE P3109), not computed by the code under test.  Round trips walk every accepted
 * combination of sign, E, M, policy, ns and a set of biases.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/format.h"

static struct fpl_format parse(const char *text) {
    struct fpl_format f;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_format_parse(text, &f, &err) != FPL_OK) fail_msg("\"%s\" refused: %s", text, err.text);
    return f;
}

static struct fpl_format_limits limits(const char *text) {
    const struct fpl_format f = parse(text);
    struct fpl_format_limits l;
    fpl_format_limits(&f, &l);
    return l;
}

static void same(double got, double want, const char *what) {
    if (!(got == want)) fail_msg("%s: got %.17g, expected %.17g", what, got, want);
}

static void test_limits_of_the_specification(void **state) {
    static const struct {
        const char *text;
        int bits, bias;
        double largest, smallest_normal, smallest;
    } rows[] = {
        {"e4m3fn", 8, 7, 448, 0x1p-6, 0x1p-9},
        {"e4m3", 8, 7, 480, 0x1p-6, 0x1p-9},
        {"e5m2ieee", 8, 15, 57344, 0x1p-14, 0x1p-16},
        {"e5m2", 8, 15, 114688, 0x1p-14, 0x1p-16},
        {"e3m2", 6, 3, 28, 0x1p-2, 0x1p-4},
        {"e2m3", 6, 1, 7.5, 1, 0x1p-3},
        {"e2m1", 4, 1, 6, 1, 0.5},
        {"e4m3fnuz", 8, 8, 240, 0x1p-7, 0x1p-10},
        {"e5m2fnuz", 8, 16, 57344, 0x1p-15, 0x1p-17},
        {"e4m3b11fnuz", 8, 11, 30, 0x1p-10, 0x1p-13},
        {"e4m3p3109e", 8, 8, 224, 0x1p-7, 0x1p-10},
        {"e4m3p3109f", 8, 8, 240, 0x1p-7, 0x1p-10},
        {"e5m2p3109e", 8, 16, 49152, 0x1p-15, 0x1p-17},
        {"e5m2p3109f", 8, 16, 57344, 0x1p-15, 0x1p-17},
        {"e3m4ieee", 8, 3, 15.5, 0x1p-2, 0x1p-6},
        {"e4m3ieee", 8, 7, 240, 0x1p-6, 0x1p-9},
        {"fp32", 32, 127, 0x1.fffffep127, 0x1p-126, 0x1p-149},
        {"bf16", 16, 127, 0x1.fep127, 0x1p-126, 0x1p-133},
        {"tf32", 19, 127, 0x1.ffcp127, 0x1p-126, 0x1p-136},
        {"fp16", 16, 15, 65504, 0x1p-14, 0x1p-24},
        {"ue4m3fn", 7, 7, 448, 0x1p-6, 0x1p-9},
        {"ue5m3fn", 8, 15, 114688, 0x1p-14, 0x1p-17},
        {"ue8m0", 8, 127, 0x1p127, 0x1p-127, 0x1p-127},
        {"e3m0", 4, 3, 16, 0x1p-2, 0x1p-2},
        {"e2m0", 3, 1, 4, 1, 1},
        {"e1m2", 4, 0, 3.5, 2, 0.5},
        {"e1m6", 8, 0, 0x1.fcp1, 2, 0x1p-5},
        {"int8", 8, 0, 127, 0, 1},
        {"int2", 2, 0, 1, 0, 1},
        {"int16", 16, 0, 32767, 0, 1},
        {"mxint8", 8, 6, 127.0 / 64, 0, 0x1p-6},
        {"e4m3fnns", 8, 7, 448, 0x1p-6, 0x1p-6},
        {"e8m3b128", 12, 128, 0x1.ep127, 0x1p-127, 0x1p-130},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fpl_format_limits l = limits(rows[i].text);
        assert_int_equal(l.bits, rows[i].bits);
        assert_int_equal(parse(rows[i].text).bias, rows[i].bias);
        same(l.largest, rows[i].largest, rows[i].text);
        same(l.smallest_normal, rows[i].smallest_normal, rows[i].text);
        same(l.smallest, rows[i].smallest, rows[i].text);
    }
}

static void test_special_codes(void **state) {
    static const struct {
        const char *text;
        int inf, nan, negative_zero;
    } rows[] = {{"e4m3", 0, 0, 1},     {"e4m3fn", 0, 1, 1},     {"e5m2ieee", 1, 1, 1},
                {"e4m3fnuz", 0, 1, 0}, {"e4m3p3109e", 1, 1, 0}, {"e4m3p3109f", 0, 1, 0},
                {"ue4m3fn", 0, 1, 0},  {"ue8m0", 0, 1, 0},      {"int8", 0, 0, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct fpl_format_limits l = limits(rows[i].text);
        assert_int_equal(l.has_inf, rows[i].inf);
        assert_int_equal(l.has_nan, rows[i].nan);
        assert_int_equal(l.has_negative_zero, rows[i].negative_zero);
    }
}

static void test_registry(void **state) {
    (void)state;
    size_t rows = 0;
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++, rows++) {
        const struct fpl_format f = parse(a->name), g = parse(a->text);
        char text[48];
        assert_true(fpl_format_equal(&f, &g));
        fpl_format_print(&f, text, sizeof text);
        if (a->printed) assert_string_equal(text, a->name);
        const struct fpl_format back = parse(text);
        assert_true(fpl_format_equal(&f, &back));
        assert_true(strlen(a->source) > 0);
    }
    assert_int_equal(rows, 29 + 16);
}

static void test_text(void **state) {
    static const char *const pairs[][2] = {
        {"E4M3", "e4m3"},
        {"e4m3finite", "e4m3"},
        {"E4M3FN", "e4m3fn"},
        {"FP8_E4M3", "e4m3fn"},
        {"fp8_e5m2", "e5m2ieee"},
        {"e8m23ieee", "fp32"},
        {"e8m7ieee", "bf16"},
        {"e5m10ieee", "fp16"},
        {"e8m10ieee", "tf32"},
        {"e0m7", "int8"},
        {"e0m7b6", "mxint8"},
        {"e0m16", "e0m16"},
        {"e8m0", "ue8m0"},
        {"ue8m0fn", "ue8m0fn"},
        {"e4m3b7fn", "e4m3fn"},
        {"e4m3b8fnuz", "e4m3fnuz"},
        {"e4m3b-2", "e4m3b-2"},
        {"e4m0ns", "e4m0"},
        {"e4m3fnns", "e4m3fnns"},
        {"e4m3b11fnuzns", "e4m3b11fnuzns"},
        {"e3m2b8p3109e", "e3m2b8p3109e"},
        {"ue0m4", "ue0m4"},
        {"UINT4", "ue0m4"},
        {"uint16", "ue0m16"},
        {"ue4m4p3109e", "ue4m4p3109e"},
        {"ue4m4b8p3109f", "ue4m4p3109f"},
        {"fp4_e2m1", "e2m1"},
        {"fp6_e3m2", "e3m2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const struct fpl_format f = parse(pairs[i][0]);
        char text[48];
        const int n = fpl_format_print(&f, text, sizeof text);
        assert_string_equal(text, pairs[i][1]);
        assert_int_equal(n, (int)strlen(text));
        assert_int_equal(fpl_format_print(&f, text, 3), n); /* as snprintf: the length it would have */
    }
}

/* Bits reserved by a policy, stated apart from format.c: number of non-negative finite codes. */
static double finite_codes(const char *sign, const char *policy, int E, int M) {
    /* unsigned P3109 spends the all-ones code on its NaN */
    const double all = ldexp(1, E + M) - (*sign && strncmp(policy, "p3109", 5) == 0);
    if (strcmp(policy, "ieee") == 0) return all - ldexp(1, M);
    if (strcmp(policy, "fn") == 0 || strcmp(policy, "p3109e") == 0) return all - 1;
    return all;
}

static int one_round_trip(const char *sign, int E, int M, const char *bias, const char *policy,
                          const char *ns) {
    char text[64], printed[64];
    struct fpl_format f, back;
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_format_limits l;
    snprintf(text, sizeof text, "%se%dm%d%s%s%s", sign, E, M, bias, policy, ns);
    if (fpl_format_parse(text, &f, &err) != FPL_OK) {
        assert_int_equal(err.code, FPL_INVALID);
        assert_true(strlen(err.text) > 0 && strlen(err.text) < 400);
        return 0;
    }
    fpl_format_print(&f, printed, sizeof printed);
    assert_int_equal(fpl_format_parse(printed, &back, &err), FPL_OK);
    if (!fpl_format_equal(&f, &back))
        fail_msg("\"%s\" prints as \"%s\", which is another format", text, printed);
    fpl_format_limits(&f, &l);
    assert_true((double)(float)l.largest == l.largest && isfinite(l.largest) && l.largest > 0);
    assert_true((double)(float)l.smallest == l.smallest && l.smallest > 0);
    if (!f.is_scale) assert_true(fpl_format_top_code(&f) + 1.0 == finite_codes(sign, policy, E, M));
    assert_true(l.bits >= E + M && l.bits <= 1 + E + M);
    return 1;
}

static void test_every_format(void **state) {
    static const char *const policies[] = {"finite", "ieee", "fn", "fnuz", "p3109e", "p3109f"};
    static const char *const biases[] = {"", "b0", "b-3", "b11", "b127", "b128", "b140"};
    (void)state;
    int accepted = 0, plain = 0;
    for (int E = 0; E <= 8; E++)
        for (int M = 0; M <= 23; M++)
            for (size_t p = 0; p < 6; p++)
                for (size_t b = 0; b < 7; b++)
                    for (int variant = 0; variant < 4; variant++) {
                        const int ok = one_round_trip(variant & 1 ? "u" : "", E, M, biases[b], policies[p],
                                                      variant & 2 ? "ns" : "");
                        accepted += ok;
                        plain += ok && b == 0 && variant == 0;
                    }
    /* Of 9*24 (E, M): finite 23 for E = 0, 24 each for E = 1..7; ieee 23 each for E = 2..8;
     * fn and p3109e 23 for E = 1 (e1m0 has no value left), 24 each for 2..7; fnuz and p3109f
     * 24 each for E = 1..7.  E = 8 fits float32 under ieee, with the bias 128 of fnuz and P3109
     * up to M = 22, and as e8m0fn, whose top exponent is the NaN. */
    assert_int_equal(plain, 23 + 7 * 24 + 7 * 23 + 2 * (23 + 6 * 24) + 2 * 7 * 24 + 3 * 23 + 1);
    assert_true(accepted > plain);
}

static void test_values_in_code_order(void **state) {
    static const char *const names[] = {"e4m3fn", "e2m1",  "e5m2p3109e", "int8",
                                        "mxint8", "ue8m0", "e3m0",       "e1m6"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct fpl_format f = parse(names[i]);
        const struct fpl_format_limits l = limits(names[i]);
        const uint32_t top = fpl_format_top_code(&f);
        same(fpl_format_value(&f, 0), f.is_scale ? 0x1p-127 : 0, names[i]);
        same(fpl_format_value(&f, top), l.largest, names[i]);
        for (uint32_t c = 0; c < top; c++) assert_true(fpl_format_value(&f, c) < fpl_format_value(&f, c + 1));
    }
    const struct fpl_format e2m1 = parse("e2m1");
    static const double fp4[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    for (uint32_t c = 0; c < 8; c++) same(fpl_format_value(&e2m1, c), fp4[c], "e2m1");
}

static void test_refused(void **state) {
    static const char *const rows[][2] = {
        /* text, what the message must contain */
        {"", "character 1"},
        {"fp9", "did you mean fp"},
        {"e4q3", "character 3: found \"q3\""},
        {"e4m", "character 4: found the end"},
        {"e", "exponent bits e0 to e8"},
        {"e9m3", "exponent bits e0 to e8"},
        {"e04m3", "exponent bits e0 to e8"},
        {"e4m24", "mantissa bits m0 to m23"},
        {"e4m3xx", "character 5: found \"xx\""},
        {"e4m3fnx", "character 7"},
        {"e4m3b", "a bias of 1 to 4 digits"},
        {"e4m3b-", "a bias of 1 to 4 digits"},
        {"e4m3b12345", "a bias of 1 to 4 digits"},
        {"e4m3 ", "found \" \""},
        {"-e4m3", "character 1"},
        {"e8m3", "accepted: a bias from b128 to b147, or the policy ieee"},
        {"e8m23", "accepted: fewer exponent or mantissa bits, or the policy ieee"},
        {"e8m3fn", "beyond float32"},
        {"e4m3b200", "below float32"},
        {"e4m3b-200", "accepted: a bias from b-112 to b147"},
        {"e1m3ieee", "2 or more exponent bits"},
        {"e4m0ieee", "1 or more mantissa bits"},
        {"e0m4fn", "accepted: e0m4"},
        {"e0m0", "no value but zero"},
        {"e0m3ns", "no value but zero"},
        {"e1m0fn", "no value but zero"},
        {"ue4m3fnuz", "accepted: finite, ieee, fn"},
        {"ue1m0p3109e", "no value but zero"},
        {"ue1m1p3109ens", "no value but zero"}, /* of 0, 0.5, Inf, NaN ns leaves 0 */
        {"nf4", "codebook, which only a quantizer's elements may be"},
        {"nf5", "did you mean nf4?"},
        {"codebook(x)", "character 1"},
        {"int1", "did you mean int"},
        {"int17", "int2 to int16"},
        {"e4m3fnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfnfn", "at most"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fpl_format f;
        struct fpl_error err = {FPL_OK, ""};
        memset(&f, 0x5a, sizeof f);
        const struct fpl_format before = f;
        if (fpl_format_parse(rows[i][0], &f, &err) != FPL_INVALID)
            fail_msg("\"%s\" was accepted", rows[i][0]);
        if (strstr(err.text, rows[i][1]) == NULL)
            fail_msg("\"%s\": message \"%s\" lacks \"%s\"", rows[i][0], err.text, rows[i][1]);
        assert_null(strchr(err.text, '\n'));
        assert_memory_equal(&f, &before, sizeof f); /* untouched on failure */
        assert_int_equal(fpl_format_parse(rows[i][0], &f, NULL), FPL_INVALID);
    }
}

static void test_default_overflow(void **state) {
    (void)state;
    for (const struct fpl_format_alias *a = fpl_format_aliases; a->name != NULL; a++) {
        const struct fpl_format f = parse(a->name);
        const int wide = strcmp(a->name, "fp32") == 0 || strcmp(a->name, "tf32") == 0 ||
                         strcmp(a->name, "bf16") == 0 || strcmp(a->name, "fp16") == 0;
        assert_int_equal(fpl_format_default_overflow(&f), wide ? FPL_OVF : FPL_SAT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_of_the_specification),
        cmocka_unit_test(test_special_codes),
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_every_format),
        cmocka_unit_test(test_values_in_code_order),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_default_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
