/* test_accumulate.c - GEMM under emulated accumulators: every level against the scalar steps.
 *
 * The expected bits come from the definitions of formats/accumulator.h applied one element at a
 * time, by code of this file that knows no tiles, panels or vectors.  Roles, ragged shapes,
 * replicas with accumulators of their own, one and two threads, accumulation into old values, all
 * three instruction sets.  Operands cover what separates a right kernel from a wrong one: normal
 * values, values of a few bits (exact ties), wide exponents, float32 subnormals, infinities and
 * NaN, magnitudes that overflow F.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/random.h"
#include "../../kernels/kernels.h"

static const char *const level_names[] = {"avx512", "avx2", "baseline"};

/* The table of a level, or NULL where the processor lacks it. */
static const struct fpl_kernels *level(const char *name) {
    setenv("FPLAW_SIMD", name, 1);
    const struct fpl_kernels *k = strcmp(fpl_simd_level(), name) == 0 ? fpl_backend("cpu") : NULL;
    unsetenv("FPLAW_SIMD");
    return k;
}

static struct fpl_device *open_device(const struct fpl_kernels *k, int threads) {
    struct fpl_device *dev = NULL;
    const struct fpl_device_options options = {.threads = threads};
    assert_int_equal(k->open(&dev, &options, NULL), FPL_OK);
    return dev;
}

static struct fpl_accumulator_plan plan_of(const char *text) {
    struct fpl_accumulator a;
    struct fpl_accumulator_plan plan;
    struct fpl_error err;
    if (fpl_accumulator_parse(text, &a, &err) != FPL_OK) fail_msg("%s", err.text);
    fpl_accumulator_lower(&a, &plan);
    return plan;
}

static struct fpl_operand operand_of(const char *text) {
    struct fpl_quantizer q;
    struct fpl_operand o;
    memset(&o, 0, sizeof o);
    assert_int_equal(fpl_quantizer_parse(text, &q, NULL), FPL_OK);
    fpl_quantizer_lower(&q, NULL, &o.plan);
    return o;
}

/* ---- values --------------------------------------------------------------------------------- */

static uint64_t state = 1;
static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

enum kind { NORMAL, SHORT, WIDE, TINY, HUGE_ONES, SPECIAL, KINDS };

static float value(enum kind kind) {
    const float u = (float)(int32_t)draw() * 0x1p-31f;
    switch (kind) {
    case SHORT: /* few bits: sums tie often */
        return (float)((int32_t)(draw() % 15) - 7) * 0.25f;
    case WIDE:
        return ldexpf(u, (int)(draw() % 60) - 40);
    case TINY: /* products reach below float32 */
        return ldexpf(u, (int)(draw() % 30) - 85);
    case HUGE_ONES:
        return ldexpf(u, (int)(draw() % 66));
    case SPECIAL:
        if (draw() % 97 == 0) return (draw() & 1) != 0 ? INFINITY : -INFINITY;
        if (draw() % 197 == 0) return fpl_bits_float(0xffffffffu);
        return draw() % 5 == 0 ? -0.0f : u;
    default:
        return u;
    }
}

static float *filled(const struct fpl_kernels *k, struct fpl_device *dev, int64_t n, enum kind kind) {
    float *p = k->alloc(dev, (size_t)n * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) p[i] = value(kind);
    return p;
}

/* ---- the definition --------------------------------------------------------------------------- */

static uint32_t bits_for(const struct fpl_gemm *g, int r, int64_t t, int64_t o, int64_t i) {
    const struct fpl_random_at *at = &g->qa[r].at;
    const struct fpl_round *f = &g->accumulator[r].round;
    const int64_t width = g->role == FPL_FORWARD ? g->I : g->O;
    if (!fpl_is_stochastic(f->mode)) return 0;
    t += (int64_t)at->element / width;
    return fpl_random_bits(at->seed, at->step, 10u << 28 | (at->stream & 0x0fffffffu),
                           (uint64_t)((t * g->O + o) * g->I + i), f->sr_bits);
}

