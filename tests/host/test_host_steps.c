/* test_host_steps.c - what a training step asks of the CUDA runtime, and that graphs change no bit.
 *
 * 1. Counted by host execution: in a steady step nothing is allocated or released, nothing waits but the
 *    downloads and checks that training asks for, and all its kernels are launched as one graph, of which
 * only nodes whose arguments changed are patched - although rates, counters and random bits change.
 * 2. Runs launched by graphs, call by call, and in graphs of few operations have the same bits: over changing
 *    rates, evaluations on the way, a replica that drops out, a stop and a resume.  So has a run whose graphs
 *    the runtime refuses.  A runtime that loses the patches must show in 2, else it proves nothing.
 */
#include "../sim/training.h"

#include "order.h"

enum {
    R = 3,
    STEPS = 10,
    STEADY = 6, /* from this step on all are alike */
    /* Of one layer's four products: both roles' weights once, four activations in each of two micro-batches.
     */
    QUANTIZERS = 4 * (2 + 2 * 4),
    TENSORS = 9 /* of the model, for its optimizer */
};

/* Stochastic rounding of operands and sums, delayed scaling, formats of the optimizer's state: whatever has
 * small arrays of its own. */
static const char *const recipes[R] = {"fp32", "full:e4m3fn:sr/1x16;acc=e6m9:sr",
                                       "full:e4m3fn/tensor:delayed4;opt.m=bf16:sr"};

static struct fpl_data *data;

static void configure(struct fpl_config c[R]) {
    for (int r = 0; r < R; r++) {
        c[r] = tiny();
        set(&c[r], "recipe", recipes[r]);
        set(&c[r], "layers", "1"); /* whatever a step asks for, in few threads */
        set(&c[r], "width", "8");
        set(&c[r], "ffn", "8");
        set(&c[r], "seq", "8");
        set(&c[r], "batch_tokens", "32");
        set(&c[r], "micro_tokens", "16");
        set(&c[r], "steps", "10");
        set(&c[r], "schedule", "cosine");
        set(&c[r], "eval_tokens", "64");
    }
}

static int open_all(void **unused) {
    (void)unused;
    struct fpl_config c[R];
    configure(c);
    data = open_data(&c[0]);
    return 0;
}

static int close_all(void **unused) {
    (void)unused;
    fpl_data_close(data);
    return 0;
}

static void count_step(void *context, int64_t step, int64_t steps, double loss) {
    struct fpl_host_counts *counts = context;
    (void)steps;
    (void)loss;
    counts[step] = fpl_host_counted();
}

/* counts[s]: after step s = 1 .. STEPS */
static void train_counted(const struct fpl_config *c, int replicas,
                          struct fpl_host_counts counts[STEPS + 1]) {
    struct fpl_record records[R];
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_train_options o = {
        .kernels = fpl_backend("cuda"), .threads = 1, .progress = count_step, .context = counts};
    if (fpl_train(c, replicas, data, &o, records, &err) != FPL_OK) fail_msg("%s", err.text);
    for (int r = 0; r < replicas; r++) {
        assert_int_equal(records[r].steps, STEPS);
        fpl_record_free(&records[r]);
    }
}

/* What a steady step of a run is to ask for. */
static void expect_steps(const char *name, const struct fpl_config *c, int replicas, int waits, int graphs,
                         int patches) {
    struct fpl_host_counts counts[STEPS + 1];
    train_counted(c, replicas, counts);
    for (int s = STEADY; s <= STEPS; s++) {
        const struct fpl_host_counts *a = &counts[s - 1], *b = &counts[s];
        if (s == STEPS)
            print_message("%s: %d waits, %d graphs, %d patches\n", name, (int)(b->waits - a->waits),
                          (int)(b->graph_launches - a->graph_launches), (int)(b->patches - a->patches));
        assert_int_equal(b->allocations, a->allocations);
        assert_int_equal(b->waits - a->waits, waits);
        assert_int_equal(b->graph_launches - a->graph_launches, graphs);
        assert_int_equal(b->instantiations, a->instantiations);
        assert_int_equal(b->kernels, a->kernels); /* none but in the graph */
        assert_int_equal(b->products, a->products);
        assert_int_equal(b->clears, a->clears);
        assert_int_equal(b->patches - a->patches, patches);
    }
}

static void test_steady_steps(void **unused) {
    (void)unused;
    struct fpl_config c[R];
    configure(c);
    if (!fpl_host_counted().known) skip();
    /* The counts of non-finite operands wait, and the check of the step.  AdamW's bias correction is patched.
     */
    expect_steps("fp32", &c[0], 1, 2, 1, 1);
    /* The same, and each quantizer with its random bits. */
    expect_steps("stochastic", &c[1], 1, 2, 1, 1 + QUANTIZERS);
    /* The optimizer rounds: its counts are waited for too, which makes two lists of a step.  Delayed scaling
     * ends one. */
    expect_steps("pack", c, R, 3, 2, 2 + QUANTIZERS + TENSORS);
}

