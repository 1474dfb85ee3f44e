/* Every law of the registry: analytic gradients against differences, the two parametrisations
 * as inverses, predictions that do not depend on the centre; the bowl's convexity; linear
 * algebra. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_synthetic.h"

static double uniform(uint64_t element, double low, double high) {
    uint32_t w[4];
    fpl_random_block(1, element, 0, fpl_stream(FPL_STREAM_TEST, 41), w);
    return low + (high - low) * fpl_random_uniform(w[0], w[1]);
}

/* Parameters inside the bounds, near where fits live. */
static void draw_theta(const struct fpl_law *law, uint64_t key, double *theta) {
    for (int j = 0; j < law->params; j++) {
        const double low = fmax(law->param[j].lo, -0.6), high = fmin(law->param[j].hi, 0.6);
        theta[j] = uniform(1000 * key + (uint64_t)j, low + 0.4 * (high - low), high);
    }
}

static struct fpl_law_at draw_point(uint64_t key) {
    struct fpl_law_at at = {uniform(9000000 + 10 * key, -1, 1), uniform(9000001 + 10 * key, -1, 1),
                            uniform(9000002 + 10 * key, -2, 2), uniform(9000003 + 10 * key, -2, 2),
                            uniform(9000004 + 10 * key, -1, 1), uniform(9000005 + 10 * key, -1, 1),
                            uniform(9000006 + 10 * key, 3, 7),  key % 3 != 0};
    if (key % 5 == 0) at.x = NONE;
    if (key % 7 == 0) at.y = NONE;
    return at;
}

/* Central differences of order 4 with width h: the truncation is h^4/30 times a fifth
 * derivative, which grows with the value itself; rounding is 1e-16 |f|/h. */
static void check_gradient(const struct fpl_law *law, fpl_law_value *f, const char *what) {
    const double h = 1e-3;
    for (uint64_t key = 0; key < 60; key++) {
        double theta[FPL_LAW_PARAMS], grad[FPL_LAW_PARAMS];
        const struct fpl_law_at at = draw_point(key);
        draw_theta(law, key, theta);
        for (int j = 0; j < FPL_LAW_PARAMS; j++) grad[j] = 1e300;
        const double value = f(theta, &at, grad);
        if (isnan(value)) {
            assert_false(at.quantized && f == law->log_loss);
            continue;
        }
        assert_true(value == f(theta, &at, NULL));
        for (int j = 0; j < law->params; j++) {
            const double t = theta[j];
            double side[4];
            for (int k = 0; k < 4; k++) {
                static const double steps[4] = {-2, -1, 1, 2};
                theta[j] = t + steps[k] * h;
                side[k] = f(theta, &at, NULL);
            }
            theta[j] = t;
            const double slope = (side[0] - 8 * side[1] + 8 * side[2] - side[3]) / (12 * h);
            if (!(fabs(slope - grad[j]) <= 1e-8 * (1 + fabs(value) + fabs(slope))))
                fail_msg("%s %s: d/d%s is %.12g, by differences %.12g", law->name, what, law->param[j].name,
                         grad[j], slope);
        }
    }
}

static void test_gradients(void **state) {
    (void)state;
    size_t laws = 0;
    for (; fpl_laws[laws] != NULL; laws++) {
        const struct fpl_law *law = fpl_laws[laws];
        if (law->log_loss != NULL) check_gradient(law, law->log_loss, "loss");
        if (law->log_lr != NULL) check_gradient(law, law->log_lr, "lr");
        if (law->log_batch != NULL) check_gradient(law, law->log_batch, "batch");
        if (law->log_dcrit != NULL) check_gradient(law, law->log_dcrit, "D_crit");
    }
    assert_true(laws >= 4);
}

