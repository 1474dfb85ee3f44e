/* Stochastic rounding as a model of several layers, replicas and steps draws it, seen through
 * the products that the backend really runs.
 *
 * A product of an operand with the identity matrix is that operand, rounded: each output has
 * one term that is not zero.  So for every product of a training step that rounds dy
 * stochastically (nvfp4's two), a spy runs the same operand, plan and coordinates against an
 * identity matrix and keeps
 *   values     what the backend made of the real dy, and
 *   decisions  what it makes of a constant halfway between two neighbours: one fair bit of
 *              every element's random number.
 *
 * Independence: decisions of different layers, linear layers, roles, steps, micro-batches and
 * replicas, and of one operand with itself shifted, agree in N/2 elements within 5 standard
 * deviations, sqrt(N)/2.  A counter that is used twice makes them agree everywhere, which a
 * control shows the measure to see.  Invariance: threads, micro-batches, the pack around a
 * replica leave every value of a step's rounded dy as it is, bit for bit; another seed or
 * step does not. */
#include "training.h"

#include <math.h>

#include "../../formats/random.h"
#include "../../sim/model/model.h"

enum { LAYERS = 2, WIDTH = 32, FFN = 48, T = 16, SEQUENCES = 4, ROWS = SEQUENCES * T, V = 23, MOST = 3 };
enum { ROLES = 2, OPERANDS = LAYERS * FPL_LINEARS * ROLES, WIDEST = 2 * FFN };

/* One step of one replica: every stochastic operand's elements, row-major [ROWS, O]. */
struct seen {
    float value[OPERANDS][ROWS * WIDEST], decision[OPERANDS][ROWS * WIDEST];
    int64_t size[OPERANDS];
};

static struct seen *now[MOST]; /* by replica; filled during a step */
static const struct fpl_kernels *real;
static int64_t row_of_batch, calls;

/* ---- the spy ---------------------------------------------------------------------------------- */

/* Q(a)[n, O] of one replica, through a product of the role with an identity matrix. */
static void rounded(struct fpl_device *dev, const struct fpl_gemm *g, int r, const float *a, float *out) {
    const struct fpl_quantizer none = {.identity = 1};
    const int dgrad = g->role == FPL_DGRAD;
    const int64_t side = dgrad ? g->O : g->n, size = g->n * g->O;
    struct fpl_operand identity = {.hadamard = 0}, q = g->qa[r];
    fpl_quantizer_lower(&none, NULL, &identity.plan);
    q.hadamard = 0;
    float *unit = calloc((size_t)(side * side), sizeof *unit), *dw = calloc((size_t)size, sizeof *dw);
    assert_true(unit != NULL && dw != NULL);
    for (int64_t i = 0; i < side; i++) unit[i * side + i] = 1.0f;
    const struct fpl_gemm see = {.role = g->role,
                                 .R = 1,
                                 .n = g->n,
                                 .O = g->O,
                                 .I = side,
                                 .a = a,
                                 .b = unit,
                                 .out = dw,
                                 .qa = &q,
                                 .qb = &identity};
    real->gemm(dev, &see);
    for (int64_t i = 0; i < size; i++) out[i] = dgrad ? dw[i] : dw[i % g->O * g->n + i / g->O];
    free(unit);
    free(dw);
}

static void spy_gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    real->gemm(dev, g);
    if (g->role == FPL_FORWARD) return; /* its first operand is not dy */
    for (int r = 0; r < g->R; r++) {
        if (!fpl_is_stochastic(g->qa[r].plan.round.mode) || g->qa[r].plan.identity) continue;
        /* coordinates name the place: bits 27..8 of the stream, layer * 8 + linear layer */
        const uint32_t place = g->qa[r].at.stream >> 8;
        const size_t index = (place / 8 * FPL_LINEARS + place % 8) * ROLES + (g->role == FPL_WGRAD);
        const int64_t size = g->n * g->O, first = row_of_batch * g->O;
        float *half = calloc((size_t)size, sizeof *half);
        assert_true(index < OPERANDS && half != NULL);
        for (int64_t i = 0; i < size; i++) half[i] = 1.25f; /* e2m1: between 1 and 1.5 */
        struct fpl_operand plain = g->qa[r];
        struct fpl_quantizer e2m1;
        assert_int_equal(fpl_quantizer_parse("e2m1:sr", &e2m1, NULL), FPL_OK);
        fpl_quantizer_lower(&e2m1, NULL, &plain.plan);
        struct fpl_gemm with = *g;
        with.qa = &plain;
        rounded(dev, g, r, g->a + r * size, now[r]->value[index] + first);
        rounded(dev, &with, 0, half, now[r]->decision[index] + first);
        now[r]->size[index] = first + size;
        free(half);
        calls++;
    }
}

/* ---- steps ------------------------------------------------------------------------------------- */

struct setting {
    int R, threads;
    int64_t micro; /* sequences of a micro-batch */
    uint32_t step;
    const uint64_t *seeds;
    const char *const *recipes;
};

