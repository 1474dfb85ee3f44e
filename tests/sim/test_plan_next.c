/* What --next proposes, and the intervals of a plan, on a fit of runs made from known constants.
 *
 *   account     the standard error after the proposals equals the posterior of one dense solve,
 *               var - c'(S + s^2 I)^-1 c, over all of them at once: the program updates run by run
 *   first       no candidate that passes the rule has a larger fall per FLOP: the first choice by brute force
 *   truth       runs made at the proposals, added to the table and fitted again, do narrow the decision,
 *               about as far as was said (a bootstrap of 200 knows a standard error to 5 %, the linear
 *               account less: a factor 2)
 *   intervals   hold the truth and are decisions of their own vectors, paired between formats
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../sim/base/config.h"
#include "../../sim/plan/decision.h"
#include "../../sim/plan/plan.h"
#include "../../sim/plan/proposal.h"
#include "law_synthetic.h"
#include "plan_helpers.h"

#define RESAMPLES 200
#define NOISE 0.015

static const double truth[8] = {4.0, 0.3, 60.0, 0.45, 0.95, 60.0, 1.8, 1.2}; /* capybara, published order */

struct bench {
    struct synthetic s;
    struct fpl_fit *fit;
    struct fpl_plan_format format[3];
};

static struct fpl_fit *fit_of(const struct synthetic *s) {
    struct fpl_fit_options o = FPL_FIT_DEFAULTS;
    struct fpl_fit *fit;
    struct fpl_error err = {FPL_OK, ""};
    o.bootstrap = RESAMPLES;
    const enum fpl_code code = fpl_law_fit(fpl_law_find("capybara"), &s->runs, &o, &fit, &err);
    if (code != FPL_OK && code != FPL_NOT_CONVERGED) fail_msg("%s", err.text);
    return fit;
}

static int set_up(void **state) {
    struct bench *b = calloc(1, sizeof *b);
    const struct fpl_law *law = fpl_law_find("capybara");
    synthetic_begin(&b->s, law, NOISE, 91);
    law->internal(law, truth, &b->s.centre, b->s.theta);
    for (int n = 0; n < 3; n++)
        for (int d = 0; d < 3; d++)
            for (int f = 0; f < 4; f++)
                synthetic_add(&b->s, (struct fpl_point_at){synthetic_N[n], synthetic_D[d], 3e-3, 512,
                                                           f == 0 ? NONE : synthetic_formats[f - 1][0],
                                                           f == 0 ? NONE : synthetic_formats[f - 1][1],
                                                           f == 0 ? NONE : 32});
    b->fit = fit_of(&b->s);
    b->format[0] = format("bf16", NONE, 1.0);
    b->format[1] = format("e4m3", 32.0, 2.0);
    b->format[2] = format("e2m1", 32.0, 4.0);
    *state = b;
    return 0;
}

static int tear_down(void **state) {
    struct bench *b = *state;
    fpl_fit_free(b->fit);
    free(b->s.runs.run);
    free(b);
    return 0;
}

static struct fpl_next_options options_of(const struct bench *b, int count) {
    static const char *const setting[] = {"layers=2", "heads=2", "seq=64"};
    struct fpl_next_options o = {.count = count, .least_gain = 0.1, .extend = 1.0, .seed = 101};
    o.noise = NOISE;
    o.max_flop = 6.0 * 94e3 * 4e6;
    o.formats = b->format;
    o.format_count = 3;
    o.limits = FPL_PLAN_NO_LIMITS;
    o.setting = setting;
    o.settings = 3;
    return o;
}

static const char *const decisions[] = {"loss@N=1e6,D=1e7,format=e2m1,block=32", "loss@N=1e6,D=1e8",
                                        "D_crit@N=1e5,D=1e6,format=e2m1,block=32"};

static struct fpl_decision_of decide(const struct bench *b, const char *text) {
    struct fpl_decision_of d;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_decision_parse(b->fit, text, NULL, NULL, &d, &err) != FPL_OK) fail_msg("%s", err.text);
    return d;
}

