/* Options of a fit on synthetic tables: objectives agree where they must, weights follow the seeds'
 * variance, censored runs steepen the bowl, held and tied parameters stay, bases are told apart, profile
 * intervals meet the likelihood they claim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../sim/law/contest.h"
#include "law_design.h"

static struct fpl_fit *fit_with(const char *law, const struct fpl_runs *runs,
                                struct fpl_fit_options options) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    options.threads = 2;
    options.level = 0.95;
    if (fpl_law_fit(fpl_law_find(law), runs, &options, &fit, &err) != FPL_OK)
        fail_msg("%s: %s", law, err.text);
    return fit;
}

static double value(const struct fpl_fit *fit, const char *name) {
    struct fpl_estimate e;
    if (!fpl_fit_value(fit, name, &e)) fail_msg("no parameter %s", name);
    return e.value;
}

/* Without noise all objectives have the same minimum; with it each is least at its own. */
static void test_objectives(void **state) {
    (void)state;
    struct design d;
    const struct fpl_law *law = fpl_law_find("chinchilla");
    for (int noisy = 0; noisy < 2; noisy++) {
        struct fpl_fit *fit[FPL_OBJECTIVES];
        double sums[FPL_OBJECTIVES][2];
        assert_true(design_make(&d, law, 3, noisy));
        if (!noisy)
            for (size_t i = 0; i < d.runs.count; i++) {
                struct fpl_question q = fpl_question_of_run(&d.runs.run[i]);
                struct fpl_law_at at;
                fpl_law_place(law, &q, &d.centre, &at);
                d.runs.run[i].loss = exp(law->log_loss(law, d.theta, &at, NULL));
            }
        for (int k = 0; k < FPL_OBJECTIVES; k++) {
            fit[k] = fit_with("chinchilla", &d.runs,
                              (struct fpl_fit_options){.objective = (enum fpl_objective_kind)k});
            sums[k][0] = sums[k][1] = 0.0;
            for (size_t i = 0; i < d.runs.count; i++) {
                if (d.runs.run[i].status != FPL_RUN_OK) continue;
                const struct fpl_point_at at = fpl_point_of_run(&d.runs.run[i]);
                const double r = log(d.runs.run[i].loss / fpl_fit_loss(fit[k], &at));
                sums[k][0] += r * r;
                sums[k][1] += fabs(r);
            }
        }
        if (noisy) {
            assert_true(sums[FPL_SQUARED_LOG][0] < sums[FPL_HUBER_LOG][0]);
            assert_true(sums[FPL_SQUARED_LOG][0] < sums[FPL_ABSOLUTE_LOG][0]);
            assert_true(sums[FPL_ABSOLUTE_LOG][1] < sums[FPL_HUBER_LOG][1]);
            assert_true(sums[FPL_ABSOLUTE_LOG][1] < sums[FPL_SQUARED_LOG][1]);
        } else {
            for (int k = 0; k < FPL_OBJECTIVES; k++)
                assert_true(fabs(value(fit[k], "alpha") - d.theta[2]) < 1e-4);
        }
        for (int k = 0; k < FPL_OBJECTIVES; k++) fpl_fit_free(fit[k]);
        design_end(&d);
    }
}

/* Settings of the smallest model ten times as noisy: weighing them down brings the fit nearer the truth,
 * and each cell's weight follows its noise. */
static void test_seed_weights(void **state) {
    (void)state;
    double off[2] = {0.0, 0.0};
    for (uint64_t table = 0; table < 6; table++) {
        struct design d;
        assert_true(design_make(&d, fpl_law_find("chinchilla"), table, 0));
        for (size_t i = 0; i < d.runs.count; i++)
            if (d.runs.run[i].N == synthetic_N[0])
                d.runs.run[i].loss *= exp(0.15 * synthetic_noise(table + 77, i));
        for (int k = 0; k < 2; k++) {
            struct fpl_fit *fit =
                fit_with("chinchilla", &d.runs,
                         (struct fpl_fit_options){.objective = FPL_SQUARED_LOG, .seed_weights = k});
            const struct fpl_point_at at = {synthetic_N[2], synthetic_D[2], NONE, NONE, NONE, NONE, NONE};
            const struct fpl_question q = fpl_question_of_point(&at);
            struct fpl_law_at point;
            fpl_law_place(d.law, &q, &d.centre, &point);
            off[k] += pow(log(fpl_fit_loss(fit, &at)) - d.law->log_loss(d.law, d.theta, &point, NULL), 2);
            fpl_fit_free(fit);
        }
        design_end(&d);
    }
    assert_true(off[1] < off[0]);
}

