/* test_reference_diagnose.c - diagnoses of operands, and delayed scaling inside products.
 *
 * Diagnoses: counts, amax and histogram equal what fpl_quantizer_measure and a scalar loop find on
 * the operand and its fpl_quantize_reference, in both orientations; sums have the bits of measure.h's
 * order.  Delayed scaling: a sequence of steps of all three products against
 * fpl_quantize_reference under the amax that the definition gives, with micro-batches, packs,
 * cached weights and evaluations in between.
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

#include "../ref/harness.h"
#include "../ref/reference.h"

static struct harness h;

static struct fpl_quantizer parse(const char *text) {
    struct fpl_quantizer q;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s", err.text);
    return q;
}

static struct fpl_operand operand(const char *text) {
    const struct fpl_quantizer q = parse(text);
    struct fpl_operand o = {.at = {.seed = 5, .step = 2, .stream = 9, .element = 40}, .observe = 1};
    fpl_quantizer_lower(&q, NULL, &o.plan);
    return o;
}

/* ---- diagnoses ---------------------------------------------------------------------------------- */

/* The sums by their definition in measure.h, one value at a time: the bits of every backend. */
static struct fpl_measure summed(int64_t n, const float *x, const float *out) {
    struct fpl_measure m = {.elements = n};
    for (int64_t first = 0; first < n; first += FPL_MEASURE_PIECE) {
        double signal = 0, noise = 0, relative = 0;
        for (int lane = 0; lane < FPL_MEASURE_LANES; lane++) {
            double s = 0, e = 0, r = 0;
            for (int64_t i = first + lane; i < n && i < first + FPL_MEASURE_PIECE; i += FPL_MEASURE_LANES) {
                const double v = (double)x[i], d = v - (double)out[i];
                if (!isfinite(x[i])) continue;
                s += v * v;
                e += d * d;
                if (x[i] == 0.0f) continue;
                r += fabs(d) / fabs(v);
                m.relative_max = fmax(m.relative_max, fabs(d) / fabs(v));
            }
            signal += s;
            noise += e;
            relative += r;
        }
        m.signal += signal;
        m.noise += noise;
        m.relative += relative;
    }
    return m;
}

/* The operand as a row-major matrix with its reduction axis as columns. */
static float *upright(const float *x, int64_t lines, int64_t width, int along) {
    float *out = harness_alloc(lines * width, sizeof *out);
    for (int64_t l = 0; l < lines; l++)
        for (int64_t i = 0; i < width; i++) out[along ? i * lines + l : l * width + i] = x[l * width + i];
    return out;
}

static void check_diagnosis(const char *text, int64_t lines, int64_t width, int along, double deviation) {
    const struct fpl_quantizer q = parse(text);
    const struct fpl_operand o = operand(text);
    const int64_t size = lines * width, rows = along ? width : lines, cols = along ? lines : width;
    float *x = harness_floats(size, deviation), *out = harness_alloc(size, sizeof *out);
    for (int64_t i = 0; i < size; i++) {
        if (i % 7 == 3) x[i] = 0;
        if (i % 11 == 5) x[i] *= 0x1p-12f;
        if (i % 97 == 50) x[i] *= 100.0f;
        if (i % 131 == 77) x[i] = fpl_bits_float((uint32_t)i); /* subnormal */
    }
    if (size > 30) x[20] = INFINITY, x[29] = NAN;
    struct fpl_diagnosis got = {.sums = {.elements = 0}};
    float *device = harness_device(h.kernels, h.one, x, size);
    h.kernels->diagnose(h.one, 1, lines, width, along, &o, device, &got);
    h.kernels->release(h.one, device);

    fpl_quantize_reference(&o.plan, rows, cols, along ? 1 : width, along ? width : 1, x, out, NULL, &o.at);
    float *up = upright(x, lines, width, along), *rounded_up = upright(out, lines, width, along);
    struct fpl_quantizer_measure want, mine;
    fpl_quantizer_measure(&q, rows, cols, up, rounded_up, &want);
    fpl_measure_finish(&got.sums, &q, &mine);
    struct fpl_exponents e = {{0}, {0}};
    for (int64_t i = 0; i < size; i++) {
        if (!isfinite(x[i]) || x[i] == 0.0f) continue;
        const int bin = fpl_exponent(x[i]) - FPL_EXPONENT_LEAST;
        e.count[bin]++;
        e.lost[bin] += out[i] == 0.0f;
    }
    assert_int_equal(got.sums.elements, size);
    assert_int_equal(mine.nonfinite, want.nonfinite);
    if (mine.underflow != want.underflow || mine.amax != want.amax)
        fail_msg("%s, %lld x %lld, %d: underflow %g, amax %g, expected %g, %g", text, (long long)lines,
                 (long long)width, along, mine.underflow, mine.amax, want.underflow, want.amax);
    if (mine.clipped != want.clipped)
        fail_msg("%s, %lld x %lld, %d: clipped %.17g, expected %.17g", text, (long long)lines,
                 (long long)width, along, mine.clipped, want.clipped);
    assert_memory_equal(&got.exponents, &e, sizeof e);
    const struct fpl_measure sums = summed(size, x, out);
    const double bits[2][4] = {{got.sums.signal, got.sums.noise, got.sums.relative, got.sums.relative_max},
                               {sums.signal, sums.noise, sums.relative, sums.relative_max}};
    if (memcmp(bits[0], bits[1], sizeof bits[0]) != 0)
        fail_msg("%s, %lld x %lld, %d: sums %.17g %.17g %.17g %.17g, expected %.17g %.17g %.17g %.17g", text,
                 (long long)lines, (long long)width, along, bits[0][0], bits[0][1], bits[0][2], bits[0][3],
                 bits[1][0], bits[1][1], bits[1][2], bits[1][3]);
    /* n additions of positive terms each way: 10 log10((1 + n u)^4) dB */
    const double bound = 4 * (double)size * 0x1p-53 * 10 / log(10.0);
    if (isfinite(want.sqnr_db)) harness_within("sqnr", 0, mine.sqnr_db, want.sqnr_db, bound + 1e-12);
    if (!isfinite(want.sqnr_db)) assert_true(mine.sqnr_db == want.sqnr_db);

    /* a second call adds up */
    device = harness_device(h.kernels, h.two, x, size);
    h.kernels->diagnose(h.two, 1, lines, width, along, &o, device, &got);
    h.kernels->release(h.two, device);
    assert_int_equal(got.sums.elements, 2 * size);
    assert_int_equal(got.sums.clipped % 2, 0);
    void *const owned[] = {x, out, up, rounded_up};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
}

