/* A model holds every model nested in it: at one delta, on the same rows, its minimum is at most that of a
 * fit with a parameter held at 0, which has starts of its own.  The objective is written down here a
 * second time.  The text study's runs have a ridge of learning rate and batch with a saddle in it, behind
 * which a fit without the nested restarts (restart.c) stops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "law_design.h"

static struct fpl_fit *fit_of(const struct fpl_law *law, const struct fpl_runs *runs, double delta,
                              double window, const char *fix) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_fit_options options = {
        .delta = delta, .window = window, .fix = fix, .level = 0.95, .threads = 2};
    const enum fpl_code code = fpl_law_fit(law, runs, &options, &fit, &err);
    if (code != FPL_OK && code != FPL_NOT_CONVERGED) fail_msg("%s, %s: %s", law->name, fix, err.text);
    return fit;
}

/* Huber's loss, summed, and the pseudo-runs of one fit (its delta, scale and free parameters) at the
 * parameters of another. */
static double objective_at(const struct fpl_problem *p, const struct fpl_fit *fit,
                           const struct fpl_fit *where) {
    double t[FPL_LAW_PARAMS], sum = 0.0;
    p->law->internal(p->law, where->value, &p->centre, t);
    for (size_t i = 0; i < p->count; i++) {
        const double r = fabs(p->row[i].target - p->law->log_loss(p->law, t, &p->row[i].at, NULL));
        sum += r <= fit->delta ? 0.5 * r * r : fit->delta * (r - 0.5 * fit->delta);
    }
    for (int j = 0; j < p->law->params; j++) {
        const struct fpl_law_param *info = &p->law->param[j];
        if (!(info->prior > 0.0) || !p->active[j]) continue;
        const double z = fit->scale * (t[j] - info->prior_at) / info->prior;
        sum += 0.5 * z * z;
    }
    return sum;
}

static void check_nested(const char *label, const struct fpl_law *law, const struct fpl_runs *runs) {
    static const char *const held[] = {"batch_N", "batch_D", "lr_N", "lr_D", "lr_shift", "c", NULL};
    struct fpl_problem problem = {.threads = 1};
    struct fpl_left_list left = {0, 0, NULL};
    struct fpl_fit *full = fit_of(law, runs, 0.0, 0.0, NULL);
    assert_int_equal(fpl_rows_select(law, runs, full->window, &problem, &left, NULL), FPL_OK);
    const double own = objective_at(&problem, full, full);
    assert_true(fabs(own - full->objective) <= 1e-9 * own);
    for (size_t k = 0; held[k] != NULL; k++) {
        char fix[40];
        int known = 0;
        for (int j = 0; j < law->params; j++)
            known |= strcmp(law->param[j].name, held[k]) == 0 && problem.active[j];
        if (!known) continue;
        snprintf(fix, sizeof fix, "%s=0", held[k]);
        struct fpl_fit *less = fit_of(law, runs, full->delta, full->window, fix);
        const double nested = objective_at(&problem, full, less);
        if (own > nested * (1.0 + 1e-6))
            fail_msg("%s: %.9g with every parameter, %.9g with %s", label, own, nested, fix);
        fpl_fit_free(less);
    }
    fpl_fit_free(full);
    free(left.item);
    fpl_problem_free(&problem);
}

#define STUDY FPL_TEST_SOURCE "/results/2026-11-22-gcide-text/runs.csv"

static void test_text_study(void **state) {
    (void)state;
    static const char *const parts[] = {"recipe = fp32",
                                        "recipe != 'capybara:e1m1/32' and recipe != 'capybara:e2m1/32' and "
                                        "recipe != 'capybara:e1m2/32' and recipe != 'capybara:e3m0/32' and "
                                        "recipe != 'capybara:e2m1/128'"};
    for (int k = 0; k < 2; k++)
        for (size_t b = 0; fpl_law_joints[b] != NULL; b++) {
            if (k == 1 && fpl_law_joints[b] != &fpl_law_joint) continue; /* a second each */
            struct fpl_runs runs;
            struct fpl_error err;
            if (fpl_runs_read_csv(STUDY, NULL, &runs, &err) != FPL_OK ||
                fpl_runs_where(&runs, parts[k], &err) != FPL_OK)
                fail_msg("%s", err.text);
            check_nested(parts[k], fpl_law_joints[b], &runs);
            fpl_runs_free(&runs);
        }
}

static void test_synthetic(void **state) {
    (void)state;
    static const char *const laws[] = {"joint", "chinchilla-nd"};
    for (int k = 0; k < 2; k++)
        for (uint64_t table = 0; table < 4; table++) {
            struct design d;
            assert_true(design_make(&d, fpl_law_find(laws[k]), table, 1));
            check_nested(laws[k], d.law, &d.runs);
            design_end(&d);
        }
}

/* A bowl's two directions exchanged: the same landscape. */
static void test_mirror(void **state) {
    (void)state;
    const double t[6] = {-3.0, 0.4, 0.3, -3.2, -0.5, -0.2}, straight[6] = {-3.0, 0.0, 0.3, -3.2, -0.5, -0.2};
    double m[6];
    assert_int_equal(fpl_bowl_mirror(straight, m), 0);
    assert_int_equal(fpl_bowl_mirror(t, m), 1);
    for (int i = -3; i <= 3; i++)
        for (int j = -3; j <= 3; j++) {
            const double q = fpl_bowl(t, 0.7 * i, 0.9 * j, NULL, NULL, NULL),
                         r = fpl_bowl(m, 0.7 * i, 0.9 * j, NULL, NULL, NULL);
            assert_true(fabs(q - r) <= 1e-12 * (1.0 + q));
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mirror),
        cmocka_unit_test(test_synthetic),
        cmocka_unit_test(test_text_study),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
