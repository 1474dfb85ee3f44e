/* What a recipe's options make of a model's products: exempt blocks, Hadamard transforms,
 * accumulators, the clip mask.
 *
 * A spy writes down every quantized product and mask of a step of three replicas under
 * recipes that differ in all of it.  Expectations are written out by hand: which blocks are
 * exempt, which role carries what.  The mask is also held to its meaning on gradients: in the
 * last linear layer of the last block, where the output gradient is the same with and without
 * it, the masked gradient is the plain one with zeros where the forward quantizer clipped. */
#include "training.h"

#include <math.h>

#include "../../sim/model/model.h"

enum { R = 3, LAYERS = 4, WIDTH = 32, FFN = 64, T = 16, SEQUENCES = 3, MICRO = 2, V = 23, CALLS = 512 };

static const char *const recipes[R] = {
    "full:e4m3/1x8;fwd.acc=fp16/32;wgrad.had=16;first=1",
    "full:e2m1:sr/1x16:e8m0;ste=clip;last=50%;dgrad.had=32;acc=bf16;dgrad.acc=align:4,13/8",
    "nvfp4;last=0",
};
/* by block */
static const char *const exempt[R] = {"x...", "..xx", "...."};
/* by role */
static const char *const sums[R][3] = {
    {"fp16/32", "fp32", "fp32"}, {"bf16", "align:4,13/8", "bf16"}, {"fp32", "fp32", "fp32"}};
static const int transforms[R][3] = {{0, 0, 16}, {0, 32, 0}, {0, 0, 16}};
static const char *const quantizers[R][FPL_SLOTS] = {
    {"e4m3/1x8", "e4m3/1x8", "e4m3/1x8", "e4m3/1x8", "e4m3/1x8", "e4m3/1x8"},
    {"e2m1:sr/1x16:e8m0", "e2m1:sr/1x16:e8m0", "e2m1:sr/1x16:e8m0", "e2m1:sr/1x16:e8m0", "e2m1:sr/1x16:e8m0",
     "e2m1:sr/1x16:e8m0"},
    {"e2m1/1x16:e4m3fn+t", "e2m1/16x16:e4m3fn+t", "e2m1:sr/1x16:e4m3fn+t", "e2m1/16x16:e4m3fn+t",
     "e2m1:sr/1x16:e4m3fn+t", "e2m1/1x16:e4m3fn+t"}};

/* ---- the spy ---------------------------------------------------------------------------------- */

struct call {
    int is_mask, masked; /* masked: elements that became zero */
    struct fpl_gemm g;
    int64_t rows, cols; /* of a mask */
    const fpl_real *x;
    fpl_real *gradient;
    struct fpl_operand qa[R], qb[R]; /* a mask's: qa */
    struct fpl_accumulator_plan sum[R];
};

static struct call call[CALLS];
static int calls;
static const struct fpl_kernels *real;

static void spy_gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    assert_true(calls < CALLS && g->R <= R);
    struct call *c = &call[calls++];
    memset(c, 0, sizeof *c);
    c->g = *g;
    memcpy(c->qa, g->qa, (size_t)g->R * sizeof *g->qa);
    memcpy(c->qb, g->qb, (size_t)g->R * sizeof *g->qb);
    if (g->accumulator != NULL) memcpy(c->sum, g->accumulator, (size_t)g->R * sizeof *c->sum);
    real->gemm(dev, g);
}

static void spy_mask(struct fpl_device *dev, int replicas, int64_t rows, int64_t cols,
                     const struct fpl_operand *q, const fpl_real *x, fpl_real *gradient) {
    assert_true(calls < CALLS);
    struct call *c = &call[calls++];
    memset(c, 0, sizeof *c);
    *c = (struct call){.is_mask = 1, .rows = rows, .cols = cols, .x = x, .gradient = gradient};
    memcpy(c->qa, q, (size_t)replicas * sizeof *q);
    for (int64_t i = 0; i < replicas * rows * cols; i++) c->masked -= gradient[i] == 0.0f;
    real->clip_mask(dev, replicas, rows, cols, q, x, gradient);
    for (int64_t i = 0; i < replicas * rows * cols; i++) c->masked += gradient[i] == 0.0f;
}

/* ---- a model behind it -------------------------------------------------------------------------- */

struct fixture {
    struct fpl_kernels k;
    struct fpl_device *dev;
    struct fpl_model *m;
    int replicas;
};

