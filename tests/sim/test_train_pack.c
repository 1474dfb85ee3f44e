/* Packs: runs that end drop out of them, checkpoints do not know of them, what is spent is shared,
 * and how large they should be is measured. */
#include <math.h>
#include <time.h>

#include "../../sim/model/model.h"
#include "training.h"

enum { R = 8 };

/* Eight runs; the even ones break, each by another rate and so at another step. */
static void configure(struct fpl_config c[R]) {
    static const char *const recipes[] = {"fp32", "full:e4m3/1x8", "full:e4m3/tensor:delayed4",
                                          "full:e2m1:sr/tensor;opt.m=bf16:sr;opt.v=bf16"};
    static const char *const rates[] = {"1e3", "1e-2", "30", "5e-3", "200", "2e-2", "8", "1e-2"};
    for (int r = 0; r < R; r++) {
        c[r] = tiny();
        set(&c[r], "steps", "24");
        set(&c[r], "eval_every", "6");
        set(&c[r], "recipe", recipes[r / 2]);
        set(&c[r], "lr", rates[r]);
        c[r].seed = (uint64_t)r + 11;
        if (r % 2 == 0) c[r].weight_decay = 1e3;
    }
    c[3].diagnose_every = 5;
}

static struct fpl_config config[R];
static struct fpl_record single[R];
static struct fpl_data *data;

static int set_up(void **state) {
    (void)state;
    configure(config);
    data = open_data(&config[0]);
    for (int r = 0; r < R; r++) single[r] = train_one(&config[r], data, NULL);
    return 0;
}

static int take_down(void **state) {
    (void)state;
    for (int r = 0; r < R; r++) fpl_record_free(&single[r]);
    fpl_data_close(data);
    return 0;
}

/* ---- dropping out -------------------------------------------------------------------------------- */

struct told {
    int order[R], count;
    int64_t step, at[R]; /* of the pack when the run was told */
};

static void on_progress(void *context, int64_t step, int64_t steps, double loss) {
    (void)steps;
    (void)loss;
    ((struct told *)context)->step = step;
}