/* One element: x[k], y[k] gathered, random[k] the bits after product k. */
static float expected_sum(const struct fpl_accumulator_plan *plan, int64_t K, const float *x, const float *y,
                          const uint32_t *random) {
    const int64_t chunk = plan->chunk > 0 ? plan->chunk : K;
    float sum = 0.0f, acc = 0.0f;
    for (int64_t first = 0; first < K; first += chunk) {
        const int64_t last = first + chunk < K ? first + chunk : K;
        acc = 0.0f;
        if (plan->kind == FPL_ACC_ALIGN) {
            for (int64_t k = first; k < last; k += plan->terms)
                acc = fpl_accumulate_align(plan->fraction, acc,
                                           (int)(k + plan->terms < last ? plan->terms : last - k), x + k, 1,
                                           y + k, 1);
        } else {
            for (int64_t k = first; k < last; k++)
                acc = plan->kind == FPL_ACC_EACH
                          ? fpl_accumulate_each(&plan->round, acc, x[k], y[k], random[k])
                          : fmaf(x[k], y[k], acc);
            if (plan->kind == FPL_ACC_CHUNK)
                acc = fpl_round_double(&plan->round, (double)acc, random[last - 1]);
        }
        sum = fpl_accumulate_chunk(sum, acc);
    }
    return plan->chunk > 0 ? sum : acc;
}

static void expect(const struct fpl_gemm *g, float *out) {
    const int wgrad = g->role == FPL_WGRAD, forward = g->role == FPL_FORWARD;
    const int64_t M = wgrad ? g->O : g->n, N = forward ? g->O : g->I,
                  K = wgrad     ? g->n
                      : forward ? g->I
                                : g->O;
    float *x = malloc((size_t)(K + 1) * sizeof *x), *y = malloc((size_t)(K + 1) * sizeof *y);
    uint32_t *random = malloc((size_t)(K + 1) * sizeof *random);
    assert_true(x != NULL && y != NULL && random != NULL);
    for (int r = 0; r < g->R; r++) {
        const float *a = g->a + r * g->n * (forward ? g->I : g->O);
        const float *b = g->b + r * (wgrad ? g->n : g->O) * g->I;
        for (int64_t i = 0; i < M; i++) {
            for (int64_t j = 0; j < N; j++) {
                for (int64_t k = 0; k < K; k++) {
                    x[k] = wgrad ? a[k * g->O + i] : a[i * K + k];
                    y[k] = forward ? b[j * g->I + k] : b[k * g->I + j];
                    random[k] = forward ? bits_for(g, r, i, j, k)
                                : wgrad ? bits_for(g, r, k, i, j)
                                        : bits_for(g, r, i, k, j);
                }
                float *at = &out[(r * M + i) * N + j];
                const float sum = expected_sum(&g->accumulator[r], K, x, y, random);
                *at = fpl_one_nan(g->accumulate ? *at + sum : sum);
            }
        }
    }
    free(x), free(y), free(random);
}

/* ---- tests ------------------------------------------------------------------------------------ */

static void check(const struct fpl_kernels *k, struct fpl_device *dev, const char *where, const char *text,
                  int role, int R, int64_t n, int64_t O, int64_t I, enum kind kind) {
    struct fpl_operand q[3] = {operand_of("-"), operand_of("-"), operand_of("-")};
    struct fpl_accumulator_plan plans[3];
    const char *const others[] = {text, "fp16", "align:4,23"};
    for (int r = 0; r < R; r++) {
        plans[r] = plan_of(others[r]);
        q[r].at = (struct fpl_random_at){77u + (uint64_t)r, 5, 0x123,
                                         (uint64_t)(3 * (role == FPL_FORWARD ? I : O))};
    }
    const int64_t size = role == FPL_WGRAD ? O * I : role == FPL_FORWARD ? n * O : n * I;
    float *a = filled(k, dev, R * n * (role == FPL_FORWARD ? I : O), kind);
    float *b = filled(k, dev, R * I * (role == FPL_WGRAD ? n : O), kind);
    float *out = filled(k, dev, R * size, NORMAL), *want = k->alloc(dev, (size_t)(R * size) * sizeof *want);
    memcpy(want, out, (size_t)(R * size) * sizeof *want);
    struct fpl_gemm g = {.role = (enum fpl_role)role,
                         .R = R,
                         .n = n,
                         .O = O,
                         .I = I,
                         .a = a,
                         .b = b,
                         .qa = q,
                         .qb = q,
                         .accumulator = plans};
    for (int pass = 0; pass < 2; pass++) {
        g.accumulate = pass;
        g.out = out;
        k->gemm(dev, &g);
        g.out = want;
        expect(&g, want);
        for (int64_t i = 0; i < R * size; i++)
            if (fpl_float_bits(out[i]) != fpl_float_bits(want[i]))
                fail_msg(
                    "%s, %s, role %d, R %d, n %d, O %d, I %d, values %d, pass %d: element %d is %a, not %a",
                    where, text, role, R, (int)n, (int)O, (int)I, (int)kind, pass, (int)i, (double)out[i],
                    (double)want[i]);
    }
    assert_int_equal(k->check(dev, NULL), FPL_OK);
    k->release(dev, a), k->release(dev, b), k->release(dev, out), k->release(dev, want);
}

