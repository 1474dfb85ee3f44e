/* Coverage of a plan's intervals: on tables of capybara's design with known constants (law_design.h), how
 * often do 95 % intervals of the best size, tokens, loss, slope, break-even speed, gap and equivalents hold
 * the truth, with inference tokens in the budget and without?
 *
 *   test_plan_coverage          a few tables: misses stay below what chance shows
 *   test_plan_coverage --full   200 tables x 200 resamples: 88 to 99 % each, 92 to 97 % pooled  (ctest -L
 * slow)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../sim/plan/plan.h"
#include "coverage.h"
#include "law_design.h"

static int tables = 4, resamples = 60, full;

#define BUDGET (6.0 * 26.6e3 * 3e6)

static void count_row(struct coverage *c, const struct fpl_plan_row *r, const struct fpl_plan_row *t) {
    const struct {
        const char *name;
        const struct fpl_estimate *found, *truth;
    } parts[] = {{"N", &r->N, &t->N},
                 {"D", &r->D, &t->D},
                 {"loss", &r->loss, &t->loss},
                 {"exponent of N", &r->exponent_N, &t->exponent_N},
                 {"break-even speed", &r->break_even, &t->break_even},
                 {"share of N", &r->same_N, &t->same_N},
                 {"share of D", &r->same_D, &t->same_D},
                 {"share of compute", &r->same_C, &t->same_C}};
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        char name[40];
        if (!isfinite(parts[k].truth->value) || !isfinite(parts[k].found->lo)) continue;
        snprintf(name, sizeof name, "%s, %.16s", parts[k].name, r->format->name);
        count_one(c, name, parts[k].found, parts[k].truth->value);
    }
}

/* Rows are sorted by loss, which the fit and the truth may see differently: matched by format; the gap is to
 * the fit's best, so its truth is to that format too. */
static void count_plan(struct coverage *c, const struct fpl_plan *found, const struct fpl_plan *truth) {
    const struct fpl_plan_row *best = NULL;
    for (size_t i = 0; i < truth->rows; i++)
        if (truth->row[i].format == found->row[0].format) best = &truth->row[i];
    for (size_t i = 0; i < found->rows; i++)
        for (size_t k = 0; k < truth->rows; k++) {
            if (found->row[i].format != truth->row[k].format) continue;
            count_row(c, &found->row[i], &truth->row[k]);
            if (i > 0)
                count_one(c, "gap to the best", &found->row[i].gap,
                          log(truth->row[k].at.loss / best->at.loss));
        }
}

static void cover(struct coverage *c, double inference, uint64_t table) {
    struct design d;
    struct fpl_fit *fit = NULL;
    struct fpl_plan_format format[2];
    struct fpl_plan_limits limits = FPL_PLAN_NO_LIMITS;
    struct fpl_plan found, truth;
    const struct fpl_fit_options options = {
        .bootstrap = resamples, .level = 0.95, .threads = 2, .seed = table};
    limits.inference_tokens = inference;
    assert_int_equal(fpl_plan_format_parse("bf16", NONE, 1.0, &format[0], NULL), FPL_OK);
    assert_int_equal(fpl_plan_format_parse("e2m1", 32.0, 2.0, &format[1], NULL), FPL_OK);
    assert_true(design_make(&d, fpl_law_find("capybara"), table, 1));
    c->tables++;
    if (fpl_law_fit(d.law, &d.runs, &options, &fit, NULL) == FPL_OK) {
        struct fpl_fit known = *fit;
        known.bootstrap = 0;
        known.vector = NULL;
        memcpy(known.value, d.published, sizeof known.value);
        assert_int_equal(fpl_plan_make(fit, format, 2, &limits, BUDGET, &found, NULL), FPL_OK);
        assert_int_equal(fpl_plan_make(&known, format, 2, &limits, BUDGET, &truth, NULL), FPL_OK);
        c->converged++;
        count_plan(c, &found, &truth);
        fpl_plan_free(&found);
        fpl_plan_free(&truth);
    }
    fpl_fit_free(fit);
    design_end(&d);
}

static void test_coverage(void **state) {
    (void)state;
    static const struct {
        const char *label;
        double tokens;
    } cases[] = {{"training alone", 0.0}, {"inference 1e6", 1e6}, {"inference 1e7", 1e7}};
    int bad = 0;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct coverage c = {.label = cases[k].label};
        for (int t = 0; t < tables; t++) cover(&c, cases[k].tokens, (uint64_t)t);
        bad += judge(&c, full);
    }
    assert_int_equal(bad, 0);
}

int main(int argc, char **argv) {
    full = argc > 1 && strcmp(argv[1], "--full") == 0;
    if (full) tables = resamples = 200;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_coverage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
