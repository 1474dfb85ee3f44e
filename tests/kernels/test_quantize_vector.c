/* test_quantize_vector.c - the vector quantizer equals fpl_quantize_reference, at every level.
 *
 * Two sweeps.  Rounding: every exponent, with mantissas at and next to every tie of the
 * format, subnormals and special values, through formats x modes x overflow policies without
 * scaling.  Scaling: formats x granularities x scale rules x both orientations of the operand
 * in products of all three roles (identity weights make the product hand the quantized
 * operand out), on ragged shapes, with offsets of the random bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "../../kernels/kernels.h"

static const char *const level_names[] = {"avx512", "avx2", "baseline"};

static const struct fpl_kernels *level(const char *name) {
    setenv("FPLAW_SIMD", name, 1);
    const struct fpl_kernels *k = strcmp(fpl_simd_level(), name) == 0 ? fpl_backend("cpu") : NULL;
    unsetenv("FPLAW_SIMD");
    return k;
}

static uint32_t state = 7;
static uint32_t draw(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static float from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static int plan_of(const char *text, const char *post, struct fpl_operand *q) {
    struct fpl_quantizer parsed;
    struct fpl_format format;
    memset(q, 0, sizeof *q);
    if (fpl_quantizer_parse(text, &parsed, NULL) != FPL_OK) return 0;
    if (post != NULL) assert_int_equal(fpl_format_parse(post, &format, NULL), FPL_OK);
    fpl_quantizer_lower(&parsed, post != NULL ? &format : NULL, &q->plan);
    q->at = (struct fpl_random_at){.seed = 0x123456789abcdefu, .step = 3, .stream = 1, .element = 13};
    return 1;
}

static void same(const char *what, const char *level_name, const float *got, const float *want,
                 const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t g, w, u;
        memcpy(&g, got + i, 4), memcpy(&w, want + i, 4), memcpy(&u, x + i, 4);
        if (g != w)
            fail_msg("%s, %s, element %d: x %08x %a: %08x %a, expected %08x %a", what, level_name, (int)i, u,
                     (double)x[i], g, (double)got[i], w, (double)want[i]);
    }
}

/* ---- rounding ------------------------------------------------------------------------------ */

static const char *const formats[] = {
    "e4m3fn",      "e4m3",       "e5m2ieee", "e5m2",      "e3m2",      "e2m3",   "e2m1",     "e1m2",
    "e3m0",        "e2m0",       "e4m0",     "e1m1",      "int8",      "int4",   "mxint8",   "bf16",
    "fp16",        "tf32",       "fp32",     "e6m9",      "e4m3ns",    "e2m1ns", "e4m3fnuz", "e5m2fnuz",
    "e4m3b11fnuz", "e3m4p3109e", "ue4m3fn",  "e8m10ieee", "e5m14ieee", "e2m20",  "e4m3b-20", "e3m2b100"};
static const char *const modes[] = {"",    ":rna", ":rtz", ":rup",  ":rdn", ":rto",
                                    ":sr", ":sr1", ":sr5", ":sr20", ":sr32"};
static const char *const policies[] = {"", ":sat", ":satp", ":ovf"};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { MANTISSAS = 64, VALUES = 2 * 256 * MANTISSAS };

/* All exponents, both signs, mantissas around the ties of M mantissa bits. */
static void fill_patterns(float *x, int M) {
    const uint32_t step = M > 22 ? 1u : 1u << (22 - M);
    for (uint32_t i = 0; i < VALUES; i++) {
        const uint32_t sign = i & 1u, exponent = i / 2 % 256, k = i / 512;
        uint32_t mantissa = draw() & 0x7fffffu;
        if (k < 3)
            mantissa = k == 0 ? 0 : k == 1 ? 1 : 0x7fffff;
        else if (k < 48)
            mantissa = ((draw() & 0x7fffffu) / step * step + (k % 3) - 1) & 0x7fffffu;
        x[i] = from_bits(sign << 31 | exponent << 23 | mantissa);
    }
}

