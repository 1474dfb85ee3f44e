/* Schedules and their sums against definitions written step by step: S1, the annealing area S2 and
 * the multi-power sum; what schedules are refused; tables of curves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_design.h"

enum { STEPS = 3000, WARM = 60 };

/* Rates of steps 1..STEPS by kind, warm-up first. */
static double rate(int kind, int step) {
    if (step <= WARM) return 0.01 * step / WARM;
    const double t = (double)(step - WARM) / (STEPS - WARM);
    if (kind == 0) return 0.0001 + 0.0099 * (0.5 + 0.5 * cos(3.141592653589793 * t));
    if (kind == 1) return t < 0.7 ? 0.01 : 0.01 * (1 - t) / 0.3;
    return t < 0.3 ? 0.01 : t < 0.5 ? 0.004 : 0.007 * (1 - t); /* falls, rises again, falls */
}

static struct fpl_question ask_of(int kind, int every, double *memory, struct fpl_schedule *schedule) {
    size_t n = 0;
    for (int step = 0; step <= STEPS; step++)
        if (step % every == 0 || step == WARM || step == STEPS) {
            memory[n] = step;
            memory[STEPS + 1 + n++] = rate(kind, step);
        }
    *schedule = (struct fpl_schedule){n, memory, memory + STEPS + 1};
    struct fpl_question q;
    fpl_question_clear(&q);
    q.schedule = schedule;
    return q;
}

static void test_sums(void **state) {
    (void)state;
    double *memory = malloc(2 * (STEPS + 1) * sizeof *memory);
    for (int kind = 0; kind < 3; kind++) {
        struct fpl_schedule schedule;
        struct fpl_curve curve;
        ask_of(kind, 1, memory, &schedule);
        assert_int_equal(fpl_curve_make(&schedule, &curve, NULL), FPL_OK);
        assert_true(curve.warm_step == WARM && curve.last_step == STEPS);
        double sum = 0, momentum = 0, area = 0;
        for (int step = 1; step <= STEPS; step++) {
            double lr, s1, s2;
            sum += rate(kind, step);
            if (step <= WARM) continue;
            momentum = 0.999 * momentum + (rate(kind, step - 1) - rate(kind, step));
            area += momentum;
            fpl_curve_at(&curve, step, &lr, &s1, &s2);
            /* each recurrence rounds once a step, and the area sums the momenta of all */
            assert_true(fabs(lr - rate(kind, step)) < 1e-15);
            assert_true(fabs(s1 - sum) < STEPS * 1e-15 * sum);
            assert_true(fabs(s2 - area) < STEPS * 1e-14);
        }
        fpl_curve_free(&curve);
    }
    free(memory);
}

/* The multi-power loss of the binned sum against the sum over all steps, in published form.  A bin's
 * midpoint rule errs by width^2/24 times the integrand's second derivative, about 1/bins^2 of the gain. */
static void test_multipower(void **state) {
    (void)state;
    const double p[7] = {2.5, 0.5, 0.45, 25, 0.6, 1.5, 0.55};
    const struct fpl_law *law = fpl_law_find("multipower");
    const struct fpl_centre centre = {log(10), log(0.01)};
    double theta[FPL_LAW_PARAMS], *memory = malloc(2 * (STEPS + 1) * sizeof *memory);
    law->internal(law, p, &centre, theta);
    for (int kind = 0; kind < 3; kind++)
        for (int at = 500; at <= STEPS; at += 625) {
            struct fpl_schedule schedule;
            struct fpl_curve curve;
            struct fpl_law_at point;
            struct fpl_question q = ask_of(kind, 1, memory, &schedule);
            assert_int_equal(fpl_curve_make(&schedule, &curve, NULL), FPL_OK);
            q.curve = &curve;
            q.value[FPL_VAR_STEP] = at;
            fpl_law_place(law, &q, &centre, &point);
            const double found = exp(law->log_loss(law, theta, &point, NULL));
            double total = 0, gain = 0, since = 0;
            for (int k = 1; k <= at; k++) total += rate(kind, k);
            for (int k = at; k > WARM; k--) {
                since += rate(kind, k);
                if (rate(kind, k) > 0)
                    gain += (rate(kind, k - 1) - rate(kind, k)) *
                            (1 - pow(1 + p[5] * pow(rate(kind, k), -p[6]) * since, -p[4]));
            }
            const double expected = p[0] + p[1] * pow(total, -p[2]) - p[3] * gain;
            if (!(fabs(found - expected) < 20 * p[3] * 0.01 / (FPL_CURVE_BINS * FPL_CURVE_BINS)))
                fail_msg("kind %d, step %d: %.10g, step by step %.10g", kind, at, found, expected);
            fpl_curve_free(&curve);
        }
    free(memory);
}

