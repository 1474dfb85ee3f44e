/* test_host_quantize.cc - the CUDA quantizer equals fpl_quantize_reference, bit for bit.
 *
 * Every scale rule, granularity and rounding that the backend takes, contiguous and transposed views,
 * ragged edges, packs of different plans, values from subnormal to infinite; the fast rounder
 * against the rounder itself on every exponent; the short way of an element, division by a scale included,
 * against fpl_quantize_element; carriers against float32; transposed results and pairs from one read.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "../../formats/random.h"
#include "../../kernels/cuda/operand.h"
#include "../../kernels/cuda/operations.h"
#include "../../kernels/cuda/round_fast.h"

static int failures;
static long compared;

static uint64_t state = 12345;
static uint32_t draw(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* Normal-like values with outliers, zeros, subnormals and a few infinities and NaNs. */
static float value(void) {
    const uint32_t kind = draw() % 200;
    float x = ((float)(draw() % 2001) - 1000.0f) * 0x1p-9f * ((float)(draw() % 1000) + 1.0f) * 0x1p-10f;
    if (kind == 0) return 0.0f;
    if (kind == 1) return -0.0f;
    if (kind == 2) return fpl_bits_float(draw() % 0x800000u);
    if (kind == 3) return INFINITY;
    if (kind == 4) return -NAN;
    if (kind < 10) x *= 0x1p40f;
    if (kind < 14) x *= 0x1p-120f;
    return x;
}

static uint64_t first_element = 40;

static int same(float a, float b) { return fpl_float_bits(a) == fpl_float_bits(b) || (a != a && b != b); }

static struct fpl_operand operand(const char *text, uint64_t seed) {
    struct fpl_operand o;
    struct fpl_quantizer q;
    struct fpl_error err;
    memset(&o, 0, sizeof o);
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) {
        printf("FAILED: %s: %s\n", text, err.text);
        exit(1);
    }
    fpl_quantizer_lower(&q, NULL, &o.plan);
    o.at.seed = seed;
    o.at.step = 3;
    o.at.stream = 17;
    o.at.element = first_element;
    return o;
}

/* Results are there only now. */
static void finished(struct fpl_device *dev, const char *what) {
    struct fpl_error err;
    if (fpl_cuda_check(dev, &err) == FPL_OK) return;
    printf("FAILED: %s: %s\n", what, err.text);
    exit(1);
}

/* A pack of two plans through one view; transposed: the reduction axis runs over memory's lines. */
static void check(struct fpl_device *dev, const char *first, const char *second, int64_t lines, int64_t width,
                  int transposed) {
    const int R = 2;
    const int64_t count = lines * width;
    const struct fpl_operand q[2] = {operand(first, 5), operand(second, 6)};
    const struct fpl_cuda_view view = transposed ? fpl_cuda_view{width, lines, 1, width, count, 1}
                                                 : fpl_cuda_view{lines, width, width, 1, count, 1};
    std::vector<float> x((size_t)(R * count)), got(x.size()), want(x.size());
    for (float &v : x) v = value();
    std::vector<int64_t> bad(R, 0);
    fpl_cuda_quantize_view(dev, R, &view, q, x.data(), got.data(), FPL_CARRIER_FP32, bad.data());
    finished(dev, first);
    for (int r = 0; r < R; r++) {
        const int64_t n =
            fpl_quantize_reference(&q[r].plan, view.rows, view.cols, view.row_stride, view.col_stride,
                                   &x[(size_t)(r * count)], &want[(size_t)(r * count)], NULL, &q[r].at);
        if (n != bad[(size_t)r])
            printf("FAILED: %s: %lld non-finite, %lld counted\n", first, (long long)n,
                   (long long)bad[(size_t)r]),
                failures++;
        for (int64_t i = 0; i < count; i++, compared++) {
            const size_t at = (size_t)(r * count + i);
            if (same(got[at], want[at])) continue;
            printf("FAILED: %s / %s, %lldx%lld%s, replica %d, element %lld: %a gives %a, reference %a\n",
                   first, second, (long long)lines, (long long)width, transposed ? " transposed" : "", r,
                   (long long)i, (double)x[at], (double)got[at], (double)want[at]);
            failures++;
            return;
        }
    }
}