/* Runs that diverged on the high side of a bowl fitted to the low side only: censored, they cannot be
 * predicted low. */
static void test_censoring(void **state) {
    (void)state;
    struct design d;
    assert_true(design_make(&d, fpl_law_find("bowl"), 2, 0));
    size_t diverged = 0;
    for (size_t i = 0; i < d.runs.count; i++)
        if (log(d.runs.run[i].lr) > -5.0) d.runs.run[i].status = FPL_RUN_DIVERGED, diverged++;
    struct fpl_fit *plain = fit_with("bowl", &d.runs, (struct fpl_fit_options){.window = 0.5}),
                   *censored =
                       fit_with("bowl", &d.runs, (struct fpl_fit_options){.window = 0.5, .censor = 1});
    struct fpl_fit_summary a, b;
    fpl_fit_summarize(plain, &a);
    fpl_fit_summarize(censored, &b);
    assert_int_equal(a.left_out - b.left_out, diverged);
    assert_int_equal(b.used - a.used, diverged);
    const struct fpl_point_at far = {26.6e3, 1e6, exp(-3.5), exp(5.3), NONE, NONE, NONE};
    assert_true(fpl_fit_loss(censored, &far) > fpl_fit_loss(plain, &far));
    fpl_fit_free(plain);
    fpl_fit_free(censored);
    design_end(&d);
}

/* A held parameter stays; the objective cannot fall by holding one. */
static void test_restrictions(void **state) {
    (void)state;
    struct design d;
    assert_true(design_make(&d, fpl_law_find("joint"), 4, 0));
    struct fpl_fit *full = fit_with("joint", &d.runs, (struct fpl_fit_options){.delta = 0.02, .window = 0.5}),
                   *held = fit_with(
                       "joint", &d.runs,
                       (struct fpl_fit_options){.delta = 0.02, .window = 0.5, .fix = "batch_N=0.25,c=0"});
    assert_true(value(held, "batch_N") == 0.25 && value(held, "c") == 0.0);
    struct fpl_fit_summary a, b;
    fpl_fit_summarize(full, &a);
    fpl_fit_summarize(held, &b);
    assert_true(b.objective_value > a.objective_value);
    fpl_fit_free(full);
    fpl_fit_free(held);
    design_end(&d);
}

/* An interaction of 0.1 is found by held-out cells; the additive base is taken where there is none. */
static void test_bases(void **state) {
    (void)state;
    struct design d;
    const char *names[4];
    double rms[4];
    assert_true(design_make(&d, fpl_law_find("joint"), 1, 0));
    struct fpl_fit *fit = fit_with("joint", &d.runs, (struct fpl_fit_options){.base = "auto"});
    size_t count = 0;
    for (; count < 4; count++) {
        names[count] = fpl_fit_base_tried(fit, count, &rms[count]);
        assert_non_null(names[count]);
    }
    assert_null(fpl_fit_base_tried(fit, 4, &rms[0]));
    double least = HUGE_VAL, chosen = HUGE_VAL;
    for (int k = 0; k < 4; k++) {
        least = fmin(least, isnan(rms[k]) ? HUGE_VAL : rms[k]);
        if (strcmp(names[k], fpl_law_base(fpl_fit_law(fit))) == 0) chosen = rms[k];
    }
    assert_true(chosen <= 1.2 * least);
    fpl_fit_free(fit);
    for (size_t k = 0; k < 4; k++) {
        fit = fit_with("joint", &d.runs, (struct fpl_fit_options){.base = names[k]});
        assert_string_equal(fpl_law_base(fpl_fit_law(fit)), names[k]);
        fpl_fit_free(fit);
    }
    design_end(&d);
}

