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

/* A schedule that warms up, stays, falls, turns up again and falls to nothing. */
static const double turns[] = {0, 20, 60, 160, 180, 400}, rates[] = {0, 0.012, 0.012, 0.003, 0.005, 0};
static const struct fpl_schedule schedule = {6, turns, rates};

/* Every variable some way off its usual size, learning rate and batch now and then left to the law. */
static struct fpl_question draw_question(uint64_t key) {
    const uint64_t at = 9000000 + 40 * key;
    struct fpl_question q;
    fpl_question_clear(&q);
    double *v = q.value;
    v[FPL_VAR_N] = 1e6 * exp(uniform(at, -1, 1));
    v[FPL_VAR_D] = 1e9 * exp(uniform(at + 1, -1, 1));
    if (key % 5 != 0) v[FPL_VAR_LR] = exp(uniform(at + 2, -2, 2));
    if (key % 7 != 0) v[FPL_VAR_BATCH] = exp(uniform(at + 3, -2, 2));
    if (key % 3 != 0) {
        v[FPL_VAR_E] = 2.5 * exp(uniform(at + 4, -1, 1)) - 0.5;
        v[FPL_VAR_M] = 1.5 * exp(uniform(at + 5, -1, 1)) - 0.5;
        v[FPL_VAR_BLOCK] = exp2(uniform(at + 6, 3, 7));
        v[FPL_VAR_PW] = uniform(at + 7, 4, 9);
        v[FPL_VAR_PA] = uniform(at + 8, 4, 9);
    }
    if (key % 4 == 1) v[FPL_VAR_PKV] = uniform(at + 9, 4, 9);
    if (key % 4 == 2) v[FPL_VAR_EFF_N] = uniform(at + 10, 0.3, 1);
    v[FPL_VAR_BITS] = uniform(at + 11, 2, 8);
    v[FPL_VAR_GROUP] = exp2(uniform(at + 12, 3, 7));
    v[FPL_VAR_STEPS] = exp(uniform(at + 13, -1, 1));
    v[FPL_VAR_STEP] = floor(uniform(at + 14, 21, 400));
    v[FPL_VAR_N_MEAN] = 0.7 * v[FPL_VAR_N];
    v[FPL_VAR_X] = exp(uniform(at + 15, -1, 1));
    return q;
}

/* Points of a law around their own centre. */
enum { POINTS = 60 };
static struct fpl_centre draw_points(const struct fpl_law *law, const struct fpl_curve *curve,
                                     struct fpl_law_at *out) {
    struct fpl_centre centre = {0, 0};
    for (int round = 0; round < 2; round++) {
        double n = 0, d = 0;
        for (uint64_t key = 0; key < POINTS; key++) {
            struct fpl_question q = draw_question(key);
            q.curve = curve;
            /* laws that always need a batch are asked with one */
            if (fpl_law_takes(law, FPL_VAR_BATCH) == 2 && isnan(q.value[FPL_VAR_BATCH]))
                q.value[FPL_VAR_BATCH] = 1.5;
            fpl_law_place(law, &q, &centre, &out[key]);
            n += out[key].n / POINTS;
            d += out[key].d / POINTS;
        }
        if (round == 0) centre = (struct fpl_centre){n, d};
    }
    return centre;
}

/* Central differences of order 4 with width h: the truncation is h^4/30 times a fifth
 * derivative, which grows with the value itself; rounding is 1e-16 |f|/h. */
static void check_gradient(const struct fpl_law *law, fpl_law_value *f, const char *what) {
    const double h = 3e-4;
    struct fpl_curve curve;
    struct fpl_law_at points[POINTS];
    size_t checked = 0;
    assert_int_equal(fpl_curve_make(&schedule, &curve, NULL), FPL_OK);
    draw_points(law, &curve, points);
    for (uint64_t key = 0; key < POINTS; key++) {
        double theta[FPL_LAW_PARAMS], grad[FPL_LAW_PARAMS];
        const struct fpl_law_at at = points[key];
        draw_theta(law, key, theta);
        for (int j = 0; j < FPL_LAW_PARAMS; j++) grad[j] = 1e300;
        const double value = f(law, theta, &at, grad);
        if (isnan(value)) {
            /* a critical size needs a penalty that rises with data; a curve law's loss may be negative */
            assert_false(f == law->log_loss && !fpl_law_takes_schedule(law));
            continue;
        }
        if (fpl_law_takes_schedule(law) && value < -1) continue; /* next to a loss of 0 */
        checked++;
        assert_true(value == f(law, theta, &at, NULL));
        for (int j = 0; j < law->params; j++) {
            const double t = theta[j];
            double side[4];
            for (int k = 0; k < 4; k++) {
                static const double steps[4] = {-2, -1, 1, 2};
                theta[j] = t + steps[k] * h;
                side[k] = f(law, theta, &at, NULL);
            }
            theta[j] = t;
            const double slope = (side[0] - 8 * side[1] + 8 * side[2] - side[3]) / (12 * h);
            if (isnan(slope) && f == law->log_dcrit) continue; /* one side has no critical size */
            if (!(fabs(slope - grad[j]) <= 1e-8 * (1 + fabs(value) + fabs(slope))))
                fail_msg("%s %s: d/d%s is %.12g, by differences %.12g", law->name, what, law->param[j].name,
                         grad[j], slope);
        }
    }
    assert_true(checked > POINTS / 4);
    fpl_curve_free(&curve);
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
    assert_true(laws >= 23);
}