static const char *const texts[] = {
    /* every way of the vector kernels, in every mode */
    "fp16",
    "bf16",
    "tf32",
    "fp32:rtz",
    "fp32:rup",
    "fp32:sat",
    "fp32:satp",
    "e4m3fn",
    "e4m3fn:ovf",
    "e4m3",
    "e5m2ieee",
    "e4m3fnuz",
    "e5m2fnuz",
    "e4m3p3109e",
    "e4m3p3109e:ovf",
    "e3m2",
    "e2m1",
    "e5m21ieee",
    "e5m22ieee",
    "e8m22ieee",
    "e5m10:sat",
    "e8m10ieee:sat",
    "int8",
    "mxint8",
    "fp16:satp",
    "e5m0",
    "e5m0:ovf",
    "e4m0:rto/8",
    "chunk:e5m0/4",
    "chunk:e3m0:ovf/16",
    "e5m0:rup",
    "e5m0:rna",
    "e5m0:rtz",
    "e5m0:rto",
    "e4m3ns",
    "e5m2ns:rup",
    "fp16:rna",
    "fp16:rtz",
    "fp16:rup",
    "fp16:rdn",
    "fp16:rto",
    "e4m3:rna",
    "e4m3:rtz",
    "e4m3:rup",
    "e4m3:rdn",
    "e4m3:rto",
    "bf16:rna",
    "bf16:rtz",
    "bf16:rup",
    "bf16:rdn",
    "bf16:rto",
    "bf16:sat",
    "e5m2b140",
    "e3m4b-20",
    "fp16/8",
    "bf16/5",
    "e4m3:rtz/16",
    "fp32/7",
    "chunk:fp16/8",
    "chunk:bf16/8",
    "chunk:e4m3fn/16",
    "chunk:fp16:rtz/7",
    "chunk:fp32/16",
    "chunk:fp32:rdn/16",
    "chunk:e4m3fn:ovf/4",
    "chunk:e5m22ieee/9",
    "chunk:fp16:satp/32",
    "align:4,23",
    "align:8,24",
    "align:16,25",
    "align:32,13",
    "align:32,13/128",
    "align:4,13/8",
    "align:3,38",
    "align:1,1",
    "align:1024,10",
    "fp16:sr",
    "fp16:sr4/8",
    "chunk:bf16:sr32/8",
    "e4m3:sr16b",
    "e4m3:sr8c"};

static void each_text(void **unused) {
    (void)unused;
    for (size_t l = 0; l < 3; l++) {
        const struct fpl_kernels *k = level(level_names[l]);
        if (k == NULL) continue;
        struct fpl_device *dev = open_device(k, 1);
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++)
            for (int kind = 0; kind < KINDS; kind++)
                check(k, dev, level_names[l], texts[t], (int)(t + (size_t)kind) % 3, 1, 11, 19, 23,
                      (enum kind)kind);
        k->close(dev);
    }
}

