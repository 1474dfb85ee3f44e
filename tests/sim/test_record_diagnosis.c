/* Diagnoses as JSON and CSV, alone and inside a record: every number keeps its bits, wrong texts
 * are refused with the place named, records without diagnoses have the text they always had. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../sim/base/record.h"

static struct fpl_diagnosis_point *example(void) {
    struct fpl_diagnosis_point *p = calloc(2, sizeof *p);
    assert_non_null(p);
    p[0] = (struct fpl_diagnosis_point){.step = 1,
                                        .layer = 0,
                                        .operand = "qkv.fwd.x",
                                        .elements = 4096,
                                        .nonfinite = 2,
                                        .sqnr_db = 100.0 / 3.0,
                                        .underflow = 0x1p-1074,
                                        .clipped = 1.0 / 4096,
                                        .amax = 3.4028234663852886e38,
                                        .least = -149,
                                        .bins = 3,
                                        .count = calloc(3, sizeof(int64_t))};
    p[0].count[0] = 7;
    p[0].count[2] = INT64_MAX;
    p[1] = (struct fpl_diagnosis_point){.step = 9000000000,
                                        .layer = 12,
                                        .operand = "attention.dk.ds",
                                        .sqnr_db = (double)NAN,
                                        .amax = (double)INFINITY,
                                        .count = calloc(1, sizeof(int64_t))};
    return p;
}

static void assert_equal(const struct fpl_diagnosis_point *a, const struct fpl_diagnosis_point *b,
                         int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double x[] = {a[i].sqnr_db, a[i].underflow, a[i].clipped, a[i].amax};
        const double y[] = {b[i].sqnr_db, b[i].underflow, b[i].clipped, b[i].amax};
        assert_true(a[i].step == b[i].step && a[i].layer == b[i].layer && a[i].elements == b[i].elements);
        assert_true(a[i].nonfinite == b[i].nonfinite && a[i].least == b[i].least && a[i].bins == b[i].bins);
        assert_string_equal(a[i].operand, b[i].operand);
        for (int k = 0; k < 4; k++)
            assert_true(memcmp(&x[k], &y[k], sizeof *x) == 0 || (isnan(x[k]) && isnan(y[k])));
        assert_memory_equal(a[i].count, b[i].count, (size_t)a[i].bins * sizeof(int64_t));
    }
}

static void round_trip(void **state) {
    (void)state;
    struct fpl_diagnosis_point *a = example(), *b;
    struct fpl_error err = {FPL_OK, ""};
    int64_t n;
    char *text = fpl_diagnosis_to_text(a, 2);
    assert_non_null(text);
    assert_int_equal(fpl_diagnosis_from_text(text, &b, &n, &err), FPL_OK);
    assert_int_equal(n, 2);
    assert_equal(a, b, 2);
    fpl_diagnosis_free(b, n);
    free(text);
    fpl_diagnosis_free(a, 2);
}

static void inside_a_record(void **state) {
    (void)state;
    struct fpl_record r = {.id = "0123456789abcdef", .numerics = 1}, back;
    struct fpl_error err = {FPL_OK, ""};
    char *bare = fpl_record_to_json(&r);
    assert_null(strstr(bare, "diagnoses"));
    r.diagnosis = example();
    r.diagnosis_count = 2;
    char *text = fpl_record_to_json(&r);
    if (fpl_record_from_json(text, &back, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(back.diagnosis_count, 2);
    assert_equal(r.diagnosis, back.diagnosis, 2);
    fpl_record_free(&back);
    if (fpl_record_from_json(bare, &back, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_true(back.diagnosis_count == 0 && back.diagnosis == NULL);
    fpl_record_free(&back);
    fpl_record_free(&r);
    free(bare);
    free(text);
}

static void csv(void **state) {
    (void)state;
    struct fpl_diagnosis_point *p = example();
    char *text = fpl_diagnosis_to_csv("abc", p, 2);
    assert_string_equal(text,
                        "abc,1,0,qkv.fwd.x,4096,2,33.333333333333336,4.9406564584124654e-324,0.000244140625,"
                        "3.4028234663852886e+38,-149:7 0 9223372036854775807\n"
                        "abc,9000000000,12,attention.dk.ds,0,0,nan,0,0,inf,0:\n");
    int commas = 0, names = 0;
    for (const char *c = text; *c != '\n'; c++) commas += *c == ',';
    for (const char *c = fpl_diagnosis_header; *c != '\0'; c++) names += *c == ',';
    assert_int_equal(commas, names);
    free(text);
    text = fpl_diagnosis_to_csv("abc", NULL, 0);
    assert_string_equal(text, "");
    free(text);
    fpl_diagnosis_free(p, 2);
}

static void wrong_texts(void **state) {
    (void)state;
    static const char *const texts[][2] = {
        {"", "line 1"},
        {"{}", "list"},
        {"[1]", "point 1"},
        {"[[1,0,\"a\",1,0,1.5,0,0,1,0,[]],[1,0,\"a\",1,0,1.5,0,0,1,0]]", "point 2"},
        {"[[1,0,\"a\",1,0,\"x\",0,0,1,0,[]]]", "point 1"},
        {"[[1.5,0,\"a\",1,0,1,0,0,1,0,[]]]", "point 1"},
        {"[[1,0,\"a\",1,0,1,0,0,1,0,[1,2.5]]]", "point 1"},
        {"[[1,0,\"a\",1,0,1,0,0,1,0,7]]", "point 1"},
        {"[[1,0,\"a name that is longer than any operand's\",1,0,1,0,0,1,0,[]]]", "point 1"},
        {"[[1,0,null,1,0,1,0,0,1,0,[]]]", "point 1"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct fpl_diagnosis_point *p;
        struct fpl_error err = {FPL_OK, ""};
        int64_t n;
        assert_int_equal(fpl_diagnosis_from_text(texts[i][0], &p, &n, &err), FPL_INVALID);
        if (strstr(err.text, texts[i][1]) == NULL) fail_msg("\"%s\" does not name %s", err.text, texts[i][1]);
        assert_null(strchr(err.text, '\n'));
        assert_true(p == NULL && n == 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(inside_a_record),
                                       cmocka_unit_test(csv), cmocka_unit_test(wrong_texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
