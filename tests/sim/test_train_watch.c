/* Divergence, collapse and spikes, on sequences of losses made for the purpose. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../../sim/train/watch.h"

#define U 3.0
#define V 32
#define BATCH 256 /* windows of 64 steps */
#define STEPS 2000

static struct fpl_watch fresh(void) {
    struct fpl_watch w;
    fpl_watch_init(&w, U, V, BATCH, STEPS, 100);
    return w;
}

static double noise(int64_t i) {
    uint32_t x[4];
    fpl_random_block(3, (uint64_t)i, 0, fpl_stream(FPL_STREAM_TEST, 2), x);
    return fpl_random_uniform(x[0], x[1]) - 0.5;
}

/* Feed steps [from, to] with loss(step) + noise; the step at which it ends, or 0. */
static int64_t feed(struct fpl_watch *w, int64_t from, int64_t to, double loss, enum fpl_status *status,
                    char *why) {
    for (int64_t s = from; s <= to; s++) {
        *status = fpl_watch_step(w, s, loss + 0.2 * noise(s), 1.0 + noise(s), 0, why);
        if (*status != FPL_RUN_OK) return s;
    }
    return 0;
}

static void a_run_that_learns(void **state) {
    (void)state;
    struct fpl_watch w = fresh();
    enum fpl_status status;
    char why[160] = "";
    for (int64_t s = 1; s <= STEPS; s += 20)
        assert_int_equal(feed(&w, s, s + 19, 1.4 + 2.0 * exp(-(double)s / 100), &status, why), 0);
    assert_int_equal(w.spikes, 0);
    assert_string_equal(why, "");
}

static void a_collapse_is_seen_after_three_windows(void **state) {
    (void)state;
    struct fpl_watch w = fresh();
    enum fpl_status status;
    char why[160] = "";
    assert_int_equal(feed(&w, 1, 640, 1.5, &status, why), 0);
    assert_int_equal(fpl_watch_step(&w, 641, 1.5, 500.0, 0, why), FPL_RUN_OK); /* the spike */
    const int64_t end = feed(&w, 642, STEPS, 3.0, &status, why);
    assert_int_equal(status, FPL_RUN_COLLAPSED);
    assert_int_equal(end, 640 + 3 * 64);
    assert_non_null(strstr(why, "step 832"));
    assert_non_null(strstr(why, "step 641"));
}

static void a_spike_that_recovers_is_no_collapse(void **state) {
    (void)state;
    struct fpl_watch w = fresh();
    enum fpl_status status;
    char why[160] = "";
    assert_int_equal(feed(&w, 1, 640, 1.5, &status, why), 0);
    assert_int_equal(feed(&w, 641, 768, 3.1, &status, why), 0);
    assert_int_equal(feed(&w, 769, STEPS, 1.6, &status, why), 0);
}

static void what_never_learned_is_left_to_the_end(void **state) {
    (void)state;
    struct fpl_watch w = fresh();
    enum fpl_status status;
    char why[160] = "";
    assert_int_equal(feed(&w, 1, STEPS, 3.0, &status, why), 0);
}

static void an_unknown_unigram_entropy_finds_no_collapse(void **state) {
    (void)state;
    struct fpl_watch w;
    enum fpl_status status;
    char why[160] = "";
    fpl_watch_init(&w, (double)NAN, V, BATCH, STEPS, 100);
    assert_int_equal(feed(&w, 1, 640, 1.5, &status, why), 0);
    assert_int_equal(feed(&w, 641, STEPS, 3.0, &status, why), 0);
}

static void worse_than_guessing_diverges_after_warm_up(void **state) {
    (void)state;
    struct fpl_watch w = fresh();
    enum fpl_status status;
    char why[160] = "";
    /* log 32 = 3.47; the windows that end after step 100: at 128, 192, 256 */
    assert_int_equal(feed(&w, 1, STEPS, 9.0, &status, why), 256);
    assert_int_equal(status, FPL_RUN_DIVERGED);
    assert_non_null(strstr(why, "guessing"));
}

