/* Whole runs: what must not change a single bit (stopping, packing, threads, instruction
 * set), what must change little (micro-batches), and how runs go wrong.
 *
 * `test_train_run --digest` trains three recipes and prints their bits, for the comparison
 * of instruction sets, which are chosen once per process. */
#include <math.h>

#include "training.h"

#ifdef FPL_SANITIZED
#define LEARNING_STEPS "60"
#else
#define LEARNING_STEPS "600"
#endif

static const char *const recipes[] = {"fp32", "full:e4m3/1x8", "full:e2m1:sr/tensor", "capybara:e3m2/row"};
#define RECIPES ((int)(sizeof recipes / sizeof recipes[0]))

/* ---- the same bits ---------------------------------------------------------------------------- */

/* Bytes of the final weights and moments: the end of the checkpoint, without its checksum. */
static void assert_same_weights(const char *a, const char *b) {
    size_t m, n;
    char *x = read_whole(a, &m), *y = read_whole(b, &n);
    uint64_t elements;
    assert_int_equal(m, n);
    memcpy(&elements, x + 40, sizeof elements);
    assert_true(elements > 1000 && 12 * elements < m);
    assert_memory_equal(x + m - 16 - 12 * elements, y + m - 16 - 12 * elements, 12 * elements);
    free(x);
    free(y);
}

static void stopping_anywhere_changes_nothing(void **state) {
    (void)state;
    for (int i = 0; i < RECIPES; i++) {
        struct fpl_config c = tiny();
        set(&c, "recipe", recipes[i]);
        set(&c, "eval_every", "5");
        struct fpl_data *d = open_data(&c);
        char *whole_path = fresh_path(), *path = fresh_path();
        struct fpl_record whole = train_one(&c, d, whole_path);
        assert_int_not_equal(whole.status, FPL_RUN_DIVERGED);
        assert_int_equal(whole.eval_count, 2);
        static const int64_t stops[] = {1, 4, 5, 6, 11};
        for (size_t s = 0; s < sizeof stops / sizeof stops[0]; s++) {
            struct fpl_record part;
            struct fpl_error err = {FPL_OK, ""};
            assert_int_equal(train(&c, 1, d, path, stops[s], 1, &part, &err), FPL_STOPPED);
            assert_int_equal(part.status, FPL_RUN_STOPPED);
            assert_int_equal(part.steps, stops[s]);
            assert_true(isnan(part.loss));
            fpl_record_free(&part);
        }
        struct fpl_record rest = train_one(&c, d, path);
        assert_same_run(&whole, &rest);
        assert_same_weights(whole_path, path);
        fpl_record_free(&rest);
        rest = train_one(&c, d, path); /* a finished run is only evaluated again */
        assert_same_run(&whole, &rest);
        fpl_record_free(&rest);
        fpl_record_free(&whole);
        forget_path(whole_path);
        forget_path(path);
        fpl_data_close(d);
    }
}

static void stopping_in_an_evaluation_changes_nothing(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    struct fpl_data *d = open_data(&c);
    char *path = fresh_path();
    struct fpl_record whole = train_one(&c, d, NULL), part;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(train(&c, 1, d, path, c.steps, 1, &part, &err), FPL_STOPPED);
    assert_int_equal(part.steps, c.steps);
    fpl_record_free(&part);
    part = train_one(&c, d, path);
    assert_same_run(&whole, &part);
    fpl_record_free(&part);
    fpl_record_free(&whole);
    forget_path(path);
    fpl_data_close(d);
}

