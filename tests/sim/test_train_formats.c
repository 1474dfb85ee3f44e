/* Formats of the optimizer's state, quantized attention, delayed scaling and diagnoses in whole
 * runs: what must not change a bit (stopping, packing, threads, instruction set, diagnosing),
 * what must matter, and what each promises about the weights it leaves.
 *
 * `test_train_formats --digest` trains every recipe and prints its bits, for the comparison of
 * instruction sets. */
#include <math.h>

#include "../../formats/recipe.h"
#include "../../formats/scale.h"
#include "training.h"

static const char *const recipes[] = {
    "fp32;opt.m=e4m3fn/1x16;opt.v=ue5m3fn/1x16;opt.master=bf16:sr;opt.grad=e5m2ieee:sr/tensor",
    "full:e4m3/1x8;opt.master=bf16",
    "full:e4m3fn/tensor;attn.qk=e4m3fn/tensor;attn.pv=e4m3fn/row",
    "bf16;attn.qk=int8/1x8;attn.pv=e4m3fn/1x8;attn.dp=e4m3fn:sr/row;attn.grad=e5m2ieee:sr/tensor",
    "full:e4m3fn/tensor:delayed4",
    ("ops:fwd.x=e4m3fn/tensor:delayed3m1;wgrad.dy=e5m2ieee:sr/tensor:delayed2;"
     "opt.m=e4m3fn/tensor:delayed5;attn.qk=e4m3fn/tensor:delayed4;attn.pv=e4m3fn/tensor:delayed4"),
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

static struct fpl_config config_of(int i) {
    struct fpl_config c = tiny();
    set(&c, "recipe", recipes[i]);
    set(&c, "diagnose_every", "5");
    set(&c, "eval_every", "4");
    return c;
}

/* Header, then elements of each flat buffer at byte 40: parameters and moments end the file. */
static float *final_weights(const char *path, uint64_t *elements) {
    size_t size;
    char *x = read_whole(path, &size);
    memcpy(elements, x + 40, sizeof *elements);
    assert_true(*elements > 1000 && 12 * *elements < size);
    float *w = malloc(12 * *elements);
    assert_non_null(w);
    memcpy(w, x + size - 16 - 12 * *elements, 12 * *elements);
    free(x);
    return w;
}

static void assert_same_weights(const char *a, const char *b) {
    uint64_t m, n;
    float *x = final_weights(a, &m), *y = final_weights(b, &n);
    assert_int_equal(m, n);
    assert_memory_equal(x, y, 12 * n);
    free(x);
    free(y);
}

/* ---- the same bits ---------------------------------------------------------------------------- */

static void stopping_anywhere_changes_nothing(void **state) {
    (void)state;
    for (int i = 0; i < RECIPES; i++) {
        struct fpl_config c = config_of(i);
        struct fpl_data *d = open_data(&c);
        char *whole_path = fresh_path(), *path = fresh_path();
        struct fpl_record whole = train_one(&c, d, whole_path);
        assert_int_equal(whole.status, FPL_RUN_OK);
        assert_true(whole.diagnosis_count > 0 || strncmp(recipes[i], "fp32", 4) == 0);
        static const int64_t stops[] = {1, 2, 5, 6, 11};
        for (size_t s = 0; s < sizeof stops / sizeof stops[0]; s++) {
            struct fpl_record part;
            struct fpl_error err = {FPL_OK, ""};
            assert_int_equal(train(&c, 1, d, path, stops[s], 1, &part, &err), FPL_STOPPED);
            fpl_record_free(&part);
        }
        struct fpl_record rest = train_one(&c, d, path);
        assert_same_run(&whole, &rest);
        assert_same_weights(whole_path, path);
        fpl_record_free(&rest);
        fpl_record_free(&whole);
        forget_path(whole_path);
        forget_path(path);
        fpl_data_close(d);
    }
}

static void a_pack_equals_single_runs(void **state) {
    (void)state;
    struct fpl_config c[RECIPES];
    struct fpl_record single[RECIPES], pack[RECIPES];
    struct fpl_error err = {FPL_OK, ""};
    for (int r = 0; r < RECIPES; r++) {
        c[r] = config_of(r);
        c[r].seed = (uint64_t)r + 3;
        c[r].lr = 5e-3 * (r + 1);
        c[r].diagnose_every = r == 2 ? 0 : r + 1;
    }
    struct fpl_data *d = open_data(&c[0]);
    for (int r = 0; r < RECIPES; r++) single[r] = train_one(&c[r], d, NULL);
    assert_int_equal(single[2].diagnosis_count, 0);
    char *path = fresh_path();
    assert_int_equal(train(c, RECIPES, d, path, 7, 1, pack, &err), FPL_STOPPED);
    for (int r = 0; r < RECIPES; r++) fpl_record_free(&pack[r]);
    assert_int_equal(train(c, RECIPES, d, path, 0, 1, pack, &err), FPL_OK);
    for (int r = 0; r < RECIPES; r++) {
        assert_same_run(&single[r], &pack[r]);
        fpl_record_free(&single[r]);
        fpl_record_free(&pack[r]);
    }
    forget_path(path);
    fpl_data_close(d);
}

static void threads_do_not_change_bits(void **state) {
    (void)state;
    for (int i = 0; i < RECIPES; i++) {
        struct fpl_config c = config_of(i);
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
        struct fpl_config c = config_of(i);
        struct fpl_data *d = open_data(&c);
        struct fpl_record r = train_one(&c, d, NULL);
        printf("%a %a", r.loss, r.loss_se);
        for (int64_t p = 0; p < r.curve_count; p++) printf(" %a %a", r.curve[p].loss, r.curve[p].grad_norm);
        for (int64_t p = 0; p < r.diagnosis_count; p++)
            printf(" %a %a %a", r.diagnosis[p].sqnr_db, r.diagnosis[p].underflow, r.diagnosis[p].clipped);
        printf("\n");
        fpl_record_free(&r);
        fpl_data_close(d);
    }
    return 0;
}

static size_t digest_at(const char *level, char *text, size_t size) {
    char self[512], command[640];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(command, sizeof command, "%s%s '%s' --digest", *level ? "FPLAW_SIMD=" : "", level, self);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    const size_t length = fread(text, 1, size - 1, f);
    text[length] = '\0';
    assert_int_equal(pclose(f), 0);
    return length;
}

static void instruction_sets_do_not_change_bits(void **state) {
    (void)state;
    static char best[1 << 20], other[1 << 20];
    assert_true(digest_at("", best, sizeof best) > 10000);
    digest_at("avx2", other, sizeof other);
    assert_string_equal(best, other);
    digest_at("baseline", other, sizeof other);
    assert_string_equal(best, other);
}

/* Diagnosing looks on, and its configuration is not part of a run's identity. */
static void diagnosing_changes_no_result(void **state) {
    (void)state;
    for (int i = 0; i < RECIPES; i++) {
        struct fpl_config c = config_of(i);
        struct fpl_data *d = open_data(&c);
        char *with_path = fresh_path(), *without_path = fresh_path();
        struct fpl_record with = train_one(&c, d, with_path);
        set(&c, "diagnose_every", "0");
        struct fpl_record without = train_one(&c, d, without_path);
        assert_string_equal(with.id, without.id);
        assert_null(strstr(with.canonical, "diagnose"));
        assert_true(same_bits(with.loss, without.loss));
        assert_same_weights(with_path, without_path);
        fpl_record_free(&with);
        fpl_record_free(&without);
        forget_path(with_path);
        forget_path(without_path);
        fpl_data_close(d);
    }
}

/* ---- what they mean ------------------------------------------------------------------------------ */

/* Stored state is in its format, after every step: values are fixed points of the rounder. */
static void stored_state_is_in_its_format(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    set(&c, "recipe", "fp32;opt.m=e5m2ieee;opt.v=ue6m5ieee;opt.master=bf16:sr");
    struct fpl_recipe recipe;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(fpl_recipe_parse(c.recipe, &recipe, &err), FPL_OK);
    struct fpl_data *d = open_data(&c);
    static const int slots[3] = {FPL_STATE_MASTER, FPL_STATE_M, FPL_STATE_V}; /* as checkpoints hold them */
    for (int stop = 1; stop <= 7; stop += 3) {
        char *path = fresh_path();
        struct fpl_record r;
        uint64_t n;
        assert_int_equal(train(&c, 1, d, path, stop, 1, &r, &err), FPL_STOPPED);
        fpl_record_free(&r);
        float *w = final_weights(path, &n);
        for (int k = 0; k < 3; k++) {
            struct fpl_quantizer_plan plan;
            int64_t nonzero = 0;
            fpl_quantizer_lower(&recipe.state[slots[k]], NULL, &plan);
            plan.round.mode = FPL_RNE;
            for (uint64_t i = 0; i < n; i++) {
                const float x = w[(uint64_t)k * n + i];
                if (fpl_round_value(&plan.round, x, 0) != x)
                    fail_msg("state %d: %a is not a value", k, (double)x);
                nonzero += x != 0;
            }
            assert_true(nonzero > 500);
        }
        free(w);
        forget_path(path);
    }
    fpl_data_close(d);
}

/* Each option reaches the run, and a fine format is near the run without it. */
static void every_option_matters(void **state) {
    (void)state;
    static const char *const coarse[] = {
        "fp32;opt.m=e2m1/tensor",         "fp32;opt.v=e4m3fn/row",
        "fp32;opt.master=e4m3:sr/tensor", "fp32;opt.grad=e2m1/1x16",
        "fp32;attn.qk=e2m1/tensor",       "fp32;attn.pv=e2m1/tensor",
        "fp32;attn.dp=e2m1/tensor",       "fp32;attn.qk=e2m1/tensor;attn.grad=e5m2/tensor",
        "full:e4m3fn/tensor:delayed2",    "full:e4m3fn/tensor:delayed2m5"};
    enum { CASES = sizeof coarse / sizeof coarse[0] };
    double loss[CASES + 1];
    struct fpl_config c = tiny();
    struct fpl_data *d = open_data(&c);
    struct fpl_record r = train_one(&c, d, NULL);
    loss[CASES] = r.loss;
    fpl_record_free(&r);
    for (int i = 0; i < CASES; i++) {
        set(&c, "recipe", coarse[i]);
        r = train_one(&c, d, NULL);
        loss[i] = r.loss;
        fpl_record_free(&r);
        for (int k = 0; k < i; k++)
            if (same_bits(loss[i], loss[k])) fail_msg("%s and %s train alike", coarse[i], coarse[k]);
        if (same_bits(loss[i], loss[CASES])) fail_msg("%s changes nothing", coarse[i]);
    }
    static const char *const fine =
        "fp32;opt.m=e8m20ieee;opt.v=e8m20ieee;opt.master=e8m22ieee;opt.grad=e8m20ieee;"
        "attn.qk=e8m20ieee;attn.pv=e8m20ieee;attn.dp=e8m20ieee";
    set(&c, "recipe", fine);
    r = train_one(&c, d, NULL);
    if (!(fabs(r.loss - loss[CASES]) < 1e-4))
        fail_msg("loss %.9g, without formats %.9g", r.loss, loss[CASES]);
    assert_true(r.loss != loss[CASES]);
    fpl_record_free(&r);
    fpl_data_close(d);
}

/* With one step of history and a constant operand, delayed scaling is present scaling: weights
 * that do not move (a learning rate of nearly nothing). */
static void delayed_scales_come_from_the_last_step(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    struct fpl_record r[2];
    set(&c, "lr", "1e-12");
    set(&c, "lr_final", "0");
    set(&c, "weight_decay", "0");
    struct fpl_data *d = open_data(&c);
    for (int i = 0; i < 2; i++) {
        set(&c, "recipe",
            i ? "ops:fwd.w=e4m3fn/tensor:delayed1;dgrad.w=e4m3fn/tensor:delayed1"
              : "ops:fwd.w=e4m3fn/tensor;dgrad.w=e4m3fn/tensor");
        r[i] = train_one(&c, d, NULL);
    }
    assert_int_equal(r[0].curve_count, r[1].curve_count);
    for (int64_t i = 0; i < r[0].curve_count; i++)
        assert_true(same_bits(r[0].curve[i].loss, r[1].curve[i].loss));
    assert_true(same_bits(r[0].loss, r[1].loss));
    for (int i = 0; i < 2; i++) fpl_record_free(&r[i]);
    fpl_data_close(d);
}

/* Points: every quantized operand at the due steps, in order, with all elements counted. */
static void diagnoses_cover_the_operands(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    set(&c, "recipe", "full:e4m3/1x8;attn.qk=e4m3fn/row;attn.pv=e4m3fn/row;last=1");
    set(&c, "diagnose_every", "5");
    struct fpl_data *d = open_data(&c);
    struct fpl_record r = train_one(&c, d, NULL);
    static const int64_t due[] = {1, 6, 11, 12};
    /* block 0: 24 operands of linear layers, 10 of attention; block 1 is exempt: 24 in bf16 */
    assert_int_equal(r.diagnosis_count, 4 * (24 + 10 + 24));
    int64_t exempt_sqnr = 0;
    for (int64_t i = 0; i < r.diagnosis_count; i++) {
        const struct fpl_diagnosis_point *p = &r.diagnosis[i];
        const int64_t rank = i % 58;
        assert_int_equal(p->step, due[i / 58]);
        assert_int_equal(p->layer, rank >= 34);
        int64_t binned = 0;
        for (int64_t k = 0; k < p->bins; k++) binned += p->count[k];
        assert_true(binned > 0 && binned <= p->elements && p->nonfinite == 0 && p->amax > 0);
        if (strcmp(p->operand, "qkv.fwd.x") == 0) assert_int_equal(p->elements, 64 * 16);
        if (strcmp(p->operand, "qkv.dgrad.w") == 0) assert_int_equal(p->elements, 48 * 16);
        if (strcmp(p->operand, "down.wgrad.x") == 0) assert_int_equal(p->elements, 64 * 24);
        if (strcmp(p->operand, "attention.out.p") == 0) assert_int_equal(p->elements, 4 * 2 * 16 * 16);
        if (strcmp(p->operand, "attention.dk.q") == 0) assert_int_equal(p->elements, 4 * 2 * 16 * 8);
        /* nearest rounding to 3 + 1 and 7 + 1 bits, uniform errors: about 31.5 and 55 dB */
        if (p->layer == 0 && strcmp(p->operand, "gate_up.fwd.x") == 0)
            assert_true(p->sqnr_db > 25 && p->sqnr_db < 45);
        exempt_sqnr += p->layer == 1 && p->sqnr_db > 48;
    }
    assert_int_equal(exempt_sqnr, 4 * 24);
    fpl_record_free(&r);
    fpl_data_close(d);
}

/* A checkpoint of the version before: the same file without diagnoses and delayed scaling. */
static void an_older_checkpoint_is_read(void **state) {
    (void)state;
    struct fpl_config c = tiny();
    struct fpl_data *d = open_data(&c);
    char *path = fresh_path();
    struct fpl_record whole = train_one(&c, d, NULL), r;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(train(&c, 1, d, path, 6, 1, &r, &err), FPL_STOPPED);
    fpl_record_free(&r);
    size_t size;
    char *file = read_whole(path, &size);
    uint64_t configurations, body;
    memcpy(&configurations, file + 24, 8);
    memcpy(&body, file + 32, 8);
    /* the state ends in the number of diagnoses and the number of floats of delayed scaling */
    const size_t end = 48 + configurations + body;
    uint64_t tail[2];
    memcpy(tail, file + end - 16, 16);
    assert_true(tail[0] == 0 && tail[1] == 0);
    memmove(file + end - 16, file + end, size - end);
    size -= 16;
    body -= 16;
    const uint64_t total = size;
    file[8] = 1;
    memcpy(file + 16, &total, 8);
    memcpy(file + 32, &body, 8);
    char hex[33];
    fpl_hash_text(file, size - 16, hex);
    for (size_t i = 0; i < 16; i++) {
        unsigned byte;
        sscanf(hex + 2 * i, "%2x", &byte);
        file[size - 16 + i] = (char)byte;
    }
    assert_int_equal(fpl_file_write(path, file, size, &err), FPL_OK);
    free(file);
    r = train_one(&c, d, path);
    assert_same_run(&whole, &r);
    fpl_record_free(&r);
    fpl_record_free(&whole);
    forget_path(path);
    fpl_data_close(d);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--digest") == 0) return print_digests();
    const struct CMUnitTest tests[] = {cmocka_unit_test(stopping_anywhere_changes_nothing),
                                       cmocka_unit_test(a_pack_equals_single_runs),
                                       cmocka_unit_test(threads_do_not_change_bits),
                                       cmocka_unit_test(instruction_sets_do_not_change_bits),
                                       cmocka_unit_test(diagnosing_changes_no_result),
                                       cmocka_unit_test(stored_state_is_in_its_format),
                                       cmocka_unit_test(every_option_matters),
                                       cmocka_unit_test(delayed_scales_come_from_the_last_step),
                                       cmocka_unit_test(diagnoses_cover_the_operands),

                                       cmocka_unit_test(an_older_checkpoint_is_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
