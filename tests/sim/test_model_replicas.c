/* The model under the program's own kernels: initial weights, replicas, micro-batches,
 * random bits of stochastic rounding, non-finite operands.  Gradients are checked in double
 * precision elsewhere (test_model_gradients.c). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../../sim/model/model.h"

#define T 8
#define B 4
#define V 19
#define MOST_R 3

struct fixture {
    struct fpl_device *dev;
    const struct fpl_kernels *k;
    struct fpl_model *m;
    int R;
    int32_t inputs[MOST_R * B * T], targets[MOST_R * B * T];
    double losses[MOST_R * B * T];
};

static const struct fpl_model_shape shape = {
    .R = 1, .layers = 2, .width = 24, .heads = 3, .ffn = 40, .vocab = V, .seq = T, .micro_sequences = B};

static void open_with(struct fixture *f, const struct fpl_model_shape *s, const char *const *recipes,
                      const uint64_t *seeds) {
    struct fpl_recipe r[MOST_R];
    struct fpl_model_replica replica[MOST_R];
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_device_options options = {.threads = 1};
    memset(f, 0, sizeof *f);
    f->k = fpl_backend("cpu");
    f->R = s->R;
    assert_int_equal(f->k->open(&f->dev, &options, &err), FPL_OK);
    for (int i = 0; i < s->R; i++) {
        assert_int_equal(fpl_recipe_parse(recipes[i], &r[i], &err), FPL_OK);
        replica[i] = (struct fpl_model_replica){&r[i], seeds[i]};
    }
    if (fpl_model_create(s, replica, f->k, f->dev, &f->m, &err) != FPL_OK) fail_msg("%s", err.text);
    for (int i = 0; i < s->R; i++)
        for (uint64_t j = 0; j < B * T; j++) {
            uint32_t w[4];
            fpl_random_block(seeds[i], j, 0, fpl_stream(FPL_STREAM_TEST, 3), w);
            f->inputs[(uint64_t)i * B * T + j] = (int32_t)(w[0] % V);
            f->targets[(uint64_t)i * B * T + j] = (int32_t)(w[1] % V);
        }
}

static void open_one(struct fixture *f, const char *recipe, uint64_t seed) {
    open_with(f, &shape, &recipe, &seed);
}

static void close_all(struct fixture *f) {
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(f->k->check(f->dev, &err), FPL_OK);
    fpl_model_destroy(f->m);
    f->k->close(f->dev);
}

/* Gradients of a whole step (R = 1 may divide it), host copy of the flat buffer. */
static float *gradients(struct fixture *f, int64_t sequences, uint32_t step) {
    const size_t elements = fpl_model_state(f->m).elements;
    float *g = malloc(elements * sizeof *g);
    for (int64_t first = 0; first < B; first += sequences) {
        const struct fpl_batch b = {.sequences = sequences,
                                    .inputs = f->inputs + first * T,
                                    .targets = f->targets + first * T,
                                    .step = step,
                                    .first_row = first * T,
                                    .scale = 1.0 / (B * T)};
        fpl_model_forward(f->m, &b, f->losses + first * T);
        fpl_model_backward(f->m, &b, first > 0);
    }
    f->k->download(f->dev, g, fpl_model_state(f->m).gradients, elements * sizeof *g);
    return g;
}

static void update(struct fixture *f, int64_t step) {
    const float lr[MOST_R] = {1e-2f, 2e-2f, 5e-3f}, decay[MOST_R] = {0.1f, 0.0f, 0.5f};
    double sqnorm[MOST_R];
    struct fpl_adamw a = {
        .lr = lr, .decay = decay, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .step = step, .clip = 1};
    fpl_model_gradient_norm(f->m, sqnorm);
    fpl_model_update(f->m, &a);
}

/* ---- initial weights ------------------------------------------------------------------------------ */

static void tensors_tile_the_buffer(void **state) {
    (void)state;
    struct fixture f;
    open_one(&f, "fp32", 1);
    int64_t end = 0, matrices = 0;
    for (int p = 0; p < fpl_model_parameter_count(f.m); p++) {
        const struct fpl_parameter *q = fpl_model_parameter(f.m, p);
        assert_true(q->segment.offset >= end && q->segment.offset % 16 == 0);
        assert_int_equal(q->segment.size, q->rows * q->cols);
        assert_int_equal(q->segment.decay, q->rows > 1);
        end = q->segment.offset + q->segment.size;
        if (strncmp(q->name, "block", 5) == 0 && q->rows > 1) matrices += q->segment.size;
    }
    assert_true((size_t)end <= fpl_model_state(f.m).elements);
    assert_int_equal(matrices, 2 * (4 * 24 * 24 + 3 * 24 * 40)); /* N = L (4 C^2 + 3 C F) */
    assert_int_equal(fpl_model_parameter_count(f.m), 3 + 2 * 6);
    close_all(&f);
}