static void diagnoses_equal_the_definition(void **unused) {
    (void)unused;
    static const char *const texts[] = {
        "e4m3fn",       "e4m3/1x32",        "e2m1/1x16:e4m3fn+t", "e5m2ieee:sr/tensor",
        "int8/row",     "e3m2/col",         "e2m1/16x16:mul",     "e2m3/1x32:e8m0",
        "bf16",         "e4m3fn/1x8:rceil", "uint4/1x16+z",       "e2m1/1x16:e4m3fn+46",
        "e2m1/row+mse", "nf4/1x16"};
    static const int64_t shapes[][2] = {{1, 1}, {3, 5}, {16, 16}, {33, 40}, {7, 130}, {64, 48}, {97, 211}};
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int along = 0; along < 2; along++) {
                harness_seed(50 + t * 20 + s);
                check_diagnosis(texts[t], shapes[s][0], shapes[s][1], along, t % 2 ? 1.0 : 30.0);
            }
}

/* ---- delayed scaling ----------------------------------------------------------------------------- */

enum { N = 12, O = 20, I = 16, LENGTH = 3, STATE = FPL_DELAY_HEAD + LENGTH, STEPS = 9, REPLICAS = 2 };

static float largest(const float *x, int64_t n) {
    float amax = 0;
    for (int64_t i = 0; i < n; i++) amax = fmaxf(amax, fpl_finite_magnitude(x[i]));
    return amax;
}

/* What the definition makes of an operand: x quantized under the largest of the last steps. */
struct memory {
    float past[STEPS];
    int64_t step;
};

static struct fpl_quantizer_plan present(const struct fpl_operand *o, const struct memory *m) {
    struct fpl_quantizer_plan plan = o->plan;
    plan.delayed_amax = 0;
    for (int64_t s = m->step > LENGTH ? m->step - LENGTH : 0; s < m->step; s++)
        plan.delayed_amax = fmaxf(plan.delayed_amax, m->past[s]);
    return plan;
}

static const enum fpl_role roles[] = {FPL_FORWARD, FPL_DGRAD, FPL_WGRAD};

/* One product of the given replicas, b on the device; expected: each operand by its own memory. */
static void product(enum fpl_role role, int R, const float *a, const float *b, const struct fpl_operand *q,
                    uint64_t version, float *out) {
    const struct ref_product p = ref_product_shape(role, N, O, I);
    float *x = harness_device(h.kernels, h.one, a, R * p.a_size);
    float *y = h.kernels->alloc(h.one, (size_t)(R * p.out_size) * sizeof *y);
    const struct fpl_gemm g = {.role = role,
                               .R = R,
                               .n = N,
                               .O = O,
                               .I = I,
                               .a = x,
                               .b = b,
                               .out = y,
                               .qa = q,
                               .qb = q + R,
                               .weights_version = version};
    h.kernels->gemm(h.one, &g);
    h.kernels->download(h.one, out, y, (size_t)(R * p.out_size) * sizeof *y);
    h.kernels->release(h.one, x);
    h.kernels->release(h.one, y);
}

