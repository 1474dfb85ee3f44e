/* test_study_run.c - a study's parent and its workers, with a training function that answers at
 * once: this program runs itself again as the worker.
 *
 * What the fake training does is said by FAKE_TRAIN in the environment:
 *   die=SEED     the worker kills itself on runs of this seed, each time
 *   once=PATH    the worker kills itself if PATH does not exist, and makes it
 *   bad=SEED     runs of this seed end with FPL_INVALID
 *   full=SEED    runs of this seed end with FPL_SYSTEM
 *   slow=MS      every run takes this long, and can be stopped
 *   lie=SEED     answers for another run
 */
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
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../sim/base/file.h"
#include "../../sim/study/internal.h"

/* ---- the worker --------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopped;
static void remember(int number) { stopped = number; }

/* "key=value" words of FAKE_TRAIN. */
static const char *wish(const char *key, char value[200]) {
    const char *text = getenv("FAKE_TRAIN");
    size_t n = strlen(key);
    for (; text != NULL && *text != '\0'; text += strspn(text, " ")) {
        size_t length = strcspn(text, " ");
        if (length > n && strncmp(text, key, n) == 0 && text[n] == '=') {
            snprintf(value, 200, "%.*s", (int)(length - n - 1), text + n + 1);
            return value;
        }
        text += length;
    }
    return NULL;
}

static int wished_seed(const char *key, uint64_t seed) {
    char value[200];
    return wish(key, value) != NULL && strtoull(value, NULL, 10) == seed;
}

/* Chinchilla-like levels, a bowl in ln lr around Step Law's shape, no noise. */
static double fake_loss(const struct fpl_config *c) {
    double N = fpl_config_params(c), D = (double)(fpl_config_steps(c) * c->batch_tokens);
    double u = log(c->lr) - log(5.0 * pow(N, -0.7) * pow(D, 0.2));
    double v = log((double)c->batch_tokens) - log(0.6 * pow(D, 0.5));
    return (1 + 10 * pow(N, -0.3) + 50 * pow(D, -0.4)) * exp(0.01 * u * u + 0.01 * v * v);
}

static enum fpl_code fake_train(const struct fpl_config *c, int R, const struct fpl_data *data,
                                const struct fpl_train_options *o, struct fpl_record *r,
                                struct fpl_error *err) {
    char value[200];
    struct fpl_data_info info;
    assert_int_equal(R, 1);
    if (wished_seed("die", c->seed)) raise(SIGKILL);
    if (wish("once", value) != NULL) {
        int fd = open(value, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd >= 0) raise(SIGKILL);
    }
    if (wished_seed("bad", c->seed)) return fpl_fail(err, FPL_INVALID, "this run is bad");
    if (wished_seed("full", c->seed)) return fpl_fail(err, FPL_SYSTEM, "the disk is full");
    for (int i = 0; wish("slow", value) != NULL && i < atoi(value); i++) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        if (*o->stop != 0) {
            if (fpl_file_write(o->checkpoint[0], "half", 4, err) != FPL_OK) return FPL_SYSTEM;
            return fpl_fail(err, FPL_STOPPED, "stopped");
        }
    }
    fpl_data_info(data, &info);
    struct fpl_config other = *c;
    if (wished_seed("lie", c->seed)) other.seed += 1000;
    r->canonical = fpl_config_canonical(&other, "cpu", info.fingerprint);
    fpl_config_id(r->canonical, r->id);
    r->status = FPL_RUN_OK;
    r->N = fpl_config_params(c);
    r->steps = fpl_config_steps(c);
    r->D = (double)(r->steps * c->batch_tokens);
    r->loss = fake_loss(c);
    r->loss_se = 0.001;
    r->oracle = r->entropy_rate = r->unigram_entropy = r->joules = (double)NAN;
    r->flop = 1e9;
    r->seconds = 0.05;
    strcpy(r->backend, "cpu");
    r->numerics = FPL_NUMERICS;
    return FPL_OK;
}

static int worker_main(const char *parent) {
    struct fpl_error err = {FPL_OK, ""};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct fpl_worker_options o = {.parent = atoi(parent), .train = fake_train, .stop = &stopped};
    return fpl_study_serve(stdin, stdout, &o, &err) == FPL_OK ? 0 : 1;
}

/* ---- the parent --------------------------------------------------------------------------------- */

static char directory[64];
static char notes[4096];
static struct fpl_study_plan last_plan;
static volatile sig_atomic_t stop;
static double stop_after; /* share of the work; 0: never */

