/* Tables of runs: CSV in the wild, filters, RUNS.csv and its round trip, and messages that
 * name line and column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "../../sim/base/runs.h"

static char path[64];

static void write_file(const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static enum fpl_code read_text(const char *text, const char *const *columns, struct fpl_runs *runs,
                               struct fpl_error *err) {
    write_file(text, strlen(text));
    return fpl_runs_read_csv(path, columns, runs, err);
}

static int setup(void **state) {
    (void)state;
    snprintf(path, sizeof path, "/tmp/fpl_runs_%ld.csv", (long)getpid());
    return 0;
}

static int teardown(void **state) {
    (void)state;
    remove(path);
    return 0;
}

static void test_wild_csv(void **state) {
    (void)state;
    struct fpl_runs runs;
    struct fpl_error err = {FPL_OK, ""};
    const char *text = "\xef\xbb\xbfrun,status,N,D,\"smooth loss\",note,bs,E\r\n"
                       "a,ok,1e6,2e7,2.5,\"one, \"\"two\"\"\nthree\",8,4\r\n"
                       "\r\n"
                       "b,diverged, 2e6 ,2e7,nan,,16,\r\n"
                       "\"c,d\",collapsed,3e6,,-inf,x,32,2";
    const char *columns[] = {"loss=smooth loss", "batch_tokens = bs", NULL};
    assert_int_equal(read_text(text, columns, &runs, &err), FPL_INVALID); /* a name with a space */
    columns[1] = "batch_tokens=bs*2048";
    assert_int_equal(read_text(text, columns, &runs, &err), FPL_OK);
    assert_int_equal(runs.count, 3);
    assert_int_equal(runs.lacks_status, 0);
    assert_string_equal(runs.run[0].run, "a");
    assert_true(runs.run[0].N == 1e6 && runs.run[0].loss == 2.5 && runs.run[0].batch_tokens == 16384.0);
    assert_true(runs.run[0].E == 4.0 && isnan(runs.run[0].M) && isnan(runs.run[0].lr));
    assert_int_equal(runs.run[0].line, 2);
    assert_int_equal(runs.run[1].line, 5);
    assert_int_equal(runs.run[1].status, FPL_RUN_DIVERGED);
    assert_true(isnan(runs.run[1].loss) && isnan(runs.run[1].E) && runs.run[1].N == 2e6);
    assert_string_equal(runs.run[2].run, "c,d");
    assert_true(isnan(runs.run[2].D) && runs.run[2].loss < 0 && runs.run[2].batch_tokens == 65536.0);
    assert_int_equal(strlen(runs.hash), 32);
    fpl_runs_free(&runs);
}

static void test_lines_name_runs(void **state) {
    (void)state;
    struct fpl_runs runs;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(read_text("N,loss\n1,2\n3,4\n", NULL, &runs, &err), FPL_OK);
    assert_int_equal(runs.lacks_status, 1);
    assert_string_equal(runs.run[1].run, "3");
    assert_int_equal(runs.run[1].status, FPL_RUN_OK);
    fpl_runs_free(&runs);
}