/* A run hot enough to spike and to end early: what watches it must survive stopping too. */
static void stopping_keeps_what_was_watched(void **state) {
    (void)state;
    static const char *const rates[] = {"0.3", "3", "10"};
    int64_t spikes = 0, collapsed = 0, diverged = 0;
    for (size_t i = 0; i < 3; i++) {
        struct fpl_config c = tiny();
        set(&c, "batch_tokens", "512"); /* windows of 32 steps */
        set(&c, "micro_tokens", "0");
        set(&c, "steps", "640");
        set(&c, "schedule", "constant");
        set(&c, "weight_decay", "0");
        set(&c, "lr", rates[i]);
        struct fpl_data *d = open_data(&c);
        struct fpl_record whole = train_one(&c, d, NULL), part;
        char *path = fresh_path();
        for (int64_t at = 50; at < whole.steps; at += 75) {
            struct fpl_error err = {FPL_OK, ""};
            assert_int_equal(train(&c, 1, d, path, at, 1, &part, &err), FPL_STOPPED);
            fpl_record_free(&part);
        }
        part = train_one(&c, d, path);
        assert_same_run(&whole, &part);
        fpl_record_free(&part);
        part = train_one(&c, d, path); /* how it ended is kept as well */
        assert_same_run(&whole, &part);
        spikes += whole.spikes;
        collapsed += whole.status == FPL_RUN_COLLAPSED && whole.steps < c.steps;
        diverged += whole.status == FPL_RUN_DIVERGED && whole.steps < c.steps;
        fpl_record_free(&part);
        fpl_record_free(&whole);
        forget_path(path);
        fpl_data_close(d);
    }
    assert_true(spikes > 0 && collapsed > 0 && diverged > 0); /* or the test saw nothing */
}

static void regular_checkpoints_change_nothing(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    struct fpl_data *d = open_data(&c);
    struct fpl_record plain = train_one(&c, d, NULL);
    set(&c, "checkpoint_every", "3");
    char *path = fresh_path();
    struct fpl_record often = train_one(&c, d, path);
    assert_same_run(&plain, &often);
    fpl_record_free(&plain);
    fpl_record_free(&often);
    forget_path(path);
    fpl_data_close(d);
}

/* Replicas that differ in recipe, seed, rates and fate. */
static void a_pack_equals_single_runs(void **state) {
    (void)state;
    struct fpl_config c[4];
    struct fpl_record single[4], pack[4];
    struct fpl_error err = {FPL_OK, ""};
    for (int r = 0; r < 4; r++) {
        c[r] = tiny();
        set(&c[r], "recipe", recipes[r]);
        set(&c[r], "eval_every", "4");
        c[r].seed = (uint64_t)r + 7;
        c[r].lr = 1e-2 * (r + 1);
        c[r].weight_decay = 0.1 * r;
    }
    set(&c[1], "schedule", "wsd");
    c[3].lr = 1e3; /* and one that breaks on the way */
    c[3].weight_decay = 1e3;
    struct fpl_data *d = open_data(&c[0]);
    for (int r = 0; r < 4; r++) single[r] = train_one(&c[r], d, NULL);
    assert_int_equal(single[3].status, FPL_RUN_DIVERGED);
    assert_true(single[3].steps < c[3].steps);
    assert_int_equal(train(c, 4, d, NULL, 0, 1, pack, &err), FPL_OK);
    for (int r = 0; r < 4; r++) assert_same_run(&single[r], &pack[r]);
    for (int r = 0; r < 4; r++) fpl_record_free(&pack[r]);

    /* the same pack, stopped twice */
    char *path = fresh_path();
    for (int64_t at = 3; at <= 9; at += 6) {
        assert_int_equal(train(c, 4, d, path, at, 1, pack, &err), FPL_STOPPED);
        for (int r = 0; r < 4; r++) fpl_record_free(&pack[r]);
    }
    assert_int_equal(train(c, 4, d, path, 0, 1, pack, &err), FPL_OK);
    for (int r = 0; r < 4; r++) {
        assert_same_run(&single[r], &pack[r]);
        fpl_record_free(&pack[r]);
        fpl_record_free(&single[r]);
    }
    forget_path(path);
    fpl_data_close(d);
}

static void threads_do_not_change_bits(void **state) {
    (void)state;
    for (int i = 0; i < RECIPES; i++) {
        struct fpl_config c = tiny();
        set(&c, "recipe", recipes[i]);
        set(&c, "steps", "4");
        struct fpl_data *d = open_data(&c);
        struct fpl_record one = train_one(&c, d, NULL), two;
        struct fpl_error err = {FPL_OK, ""};
        assert_int_equal(train(&c, 1, d, NULL, 0, 2, &two, &err), FPL_OK);
        assert_same_run(&one, &two);
        fpl_record_free(&one);
        fpl_record_free(&two);
        fpl_data_close(d);
    }
}

