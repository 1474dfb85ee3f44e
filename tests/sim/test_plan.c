/* The planner against closed forms and against formulas written again here.
 *
 *   Chinchilla   min of E + A/N^a + B/D^b at 6 N D = C:  N* = G (C/6)^(b/(a+b)), G = (a A/(b B))^(1/(a+b)),
 *                by Lagrange; every budget, constraint and slope follows
 *   limits       max_D, N, memory, batches, inference tokens: what holds, and that it is said
 *
 * A minimum found to rounding of the loss, u = 2^-52, has its place known to sqrt(u L/L'') in ln N: 1e-6
 * here; a slope over a factor 4 in C then to 2e-6/ln 4.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plan_helpers.h"

#define PLACE 2e-6

/* ---- Chinchilla in closed form ------------------------------------------------------------------- */

struct constants {
    double E, A, alpha, B, beta;
};

static double of(const struct fpl_fit *fit, const char *name) {
    struct fpl_estimate e;
    assert_true(fpl_fit_value(fit, name, &e));
    return e.value;
}

static struct constants constants_of(const struct fpl_fit *fit) {
    return (struct constants){of(fit, "E"), of(fit, "A"), of(fit, "alpha"), of(fit, "B"), of(fit, "beta")};
}

static double best_n(const struct constants *c, double flop) {
    const double sum = c->alpha + c->beta;
    return pow(c->alpha * c->A / (c->beta * c->B), 1.0 / sum) * pow(flop / 6.0, c->beta / sum);
}

static double loss_of(const struct constants *c, double N, double D) {
    return c->E + c->A * pow(N, -c->alpha) + c->B * pow(D, -c->beta);
}

static void test_lagrange(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("chinchilla:refit");
    const struct constants c = constants_of(fit);
    const struct fpl_plan_format f = format("bf16", NONE, 1.0);
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    struct fpl_fit_vector v;
    fpl_fit_vector_at(fit, -1, &v);
    for (double flop = 1e15; flop < 1e30; flop *= 31.0) {
        struct fpl_plan_point cold, warm;
        assert_true(fpl_plan_best(&v, &f, &none, flop, 0.0, &cold));
        const double N = best_n(&c, flop);
        assert_near(cold.N, N, PLACE);
        assert_near(cold.D, flop / (6.0 * N), PLACE);
        assert_near(cold.loss, loss_of(&c, N, flop / (6.0 * N)), 1e-13);
        assert_near(cold.spent, 1.0, 1e-13);
        assert_int_equal(cold.bounds, 0);
        assert_true(isnan(cold.lr) && isnan(cold.batch_tokens));
        assert_true(fpl_plan_best(&v, &f, &none, flop, 2.0 * N, &warm));
        assert_near(warm.N, N, PLACE);
        assert_true(fpl_plan_best(&v, &f, &none, flop, 1e3 * N, &warm)); /* a hint that is no bracket */
        assert_near(warm.N, N, PLACE);
    }
    fpl_fit_free(fit);
}

static void test_allocation(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("chinchilla:refit");
    const struct constants c = constants_of(fit);
    const struct fpl_plan_format f[1] = {format("bf16", NONE, 1.0)};
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    const double flop[] = {1e18, 3e19, 1e21, 2e23};
    struct fpl_allocation a;
    struct fpl_plan plan;
    struct fpl_error err;
    const double expected = c.beta / (c.alpha + c.beta);
    assert_true(fpl_plan_allocation(fit, f, &none, flop, 4, &a));
    assert_near(a.N.value, expected, PLACE);
    assert_near(a.D.value, 1.0 - expected, PLACE);
    assert_true(isnan(a.N.lo));
    assert_false(fpl_plan_allocation(fit, f, &none, flop, 1, &a));
    assert_int_equal(fpl_plan_make(fit, f, 1, &none, 1e21, &plan, &err), FPL_OK);
    assert_near(plan.row[0].exponent_N.value, expected, 2.0 * PLACE / log(4.0) / expected);
    /* the flat range ends where the loss is 0.25 % up */
    for (int side = 0; side < 2; side++) {
        const double N = plan.row[0].flat_N[side];
        assert_near(loss_of(&c, N, 1e21 / (6.0 * N)), 1.0025 * plan.row[0].at.loss, 1e-10);
    }
    fpl_plan_free(&plan);
    fpl_fit_free(fit);
}