/* ---- the account ----------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* Values on every resample, drawn in to 4 robust deviations and centred, as next.c states. */
static void anomalies(double x[RESAMPLES]) {
    double sorted[RESAMPLES], mean = 0.0;
    memcpy(sorted, x, sizeof sorted);
    qsort(sorted, RESAMPLES, sizeof *sorted, ascending);
    const double median = 0.5 * (sorted[RESAMPLES / 2 - 1] + sorted[RESAMPLES / 2]);
    for (int i = 0; i < RESAMPLES; i++) sorted[i] = fabs(x[i] - median);
    qsort(sorted, RESAMPLES, sizeof *sorted, ascending);
    const double reach = 4.0 * 1.4826 * sorted[RESAMPLES / 2];
    for (int i = 0; i < RESAMPLES; i++) {
        if (x[i] > median + reach) x[i] = median + reach;
        if (x[i] < median - reach) x[i] = median - reach;
        mean += x[i] / RESAMPLES;
    }
    for (int i = 0; i < RESAMPLES; i++) x[i] -= mean;
}

static double covariance(const double *x, const double *y) {
    double sum = 0.0;
    for (int i = 0; i < RESAMPLES; i++) sum += x[i] * y[i];
    return sum / (RESAMPLES - 1);
}

static void test_account(void **state) {
    const struct bench *b = *state;
    enum { COUNT = 12 };
    static double y[COUNT + 1][RESAMPLES];
    const struct fpl_next_options o = options_of(b, COUNT);
    for (size_t q = 0; q < sizeof decisions / sizeof decisions[0]; q++) {
        const struct fpl_decision_of d = decide(b, decisions[q]);
        struct fpl_next next;
        struct fpl_error err;
        double s[COUNT * COUNT], c[COUNT], solved[COUNT], flop = 0.0;
        assert_int_equal(fpl_plan_next(b->fit, &d, &o, &next, &err), FPL_OK);
        assert_int_equal(next.runs, COUNT);
        for (int k = 0; k < RESAMPLES; k++) {
            struct fpl_fit_vector v;
            fpl_fit_vector_at(b->fit, k, &v);
            for (int i = 0; i < COUNT; i++) y[i][k] = log(fpl_vector_loss(&v, &next.run[i].at));
            y[COUNT][k] = fpl_decision_value(&d, &v);
        }
        for (int i = 0; i <= COUNT; i++) anomalies(y[i]);
        for (int i = 0; i < COUNT; i++) {
            solved[i] = c[i] = covariance(y[i], y[COUNT]);
            for (int j = 0; j < COUNT; j++)
                s[i * COUNT + j] = covariance(y[i], y[j]) + (i == j ? NOISE * NOISE : 0.0);
        }
        assert_true(fpl_solve(s, solved, COUNT));
        double variance = covariance(y[COUNT], y[COUNT]);
        assert_true(fabs(next.sd_before - sqrt(variance)) < 1e-9 * next.sd_before);
        for (int i = 0; i < COUNT; i++) variance -= c[i] * solved[i];
        assert_true(fabs(next.sd_after - sqrt(variance)) < 1e-7 * next.sd_before);
        double sd = next.sd_before;
        for (int i = 0; i < COUNT; i++) {
            assert_true(next.run[i].flop <= o.max_flop && next.run[i].gain > 0.0);
            sd *= 1.0 - next.run[i].gain;
            assert_true(fabs(sd - next.run[i].sd) < 1e-9 * next.sd_before);
            flop += next.run[i].flop;
        }
        assert_true(flop > 0.0 && next.sd_after < 0.9 * next.sd_before);
        fpl_next_free(&next);
    }
}