static void rounding(void **unused) {
    (void)unused;
    static float x[VALUES], got[VALUES], want[VALUES];
    int tried = 0;
    for (size_t f = 0; f < COUNT(formats); f++) {
        for (size_t m = 0; m < COUNT(modes); m++) {
            for (size_t p = 0; p < COUNT(policies); p++) {
                char text[96];
                struct fpl_operand q;
                snprintf(text, sizeof text, "%s%s%s", formats[f], modes[m], policies[p]);
                const char *post = (f + m + p) % 5 == 0 ? "bf16" : (f + m + p) % 5 == 1 ? "e4m3fn" : NULL;
                if (!plan_of(text, post, &q)) continue;
                fill_patterns(x, q.plan.round.mbits);
                const int64_t bad =
                    fpl_quantize_reference(&q.plan, 1, VALUES, VALUES, 1, x, want, NULL, &q.at);
                for (size_t l = 0; l < 3; l++) {
                    const struct fpl_kernels *k = level(level_names[l]);
                    if (k == NULL) continue;
                    struct fpl_device *dev;
                    assert_int_equal(k->open(&dev, &(struct fpl_device_options){.threads = 1}, NULL), FPL_OK);
                    int64_t count = 0;
                    k->quantize(dev, 1, 1, VALUES, &q, x, got, &count);
                    k->close(dev);
                    same(text, level_names[l], got, want, x, VALUES);
                    assert_int_equal(count, bad);
                }
                tried++;
            }
        }
    }
    assert_true(tried > 800);
}

/* ---- scaling, through products -------------------------------------------------------------- */

static const char *const scaled[] = {"e4m3fn",   "e4m3",     "e2m1",         "e3m0",     "int8", "e4m3fn:sr",
                                     "e2m1:rna", "e2m1:rup", "e3m2:rto:ovf", "e4m3fnuz", "fp16"};
static const char *const grains[] = {"/tensor", "/row",  "/col",   "/1x32", "/1x16",  "/1x1",
                                     "/1x7",    "/32x1", "/16x16", "/3x7",  "/1x100", "/40x2"};
static const char *const rules[] = {"",      ":mul",   ":e8m0",    ":rceil",    ":ceil",
                                    ":even", ":p3109", ":ue4m3fn", ":ue4m3fn+t"};

static float sample(int kind) {
    const float u = (float)((int32_t)(draw() << 8)) * 0x1p-31f;
    switch (kind) {
    case 0:
        return u;
    case 1:
        return u * from_bits((60 + draw() % 130) << 23);
    case 2:
        return draw() % 3 ? u * 0x1p-140f : 0.0f;
    case 3:
        return draw() % 40 ? -u * 0x1p127f : 0x1.fffffep127f;
    default:
        return draw() % 50 ? u : from_bits(0x7f800000u | draw() << 8);
    }
}

/* Mostly even values; runs of `run` elements a power of two apart, from the least scale that
 * batches take to the largest and beyond; every `every` elements twenty of another kind. */
static void mixed(float *x, int64_t n, int64_t run, int64_t every) {
    float scale = 1.0f;
    for (int64_t i = 0; i < n; i++) {
        if (run > 0 && i % run == 0) scale = from_bits((64 + draw() % 126) << 23);
        x[i] = i % every < every - 20 ? scale * sample(0) : sample((int)(i / every % 5));
    }
}