/* ---- bits -----------------------------------------------------------------------------------------------
 */

enum { PACK = 4 };

static void configure_pack(struct fpl_config c[PACK]) {
    configure(c);
    c[PACK - 1] = c[0];
    set(&c[PACK - 1], "lr", "900"); /* drops out */
    set(&c[PACK - 1], "weight_decay", "1000");
    for (int r = 0; r < PACK; r++) set(&c[r], "eval_every", "4");
}

/* stop_after 0: to the end. */
static enum fpl_code train_pack(const struct fpl_config c[PACK], const char *graphs, const char *const *paths,
                                int64_t stop_after, struct fpl_record records[PACK]) {
    struct interruption i = {.at = stop_after};
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_train_options o = {.kernels = fpl_backend("cuda"),
                                        .threads = 1,
                                        .checkpoint = paths,
                                        .stop = &i.signal,
                                        .progress = stop_after > 0 ? interrupt : NULL,
                                        .context = &i};
    setenv("FPLAW_CUDA_GRAPH", graphs, 1);
    const enum fpl_code code = fpl_train(c, PACK, data, &o, records, &err);
    unsetenv("FPLAW_CUDA_GRAPH");
    if (code != FPL_OK && code != FPL_STOPPED) fail_msg("%s", err.text);
    return code;
}

static void free_pack(struct fpl_record records[PACK]) {
    for (int r = 0; r < PACK; r++) fpl_record_free(&records[r]);
}

static int same_losses(const struct fpl_record *a, const struct fpl_record *b) {
    int same = a->curve_count == b->curve_count && same_bits(a->loss, b->loss);
    for (int64_t i = 0; same && i < a->curve_count; i++) same = same_bits(a->curve[i].loss, b->curve[i].loss);
    return same;
}

static void assert_same_pack(const struct fpl_record a[PACK], const struct fpl_record b[PACK]) {
    for (int r = 0; r < PACK; r++) assert_same_run(&a[r], &b[r]);
}

static void test_graphs_change_no_bit(void **unused) {
    (void)unused;
    struct fpl_config c[PACK];
    struct fpl_record plain[PACK], other[PACK];
    configure_pack(c);
    train_pack(c, "0", NULL, 0, plain);
    assert_int_equal(plain[PACK - 1].status, FPL_RUN_DIVERGED);
    assert_true(plain[PACK - 1].steps < STEPS && plain[0].eval_count >= 2);
    static const char *const ways[] = {"1", "50"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        train_pack(c, ways[i], NULL, 0, other);
        assert_same_pack(plain, other);
        free_pack(other);
    }
    if (fpl_host_counted().known) { /* no graph is instantiated: call by call, and the record says so */
        setenv("FPLAW_HOST_NO_GRAPHS", "1", 1);
        train_pack(c, "1", NULL, 0, other);
        unsetenv("FPLAW_HOST_NO_GRAPHS");
        assert_same_pack(plain, other);
        assert_non_null(strstr(other[0].variants, "; no graphs: cuda: instantiating a graph: "));
        free_pack(other);
        setenv("FPLAW_HOST_NO_PATCHES", "1", 1);
        train_pack(c, "1", NULL, 0, other);
        unsetenv("FPLAW_HOST_NO_PATCHES");
        for (int r = 0; r < PACK - 1; r++) assert_false(same_losses(&plain[r], &other[r]));
        free_pack(other);
    }
    free_pack(plain);
}

static void test_resumed(void **unused) {
    (void)unused;
    struct fpl_config c[PACK];
    struct fpl_record plain[PACK], other[PACK];
    char names[PACK][300];
    const char *paths[PACK];
    char *path = fresh_path();
    configure_pack(c);
    for (int r = 0; r < PACK; r++) {
        snprintf(names[r], sizeof names[r], "%s.%d", path, r);
        paths[r] = names[r];
    }
    train_pack(c, "0", NULL, 0, plain);
    assert_int_equal(train_pack(c, "1", paths, 6, other), FPL_STOPPED);
    free_pack(other);
    assert_int_equal(train_pack(c, "1", paths, 0, other), FPL_OK);
    assert_same_pack(plain, other);
    free_pack(other);
    free_pack(plain);
    for (int r = 0; r < PACK; r++) (void)unlink(paths[r]);
    forget_path(path);
}

static void test_bad_setting(void **unused) {
    (void)unused;
    struct fpl_device *dev = NULL;
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_device_options o = {.threads = 1};
    setenv("FPLAW_CUDA_GRAPH", "yes", 1);
    assert_int_equal(fpl_backend("cuda")->open(&dev, &o, &err), FPL_INVALID);
    unsetenv("FPLAW_CUDA_GRAPH");
    assert_non_null(strstr(err.text, "FPLAW_CUDA_GRAPH: 'yes'; accepted: 0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steady_steps),
                                       cmocka_unit_test(test_graphs_change_no_bit),
                                       cmocka_unit_test(test_resumed), cmocka_unit_test(test_bad_setting)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