static const char *const quantizers[] = {"e4m3fn",
                                         "bf16",
                                         "fp16",
                                         "e2m1",
                                         "e3m2:rna",
                                         "e5m2ieee:rtz",
                                         "e2m3:rto",
                                         "e4m3:sr",
                                         "e4m3:sr5",
                                         "e5m2:sr32",
                                         "e8m0",
                                         "e2m0",
                                         "e3m0",
                                         "e4m3fnuz",
                                         "e4m3ns",
                                         "ue4m3fn",
                                         "int8/row",
                                         "e4m3/1x16",
                                         "e4m3/1x32",
                                         "e2m1/1x32:e8m0",
                                         "e4m3fn/1x32:rceil",
                                         "e3m2/1x64:even",
                                         "e2m1/1x128:ceil",
                                         "e2m1/1x16:e4m3fn",
                                         "e2m1/1x16:e4m3fn+t",
                                         "e2m1/16x16:e4m3fn+t",
                                         "e4m3/row",
                                         "e4m3/col",
                                         "e4m3/tensor",
                                         "e4m3/3x5",
                                         "e4m3/128x128",
                                         "e4m3:sr/1x32",
                                         "e2m1:sr/1x16:e4m3fn+t",
                                         "e4m3/1x24",
                                         "e2m1/1x8:p3109",
                                         "e4m3:rna/1x32:mul",
                                         "e4m3p3109e/1x32",
                                         "e4m3:satp",
                                         "e5m2ieee:ovf",
                                         "e3m2/1x200",
                                         "nf4/1x64",
                                         NULL};

/* Shapes for the kernels that hold tiles, and first elements that share Philox blocks or do not. */
static void tiles_match(struct fpl_device *dev) {
    static const char *const tall[] = {
        "e4m3fn/1x16:e8m0", "e2m1:sr/1x32:e8m0", "e3m2/1x64", "e4m3:sr/1x128", "e5m2ieee:rna/1x256",
        "e4m3fn/row",       "int8:sr/row",       "fp16",      "bf16:sr",       "tf32:rna",
        "e4m3fnuz/1x32"};
    for (const char *text : tall)
        for (uint64_t element : {40u, 44u, 41u}) {
            first_element = element;
            check(dev, text, text, 300, 36, 1);
            check(dev, text, text, 136, 100, 1);
            check(dev, text, text, 16, 272, 0);
        }
    first_element = 40;
}

static void quantizers_match(struct fpl_device *dev) {
    /* The last ones fill a warp's chunk of runs and a tile of 32 x 32, and more. */
    const int64_t shapes[][2] = {{1, 1}, {3, 32}, {5, 52}, {17, 130}, {40, 264}, {72, 128}};
    for (int i = 0; quantizers[i] != NULL; i++)
        for (const auto &s : shapes)
            for (int transposed = 0; transposed < 2; transposed++) {
                const char *other =
                    quantizers[(i * 7 + 3) % (int)(sizeof quantizers / sizeof *quantizers - 1)];
                check(dev, quantizers[i], quantizers[i], s[0], s[1], transposed);
                check(dev, quantizers[i], other, s[0], s[1], transposed);
            }
}

/* Upper 12 bits exhaustive times boundary patterns below them. */
static void fast_rounder_matches(void) {
    const char *const fast[] = {"e4m3fn",     "e5m2ieee", "e2m1",     "e3m2",     "e2m3",    "e8m2b130",
                                "bf16:sat",   "e4m3:rna", "e3m2:rtz", "e5m2:rto", "e4m3:sr", "e2m1:sr3",
                                "e5m10:sr16", "int8",     "mxint8",   "e1m2",     "e6m9:rna"};
    int used = 0;
    for (const char *text : fast) {
        struct fpl_quantizer parsed;
        if (fpl_quantizer_parse(text, &parsed, NULL) != FPL_OK) continue;
        const struct fpl_operand o = operand(text, 1);
        if (!fpl_round_is_fast(&o.plan.round)) continue;
        used++;
        for (uint32_t high = 0; high < 0x1000; high++)
            for (int k = 0; k < 40; k++, compared++) {
                const uint32_t low = k < 21 ? (1u << k) - 1u : k < 36 ? 1u << (k - 16) : draw();
                const float x = fpl_bits_float(high << 20 | (low & 0xfffffu));
                const uint32_t bits =
                    o.plan.round.mode == FPL_SR ? draw() & ((1u << o.plan.round.sr_bits) - 1u) : 0;
                const float got = fpl_round_fast(&o.plan.round, x, bits),
                            want = fpl_round_value(&o.plan.round, x, bits);
                if (same(got, want)) continue;
                printf("FAILED: fast %s of %a with %u: %a, rounder %a\n", text, (double)x, bits, (double)got,
                       (double)want);
                if (++failures > 20) return;
            }
    }
    if (used < 12) printf("FAILED: only %d formats take the fast rounder\n", used), failures++;
}

