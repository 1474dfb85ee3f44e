/* test_report.c - the paired ranking against hand-computed numbers, and escaping. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../sim/report/report.h"

static struct fpl_run make(const char *id, const char *recipe, uint64_t seed, double lr, double loss) {
    struct fpl_run r;
    memset(&r, 0, sizeof r);
    strcpy(r.run, id);
    strcpy(r.recipe, recipe);
    r.seed = seed;
    r.N = 1e4;
    r.D = 1e6;
    r.lr = lr;
    r.batch_tokens = 256;
    r.steps = 100;
    r.seq = 64;
    r.loss = loss;
    r.E = r.M = r.block = (double)NAN;
    r.status = FPL_RUN_OK;
    return r;
}

static const struct fpl_rank_row *row(const struct fpl_ranking *r, const char *recipe) {
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->row[i].recipe, recipe) == 0) return &r->row[i];
    return NULL;
}

/* Three cells; the gap of "a" over fp32 is 0.1, 0.2, 0.3: mean 0.2, sd 0.1, interval
 * 0.2 +- 4.303 * 0.1 / sqrt(3).  Unpaired means would say something else: the seed moves
 * the loss by 1. */
static void test_pairs(void **state) {
    (void)state;
    struct fpl_run run[] = {make("1", "fp32", 1, 1e-3, 2.0),    make("2", "full:a", 1, 1e-3, 2.1),
                            make("3", "fp32", 2, 1e-3, 3.0),    make("4", "full:a", 2, 1e-3, 3.2),
                            make("5", "fp32", 3, 1e-3, 4.0),    make("6", "full:a", 3, 1e-3, 4.3),
                            make("7", "full:b", 3, 1e-3, 3.5),  make("8", "full:a", 9, 1e-3, 99.0),
                            make("9", "full:c", 9, 2e-3, 1.0),  make("10", "full:b", 2, 1e-3, 3.1),
                            make("11", "full:b", 1, 1e-3, 77.0)};
    run[10].status = FPL_RUN_DIVERGED;
    const struct fpl_runs runs = {.count = sizeof run / sizeof *run, .run = run};
    struct fpl_ranking ranking;
    struct fpl_error err;
    assert_int_equal(fpl_rank_formats(&runs, &ranking, &err), FPL_OK);
    const struct fpl_rank_row *a = row(&ranking, "full:a"), *b = row(&ranking, "full:b"),
                              *c = row(&ranking, "full:c");
    assert_true(row(&ranking, "fp32")->is_reference);
    assert_int_equal(a->cells, 3);
    assert_int_equal(a->runs, 4);
    assert_true(fabs(a->gap - 0.2) < 1e-12);
    assert_true(fabs(a->hi - a->gap - 4.303 * 0.1 / sqrt(3.0)) < 1e-9);
    assert_int_equal(b->cells, 2);
    assert_int_equal(b->failed, 1);
    assert_true(fabs(b->gap + 0.2) < 1e-12);
    assert_int_equal(c->cells, 0);
    assert_true(isnan(c->gap));
    assert_string_equal(ranking.row[0].recipe, "full:b"); /* sorted by gap */
    assert_string_equal(ranking.row[3].recipe, "full:c"); /* unpaired last */
    fpl_ranking_free(&ranking);
}

/* Without fp32 in any shared cell the recipe in most cells is the reference. */
static void test_reference_without_fp32(void **state) {
    (void)state;
    struct fpl_run run[] = {make("1", "full:a", 1, 1e-3, 2.0), make("2", "full:b", 1, 1e-3, 2.1),
                            make("3", "full:a", 2, 1e-3, 2.0), make("4", "full:c", 2, 1e-3, 1.9),
                            make("5", "fp32", 7, 1e-3, 1.0)};
    const struct fpl_runs runs = {.count = 5, .run = run};
    struct fpl_ranking ranking;
    struct fpl_error err;
    assert_int_equal(fpl_rank_formats(&runs, &ranking, &err), FPL_OK);
    assert_true(row(&ranking, "full:a")->is_reference);
    assert_true(fabs(row(&ranking, "full:c")->gap + 0.1) < 1e-12);
    assert_true(isnan(row(&ranking, "full:c")->lo)); /* one cell: no interval */
    fpl_ranking_free(&ranking);
}

/* Recipes as long as a run can hold, alike in their first 600 characters, are told apart. */
static void test_long_recipes(void **state) {
    (void)state;
    enum { LONGEST = sizeof((struct fpl_run *)0)->recipe };
    char text[2][LONGEST];
    struct fpl_run run[] = {make("1", "fp32", 1, 1e-3, 2.0), make("2", "fp32", 2, 1e-3, 2.0),
                            make("3", "", 1, 1e-3, 2.1),     make("4", "", 2, 1e-3, 2.1),
                            make("5", "", 1, 1e-3, 2.4),     make("6", "", 2, 1e-3, 2.4)};
    for (int k = 0; k < 2; k++) {
        memset(text[k], 'x', LONGEST);
        text[k][LONGEST - 1] = '\0';
        text[k][600] = (char)('a' + k);
    }
    for (int i = 2; i < 6; i++) memcpy(run[i].recipe, text[(i - 2) / 2], LONGEST);
    const struct fpl_runs runs = {.count = 6, .run = run};
    struct fpl_ranking ranking;
    struct fpl_error err;
    assert_int_equal(fpl_rank_formats(&runs, &ranking, &err), FPL_OK);
    assert_int_equal(ranking.count, 3);
    for (int k = 0; k < 2; k++) {
        assert_non_null(row(&ranking, text[k]));
        assert_int_equal(row(&ranking, text[k])->cells, 2);
        assert_true(fabs(row(&ranking, text[k])->gap - (k == 0 ? 0.1 : 0.4)) < 1e-12);
    }
    fpl_ranking_free(&ranking);
}

static void test_no_runs(void **state) {
    (void)state;
    const struct fpl_runs runs = {.count = 0};
    struct fpl_ranking ranking;
    struct fpl_error err;
    assert_int_equal(fpl_rank_formats(&runs, &ranking, &err), FPL_OK);
    assert_int_equal(ranking.count, 0);
    fpl_ranking_free(&ranking);
}

/* Published quantiles of Student's distribution. */
static void test_student(void **state) {
    (void)state;
    assert_true(fabs(fpl_student_95(1) - 12.706) < 1e-9);
    assert_true(fabs(fpl_student_95(40) - 2.0211) < 1e-4);
    assert_true(fabs(fpl_student_95(120) - 1.9799) < 1e-4);
    assert_true(fabs(fpl_student_95(100000) - 1.95998) < 1e-3);
    assert_true(isnan(fpl_student_95(0)));
}

static void test_escape(void **state) {
    (void)state;
    struct fpl_text t = {0};
    fpl_html_escaped(&t, "<script>\"a&b\"</script>");
    assert_string_equal(t.text, "&lt;script&gt;&quot;a&amp;b&quot;&lt;/script&gt;");
    fpl_text_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),   cmocka_unit_test(test_reference_without_fp32),
        cmocka_unit_test(test_no_runs), cmocka_unit_test(test_student),
        cmocka_unit_test(test_escape),  cmocka_unit_test(test_long_recipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