/* dy is the same for every division of a step: its quantizers work by rows within a sequence. */
#define SR "ops:dgrad.dy=e2m1:sr/1x16:e8m0;wgrad.dy=e2m1:sr/1x16:e8m0;fwd.w=e4m3/1x8"

/* One step from the initial weights; each replica has the same data. */
static void run(const struct setting *s, struct seen **out) {
    struct fpl_kernels k = *(real = fpl_backend("cpu"));
    const struct fpl_device_options options = {.threads = s->threads};
    const struct fpl_model_shape shape = {.R = s->R,
                                          .layers = LAYERS,
                                          .width = WIDTH,
                                          .heads = 2,
                                          .ffn = FFN,
                                          .vocab = V,
                                          .seq = T,
                                          .micro_sequences = s->micro};
    struct fpl_recipe recipe[MOST];
    struct fpl_model_replica replica[MOST];
    struct fpl_device *dev;
    struct fpl_model *m;
    struct fpl_error err = {FPL_OK, ""};
    int32_t inputs[MOST * ROWS], targets[MOST * ROWS];
    double losses[MOST * ROWS];
    k.gemm = spy_gemm;
    calls = 0;
    for (int r = 0; r < s->R; r++) {
        if (fpl_recipe_parse(s->recipes[r], &recipe[r], &err) != FPL_OK) fail_msg("%s", err.text);
        replica[r] = (struct fpl_model_replica){&recipe[r], s->seeds[r]};
        now[r] = out[r];
        memset(out[r], 0, sizeof *out[r]);
    }
    assert_int_equal(k.open(&dev, &options, &err), FPL_OK);
    if (fpl_model_create(&shape, replica, &k, dev, &m, &err) != FPL_OK) fail_msg("%s", err.text);
    for (int64_t first = 0; first < SEQUENCES; first += s->micro) {
        const int64_t n = s->micro * T;
        for (int64_t i = 0; i < s->R * n; i++) {
            inputs[i] = (int32_t)((first * T + i % n) * 7 % V);
            targets[i] = (int32_t)((first * T + i % n) * 5 % V);
        }
        const struct fpl_batch b = {s->micro, inputs, targets, s->step, first * T, 1.0 / ROWS};
        row_of_batch = first * T;
        fpl_model_forward(m, &b, losses);
        fpl_model_backward(m, &b, first > 0);
    }
    assert_int_equal(k.check(dev, &err), FPL_OK);
    fpl_model_destroy(m);
    k.close(dev);
    for (int r = 0; r < s->R; r++)
        for (int i = 0; i < OPERANDS && strcmp(s->recipes[r], SR) == 0; i++) assert_true(out[r]->size[i] > 0);
}

static struct seen *fresh(void) {
    struct seen *s = calloc(1, sizeof *s);
    assert_non_null(s);
    return s;
}

static const char *const plain[] = {SR, SR, SR};
static const uint64_t seeds[] = {11, 12, 13};

/* ---- invariance --------------------------------------------------------------------------------- */

static int same(const struct seen *a, const struct seen *b) {
    int equal = 1;
    for (int i = 0; i < OPERANDS; i++) {
        assert_int_equal(a->size[i], b->size[i]);
        const size_t bytes = (size_t)a->size[i] * sizeof(float);
        equal &= memcmp(a->value[i], b->value[i], bytes) == 0;
        equal &= memcmp(a->decision[i], b->decision[i], bytes) == 0;
    }
    return equal;
}

static void bits_do_not_depend_on_threads_or_micro_batches(void **state) {
    (void)state;
    struct seen *whole = fresh(), *other = fresh();
    struct setting s = {1, 1, SEQUENCES, 5, seeds, plain};
    run(&s, &whole);
    assert_int_equal(calls, OPERANDS);
    s.threads = 2;
    run(&s, &other);
    assert_true(same(whole, other));
    for (s.micro = 1; s.micro < SEQUENCES; s.micro *= 2) {
        run(&s, &other);
        assert_int_equal(calls, OPERANDS * SEQUENCES / s.micro);
        assert_true(same(whole, other));
    }
    s.micro = SEQUENCES;
    s.step = 6;
    run(&s, &other);
    assert_false(same(whole, other));
    s.step = 5;
    s.seeds = seeds + 1;
    run(&s, &other);
    assert_false(same(whole, other));
    free(whole);
    free(other);
}

static void bits_do_not_depend_on_the_pack(void **state) {
    (void)state;
    static const char *const mixed[] = {"bf16", SR, "full:e4m3:sr/tensor"};
    struct seen *alone = fresh(), *pack[MOST] = {fresh(), fresh(), fresh()};
    struct setting s = {1, 1, 2, 9, seeds + 1, plain};
    run(&s, &alone);
    s = (struct setting){MOST, 2, 2, 9, seeds, plain};
    run(&s, pack);
    assert_true(same(alone, pack[1]));
    assert_false(same(alone, pack[0]));
    s.recipes = mixed;
    run(&s, pack);
    assert_true(same(alone, pack[1]));
    free(alone);
    for (int r = 0; r < MOST; r++) free(pack[r]);
}