/* The short way: scales as a plan makes them from an amax, elements up to that and a little beyond. */
static void short_way_matches(void) {
    const char *const texts[] = {"e4m3fn/1x32",     "e5m2:sr/1x32", "e2m1/1x16:e4m3fn+t", "e3m2:rna/row",
                                 "int8/row",        "e2m3:rtz/row", "e4m3:rna/row:mul",   "e5m2ieee:ovf/row",
                                 "e4m3fnuz/tensor", "e6m9/row",     "e2m1/1x16:ue5m3fn",  "e5m10:sr5/row"};
    long quick = 0;
    for (const char *text : texts) {
        const struct fpl_operand o = operand(text, 1);
        const struct fpl_quick q = fpl_quick_of(&o.plan);
        for (int i = 0; i < 300000; i++, compared++) {
            const float amax = fpl_bits_float(draw() % 0x7f800000u);
            const struct fpl_group_scale g = fpl_group_scale(&o.plan, amax, 8.0f);
            const struct fpl_quick_scale s = fpl_quick_scale_of(&q, &g);
            const uint32_t below = (draw() & 7u) == 0 ? draw() % 0x7f800000u : draw() % 0x08000000u;
            const uint32_t a = fpl_float_bits(amax), sign = draw() << 31;
            const float x = fpl_bits_float(sign | (a + 2u > below ? a + 2u - below : a));
            const uint32_t random = q.random_bits != 0 ? draw() & ((1u << q.random_bits) - 1u) : 0;
            if (!fpl_quick_reaches(&s, fabsf(x))) continue;
            quick++;
            const float got = q.kind == FPL_QUICK_NEAREST
                                  ? fpl_quick_element<FPL_QUICK_NEAREST>(&q, &s, x, random)
                                  : fpl_quick_element<FPL_QUICK_DOWN>(&q, &s, x, random);
            const float want = fpl_quantize_element(&o.plan, &g, x, random);
            if (fpl_float_bits(got) == fpl_float_bits(want)) continue;
            printf("FAILED: short way of %s, amax %a, %a with %u: %a, reference %a\n", text, (double)amax,
                   (double)x, random, (double)got, (double)want);
            if (++failures > 20) return;
        }
    }
    if (quick < compared / 100 || quick < 1000000) printf("FAILED: %ld short ways only\n", quick), failures++;
}

/* quantize_transposed and quantize_both against the reference, turned. */
static void pair_matches(struct fpl_device *dev, const char *within, const char *along, int64_t rows,
                         int64_t cols) {
    const int R = 2;
    const int64_t count = rows * cols;
    const struct fpl_operand a[2] = {operand(within, 5), operand(within, 6)},
                             b[2] = {operand(along, 7), operand(along, 8)};
    std::vector<float> x((size_t)(R * count)), out(x.size()), turned(x.size()), alone(x.size()),
        want(x.size());
    std::vector<int64_t> bad(R, 0);
    for (float &v : x) v = value();
    fpl_cuda_quantize_both(dev, R, rows, cols, a, b, x.data(), out.data(), turned.data(), bad.data());
    fpl_cuda_quantize_transposed(dev, R, rows, cols, b, x.data(), alone.data(), NULL);
    finished(dev, within);
    for (int r = 0; r < R; r++) {
        const float *from = &x[(size_t)(r * count)];
        float *to = &want[(size_t)(r * count)];
        int64_t n = fpl_quantize_reference(&a[r].plan, rows, cols, cols, 1, from, to, NULL, &a[r].at);
        int wrong = 0;
        for (int64_t i = 0; i < count; i++, compared++) wrong += !same(out[(size_t)(r * count + i)], to[i]);
        n += fpl_quantize_reference(&b[r].plan, cols, rows, 1, cols, from, to, NULL, &b[r].at);
        for (int64_t i = 0; i < count; i++, compared++) {
            const size_t at = (size_t)(r * count + i % cols * rows + i / cols);
            wrong += !same(turned[at], to[i]) + !same(alone[at], to[i]);
        }
        if (wrong == 0 && n == bad[(size_t)r]) continue;
        printf("FAILED: pair %s, %s of %lldx%lld: %d values differ, %lld of %lld non-finite\n", within, along,
               (long long)rows, (long long)cols, wrong, (long long)bad[(size_t)r], (long long)n);
        failures++;
    }
}