/* The operand `a` of a product with an identity matrix comes out as it was quantized. */
static void scaling(void **unused) {
    (void)unused;
    static const int64_t shapes[][2] = {{1, 1}, {33, 47}, {64, 96}, {70, 16}, {5, 130}, {1, 2100}, {130, 3}};
    static float x[8192], got[8192], want[8192];
    int tried = 0;
    for (size_t f = 0; f < COUNT(scaled); f++) {
        for (size_t g = 0; g < COUNT(grains); g++) {
            for (size_t r = 0; r < COUNT(rules); r++) {
                char text[96];
                struct fpl_operand q;
                snprintf(text, sizeof text, "%s%s%s", scaled[f], grains[g], rules[r]);
                if (!plan_of(text, (f + g + r) % 3 == 0 ? "bf16" : NULL, &q)) continue;
                for (int kind = 0; kind < 5; kind++) {
                    const int64_t *shape = shapes[(f + g + r + (size_t)kind) % COUNT(shapes)];
                    const int64_t lines = shape[0], width = shape[1];
                    for (int64_t i = 0; i < lines * width; i++) x[i] = sample(kind);
                    const int64_t bad =
                        fpl_quantize_reference(&q.plan, lines, width, width, 1, x, want, NULL, &q.at);
                    for (size_t l = 0; l < 3; l++) {
                        const struct fpl_kernels *k = level(level_names[l]);
                        if (k == NULL) continue;
                        struct fpl_device *dev;
                        assert_int_equal(
                            k->open(&dev, &(struct fpl_device_options){.threads = 1 + 2 * (kind == 1)}, NULL),
                            FPL_OK);
                        int64_t count = 0;
                        k->quantize(dev, 1, lines, width, &q, x, got, &count);
                        same(text, level_names[l], got, want, x, lines * width);
                        assert_int_equal(count, bad);
                        k->close(dev);
                    }
                    tried++;
                }
            }
        }
    }
    assert_true(tried > 3000);
}

/* The reduction axis over the lines, transposed on the way out.
 * Groups that only the general path covers (not finite, tiny, zero) lie between those of the
 * batched one. */
static void transposing(void **unused) {
    (void)unused;
    static const int64_t shapes[][2] = {{64, 48}, {70, 33}, {128, 130}, {300, 20}, {33, 1}};
    static const char *const texts[] = {
        "e4m3/1x32",           "e2m1/1x32:e8m0",     "e4m3:sr/1x32",   "e4m3:sr/1x16:rceil", "e4m3/row",
        "e2m1/1x16:ue4m3fn+t", "e4m3/tensor",        "e5m9/1x32",      "e4m3/16x16:mul",     "bf16",
        "e4m3:sr32/1x8",       "e3m2:rto/7x3:p3109", "e6m3/1x32:e8m0", "e4m3/1x32:rceil"};
    static float x[17000], want[17000], turned[17000], got[17000];
    for (size_t t = 0; t < COUNT(texts); t++) {
        for (size_t s = 0; s < COUNT(shapes); s++) {
            const int64_t lines = shapes[s][0], width = shapes[s][1], n = lines * width;
            struct fpl_operand q;
            assert_true(plan_of(texts[t], NULL, &q));
            q.at.element = 16 * s;
            mixed(x, n, s % 2 ? 32 * width : 0, 500);
            const int64_t bad = fpl_quantize_reference(&q.plan, width, lines, 1, width, x, want, NULL, &q.at);
            for (int64_t i = 0; i < n; i++) turned[i % width * lines + i / width] = want[i];
            for (size_t l = 0; l < 3; l++) {
                const struct fpl_kernels *k = level(level_names[l]);
                if (k == NULL) continue;
                struct fpl_device *dev;
                int64_t count = 0;
                assert_int_equal(
                    k->open(&dev, &(struct fpl_device_options){.threads = 1 + (int)(s % 2)}, NULL), FPL_OK);
                k->quantize_transposed(dev, 1, lines, width, &q, x, got, &count);
                same(texts[t], level_names[l], got, turned, x, n);
                assert_int_equal(count, bad);
                k->close(dev);
            }
        }
    }
}

/* Groups along the rows, where random bits start at a multiple of eight: batches of whole groups,
 * between them some that only the general path covers. */
