/* test_config_number.c - base/number.c: text that reads back, and what is refused. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../sim/base/number.h"

static uint64_t state = 1;
static uint64_t next_random(void) { /* splitmix64 */
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Any finite double reads back with the same bits, and no shorter precision would do. */
static void check_round_trip(double x) {
    char text[FPL_NUMBER_TEXT], shorter[64];
    double back = 0;
    struct fpl_error err;
    int n = fpl_number_print(x, text);
    assert_int_equal(n, strlen(text));
    assert_int_equal(fpl_number_parse(text, &back, &err), FPL_OK);
    assert_memory_equal(&back, &x, sizeof x);
    for (int digits = 1; digits < 17; digits++) {
        snprintf(shorter, sizeof shorter, "%.*g", digits, x);
        double y = strtod(shorter, NULL);
        if (memcmp(&y, &x, sizeof x) != 0) continue;
        assert_string_equal(text, shorter);
        return;
    }
}

static void test_round_trip(void **unused) {
    (void)unused;
    const double edges[] = {0.0,    -0.0,    1,       -1,     0.1,     1e22, 1e23,
                            5e-324, DBL_MIN, DBL_MAX, 0x1p53, 1.0 / 3, 5e-3, 1e-5};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) check_round_trip(edges[i]);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = next_random();
        double x;
        memcpy(&x, &bits, sizeof x);
        if (isfinite(x)) check_round_trip(x);
    }
    char text[FPL_NUMBER_TEXT];
    fpl_number_print((double)NAN, text);
    assert_string_equal(text, "nan");
    fpl_number_print(-(double)INFINITY, text);
    assert_string_equal(text, "-inf");
    fpl_number_print(5e-3, text);
    assert_string_equal(text, "0.005");
}

static void test_accepted(void **unused) {
    (void)unused;
    static const struct {
        const char *text;
        double value;
    } cases[] = {{"1e6", 1e6},    {"2^20", 1048576}, {"2^-2", 0.25}, {"512k", 512000}, {"4M", 4e6},
                 {"1.5G", 1.5e9}, {"+3.", 3},        {".5", 0.5},    {"-2E+1", -20},   {"007", 7},
                 {"0.25k", 250},  {"2^0", 1},        {"1e-400", 0.0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double x = -1;
        assert_int_equal(fpl_number_parse(cases[i].text, &x, NULL), FPL_OK);
        assert_true(x >= cases[i].value && x <= cases[i].value);
    }
}

static void test_refused(void **unused) {
    (void)unused;
    static const char *const cases[] = {"",     " 1",    "1 ",   "nan",    "inf", "-inf",  "0x10",
                                        "1e",   "e5",    ".",    "-",      "1kk", "4m",    "1,5",
                                        "2^",   "2^1.5", "2^-",  "2^2000", "3^2", "1e999", "1_000",
                                        "1e5x", "--1",   "512K", "NaN",    "2^+3"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double x;
        struct fpl_error err = {FPL_OK, ""};
        assert_int_equal(fpl_number_parse(cases[i], &x, &err), FPL_INVALID);
        assert_true(strlen(err.text) > 0);
    }
}

static void test_integers(void **unused) {
    (void)unused;
    int64_t i;
    uint64_t u;
    assert_int_equal(fpl_integer_parse("9223372036854775807", &i, NULL), FPL_OK);
    assert_true(i == INT64_MAX);
    assert_int_equal(fpl_integer_parse("-9223372036854775808", &i, NULL), FPL_OK);
    assert_true(i == INT64_MIN);
    assert_int_equal(fpl_integer_parse("1e6", &i, NULL), FPL_OK);
    assert_true(i == 1000000);
    assert_int_equal(fpl_integer_parse("9223372036854775808", &i, NULL), FPL_INVALID);
    assert_int_equal(fpl_integer_parse("1.5", &i, NULL), FPL_INVALID);
    assert_int_equal(fpl_integer_parse("1e17", &i, NULL), FPL_INVALID);
    assert_int_equal(fpl_integer_parse("", &i, NULL), FPL_INVALID);
    assert_int_equal(fpl_unsigned_parse("18446744073709551615", &u, NULL), FPL_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(fpl_unsigned_parse("18446744073709551616", &u, NULL), FPL_INVALID);
    assert_int_equal(fpl_unsigned_parse("-1", &u, NULL), FPL_INVALID);
    assert_int_equal(fpl_unsigned_parse("2^32", &u, NULL), FPL_OK);
    assert_true(u == UINT64_C(4294967296));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_accepted),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_integers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