/* The rule of the first choice, over all candidates. */
static void test_first_choice(void **state) {
    const struct bench *b = *state;
    const struct fpl_next_options o = options_of(b, 1);
    const struct fpl_decision_of d = decide(b, decisions[0]);
    struct fpl_proposal *run;
    struct fpl_next next;
    struct fpl_error err;
    static double t[RESAMPLES], y[RESAMPLES];
    size_t count, best = 0;
    double most = 0.0, rate = 0.0;
    assert_int_equal(fpl_proposals_make(b->fit, &o, &run, &count, &err), FPL_OK);
    double *fall = calloc(count, sizeof *fall);
    for (size_t c = 0; c <= count; c++) {
        for (int k = 0; k < RESAMPLES; k++) {
            struct fpl_fit_vector v;
            fpl_fit_vector_at(b->fit, k, &v);
            (c == 0 ? t : y)[k] =
                c == 0 ? fpl_decision_value(&d, &v) : log(fpl_vector_loss(&v, &run[c - 1].at));
        }
        anomalies(c == 0 ? t : y);
        if (c == 0) continue;
        const double cross = covariance(t, y);
        fall[c - 1] = -log(1.0 - cross * cross / (covariance(t, t) * (covariance(y, y) + NOISE * NOISE)));
        most = fmax(most, fall[c - 1]);
    }
    for (size_t c = 0; c < count; c++)
        if (fall[c] >= 0.1 * most && fall[c] / run[c].flop > rate) rate = fall[c] / run[c].flop, best = c;
    assert_int_equal(fpl_plan_next(b->fit, &d, &o, &next, &err), FPL_OK);
    assert_int_equal(next.candidates, count);
    assert_memory_equal(&next.run[0].at, &run[best].at, sizeof run[best].at);
    fpl_next_free(&next);
    free(fall);
    free(run);
}

/* ---- the truth -------------------------------------------------------------------------------------- */

static double spread_of(const struct fpl_fit *fit, const struct fpl_decision_of *d) {
    double t[RESAMPLES];
    for (int k = 0; k < RESAMPLES; k++) {
        struct fpl_fit_vector v;
        fpl_fit_vector_at(fit, k, &v);
        t[k] = fpl_decision_value(d, &v);
    }
    anomalies(t);
    return sqrt(covariance(t, t));
}

static void test_truth(void **state) {
    struct bench *b = *state;
    const struct fpl_next_options o = options_of(b, 24);
    const struct fpl_decision_of d = decide(b, decisions[0]);
    const size_t before = b->s.runs.count;
    struct fpl_next next;
    struct fpl_error err;
    assert_int_equal(fpl_plan_next(b->fit, &d, &o, &next, &err), FPL_OK);
    for (size_t i = 0; i < next.runs; i++) synthetic_add(&b->s, next.run[i].at);
    struct fpl_fit *again = fit_of(&b->s);
    const double was = spread_of(b->fit, &d), is = spread_of(again, &d);
    assert_true(is < was);
    const double said = next.sd_after / next.sd_before, found = is / was;
    if (!(found < 2.0 * said && found > 0.5 * said))
        fail_msg("narrowed to %g of %g, said %g", found, was, said);
    b->s.runs.count = before;
    fpl_fit_free(again);
    fpl_next_free(&next);
}

