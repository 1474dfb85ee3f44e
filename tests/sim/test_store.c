/* test_store.c - the study's database: what goes in comes out, and damage is found and told. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "../../sim/base/config.h"
#include "../../sim/base/file.h"
#include "../../sim/store/store.h"

static char directory[64];

static int enter(void **unused) {
    (void)unused;
    strcpy(directory, "/tmp/test_store.XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int leave(void **unused) {
    (void)unused;
    char command[200];
    snprintf(command, sizeof command, "chmod -R u+w '%s'; rm -rf '%s'", directory, directory);
    return system(command);
}

/* A directory of this name below the test's own. */
static const char *sub(const char *name) {
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static struct fpl_store *open_store(const char *name, int create) {
    struct fpl_store *s = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_store_open(sub(name), create, &s, &err) != FPL_OK) fail_msg("%s", err.text);
    return s;
}

static struct fpl_record make_record(int i) {
    struct fpl_config c;
    struct fpl_record r;
    char seed[16], lr[32];
    memset(&r, 0, sizeof r);
    fpl_config_defaults(&c);
    snprintf(seed, sizeof seed, "%d", i);
    snprintf(lr, sizeof lr, "%.17g", 1e-3 / 3 + i);
    fpl_config_set(&c, "seed", seed, NULL);
    fpl_config_set(&c, "lr", lr, NULL);
    fpl_config_set(&c, "recipe", i % 3 == 0 ? "fp32" : i % 3 == 1 ? "full:e4m3/1x32" : "full:e2m1/row", NULL);
    r.status = i % 5 == 4 ? FPL_RUN_DIVERGED : FPL_RUN_OK;
    r.canonical = fpl_config_canonical(&c, "cpu", "test:1");
    fpl_config_id(r.canonical, r.id);
    r.N = fpl_config_params(&c);
    r.D = 5e5;
    r.steps = 1953;
    r.loss = r.status == FPL_RUN_OK ? 1.5 + 1.0 / (3 + i) : (double)NAN;
    r.loss_se = 0.01 / 3;
    r.oracle = r.entropy_rate = r.unigram_entropy = r.joules = (double)NAN;
    r.seconds = 0.5 + i;
    r.flop = 1e9;
    r.curve_count = 3;
    r.curve = calloc(3, sizeof *r.curve);
    for (int k = 0; k < 3; k++) r.curve[k] = (struct fpl_point){k, 3.0 - 0.1 * k, (double)NAN, 1.0 / 7};
    strcpy(r.backend, "cpu");
    strcpy(r.host, "somewhere");
    r.numerics = FPL_NUMERICS;
    return r;
}