static void open_model(struct fixture *f, const char *const *texts, int replicas, int layers) {
    const struct fpl_device_options options = {.threads = 1};
    const struct fpl_model_shape shape = {.R = replicas,
                                          .layers = layers,
                                          .width = WIDTH,
                                          .heads = 2,
                                          .ffn = FFN,
                                          .vocab = V,
                                          .seq = T,
                                          .micro_sequences = MICRO};
    struct fpl_recipe recipe[R];
    struct fpl_model_replica replica[R];
    struct fpl_error err = {FPL_OK, ""};
    f->k = *(real = fpl_backend("cpu"));
    f->k.gemm = spy_gemm;
    f->k.clip_mask = spy_mask;
    f->replicas = replicas;
    for (int r = 0; r < replicas; r++) {
        if (fpl_recipe_parse(texts[r], &recipe[r], &err) != FPL_OK) fail_msg("%s", err.text);
        replica[r] = (struct fpl_model_replica){&recipe[r], 5};
    }
    assert_int_equal(f->k.open(&f->dev, &options, &err), FPL_OK);
    if (fpl_model_create(&shape, replica, &f->k, f->dev, &f->m, &err) != FPL_OK) fail_msg("%s", err.text);
}

static void close_model(struct fixture *f) {
    struct fpl_error err = {FPL_OK, ""};
    assert_int_equal(f->k.check(f->dev, &err), FPL_OK);
    fpl_model_destroy(f->m);
    f->k.close(f->dev);
}

/* The micro-batch of sequences [first, first + n) of step 3, the same for every replica. */
static void micro_batch(struct fixture *f, int64_t first) {
    static int32_t inputs[R * MICRO * T], targets[R * MICRO * T];
    static double losses[R * MICRO * T];
    const int64_t n = SEQUENCES - first < MICRO ? SEQUENCES - first : MICRO;
    for (int64_t i = 0; i < f->replicas * n * T; i++) {
        inputs[i] = (int32_t)((first * T + i % (n * T)) * 7 % V);
        targets[i] = (int32_t)((first * T + i % (n * T)) * 5 % V);
    }
    const struct fpl_batch b = {n, inputs, targets, 3, first * T, 1.0 / (SEQUENCES * T)};
    calls = 0;
    fpl_model_forward(f->m, &b, losses);
    fpl_model_backward(f->m, &b, first > 0);
}

/* ---- expectations -------------------------------------------------------------------------------- */

static struct fpl_quantizer_plan plan_of(const char *text) {
    struct fpl_quantizer q;
    struct fpl_quantizer_plan plan;
    assert_int_equal(fpl_quantizer_parse(text, &q, NULL), FPL_OK);
    fpl_quantizer_lower(&q, NULL, &plan);
    return plan;
}

static void check_operand(const struct fpl_operand *o, int r, int layer, int slot) {
    const int left_out = exempt[r][layer] == 'x';
    const struct fpl_quantizer_plan plan = plan_of(left_out ? "bf16" : quantizers[r][slot]);
    if (memcmp(&o->plan, &plan, sizeof plan) != 0)
        fail_msg("replica %d, block %d, %s: another plan", r, layer, fpl_slot_names[slot]);
    assert_int_equal(o->hadamard, left_out ? 0 : transforms[r][slot / 2]);
}

static void check_sum(const struct fpl_accumulator_plan *got, int r, int layer, int role) {
    struct fpl_accumulator a;
    struct fpl_accumulator_plan want;
    memset(&want, 0, sizeof want);
    assert_int_equal(fpl_accumulator_parse(exempt[r][layer] == 'x' ? "fp32" : sums[r][role], &a, NULL),
                     FPL_OK);
    fpl_accumulator_lower(&a, &want);
    if (memcmp(got, &want, sizeof want) != 0)
        fail_msg("replica %d, block %d, %s: another accumulator", r, layer, fpl_role_names[role]);
}

/* Block of a product, from its operands' stream; -1 for the head, which has none. */
static int layer_of(const struct call *c) {
    const int head = c->qa[0].plan.identity && c->qb[0].plan.identity && c->g.accumulator == NULL;
    return head ? -1 : (int)(c->qa[0].at.stream >> 11);
}

static void every_product_is_its_roles(void **state) {
    struct fixture f;
    int products = 0, heads = 0;
    (void)state;
    open_model(&f, recipes, R, LAYERS);
    for (int64_t first = 0; first < SEQUENCES; first += MICRO) {
        micro_batch(&f, first);
        for (int i = 0; i < calls; i++) {
            const struct call *c = &call[i];
            if (c->is_mask) continue;
            const int layer = layer_of(c), role = (int)c->g.role;
            if (layer < 0) {
                heads++;
                continue;
            }
            products++;
            for (int r = 0; r < R; r++) {
                check_operand(&c->qa[r], r, layer, 2 * role);
                check_operand(&c->qb[r], r, layer, 2 * role + 1);
                check_sum(&c->sum[r], r, layer, role);
            }
        }
    }
    assert_int_equal(products, 2 * LAYERS * FPL_LINEARS * 3);
    assert_int_equal(heads, 2 * 3);
    close_model(&f);
}