/* ---- independence ------------------------------------------------------------------------------- */

/* (agreements - N/2) / (sqrt(N)/2) of two sequences of decisions, b moved on by lag. */
static double agreement(const float *a, const float *b, int64_t n, int64_t lag) {
    int64_t agree = 0;
    for (int64_t i = 0; i + lag < n; i++) agree += (a[i] > 1.25f) == (b[i + lag] > 1.25f);
    return ((double)agree - (double)(n - lag) / 2) / (sqrt((double)(n - lag)) / 2);
}

static void neighbours_are_uncorrelated(void **state) {
    enum { STEPS = 2, ALL = STEPS * MOST * OPERANDS };
    static const int64_t lags[] = {0, 1, 2, 4, 7, 8, 16, WIDTH, 3 * WIDTH, T * WIDTH};
    struct seen *at[STEPS][MOST];
    const float *decision[ALL];
    int64_t size[ALL];
    double most = 0;
    int64_t pairs = 0;
    int count = 0;
    (void)state;
    for (uint32_t step = 0; step < STEPS; step++) {
        for (int r = 0; r < MOST; r++) at[step][r] = fresh();
        const struct setting s = {MOST, 1, 2, 40 + step, seeds, plain};
        run(&s, at[step]);
        for (int r = 0; r < MOST; r++)
            for (int i = 0; i < OPERANDS; i++, count++) {
                decision[count] = at[step][r]->decision[i];
                size[count] = at[step][r]->size[i];
            }
    }
    for (int a = 0; a < ALL; a++) {
        int64_t up = 0;
        for (int64_t i = 0; i < size[a]; i++) {
            assert_true(decision[a][i] == 1.0f || decision[a][i] == 1.5f);
            up += decision[a][i] == 1.5f;
        }
        assert_true(fabs((double)up - (double)size[a] / 2) <= 5 * sqrt((double)size[a]) / 2);
        for (int b = 0; b < ALL; b++) {
            const int64_t n = size[a] < size[b] ? size[a] : size[b];
            for (size_t l = 0; l < sizeof lags / sizeof lags[0]; l++) {
                if (a == b && lags[l] == 0) continue;
                const double z = fabs(agreement(decision[a], decision[b], n, lags[l]));
                if (z > 5)
                    fail_msg("operands %d and %d agree by %.1f deviations at lag %lld", a, b, z,
                             (long long)lags[l]);
                most = z > most ? z : most;
                pairs++;
            }
        }
    }
    print_message("%lld comparisons, farthest from independence: %.2f deviations\n", (long long)pairs, most);
    /* The control: a counter used twice, as it is and one element on. */
    assert_true(agreement(decision[0], decision[0], size[0], 0) > 40);
    assert_true(fabs(agreement(decision[0] + 1, decision[0], size[0] - 1, 1)) > 40);
    for (int step = 0; step < STEPS; step++)
        for (int r = 0; r < MOST; r++) free(at[step][r]);
}

/* ---- nvfp4 ---------------------------------------------------------------------------------------- */

/* sr on dy alone; the blocks that stay in bf16 draw nothing. */
static int64_t stochastic[FPL_SLOTS], deterministic[FPL_SLOTS];

static void count_gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    const struct fpl_operand *q[] = {g->qa, g->qb};
    for (int i = 0; i < 2; i++)
        if (!q[i]->plan.identity)
            (fpl_is_stochastic(q[i]->plan.round.mode) ? stochastic : deterministic)[(int)g->role * 2 + i]++;
    real->gemm(dev, g);
}

static void nvfp4_rounds_dy_stochastically(void **state) {
    struct fpl_kernels k = *(real = fpl_backend("cpu"));
    const struct fpl_train_options o = {.kernels = &k, .threads = 1};
    struct fpl_config c = tiny();
    struct fpl_record record;
    struct fpl_error err = {FPL_OK, ""};
    (void)state;
    k.gemm = count_gemm;
    set(&c, "steps", "1");
    set(&c, "micro_tokens", "64");
    set(&c, "layers", "3");
    set(&c, "recipe", "nvfp4");
    struct fpl_data *d = open_data(&c);
    if (fpl_train(&c, 1, d, &o, &record, &err) != FPL_OK) fail_msg("%s", err.text);
    for (int slot = 0; slot < FPL_SLOTS; slot++) {
        const int dy = slot == FPL_DGRAD_DY || slot == FPL_WGRAD_DY;
        /* two blocks of three; forward products again in the evaluation */
        assert_int_equal(stochastic[slot], dy ? 2 * FPL_LINEARS : 0);
        assert_true(deterministic[slot] >= FPL_LINEARS * (dy ? 1 : 3));
    }
    fpl_record_free(&record);
    fpl_data_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits_do_not_depend_on_threads_or_micro_batches),
                                       cmocka_unit_test(bits_do_not_depend_on_the_pack),
                                       cmocka_unit_test(neighbours_are_uncorrelated),
                                       cmocka_unit_test(nvfp4_rounds_dy_stochastically)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
