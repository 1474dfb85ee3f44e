/* Runs of a study one by one: workers, deaths, errors, signals, budgets, stages (fake_study.h). */
#include "fake_study.h"

static void test_workers(void **unused) {
    (void)unused;
    run_ok(small_study, "one", 1, "", 12);
    assert_int_equal(last_plan.runs, 12);
    assert_int_equal(last_plan.missing, 12);
    assert_int_equal(last_plan.measured, 0);
    assert_true(last_plan.flop > 0 && last_plan.seconds > 0);
    run_ok(small_study, "three", 3, "", 12);
    expect_same_table("one", "three");
    run_ok(small_study, "one", 2, "", 12); /* nothing is left to do */
    assert_int_equal(last_plan.missing, 0);
    /* A study that grew does only what is new; the copy follows. */
    static const char larger[] = "options: {layers: 1, width: 16, heads: 1, seq: 16, batch_tokens: 64, "
                                 "tokens: 8k, data: \"lexicon:words=64\"}\n"
                                 "seeds: 5\ngrid: {lr: [1e-3, 2e-3, 4e-3]}\n";
    run_ok(larger, "one", 2, "", 15);
    assert_int_equal(last_plan.missing, 3);
    assert_int_equal(last_plan.measured, 1);
    char *copy, path[300];
    size_t size;
    snprintf(path, sizeof path, "%s/study.yaml", sub("one"));
    assert_int_equal(fpl_file_read(path, 10000, &copy, &size, NULL), FPL_OK);
    assert_string_equal(copy, larger);
    free(copy);
}

/* A worker that dies is replaced, its run tried once more; a run that kills twice is reported. */
static void test_deaths(void **unused) {
    (void)unused;
    char wishes[300];
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    snprintf(wishes, sizeof wishes, "once=%s", sub("mark"));
    run_ok(small_study, "once", 2, wishes, 12);
    assert_non_null(strstr(notes, "killed by signal 9"));
    expect_same_table("three", "once");
    assert_int_equal(run_with(small_study, "die", 2, 0, "die=3", &result, &err), FPL_SYSTEM);
    assert_int_equal(result.failed, 3);
    assert_int_equal(result.done, 9);
    assert_non_null(strstr(err.text, "3 of 12 runs failed"));
    assert_non_null(strstr(err.text, "died twice (killed by signal 9)"));
    run_ok(small_study, "die", 2, "", 12);
    expect_same_table("three", "die");
}

static void test_errors(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    /* A bad run does not stop the others, a full disk does. */
    assert_int_equal(run_with(small_study, "bad", 2, 0, "bad=2", &result, &err), FPL_INVALID);
    assert_int_equal(result.done, 9);
    assert_non_null(strstr(err.text, "this run is bad"));
    assert_int_equal(run_with(small_study, "full", 1, 0, "full=2", &result, &err), FPL_SYSTEM);
    assert_int_equal(result.done, 3);
    assert_non_null(strstr(err.text, "the disk is full"));
    run_ok(small_study, "full", 1, "", 12);
    assert_int_equal(run_with(small_study, "lie", 2, 0, "lie=2", &result, &err), FPL_INVALID);
    assert_int_equal(result.failed, 3);
    assert_non_null(strstr(err.text, "answered for run"));
    expect_same_table("three", "full");
}

/* A signal: workers leave checkpoints, the next call goes on and removes them. */
static void test_stop(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    char path[300];
    assert_int_equal(run_held(small_study, "stop", 2, 2, &result, &err), FPL_STOPPED);
    assert_true(result.done >= 2 && result.done < 12);
    assert_int_equal(result.failed, 0);
    snprintf(path, sizeof path, "ls %s/checkpoints | grep -q .", sub("stop"));
    assert_int_equal(system(path), 0);
    run_ok(small_study, "stop", 2, "", 12);
    assert_int_not_equal(system(path), 0);
    expect_same_table("three", "stop");
}