static void test_isoflop(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("chinchilla:refit");
    const struct constants c = constants_of(fit);
    const struct fpl_plan_format f = format("bf16", NONE, 1.0);
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    struct fpl_isoflop row[13];
    assert_int_equal(fpl_plan_isoflop(fit, &f, &none, 1e21, row, 13), 13);
    for (int i = 0; i < 13; i++) {
        assert_near(row[i].N * row[i].D * 6.0, 1e21, 1e-12);
        assert_near(row[i].loss.value, loss_of(&c, row[i].N, row[i].D), 1e-13);
        assert_true(i == 6 ? fabs(row[i].above.value) < 1e-13 : row[i].above.value > 0.0);
        if (i > 0) assert_near(row[i].N / row[i - 1].N, sqrt(2.0), 1e-12);
    }
    assert_int_equal(fpl_plan_isoflop(fit, &f, &none, 1e21, row, 5), 5);
    fpl_fit_free(fit);
}

/* ---- limits ---------------------------------------------------------------------------------------- */

static void test_limits(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("chinchilla:refit");
    const struct constants c = constants_of(fit);
    const struct fpl_plan_format f = format("bf16", NONE, 1.0);
    const double flop = 1e21, free_n = best_n(&c, flop), free_d = flop / 6.0 / free_n;
    struct fpl_plan_limits l = FPL_PLAN_NO_LIMITS;

    /* fewer tokens than the optimum's: the model that spends the budget on them */
    l.max_D = 0.25 * free_d;
    struct fpl_plan_point p = limited(fit, &f, l, flop);
    assert_near(p.N, 4.0 * free_n, PLACE);
    assert_near(p.D, l.max_D, PLACE);
    assert_true(p.bounds & FPL_BOUND_MAX_D);
    assert_false(p.bounds & FPL_BOUND_UNSPENT);
    /* more than it wants: no effect */
    l.max_D = 4.0 * free_d;
    p = limited(fit, &f, l, flop);
    assert_near(p.N, free_n, PLACE);
    assert_int_equal(p.bounds, 0);

    /* a given size takes the rest in tokens; with max_D it leaves some of the budget */
    l = FPL_PLAN_NO_LIMITS;
    l.N = 1e9;
    p = limited(fit, &f, l, flop);
    assert_near(p.D, flop / 6e9, 1e-12);
    assert_true(p.bounds == FPL_BOUND_N && p.N == 1e9);
    l.max_D = 1e10;
    p = limited(fit, &f, l, flop);
    assert_true(p.D == 1e10 && (p.bounds & FPL_BOUND_UNSPENT));
    assert_near(p.spent, 0.06, 1e-12);

    /* memory: 2 + 12 bytes a parameter of bf16; fp32's weights are its master copy */
    l = FPL_PLAN_NO_LIMITS;
    l.memory = 14.0 * 0.3 * free_n;
    p = limited(fit, &f, l, flop);
    assert_near(p.N, 0.3 * free_n, 1e-9);
    assert_int_equal(p.bounds, FPL_BOUND_MEMORY);
    assert_near(fpl_plan_memory(&f, &l, p.N), l.memory, 1e-9);
    const struct fpl_plan_format full = format("fp32", NONE, 1.0), narrow = format("e2m1", 32.0, 1.0);
    assert_near(fpl_plan_memory(&full, &l, 1.0), 12.0, 1e-15);
    assert_near(fpl_plan_memory(&narrow, &l, 1.0), 12.0 + 4.0 / 8.0 + 1.0 / 32.0, 1e-15);
    l.state_bytes = 6.0;
    assert_near(fpl_plan_memory(&f, &l, 10.0), 80.0, 1e-15);

    /* a size that memory cannot hold is no answer */
    struct fpl_fit_vector v;
    fpl_fit_vector_at(fit, -1, &v);
    l = (struct fpl_plan_limits){.N = 1e9, .memory = 1e9, .state_bytes = -1.0};
    assert_false(fpl_plan_best(&v, &f, &l, flop, 0.0, &p));
    fpl_fit_free(fit);
}

/* 6 N D + 2 N T = C, by a grid of ln N over the formula. */
static void test_inference(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("chinchilla:refit");
    const struct constants c = constants_of(fit);
    const struct fpl_plan_format f = format("bf16", NONE, 1.0);
    const double flop = 1e21, T = 3e11, step = 1e-5;
    double least = HUGE_VAL, at = 0.0;
    for (double x = log(1e8); x < log(1.6e9); x += step) {
        const double N = exp(x), D = (flop / N - 2.0 * T) / 6.0,
                     loss = D > 0.0 ? loss_of(&c, N, D) : HUGE_VAL;
        if (loss < least) least = loss, at = N;
    }
    struct fpl_plan_limits l = FPL_PLAN_NO_LIMITS;
    l.inference_tokens = T;
    const struct fpl_plan_point p = limited(fit, &f, l, flop);
    assert_near(p.N, at, 2.0 * step);
    assert_near(6.0 * p.N * p.D + 2.0 * p.N * T, flop, 1e-12);
    assert_true(p.N < best_n(&c, flop) && p.loss <= least * (1.0 + 1e-15));
    fpl_fit_free(fit);
}

