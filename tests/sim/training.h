/* training.h - what the training tests share: a tiny configuration, runs with a stop at a
 * chosen step, and comparison of records and checkpoints bit by bit. */
#ifndef FPL_TEST_TRAINING_H
#define FPL_TEST_TRAINING_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../sim/base/file.h"
#include "../../sim/train/train.h"

#define TEST_DATA "lexicon:words=512"

static inline void set(struct fpl_config *c, const char *key, const char *value) {
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_config_set(c, key, value, &err) != FPL_OK) fail_msg("%s", err.text);
}

/* Two layers of width 16, four sequences of 16 tokens a step, 12 steps. */
static inline struct fpl_config tiny(void) {
    static const char *const options[][2] = {
        {"width", "16"},        {"heads", "2"},         {"ffn", "24"},    {"seq", "16"},
        {"data", TEST_DATA},    {"batch_tokens", "64"}, {"steps", "12"},  {"lr", "1e-2"},
        {"micro_tokens", "32"}, {"eval_tokens", "512"}, {"warmup", "0.2"}};
    struct fpl_config c;
    fpl_config_defaults(&c);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) set(&c, options[i][0], options[i][1]);
    return c;
}

static inline struct fpl_data *open_data(const struct fpl_config *c) {
    struct fpl_data *d = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_data_open(c->data, c->seq, c->data_seed, &d, &err) != FPL_OK) fail_msg("%s", err.text);
    return d;
}

/* A run that gets SIGINT after the given step (0: never). */
struct interruption {
    int64_t at;
    volatile sig_atomic_t signal;
};

static inline void interrupt(void *context, int64_t step, int64_t steps, double loss) {
    struct interruption *i = context;
    (void)steps;
    (void)loss;
    if (step == i->at) i->signal = SIGINT;
}

static inline enum fpl_code train(const struct fpl_config *c, int R, const struct fpl_data *d,
                                  const char *checkpoint, int64_t stop_after, int threads,
                                  struct fpl_record *records, struct fpl_error *err) {
    struct interruption i = {.at = stop_after};
    char name[64][300]; /* run r of a pack has checkpoint.r */
    const char *paths[64] = {checkpoint};
    for (int r = 1; r < R && checkpoint != NULL; r++) {
        snprintf(name[r], sizeof name[r], "%s.%d", checkpoint, r);
        paths[r] = name[r];
    }
    const struct fpl_train_options o = {.kernels = fpl_backend("cpu"),
                                        .threads = threads,
                                        .checkpoint = checkpoint != NULL ? paths : NULL,
                                        .stop = &i.signal,
                                        .progress = stop_after > 0 ? interrupt : NULL,
                                        .context = &i};
    return fpl_train(c, R, d, &o, records, err);
}

static inline struct fpl_record train_one(const struct fpl_config *c, const struct fpl_data *d,
                                          const char *checkpoint) {
    struct fpl_record r;
    struct fpl_error err = {FPL_OK, ""};
    if (train(c, 1, d, checkpoint, 0, 1, &r, &err) != FPL_OK) fail_msg("%s", err.text);
    return r;
}

static inline int same_bits(double a, double b) {
    return memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

static inline void assert_same_points(const struct fpl_point *a, const struct fpl_point *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(a[i].step, b[i].step);
        assert_true(same_bits(a[i].loss, b[i].loss));
        assert_true(same_bits(a[i].se, b[i].se));
        assert_true(same_bits(a[i].grad_norm, b[i].grad_norm));
    }
}

static inline void assert_same_diagnoses(const struct fpl_record *a, const struct fpl_record *b) {
    assert_int_equal(a->diagnosis_count, b->diagnosis_count);
    for (int64_t i = 0; i < a->diagnosis_count; i++) {
        const struct fpl_diagnosis_point *p = &a->diagnosis[i], *q = &b->diagnosis[i];
        assert_true(p->step == q->step && p->layer == q->layer && strcmp(p->operand, q->operand) == 0);
        assert_true(p->elements == q->elements && p->nonfinite == q->nonfinite);
        assert_true(same_bits(p->sqnr_db, q->sqnr_db) && same_bits(p->underflow, q->underflow));
        assert_true(same_bits(p->clipped, q->clipped) && same_bits(p->amax, q->amax));
        assert_true(p->least == q->least && p->bins == q->bins);
        assert_memory_equal(p->count, q->count, (size_t)p->bins * sizeof *p->count);
    }
}

/* Everything but what was measured. */
static inline void assert_same_run(const struct fpl_record *a, const struct fpl_record *b) {
    assert_int_equal(a->status, b->status);
    assert_string_equal(a->why, b->why);
    assert_string_equal(a->canonical, b->canonical);
    assert_string_equal(a->id, b->id);
    assert_int_equal(a->steps, b->steps);
    assert_int_equal(a->nonfinite, b->nonfinite);
    assert_int_equal(a->spikes, b->spikes);
    assert_true(same_bits(a->loss, b->loss) && same_bits(a->loss_se, b->loss_se));
    assert_true(same_bits(a->oracle, b->oracle) && same_bits(a->D, b->D));
    assert_int_equal(a->curve_count, b->curve_count);
    assert_int_equal(a->eval_count, b->eval_count);
    assert_same_points(a->curve, b->curve, a->curve_count);
    assert_same_points(a->eval, b->eval, a->eval_count);
    assert_same_diagnoses(a, b);
}

/* Name of a file in a fresh directory; forget_path removes both. */
static inline char *fresh_path(void) {
    char directory[] = "/tmp/fplaw-test.XXXXXX";
    assert_non_null(mkdtemp(directory));
    char *path = malloc(sizeof directory + 16);
    assert_non_null(path);
    snprintf(path, sizeof directory + 16, "%s/checkpoint.bin", directory);
    return path;
}

static inline void forget_path(char *path) {
    char other[300];
    unlink(path);
    for (int r = 1; r < 64; r++) {
        snprintf(other, sizeof other, "%s.%d", path, r);
        if (unlink(other) != 0) break;
    }
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0); /* fails if a temporary file was left behind */
    free(path);
}

static inline char *read_whole(const char *path, size_t *size) {
    char *data = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_file_read(path, (size_t)1 << 30, &data, size, &err) != FPL_OK) fail_msg("%s", err.text);
    return data;
}

#endif