/* Widths that random bits are drawn together for, and those that they are not. */
static void stochastic(void **unused) {
    (void)unused;
    static const char *const some[] = {"fp16:sr",      "bf16:sr/20",      "e4m3fn:sr3:ovf", "e4m3fnuz:sr16",
                                       "e5m0:sr",      "e5m2ns:sr",       "fp16:sr20",      "e3m2:sr1/7",
                                       "fp16:sr8:sat", "fp32:sr",         "e4m3:sr16b",     "fp16:sr32",
                                       "bf16:sr24/20", "e4m3fn:sr17:ovf", "fp32:sr26"};
    for (size_t l = 0; l < 3; l++) {
        const struct fpl_kernels *k = level(level_names[l]);
        if (k == NULL) continue;
        struct fpl_device *dev = open_device(k, 1);
        for (size_t t = 0; t < sizeof some / sizeof some[0]; t++)
            for (int kind = 0; kind < KINDS; kind++)
                for (int role = 0; role < 3; role++)
                    check(k, dev, level_names[l], some[t], role, 1, 11, 19, kind % 2 ? 20 : 24,
                          (enum kind)kind);
        k->close(dev);
    }
}

static void each_shape(void **unused) {
    (void)unused;
    static const int64_t sizes[][3] = {{1, 1, 1},    {1, 7, 300}, {64, 16, 16}, {9, 33, 65},
                                       {50, 49, 47}, {97, 5, 64}, {0, 3, 4},    {3, 48, 96}};
    static const char *const some[] = {"fp16",          "bf16:rna/32",     "e5m22ieee",
                                       "chunk:fp16/64", "align:32,13/128", "e4m3fn:sr"};
    for (size_t l = 0; l < 3; l++) {
        const struct fpl_kernels *k = level(level_names[l]);
        if (k == NULL) continue;
        for (int threads = 1; threads <= 2; threads++) {
            struct fpl_device *dev = open_device(k, threads);
            for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
                for (int role = 0; role < 3; role++)
                    for (size_t t = 0; t < sizeof some / sizeof some[0]; t++)
                        check(k, dev, level_names[l], some[t], role, 1 + (int)(s % 3), sizes[s][0],
                              sizes[s][1], sizes[s][2], NORMAL);
            k->close(dev);
        }
    }
}

/* Operands are quantized first; the accumulator sees their values. */
static void after_quantizers(void **unused) {
    (void)unused;
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct fpl_device *dev = open_device(k, 1);
    const int64_t n = 8, O = 24, I = 40;
    struct fpl_operand q = operand_of("e4m3fn/1x16"), none = operand_of("-");
    const struct fpl_accumulator_plan plan = plan_of("fp16");
    float *x = filled(k, dev, n * I, NORMAL), *w = filled(k, dev, O * I, NORMAL);
    float *y = k->alloc(dev, (size_t)(n * O) * sizeof *y), *z = k->alloc(dev, (size_t)(n * O) * sizeof *z);
    struct fpl_gemm g = {.role = FPL_FORWARD,
                         .R = 1,
                         .n = n,
                         .O = O,
                         .I = I,
                         .a = x,
                         .b = w,
                         .out = y,
                         .qa = &q,
                         .qb = &q,
                         .accumulator = &plan};
    k->gemm(dev, &g);
    fpl_quantize_reference(&q.plan, n, I, I, 1, x, x, NULL, NULL);
    fpl_quantize_reference(&q.plan, O, I, I, 1, w, w, NULL, NULL);
    g.qa = g.qb = &none;
    g.out = z;
    expect(&g, z);
    assert_memory_equal(y, z, (size_t)(n * O) * sizeof *y);
    k->release(dev, x), k->release(dev, w), k->release(dev, y), k->release(dev, z);
    k->close(dev);
}

/* block:S from its definition: elements from the dequantized values of fpl_quantize_reference and
 * its scales (powers of two, so that the division is exact), pieces cut at either operand's
 * groups. */