static void test_intervals(void **state) {
    const struct bench *b = *state;
    const struct fpl_plan_limits none = FPL_PLAN_NO_LIMITS;
    struct fpl_plan plan, again;
    struct fpl_error err;
    const double flop = 6.0 * 3e4 * 2e6;
    assert_int_equal(fpl_plan_make(b->fit, b->format, 3, &none, flop, &plan, &err), FPL_OK);
    assert_int_equal(plan.resamples, RESAMPLES);
    double share = 0.0;
    for (size_t i = 0; i < plan.rows; i++) {
        const struct fpl_plan_row *r = &plan.row[i];
        const struct fpl_estimate *of[] = {&r->N, &r->D, &r->loss, &r->exponent_N};
        for (int j = 0; j < 4; j++) assert_true(of[j]->lo <= of[j]->value && of[j]->value <= of[j]->hi);
        share += r->share_best;
        assert_int_equal(r->within_noise, i > 0 && r->gap.lo <= 0.0);
        /* the same decision, by hand, on one vector lies inside what all of them span */
        struct fpl_fit_vector v;
        struct fpl_plan_point p;
        int inside = 0;
        for (int k = 0; k < RESAMPLES; k++) {
            fpl_fit_vector_at(b->fit, k, &v);
            assert_true(fpl_plan_best(&v, r->format, &none, flop, 0.0, &p));
            inside += p.N >= r->N.lo && p.N <= r->N.hi;
        }
        assert_in_range(inside, (int)(0.94 * RESAMPLES), (int)(0.96 * RESAMPLES));
        if (isnan(r->format->E)) continue;
        assert_true(r->break_even.lo <= r->break_even.value && r->break_even.value <= r->break_even.hi);
        assert_true(r->D_crit.lo < r->D_crit.value && r->D_crit.value < r->D_crit.hi);
        assert_true(r->same_N.lo < r->same_N.hi && r->same_N.hi <= 1.0);
    }
    assert_true(fabs(share - 1.0) < 1e-12);
    /* a format that is the best one again, under another name, cannot be told from it */
    const struct fpl_plan_format twins[] = {plan.row[0].format[0], plan.row[0].format[0]};
    assert_int_equal(fpl_plan_make(b->fit, twins, 2, &none, flop, &again, &err), FPL_OK);
    assert_true(again.row[1].within_noise && again.row[1].gap.value == 0.0);
    fpl_plan_free(&again);
    fpl_plan_free(&plan);
}

/* At a given batch the best learning rate leaves no better one: a scan of the loss around it. */
static void test_given_batch(void **state) {
    (void)state;
    struct synthetic s;
    struct fpl_fit_options o = FPL_FIT_DEFAULTS;
    struct fpl_fit *fit;
    struct fpl_error err;
    synthetic_begin(&s, fpl_law_find("joint"), 0.0, 5);
    synthetic_joint_truth(s.theta);
    for (int i = 0; i < 360; i++) {
        const int cell = i % 9, ring = i / 9;
        const double lr = 3e-3 * exp2(1.5 * (ring % 5 - 2)), batch = 256.0 * exp2(1.2 * (ring / 5 % 4 - 1));
        const int f = ring / 20;
        synthetic_add(&s, (struct fpl_point_at){synthetic_N[cell % 3], synthetic_D[cell / 3], lr, batch,
                                                f ? synthetic_formats[ring % 6][0] : NONE,
                                                f ? synthetic_formats[ring % 6][1] : NONE, f ? 32 : NONE});
    }
    o.bootstrap = 0;
    o.window = 10.0;
    const enum fpl_code code = fpl_law_fit(fpl_law_find("joint"), &s.runs, &o, &fit, &err);
    if (code != FPL_OK && code != FPL_NOT_CONVERGED) fail_msg("%s", err.text);
    struct fpl_fit_vector v;
    fpl_fit_vector_at(fit, -1, &v);
    for (double batch = 32.0; batch < 1e5; batch *= 3.0) {
        struct fpl_point_at at = {3e4, 1e6, NONE, batch, NONE, NONE, NONE};
        const double lr = fpl_vector_lr(&v, &at), loss = fpl_vector_loss(&v, &at);
        for (int i = -400; i <= 400; i++) {
            at.lr = lr * exp(0.01 * i);
            assert_true(fpl_vector_loss(&v, &at) >= loss * (1.0 - 1e-13));
        }
        /* the limits of a plan arrive at the same place */
        struct fpl_plan_limits l = FPL_PLAN_NO_LIMITS;
        struct fpl_plan_point p;
        const struct fpl_plan_format plain = format("bf16", NONE, 1.0);
        l.batch_min = l.batch_max = batch;
        l.N = 3e4;
        assert_true(fpl_plan_best(&v, &plain, &l, 6.0 * 3e4 * 1e6, 0.0, &p));
        assert_true(p.batch_tokens == batch && fabs(p.lr / lr - 1.0) < 1e-6 && (p.bounds & FPL_BOUND_BATCH));
        assert_true(fabs(p.loss / loss - 1.0) < 1e-12);
    }
    fpl_fit_free(fit);
    free(s.runs.run);
}