static int print_digests(void) {
    for (int i = 0; i < RECIPES; i++) {
        struct fpl_config c = tiny();
        set(&c, "recipe", recipes[i]);
        struct fpl_data *d = open_data(&c);
        struct fpl_record r = train_one(&c, d, NULL);
        printf("%a %a", r.loss, r.loss_se);
        for (int64_t p = 0; p < r.curve_count; p++) printf(" %a %a", r.curve[p].loss, r.curve[p].grad_norm);
        printf("\n");
        fpl_record_free(&r);
        fpl_data_close(d);
    }
    return 0;
}

/* Output of this program with --digest at an instruction set. */
static void digest_at(const char *level, char *text, size_t size) {
    char self[512], command[640];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(command, sizeof command, "%s%s '%s' --digest", *level ? "FPLAW_SIMD=" : "", level, self);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    assert_int_equal(pclose(f), 0);
}

static void instruction_sets_do_not_change_bits(void **state) {
    (void)state;
    static char best[16384], other[16384];
    digest_at("", best, sizeof best);
    assert_true(strlen(best) > 1000);
    digest_at("avx2", other, sizeof other);
    assert_string_equal(best, other);
    digest_at("baseline", other, sizeof other);
    assert_string_equal(best, other);
}

static void every_option_that_should_matters(void **state) {
    (void)state;
    static const char *const changes[][2] = {
        {"seed", "2"},     {"data_seed", "2"},  {"lr", "9e-3"},
        {"warmup", "0.5"}, {"beta2", "0.9"},    {"weight_decay", "1"},
        {"clip", "0.01"},  {"init_std", "0.3"}, {"schedule", "constant"}};
    struct fpl_config base = tiny();
    struct fpl_data *d = open_data(&base);
    struct fpl_record first = train_one(&base, d, NULL);
    fpl_data_close(d);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct fpl_config c = tiny();
        set(&c, changes[i][0], changes[i][1]);
        d = open_data(&c);
        struct fpl_record r = train_one(&c, d, NULL);
        if (same_bits(first.loss, r.loss)) fail_msg("%s changes nothing", changes[i][0]);
        assert_string_not_equal(first.id, r.id);
        fpl_record_free(&r);
        fpl_data_close(d);
    }
    fpl_record_free(&first);
}

/* ---- learning and failing ---------------------------------------------------------------------- */

static void a_run_learns(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    set(&c, "steps", LEARNING_STEPS);
    set(&c, "batch_tokens", "256");
    set(&c, "micro_tokens", "0");
    struct fpl_data *d = open_data(&c);
    struct fpl_record r = train_one(&c, d, NULL);
    assert_int_equal(r.status, FPL_RUN_OK);
    assert_true(fabs(r.curve[0].loss - log(32.0)) < 0.3); /* starts near a uniform guess */
    assert_true(r.loss < 0.9 * r.unigram_entropy);
    assert_true(r.loss > r.oracle); /* nobody beats the source */
    assert_true(r.loss_se > 0 && r.loss_se < 0.1);
    assert_true(r.D == (double)r.steps * 256 && r.N == 2 * (4 * 16 * 16 + 3 * 16 * 24));
    assert_true(r.seconds > 0 && r.tokens_per_second > 0 && r.peak_bytes > 1e6);
    assert_true(r.flop == r.D * fpl_config_flop_per_token(&c, 32));
    assert_true(r.host[0] && r.cpu[0] && r.compiler[0] && r.variants[0] && r.simd[0] && r.revision[0]);
    fpl_record_free(&r);
    fpl_data_close(d);
}

static void micro_batches_change_little(void **state) {
    (void)state;
    static const char *const sizes[] = {"64", "32", "16"};
    double norm[3], loss[3];
    for (int i = 0; i < 3; i++) {
        struct fpl_config c = tiny();
        set(&c, "micro_tokens", sizes[i]);
        struct fpl_data *d = open_data(&c);
        struct fpl_record r = train_one(&c, d, NULL);
        norm[i] = r.curve[0].grad_norm;
        loss[i] = r.curve[0].loss;
        fpl_record_free(&r);
        fpl_data_close(d);
    }
    /* The forward pass of the first step treats tokens alone: the same bits.  A gradient sums
     * 64 rows in another order: its norm moves by at most about 64 roundings of float32. */
    for (int i = 1; i < 3; i++) {
        assert_true(same_bits(loss[0], loss[i]));
        assert_true(fabs(norm[i] / norm[0] - 1) <= 64 * 0x1p-24 / (1 - 64 * 0x1p-24));
    }
}