static void on_end(void *context, int run, const struct fpl_record *record) {
    struct told *t = context;
    assert_true(t->count < R);
    assert_string_equal(record->id, single[run].id);
    t->at[t->count] = t->step;
    t->order[t->count++] = run;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void runs_that_break_drop_out(void **state) {
    (void)state;
    struct told told = {.count = 0};
    struct fpl_record pack[R];
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_train_options o = {.kernels = fpl_backend("cpu"),
                                        .threads = 3,
                                        .progress = on_progress,
                                        .ended = on_end,
                                        .context = &told};
    const double begun = now();
    if (fpl_train(config, R, data, &o, pack, &err) != FPL_OK) fail_msg("%s", err.text);
    const double wall = now() - begun;
    double shares = 0;
    int broken = 0;
    for (int r = 0; r < R; r++) {
        assert_same_run(&single[r], &pack[r]);
        assert_int_equal(pack[r].pack, R);
        assert_int_equal(single[r].pack, 1);
        broken += single[r].status != FPL_RUN_OK && single[r].steps < 20;
        shares += pack[r].seconds;
    }
    assert_int_equal(broken, R / 2);
    /* Each is told once; half of the pack as soon as it has ended, long before the rest. */
    assert_int_equal(told.count, R);
    for (int i = 0; i < R / 2; i++) {
        assert_int_equal(told.order[i] % 2, 0);
        assert_true(told.at[i] < 24);
        assert_int_equal(told.at[R / 2 + i], 24);
    }
    if (!(shares > 0 && shares <= wall)) fail_msg("shares sum to %g of %g s", shares, wall);
    assert_true(pack[0].seconds < pack[1].seconds);
    for (int r = 0; r < R; r++) fpl_record_free(&pack[r]);
}

/* ---- shares -------------------------------------------------------------------------------------- */

static double steps_told; /* a clock that the end of a step of the pack moves on by one second */

static double clock_of_steps(void) { return steps_told; }

static void step_passes(void *context, int64_t step, int64_t steps, double loss) {
    (void)context;
    (void)step;
    (void)steps;
    (void)loss;
    steps_told += 1;
}

/* Every second is dealt out equally to the runs that had not ended when it began; nobody pays after
 * its end, though a pack is not emptied before half of it has ended. */
static void ended_runs_pay_no_more(void **state) {
    (void)state;
    struct fpl_record pack[R];
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_train_options o = {
        .kernels = fpl_backend("cpu"), .threads = 1, .progress = step_passes, .clock = clock_of_steps};
    steps_told = 0;
    if (fpl_train(config, R, data, &o, pack, &err) != FPL_OK) fail_msg("%s", err.text);
    /* The clock has not moved for the step in which a run breaks when that is seen. */
    int64_t end[R], all = (int64_t)steps_told, first = all, last = 0;
    for (int r = 0; r < R; r++) {
        end[r] = pack[r].status == FPL_RUN_OK ? all : pack[r].steps - 1;
        if (end[r] < first) first = end[r];
        if (end[r] > last && end[r] < all) last = end[r];
    }
    assert_true(first < last && last < all); /* some end while others that will end go on */
    for (int r = 0; r < R; r++) {
        double due = 0;
        for (int64_t second = 0; second < end[r]; second++) {
            int sharing = 0;
            for (int s = 0; s < R; s++) sharing += end[s] > second;
            due += 1.0 / sharing;
        }
        if (fabs(pack[r].seconds - due) > 1e-9 * due)
            fail_msg("run %d of %lld steps pays %.17g seconds, its share is %.17g", r,
                     (long long)pack[r].steps, pack[r].seconds, due);
    }
    for (int r = 0; r < R; r++) fpl_record_free(&pack[r]);
}

/* ---- checkpoints ----------------------------------------------------------------------------------- */

struct stop_at {
    int64_t step;
    volatile sig_atomic_t signal;
};

static void stop_there(void *context, int64_t step, int64_t steps, double loss) {
    struct stop_at *s = context;
    (void)steps;
    (void)loss;
    if (step == s->step) s->signal = SIGTERM;
}

/* Trains count runs from `first`, each with its own file, to step `until` (0: to the end). */
static enum fpl_code go_on(const char *const *path, int first, int count, int64_t until,
                           struct fpl_record *records, struct fpl_error *err) {
    struct stop_at s = {.step = until};
    const struct fpl_train_options o = {.kernels = fpl_backend("cpu"),
                                        .checkpoint = path + first,
                                        .stop = &s.signal,
                                        .progress = stop_there,
                                        .context = &s};
    return fpl_train(config + first, count, data, &o, records + first, err);
}

static void free_all(struct fpl_record *records) {
    for (int r = 0; r < R; r++) fpl_record_free(&records[r]);
    memset(records, 0, R * sizeof *records);
}

/* Whole, in halves, alone, whole again: the packs of a run may change whenever it goes on. */
static void checkpoints_do_not_know_packs(void **state) {
    (void)state;
    char *base = fresh_path(), name[R][320];
    const char *path[R];
    struct fpl_record records[R] = {{0}};
    struct fpl_error err = {FPL_OK, ""};
    for (int r = 0; r < R; r++) {
        if (r == 0)
            snprintf(name[r], sizeof name[r], "%s", base);
        else
            snprintf(name[r], sizeof name[r], "%s.%d", base, r);
        path[r] = name[r];
        assert_int_equal(fpl_checkpoint_step(path[r]), 0);
    }
    assert_int_equal(go_on(path, 0, R, 2, records, &err), FPL_STOPPED);
    free_all(records);
    for (int r = 0; r < R; r++) assert_int_equal(fpl_checkpoint_step(path[r]), 2);
    for (int first = 0; first < R; first += 2) /* in pairs; those that break end in them */
        assert_int_equal(go_on(path, first, 2, 19, records, &err), FPL_STOPPED);
    free_all(records);
    for (int r = 1; r < R; r += 2) {
        assert_int_equal(fpl_checkpoint_step(path[r]), 19);
        assert_int_equal(go_on(path, r, 1, 21, records, &err), FPL_STOPPED);
    }
    free_all(records);
    /* Runs at different steps cannot go on together. */
    assert_true(fpl_checkpoint_step(path[0]) != 21);
    assert_int_equal(go_on(path, 0, 2, 0, records, &err), FPL_INVALID);
    assert_non_null(strstr(err.text, "step 21"));
    for (int r = 0; r < R; r++)
        if (go_on(path, r, 1, 0, records, &err) != FPL_OK) fail_msg("%s", err.text);
    for (int r = 0; r < R; r++) assert_same_run(&single[r], &records[r]);
    free_all(records);
    FILE *f = fopen(path[1], "wb");
    assert_true(fputs("no checkpoint", f) >= 0 && fclose(f) == 0);
    assert_int_equal(fpl_checkpoint_step(path[1]), -1);
    forget_path(base);
}

/* ---- a backend with opinions ------------------------------------------------------------------------ */

/* The CPU's operations, counting memory, out of it above a limit, and time. */
static struct {
    const struct fpl_kernels *cpu;
    size_t bytes, peak, limit;
    int most, for_each; /* a product takes a fixed time, or one that grows with the square of R */
    int opened_number;
    double now; /* a clock that only products move */
} fake;

static enum fpl_code fake_open(struct fpl_device **dev, const struct fpl_device_options *options,
                               struct fpl_error *err) {
    fake.bytes = 0;
    fake.opened_number = options->number;
    return fake.cpu->open(dev, options, err);
}

static void *fake_alloc(struct fpl_device *dev, size_t bytes) {
    fake.bytes += bytes;
    if (fake.bytes > fake.peak) fake.peak = fake.bytes;
    return fake.cpu->alloc(dev, fake.bytes > fake.limit ? SIZE_MAX / 2 : bytes);
}

static int fake_replicas(struct fpl_device *dev, size_t bytes) {
    (void)dev;
    assert_true(bytes > 1000);
    return fake.most;
}

static void fake_gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    fake.now += fake.for_each ? 1e-4 * g->R * g->R : 1e-4;
    fake.cpu->gemm(dev, g);
}