/* No run starts that would end after the budget; the time used is remembered. */
static void test_budget(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(run_with(small_study, "budget", 1, 0.5, "slow=120", &result, &err), FPL_OK);
    assert_int_equal(result.out_of_budget, 1);
    assert_true(result.done >= 1 && result.done <= 6);
    assert_int_equal(result.left, 12 - result.done);
    assert_int_equal(run_with(small_study, "budget", 1, 0.5, "", &result, &err), FPL_OK);
    assert_int_equal(result.ran, 0);
    assert_true(last_plan.spent > 0.1);
    assert_int_equal(run_with(small_study, "budget", 1, 100, "", &result, &err), FPL_OK);
    assert_int_equal(result.done, 12);
    assert_int_equal(result.out_of_budget, 0);
    expect_same_table("three", "budget");
}

/* ---- stages ----------------------------------------------------------------------------------------- */

/* Learning rates of a later stage come from a fit of an earlier one; going on changes nothing. */
static void test_fitted_stage(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    run_ok(staged, "staged", 2, "", 56);
    assert_int_equal(last_plan.waiting, 2);
    char path[300], *fit, *again;
    size_t size;
    snprintf(path, sizeof path, "%s/fit-bowl.json", sub("staged"));
    assert_int_equal(fpl_file_read(path, 1 << 20, &fit, &size, NULL), FPL_OK);
    assert_non_null(strstr(fit, "steplaw"));
    assert_int_equal(run_held(staged, "staged2", 1, 28, &result, &err), FPL_STOPPED);
    assert_int_equal(result.done, 28);
    run_ok(staged, "staged2", 2, "", 56);
    expect_same_table("staged", "staged2");
    run_ok(staged, "staged", 2, "", 56);
    assert_int_equal(last_plan.waiting, 0);
    assert_int_equal(fpl_file_read(path, 1 << 20, &again, &size, NULL), FPL_OK);
    assert_string_equal(fit, again);
    free(fit);
    free(again);
    /* The fit found the fake's optimum: u = 0 at its learning rate. */
    struct fpl_study *s = NULL;
    struct fpl_store *store = NULL;
    struct fpl_study_options o = {.directory = sub("staged")};
    assert_int_equal(fpl_study_parse("s.yaml", staged, strlen(staged), "cpu", &s, NULL), FPL_OK);
    assert_int_equal(fpl_store_open(sub("staged"), 0, &store, NULL), FPL_OK);
    o.directory = sub("staged");
    if (study_resolve_fitted(s, 1, store, &o, &err) != FPL_OK) fail_msg("%s", err.text);
    const struct fpl_config *c = &s->run[s->stage[1].run[0]].config;
    double N = fpl_config_params(c), D = (double)(fpl_config_steps(c) * c->batch_tokens);
    assert_true(fabs(log2(c->lr / (5.0 * pow(N, -0.7) * pow(D, 0.2)))) < 0.3);
    fpl_store_close(store);
    fpl_study_free(s);
}

/* A fit that its runs do not identify is no guide: the study stops, keeps every run, and goes on once
 * the file names constants instead. */
static const char vague_bowl[] =
    "options: {layers: 1, heads: 1, seq: 16, data: \"lexicon:words=64\"}\n"
    "stages:\n"
    "  - name: bowl\n"
    "    grid: {width: [8, 16, 32], tokens: [32k, 64k, 128k, 256k], lr_octaves: [-1, 1]}\n"
    "    options: {lr: law, batch_tokens: law}\n"
    "    law: {lr: {c: 5, N: -0.7, D: 0.2}, batch: {c: 0.6, D: 0.5}}\n"
    "  - name: next\n"
    "    after: bowl\n"
    "    options: {lr: law, batch_tokens: law}\n"
    "    grid: {width: [16], tokens: [128k]}\n"
    "    law: ";

