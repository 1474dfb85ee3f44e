/* test_host_training.c - whole training runs of a tiny pack on the CUDA backend, executed on the host.
 *
 * 1. A replica trained alone has every bit that it has in the pack: curves, evaluation, diagnoses; also with
 *    blocks, warps and lanes in another order.
 * 2. Against the CPU backend.  The two add norms and losses in different orders, so a run on one is a run on
 *    the other whose every operation errs by some ulps.  How far such errors carry a run, the CPU backend
 * shows itself: the same run with learning rates that differ by a few parts in 2^20, two orders of magnitude
 * above an ulp but far below anything that one would call another learning rate.  The backends must agree
 * within the largest distance that those runs have from the unperturbed one, doubled because both backends
 * err.
 */
#include "../sim/training.h"

#include <math.h>

#include "order.h"

enum { R = 5, PERTURBED = 4 };

/* Formats of operands, attention and state; block scales, two levels, transforms, accumulators, clip masks.
 */
static const char *const recipes[R] = {
    "fp32", "mxfp8", "nvfp4", "deepseek_v3",
    ("full:e4m3fn/tensor:delayed4;ste=clip;attn.qk=int8/row;attn.pv=e4m3fn/"
     "1x16;opt.m=bf16:sr;opt.v=bf16;opt.grad=e5m2ieee/tensor")};

static void configure(struct fpl_config c[R]) {
    for (int r = 0; r < R; r++) {
        c[r] = tiny();
        set(&c[r], "lr", "2e-2");
        set(&c[r], "recipe", recipes[r]);
        set(&c[r], "eval_tokens", "128");
        set(&c[r], "micro_tokens", "64");
        set(&c[r], "diagnose_every", "4");
    }
}

static void train_on(const char *backend, const struct fpl_config *c, int count, const struct fpl_data *d,
                     struct fpl_record *records) {
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_train_options o = {.kernels = fpl_backend(backend), .threads = 1};
    if (fpl_train(c, count, d, &o, records, &err) != FPL_OK) fail_msg("%s: %s", backend, err.text);
    for (int r = 0; r < count; r++)
        if (records[r].status != FPL_RUN_OK) fail_msg("%s: %s: %s", backend, c[r].recipe, records[r].why);
}

static void free_records(struct fpl_record *records, int count) {
    for (int r = 0; r < count; r++) fpl_record_free(&records[r]);
}

static struct fpl_data *data;
static struct fpl_record pack[R]; /* on the CUDA backend */

static int open_all(void **unused) {
    (void)unused;
    struct fpl_config c[R];
    configure(c);
    data = open_data(&c[0]);
    train_on("cuda", c, R, data, pack);
    return 0;
}

static int close_all(void **unused) {
    (void)unused;
    free_records(pack, R);
    fpl_data_close(data);
    return 0;
}

/* Two of the replicas, each by itself; one of them in another order. */
static void test_alone_and_order(void **unused) {
    (void)unused;
    static const int which[] = {2, 4};
    struct fpl_config c[R];
    struct fpl_record alone;
    configure(c);
    for (int k = 0; k < 2; k++) {
        const int r = which[k];
        fpl_host_order(k == 1 ? FPL_HOST_SHUFFLED : FPL_HOST_FORWARD, 77);
        train_on("cuda", &c[r], 1, data, &alone);
        assert_same_run(&pack[r], &alone);
        free_records(&alone, 1);
    }
    fpl_host_order(FPL_HOST_FORWARD, 1);
}

static double farther(double a, double b) { return a > b ? a : b; }

static void test_against_the_cpu(void **unused) {
    (void)unused;
    static const char *const rates[PERTURBED] = {"0.02000002", "0.01999998", "0.02000004", "0.01999996"};
    struct fpl_config c[R];
    const struct fpl_record *cuda = pack;
    struct fpl_record cpu[R], near[R];
    double bound[R] = {0}, curve_bound[R] = {0};
    configure(c);
    train_on("cpu", c, R, data, cpu);
    for (int k = 0; k < PERTURBED; k++) {
        for (int r = 0; r < R; r++) set(&c[r], "lr", rates[k]);
        train_on("cpu", c, R, data, near);
        for (int r = 0; r < R; r++) {
            bound[r] = farther(bound[r], 2 * fabs(near[r].loss - cpu[r].loss));
            for (int64_t i = 0; i < cpu[r].curve_count; i++)
                curve_bound[r] =
                    farther(curve_bound[r], 2 * fabs(near[r].curve[i].loss - cpu[r].curve[i].loss));
        }
        free_records(near, R);
    }
    for (int r = 0; r < R; r++) {
        assert_string_equal(cuda[r].backend, "cuda");
        assert_int_equal(cuda[r].curve_count, cpu[r].curve_count);
        assert_int_equal(cuda[r].nonfinite, cpu[r].nonfinite);
        double most = fabs(cuda[r].curve[0].loss - cpu[r].curve[0].loss);
        for (int64_t i = 0; i < cpu[r].curve_count; i++)
            most = farther(most, fabs(cuda[r].curve[i].loss - cpu[r].curve[i].loss));
        print_message("%-12.12s loss %.9f, differs by %.1e of %.1e; curve by %.1e of %.1e\n", recipes[r],
                      cuda[r].loss, fabs(cuda[r].loss - cpu[r].loss), bound[r], most, curve_bound[r]);
        if (!(fabs(cuda[r].loss - cpu[r].loss) <= bound[r]) || !(most <= curve_bound[r]))
            fail_msg("%s: the backends differ by more than rounding explains", recipes[r]);
        assert_true(bound[r] < 0.01 * cpu[r].loss); /* the bound says something */
    }
    free_records(cpu, R);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone_and_order),
                                       cmocka_unit_test(test_against_the_cpu)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