static void test_parametrisations(void **state) {
    (void)state;
    const struct fpl_centre here = {log(3e5), log(7e7)}, there = {log(2e9), log(5e11)};
    for (size_t i = 0; fpl_laws[i] != NULL; i++) {
        const struct fpl_law *law = fpl_laws[i];
        double theta[FPL_LAW_PARAMS], published[FPL_LAW_PARAMS], again[FPL_LAW_PARAMS], moved[FPL_LAW_PARAMS];
        assert_true(law->params <= FPL_LAW_PARAMS && law->citation[0] != '\0' && law->formula[0] != '\0');
        assert_ptr_equal(fpl_law_find(law->name), law);
        for (uint64_t key = 0; key < 20; key++) {
            draw_theta(law, key, theta);
            law->publish(theta, &here, published);
            law->internal(published, &here, again);
            law->internal(published, &there, moved);
            for (int j = 0; j < law->params; j++) assert_true(fabs(again[j] - theta[j]) < 1e-11 * 60);
            if (law->log_loss == NULL) continue;
            const struct fpl_point_at at = {1e6, 3e8, 0.3, 2.0, 2, 1, 32};
            struct fpl_law_at a, b;
            fpl_law_at_point(&at, &here, &a);
            fpl_law_at_point(&at, &there, &b);
            const double x = law->log_loss(theta, &a, NULL), y = law->log_loss(moved, &b, NULL);
            assert_true(fabs(x - y) < 1e-9 * (1 + fabs(x)));
        }
    }
}

/* Midpoint convexity along random chords within 4 octaves, least value 0 at the optimum. */
static void test_bowl_is_convex(void **state) {
    (void)state;
    for (uint64_t key = 0; key < 4000; key++) {
        double t[6], p[4];
        for (uint64_t j = 0; j < 6; j++) t[j] = uniform(20 * key + j, -2, 2);
        for (uint64_t j = 0; j < 4; j++) p[j] = uniform(20 * key + 10 + j, -4 * OCTAVE, 4 * OCTAVE);
        const double a = fpl_bowl(t, p[0], p[1], NULL, NULL, NULL),
                     b = fpl_bowl(t, p[2], p[3], NULL, NULL, NULL);
        const double middle = fpl_bowl(t, 0.5 * (p[0] + p[2]), 0.5 * (p[1] + p[3]), NULL, NULL, NULL);
        assert_true(middle <= 0.5 * (a + b) * (1 + 1e-12));
        assert_true(a >= 0 && fpl_bowl(t, 0, 0, NULL, NULL, NULL) == 0);
    }
}

/* The series and the closed form of K meet: q is smooth across |s w| = 1/2. */
static void test_bowl_series(void **state) {
    (void)state;
    const double below[6] = {0, 0, 0.5 - 1e-9, -40, 0, 0}, above[6] = {0, 0, 0.5 + 1e-9, -40, 0, 0};
    const double k = 2 * (exp(0.5) - 0.5 - 1) / 0.25;
    assert_true(fabs(fpl_bowl(below, 1, 0, NULL, NULL, NULL) - k) < 1e-8);
    assert_true(fabs(fpl_bowl(above, 1, 0, NULL, NULL, NULL) - k) < 1e-8);
}

static void test_linear_algebra(void **state) {
    (void)state;
    enum { N = 6 };
    double a[N * N], copy[N * N], b[N], values[N], vectors[N * N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++)
            a[i * N + j] = a[j * N + i] = uniform((uint64_t)(100 * i + j), -1, 1) + (i == j ? 4.0 : 0.0);
    memcpy(copy, a, sizeof a);
    for (int i = 0; i < N; i++) {
        b[i] = 0;
        for (int j = 0; j < N; j++) b[i] += a[i * N + j] * (j + 1);
    }
    assert_true(fpl_solve(copy, b, N));
    for (int i = 0; i < N; i++) assert_true(fabs(b[i] - (i + 1)) < 1e-12 * 100);
    memcpy(copy, a, sizeof a);
    fpl_eigen(copy, values, vectors, N);
    for (int k = 0; k < N; k++)
        for (int i = 0; i < N; i++) {
            double sum = 0;
            for (int j = 0; j < N; j++) sum += a[i * N + j] * vectors[j * N + k];
            assert_true(fabs(sum - values[k] * vectors[i * N + k]) < 1e-12 * 100);
            assert_true(k == 0 || values[k] >= values[k - 1]);
        }
    double singular[4] = {1, 2, 2, 4}, y[2] = {1, 2};
    assert_false(fpl_solve(singular, y, 2));
    /* the free minimum has a negative part, so it lies on the face x[1] = 0 */
    const double q[4] = {2, 1, 1, 2}, c[2] = {1, -1};
    double x[2];
    assert_true(fabs(fpl_nonnegative(q, c, x, 2) + 0.5) < 1e-15);
    assert_true(fabs(x[0] - 0.5) < 1e-15 && x[1] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),      cmocka_unit_test(test_parametrisations),
        cmocka_unit_test(test_bowl_is_convex), cmocka_unit_test(test_bowl_series),
        cmocka_unit_test(test_linear_algebra),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