/* Sample standard deviation within 5 standard errors, std/sqrt(2n), and mean within 5 of its. */
static void initial_weights_have_their_deviation(void **state) {
    (void)state;
    struct fpl_model_shape s = shape;
    struct fixture f;
    const char *recipe = "fp32";
    const uint64_t seed = 11;
    s.width = 96;
    s.ffn = 256;
    open_with(&f, &s, &recipe, &seed);
    const double std = 0.5 / sqrt(96.0);
    for (int p = 0; p < fpl_model_parameter_count(f.m); p++) {
        const struct fpl_parameter *q = fpl_model_parameter(f.m, p);
        float *w = malloc((size_t)q->segment.size * sizeof *w);
        double sum = 0, squares = 0;
        const double n = (double)q->segment.size;
        f.k->download(f.dev, w, fpl_model_state(f.m).parameters + q->segment.offset,
                      (size_t)q->segment.size * sizeof *w);
        for (int64_t i = 0; i < q->segment.size; i++) {
            sum += (double)w[i];
            squares += (double)w[i] * (double)w[i];
            if (q->rows == 1) assert_true(w[i] == 1.0f);
        }
        if (q->rows > 1) {
            const int residual = strstr(q->name, "attention_out") != NULL || strstr(q->name, "down") != NULL;
            const double expected = residual ? std / 2 : std; /* 1/sqrt(2L) = 1/2 */
            assert_true(fabs(sqrt(squares / n) / expected - 1) < 5 / sqrt(2 * n));
            assert_true(fabs(sum / n) < 5 * expected / sqrt(n));
        }
        free(w);
    }
    close_all(&f);
}

static void seeds_and_tensors_draw_their_own_weights(void **state) {
    (void)state;
    struct fpl_model_shape s = shape;
    struct fixture f;
    const char *const recipes[] = {"fp32", "fp32"};
    const uint64_t seeds[] = {1, 2};
    s.R = 2;
    open_with(&f, &s, recipes, seeds);
    const float *w = fpl_model_state(f.m).parameters;
    const int count = fpl_model_parameter_count(f.m);
    for (int p = 0; p < count; p++) {
        const struct fpl_segment a = fpl_model_parameter(f.m, p)->segment;
        if (!a.decay) continue;
        assert_true(w[a.offset] != w[a.offset + a.size]);
        for (int q = p + 1; q < count; q++) {
            const struct fpl_segment b = fpl_model_parameter(f.m, q)->segment;
            if (b.decay)
                assert_true(fabsf(w[a.offset] / w[b.offset] - 2.0f) > 1e-3f && w[a.offset] != w[b.offset]);
        }
    }
    close_all(&f);
}

/* ---- replicas and micro-batches -------------------------------------------------------------------- */

static void a_replica_is_the_same_in_any_pack(void **state) {
    (void)state;
    struct fpl_model_shape s = shape;
    const char *const recipes[] = {"full:e2m1:sr/1x8", "fp32", "capybara:e4m3/tensor"};
    const uint64_t seeds[] = {5, 6, 7};
    struct fixture pack, one;
    s.R = 3;
    open_with(&pack, &s, recipes, seeds);
    for (int64_t step = 1; step <= 3; step++) {
        free(gradients(&pack, B, (uint32_t)step));
        update(&pack, step);
    }
    free(gradients(&pack, B, 4));
    /* replica 0 alone: the optimizer's options are those of replica 0 */
    open_with(&one, &shape, recipes, seeds);
    for (int64_t step = 1; step <= 3; step++) {
        free(gradients(&one, B, (uint32_t)step));
        update(&one, step);
    }
    free(gradients(&one, B, 4));
    assert_memory_equal(one.losses, pack.losses, B * T * sizeof *one.losses);
    for (int p = 0; p < fpl_model_parameter_count(one.m); p++) {
        const struct fpl_segment a = fpl_model_parameter(one.m, p)->segment;
        const struct fpl_segment b = fpl_model_parameter(pack.m, p)->segment;
        const struct fpl_model_state x = fpl_model_state(one.m), y = fpl_model_state(pack.m);
        const size_t bytes = (size_t)a.size * sizeof(float);
        assert_memory_equal(x.parameters + a.offset, y.parameters + b.offset, bytes);
        assert_memory_equal(x.gradients + a.offset, y.gradients + b.offset, bytes);
        assert_memory_equal(x.moment1 + a.offset, y.moment1 + b.offset, bytes);
        assert_memory_equal(x.moment2 + a.offset, y.moment2 + b.offset, bytes);
    }
    close_all(&one);
    close_all(&pack);
}

/* Products are one chain in row order, and unscaled stochastic rounding draws by the row in
 * the step: matrices' gradients keep their bits however the step is divided. */