/* The annealing law in published form, asked through a fit. */
static void test_annealing(void **state) {
    (void)state;
    struct fpl_fit fit = {.law = fpl_law_find("annealing"),
                          .status = FPL_FIT_CONVERGED,
                          .level = 0.95,
                          .value = {2.6, 0.4, 0.5, 0.07},
                          .active = {1, 1, 1, 1}};
    double *memory = malloc(2 * (STEPS + 1) * sizeof *memory), sum = 0, momentum = 0, area = 0;
    struct fpl_schedule schedule;
    struct fpl_answer a;
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_question q = ask_of(0, 1, memory, &schedule);
    for (int step = 1; step <= STEPS; step++) {
        sum += rate(0, step);
        if (step > WARM) momentum = 0.999 * momentum + (rate(0, step - 1) - rate(0, step)), area += momentum;
    }
    assert_int_equal(fpl_fit_ask(&fit, &q, &a, &err), FPL_OK); /* the last step */
    assert_true(fabs(a.loss.value - (2.6 + 0.4 * pow(sum, -0.5) - 0.07 * area)) < 1e-10);
    q.value[FPL_VAR_STEP] = WARM;
    assert_int_equal(fpl_fit_ask(&fit, &q, &a, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "after warm-up"));
    q.schedule = NULL;
    assert_int_equal(fpl_fit_ask(&fit, &q, &a, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "schedule"));
    free(memory);
}

static void test_bad_schedules(void **state) {
    (void)state;
    static const double back[] = {0, 5, 5}, rates[] = {1, 1, 1}, negative[] = {1, -1, 1},
                        nan[] = {1, (double)NAN, 1}, good[] = {0, 5, 9};
    const struct fpl_schedule bad[] = {
        {3, back, rates}, {3, good, negative}, {3, good, nan}, {0, good, rates}};
    for (size_t i = 0; i < 4; i++) {
        struct fpl_curve curve;
        struct fpl_error err = {FPL_OK, ""};
        assert_int_equal(fpl_curve_make(&bad[i], &curve, &err), FPL_INVALID);
        assert_true(err.text[0] != '\0');
    }
}

/* Rows of two curves, one of them out of order and with a diverged run's among them. */
static void test_table(void **state) {
    (void)state;
    struct fpl_runs runs = {0};
    runs.run = calloc(800, sizeof *runs.run);
    snprintf(runs.source, sizeof runs.source, "curves");
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < 380; i++) {
            struct fpl_run *r = &runs.run[runs.count++];
            const int step = c == 0 ? i : 379 - i;
            fpl_run_blank(r);
            snprintf(r->run, sizeof r->run, "c%d", c);
            r->step = step;
            r->lr = step < 10 ? step * 1e-3 : c == 0 ? 1e-2 : 1e-2 * (1 - step / 400.0);
            r->loss = 3 - 0.001 * step;
        }
    runs.run[100].loss = NONE; /* a point of the schedule only */
    struct fpl_run *r = &runs.run[runs.count++];
    *r = runs.run[50];
    r->step = 500;
    r->status = FPL_RUN_DIVERGED;
    struct fpl_problem problem = {.threads = 1};
    struct fpl_left_list left = {0};
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_rows_select(fpl_law_find("annealing"), &runs, 0, &problem, &left, &err) != FPL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(problem.cells, 2);
    assert_int_equal(problem.curve_count, 2);
    /* more than 256 points a curve: every second */
    assert_true(problem.count <= 2 * 256 && problem.count >= 2 * 180);
    for (size_t i = 1; i < problem.count; i++) {
        const struct fpl_run *a = &runs.run[problem.row[i - 1].run], *b = &runs.run[problem.row[i].run];
        assert_true(problem.row[i].cell != problem.row[i - 1].cell || a->step < b->step);
    }
    size_t warm = 0, diverged = 0, blank = 0;
    for (size_t i = 0; i < left.count; i++) {
        warm += strcmp(left.item[i].why, "in warm-up") == 0;
        diverged += strcmp(left.item[i].why, "diverged") == 0;
        blank += strstr(left.item[i].why, "loss is nan") != NULL;
    }
    assert_int_equal(warm, 22); /* steps 0 to 10 of both */
    assert_int_equal(diverged, 1);
    assert_int_equal(blank, 1);
    free(left.item);
    fpl_problem_free(&problem);
    fpl_runs_free(&runs);
}

/* Where multipower's beta is pushed to its bound only B's product with it is told: B is not identified. */
static void test_bound_identifies_nothing(void **state) {
    (void)state;
    enum { B = 3, BETA = 4 };
    int seen = 0;
    for (uint64_t table = 0; table < 12 && seen < 3; table++) {
        struct design d;
        struct fpl_fit *fit = NULL;
        const struct fpl_fit_options o = {.level = 0.95, .threads = 2};
        assert_true(design_make(&d, fpl_law_find("multipower"), table, 1));
        const enum fpl_code code = fpl_law_fit(d.law, &d.runs, &o, &fit, NULL);
        if (code == FPL_OK && fit->value[BETA] < 0.010001) {
            seen++;
            assert_false(fit->identified[BETA]);
            assert_false(fit->identified[B]);
        }
        fpl_fit_free(fit);
        design_end(&d);
    }
    assert_true(seen > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),      cmocka_unit_test(test_multipower),
        cmocka_unit_test(test_annealing), cmocka_unit_test(test_bad_schedules),
        cmocka_unit_test(test_table),     cmocka_unit_test(test_bound_identifies_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