static void expect(enum fpl_role role, const float *a, const float *b, const struct fpl_operand *qa,
                   const struct fpl_operand *qb, const struct memory *ma, const struct memory *mb,
                   const float *got) {
    const struct ref_product p = ref_product_shape(role, N, O, I);
    float *x = harness_alloc(p.a_size, 4), *y = harness_alloc(p.b_size, 4);
    const struct fpl_quantizer_plan pa = present(qa, ma), pb = present(qb, mb);
    fpl_quantize_reference(&pa, p.rows, p.depth, p.a_row, p.a_col, a, x, NULL, &qa->at);
    fpl_quantize_reference(&pb, p.cols, p.depth, p.b_row, p.b_col, b, y, NULL, &qb->at);
    for (int64_t i = 0; i < p.rows; i++)
        for (int64_t j = 0; j < p.cols; j++) {
            float sum = 0;
            for (int64_t k = 0; k < p.depth; k++)
                sum = fmaf(x[i * p.a_row + k * p.a_col], y[j * p.b_row + k * p.b_col], sum);
            harness_same_bits("delayed product", &got[i * p.cols + j], &sum, 1);
        }
    free(x);
    free(y);
}

static void delayed_products(void **unused) {
    (void)unused;
    for (int which = 0; which < 3; which++) {
        const enum fpl_role role = roles[which];
        const struct ref_product p = ref_product_shape(role, N, O, I);
        struct fpl_operand q[2 * REPLICAS], alone[2];
        struct memory memory[2 * REPLICAS] = {{{0}, 0}};
        struct fpl_delay states[2 * REPLICAS];
        float *buffer = h.kernels->alloc(h.one, sizeof(float) * 2 * REPLICAS * STATE);
        for (int i = 0; i < 2 * REPLICAS; i++) {
            q[i] = operand(i % 2 ? "e4m3fn/tensor:delayed3m1" : "e5m2ieee:sr/tensor:delayed3");
            q[i].delay = buffer + i * STATE;
            states[i] = (struct fpl_delay){.offset = i * STATE, .length = LENGTH};
        }
        harness_seed(300 + (uint64_t)which);
        for (int64_t step = 0; step < STEPS; step++) {
            const double size = step == 4 ? 50 : 1; /* an outlier that must be forgotten */
            float *b = harness_floats(REPLICAS * p.b_size, size);
            float *evaluated = harness_alloc(REPLICAS * p.out_size, 4);
            float *out = harness_alloc(REPLICAS * p.out_size, 4), *single = harness_alloc(p.out_size, 4);
            float *e = harness_floats(REPLICAS * p.a_size, 3);
            float *weights = harness_device(h.kernels, h.one, b, REPLICAS * p.b_size);
            const uint64_t version = 1000u * (uint64_t)(which + 1) + (uint64_t)step;
            /* an evaluation with the same weights comes first: it must leave no trace, nor keep
             * the packed weights from being observed */
            for (int i = 0; i < 2 * REPLICAS; i++) q[i].observe = 0;
            float kept[2 * REPLICAS * STATE], now[2 * REPLICAS * STATE];
            h.kernels->download(h.one, kept, buffer, sizeof kept);
            product(role, REPLICAS, e, weights, q, version, evaluated);
            h.kernels->download(h.one, now, buffer, sizeof now);
            assert_memory_equal(kept, now, sizeof kept);
            for (int i = 0; i < 2 * REPLICAS; i++) q[i].observe = 1;
            for (int micro = 0; micro < 2; micro++) {
                float *a = harness_floats(REPLICAS * p.a_size, size);
                product(role, REPLICAS, a, weights, q, version, out);
                for (int r = 0; r < REPLICAS; r++) {
                    float *x = a + r * p.a_size, *y = b + r * p.b_size;
                    memory[r].step = memory[REPLICAS + r].step = step;
                    expect(role, x, y, &q[r], &q[REPLICAS + r], &memory[r], &memory[REPLICAS + r],
                           out + r * p.out_size);
                    memory[r].past[step] = fmaxf(memory[r].past[step], largest(x, p.a_size));
                    memory[REPLICAS + r].past[step] = largest(y, p.b_size);
                    alone[0] = q[r], alone[1] = q[REPLICAS + r];
                    alone[0].observe = alone[1].observe = 0;
                    product(role, 1, x, weights + r * p.b_size, alone, 0, single);
                    harness_same_bits("alone", single, out + r * p.out_size, p.out_size);
                }
                free(a);
            }
            h.kernels->download(h.one, now, buffer, sizeof now);
            for (int i = 0; i < 2 * REPLICAS; i++) assert_true(now[i * STATE] == memory[i].past[step]);
            h.kernels->delay(h.one, states, 2 * REPLICAS, step, buffer);
            h.kernels->release(h.one, weights);
            void *const owned[] = {b, evaluated, out, single, e};
            for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) free(owned[i]);
        }
        h.kernels->release(h.one, buffer);
    }
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
        cmocka_unit_test(diagnoses_equal_the_definition),
        cmocka_unit_test(delayed_products),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