/* At a profile's end, the objective with the parameter held there has risen by what its level says. */
static void test_profile(void **state) {
    (void)state;
    struct design d;
    char fix[64];
    assert_true(design_make(&d, fpl_law_find("chinchilla"), 5, 0));
    struct fpl_fit_options o = {.objective = FPL_SQUARED_LOG, .profile = "alpha"};
    struct fpl_fit *fit = fit_with("chinchilla", &d.runs, o);
    struct fpl_estimate e = {0, 0, 0};
    for (size_t i = 0; i < fpl_fit_param_count(fit) && e.lo == 0; i++) fpl_fit_profile(fit, i, &e);
    struct fpl_fit_summary s;
    fpl_fit_summarize(fit, &s);
    assert_true(e.lo < e.value && e.value < e.hi);
    const double n = (double)s.used, variance = n * s.rms_log_residual * s.rms_log_residual / (n - 5);
    for (int side = 0; side < 2; side++) {
        struct fpl_fit_summary held;
        snprintf(fix, sizeof fix, "alpha=%.17g", side == 0 ? e.lo : e.hi);
        struct fpl_fit *there = fit_with("chinchilla", &d.runs,
                                         (struct fpl_fit_options){.objective = FPL_SQUARED_LOG, .fix = fix});
        fpl_fit_summarize(there, &held);
        const double statistic = 2 * (held.objective_value - s.objective_value) / variance;
        /* the ends are closed to 1e-4 of the interval, the statistic is a square */
        assert_true(fabs(statistic / 3.841459 - 1) < 0.01);
        fpl_fit_free(there);
    }
    fpl_fit_free(fit);
    design_end(&d);
}

/* chi squared against values of any table */
static void test_distributions(void **state) {
    (void)state;
    assert_true(fabs(fpl_chi_squared_above(3.841458820694124, 1) - 0.05) < 1e-12);
    assert_true(fabs(fpl_chi_squared_above(18.307038053275146, 10) - 0.05) < 1e-12);
    assert_true(fabs(fpl_chi_squared_above(2, 2) - exp(-1)) < 1e-14);
    assert_true(fpl_chi_squared_above(0, 3) == 1.0);
    assert_true(fabs(fpl_normal_width(0.95) - 1.959963984540054) < 1e-12);
}

/* A contest on a synthetic grid: every model is scored, and the figures are written. */
static void test_contest(void **state) {
    (void)state;
    struct synthetic s;
    struct fpl_grid *grid;
    struct fpl_score score[2];
    struct fpl_error err = {FPL_OK, ""};
    synthetic_grid(&s, 0.002, 1);
    assert_int_equal(fpl_grid_new(&s.runs, &grid, &err), FPL_OK);
    const struct fpl_fit_options options = {.level = 0.95, .threads = 2, .bootstrap = 100, .window = 0.1};
    const struct fpl_contestant who[2] = {{"recipe", "steplaw", NULL, NULL, "batch_N"},
                                          {"joint", "joint", "chinchilla-nd", "bowl_s1=0", NULL}};
    for (int k = 0; k < 2; k++)
        if (fpl_contest(&who[k], &s.runs, grid, &options, &score[k], &err) != FPL_OK)
            fail_msg("%s", err.text);
    /* joint uses every run, the recipe the few best: on its own landscape joint loses no more; steps of
     * 0.75 octaves leave too few runs within 3 % for a quartic */
    assert_true(score[1].nearest.value <= score[0].nearest.value && score[1].nearest.value < 0.01);
    assert_true(score[1].off_grid == 0 && isnan(score[1].smoothed.value));
    assert_true(score[1].held_out_rms < 0.01 && isnan(score[0].rms) && score[1].parameters == 17);
    assert_int_equal(score[1].beyond, 3);
    double noise;
    const struct fpl_estimate perfect = fpl_grid_perfect(grid, 50, 0.95, 0, &noise);
    char *json = fpl_scores_to_json(score, 2, grid, &perfect, noise, &s.runs, "1", "a");
    assert_non_null(json);
    assert_non_null(strstr(json, "\"release\": \"batch_N\""));
    assert_non_null(strstr(json, "\"smoothed_regret\": {"));
    free(json);
    fpl_grid_free(grid);
    synthetic_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objectives),    cmocka_unit_test(test_seed_weights),
        cmocka_unit_test(test_censoring),     cmocka_unit_test(test_restrictions),
        cmocka_unit_test(test_bases),         cmocka_unit_test(test_profile),
        cmocka_unit_test(test_distributions), cmocka_unit_test(test_contest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
