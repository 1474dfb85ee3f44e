/* test_reference_optimizer_formats.c - formats of gradients, moments and master weights.
 *
 * 1. By definition (kernels.h, struct fpl_adamw): a step with formats equals, bit for bit, a plain
 *    step on gradients quantized by fpl_quantize_reference, whose m, v and p then go through it
 *    too, each tensor as its own matrix, with the stated random bits and delayed scales.
 * 2. Against the double reference: rounding to nearest without a scale is monotone, so the result
 *    lies between the roundings of the ends of the interval that holds the unrounded value.
 * harness_run adds: the same bits in a pack and alone, on one thread and on two.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../formats/random.h"
#include "../ref/harness.h"
#include "../ref/reference.h"

enum { TENSORS = 4, REPLICAS = 3, STATES = 4 /* p, g, m, v */ };

static struct harness h;

static const struct { int64_t rows, cols; } shapes[TENSORS] = {{5, 48}, {1, 33}, {17, 16}, {3, 100}};

static int64_t replica_size(void) {
    int64_t size = 0;
    for (int i = 0; i < TENSORS; i++) size += shapes[i].rows * shapes[i].cols;
    return size;
}

/* Segments of R replicas, gaps between them. */
static int64_t lay_out(int R, struct fpl_segment *s) {
    int64_t end = 0;
    for (int i = 0; i < TENSORS; i++) {
        const int64_t size = shapes[i].rows * shapes[i].cols;
        s[i] = (struct fpl_segment){.offset = end, .size = size, .decay = i & 1, .cols = shapes[i].cols};
        end += R * size + 16;
    }
    return end;
}

/* One step on replicas first ..; packed states p, g, m, v, then the norms. */
struct job {
    struct fpl_operand q[FPL_OPT_SLOTS][REPLICAS];
    int formats; /* 0: plain */
    struct fpl_adamw a;
    float lr[REPLICAS], decay[REPLICAS];
    int64_t *nonfinite; /* [REPLICAS], of the last call */
};

static void repack(int R, float *flat, float *packed, int into_flat) {
    struct fpl_segment s[TENSORS];
    lay_out(R, s);
    int64_t at = 0;
    for (int r = 0; r < R; r++)
        for (int i = 0; i < TENSORS; at += s[i].size, i++) {
            float *there = flat + s[i].offset + r * s[i].size;
            memcpy(into_flat ? there : packed + at, into_flat ? packed + at : there,
                   (size_t)s[i].size * sizeof *there);
        }
}

static void call_step(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                      const void *shape) {
    const struct job *j = shape;
    const struct fpl_kernels *k = hh->kernels;
    struct fpl_segment s[TENSORS];
    const int64_t length = lay_out(R, s), size = R * replica_size();
    float *packed = harness_alloc(size, 4), *host = harness_alloc(length, 4), *flat[STATES];
    int64_t *nonfinite = k->alloc(dev, (size_t)R * sizeof *nonfinite);
    for (int i = 0; i < STATES; i++) {
        flat[i] = k->alloc(dev, (size_t)length * 4);
        k->download(dev, packed, p[i], (size_t)size * 4);
        memset(host, 0, (size_t)length * 4);
        repack(R, host, packed, 1);
        k->upload(dev, flat[i], host, (size_t)length * 4);
    }
    struct fpl_adamw a = j->a;
    a.R = R;
    a.lr = j->lr + first;
    a.decay = j->decay + first;
    a.sqnorm = p[4];
    a.nonfinite = nonfinite;
    if (j->formats) {
        a.qm = j->q[FPL_OPT_M] + first;
        a.qv = j->q[FPL_OPT_V] + first;
        a.qmaster = j->q[FPL_OPT_MASTER] + first;
        k->quantize_tensors(dev, R, s, TENSORS, j->q[FPL_OPT_GRAD] + first, flat[1], nonfinite);
    }
    k->sqnorm(dev, R, s, TENSORS, flat[1], p[4]);
    k->adamw(dev, &a, s, TENSORS, flat[0], flat[1], flat[2], flat[3]);
    for (int i = 0; i < STATES; i++) {
        k->download(dev, host, flat[i], (size_t)length * 4);
        repack(R, host, packed, 0);
        k->upload(dev, p[i], packed, (size_t)size * 4);
        k->release(dev, flat[i]);
    }
    k->download(dev, j->nonfinite + first, nonfinite, (size_t)R * sizeof *nonfinite);
    k->release(dev, nonfinite);
    free(packed);
    free(host);
}