/* After wgrad and dgrad of a linear layer its two masks follow: w's on dw, x's on dx, with the
 * operands of the forward product; replicas and blocks without a mask get the identity. */
static void masks_take_the_forward_operands(void **state) {
    struct fixture f;
    int masks = 0, masked = 0;
    (void)state;
    open_model(&f, recipes, R, LAYERS);
    for (int64_t first = 0; first < SEQUENCES; first += MICRO) {
        micro_batch(&f, first);
        for (int i = 0; i < calls; i++) {
            if (!call[i].is_mask) continue;
            assert_true(i >= 2 && i + 1 < calls);
            const struct call *w = &call[i], *x = &call[i + 1], *wgrad = &call[i - 2], *dgrad = &call[i - 1];
            assert_true(x->is_mask && !wgrad->is_mask && !dgrad->is_mask);
            const struct call *forward = NULL;
            for (int j = 0; j < i; j++)
                if (!call[j].is_mask && call[j].g.role == FPL_FORWARD && call[j].g.b == w->x)
                    forward = &call[j];
            assert_non_null(forward);
            assert_true(wgrad->g.role == FPL_WGRAD && dgrad->g.role == FPL_DGRAD);
            assert_true(w->x == dgrad->g.b && w->gradient == wgrad->g.out);
            assert_true(x->x == forward->g.a && x->x == wgrad->g.b && x->gradient == dgrad->g.out);
            assert_true(w->rows == forward->g.O && w->cols == forward->g.I);
            assert_true(x->rows == forward->g.n && x->cols == forward->g.I);
            const int layer = layer_of(forward);
            for (int r = 0; r < R; r++) {
                const int on = r == 1 && exempt[r][layer] != 'x';
                assert_int_equal(w->qa[r].plan.identity, !on);
                assert_int_equal(x->qa[r].plan.identity, !on);
                if (!on) continue;
                assert_memory_equal(&w->qa[r], &forward->qb[r], sizeof w->qa[r]);
                assert_memory_equal(&x->qa[r], &forward->qa[r], sizeof x->qa[r]);
            }
            masked += w->masked + x->masked;
            masks += 2;
            i++;
        }
    }
    assert_int_equal(masks, 2 * LAYERS * FPL_LINEARS * 2);
    assert_true(masked > 100);
    close_model(&f);

    static const char *const without[] = {"mxfp4", "nvfp4"};
    open_model(&f, without, 2, 2);
    micro_batch(&f, 0);
    for (int i = 0; i < calls; i++) assert_false(call[i].is_mask);
    close_model(&f);
}

/* The down layer of the last block sees one dy under both recipes. */
static void a_masked_gradient_is_the_plain_one_with_zeros(void **state) {
    static const char *const texts[][2] = {{"mxfp4;ste=pass", "mxfp4;ste=clip"},
                                           {"full:e2m1:sr/1x32:e8m0", "full:e2m1:sr/1x32:e8m0;ste=clip"}};
    (void)state;
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        struct fixture f;
        int64_t zeros = 0;
        open_model(&f, texts[t], 2, 1);
        for (int64_t first = 0; first < SEQUENCES; first += MICRO) micro_batch(&f, first);
        struct fpl_operand q = {.hadamard = 0};
        for (int i = 0; i < calls; i++)
            if (!call[i].is_mask && call[i].g.role == FPL_FORWARD && call[i].g.O == WIDTH &&
                call[i].g.I == FFN)
                q = call[i].qb[1];
        const struct fpl_model_state s = fpl_model_state(f.m);
        for (int p = 0; p < fpl_model_parameter_count(f.m); p++) {
            const struct fpl_parameter *down = fpl_model_parameter(f.m, p);
            if (strcmp(down->name, "block0.down") != 0) continue;
            const int64_t size = down->segment.size, at = down->segment.offset;
            uint8_t *clips = calloc((size_t)size, 1);
            assert_non_null(clips);
            const fpl_real *pass = s.gradients + at, *clip = pass + size, *w = s.parameters + at + size;
            assert_memory_equal(w, s.parameters + at, (size_t)size * sizeof *w);
            fpl_clips_reference(&q.plan, down->rows, down->cols, down->cols, 1, w, clips, &q.at);
            for (int64_t i = 0; i < size; i++) {
                assert_true(clip[i] == (clips[i] ? 0.0f : pass[i]));
                zeros += clips[i] && pass[i] != 0.0f;
            }
            free(clips);
        }
        assert_true(zeros > 5);
        close_model(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_product_is_its_roles),
        cmocka_unit_test(masks_take_the_forward_operands),
        cmocka_unit_test(a_masked_gradient_is_the_plain_one_with_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