static void blocks(void **unused) {
    (void)unused;
    static const char *const sums[] = {"block", "block:fp16", "block:align:8,13", "block:chunk:bf16/5",
                                       "block:e4m3:sr"};
    const int64_t n = 5, O = 18, I = 44, step_a = 16, step_b = 12;
    struct fpl_operand qa = operand_of("e4m3fn/1x16:e8m0"), qb = operand_of("e2m1/6x12:e8m0");
    qa.at = (struct fpl_random_at){4, 3, 2, (uint64_t)(7 * I)};
    for (size_t l = 0; l < 3; l++) {
        const struct fpl_kernels *k = level(level_names[l]);
        if (k == NULL) continue;
        struct fpl_device *dev = open_device(k, 1);
        float *x = filled(k, dev, n * I, NORMAL), *w = filled(k, dev, O * I, NORMAL);
        float *y = k->alloc(dev, (size_t)(n * O) * sizeof *y), sa[5 * 3], sb[3 * 4];
        float *vx = k->alloc(dev, (size_t)(n * I) * sizeof *vx),
              *vw = k->alloc(dev, (size_t)(O * I) * sizeof *vw);
        fpl_quantize_reference(&qa.plan, n, I, I, 1, x, vx, sa, &qa.at);
        fpl_quantize_reference(&qb.plan, O, I, I, 1, w, vw, sb, NULL);
        for (size_t t = 0; t < sizeof sums / sizeof sums[0]; t++) {
            struct fpl_accumulator_plan plan = plan_of(sums[t]);
            const struct fpl_gemm g = {.role = FPL_FORWARD,
                                       .R = 1,
                                       .n = n,
                                       .O = O,
                                       .I = I,
                                       .a = x,
                                       .b = w,
                                       .out = y,
                                       .qa = &qa,
                                       .qb = &qb,
                                       .accumulator = &plan};
            k->gemm(dev, &g);
            for (int64_t i = 0; i < n; i++) {
                for (int64_t j = 0; j < O; j++) {
                    float acc = 0.0f, ex[44], ey[44];
                    uint32_t random[44];
                    for (int64_t c = 0; c < I; c++) {
                        ex[c] = vx[i * I + c] / sa[i * 3 + c / step_a];
                        ey[c] = vw[j * I + c] / sb[j / 6 * 4 + c / step_b];
                        random[c] = bits_for(&g, 0, i, j, c);
                    }
                    for (int64_t c = 0, end; c < I; c = end) {
                        for (end = c + 1; end < I && end % step_a != 0 && end % step_b != 0;) end++;
                        const float p = expected_sum(&plan, end - c, ex + c, ey + c, random + c);
                        acc = fmaf(p, sa[i * 3 + c / step_a] * sb[j / 6 * 4 + c / step_b], acc);
                    }
                    if (fpl_float_bits(acc) != fpl_float_bits(y[i * O + j]))
                        fail_msg("%s, %s, (%d, %d): %a, not %a", level_names[l], sums[t], (int)i, (int)j,
                                 (double)y[i * O + j], (double)acc);
                }
            }
        }
        k->release(dev, x), k->release(dev, w), k->release(dev, y), k->release(dev, vx), k->release(dev, vw);
        k->close(dev);
    }
}

/* Scales of powers of two and an accumulator that does not round: block and fp32 agree with the
 * exact product, for every role, whatever is transposed, two-level scales included. */
static void blocks_are_the_product(void **unused) {
    (void)unused;
    static const char *const quantizers[] = {"e2m1/1x16:e8m0", "e2m1/tensor:e8m0", "-", "e2m1/row:e8m0",
                                             "e2m1/16x16:e8m0"};
    const struct fpl_kernels *k = fpl_backend("cpu");
    const struct fpl_accumulator_plan plan[2] = {plan_of("block"), plan_of("fp32")};
    struct fpl_device *dev = open_device(k, 2);
    const int64_t n = 21, O = 34, I = 19;
    for (int role = 0; role < 3; role++) {
        for (size_t t = 0; t < sizeof quantizers / sizeof quantizers[0]; t++) {
            struct fpl_operand qa = operand_of(quantizers[t]),
                               qb = operand_of(quantizers[(t + (size_t)role) % 5]);
            const int64_t size = role == FPL_WGRAD ? O * I : role == FPL_FORWARD ? n * O : n * I;
            float *a = filled(k, dev, n * (role == FPL_FORWARD ? I : O), SHORT);
            float *b = filled(k, dev, I * (role == FPL_WGRAD ? n : O), SHORT), *out[2];
            for (int which = 0; which < 2; which++) {
                out[which] = k->alloc(dev, (size_t)size * sizeof(float));
                const struct fpl_gemm g = {.role = (enum fpl_role)role,
                                           .R = 1,
                                           .n = n,
                                           .O = O,
                                           .I = I,
                                           .a = a,
                                           .b = b,
                                           .out = out[which],
                                           .qa = &qa,
                                           .qb = &qb,
                                           .accumulator = &plan[which]};
                k->gemm(dev, &g);
            }
            for (int64_t i = 0; i < size; i++) assert_true(out[0][i] == out[1][i]);
            k->release(dev, a), k->release(dev, b), k->release(dev, out[0]), k->release(dev, out[1]);
        }
    }
    k->close(dev);
}