static const char small_study[] = "options: {layers: 1, width: 16, heads: 1, seq: 16, batch_tokens: 64, "
                                  "tokens: 8k, data: \"lexicon:words=64\"}\n"
                                  "seeds: 4\ngrid: {lr: [1e-3, 2e-3, 4e-3]}\n";

static int enter(void **unused) {
    (void)unused;
    strcpy(directory, "/tmp/test_study_run.XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int leave(void **unused) {
    (void)unused;
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static const char *sub(const char *name) {
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void on_plan(void *context, const struct fpl_study *s, const struct fpl_study_plan *plan) {
    (void)context;
    (void)s;
    last_plan = *plan;
}

static void on_progress(void *context, double done, const char *text) {
    (void)context;
    assert_true(done >= 0 && done <= 1 && strstr(text, " runs") != NULL);
    if (stop_after > 0 && done >= stop_after) stop = SIGTERM;
}

static void on_note(void *context, const char *text) {
    (void)context;
    snprintf(notes + strlen(notes), sizeof notes - strlen(notes), "%s\n", text);
}

static enum fpl_code run_with(const char *text, const char *name, int workers, double budget,
                              const char *wishes, struct fpl_study_result *result, struct fpl_error *err) {
    static const char *const worker[] = {"/proc/self/exe", "worker", NULL};
    struct fpl_study *s = NULL;
    if (fpl_study_parse("s.yaml", text, strlen(text), "cpu", &s, err) != FPL_OK) fail_msg("%s", err->text);
    char path[160];
    snprintf(path, sizeof path, "%s", sub(name));
    struct fpl_study_options o = {.directory = path,
                                  .workers = workers,
                                  .budget = budget,
                                  .worker = worker,
                                  .stop = &stop,
                                  .version = "test",
                                  .revision = "test",
                                  .planned = on_plan,
                                  .progress = on_progress,
                                  .note = on_note};
    notes[0] = '\0';
    stop = 0;
    setenv("FAKE_TRAIN", wishes, 1);
    enum fpl_code code = fpl_study_run(s, &o, result, err);
    fpl_study_free(s);
    return code;
}

static void run_ok(const char *text, const char *name, int workers, const char *wishes, size_t done) {
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    if (run_with(text, name, workers, 0, wishes, &result, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(result.done, done);
    assert_int_equal(result.runs, done);
    assert_int_equal(result.failed, 0);
}

static char *table_of(const char *name) {
    struct fpl_store *s = NULL;
    struct fpl_runs runs;
    assert_int_equal(fpl_store_open(sub(name), 0, &s, NULL), FPL_OK);
    assert_int_equal(fpl_store_runs(s, &runs, NULL), FPL_OK);
    char *csv = fpl_runs_to_csv(&runs, 0);
    fpl_runs_free(&runs);
    fpl_store_close(s);
    return csv;
}

static void expect_same_table(const char *a, const char *b) {
    char *x = table_of(a), *y = table_of(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

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
    char *copy, path[200];
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
    stop_after = 0.3;
    enum fpl_code code = run_with(small_study, "stop", 2, 0, "slow=60", &result, &err);
    stop_after = 0;
    assert_int_equal(code, FPL_STOPPED);
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

/* Learning rates of a later stage come from a fit of an earlier one; going on changes nothing. */
static const char staged[] =
    "options: {layers: 1, heads: 1, seq: 16, data: \"lexicon:words=64\"}\n"
    "stages:\n"
    "  - name: bowl\n"
    "    grid: {width: [8, 16, 32], tokens: [64k, 256k], lr_octaves: [-1, 0, 1], batch_octaves: [-1, 0, 1]}\n"
    "    options: {lr: law, batch_tokens: law}\n"
    "    law: {lr: {c: 7, N: -0.7, D: 0.2}, batch: {c: 0.8, D: 0.5}}\n"
    "  - name: next\n"
    "    after: bowl\n"
    "    law: {fit: bowl}\n"
    "    options: {lr: law, batch_tokens: law}\n"
    "    grid: {width: [16], tokens: [128k], lr_octaves: [0, 1]}\n";

static void test_fitted_stage(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    run_ok(staged, "staged", 2, "", 56);
    assert_int_equal(last_plan.waiting, 2);
    char path[200], *fit, *again;
    size_t size;
    snprintf(path, sizeof path, "%s/fit-bowl.json", sub("staged"));
    assert_int_equal(fpl_file_read(path, 1 << 20, &fit, &size, NULL), FPL_OK);
    assert_non_null(strstr(fit, "steplaw"));
    stop_after = 0.5;
    assert_int_equal(run_with(staged, "staged2", 1, 0, "slow=2", &result, &err), FPL_STOPPED);
    stop_after = 0;
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
    char text[1200], path[200];
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
    char path[200];
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
