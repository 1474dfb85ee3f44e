/* The multi-power law's inner sum against the mathematical library: the sum and its derivatives
 * to rounding, any number of falls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "../../formats/random.h"
#include "../../sim/law/falls.h"

static double uniform(uint64_t element) {
    uint32_t w[4];
    fpl_random_block(7, element, 0, fpl_stream(FPL_STREAM_TEST, 44), w);
    return fpl_random_uniform(w[0], w[1]);
}

static void test_sum(void **state) {
    (void)state;
    enum { MOST = 600 };
    const int counts[] = {0, 1, 7, 8, 9, 255, 256, 257, MOST};
    double fall[MOST], log_lr[MOST], before[MOST];
    for (int k = 0; k < MOST; k++) {
        fall[k] = 1e-4 * (uniform(100000 + (uint64_t)k) - 0.1);
        log_lr[k] = -4.0 - 3.0 * k / MOST;
        before[k] = 0.05 * k;
    }
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (int s = 0; s < 12; s++) {
            const struct fpl_speed speed = {0.2 + 0.3 * s, -8.0 + 4.0 * s, -0.5 + 0.25 * s, -5.0};
            const double sum = 20.0;
            struct fpl_gain got = {0.5, 0.5, 0.5, 0.5};
            double want[4] = {0.5, 0.5, 0.5, 0.5}, size[4] = {0.5, 0.5, 0.5, 0.5};
            for (int k = 0; k < counts[c]; k++) {
                const double bend = log_lr[k] - speed.at,
                             w = fmin(1e15, exp(speed.c - speed.gamma * bend) * fmax(0.0, sum - before[k])),
                             left = pow(1.0 + w, -speed.beta),
                             slope = speed.beta * left * w / (1.0 + w) * fall[k];
                const double part[4] = {fall[k] * (1.0 - left), fall[k] * left * log1p(w), slope,
                                        -slope * bend};
                for (int i = 0; i < 4; i++) want[i] += part[i], size[i] += fabs(part[i]) + fabs(fall[k]);
            }
            fpl_add_falls(&got, &speed, counts[c], fall, log_lr, before, sum);
            const double found[4] = {got.value, got.by_beta, got.by_c, got.by_gamma};
            for (int i = 0; i < 4; i++) assert_true(fabs(found[i] - want[i]) <= 1e-13 * size[i]);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sum)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