static void pairs_match(struct fpl_device *dev) {
    static const char *const pairs[][2] = {{"e4m3fn/1x32:e8m0", "e4m3fn/1x32:e8m0"},
                                           {"e2m1/1x16:e4m3fn+t", "e2m1:sr/1x16:e4m3fn+t"},
                                           {"e5m2:sr/1x32", "e4m3/1x128"},
                                           {"e4m3fn/tensor", "e4m3:sr/row"},
                                           {"bf16", "e3m2:rna/1x64"},
                                           {"e4m3/1x16", "e4m3"},
                                           {"e4m3fn/1x128", "e2m1/16x16"},
                                           {"uint4/1x8+z", "int4/1x8+mse"}};
    const int64_t shapes[][2] = {{64, 64}, {72, 100}, {264, 36}, {33, 50}};
    for (const auto &p : pairs)
        for (const auto &s : shapes) pair_matches(dev, p[0], p[1], s[0], s[1]);
}

static float decoded(enum fpl_cuda_carrier c, uint16_t code) {
    if (c == FPL_CARRIER_BF16) return fpl_bits_float((uint32_t)code << 16);
    const int field = code >> 10 & 31, sign = code >> 15;
    const float f = field == 31 ? (code & 1023 ? NAN : INFINITY)
                                : ldexpf((float)(field == 0 ? code & 1023 : (code & 1023) | 1024),
                                         (field == 0 ? 1 : field) - 25);
    return sign ? -f : f;
}

/* What a carrier holds is what float32 holds, on every way that writes one. */
static void carriers_match(struct fpl_device *dev) {
    static const char *const texts[] = {
        "e4m3fn",         "e5m2ieee",          "e2m1:sr",          "fp16:satp",     "e3m2/1x200:e8m0",
        "e2m1/1x32:e8m0", "e4m3/tensor:floor", "int4/16x16:rceil", "e2m1/row:even", "e2m1/1x5:ceil"};
    const int64_t lines = 48, width = 96, count = lines * width;
    for (const char *text : texts)
        for (enum fpl_cuda_carrier c : {FPL_CARRIER_BF16, FPL_CARRIER_FP16, FPL_CARRIER_TF32})
            for (int transposed = 0; transposed < 2; transposed++) {
                const struct fpl_operand q = operand(text, 5);
                const struct fpl_cuda_view view = transposed
                                                      ? fpl_cuda_view{width, lines, 1, width, count, 1}
                                                      : fpl_cuda_view{lines, width, width, 1, count, 1};
                std::vector<float> x((size_t)count), want(x.size()), got(x.size());
                for (float &v : x)
                    v = ldexpf((float)(draw() % 4001) - 2000.0f, -10); /* far from fp16's ends */
                x[7] = NAN;
                if (c == FPL_CARRIER_BF16 && strncmp(text, "fp16", 4) == 0) continue;
                fpl_cuda_quantize_view(dev, 1, &view, &q, x.data(), want.data(), FPL_CARRIER_FP32, NULL);
                fpl_cuda_quantize_view(dev, 1, &view, &q, x.data(), got.data(), c, NULL);
                finished(dev, text);
                for (int64_t i = 0; i < count; i++, compared++) {
                    uint16_t code;
                    memcpy(&code, (const char *)got.data() + 2 * i, 2);
                    const float held = fpl_cuda_carrier_bytes(c) == 2 ? decoded(c, code) : got[(size_t)i];
                    if (same(held, want[(size_t)i])) continue;
                    printf("FAILED: %s in carrier %d: %a is held as %a\n", text, (int)c,
                           (double)want[(size_t)i], (double)held);
                    failures++;
                    break;
                }
            }
}

int main(void) {
    struct fpl_device *dev = NULL;
    struct fpl_error err;
    struct fpl_device_options options;
    memset(&options, 0, sizeof options);
    options.threads = 1;
    if (fpl_cuda_open(&dev, &options, &err) != FPL_OK) {
        printf("FAILED: %s\n", err.text);
        return 1;
    }
    fast_rounder_matches();
    short_way_matches();
    carriers_match(dev);
    for (int order = 0; order < 3; order++) {
#if FPL_HOST_EXECUTION
        fpl_host_order(order, 11);
#endif
        quantizers_match(dev);
        tiles_match(dev);
        pairs_match(dev);
    }
    fpl_cuda_close(dev);
    printf("%ld values compared, %d failures\n", compared, failures);
    return failures != 0;
}
