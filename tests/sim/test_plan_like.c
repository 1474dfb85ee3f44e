/* What --next proposes computes as the fit's own runs do: its recipes, for laws of blocks, channels and
 * tensors, with and without a known recipe.  And the two kinds of noise of a plan's gap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../formats/recipe.h"
#include "../../sim/law/manner.h"
#include "../../sim/plan/internal.h"
#include "law_design.h"
#include "plan_helpers.h"

static void test_recipes(void **state) {
    (void)state;
    static const struct {
        const char *law, *own, *format;
        double block;
        const char *expected; /* NULL: none */
    } cases[] = {
        {"capybara", "full:e2m1/1x32", "e4m3", 128, "full:e4m3/1x128"},
        {"capybara", "full:e2m1:sr/1x32:e8m0+mse", "e3m2", 16, "full:e3m2:sr/1x16:e8m0+mse"},
        {"capybara", "capybara:e2m1/32", "e3m0", 64, "capybara:e3m0/64"},
        {"capybara", "qat:e2m1/1x32", "e1m2", 8, "qat:e1m2/1x8"},
        {"capybara", "ops:fwd.w=e2m1/1x32;dgrad.dy=e2m1:sr/1x32", "e4m3", 16,
         "ops:fwd.w=e4m3/1x16;dgrad.dy=e4m3:sr/1x16"},
        {"capybara", "mxfp4", "e3m2", 32, "full:e3m2/1x32:e8m0"},
        {"capybara", "", "e3m2", 32, "full:e3m2/1x32"},
        {"capybara", "full:e2m1/1x32", "e4m3", 9138.1, NULL},       /* no whole block */
        {"capybara", "full:e2m1/1x16:e4m3fn+46", "e4m3", 16, NULL}, /* +46 is e2m1's alone */
        {"capybara-channel", "capybara:e2m1", "e3m0", NONE, "capybara:e3m0"},
        {"capybara-channel", "full:e2m1/row", "e3m0", NONE, "full:e3m0/row"},
        {"capybara-channel", "", "e3m0", NONE, "full:e3m0/row"},
        {"capybara-tensor", "capybara:e2m1/tensor", "e4m3", NONE, "capybara:e4m3/tensor"},
        {"capybara-tensor", "", "e4m3", NONE, "full:e4m3/tensor"},
        {"capybara-e", "full:e2m1/1x32", "e4m1", NONE, "full:e4m1/1x32"},
        {"joint", "full:e2m1/1x32", "bf16", NONE, "fp32"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fpl_fit fit = {.law = fpl_law_find(cases[i].law)};
        char out[FPL_RECIPE_TEXT], a[FPL_MANNER_TEXT], b[FPL_MANNER_TEXT];
        struct fpl_plan_format f = format(cases[i].format, cases[i].block, 1.0);
        snprintf(fit.recipe, sizeof fit.recipe, "%s", cases[i].own);
        const int told = fpl_recipe_like(&fit, &f, out, sizeof out);
        if (told != (cases[i].expected != NULL)) fail_msg("%s %s: told %d", cases[i].law, cases[i].own, told);
        if (!told) continue;
        assert_string_equal(out, cases[i].expected);
        if (cases[i].own[0] == '\0' || isnan(f.E)) continue;
        fpl_manner_of(cases[i].own, 1, a);
        fpl_manner_of(out, 1, b);
        assert_string_equal(a, b);
    }
}

