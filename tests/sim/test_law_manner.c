/* Runs that compute otherwise are never mixed into one fit: manners of recipes, what of a table with two of
 * them is left out and how it is told, laws of one condition that refuse such a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../sim/law/manner.h"
#include "law_design.h"

static int same(const char *a, const char *b, int operands) {
    char x[FPL_MANNER_TEXT], y[FPL_MANNER_TEXT];
    fpl_manner_of(a, operands, x);
    fpl_manner_of(b, operands, y);
    assert_true(x[0] != '\0' && y[0] != '\0');
    return strcmp(x, y) == 0;
}

static void test_manners(void **state) {
    (void)state;
    static const char *const alike[][2] = {
        {"full:e2m1/1x32", "full:e4m3fn/1x128"},
        {"capybara:e4m3", "capybara:e1m1"},
        {"full:e2m1:sr/1x8", "full:e3m0:sr/1x32"},
        {"ops:fwd.w=e2m1/1x32;wgrad.x=e2m1/1x32", "ops:wgrad.x=e4m3/1x8;fwd.w=e4m3/1x8"},
    };
    static const char *const unlike[][2] = {
        {"full:e2m1/1x32", "full:e2m1:sr/1x32"},
        {"full:e2m1/1x32", "full:e2m1:rna/1x32"},
        {"full:e2m1/1x32", "full:e2m1/1x32:e8m0"},
        {"full:e2m1/1x32", "full:e2m1/1x32+mse"},
        {"full:e2m1/1x16:e4m3fn", "full:e2m1/1x16:e4m3fn+t"},
        {"full:e2m1/1x16:e4m3fn", "full:e2m1/1x16:e4m3fn+46"},
        {"full:uint4/1x32", "full:uint4/1x32+z"},
        {"full:e4m3/row", "full:e4m3/tensor"},
        {"full:e4m3/tensor", "full:e4m3/tensor:delayed"},
        {"full:e2m1/1x32", "capybara:e2m1/32"},
        {"full:e2m1/1x32", "qat:e2m1/1x32"},
        {"not a recipe", "nor this"},
    };
    for (size_t i = 0; i < sizeof alike / sizeof alike[0]; i++)
        if (!same(alike[i][0], alike[i][1], 1)) fail_msg("%s, %s: unlike", alike[i][0], alike[i][1]);
    for (size_t i = 0; i < sizeof unlike / sizeof unlike[0]; i++)
        if (same(unlike[i][0], unlike[i][1], 1)) fail_msg("%s, %s: alike", unlike[i][0], unlike[i][1]);
    assert_true(same("full:e2m1/1x32", "qat:e2m1/1x32", 0));
    assert_false(same("full:e2m1/1x32", "qat:e2m1:sr/1x32", 0));
}

/* Every third quantized run rounds stochastically and is far worse: with it the law would be another. */
static void mix(struct design *d, const char *law) {
    size_t quantized = 0;
    assert_true(design_make(d, fpl_law_find(law), 5, 0));
    for (size_t i = 0; i < d->runs.count; i++) {
        struct fpl_run *r = &d->runs.run[i];
        if (isnan(r->E)) continue;
        const int other = quantized++ % 3 == 2;
        snprintf(r->recipe, sizeof r->recipe, "full:%s%s/1x%.0f", r->format, other ? ":sr" : "", r->block);
        if (other) r->loss *= 1.3;
    }
}

static void test_left_out(void **state) {
    (void)state;
    static const char *const laws[] = {"capybara", "joint"};
    for (int k = 0; k < 2; k++) {
        struct design d;
        struct fpl_fit *fit = NULL;
        const struct fpl_fit_options options = {.level = 0.95, .threads = 2};
        const char *run, *why;
        size_t others = 0, expected = 0;
        mix(&d, laws[k]);
        for (size_t i = 0; i < d.runs.count; i++) expected += strstr(d.runs.run[i].recipe, ":sr") != NULL;
        assert_int_equal(fpl_law_fit(d.law, &d.runs, &options, &fit, NULL), FPL_OK);
        for (size_t i = 0; fpl_fit_left_out(fit, i, &run, &why); i++)
            others += strstr(why, "computes as full:") != NULL && strstr(why, ":sr/") != NULL;
        assert_int_equal(others, expected);
        assert_non_null(fpl_fit_finding(fit, 0));
        assert_non_null(strstr(fpl_fit_finding(fit, 0), "compute otherwise"));
        assert_true(fit->rms < 0.05);
        fpl_fit_free(fit);
        design_end(&d);
    }
}

static void test_one_condition(void **state) {
    (void)state;
    static const char *const laws[] = {"bowl", "power-floor", "annealing"};
    for (int k = 0; k < 3; k++) {
        struct design d;
        struct fpl_fit *fit = NULL;
        struct fpl_error err = {FPL_OK, ""};
        const struct fpl_fit_options options = {.level = 0.95, .threads = 2};
        assert_true(design_make(&d, fpl_law_find(laws[k]), 1, 0));
        for (size_t i = 0; i < d.runs.count; i++)
            snprintf(d.runs.run[i].recipe, sizeof d.runs.run[i].recipe, "%s",
                     i < d.runs.count / 2 ? "full:e2m1/row" : "full:e2m1:sr/row");
        assert_int_equal(fpl_law_fit(d.law, &d.runs, &options, &fit, &err), FPL_INVALID);
        assert_non_null(strstr(err.text, "full:e2m1:sr/row"));
        design_end(&d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manners),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_one_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