static void dividing_a_step_keeps_matrix_gradients(void **state) {
    (void)state;
    static const char *const recipes[] = {"fp32", "bf16", "full:e4m3:sr", "full:e3m2:sr9/row"};
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        struct fixture f;
        open_one(&f, recipes[i], 3);
        float *whole = gradients(&f, B, 9), *parts = gradients(&f, 1, 9);
        int differ = 0;
        for (int p = 0; p < fpl_model_parameter_count(f.m); p++) {
            const struct fpl_parameter *q = fpl_model_parameter(f.m, p);
            if (strstr(recipes[i], "row") != NULL && strstr(q->name, "block") != NULL) {
                /* scales of wgrad rows span the call: these do change, or the test sees nothing */
                differ |= memcmp(whole + q->segment.offset, parts + q->segment.offset,
                                 (size_t)q->segment.size * sizeof(float)) != 0;
            } else if (q->rows > 1) {
                assert_memory_equal(whole + q->segment.offset, parts + q->segment.offset,
                                    (size_t)q->segment.size * sizeof(float));
            }
        }
        assert_int_equal(differ, strstr(recipes[i], "row") != NULL);
        free(whole);
        free(parts);
        close_all(&f);
    }
}

static void stochastic_rounding_follows_step_and_seed(void **state) {
    (void)state;
    struct fixture f, g;
    open_one(&f, "full:e4m3:sr", 3);
    open_one(&g, "full:e4m3:sr", 3);
    const size_t bytes = fpl_model_state(f.m).elements * sizeof(float);
    float *a = gradients(&f, B, 9), *b = gradients(&f, B, 9), *c = gradients(&f, B, 10),
          *d = gradients(&g, B, 9);
    assert_memory_equal(a, b, bytes);
    assert_memory_equal(a, d, bytes);
    assert_memory_not_equal(a, c, bytes);
    free(a);
    free(b);
    free(c);
    free(d);
    close_all(&f);
    close_all(&g);
}

static void evaluation_equals_the_forward_pass(void **state) {
    (void)state;
    struct fixture f;
    double losses[B * T];
    open_one(&f, "full:e4m3/1x8", 4);
    const struct fpl_batch b = {.sequences = B, .inputs = f.inputs, .targets = f.targets, .scale = 1};
    fpl_model_forward(f.m, &b, f.losses);
    fpl_model_evaluate(f.m, &b, losses);
    assert_memory_equal(losses, f.losses, sizeof losses);
    for (int i = 0; i < B * T; i++) assert_true(losses[i] > 0 && losses[i] < 10);
    close_all(&f);
}

/* ---- non-finite operands ---------------------------------------------------------------------------- */

static void non_finite_operands_are_counted(void **state) {
    (void)state;
    static const struct {
        const char *recipe;
        int counted;
    } cases[] = {{"fp32", 0}, {"full:e4m3/1x8", 1}, {"qat:e4m3/tensor", 1}, {"ops:wgrad.dy=e4m3", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture f;
        int64_t before = -1, after = -1;
        const float bad = (float)INFINITY;
        open_one(&f, cases[i].recipe, 1);
        free(gradients(&f, B, 1));
        fpl_model_nonfinite(f.m, &before);
        assert_int_equal(before, 0);
        f.k->upload(f.dev, fpl_model_state(f.m).parameters + fpl_model_parameter(f.m, 0)->segment.offset,
                    &bad, sizeof bad);
        f.inputs[0] = 0; /* the token whose row is bad */
        fpl_model_changed(f.m);
        free(gradients(&f, B, 2));
        fpl_model_nonfinite(f.m, &after);
        assert_int_equal(after > 0, cases[i].counted);
        assert_true(!isfinite(f.losses[0]));
        close_all(&f);
    }
}

static void impossible_shapes_are_refused(void **state) {
    (void)state;
    const struct fpl_kernels *k = fpl_backend("cpu");
    const struct fpl_device_options options = {.threads = 1};
    struct fpl_device *dev;
    struct fpl_recipe r;
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(k->open(&dev, &options, &err), FPL_OK);
    assert_int_equal(fpl_recipe_parse("fp32", &r, &err), FPL_OK);
    const struct fpl_model_replica replica = {&r, 1};
    struct fpl_model_shape bad[6] = {shape, shape, shape, shape, shape, shape};
    bad[0].heads = 5;
    bad[1].heads = 8; /* head width 3 is odd */
    bad[2].layers = 0;
    bad[3].vocab = -1;
    bad[4].seq = (int64_t)1 << 40;
    bad[5].R = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fpl_model *m = NULL;
        assert_int_equal(fpl_model_create(&bad[i], &replica, k, dev, &m, &err), FPL_INVALID);
        assert_null(m);
        assert_true(err.text[0] != '\0');
    }
    k->close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tensors_tile_the_buffer),
                                       cmocka_unit_test(initial_weights_have_their_deviation),
                                       cmocka_unit_test(seeds_and_tensors_draw_their_own_weights),
                                       cmocka_unit_test(a_replica_is_the_same_in_any_pack),
                                       cmocka_unit_test(dividing_a_step_keeps_matrix_gradients),
                                       cmocka_unit_test(stochastic_rounding_follows_step_and_seed),
                                       cmocka_unit_test(evaluation_equals_the_forward_pass),
                                       cmocka_unit_test(non_finite_operands_are_counted),
                                       cmocka_unit_test(impossible_shapes_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