static void batched(void **unused) {
    (void)unused;
    static const int64_t shapes[][2] = {{16, 512}, {33, 96},  {1, 4608}, {5, 1024},
                                        {64, 48},  {55, 144}, {16, 80}};
    static const char *const texts[] = {
        "e4m3/1x32",       "e4m3:sr/1x32",         "e4m3:sr32/1x32",      "e4m3:sr32/1x16:rceil",
        "e5m2:sr/1x128",   "e2m1:sr32/1x16:mul",   "e2m1/1x16:ue4m3fn+t", "e2m1:sr/1x16:e4m3fn+t",
        "e2m1/1x32:e8m0",  "e3m2:sr32/1x32:e8m0",  "e4m3fn:sr",           "e4m3fn:sr32",
        "e2m1:sr32/1x256", "e2m1:sr/1x32:ue5m3+t", "e4m3:sr20/1x32",      "e1m2:sr32",
        "e4m3ns:sr32",     "e4m3ns:sr/1x32",       "e4m3/1x32:rceil",     "e3m2/1x32:even",
        "e5m2/1x16:ceil",  "e6m3/1x32:e8m0",       "e6m4/1x32:e8m0",      "e4m3/1x64:mul"};
    static float x[8192], want[8192], got[8192];
    for (size_t t = 0; t < COUNT(texts); t++) {
        for (size_t s = 0; s < COUNT(shapes); s++) {
            const int64_t lines = shapes[s][0], width = shapes[s][1], n = lines * width;
            struct fpl_operand q;
            assert_true(plan_of(texts[t], NULL, &q));
            q.at.element = s == 1 ? 9 : 16 * s;
            mixed(x, n, s % 2 ? 48 : 0, 1500);
            const int64_t bad = fpl_quantize_reference(&q.plan, lines, width, width, 1, x, want, NULL, &q.at);
            for (size_t l = 0; l < 3; l++) {
                const struct fpl_kernels *k = level(level_names[l]);
                if (k == NULL) continue;
                struct fpl_device *dev;
                int64_t count = 0;
                assert_int_equal(
                    k->open(&dev, &(struct fpl_device_options){.threads = 1 + (int)(s % 2)}, NULL), FPL_OK);
                k->quantize(dev, 1, lines, width, &q, x, got, &count);
                same(texts[t], level_names[l], got, want, x, n);
                assert_int_equal(count, bad);
                k->close(dev);
            }
        }
    }
}

/* Outputs that are stored past the caches: `off` floats from where vectors are aligned. */
static void stored_past(const char *text, int64_t lines, int64_t width, int64_t off, int transposed) {
    const size_t all = (size_t)(lines * width), room = (all + 64) / 16 * 16;
    float *x = aligned_alloc(64, room * sizeof *x), *want = aligned_alloc(64, room * sizeof *x);
    float *got = aligned_alloc(64, room * sizeof *x);
    struct fpl_operand q;
    assert_true(x != NULL && want != NULL && got != NULL);
    for (size_t i = 0; i < all; i++) x[i] = sample(i % 100000 == 7 ? 4 : 0);
    assert_true(plan_of(text, NULL, &q));
    q.at.element = 64;
    const int64_t bad = transposed
                            ? fpl_quantize_reference(&q.plan, width, lines, 1, width, x, got, NULL, &q.at)
                            : fpl_quantize_reference(&q.plan, lines, width, width, 1, x, want, NULL, &q.at);
    for (int64_t i = 0; transposed && i < lines * width; i++) want[i % width * lines + i / width] = got[i];
    for (size_t l = 0; l < 3; l++) {
        const struct fpl_kernels *k = level(level_names[l]);
        struct fpl_device *dev;
        int64_t count = 0;
        if (k == NULL) continue;
        assert_int_equal(k->open(&dev, &(struct fpl_device_options){.threads = 2}, NULL), FPL_OK);
        memset(got, 0, room * sizeof *got);
        (transposed ? k->quantize_transposed : k->quantize)(dev, 1, lines, width, &q, x, got + off, &count);
        same(text, level_names[l], got + off, want, x, lines * width);
        assert_int_equal(count, bad);
        k->close(dev);
    }
    free(x), free(want), free(got);
}

static void large(void **unused) {
    (void)unused;
    static const char *const texts[] = {"e4m3/1x32",      "e2m1/64x128:e8m0", "e4m3fn:sr32",
                                        "e4m3fn:sr",      "e4m3:sr/1x32",     "e2m1:sr/1x16:e4m3fn+t",
                                        "bf16",           "e4m3/row",         "e4m3:rto/tensor",
                                        "e3m2:sr32/1x128"};
    for (size_t t = 0; t < COUNT(texts); t++) stored_past(texts[t], 1025, 4096, 0, 0);
    stored_past("e4m3/1x32", 1025, 4100, 0, 0);
    stored_past("e4m3:sr/1x32", 1025, 4096, 3, 0);
    stored_past("e4m3/1x32", 1024, 4112, 0, 1);
    stored_past("e2m1:sr/1x16", 1040, 4096, 16, 1);
    stored_past("e4m3/1x32", 1030, 4096, 0, 1);
}