/* ---- what is refused, and the file -------------------------------------------------------------------- */

static void refused(const struct bench *b, const char *text, const char *words) {
    struct fpl_decision_of d;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_decision_parse(b->fit, text, NULL, NULL, &d, &err), FPL_INVALID);
    if (strstr(err.text, words) == NULL) fail_msg("no '%s' in: %s", words, err.text);
}

static void test_refusals(void **state) {
    const struct bench *b = *state;
    refused(b, "los@N=1,D=1", "did you mean loss");
    refused(b, "loss@n=1", "N");
    refused(b, "loss@N=1e6", "D=");
    refused(b, "loss@N=0,D=1e6", "from 1");
    refused(b, "loss@N=1e6,D=1e6,format=e4n3,block=32", "e4m3");
    refused(b, "lr@N=1e6,D=1e6", "does not tell");
    refused(b, "D_crit@N=1e6,D=1e6", "format");
    refused(b, "best-format", "budget");
    struct fpl_fit_summary s;
    const struct fpl_decision_of largest = decide(b, "loss");
    fpl_fit_summarize(b->fit, &s);
    assert_true(largest.at.N == s.N[1] && largest.at.D == s.D[1] && isnan(largest.at.E));
    struct fpl_decision_of d = decide(b, decisions[0]);
    struct fpl_next_options o = options_of(b, 3);
    struct fpl_next next;
    struct fpl_error err;
    struct fpl_fit *published;
    assert_int_equal(fpl_law_preset("capybara:paper", &published, &err), FPL_OK);
    assert_int_equal(fpl_plan_next(published, &d, &o, &next, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "resamples"));
    fpl_fit_free(published);
    o.max_flop = 1.0;
    assert_int_equal(fpl_plan_next(b->fit, &d, &o, &next, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "no run is left"));
    o = options_of(b, 0);
    assert_int_equal(fpl_plan_next(b->fit, &d, &o, &next, &err), FPL_INVALID);
    o = options_of(b, 3);
    const char *const settings[] = {"lr=1", "widht=3", "layers"};
    for (int i = 0; i < 3; i++) {
        o.setting = &settings[i];
        o.settings = 1;
        assert_int_equal(fpl_plan_next(b->fit, &d, &o, &next, &err), FPL_INVALID);
        assert_non_null(strstr(err.text, "--set"));
    }
}

/* Every proposal is a configuration that passes its own checks and has the size and cost stated. */
static void test_proposals(void **state) {
    const struct bench *b = *state;
    struct fpl_next_options o = options_of(b, 3);
    struct fpl_proposal *run;
    struct fpl_error err;
    size_t count;
    o.limits.max_D = 2e6;
    o.limits.memory = 14.0 * 5e4;
    assert_int_equal(fpl_proposals_make(b->fit, &o, &run, &count, &err), FPL_OK);
    assert_true(count > 20);
    for (size_t i = 0; i < count; i++) {
        struct fpl_config c;
        fpl_config_defaults(&c);
        c.layers = 2, c.heads = 2, c.seq = 64;
        c.width = run[i].width, c.batch_tokens = run[i].batch_tokens;
        c.tokens = run[i].tokens, c.tokens_per_param = 0.0, c.steps = 0;
        snprintf(c.recipe, sizeof c.recipe, "%s", run[i].recipe);
        assert_int_equal(fpl_config_check(&c, &err), FPL_OK);
        assert_true(fpl_config_params(&c) == run[i].at.N);
        const double D = (double)(fpl_config_steps(&c) * c.batch_tokens);
        assert_true(D == run[i].at.D && D <= 2e6);
        assert_true(run[i].flop == fpl_config_flop_per_token(&c, 32) * D && run[i].flop <= o.max_flop);
        assert_true(fpl_plan_memory(&run[i].format, &o.limits, run[i].at.N) <= o.limits.memory);
    }
    free(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_account),     cmocka_unit_test(test_first_choice),
        cmocka_unit_test(test_truth),       cmocka_unit_test(test_intervals),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_proposals),
        cmocka_unit_test(test_given_batch),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
