/* Fits of the 1,911 published runs of Step Law (arXiv 2503.04715) against the constants and errors
 * in shared/laws.md, section 4.  Skips where ../shared/data is absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "law_synthetic.h"

static const char *const path = FPL_TEST_SHARED "/data/steplaw-dense.csv";
static struct fpl_runs runs;

static int setup(void **state) {
    (void)state;
    const char *columns[] = {"loss=smooth loss", "batch_tokens=bs*2048", NULL};
    struct fpl_error err = {FPL_OK, ""};
    return fpl_runs_read_csv(path, columns, &runs, &err) == FPL_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    fpl_runs_free(&runs);
    return 0;
}

static struct fpl_fit *fit_law(const char *law, struct fpl_fit_options options) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    options.threads = 2;
    if (fpl_law_fit(fpl_law_find(law), &runs, &options, &fit, &err) != FPL_OK) fail_msg("%s", err.text);
    return fit;
}

static double value(const struct fpl_fit *fit, const char *name) {
    struct fpl_estimate e;
    if (!fpl_fit_value(fit, name, &e)) fail_msg("no parameter %s", name);
    return e.value;
}

static void assert_near(const struct fpl_fit *fit, const char *name, double expected, double share) {
    const double x = value(fit, name);
    if (!(fabs(x - expected) <= share * fabs(expected)))
        fail_msg("%s = %.7g, expected %.7g within %g", name, x, expected, share);
}

/* The published recipe refitted: within 0.01 %. */
static void test_recipe(void **state) {
    (void)state;
    struct fpl_fit *fit = fit_law("steplaw", (struct fpl_fit_options){.bootstrap = 400, .level = 0.95});
    struct fpl_fit_summary s;
    struct fpl_estimate e;
    fpl_fit_summarize(fit, &s);
    assert_int_equal(runs.count, 1911);
    assert_int_equal(s.used, 129);
    assert_int_equal(fpl_fit_state(fit), FPL_FIT_CONVERGED);
    assert_near(fit, "lr_c", 77.6866, 1e-4);
    assert_near(fit, "lr_N", -0.766228, 1e-4);
    assert_near(fit, "lr_D", 0.197006, 1e-4);
    assert_near(fit, "batch_c", 0.208522, 1e-4);
    assert_near(fit, "batch_D", 0.612529, 1e-4);
    assert_true(value(fit, "batch_N") == 0);
    for (const char *const *name = (const char *const[]){"lr_N", "lr_D", "batch_D", NULL}; *name != NULL;
         name++) {
        assert_true(fpl_fit_value(fit, *name, &e));
        assert_true(e.lo < e.value && e.value < e.hi && e.hi - e.lo < 0.25);
    }
    fpl_fit_free(fit);
}

/* What was left out is listed, diverged rows by the stated rule. */
static void test_left_out(void **state) {
    (void)state;
    struct fpl_fit *fit = fit_law("joint", (struct fpl_fit_options){.level = 0.95, .window = 0.02});
    const char *run, *why;
    size_t diverged = 0, listed = 0;
    for (; fpl_fit_left_out(fit, listed, &run, &why); listed++)
        diverged += strstr(why, "counts as diverged") == why;
    assert_int_equal(diverged, 182);
    assert_int_equal(listed, 1911 - 947);
    fpl_fit_free(fit);
}

/* Constants of the best model of the table, at the objective it was fitted with. */
static void test_joint_constants(void **state) {
    (void)state;
    struct fpl_fit *fit = fit_law(
        "joint", (struct fpl_fit_options){.delta = 1e-3, .level = 0.95, .window = 0.02, .hold_out = "cell"});
    struct fpl_fit_summary s;
    fpl_fit_summarize(fit, &s);
    assert_int_equal(fpl_fit_state(fit), FPL_FIT_CONVERGED);
    assert_int_equal(s.used, 947);
    assert_true(s.rms_log_residual < 0.00202 && s.held_out_rms < 0.00235);
    assert_near(fit, "E", 0.899, 0.01);
    assert_near(fit, "alpha", 0.188, 0.01);
    assert_near(fit, "beta", 0.307, 0.01);
    assert_near(fit, "c", 0.206, 0.01);
    assert_near(fit, "lr_N", -0.703, 0.01);
    assert_near(fit, "lr_D", 0.220, 0.01);
    assert_near(fit, "batch_N", -0.209, 0.01);
    assert_near(fit, "batch_D", 0.606, 0.01);
    assert_near(fit, "bowl_k1", 0.00307, 0.01);
    assert_near(fit, "bowl_r1", 0.582, 0.01);
    assert_near(fit, "bowl_s1", 1.075, 0.01);
    assert_near(fit, "bowl_k2", 0.00514, 0.01);
    assert_near(fit, "bowl_r2", -0.815, 0.01);
    assert_near(fit, "bowl_s2", -0.540, 0.01);
    /* levels of the two terms at N = 4e8, D = 2.5e10 */
    assert_true(fabs(value(fit, "A") * pow(4e8, -value(fit, "alpha")) / 1.127 - 1) < 0.01);
    assert_true(fabs(value(fit, "B") * pow(4e8, value(fit, "c")) * pow(2.5e10, -value(fit, "beta")) / 0.2985 -
                     1) < 0.01);
    struct fpl_estimate e;
    assert_false(fpl_fit_value(fit, "gamma", &e)); /* no quantized runs */
    assert_false(fpl_fit_value(fit, "lr_shift", &e));
    fpl_fit_free(fit);
}

/* The defaults find the window of the published studies by themselves. */
static void test_joint_defaults(void **state) {
    (void)state;
    struct fpl_fit *fit =
        fit_law("joint", (struct fpl_fit_options){.bootstrap = 100, .level = 0.95, .hold_out = "N>1e9"});
    struct fpl_fit_summary s;
    struct fpl_answer a;
    struct fpl_error err = {FPL_OK, ""};
    fpl_fit_summarize(fit, &s);
    assert_true(s.window == 0.02 && s.used == 947 && s.rms_log_residual <= 0.0022);
    assert_true(fabs(s.held_out_mean) < 0.006);
    const struct fpl_point_at at = {1e9, 1e11, NONE, NONE, NONE, NONE, NONE};
    assert_int_equal(fpl_fit_predict(fit, &at, &a, &err), FPL_OK);
    assert_true(a.lr.lo < a.lr.value && a.lr.value < a.lr.hi && a.lr.hi / a.lr.lo < 1.3);
    assert_true(a.loss_new.lo < a.loss.lo && a.loss.hi < a.loss_new.hi);
    fpl_fit_free(fit);
}

int main(void) {
    if (access(path, R_OK) != 0) {
        printf("skipped: %s is absent\n", path);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipe),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_joint_constants),
        cmocka_unit_test(test_joint_defaults),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