/* ---- rows ------------------------------------------------------------------------------------------- */

static void test_rows(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper");
    const struct fpl_plan_format f[] = {format("fp32", NONE, 0.5), format("bf16", NONE, 1.0),
                                        format("e4m3", 128.0, 2.0), format("e2m1", 128.0, 4.0)};
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    struct fpl_plan plan;
    struct fpl_error err;
    double size;
    assert_int_equal(fpl_plan_make(fit, f, 4, &none, 1e21, &plan, &err), FPL_OK);
    assert_int_equal(plan.rows, 4);
    assert_string_equal(plan.row[plan.reference].format->name, "bf16");
    for (size_t i = 0; i < 4; i++) {
        const struct fpl_plan_row *r = &plan.row[i];
        assert_true(r->possible && (i == 0 || r->at.loss >= plan.row[i - 1].at.loss));
        assert_near(r->at.loss, least_capybara(1e21 * r->format->speed, r->format->E, r->format->M, &size),
                    1e-13);
        assert_true(isnan(r->loss.lo) && isnan(r->share_best) && !r->within_noise && r->outside > 1.0);
        assert_true(isnan(r->break_even.value) == isnan(r->format->E));
        /* a format whose speed is above its break-even is better than the reference, and only then */
        if (!isnan(r->format->E))
            assert_int_equal(r->format->speed > r->break_even.value,
                             r->at.loss < plan.row[plan.reference].at.loss);
    }
    fpl_plan_free(&plan);
    assert_int_equal(fpl_plan_make(fit, f, 2, &none, 1e28, &plan, &err), FPL_OK);
    assert_non_null(strstr(plan.row[0].note, "fewer tokens than parameters"));
    fpl_plan_free(&plan);
    fpl_fit_free(fit);
}

/* A law that knows no format says so of the format, not of the budget. */
static void test_unknown_to_the_law(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("chinchilla:refit");
    const struct fpl_plan_format f[] = {format("e4m3", 128.0, 2.0), format("bf16", NONE, 1.0)};
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    struct fpl_plan plan;
    struct fpl_error err;
    assert_int_equal(fpl_plan_make(fit, f, 2, &none, 1e21, &plan, &err), FPL_OK);
    assert_true(plan.row[0].possible && isnan(plan.row[0].format->E) && !plan.row[1].possible);
    assert_non_null(strstr(plan.row[1].note, "nothing of the format"));
    fpl_plan_free(&plan);
    fpl_fit_free(fit);
}

/* Every published law either plans or says why it cannot. */
static void test_every_law(void **state) {
    (void)state;
    const struct fpl_plan_format f[] = {format("bf16", NONE, 1.0), format("e4m3", 32.0, 2.0)};
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    int planned = 0, refused = 0;
    for (size_t i = 0; fpl_laws[i] != NULL; i++) {
        const char *name, *source;
        const double *values;
        char text[80];
        if (!fpl_law_preset_at(fpl_laws[i], 0, &name, &source, &values)) continue;
        snprintf(text, sizeof text, "%s:%s", fpl_law_name(fpl_laws[i]), name);
        struct fpl_fit *fit = preset(text);
        struct fpl_error err = {FPL_OK, ""};
        struct fpl_plan plan;
        if (fpl_plan_make(fit, f, 2, &none, 1e21, &plan, &err) == FPL_OK) {
            assert_true(plan.row[0].possible && plan.row[0].at.loss > 0.0);
            fpl_plan_free(&plan);
            planned++;
        } else {
            assert_non_null(strstr(err.text, fpl_law_name(fpl_laws[i])));
            refused++;
        }
        fpl_fit_free(fit);
    }
    assert_true(planned >= 5 && refused >= 3);
}

static void test_bad_input(void **state) {
    (void)state;
    struct fpl_fit *fit = preset("capybara:paper");
    struct fpl_plan_format f = format("bf16", NONE, 1.0);
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    const double budgets[] = {0.0, -1.0, NONE, HUGE_VAL};
    struct fpl_plan plan;
    struct fpl_error err;
    for (int i = 0; i < 4; i++)
        assert_int_equal(fpl_plan_make(fit, &f, 1, &none, budgets[i], &plan, &err), FPL_INVALID);
    assert_int_equal(fpl_plan_format_parse("e4n3", 32.0, 2.0, &f, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "e4m3"));
    assert_int_equal(fpl_plan_format_parse("e4m3", 32.0, 0.0, &f, &err), FPL_INVALID);
    assert_int_equal(fpl_plan_format_parse("e4m3", 32.0, NONE, &f, &err), FPL_INVALID);
    fpl_fit_free(fit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lagrange),
        cmocka_unit_test(test_allocation),
        cmocka_unit_test(test_isoflop),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_inference),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_unknown_to_the_law),
        cmocka_unit_test(test_every_law),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