struct state {
    float *x[STATES]; /* p, g, m, v: [REPLICAS][replica_size] */
    double sqnorm[REPLICAS];
};

static void step(const struct job *j, struct state *s) {
    const size_t bytes = (size_t)replica_size() * 4;
    struct harness_buffer b[5] = {{s->x[0], bytes, 0},
                                  {s->x[1], bytes, 0},
                                  {s->x[2], bytes, 0},
                                  {s->x[3], bytes, 0},
                                  {s->sqnorm, sizeof(double), 0}};
    harness_run(&h, "adamw with formats", call_step, j, REPLICAS, b, 5);
}

static struct state make_state(void) {
    const int64_t n = REPLICAS * replica_size();
    struct state s = {
        {harness_floats(n, 0.3), harness_floats(n, 0.05), harness_floats(n, 0.02), harness_floats(n, 0.02)},
        {0}};
    for (int64_t i = 0; i < n; i++) s.x[3][i] *= s.x[3][i]; /* second moments are not negative */
    return s;
}

static struct state copy_state(const struct state *from) {
    const int64_t n = REPLICAS * replica_size();
    struct state s = *from;
    for (int i = 0; i < STATES; i++) {
        s.x[i] = harness_alloc(n, 4);
        memcpy(s.x[i], from->x[i], (size_t)n * 4);
    }
    return s;
}

static void free_state(struct state *s) {
    for (int i = 0; i < STATES; i++) free(s->x[i]);
}

static void set_quantizer(struct fpl_operand *q, const char *text, int slot, int replica) {
    struct fpl_quantizer parsed;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_quantizer_parse(text, &parsed, &err) != FPL_OK) fail_msg("%s", err.text);
    memset(q, 0, sizeof *q);
    fpl_quantizer_lower(&parsed, NULL, &q->plan);
    q->at.seed = 99 + (uint64_t)replica;
    q->at.step = 7;
    q->at.stream = fpl_stream(FPL_STREAM_OPTIMIZER, (uint32_t)slot);
    q->observe = 1;
}

static struct job make_job(const char *const texts[FPL_OPT_SLOTS], int64_t *nonfinite) {
    struct job j = {.formats = 1,
                    .a = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .step = 8, .clip = 0.5},
                    .lr = {1e-2f, 3e-2f, 1e-3f},
                    .decay = {0.1f, 0, 0.5f},
                    .nonfinite = nonfinite};
    for (int slot = 0; slot < FPL_OPT_SLOTS; slot++)
        for (int r = 0; r < REPLICAS; r++) /* replica 1 is in high precision */
            set_quantizer(&j.q[slot][r], r == 1 ? "-" : texts[slot], slot, r);
    return j;
}

/* One replica's tensors by the definition. */
static void quantize(const struct fpl_operand *q, float *x) {
    for (int i = 0; i < TENSORS; i++) {
        struct fpl_random_at at = q->at;
        at.stream += (uint32_t)i << 8;
        fpl_quantize_reference(&q->plan, shapes[i].rows, shapes[i].cols, shapes[i].cols, 1, x, x, NULL, &at);
        x += shapes[i].rows * shapes[i].cols;
    }
}

