/* test_host_energy.c - a device's energy and memory, and what records say of them.
 *
 * NVML of host execution (nvml.h) is absent, old, refuses, knows nothing, or counts 7 joules from each
 * reading to the next; whatever it does, training goes on.
 */
#include "../sim/training.h"

#include <math.h>

#include "nvml.h"

enum { R = 4 };

static double ticks; /* a clock that each reading moves on, as each reading of the counter does */

static double tick(void) { return ticks += 1; }

static void train_all(const char *backend, struct fpl_record *records) {
    /* Two of four break, each at a step of its own. */
    static const char *const rates[R] = {"1e3", "1e-2", "30", "5e-3"};
    struct fpl_config c[R];
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_train_options o = {.kernels = fpl_backend(backend), .threads = 1, .clock = tick};
    for (int r = 0; r < R; r++) {
        c[r] = tiny();
        set(&c[r], "lr", rates[r]);
        set(&c[r], "steps", "16");
        set(&c[r], "eval_tokens", "64");
        if (r % 2 == 0) c[r].weight_decay = 1e3;
    }
    struct fpl_data *data = open_data(&c[0]);
    if (fpl_train(c, R, data, &o, records, &err) != FPL_OK) fail_msg("%s: %s", backend, err.text);
    fpl_data_close(data);
}

static double joules_now(enum fpl_host_nvml_mode opened, enum fpl_host_nvml_mode asked) {
    const struct fpl_kernels *k = fpl_backend("cuda");
    struct fpl_device *dev = NULL;
    struct fpl_error err = {FPL_OK, ""};
    fpl_host_nvml_set(opened);
    if (k->open(&dev, NULL, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_host_nvml_set(asked);
    const double joules = k->joules(dev);
    if (k->check(dev, &err) != FPL_OK) fail_msg("%s", err.text);
    k->close(dev);
    return joules;
}

/* In this order: a library that has once started stays open. */
static void what_is_not_told_is_unknown(void **unused) {
    (void)unused;
    assert_true(isnan(joules_now(FPL_NVML_ABSENT, FPL_NVML_ABSENT)));
    assert_true(isnan(joules_now(FPL_NVML_ABSENT, FPL_NVML_WORKS)));
    assert_true(isnan(joules_now(FPL_NVML_IS_OLD, FPL_NVML_IS_OLD)));
    assert_true(isnan(joules_now(FPL_NVML_FAILS_TO_START, FPL_NVML_FAILS_TO_START)));
    struct fpl_record records[R];
    train_all("cuda", records);
    for (int r = 0; r < R; r++) {
        assert_true(isnan(records[r].joules) && records[r].seconds > 0);
        char *text = fpl_record_to_json(&records[r]);
        assert_non_null(strstr(text, "\"joules\":null"));
        free(text);
        fpl_record_free(&records[r]);
    }
    assert_true(isnan(joules_now(FPL_NVML_KNOWS_NO_DEVICE, FPL_NVML_KNOWS_NO_DEVICE)));
    assert_true(isnan(joules_now(FPL_NVML_WORKS, FPL_NVML_HAS_NO_COUNTER)));
    const double first = joules_now(FPL_NVML_WORKS, FPL_NVML_WORKS);
    assert_true(first > 123 && joules_now(FPL_NVML_WORKS, FPL_NVML_WORKS) - first == FPL_HOST_NVML_JOULES);
}

/* Clock and counter are read together, so a run's joules are its seconds times what one reading is worth. */
static void joules_are_shared_as_seconds_are(void **unused) {
    (void)unused;
    struct fpl_record records[R];
    double all = 0;
    int ended = 0;
    fpl_host_nvml_set(FPL_NVML_WORKS);
    const int64_t before = fpl_host_nvml_readings();
    train_all("cuda", records);
    const int64_t intervals = fpl_host_nvml_readings() - before - 1;
    for (int r = 0; r < R; r++) {
        all += records[r].joules;
        ended += records[r].status != FPL_RUN_OK;
        const double due = FPL_HOST_NVML_JOULES * records[r].seconds;
        if (fabs(records[r].joules - due) > 1e-9 * due)
            fail_msg("run %d: %.17g joules, expected %.17g", r, records[r].joules, due);
    }
    assert_int_equal(ended, R / 2);
    const double spent = FPL_HOST_NVML_JOULES * (double)intervals;
    if (fabs(all - spent) > 1e-9 * spent) fail_msg("%.17g joules in records, %.17g spent", all, spent);
    for (int r = 0; r < R; r++) fpl_record_free(&records[r]);
}

static void memory_is_the_device_s(void **unused) {
    (void)unused;
    enum { MORE = 1 << 26 };
    const struct fpl_kernels *k = fpl_backend("cuda");
    struct fpl_device *dev = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (k->open(&dev, NULL, &err) != FPL_OK) fail_msg("%s", err.text);
    const double empty = k->peak_bytes(dev);
    void *p = k->alloc(dev, MORE);
    k->release(dev, p);
    const double most = k->peak_bytes(dev);
    k->close(dev);
    assert_true(most >= MORE && most - empty <= MORE + 4096);
    struct fpl_record cuda[R], cpu[R];
    train_all("cuda", cuda);
    train_all("cpu", cpu);
    for (int r = 0; r < R; r++) {
        /* weights, moments and gradients of one run at least; far less than the process holds */
        assert_true(cuda[r].peak_bytes > 4 * 4 * cuda[r].N && cuda[r].peak_bytes < 0.5 * cpu[r].peak_bytes);
        fpl_record_free(&cuda[r]);
        fpl_record_free(&cpu[r]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_not_told_is_unknown),
                                       cmocka_unit_test(joules_are_shared_as_seconds_are),
                                       cmocka_unit_test(memory_is_the_device_s)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
