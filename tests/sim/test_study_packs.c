/* Runs of a study side by side: sizes, failures, signals, budgets (fake_study.h); results that do not
 * depend on any of it. */
#include "fake_study.h"

/* Lines of a log of packs that are exactly this. */
static int logged(const char *name, const char *line) {
    char text[200];
    int n = 0;
    FILE *f = fopen(sub(name), "r");
    while (f != NULL && fgets(text, sizeof text, f) != NULL) {
        text[strcspn(text, "\n")] = '\0';
        n += strstr(text, line) != NULL;
    }
    if (f != NULL) fclose(f);
    return n;
}

static void run_packed(const char *text, const char *name, int workers, const char *wishes, size_t done) {
    char all[400], log[100];
    snprintf(log, sizeof log, "%s.log", name);
    snprintf(all, sizeof all, "log=%s %s", sub(log), wishes);
    run_ok(text, name, workers, all, done);
}

/* As asked for, evenly: 12 runs are 3 packs of 4 and not 5 and 2. */
static void test_packs(void **unused) {
    (void)unused;
    pack_limit = 5;
    run_packed(small_study, "pack5", 1, "", 12);
    assert_int_equal(logged("pack5.log", "device 0 pack 4"), 3);
    expect_same_table("three", "pack5");
    pack_limit = 16;
    devices = 2;
    run_packed(small_study, "pack16", 3, "", 12); /* no worker is without a pack */
    devices = 0;
    assert_int_equal(logged("pack16.log", "pack 4"), 3);
    assert_int_equal(logged("pack16.log", "device 4 "), 2);
    assert_int_equal(logged("pack16.log", "device 5 "), 1);
    expect_same_table("three", "pack16");
    run_ok(staged, "packed", 2, "", 56);
    expect_same_table("staged", "packed");
    pack_limit = 0;
}

/* Runs of other shapes are never asked for side by side, and of two shapes both find their packs. */
static const char shapes[] =
    "options: {layers: 1, heads: 1, seq: 16, tokens: 8k, data: \"lexicon:words=64\"}\n"
    "seeds: 6\ngrid: {width: [8, 16], batch_tokens: [64]}\n";

static void test_measured_packs(void **unused) {
    (void)unused;
    char *kept = NULL, shape[17], key[40];
    struct fpl_study *s = NULL;
    struct fpl_store *store = NULL;
    measures = 1;
    run_packed(shapes, "measured", 2, "best=3", 12);
    assert_int_equal(logged("measured.log", "pack 3"), 4);
    assert_non_null(
        strstr(notes, "3 of 6 runs of this shape train side by side (1: 0.01 s a step, 2: 0.011"));
    assert_int_equal(fpl_study_parse("s.yaml", shapes, strlen(shapes), "cpu", &s, NULL), FPL_OK);
    fpl_train_shape(&s->run[0].config, shape);
    fpl_study_free(s);
    snprintf(key, sizeof key, "pack %s", shape);
    assert_int_equal(fpl_store_open(sub("measured"), 0, &store, NULL), FPL_OK);
    assert_int_equal(fpl_store_get_text(store, key, &kept, NULL), FPL_OK);
    fpl_store_close(store);
    assert_string_equal(kept, "3 1:0.01 2:0.011 of 6");
    free(kept);
    /* More runs of a measured shape: the size is known, even to a worker that would find another. */
    char larger[400];
    snprintf(larger, sizeof larger, "%.*s9%s", (int)(strstr(shapes, "6\n") - shapes), shapes,
             strstr(shapes, "6\n") + 1);
    run_packed(larger, "measured", 1, "best=1", 18);
    assert_int_equal(logged("measured.log", "pack 3"), 6);
    assert_null(strstr(notes, "side by side"));
    /* A limit of the caller holds; a measurement that dies costs nothing but the packs. */
    pack_limit = 2;
    run_packed(shapes, "limited", 1, "", 12);
    assert_int_equal(logged("limited.log", "pack 2"), 6);
    pack_limit = 0;
    run_packed(shapes, "unmeasured", 1, "dead=1", 12);
    assert_int_equal(logged("unmeasured.log", "pack 1"), 12);
    expect_same_table("limited", "unmeasured");
    measures = 0;
}