/* NVFP4's two levels: the tensors' factors enter once, at the end. */
static void blocks_of_two_levels(void **unused) {
    (void)unused;
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct fpl_device *dev = open_device(k, 1);
    const int64_t n = 3, O = 5, I = 32;
    struct fpl_operand q = operand_of("e2m1/1x16:e4m3fn+t");
    const struct fpl_accumulator_plan plan = plan_of("block");
    float *x = filled(k, dev, n * I, NORMAL), *w = filled(k, dev, O * I, NORMAL);
    float *y = k->alloc(dev, (size_t)(n * O) * sizeof *y), vx[3 * 32], vw[5 * 32];
    memset(x, 0, 16 * sizeof *x); /* a group of zeros first: its scale is 1, the tensor's is not */
    const struct fpl_gemm g = {.role = FPL_FORWARD,
                               .R = 1,
                               .n = n,
                               .O = O,
                               .I = I,
                               .a = x,
                               .b = w,
                               .out = y,
                               .qa = &q,
                               .qb = &q,
                               .accumulator = &plan};
    k->gemm(dev, &g);
    fpl_quantize_reference(&q.plan, n, I, I, 1, x, vx, NULL, NULL);
    fpl_quantize_reference(&q.plan, O, I, I, 1, w, vw, NULL, NULL);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < O; j++) {
            double sum = 0.0, size = 0.0;
            for (int64_t c = 0; c < I; c++) {
                const double p = (double)vx[i * I + c] * (double)vw[j * I + c];
                sum += p;
                size += fabs(p);
            }
            /* two roundings in each value, I in the chain, five in scales and factors */
            const double u = 0x1p-24, m = (double)I + 9.0, bound = m * u / (1.0 - m * u) * size;
            assert_true(fabs((double)y[i * O + j] - sum) <= bound);
        }
    }
    k->release(dev, x), k->release(dev, w), k->release(dev, y);
    k->close(dev);
}

/* A micro-batch draws the random bits of its own tokens: two halves are the whole. */
static void micro_batches(void **unused) {
    (void)unused;
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct fpl_device *dev = open_device(k, 1);
    const int64_t n = 6, O = 5, I = 33;
    struct fpl_operand q = operand_of("-");
    const struct fpl_accumulator_plan plan = plan_of("e4m3:sr");
    float *x = filled(k, dev, n * I, NORMAL), *w = filled(k, dev, O * I, NORMAL);
    float *y = k->alloc(dev, (size_t)(n * O) * sizeof *y), *z = k->alloc(dev, (size_t)(n * O) * sizeof *z);
    q.at = (struct fpl_random_at){9, 1, 2, 0};
    struct fpl_gemm g = {.role = FPL_FORWARD,
                         .R = 1,
                         .n = n,
                         .O = O,
                         .I = I,
                         .a = x,
                         .b = w,
                         .out = y,
                         .qa = &q,
                         .qb = &q,
                         .accumulator = &plan};
    k->gemm(dev, &g);
    g.n = n / 2;
    g.out = z;
    k->gemm(dev, &g);
    g.a = x + n / 2 * I;
    g.out = z + n / 2 * O;
    q.at.element = (uint64_t)(n / 2 * I);
    k->gemm(dev, &g);
    assert_memory_equal(y, z, (size_t)(n * O) * sizeof *y);
    q.at.seed = 10; /* other bits, other values */
    k->gemm(dev, &g);
    assert_memory_not_equal(y + n / 2 * O, z + n / 2 * O, (size_t)(n / 2 * O) * sizeof *y);
    k->release(dev, x), k->release(dev, w), k->release(dev, y), k->release(dev, z);
    k->close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_text),
        cmocka_unit_test(stochastic),
        cmocka_unit_test(each_shape),
        cmocka_unit_test(after_quantizers),
        cmocka_unit_test(blocks),
        cmocka_unit_test(blocks_are_the_product),
        cmocka_unit_test(blocks_of_two_levels),
        cmocka_unit_test(micro_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