/* Both operands of all three products against quantized copies multiplied unquantized. */
static void products(void **unused) {
    (void)unused;
    static const int64_t shapes[][3] = {{64, 48, 32}, {37, 33, 65}, {96, 20, 16}};
    static const char *const texts[] = {"e4m3/1x32", "e4m3:sr/1x32", "e2m1/1x16:e8m0", "e3m2/row:mul",
                                        "e3m0/col",  "e4m3/16x16",   "e2m1/tensor"};
    struct fpl_operand none;
    assert_true(plan_of("-", NULL, &none));
    for (size_t t = 0; t < COUNT(texts); t++) {
        for (size_t s = 0; s < COUNT(shapes); s++) {
            for (int role = 0; role < 3; role++) {
                const int64_t n = shapes[s][0], O = shapes[s][1], I = shapes[s][2];
                const struct fpl_kernels *k = fpl_backend("cpu");
                struct fpl_device *dev;
                struct fpl_operand q;
                assert_true(plan_of(texts[t], "bf16", &q));
                assert_int_equal(k->open(&dev, &(struct fpl_device_options){.threads = 1}, NULL), FPL_OK);
                const int64_t a_width = role == FPL_FORWARD ? I : O, b_lines = role == FPL_WGRAD ? n : O;
                float *a = k->alloc(dev, (size_t)(n * a_width) * 4),
                      *b = k->alloc(dev, (size_t)(b_lines * I) * 4);
                float *qa = k->alloc(dev, (size_t)(n * a_width) * 4),
                      *qb = k->alloc(dev, (size_t)(b_lines * I) * 4);
                float *got = k->alloc(dev, (size_t)(n * (O + I) + O * I) * 4),
                      *want = k->alloc(dev, (size_t)(n * (O + I) + O * I) * 4);
                for (int64_t i = 0; i < n * a_width; i++) a[i] = sample(0);
                for (int64_t i = 0; i < b_lines * I; i++) b[i] = sample(0);
                a[1] = from_bits(0x7f800000u);
                const int64_t bad =
                    role == FPL_WGRAD
                        ? fpl_quantize_reference(&q.plan, O, n, 1, O, a, qa, NULL, &q.at)
                        : fpl_quantize_reference(&q.plan, n, a_width, a_width, 1, a, qa, NULL, &q.at);
                if (role == FPL_FORWARD)
                    fpl_quantize_reference(&q.plan, O, I, I, 1, b, qb, NULL, &q.at);
                else
                    fpl_quantize_reference(&q.plan, I, b_lines, 1, I, b, qb, NULL, &q.at);
                int64_t count = 0;
                struct fpl_gemm g = {.role = (enum fpl_role)role,
                                     .R = 1,
                                     .n = n,
                                     .O = O,
                                     .I = I,
                                     .a = a,
                                     .b = b,
                                     .out = got,
                                     .qa = &q,
                                     .qb = &q,
                                     .weights_version = 1,
                                     .nonfinite = &count};
                k->gemm(dev, &g);
                assert_int_equal(count, bad);
                g.a = qa, g.b = qb, g.out = want, g.qa = g.qb = &none;
                k->gemm(dev, &g);
                assert_int_equal(count, bad);
                for (int64_t i = 0; i < n * (O + I) + O * I; i++)
                    if (got[i] == got[i] || want[i] == want[i]) assert_memory_equal(got + i, want + i, 4);
                k->close(dev);
                free(a), free(b), free(qa), free(qb), free(got), free(want);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding), cmocka_unit_test(scaling), cmocka_unit_test(transposing),
        cmocka_unit_test(batched),  cmocka_unit_test(large),   cmocka_unit_test(products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