static const char *const sets[][FPL_OPT_SLOTS] = {
    /* m, v, master, gradient */
    {"e4m3fn/1x32", "ue5m3fn/1x32", "bf16", "bf16"},
    {"int8/1x16", "e5m2/tensor", "bf16:sr", "e5m2ieee:sr/row"},
    {"e4m3/16x16:e8m0", "bf16", "fp16:rto", "-"},
    {"-", "-", "e4m3:sr24/col", "e2m1/1x16:e4m3fn+t"},
    {"bf16:sr", "fp16:rup", "-", "e3m2:sr/1x32:e8m0"},
    {"e4m3fn/tensor:delayed8m1", "e5m2ieee/tensor", "tf32", "int6/tensor"},
};

static void equals_its_definition(void **unused) {
    (void)unused;
    const int64_t size = replica_size(), all = REPLICAS * size;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        int64_t nonfinite[REPLICAS];
        harness_seed(40 + i);
        struct state got = make_state(), want = copy_state(&got);
        struct job j = make_job(sets[i], nonfinite), plain = j;
        step(&j, &got);
        plain.formats = 0;
        for (int r = 0; r < REPLICAS; r++) quantize(&j.q[FPL_OPT_GRAD][r], want.x[1] + r * size);
        step(&plain, &want);
        for (int r = 0; r < REPLICAS; r++) {
            quantize(&j.q[FPL_OPT_MASTER][r], want.x[0] + r * size);
            quantize(&j.q[FPL_OPT_M][r], want.x[2] + r * size);
            quantize(&j.q[FPL_OPT_V][r], want.x[3] + r * size);
        }
        static const char *const names[STATES] = {"p", "g", "m", "v"};
        for (int k = 0; k < STATES; k++) harness_same_bits(names[k], got.x[k], want.x[k], all);
        assert_memory_equal(got.sqnorm, want.sqnorm, sizeof got.sqnorm);
        free_state(&got);
        free_state(&want);
    }
}

/* Tensors, slots, replicas and steps draw different bits. */
static void streams_are_apart(void **unused) {
    (void)unused;
    static const char *const texts[FPL_OPT_SLOTS] = {"int4:sr", "int4:sr", "int4:sr", "int4:sr"};
    const int64_t n = shapes[2].rows * shapes[2].cols; /* 272 of the last tensor's 300 */
    int64_t nonfinite[REPLICAS];
    struct job j = make_job(texts, nonfinite);
    struct fpl_segment s[TENSORS];
    lay_out(1, s);
    float *x[5];
    for (int k = 0; k < 5; k++) {
        struct fpl_operand q = j.q[k == 1 ? FPL_OPT_V : FPL_OPT_M][k == 2 ? 2 : 0];
        if (k == 3) q.at.step++;
        const int64_t length = s[TENSORS - 1].offset + s[TENSORS - 1].size + 16;
        float *flat = harness_alloc(length, 4);
        for (int i = 0; i < TENSORS; i++)
            for (int64_t e = 0; e < s[i].size; e++) flat[s[i].offset + e] = 1.5f;
        float *device = harness_device(h.kernels, h.one, flat, length);
        h.kernels->quantize_tensors(h.one, 1, s, TENSORS, &q, device, NULL);
        h.kernels->download(h.one, flat, device, (size_t)length * sizeof *flat);
        h.kernels->release(h.one, device);
        x[k] = harness_alloc(n, 4);
        memcpy(x[k], flat + s[k == 4 ? 3 : 2].offset, (size_t)n * 4);
        free(flat);
    }
    for (int k = 1; k < 5; k++) { /* 272 fair coins: a standard deviation is 8.2 */
        int64_t equal = 0;
        for (int64_t e = 0; e < n; e++) equal += x[0][e] == x[k][e];
        if (llabs(equal - n / 2) > 50)
            fail_msg("case %d: %lld of %lld alike", k, (long long)equal, (long long)n);
    }
    for (int k = 0; k < 5; k++) free(x[k]);
}