static void put(struct fpl_store *s, int i) {
    struct fpl_record r = make_record(i);
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_store_put(s, &r, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_record_free(&r);
}

static void test_round_trip(void **unused) {
    (void)unused;
    struct fpl_store *s = open_store("a/b", 1);
    struct fpl_record in = make_record(7), out;
    assert_int_equal(fpl_store_has(s, in.id), 0);
    for (int i = 0; i < 20; i++) put(s, i);
    put(s, 7); /* again: replaces */
    fpl_store_close(s);
    s = open_store("a/b", 0);
    assert_int_equal(fpl_store_has(s, in.id), 1);
    assert_int_equal(fpl_store_get(s, in.id, &out, NULL), FPL_OK);
    char *a = fpl_record_to_json(&in), *b = fpl_record_to_json(&out);
    assert_string_equal(a, b);
    free(a);
    free(b);
    fpl_record_free(&out);
    struct fpl_error err;
    assert_int_equal(fpl_store_get(s, "0123456789abcdef", &out, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "0123456789abcdef"));
    struct fpl_runs runs;
    assert_int_equal(fpl_store_runs(s, &runs, NULL), FPL_OK);
    assert_int_equal(runs.count, 20);
    assert_int_equal(strlen(runs.hash), 32);
    assert_string_equal(runs.source, sub("a/b"));
    for (size_t i = 0; i < runs.count; i++) {
        const struct fpl_run *r = &runs.run[i];
        if (i > 0) assert_true(strcmp(runs.run[i - 1].run, r->run) < 0);
        assert_string_equal(r->backend, "cpu");
        assert_int_equal(r->numerics, FPL_NUMERICS);
        assert_true(r->N > 0 && r->lr >= 1e-3 / 3 && r->batch_tokens >= 256 && r->seq >= 64);
        assert_int_equal(isnan(r->loss) != 0, r->status == FPL_RUN_DIVERGED);
        assert_int_equal(isnan(r->E) != 0, strcmp(r->recipe, "fp32") == 0);
        assert_int_equal(isnan(r->block) != 0, strcmp(r->format, "e4m3") != 0);
        if (strcmp(r->format, "e4m3") == 0)
            assert_true(r->E >= 4 && r->E <= 4 && r->block >= 32 && r->block <= 32);
    }
    fpl_runs_free(&runs);
    struct fpl_store_speed *speed;
    size_t count;
    assert_int_equal(fpl_store_speeds(s, &speed, &count, NULL), FPL_OK);
    assert_int_equal(count, 20);
    int quantized = 0;
    for (size_t i = 0; i < count; i++) {
        quantized += speed[i].quantized;
        assert_true(speed[i].flop >= 1e9 && speed[i].seconds >= 0.5); /* evaluation is added */
    }
    assert_int_equal(quantized, 13);
    free(speed);
    fpl_store_close(s);
    fpl_record_free(&in);
}

static void test_texts(void **unused) {
    (void)unused;
    struct fpl_store *s = open_store("texts", 1);
    char *value = NULL;
    assert_int_equal(fpl_store_get_text(s, "name", &value, NULL), FPL_OK);
    assert_null(value);
    assert_int_equal(fpl_store_set_text(s, "name", "one 'two'; DROP TABLE runs", NULL), FPL_OK);
    assert_int_equal(fpl_store_set_text(s, "other", "", NULL), FPL_OK);
    assert_int_equal(fpl_store_get_text(s, "name", &value, NULL), FPL_OK);
    assert_string_equal(value, "one 'two'; DROP TABLE runs");
    free(value);
    assert_int_equal(fpl_store_set_text(s, "name", "three", NULL), FPL_OK);
    fpl_store_close(s);
    s = open_store("texts", 0);
    assert_int_equal(fpl_store_get_text(s, "name", &value, NULL), FPL_OK);
    assert_string_equal(value, "three");
    free(value);
    fpl_store_close(s);
}

/* A record whose configuration is not one is refused, not stored. */
static void test_bad_record(void **unused) {
    (void)unused;
    struct fpl_store *s = open_store("bad", 1);
    struct fpl_record r = make_record(1);
    struct fpl_error err = {FPL_OK, ""};
    free(r.canonical);
    r.canonical = strdup("layers=zero\n");
    assert_int_equal(fpl_store_put(s, &r, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "layers"));
    assert_int_equal(fpl_store_has(s, r.id), 0);
    fpl_record_free(&r);
    fpl_store_close(s);
}

static void expect_open_failure(const char *name, int create, enum fpl_code code, const char *part) {
    struct fpl_store *s = NULL;
    struct fpl_error err = {FPL_OK, ""};
    enum fpl_code got = fpl_store_open(sub(name), create, &s, &err);
    assert_null(s);
    if (got != code || strstr(err.text, part) == NULL || strstr(err.text, name) == NULL)
        fail_msg("%s: code %d, '%s' lacks '%s'", name, (int)got, err.text, part);
}

static void write_db(const char *name, const void *data, size_t size) {
    char path[200];
    assert_int_equal(fpl_make_directory(sub(name), NULL), FPL_OK);
    snprintf(path, sizeof path, "%s/study.db", sub(name));
    assert_int_equal(fpl_file_write(path, data, size, NULL), FPL_OK);
}

static void test_foreign(void **unused) {
    (void)unused;
    static const char text[] = "this is a text file, long enough to be looked at by the library ............"
                               "............................................................................";
    expect_open_failure("absent", 0, FPL_INVALID, "holds no study");
    write_db("text", text, sizeof text);
    expect_open_failure("text", 0, FPL_INVALID, "no study's database");
    expect_open_failure("text", 1, FPL_INVALID, "no study's database");
    write_db("void", "", 0);
    expect_open_failure("void", 0, FPL_INVALID, "empty");
    fpl_store_close(open_store("void", 1)); /* a kill before the first transaction leaves this */
    assert_int_equal(fpl_make_directory(sub("dir/study.db"), NULL), FPL_OK);
    expect_open_failure("dir", 0, FPL_INVALID, "no regular file");
    write_db("file", "x", 1);
    expect_open_failure("file/study.db", 1, FPL_INVALID, "directory");

    sqlite3 *db;
    char path[200];
    assert_int_equal(fpl_make_directory(sub("other"), NULL), FPL_OK);
    snprintf(path, sizeof path, "%s/study.db", sub("other"));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE t (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    expect_open_failure("other", 1, FPL_INVALID, "another program's");
    fpl_store_close(open_store("newer", 1));
    snprintf(path, sizeof path, "%s/study.db", sub("newer"));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    expect_open_failure("newer", 0, FPL_INVALID, "schema 99");
}

/* Cut off anywhere: refused.  Overwritten somewhere: refused, or the very same table. */
static void test_damaged(void **unused) {
    (void)unused;
    struct fpl_store *s = open_store("whole", 1);
    for (int i = 0; i < 60; i++) put(s, i);
    struct fpl_runs runs;
    char path[200], hash[33], *data = NULL;
    size_t size = 0;
    assert_int_equal(fpl_store_runs(s, &runs, NULL), FPL_OK);
    memcpy(hash, runs.hash, sizeof hash);
    fpl_runs_free(&runs);
    fpl_store_close(s);
    snprintf(path, sizeof path, "%s/study.db", sub("whole"));
    assert_int_equal(fpl_file_read(path, 10 << 20, &data, &size, NULL), FPL_OK);
    for (size_t cut = 1; cut < size; cut += size / 23) {
        write_db("cut", data, cut);
        struct fpl_error err = {FPL_OK, ""};
        enum fpl_code code = fpl_store_open(sub("cut"), cut % 2, &s, &err);
        if (code != FPL_INVALID) fail_msg("cut at %zu of %zu bytes: code %d", cut, size, (int)code);
        assert_non_null(strstr(err.text, "cut/study.db"));
    }
    int refused = 0;
    char *copy = malloc(size);
    for (size_t at = 0; at + 300 < size; at += size / 29) {
        struct fpl_error err = {FPL_OK, ""};
        memcpy(copy, data, size);
        memset(copy + at, 0x5a, 300);
        write_db("page", copy, size);
        enum fpl_code code = fpl_store_open(sub("page"), 0, &s, &err);
        if (code == FPL_OK) {
            code = fpl_store_runs(s, &runs, &err);
            if (code == FPL_OK) {
                assert_string_equal(runs.hash, hash);
                fpl_runs_free(&runs);
            }
            fpl_store_close(s);
        }
        assert_true(code == FPL_OK || (code == FPL_INVALID && err.text[0] != '\0'));
        refused += code != FPL_OK;
    }
    assert_true(refused > 10);
    free(copy);
    free(data);
}

/* Room for the first records only (a limit on file sizes stands for the full disk). */
static void test_full_disk(void **unused) {
    (void)unused;
    struct fpl_store *s = open_store("full", 1);
    struct rlimit old, small;
    struct fpl_error err = {FPL_OK, ""};
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 64 * 1024;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    int stored = 0;
    enum fpl_code code = FPL_OK;
    while (code == FPL_OK && stored < 1000) {
        struct fpl_record r = make_record(stored);
        code = fpl_store_put(s, &r, &err);
        stored += code == FPL_OK;
        fpl_record_free(&r);
    }
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(code, FPL_SYSTEM);
    assert_true(stored > 5 && stored < 1000);
    assert_non_null(strstr(err.text, "full/study.db"));
    put(s, stored); /* there is room again */
    fpl_store_close(s);
    s = open_store("full", 0);
    struct fpl_runs runs;
    assert_int_equal(fpl_store_runs(s, &runs, NULL), FPL_OK);
    assert_int_equal(runs.count, stored + 1);
    fpl_runs_free(&runs);
    fpl_store_close(s);
}

/* An unprivileged child, because permissions do not bind root: reading works, writing is told. */
static void test_read_only(void **unused) {
    (void)unused;
    struct fpl_store *s = open_store("readonly", 1);
    put(s, 1);
    fpl_store_close(s);
    assert_int_equal(chmod(directory, 0755), 0);
    assert_int_equal(chmod(sub("readonly"), 0555), 0);
    pid_t child = fork();
    if (child == 0) {
        struct fpl_error err = {FPL_OK, ""};
        struct fpl_runs runs;
        if (geteuid() == 0 && seteuid(65534) != 0) _exit(9);
        if (fpl_store_open(sub("readonly"), 0, &s, &err) != FPL_OK) _exit(1);
        if (fpl_store_runs(s, &runs, &err) != FPL_OK || runs.count != 1) _exit(2);
        fpl_runs_free(&runs);
        struct fpl_record r = make_record(2);
        int told = fpl_store_put(s, &r, &err) == FPL_SYSTEM && strstr(err.text, "readonly/study.db") != NULL;
        fpl_record_free(&r);
        fpl_store_close(s);
        told = told && fpl_store_open(sub("readonly/new"), 1, &s, &err) == FPL_SYSTEM;
        _exit(told ? 0 : 3);
    }
    int status = 0;
    waitpid(child, &status, 0);
    chmod(sub("readonly"), 0755);
    assert_int_equal(status, 0);
}

/* A child stores records and says so over a pipe until it is killed: all that it said is there. */
static void test_killed(void **unused) {
    (void)unused;
    int next = 0;
    for (int round = 0; round < 8; round++) {
        int ends[2], told = next;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            struct fpl_store *s = NULL;
            if (fpl_store_open(sub("killed"), 1, &s, NULL) != FPL_OK) _exit(1);
            for (int i = next;; i++) {
                struct fpl_record r = make_record(i);
                if (fpl_store_put(s, &r, NULL) != FPL_OK) _exit(2);
                if (write(ends[1], &i, sizeof i) != sizeof i) _exit(3);
                fpl_record_free(&r);
            }
        }
        close(ends[1]);
        int status = 0, i;
        /* Odd rounds let a record through first, however slow the machine is. */
        if (round % 2 == 1 && read(ends[0], &i, sizeof i) == sizeof i) told = i + 1;
        struct timespec delay = {0, 3000000L + 7000000L * round};
        nanosleep(&delay, NULL);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        while (read(ends[0], &i, sizeof i) == sizeof i) told = i + 1;
        close(ends[0]);
        struct fpl_store *s = open_store("killed", 1);
        for (i = 0; i < told; i++) {
            struct fpl_record r = make_record(i);
            assert_int_equal(fpl_store_has(s, r.id), 1);
            fpl_record_free(&r);
        }
        fpl_store_close(s);
        next = told;
    }
    assert_true(next > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_texts),
                                       cmocka_unit_test(test_bad_record), cmocka_unit_test(test_foreign),
                                       cmocka_unit_test(test_damaged),    cmocka_unit_test(test_full_disk),
                                       cmocka_unit_test(test_read_only),  cmocka_unit_test(test_killed)};
    return cmocka_run_group_tests(tests, enter, leave);
}
