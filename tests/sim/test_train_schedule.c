/* Learning rates: the ends of every phase exactly, monotone between them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../sim/train/schedule.h"

static struct fpl_config config(const char *schedule, int64_t steps, double warmup) {
    struct fpl_config c;
    struct fpl_error err = {0};
    fpl_config_defaults(&c);
    assert_int_equal(fpl_config_set(&c, "schedule", schedule, &err), FPL_OK);
    c.tokens = 0;
    c.steps = steps;
    c.warmup = warmup;
    c.lr = 8e-3;
    c.lr_final = 1e-5;
    return c;
}

static void warm_up_is_linear(void **state) {
    (void)state;
    const struct fpl_config c = config("constant", 100, 0.09);
    assert_int_equal(fpl_warmup_steps(&c), 9);
    for (int64_t s = 0; s < 9; s++) assert_true(fpl_learning_rate(&c, s) == 8e-3 * (double)(s + 1) / 10.0);
    for (int64_t s = 9; s < 100; s++) assert_true(fpl_learning_rate(&c, s) == 8e-3);
}

static void cosine_ends_at_the_final_rate(void **state) {
    (void)state;
    const struct fpl_config c = config("cosine", 201, 0.5);
    const int64_t warm = fpl_warmup_steps(&c);
    assert_int_equal(warm, 101);
    assert_true(fpl_learning_rate(&c, warm) == 8e-3);
    assert_true(fabs(fpl_learning_rate(&c, 200) - 1e-5) <= 8e-3 * 0x1p-52);
    for (int64_t s = warm; s < 200; s++) assert_true(fpl_learning_rate(&c, s + 1) < fpl_learning_rate(&c, s));
    for (int64_t s = warm; s <= 200; s++) {
        const double wave = 0.5 * (1.0 + cos(M_PI * (double)(s - warm) / (double)(200 - warm)));
        const double expected = 1e-5 + (8e-3 - 1e-5) * wave;
        assert_true(fabs(fpl_learning_rate(&c, s) - expected) <= 8 * 8e-3 * 0x1p-53);
    }
}

static void wsd_is_stable_then_linear(void **state) {
    (void)state;
    struct fpl_config c = config("wsd", 100, 0.1);
    c.decay_share = 0.2;
    for (int64_t s = 10; s <= 79; s++) assert_true(fpl_learning_rate(&c, s) == 8e-3);
    for (int64_t s = 80; s < 100; s++) {
        const double expected = 8e-3 + (1e-5 - 8e-3) * (double)(s - 79) / 20.0;
        assert_true(fabs(fpl_learning_rate(&c, s) - expected) <= 4 * 8e-3 * 0x1p-53);
    }
    assert_true(fabs(fpl_learning_rate(&c, 99) - 1e-5) <= 4 * 8e-3 * 0x1p-53);
}

static void the_shortest_runs(void **state) {
    (void)state;
    static const char *const all[] = {"cosine", "wsd", "constant"};
    for (size_t i = 0; i < 3; i++) {
        const struct fpl_config one = config(all[i], 1, 0.9), two = config(all[i], 2, 0.0);
        assert_int_equal(fpl_warmup_steps(&one), 0);
        assert_true(fpl_learning_rate(&one, 0) == 8e-3);
        assert_true(fpl_learning_rate(&two, 0) == 8e-3);
        for (int64_t steps = 1; steps < 40; steps++)
            for (double warmup = 0; warmup < 1; warmup += 0.07) {
                struct fpl_config c = config(all[i], steps, warmup);
                c.decay_share = 1 - warmup;
                for (int64_t s = 0; s < steps; s++) {
                    const double lr = fpl_learning_rate(&c, s);
                    assert_true(lr > 0 && lr <= 8e-3 * (1 + 0x1p-50));
                }
            }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_is_linear), cmocka_unit_test(cosine_ends_at_the_final_rate),
        cmocka_unit_test(wsd_is_stable_then_linear), cmocka_unit_test(the_shortest_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
