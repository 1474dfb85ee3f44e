/* test_host_steps.c - what a training step asks of the CUDA runtime, counted by host execution.
 *
 * In a steady step nothing is allocated or released, and nothing waits but the downloads and checks that
 * training asks for, although rates, counters and random bits change from step to step.
 */
#include "../sim/training.h"

#include "order.h"

enum { R = 3, STEPS = 10, STEADY = 4 /* from this step on all are alike */ };

/* Stochastic rounding of operands and sums, delayed scaling, formats of the optimizer's state: whatever has
 * small arrays of its own. */
static const char *const recipes[R] = {"fp32", "full:e4m3fn:sr/1x16;acc=e6m9:sr",
                                       "full:e4m3fn/tensor:delayed4;opt.m=bf16:sr"};

static struct fpl_data *data;

static void configure(struct fpl_config c[R]) {
    for (int r = 0; r < R; r++) {
        c[r] = tiny();
        set(&c[r], "recipe", recipes[r]);
        set(&c[r], "steps", "10");
        set(&c[r], "schedule", "cosine");
        set(&c[r], "eval_tokens", "128");
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

static void test_nothing_is_allocated(void **unused) {
    (void)unused;
    struct fpl_config c[R];
    struct fpl_host_counts counts[STEPS + 1];
    configure(c);
    if (!fpl_host_counted().known) skip();
    for (int first = 0; first < R; first++) { /* each alone, then all */
        const int replicas = first < R - 1 ? 1 : R;
        train_counted(replicas == 1 ? &c[first] : c, replicas, counts);
        for (int s = STEADY; s <= STEPS; s++) {
            const struct fpl_host_counts *a = &counts[s - 1], *b = &counts[s];
            if (s == STEADY)
                print_message("%d replicas: a step waits %d times, %d kernels, %d copies\n", replicas,
                              (int)(b->waits - a->waits), (int)(b->kernels - a->kernels),
                              (int)(b->copies - a->copies));
            assert_int_equal(b->allocations, a->allocations);
            /* Losses of two micro-batches, the norm, the counts, two checks; the counts once more where the
             * optimizer rounds. */
            assert_int_equal(b->waits - a->waits, 6 + (replicas == R));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_is_allocated)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
