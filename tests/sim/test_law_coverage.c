/* Synthetic recovery of every law of the registry: from tables of known constants with the troubles of
 * real ones (law_design.h), how often do 95 % intervals hold the truth?
 *
 * Checked: every parameter that the fit calls identified, the predicted number at two points, and the
 * optimum and critical size where the law has them.  `steplaw` is checked for its optimum only: the
 * published recipe is a selection of runs, with exponents of its own.
 *
 *   test_law_coverage          a few tables: misses stay below what 95 % intervals show by chance
 *   test_law_coverage --full   200 tables x 200 resamples: each quantity 88 to 99 %, pooled by law 92
 *                              to 97 %; prints the table                  (ctest -L slow)
 *   test_law_coverage [--full] LAW...   these laws only
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coverage.h"
#include "law_design.h"

struct law_coverage {
    const struct fpl_law *law;
    struct coverage counts;
};

static int tables = 3, resamples = 40, full;

static void count_parameters(struct coverage *c, const struct design *d, const struct fpl_fit *fit) {
    for (int j = 0; j < d->law->params; j++) {
        struct fpl_estimate e;
        if (!fit->identified[j]) continue;
        assert_true(fpl_fit_value(fit, d->law->param[j].name, &e));
        count_one(c, d->law->param[j].name, &e, d->published[j]);
    }
}

/* The same question to a fit whose constants are the truth. */
static struct fpl_answer answer_of_truth(const struct design *d, const struct fpl_fit *fit,
                                         const struct fpl_question *q) {
    struct fpl_fit truth = *fit;
    struct fpl_answer a;
    truth.bootstrap = 0;
    truth.vector = NULL;
    memcpy(truth.value, d->published, sizeof truth.value);
    assert_int_equal(fpl_fit_ask(&truth, q, &a, NULL), FPL_OK);
    return a;
}

static void count_answers(struct coverage *c, const struct design *d, const struct fpl_fit *fit, int which) {
    static const struct {
        const char *name;
        size_t offset;
    } parts[] = {{"loss", offsetof(struct fpl_answer, loss)},
                 {"delta", offsetof(struct fpl_answer, delta)},
                 {"lr*", offsetof(struct fpl_answer, lr)},
                 {"batch*", offsetof(struct fpl_answer, batch_tokens)},
                 {"D_crit", offsetof(struct fpl_answer, D_crit)}};
    struct fpl_question q = d->asked[which];
    static const double steps[] = {0, 80, 2800, 4000}, rates[] = {0, 0.01, 0.01, 0.0001};
    static const struct fpl_schedule schedule = {4, steps, rates};
    struct fpl_answer a;
    if (fpl_law_takes_schedule(d->law)) q.schedule = &schedule;
    if (fpl_fit_ask(fit, &q, &a, NULL) != FPL_OK) fail_msg("%s: cannot be asked", d->law->name);
    const struct fpl_answer truth = answer_of_truth(d, fit, &q);
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        struct fpl_estimate e, t;
        char name[40];
        memcpy(&e, (const char *)&a + parts[k].offset, sizeof e);
        memcpy(&t, (const char *)&truth + parts[k].offset, sizeof t);
        if (isnan(e.value) || isnan(e.lo)) continue;
        snprintf(name, sizeof name, "%s at %s", parts[k].name, which == 0 ? "the middle" : "the end");
        count_one(c, name, &e, t.value);
    }
}

static void cover_table(struct law_coverage *of, uint64_t table) {
    struct coverage *c = &of->counts;
    struct design d;
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_fit_options options = {
        .bootstrap = resamples, .level = 0.95, .threads = 2, .seed = table};
    if (!design_make(&d, of->law, table, 1)) fail_msg("law_design.h has no truth for law %s", of->law->name);
    const enum fpl_code code = fpl_law_fit(of->law, &d.runs, &options, &fit, &err);
    if (code != FPL_OK && code != FPL_NOT_CONVERGED) fail_msg("%s: %s", of->law->name, err.text);
    c->tables++;
    if (code == FPL_OK) {
        c->converged++;
        count_parameters(c, &d, fit);
        for (int k = 0; k < 2; k++) count_answers(c, &d, fit, k);
    }
    fpl_fit_free(fit);
    design_end(&d);
}

/* The published recipe on grids of learning rates and batches: the optimum at the centre. */
static void cover_steplaw(struct law_coverage *of, uint64_t table) {
    struct coverage *c = &of->counts;
    struct synthetic s;
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_fit_options options = {
        .bootstrap = resamples, .level = 0.95, .threads = 2, .seed = table};
    synthetic_grid(&s, DESIGN_NOISE, table);
    if (fpl_law_fit(of->law, &s.runs, &options, &fit, &err) != FPL_OK) fail_msg("%s", err.text);
    const struct fpl_point_at at = {exp(s.centre.n), exp(s.centre.d), NONE, NONE, NONE, NONE, NONE};
    struct fpl_answer a;
    assert_int_equal(fpl_fit_predict(fit, &at, &a, NULL), FPL_OK);
    c->tables++;
    c->converged++;
    count_one(c, "lr*", &a.lr, exp(s.theta[9]));
    count_one(c, "batch*", &a.batch_tokens, exp(s.theta[12]));
    fpl_fit_free(fit);
    synthetic_end(&s);
}

static const char *const *only; /* names of laws, NULL-terminated; NULL: all */

static void test_coverage(void **state) {
    (void)state;
    int bad = 0;
    for (size_t i = 0; fpl_laws[i] != NULL; i++) {
        struct law_coverage c = {fpl_laws[i], {.label = fpl_law_name(fpl_laws[i])}};
        int asked = only == NULL;
        for (size_t k = 0; only != NULL && only[k] != NULL; k++) asked |= strcmp(only[k], c.law->name) == 0;
        if (!asked) continue;
        /* of the laws of curves, whose every row sums over a schedule, one table is enough by default */
        const int some = full || !fpl_law_takes_schedule(c.law) ? tables : 1;
        for (int t = 0; t < some; t++) {
            if (strcmp(c.law->name, "steplaw") == 0)
                cover_steplaw(&c, (uint64_t)t);
            else
                cover_table(&c, (uint64_t)t);
        }
        bad += judge(&c.counts, full);
    }
    assert_int_equal(bad, 0);
}

int main(int argc, char **argv) {
    full = argc > 1 && strcmp(argv[1], "--full") == 0;
    if (full) {
        tables = 200;
        resamples = 200;
    }
    if (argc > 1 + full) only = (const char *const *)argv + 1 + full;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_coverage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