static double fake_clock(void) { return fake.now; }

static struct fpl_kernels make_fake(void) {
    struct fpl_kernels k = *fpl_backend("cpu");
    fake.cpu = fpl_backend("cpu");
    fake.limit = SIZE_MAX;
    fake.most = 6;
    fake.for_each = 0;
    k.open = fake_open;
    k.alloc = fake_alloc;
    k.replicas = fake_replicas;
    k.gemm = fake_gemm;
    return k;
}

static struct fpl_pack_speed measure(const struct fpl_kernels *k, const char *steps) {
    struct fpl_config c[R];
    struct fpl_pack_speed speed;
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_train_options o = {.kernels = k, .device = 3, .clock = fake_clock};
    configure(c);
    for (int r = 0; r < R; r++) set(&c[r], "steps", steps);
    if (fpl_train_measure(c, R, data, &o, &speed, &err) != FPL_OK) fail_msg("%s", err.text);
    assert_int_equal(fake.opened_number, 3);
    return speed;
}

static void the_best_size_is_measured(void **state) {
    (void)state;
    struct fpl_kernels k = make_fake();
    struct fpl_pack_speed s = measure(&k, "200");
    assert_int_equal(s.best, 6); /* all that fit */
    assert_int_equal(s.tried, 4);
    const int want[] = {1, 2, 4, 6};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s.replicas[i], want[i]);
        assert_true(s.seconds[i] > 0 && s.seconds[i] < 1);
    }
    fake.for_each = 1; /* nothing is gained */
    s = measure(&k, "200");
    assert_int_equal(s.best, 1);
    assert_int_equal(s.tried, 2);
    s = measure(&k, "20"); /* too short to find out */
    assert_int_equal(s.best, 6);
    assert_int_equal(s.tried, 0);
    fake.for_each = 0;
    fake.most = 1;
    s = measure(&k, "200");
    assert_int_equal(s.best, 1);
    k.replicas = NULL;
    s = measure(&k, "200");
    assert_int_equal(s.best, 1);
    assert_int_equal(s.tried, 0);
}

