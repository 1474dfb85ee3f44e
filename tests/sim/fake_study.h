/* fake_study.h - a study's parent and its workers, with a training function that answers at once: the
 * test program runs itself again as the worker.
 *
 * What the fake training does is said by FAKE_TRAIN in the environment:
 *   die=SEED     the worker kills itself on runs of this seed, each time
 *   once=PATH    the worker kills itself if PATH does not exist, and makes it
 *   bad=SEED     runs of this seed end with FPL_INVALID
 *   full=SEED    runs of this seed end with FPL_SYSTEM
 *   slow=MS      every run takes this long, and can be stopped
 *   hold=PATH    a worker's first run or pack makes PATH, then waits until it is stopped; after=N: the one
 *                after N others
 *   lie=SEED     answers for another run
 *   room=R       more than R runs side by side are out of memory
 *   best=R       what a measurement finds; dead=1: it kills its worker instead
 *   log=PATH     every pack that ends well adds a line: the device and how many runs it had
 */
#ifndef FPL_FAKE_STUDY_H
#define FPL_FAKE_STUDY_H

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
static inline void remember(int number) { stopped = number; }

/* "key=value" words of FAKE_TRAIN. */
static inline const char *wish(const char *key, char value[200]) {
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

static inline int wished_seed(const char *key, uint64_t seed) {
    char value[200];
    return wish(key, value) != NULL && strtoull(value, NULL, 10) == seed;
}

/* Chinchilla-like levels, a bowl in ln lr around Step Law's shape, no noise. */
static inline double fake_loss(const struct fpl_config *c) {
    double N = fpl_config_params(c), D = (double)(fpl_config_steps(c) * c->batch_tokens);
    double u = log(c->lr) - log(5.0 * pow(N, -0.7) * pow(D, 0.2));
    double v = log((double)c->batch_tokens) - log(0.6 * pow(D, 0.5));
    return (1 + 10 * pow(N, -0.3) + 50 * pow(D, -0.4)) * exp(0.01 * u * u + 0.01 * v * v);
}

static inline enum fpl_code fail_as_wished(const struct fpl_config *c, struct fpl_error *err) {
    char value[200];
    if (wished_seed("die", c->seed)) raise(SIGKILL);
    if (wish("once", value) != NULL) {
        int fd = open(value, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (fd >= 0) raise(SIGKILL);
    }
    if (wished_seed("bad", c->seed)) return fpl_fail(err, FPL_INVALID, "this run is bad");
    if (wished_seed("full", c->seed)) return fpl_fail(err, FPL_SYSTEM, "the disk is full");
    return FPL_OK;
}

/* Milliseconds.  A minute where it is held: a study that never stops its workers fails rather than hangs. */
static inline int wished_time(void) {
    static int calls; /* of this worker */
    char value[200];
    if (wish("slow", value) != NULL) return atoi(value);
    if (wish("hold", value) == NULL) return 0;
    int due = calls++ >= (wish("after", value) != NULL ? atoi(value) : 0);
    if (!due) return 0;
    close(open(wish("hold", value), O_CREAT | O_WRONLY, 0600));
    return 60000;
}

static inline enum fpl_code take_time(const struct fpl_train_options *o, int R, struct fpl_error *err) {
    int milliseconds = wished_time();
    for (int i = 0; i < milliseconds; i++) {
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
        if (*o->stop == 0) continue;
        for (int r = 0; r < R; r++)
            if (fpl_file_write(o->checkpoint[r], "half", 4, err) != FPL_OK) return FPL_SYSTEM;
        return fpl_fail(err, FPL_STOPPED, "stopped");
    }
    return FPL_OK;
}

static inline void answer_for(const struct fpl_config *c, const struct fpl_data *data, struct fpl_record *r) {
    struct fpl_data_info info;
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
}

static inline enum fpl_code fake_train(const struct fpl_config *c, int R, const struct fpl_data *data,
                                       const struct fpl_train_options *o, struct fpl_record *records,
                                       struct fpl_error *err) {
    char value[200];
    if (wish("room", value) != NULL && R > atoi(value)) return fpl_fail(err, FPL_MEMORY, "it is full here");
    enum fpl_code code = FPL_OK;
    for (int r = 0; code == FPL_OK && r < R; r++) code = fail_as_wished(&c[r], err);
    for (int r = R - 1; code == FPL_OK && r >= 0; r--) { /* the last one drops out before the others */
        if (r < R - 1 || R == 1) code = r == R - 2 || R == 1 ? take_time(o, r + 1, err) : FPL_OK;
        if (code != FPL_OK) break;
        answer_for(&c[r], data, &records[r]);
        o->ended(o->context, r, &records[r]);
    }
    FILE *log = code == FPL_OK && wish("log", value) != NULL ? fopen(value, "a") : NULL;
    if (log != NULL) {
        fprintf(log, "device %d pack %d\n", o->device, R);
        fclose(log);
    }
    return code;
}

static inline enum fpl_code fake_measure(const struct fpl_config *c, int count, const struct fpl_data *data,
                                         const struct fpl_train_options *o, struct fpl_pack_speed *out,
                                         struct fpl_error *err) {
    char value[200];
    (void)data;
    (void)o;
    if (wish("dead", value) != NULL) raise(SIGKILL);
    for (int i = 1; i < count; i++) {
        char a[17], b[17];
        fpl_train_shape(&c[0], a);
        fpl_train_shape(&c[i], b);
        if (strcmp(a, b) != 0) return fpl_fail(err, FPL_INVALID, "these have two shapes");
    }
    *out = (struct fpl_pack_speed){.best = count, .tried = 2, .replicas = {1, 2}, .seconds = {0.01, 0.011}};
    if (wish("best", value) != NULL && atoi(value) < count) out->best = atoi(value);
    return FPL_OK;
}

static inline int worker_main(const char *parent) {
    struct fpl_error err = {FPL_OK, ""};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct fpl_worker_options o = {
        .parent = atoi(parent), .train = fake_train, .measure = fake_measure, .stop = &stopped};
    return fpl_study_serve(stdin, stdout, &o, &err) == FPL_OK ? 0 : 1;
}

/* ---- the parent --------------------------------------------------------------------------------- */

static char directory[64];
static char notes[4096];
static struct fpl_study_plan last_plan;
static volatile sig_atomic_t stop;
static const char *stop_when;             /* this file exists; NULL: never */
static int pack_limit, measures, devices; /* of the calls that follow */

static const char small_study[] = "options: {layers: 1, width: 16, heads: 1, seq: 16, batch_tokens: 64, "
                                  "tokens: 8k, data: \"lexicon:words=64\"}\n"
                                  "seeds: 4\ngrid: {lr: [1e-3, 2e-3, 4e-3]}\n";

static inline int enter(void **unused) {
    (void)unused;
    strcpy(directory, "/tmp/test_study_run.XXXXXX");
    return mkdtemp(directory) == NULL;
}

static inline int leave(void **unused) {
    (void)unused;
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static inline const char *sub(const char *name) {
    static char path[260];
    snprintf(path, sizeof path, "%.90s/%.160s", directory, name);
    return path;
}

static inline void on_plan(void *context, const struct fpl_study *s, const struct fpl_study_plan *plan) {
    (void)context;
    (void)s;
    last_plan = *plan;
}

static inline void on_progress(void *context, double done, const char *text) {
    (void)context;
    assert_true(done >= 0 && done <= 1 && strstr(text, " runs") != NULL);
    if (stop_when != NULL && access(stop_when, F_OK) == 0) stop = SIGTERM;
}

static inline void on_note(void *context, const char *text) {
    (void)context;
    snprintf(notes + strlen(notes), sizeof notes - strlen(notes), "%s\n", text);
}

static inline enum fpl_code run_with(const char *text, const char *name, int workers, double budget,
                                     const char *wishes, struct fpl_study_result *result,
                                     struct fpl_error *err) {
    static const char *const worker[] = {"/proc/self/exe", "worker", NULL};
    struct fpl_study *s = NULL;
    if (fpl_study_parse("s.yaml", text, strlen(text), "cpu", &s, err) != FPL_OK) fail_msg("%s", err->text);
    char path[260];
    snprintf(path, sizeof path, "%s", sub(name));
    struct fpl_study_options o = {.directory = path,
                                  .workers = workers,
                                  .pack = pack_limit,
                                  .measure = measures,
                                  .device = devices > 0 ? 4 : 0,
                                  .devices = devices,
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

static inline void run_ok(const char *text, const char *name, int workers, const char *wishes, size_t done) {
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    if (run_with(text, name, workers, 0, wishes, &result, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(result.done, done);
    assert_int_equal(result.runs, done);
    assert_int_equal(result.failed, 0);
}

/* A study that is stopped when one of its workers is in the middle of a run: no clock decides when. */
static inline enum fpl_code run_held(const char *text, const char *name, int workers, int after,
                                     struct fpl_study_result *result, struct fpl_error *err) {
    char held[300], wishes[400];
    snprintf(held, sizeof held, "%s.held", sub(name));
    snprintf(wishes, sizeof wishes, "hold=%s after=%d", held, after);
    stop_when = held;
    enum fpl_code code = run_with(text, name, workers, 0, wishes, result, err);
    stop_when = NULL;
    return code;
}

static inline char *table_of(const char *name) {
    struct fpl_store *s = NULL;
    struct fpl_runs runs;
    assert_int_equal(fpl_store_open(sub(name), 0, &s, NULL), FPL_OK);
    assert_int_equal(fpl_store_runs(s, &runs, NULL), FPL_OK);
    char *csv = fpl_runs_to_csv(&runs, 0);
    fpl_runs_free(&runs);
    fpl_store_close(s);
    return csv;
}

static inline void expect_same_table(const char *a, const char *b) {
    char *x = table_of(a), *y = table_of(b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

/* A bowl, and runs at the optimum that its fit finds. */
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

#endif