/* x rounds to got for some x in [value - bound, value + bound]. */
static void within_rounding(const struct fpl_quantizer_plan *p, const char *name, int64_t i, float got,
                            double value, double bound) {
    const float low = fpl_round_value(&p->round, nextafterf((float)(value - bound), -INFINITY), 0);
    const float high = fpl_round_value(&p->round, nextafterf((float)(value + bound), INFINITY), 0);
    if (!(low <= got && got <= high))
        fail_msg("%s %lld: %a is not between %a and %a", name, (long long)i, (double)got, (double)low,
                 (double)high);
}

static void agrees_with_the_double_reference(void **unused) {
    (void)unused;
    static const char *const texts[FPL_OPT_SLOTS] = {"bf16", "fp16", "e5m9", "bf16"};
    const double u = HARNESS_U;
    const int64_t size = replica_size();
    int64_t nonfinite[REPLICAS];
    harness_seed(77);
    struct state got = make_state(), before = copy_state(&got);
    struct job j = make_job(texts, nonfinite);
    step(&j, &got);
    for (int r = 0; r < REPLICAS; r += 2) {
        struct fpl_segment s[TENSORS];
        double *x[STATES], norm;
        lay_out(1, s);
        for (int64_t i = 0, at = 0; i < TENSORS; at += s[i].size, i++) s[i].offset = at;
        for (int k = 0; k < STATES; k++) x[k] = harness_widen(before.x[k] + r * size, size);
        ref_quantize_tensors(1, s, TENSORS, &j.q[FPL_OPT_GRAD][r], NULL, x[1], NULL);
        ref_sqnorm(1, s, TENSORS, x[1], &norm);
        for (int64_t i = 0; i < size; i++) assert_true(x[1][i] == (double)got.x[1][r * size + i]);
        harness_within("norm", r, got.sqnorm[r], norm, (double)size * 0x1p-52 * norm);
        /* Without the last rounding: the intervals of test_reference_optimizer.c, made wide. */
        struct fpl_adamw a = j.a;
        a.R = 1;
        a.lr = j.lr + r;
        a.decay = j.decay + r;
        a.sqnorm = &norm;
        double *raw[STATES];
        for (int k = 0; k < STATES; k++) {
            raw[k] = harness_alloc(size, sizeof(double));
            memcpy(raw[k], x[k], (size_t)size * sizeof(double));
        }
        ref_adamw(&a, s, TENSORS, raw[0], raw[1], raw[2], raw[3]);
        a.qm = &j.q[FPL_OPT_M][r], a.qv = &j.q[FPL_OPT_V][r], a.qmaster = &j.q[FPL_OPT_MASTER][r];
        ref_adamw(&a, s, TENSORS, x[0], x[1], x[2], x[3]);
        int64_t equal = 0;
        for (int64_t i = 0; i < size; i++) {
            const int64_t at = r * size + i;
            const double m0 = fabs((double)before.x[2][at]), g = fabs(x[1][i]);
            const double e_m = 4.01 * u * (m0 + 0.1 * (g + m0)) + 0x1p-148,
                         e_v = 8.01 * u * raw[3][i] + 0x1p-147;
            const double moved = fabs(raw[0][i] - (double)before.x[0][at]);
            const double e_p =
                32 * u * (fabs((double)before.x[0][at]) + moved) +
                (double)j.lr[r] * e_m / (1 - pow(0.9, 8)) / (sqrt(raw[3][i] / (1 - pow(0.95, 8))) + 1e-8);
            within_rounding(&a.qm->plan, "m", at, got.x[2][at], raw[2][i], e_m);
            within_rounding(&a.qv->plan, "v", at, got.x[3][at], raw[3][i], e_v);
            within_rounding(&a.qmaster->plan, "p", at, got.x[0][at], raw[0][i], e_p);
            equal += (double)got.x[2][at] == x[2][i] && (double)got.x[3][at] == x[3][i] &&
                     (double)got.x[0][at] == x[0][i];
        }
        assert_true(equal > size * 9 / 10); /* the reference rounds as well: near-ties alone differ */
        for (int k = 0; k < STATES; k++) {
            free(x[k]);
            free(raw[k]);
        }
    }
    free_state(&got);
    free_state(&before);
}