static void test_bad_csv(void **state) {
    (void)state;
    static const struct {
        const char *text, *mapping, *says;
    } cases[] = {
        {"", NULL, "empty"},
        {"N,loss\n", NULL, "no runs"},
        {"N,loss\n1,2,3\n", NULL, ":2: 3 fields where the header has 2"},
        {"N,loss\n1,2\n3\n", NULL, ":3: 1 fields"},
        {"N,loss\n1,2\n3,4x\n", NULL, ":3: column 'loss': found '4x'"},
        {"N,loss,status\n1,2,fine\n", NULL, "expected ok, diverged"},
        {"N,seed\n1,-3\n", NULL, "column 'seed'"},
        {"N,seed\n1,99999999999999999999\n", NULL, "column 'seed'"},
        {"N,numerics\n1,1.5\n", NULL, "an integer"},
        {"N,N\n1,2\n", NULL, "two columns are called 'N'"},
        {"N,\"loss\n1,2\n", NULL, "does not end"},
        {"N,loss\n1,\"2\n", NULL, ":2: a quoted field does not end"},
        {"N,loss\n1,2\n", "loss", "expected NAME=COLUMN"},
        {"N,loss\n1,2\n", "los=loss", "did you mean 'loss'"},
        {"N,lss\n1,2\n", "loss=los", "did you mean 'lss'"},
        {"N,loss\n1,2\n", "loss=loss*zero", "after '*'"},
        {"N,loss\n1,2\n", "status=loss*2", "not a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fpl_runs runs;
        struct fpl_error err = {FPL_OK, ""};
        const char *columns[] = {cases[i].mapping, NULL};
        assert_int_equal(read_text(cases[i].text, columns, &runs, &err), FPL_INVALID);
        assert_int_equal(err.code, FPL_INVALID);
        if (strstr(err.text, cases[i].says) == NULL) fail_msg("case %zu says: %s", i, err.text);
        assert_null(strchr(err.text, '\n'));
        assert_null(runs.run);
    }
    struct fpl_runs runs;
    struct fpl_error err = {FPL_OK, ""};
    write_file("N,loss\n1,\0002\n", 12);
    assert_int_equal(fpl_runs_read_csv(path, NULL, &runs, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "not a CSV"));
    assert_int_not_equal(fpl_runs_read_csv("/nonexistent/runs.csv", NULL, &runs, &err), FPL_OK);
    const char *twice[] = {"loss=a", "loss=b", NULL};
    assert_int_equal(read_text("a,b\n1,2\n", twice, &runs, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "mapped twice"));
}

static size_t kept(const char *expression) {
    struct fpl_runs runs;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(read_text("run,N,D,format,status,block\n"
                               "a,1,10,e4m3,ok,32\nb,2,10,e2m1,ok,64\nc,3,20,,diverged,\nd,4,20,e4m3,ok,32\n",
                               NULL, &runs, &err),
                     FPL_OK);
    if (fpl_runs_where(&runs, expression, &err) != FPL_OK) fail_msg("%s", err.text);
    const size_t count = runs.count;
    fpl_runs_free(&runs);
    return count;
}

static void test_where(void **state) {
    (void)state;
    assert_int_equal(kept("N>1"), 3);
    assert_int_equal(kept("N >= 2 and D<2e1"), 1);
    assert_int_equal(kept("N=1 or N==4"), 2);
    assert_int_equal(kept("format=e4m3 and not run='a'"), 1);
    assert_int_equal(kept("format!=\"\""), 3);
    assert_int_equal(kept("block!=32"), 1); /* a missing block is no other block */
    assert_int_equal(kept("not block=32"), 2);
    assert_int_equal(kept("not (N<=2 or status=diverged)"), 1);
    assert_int_equal(kept("N=1 or N=2 and D=20"), 1); /* and binds tighter */
    assert_int_equal(kept("not not N=1"), 1);
    assert_int_equal(kept("(N>9)"), 0);
}

static void test_bad_where(void **state) {
    (void)state;
    char deep[200], wide[8000] = "N=1";
    memset(deep, '(', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    for (int i = 0; i < 400; i++) strcat(wide, " or N=1");
    static const struct {
        const char *expression, *says;
    } cases[] = {
        {"", "position 1: found 'the end'"},
        {"N", "expected one of"},
        {"N>", "a number or a word"},
        {"N>x", "a number"},
        {"N>1e9x", "a number"},
        {"M2>1", "unknown column 'M2'"},
        {"formt=e4m3", "did you mean 'format'"},
        {"format<e4m3", "= or !="},
        {"status=fine", "ok, diverged"},
        {"N=1 D=2", "'and', 'or'"},
        {"(N=1", "')'"},
        {"N=1)", "'and', 'or'"},
        {"format='e4m3", "a quote that ends"},
        {"N=1 and", "a column"},
    };
    struct fpl_runs runs;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(read_text("N,D\n1,2\n", NULL, &runs, &err), FPL_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(fpl_runs_where(&runs, cases[i].expression, &err), FPL_INVALID);
        if (strstr(err.text, cases[i].says) == NULL) fail_msg("case %zu says: %s", i, err.text);
        assert_int_equal(runs.count, 1);
    }
    assert_int_equal(fpl_runs_where(&runs, deep, &err), FPL_INVALID);
    assert_int_equal(fpl_runs_where(&runs, wide, &err), FPL_INVALID);
    fpl_runs_free(&runs);
}

/* What is written reads back to the same bytes, whatever the order of the rows. */
static void test_round_trip(void **state) {
    (void)state;
    struct fpl_runs runs, again;
    struct fpl_error err = {FPL_OK, ""};
    const char *text = "run,seed,status,N,D,lr,recipe,format,granularity,E,M,block,loss,numerics,seconds\n"
                       "b,18446744073709551615,ok,0.1,3e-310,1e-3,full:e4m3/1x32,e4m3,1x32,4,3,32,2.1,7,1.5\n"
                       "a,1,diverged,1e22,1,0.3333333333333333148,\"x,\"\"y\"\"\",,,,,,nan,7,2.5\n";
    assert_int_equal(read_text(text, NULL, &runs, &err), FPL_OK);
    char *csv = fpl_runs_to_csv(&runs, 0), *timed = fpl_runs_to_csv(&runs, 1);
    assert_non_null(csv);
    assert_non_null(timed);
    const char *header =
        "run,seed,status,N,D,lr,batch_tokens,recipe,format,granularity,E,M,block,steps,seq,loss,"
        "loss_se,backend,numerics\na,1,diverged,1e+22,1,0.33333333333333331,nan,\"x,\"\"y\"\"\",,,,,,"
        "nan,nan,nan,nan,,7\n";
    assert_int_equal(strncmp(csv, header, strlen(header)), 0);
    assert_non_null(strstr(timed, "numerics,seconds,tokens_per_second\n"));
    assert_int_equal(read_text(csv, NULL, &again, &err), FPL_OK);
    char *csv_again = fpl_runs_to_csv(&again, 0);
    assert_string_equal(csv, csv_again);
    assert_true(again.run[1].seed == UINT64_MAX && again.run[1].N == 0.1 && again.run[1].D == 3e-310);
    free(csv);
    free(timed);
    free(csv_again);
    fpl_runs_free(&runs);
    fpl_runs_free(&again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wild_csv),  cmocka_unit_test(test_lines_name_runs),
        cmocka_unit_test(test_bad_csv),   cmocka_unit_test(test_where),
        cmocka_unit_test(test_bad_where), cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