static void test_vague_stage(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    char text[1200], path[300];
    snprintf(text, sizeof text, "%s{fit: bowl, law: joint}\n", vague_bowl);
    assert_int_equal(run_with(text, "vague", 2, 0, "", &result, &err), FPL_NOT_CONVERGED);
    if (strstr(err.text, "joint") == NULL || strstr(err.text, "bowl") == NULL ||
        strstr(err.text, "add runs to the stage") == NULL)
        fail_msg("the message does not name law, stage and remedy: %s", err.text);
    assert_int_equal(result.done, 24);
    snprintf(path, sizeof path, "%s/fit-bowl.json", sub("vague"));
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(text, sizeof text, "%s{lr: {c: 5, N: -0.7, D: 0.2}, batch: {c: 0.6, D: 0.5}}\n", vague_bowl);
    assert_int_equal(run_with(text, "vague", 2, 0, "", &result, &err), FPL_OK);
    assert_int_equal(result.done, 25);
    assert_int_equal(result.ran, 1);
}

static void test_locked(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    char path[300];
    run_ok(small_study, "locked", 1, "", 12);
    snprintf(path, sizeof path, "%s/lock", sub("locked"));
    int fd = open(path, O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(run_with(small_study, "locked", 1, 0, "", &result, &err), FPL_SYSTEM);
    assert_non_null(strstr(err.text, "another study is running here"));
    close(fd);
    run_ok(small_study, "locked", 1, "", 12);
}

/* The disk fills while storing: told, and what was stored is there. */
static void test_full_disk(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 24 * 1024;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    enum fpl_code code = run_with(small_study, "disk", 2, 0, "", &result, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(code, FPL_SYSTEM);
    assert_non_null(strstr(err.text, "study.db"));
    assert_true(result.done >= 1 && result.done < 12);
    run_ok(small_study, "disk", 2, "", 12);
    expect_same_table("three", "disk");
}

static void test_dry_run(void **unused) {
    (void)unused;
    struct fpl_study *s = NULL;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    struct stat st;
    assert_int_equal(fpl_study_parse("s.yaml", small_study, strlen(small_study), "cpu", &s, NULL), FPL_OK);
    struct fpl_study_options o = {.directory = sub("dry"), .workers = 1, .dry_run = 1, .planned = on_plan};
    assert_int_equal(fpl_study_run(s, &o, &result, &err), FPL_OK);
    assert_int_equal(last_plan.missing, 12);
    assert_int_not_equal(stat(sub("dry"), &st), 0);
    fpl_study_free(s);
}

/* The worker command cannot be started, or never answers. */
static void test_no_worker(void **unused) {
    (void)unused;
    static const char *const absent[] = {"/no/such/program", NULL}, *const mute[] = {"/bin/true", NULL};
    const char *const *commands[] = {absent, mute};
    for (int i = 0; i < 2; i++) {
        struct fpl_study *s = NULL;
        struct fpl_study_result result;
        struct fpl_error err = {FPL_OK, ""};
        assert_int_equal(fpl_study_parse("s.yaml", small_study, strlen(small_study), "cpu", &s, NULL),
                         FPL_OK);
        struct fpl_study_options o = {.directory = sub("mute"), .workers = 2, .worker = commands[i]};
        assert_int_equal(fpl_study_run(s, &o, &result, &err), FPL_SYSTEM);
        assert_true(strlen(err.text) > 0);
        assert_int_equal(result.done, 0);
        fpl_study_free(s);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "worker") == 0) return worker_main(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_workers),    cmocka_unit_test(test_deaths),
                                       cmocka_unit_test(test_errors),     cmocka_unit_test(test_stop),
                                       cmocka_unit_test(test_budget),     cmocka_unit_test(test_fitted_stage),
                                       cmocka_unit_test(test_locked),     cmocka_unit_test(test_full_disk),
                                       cmocka_unit_test(test_dry_run),    cmocka_unit_test(test_no_worker),
                                       cmocka_unit_test(test_vague_stage)};
    return cmocka_run_group_tests(tests, enter, leave);
}