static void what_does_not_fit_ends_the_search(void **state) {
    (void)state;
    struct fpl_kernels k = make_fake();
    const struct fpl_train_options o = {.kernels = &k};
    struct fpl_record records[R];
    struct fpl_pack_speed s;
    struct fpl_error err = {FPL_OK, ""};
    fake.peak = 0;
    k.replicas = NULL;
    assert_int_equal(fpl_train(config, 3, data, &o, records, &err), FPL_OK);
    for (int r = 0; r < 3; r++) fpl_record_free(&records[r]);
    k.replicas = fake_replicas;
    fake.limit = fake.peak; /* enough for three */
    s = measure(&k, "200");
    assert_int_equal(s.best, 2);
    fake.limit = 1000;
    assert_int_equal(fpl_train_measure(config, R, data, &o, &s, &err), FPL_OK); /* 24 steps: not tried */
    assert_int_equal(fpl_train(config, 3, data, &o, records, &err), FPL_MEMORY);
    assert_null(records[0].canonical);
}

/* The prediction is what a model takes: the same, buffer by buffer, for shapes of odd sizes. */
static void memory_is_predicted(void **state) {
    (void)state;
    const struct fpl_kernels k = make_fake();
    static const struct fpl_model_shape shapes[] = {{1, 1, 2, 1, 1, 2, 1, 1, 0, 1},
                                                    {3, 2, 16, 2, 24, 32, 16, 4, 0, 2},
                                                    {5, 3, 12, 3, 7, 33, 9, 2, 0.1, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct fpl_recipe recipe;
        struct fpl_model_replica replica[5];
        struct fpl_model *m;
        struct fpl_device *dev;
        assert_int_equal(fpl_recipe_parse("fp32", &recipe, NULL), FPL_OK);
        for (int r = 0; r < 5; r++) replica[r] = (struct fpl_model_replica){.recipe = &recipe, .seed = 1};
        assert_int_equal(k.open(&dev, &(struct fpl_device_options){.threads = 1}, NULL), FPL_OK);
        assert_int_equal(fpl_model_create(&shapes[i], replica, &k, dev, &m, NULL), FPL_OK);
        assert_int_equal(fpl_model_bytes(&shapes[i], &k, 0), fake.bytes);
        fpl_model_destroy(m);
        k.close(dev);
    }
    const struct fpl_model_shape none = {.R = 1};
    assert_int_equal(fpl_model_bytes(&none, &k, 0), 0);
}

/* Initial weights do not depend on who draws them: replicas by threads, or one's matrices. */
static void threads_draw_the_same_weights(void **state) {
    (void)state;
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct fpl_recipe recipe;
    struct fpl_device *dev;
    assert_int_equal(fpl_recipe_parse("fp32", &recipe, NULL), FPL_OK);
    assert_int_equal(k->open(&dev, &(struct fpl_device_options){.threads = 1}, NULL), FPL_OK);
    for (int packs = 1; packs <= 3; packs += 2) {
        const struct fpl_model_replica replica[3] = {{&recipe, 1}, {&recipe, 2}, {&recipe, 3}};
        struct fpl_model_shape s = {packs, 1, 64, 2, 96, 200, 4, 1, 0, 1};
        struct fpl_model *one, *several;
        assert_int_equal(fpl_model_create(&s, replica, k, dev, &one, NULL), FPL_OK);
        s.threads = 3;
        assert_int_equal(fpl_model_create(&s, replica, k, dev, &several, NULL), FPL_OK);
        const struct fpl_model_state a = fpl_model_state(one), b = fpl_model_state(several);
        assert_memory_equal(a.parameters, b.parameters, a.elements * sizeof(float));
        fpl_model_destroy(one);
        fpl_model_destroy(several);
    }
    k->close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_that_break_drop_out),          cmocka_unit_test(ended_runs_pay_no_more),
        cmocka_unit_test(checkpoints_do_not_know_packs),     cmocka_unit_test(the_best_size_is_measured),
        cmocka_unit_test(what_does_not_fit_ends_the_search), cmocka_unit_test(memory_is_predicted),
        cmocka_unit_test(threads_draw_the_same_weights)};
    return cmocka_run_group_tests(tests, set_up, take_down);
}