static void a_huge_rate_ends_as_diverged(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    set(&c, "steps", "200");
    set(&c, "lr", "1000");
    set(&c, "weight_decay", "1000");
    set(&c, "warmup", "0");
    struct fpl_data *d = open_data(&c);
    struct fpl_record r = train_one(&c, d, NULL);
    char step[32];
    assert_int_equal(r.status, FPL_RUN_DIVERGED);
    assert_true(r.steps < 200);
    snprintf(step, sizeof step, "step %lld:", (long long)r.steps);
    assert_non_null(strstr(r.why, step));
    assert_true(r.D == (double)r.steps * 64);
    assert_true(isnan(r.loss));
    assert_int_equal(r.curve[r.curve_count - 1].step, r.steps);
    fpl_record_free(&r);
    fpl_data_close(d);
}

static void a_rate_of_nothing_ends_as_collapsed(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    set(&c, "lr", "1e-9");
    set(&c, "lr_final", "0");
    struct fpl_data *d = open_data(&c);
    struct fpl_record r = train_one(&c, d, NULL);
    assert_int_equal(r.status, FPL_RUN_COLLAPSED);
    assert_true(r.loss > 0.98 * r.unigram_entropy);
    assert_non_null(strstr(r.why, "unigram"));
    fpl_record_free(&r);
    fpl_data_close(d);
}

/* ---- refusals ------------------------------------------------------------------------------------ */

static void refused(const struct fpl_config *c, int R, const char *named) {
    struct fpl_record r[2];
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_data *d = open_data(&c[0]);
    assert_int_equal(train(c, R, d, NULL, 0, 1, r, &err), FPL_INVALID);
    if (strstr(err.text, named) == NULL) fail_msg("\"%s\" does not name %s", err.text, named);
    for (int i = 0; i < R; i++) fpl_record_free(&r[i]);
    fpl_data_close(d);
}

static void packs_of_unequal_shape(void **state) {
    (void)state;
    static const char *const changes[][2] = {
        {"width", "32"},        {"steps", "13"},        {"batch_tokens", "32"}, {"clip", "2"},
        {"micro_tokens", "16"}, {"eval_tokens", "256"}, {"data_seed", "9"},     {"beta1", "0.8"}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct fpl_config c[2] = {tiny(), tiny()};
        set(&c[1], changes[i][0], changes[i][1]);
        refused(c, 2, changes[i][0]);
    }
}

static void more_tokens_than_the_corpus_has(void **state) {
    (void)state;
    char text[] = "/tmp/fplaw-text.XXXXXX", data[64];
    const int fd = mkstemp(text);
    FILE *f = fdopen(fd, "w");
    for (int i = 0; i < 2000; i++) fprintf(f, "line %d of a small text\n", i);
    fclose(f);
    snprintf(data, sizeof data, "bytes:%s", text);
    struct fpl_config c = tiny();
    set(&c, "data", data);
    set(&c, "steps", "2000");
    refused(&c, 1, "repeated data");
    set(&c, "steps", "3");
    struct fpl_data *d = open_data(&c);
    struct fpl_record r = train_one(&c, d, NULL);
    assert_true(isfinite(r.loss) && isnan(r.oracle));
    fpl_record_free(&r);
    fpl_data_close(d);
    unlink(text);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--digest") == 0) return print_digests();
    const struct CMUnitTest tests[] = {cmocka_unit_test(stopping_anywhere_changes_nothing),
                                       cmocka_unit_test(stopping_in_an_evaluation_changes_nothing),
                                       cmocka_unit_test(stopping_keeps_what_was_watched),
                                       cmocka_unit_test(regular_checkpoints_change_nothing),
                                       cmocka_unit_test(a_pack_equals_single_runs),
                                       cmocka_unit_test(threads_do_not_change_bits),
                                       cmocka_unit_test(instruction_sets_do_not_change_bits),
                                       cmocka_unit_test(every_option_that_should_matters),
                                       cmocka_unit_test(a_run_learns),
                                       cmocka_unit_test(micro_batches_change_little),
                                       cmocka_unit_test(a_huge_rate_ends_as_diverged),

                                       cmocka_unit_test(a_rate_of_nothing_ends_as_collapsed),
                                       cmocka_unit_test(packs_of_unequal_shape),
                                       cmocka_unit_test(more_tokens_than_the_corpus_has)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