/* A fit of channel-scaled runs: quantized proposals, which the law takes when they have been run. */
static void test_channel(void **state) {
    (void)state;
    static const char *const laws[] = {"capybara-channel", "capybara-tensor"}, *const ends[] = {"",
                                                                                                "/tensor"};
    for (int k = 0; k < 2; k++) {
        struct design d;
        struct fpl_fit *fit = NULL, **read = NULL;
        struct fpl_next next = {0};
        struct fpl_error err = {FPL_OK, ""};
        const struct fpl_fit_options o = {.bootstrap = 100, .level = 0.95, .threads = 2};
        struct fpl_plan_format formats[] = {format("bf16", NONE, 1.0), format("e2m1", NONE, 1.0),
                                            format("e1m2", NONE, 1.0)};
        const struct fpl_next_options options = {.count = 6,
                                                 .least_gain = 0.9,
                                                 .extend = 1.0,
                                                 .formats = formats,
                                                 .format_count = 3,
                                                 .limits = FPL_PLAN_NO_LIMITS};
        struct fpl_decision_of decision = {.what = FPL_DECIDE_D_CRIT,
                                           .at = {1e5, 4e6, NONE, NONE, 2.0, 1.0, NONE}};
        size_t count = 0, quantized = 0;
        assert_true(design_make(&d, fpl_law_find(laws[k]), 3, 0));
        for (size_t i = 0; i < d.runs.count; i++)
            if (!isnan(d.runs.run[i].E))
                snprintf(d.runs.run[i].recipe, sizeof d.runs.run[i].recipe, "capybara:%s%s",
                         d.runs.run[i].format, ends[k]);
        assert_int_equal(fpl_law_fit(d.law, &d.runs, &o, &fit, &err), FPL_OK);
        char *text = fpl_fits_to_json(&fit, 1, &d.runs);
        assert_int_equal(fpl_fits_parse("fit", text, strlen(text), &read, &count, &err), FPL_OK);
        decision.limits = &options.limits;
        if (fpl_plan_next(read[0], &decision, &options, &next, &err) != FPL_OK) fail_msg("%s", err.text);
        for (size_t i = 0; i < next.runs; i++) {
            struct fpl_recipe recipe;
            struct fpl_recipe_summary summary;
            assert_int_equal(fpl_recipe_parse(next.run[i].recipe, &recipe, NULL), FPL_OK);
            fpl_recipe_summarize(&recipe, &summary);
            if (summary.E < 0) continue;
            quantized++;
            assert_int_equal(strncmp(next.run[i].recipe, "capybara:", 9), 0);
            assert_string_equal(summary.granularity, fpl_law_scaling(d.law));
        }
        assert_true(quantized > 0);
        fpl_next_free(&next);
        free(text);
        fpl_fits_free(read, count);
        fpl_fit_free(fit);
        design_end(&d);
    }
}

/* Between one run each there is the noise of two runs besides the fit's. */
static void test_run_noise(void **state) {
    (void)state;
    struct design d;
    struct fpl_fit *fit = NULL;
    struct fpl_plan plan;
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    const struct fpl_fit_options o = {.bootstrap = 200, .level = 0.95, .threads = 2};
    const struct fpl_plan_format formats[] = {format("bf16", NONE, 1.0), format("e4m3", 32.0, 1.0),
                                              format("e2m1", 32.0, 1.0), format("e2m0", 32.0, 1.0)};
    int told = 0, hidden = 0;
    assert_true(design_make(&d, fpl_law_find("capybara"), 3, 0));
    assert_int_equal(fpl_law_fit(d.law, &d.runs, &o, &fit, NULL), FPL_OK);
    assert_int_equal(fpl_plan_make(fit, formats, 4, &none, 6.0 * 26.6e3 * 4e6, &plan, NULL), FPL_OK);
    const double noise = fpl_fit_run_noise(fit);
    assert_true(noise > 0.8 * DESIGN_NOISE && noise < 1.3 * DESIGN_NOISE);
    for (size_t i = 1; i < plan.rows; i++) {
        const struct fpl_plan_row *r = &plan.row[i];
        const double down = r->gap.value - r->gap.lo, width = 1.959964 * sqrt(2.0) * noise;
        assert_near(r->gap_run.value - r->gap_run.lo, hypot(down, width), 1e-6);
        assert_int_equal(r->within_run_noise, r->gap_run.lo <= 0.0);
        assert_true(!r->within_noise || r->within_run_noise);
        told += !r->within_run_noise;
        hidden += r->within_run_noise && !r->within_noise;
    }
    assert_true(told > 0 && hidden > 0); /* of both kinds there are some */
    fpl_plan_free(&plan);
    fpl_fit_free(fit);
    design_end(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_channel),
        cmocka_unit_test(test_run_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
