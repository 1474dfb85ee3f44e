/* Diagnoses in the store: with their record, apart from its text; stores without the table open as
 * before; damage is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "../../sim/base/config.h"
#include "../../sim/store/store.h"

static char directory[64];

static int enter(void **unused) {
    (void)unused;
    strcpy(directory, "/tmp/test_store_d.XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int leave(void **unused) {
    (void)unused;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static struct fpl_store *open_store(void) {
    struct fpl_store *s = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_store_open(directory, 1, &s, &err) != FPL_OK) fail_msg("%s", err.text);
    return s;
}

/* A record of seed i with `points` diagnoses. */
static struct fpl_record make_record(int i, int points) {
    struct fpl_config c;
    struct fpl_record r;
    memset(&r, 0, sizeof r);
    fpl_config_defaults(&c);
    c.seed = (uint64_t)i;
    r.canonical = fpl_config_canonical(&c, "cpu", "test:1");
    fpl_config_id(r.canonical, r.id);
    strcpy(r.backend, "cpu");
    r.curve = calloc(1, sizeof *r.curve);
    r.diagnosis_count = points;
    r.diagnosis = calloc((size_t)points + 1, sizeof *r.diagnosis);
    for (int k = 0; k < points; k++) {
        struct fpl_diagnosis_point *p = &r.diagnosis[k];
        p->step = 10 * k + 1;
        p->sqnr_db = 30 + i + 1.0 / 3;
        strcpy(p->operand, "down.wgrad.dy");
        p->bins = 2;
        p->count = calloc(2, sizeof *p->count);
        p->count[1] = k;
    }
    return r;
}

static void put(struct fpl_store *s, int i, int points, char id[17]) {
    struct fpl_record r = make_record(i, points);
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_store_put(s, &r, &err) != FPL_OK) fail_msg("%s", err.text);
    memcpy(id, r.id, 17);
    fpl_record_free(&r);
}

static int64_t integer(const char *sql) {
    char path[96];
    sqlite3 *db;
    sqlite3_stmt *q;
    snprintf(path, sizeof path, "%s/study.db", directory);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    int64_t x = -1;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    const int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) x = sqlite3_column_int64(q, 0);
    assert_true(rc == SQLITE_ROW || rc == SQLITE_DONE);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return x;
}

static enum fpl_code note(void *context, const char *run, struct fpl_error *err) {
    char *list = context;
    (void)err;
    strcat(list, run);
    strcat(list, " ");
    return FPL_OK;
}

static enum fpl_code refuse(void *context, const char *run, struct fpl_error *err) {
    int *calls = context;
    (void)run;
    ++*calls;
    return fpl_fail(err, FPL_SYSTEM, "enough");
}

static void what_goes_in_comes_out(void **state) {
    (void)state;
    struct fpl_store *s = open_store();
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_diagnosis_point *points;
    char plain[17], a[17], b[17], list[64] = "", want[64];
    int64_t count;
    put(s, 1, 0, plain);
    /* nothing was diagnosed: the database has the tables that it always had */
    assert_int_equal(integer("SELECT count(*) FROM sqlite_master WHERE type = 'table'"), 2);
    assert_int_equal(fpl_store_diagnoses(s, plain, &points, &count, &err), FPL_OK);
    assert_true(count == 0 && points == NULL);
    assert_int_equal(fpl_store_diagnosed(s, note, list, &err), FPL_OK);
    assert_string_equal(list, "");

    put(s, 2, 3, a);
    put(s, 3, 40, b);
    assert_int_equal(integer("PRAGMA user_version"), 1);
    assert_int_equal(integer("SELECT count(*) FROM runs WHERE record LIKE '%diagnoses%'"), 0);
    assert_int_equal(fpl_store_diagnosed(s, note, list, &err), FPL_OK);
    snprintf(want, sizeof want, "%s %s ", strcmp(a, b) < 0 ? a : b, strcmp(a, b) < 0 ? b : a);
    assert_string_equal(list, want);
    assert_int_equal(fpl_store_diagnoses(s, b, &points, &count, &err), FPL_OK);
    assert_int_equal(count, 40);
    for (int k = 0; k < 40; k++) {
        assert_true(points[k].step == 10 * k + 1 && points[k].count[1] == k && points[k].bins == 2);
        assert_true(points[k].sqnr_db == 33 + 1.0 / 3);
    }
    fpl_diagnosis_free(points, count);

    struct fpl_record r;
    assert_int_equal(fpl_store_get(s, a, &r, &err), FPL_OK);
    assert_int_equal(r.diagnosis_count, 3);
    fpl_record_free(&r);
    assert_int_equal(fpl_store_get(s, plain, &r, &err), FPL_OK);
    assert_int_equal(r.diagnosis_count, 0);
    fpl_record_free(&r);
    struct fpl_runs runs;
    assert_int_equal(fpl_store_runs(s, &runs, &err), FPL_OK);
    assert_int_equal(runs.count, 3);
    fpl_runs_free(&runs);

    int calls = 0;
    assert_int_equal(fpl_store_diagnosed(s, refuse, &calls, &err), FPL_SYSTEM);
    assert_int_equal(calls, 1);

    put(s, 2, 0, a); /* a record that replaces another takes its diagnoses along */
    assert_int_equal(fpl_store_diagnoses(s, a, &points, &count, &err), FPL_OK);
    assert_int_equal(count, 0);
    fpl_diagnosis_free(points, count);
    fpl_store_close(s);
}

static void damage_is_told(void **state) {
    (void)state;
    struct fpl_store *s = open_store();
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_diagnosis_point *points;
    struct fpl_record r;
    char id[17];
    int64_t count;
    put(s, 5, 4, id);
    (void)integer("UPDATE diagnoses SET points = replace(points, 'wgrad', 'vgrad')");
    assert_int_equal(fpl_store_diagnoses(s, id, &points, &count, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "study.db"));
    assert_non_null(strstr(err.text, "damaged"));
    assert_null(strchr(err.text, '\n'));
    assert_int_equal(fpl_store_get(s, id, &r, &err), FPL_INVALID);
    fpl_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(what_goes_in_comes_out, enter, leave),
                                       cmocka_unit_test_setup_teardown(damage_is_told, enter, leave)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