/* What is not finite is counted, whatever clamping makes of it. */
static void nonfinite_inputs_are_counted(void **unused) {
    (void)unused;
    static const char *const texts[FPL_OPT_SLOTS] = {"e4m3", "-", "e4m3", "e4m3"};
    const int64_t size = replica_size();
    int64_t nonfinite[REPLICAS];
    harness_seed(5);
    struct state s = make_state();
    struct job j = make_job(texts, nonfinite);
    s.x[1][3] = INFINITY;         /* gradient: clamped, so m stays finite */
    s.x[0][2 * size + 9] = NAN;   /* master weight */
    s.x[1][size + 5] = -INFINITY; /* a replica in high precision counts nothing */
    step(&j, &s);
    assert_int_equal(nonfinite[0], 1);
    assert_int_equal(nonfinite[1], 0);
    assert_int_equal(nonfinite[2], 1);
    free_state(&s);
}

/* Delayed scaling of a moment: one history for each tensor. */
static void each_tensor_has_its_history(void **unused) {
    (void)unused;
    struct fpl_segment s[TENSORS];
    const int64_t length = lay_out(1, s), state = FPL_DELAY_HEAD + 4;
    struct fpl_operand q;
    float delay[TENSORS * (FPL_DELAY_HEAD + 4)] = {0}; /* a copy of the device's */
    float *x = harness_alloc(length, 4), *want = harness_alloc(length, 4);
    set_quantizer(&q, "e4m3fn/tensor:delayed4", FPL_OPT_M, 0);
    q.delay = harness_device(h.kernels, h.one, delay, sizeof delay / sizeof *delay);
    struct fpl_delay states[TENSORS];
    for (int i = 0; i < TENSORS; i++) states[i] = (struct fpl_delay){.offset = i * state, .length = 4};
    for (int step = 0; step < 7; step++) {
        for (int i = 0; i < TENSORS; i++) {
            const float past = delay[i * state + 1];
            for (int64_t e = 0; e < s[i].size; e++)
                want[s[i].offset + e] = x[s[i].offset + e] =
                    (float)((i + 1) * (step == 2 ? 8 : 1)) * (float)harness_normal();
            struct fpl_quantizer_plan plan = q.plan;
            plan.delayed_amax = past;
            float *w = want + s[i].offset;
            fpl_quantize_reference(&plan, shapes[i].rows, shapes[i].cols, shapes[i].cols, 1, w, w, NULL,
                                   NULL);
        }
        float amax[TENSORS] = {0};
        for (int i = 0; i < TENSORS; i++)
            for (int64_t e = 0; e < s[i].size; e++) amax[i] = fmaxf(amax[i], fabsf(x[s[i].offset + e]));
        float *device = harness_device(h.kernels, h.one, x, length);
        h.kernels->quantize_tensors(h.one, 1, s, TENSORS, &q, device, NULL);
        h.kernels->download(h.one, x, device, (size_t)length * sizeof *x);
        h.kernels->download(h.one, delay, q.delay, sizeof delay);
        h.kernels->release(h.one, device);
        for (int i = 0; i < TENSORS; i++) {
            harness_same_bits("delayed moment", x + s[i].offset, want + s[i].offset, s[i].size);
            assert_true(delay[i * state] == amax[i]);
        }
        h.kernels->delay(h.one, states, TENSORS, step, q.delay);
        h.kernels->download(h.one, delay, q.delay, sizeof delay);
    }
    h.kernels->release(h.one, q.delay);
    free(x);
    free(want);
}

static int open_all(void **unused) {
    (void)unused;
    harness_open(&h);
    return 0;
}

static int close_all(void **unused) {
    (void)unused;
    harness_close(&h);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_its_definition),
        cmocka_unit_test(streams_are_apart),
        cmocka_unit_test(agrees_with_the_double_reference),
        cmocka_unit_test(nonfinite_inputs_are_counted),
        cmocka_unit_test(each_tensor_has_its_history),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