static void test_parametrisations(void **state) {
    (void)state;
    struct fpl_law_at points[POINTS];
    struct fpl_curve curve;
    assert_int_equal(fpl_curve_make(&schedule, &curve, NULL), FPL_OK);
    for (size_t i = 0; fpl_laws[i] != NULL; i++) {
        const struct fpl_law *law = fpl_laws[i];
        double theta[FPL_LAW_PARAMS], published[FPL_LAW_PARAMS], again[FPL_LAW_PARAMS], moved[FPL_LAW_PARAMS];
        assert_true(law->params <= FPL_LAW_PARAMS && law->citation[0] != '\0' && law->formula[0] != '\0');
        assert_ptr_equal(fpl_law_find(law->name), law);
        const struct fpl_centre here = draw_points(law, &curve, points), there = {here.n + 3, here.d - 2};
        int compared = 0;
        for (uint64_t key = 0; key < 20; key++) {
            draw_theta(law, key, theta);
            law->publish(law, theta, &here, published);
            law->internal(law, published, &here, again);
            law->internal(law, published, &there, moved);
            for (int j = 0; j < law->params; j++) assert_true(fabs(again[j] - theta[j]) < 1e-11 * 60);
            if (law->log_loss == NULL) continue;
            struct fpl_question q = draw_question(4 * key + 8); /* with learning rate and batch */
            struct fpl_law_at a, b;
            q.curve = &curve;
            q.value[FPL_VAR_LR] = 0.3;
            q.value[FPL_VAR_BATCH] = 2.0;
            fpl_law_place(law, &q, &here, &a);
            fpl_law_place(law, &q, &there, &b);
            const double x = law->log_loss(law, theta, &a, NULL), y = law->log_loss(law, moved, &b, NULL);
            if (isnan(x) && fpl_law_takes_schedule(law)) continue; /* annealing saves more than there is */
            if (!(fabs(x - y) < 1e-9 * (1 + fabs(x)))) fail_msg("%s: %.15g and %.15g", law->name, x, y);
            compared++;
        }
        if (law->log_loss != NULL && compared < 5) fail_msg("%s: hardly any point", law->name);
    }
    fpl_curve_free(&curve);
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

/* The Hessian is positive definite within 4 octaves of the optimum, wherever the two directions differ:
 * by differences of the analytic slopes, against the least that two directions at that angle leave. */
static void test_bowl_is_positive_definite(void **state) {
    (void)state;
    const double h = 1e-4;
    size_t checked = 0;
    for (uint64_t key = 0; key < 4000; key++) {
        double t[6], u = uniform(20 * key + 10, -4 * OCTAVE, 4 * OCTAVE),
                     v = uniform(20 * key + 11, -4 * OCTAVE, 4 * OCTAVE), slope[4][2], dt[6];
        for (uint64_t j = 0; j < 6; j++) t[j] = uniform(20 * key + j, -1, 1);
        if (fabs(1 - t[1] * t[4]) < 0.1) continue; /* u + r1 v and v + r2 u nearly the same direction */
        for (int k = 0; k < 4; k++)
            fpl_bowl(t,
                     u + (k == 0   ? h
                          : k == 1 ? -h
                                   : 0),
                     v + (k == 2   ? h
                          : k == 3 ? -h
                                   : 0),
                     &slope[k][0], &slope[k][1], dt);
        const double uu = (slope[0][0] - slope[1][0]) / (2 * h), uv = (slope[2][0] - slope[3][0]) / (2 * h),
                     vv = (slope[2][1] - slope[3][1]) / (2 * h);
        assert_true(uu > 0 && vv > 0 && uu * vv - uv * uv > 0);
        checked++;
    }
    assert_true(checked > 3000);
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
        cmocka_unit_test(test_bowl_is_convex), cmocka_unit_test(test_bowl_is_positive_definite),
        cmocka_unit_test(test_bowl_series),    cmocka_unit_test(test_linear_algebra),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