/* What is wrong with one run costs the pack time, not results. */
static void test_pack_failures(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    char wishes[300];
    pack_limit = 12;
    assert_int_equal(run_with(small_study, "pdie", 1, 0, "die=3", &result, &err), FPL_SYSTEM);
    assert_int_equal(result.failed, 3);
    assert_int_equal(result.done, 9);
    assert_non_null(strstr(notes, "a pack of 12 runs: its worker died"));
    assert_int_equal(run_with(small_study, "pbad", 2, 0, "bad=2", &result, &err), FPL_INVALID);
    assert_int_equal(result.failed, 3);
    assert_int_equal(result.done, 9);
    assert_non_null(strstr(err.text, "this run is bad"));
    assert_int_equal(run_with(small_study, "plie", 2, 0, "lie=2", &result, &err), FPL_INVALID);
    assert_int_equal(result.failed, 3);
    assert_int_equal(result.done, 9);
    assert_non_null(strstr(err.text, "answered for run"));
    assert_int_equal(run_with(small_study, "pfull", 1, 0, "full=2", &result, &err), FPL_SYSTEM);
    assert_int_equal(result.done, 0);
    assert_non_null(strstr(err.text, "11 beside it: the disk is full"));
    snprintf(wishes, sizeof wishes, "once=%s", sub("packmark"));
    run_ok(small_study, "ponce", 1, wishes, 12);
    expect_same_table("three", "ponce");
    run_packed(small_study, "proom", 1, "room=4", 12);
    assert_int_equal(logged("proom.log", "pack 3"), 4);
    assert_non_null(strstr(notes, "it is full here; they are tried again in smaller packs"));
    expect_same_table("three", "proom");
    assert_int_equal(run_with(small_study, "pnone", 1, 0, "room=0", &result, &err), FPL_SYSTEM);
    assert_int_equal(result.failed, 12);
    pack_limit = 0;
    measures = 1; /* a size that was measured but does not fit is corrected for good */
    run_packed(small_study, "pfit", 1, "best=12 room=4", 12);
    assert_int_equal(logged("pfit.log", "pack 3"), 4);
    measures = 0;
    expect_same_table("three", "pfit");
}

/* A signal in packs; going on with other packs; a budget that a whole pack would break. */
static void test_packs_stop(void **unused) {
    (void)unused;
    struct fpl_study_result result;
    struct fpl_error err = {FPL_OK, ""};
    char path[300];
    pack_limit = 3;
    assert_int_equal(run_held(small_study, "pstop", 1, 1, &result, &err), FPL_STOPPED);
    assert_int_equal(result.done, 4); /* the second pack had told of one of its runs */
    snprintf(path, sizeof path, "[ $(ls %s/checkpoints | wc -l) -eq 2 ]", sub("pstop"));
    assert_int_equal(system(path), 0);
    pack_limit = 4;
    run_ok(small_study, "pstop", 2, "", 12);
    snprintf(path, sizeof path, "[ $(ls %s/checkpoints | wc -l) -eq 0 ]", sub("pstop"));
    assert_int_equal(system(path), 0);
    expect_same_table("three", "pstop");
    pack_limit = 2; /* 0.05 s each: six of them fit, packs of two one after the other */
    assert_int_equal(run_with(small_study, "pbudget", 1, 0.5, "slow=120", &result, &err), FPL_OK);
    assert_int_equal(result.out_of_budget, 1);
    assert_true(result.done >= 2 && result.done < 12);
    pack_limit = 0;
}

static int enter_and_compare(void **state) {
    if (enter(state) != 0) return 1;
    run_ok(small_study, "three", 3, "", 12);
    run_ok(staged, "staged", 3, "", 56);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "worker") == 0) return worker_main(argv[2]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_packs), cmocka_unit_test(test_measured_packs),
                                       cmocka_unit_test(test_pack_failures),
                                       cmocka_unit_test(test_packs_stop)};
    return cmocka_run_group_tests(tests, enter_and_compare, leave);
}