static void what_is_not_finite_diverges_at_once(void **state) {
    (void)state;
    const struct {
        double loss, norm;
        int64_t nonfinite;
        const char *named;
    } cases[] = {{(double)NAN, 1, 0, "loss"},
                 {(double)INFINITY, 1, 0, "loss"},
                 {1, (double)NAN, 0, "norm"},
                 {1, (double)INFINITY, 0, "norm"},
                 {1, 1, 1, "operands"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fpl_watch w = fresh();
        char why[160] = "";
        assert_int_equal(fpl_watch_step(&w, 1, 3, 1, 0, why), FPL_RUN_OK);
        assert_int_equal(fpl_watch_step(&w, 2, cases[i].loss, cases[i].norm, cases[i].nonfinite, why),
                         FPL_RUN_DIVERGED);
        assert_non_null(strstr(why, "step 2"));
        assert_non_null(strstr(why, cases[i].named));
    }
}

static void the_end_is_judged_by_the_held_out_loss(void **state) {
    (void)state;
    const struct {
        double learned, held_out;
        int64_t nonfinite;
        enum fpl_status status;
    } cases[] = {{1.5, 1.6, 0, FPL_RUN_OK},
                 {1.5, 0.951 * U, 0, FPL_RUN_COLLAPSED},
                 {2.9, 0.951 * U, 0, FPL_RUN_OK},
                 {2.9, 0.981 * U, 0, FPL_RUN_COLLAPSED},
                 {1.5, 1.2 * U, 0, FPL_RUN_COLLAPSED},
                 {1.5, 5.3, 0, FPL_RUN_DIVERGED}, /* 1.5 log 32 = 5.2 */
                 {1.5, (double)NAN, 0, FPL_RUN_DIVERGED},
                 {1.5, (double)INFINITY, 0, FPL_RUN_DIVERGED},
                 {1.5, 1.6, 1, FPL_RUN_DIVERGED}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fpl_watch w = fresh();
        enum fpl_status status;
        char why[160] = "";
        feed(&w, 1, 64, cases[i].learned, &status, why);
        assert_int_equal(fpl_watch_end(&w, 64, cases[i].held_out, cases[i].nonfinite, why), cases[i].status);
        assert_int_equal(strncmp(why, "step 64: ", 9) == 0, cases[i].status != FPL_RUN_OK);
    }
}

static void spikes_are_counted(void **state) {
    (void)state;
    struct fpl_watch w = fresh();
    enum fpl_status status;
    char why[160] = "";
    feed(&w, 1, 200, 2.0, &status, why);
    const double heights[] = {50, 80, 9};
    for (int i = 0; i < 3; i++) {
        fpl_watch_step(&w, 201 + 100 * i, 2.0, heights[i], 0, why);
        feed(&w, 202 + 100 * i, 300 + 100 * i, 2.0, &status, why);
    }
    assert_int_equal(w.spikes, 2); /* nine times the mean is none */
    assert_int_equal(w.spike_step, 301);
    assert_true(w.spike_norm == 80);
}

static void the_curve_has_means_and_largest_norms(void **state) {
    (void)state;
    struct fpl_watch w;
    char why[160] = "";
    fpl_watch_init(&w, U, V, BATCH, 1030, 0); /* ceil(1030/512) = 3 steps a point */
    for (int64_t s = 1; s <= 1030; s++) fpl_watch_step(&w, s, 2.0 + (double)(s % 3), (double)(s % 7), 0, why);
    fpl_watch_close(&w, 1030);
    fpl_watch_close(&w, 1030); /* nothing left to close */
    assert_int_equal(w.points, 344);
    assert_int_equal(w.curve[0].step, 3);
    assert_true(w.curve[0].loss == 3.0);
    assert_true(fabs(w.curve[0].se - sqrt(1.0 / 3.0)) < 1e-15);
    assert_true(w.curve[0].grad_norm == 3);
    assert_int_equal(w.curve[343].step, 1030);
    assert_true(w.curve[343].loss == 3.0 && isnan(w.curve[343].se));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_run_that_learns),
                                       cmocka_unit_test(a_collapse_is_seen_after_three_windows),
                                       cmocka_unit_test(a_spike_that_recovers_is_no_collapse),
                                       cmocka_unit_test(what_never_learned_is_left_to_the_end),
                                       cmocka_unit_test(an_unknown_unigram_entropy_finds_no_collapse),
                                       cmocka_unit_test(worse_than_guessing_diverges_after_warm_up),
                                       cmocka_unit_test(what_is_not_finite_diverges_at_once),
                                       cmocka_unit_test(the_end_is_judged_by_the_held_out_loss),
                                       cmocka_unit_test(spikes_are_counted),
                                       cmocka_unit_test(the_curve_has_means_and_largest_norms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
