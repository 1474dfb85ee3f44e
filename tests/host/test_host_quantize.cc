/* test_host_quantize.cc - the CUDA quantizer equals fpl_quantize_reference, bit for bit.
 *
 * Every scale rule, granularity and rounding that the backend takes, contiguous and transposed views,
 * ragged edges, packs of different plans, values from subnormal to infinite; and the fast rounder
 * against the rounder itself on every exponent.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "../../formats/random.h"
#include "../../kernels/cuda/operand.h"
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
    o.at.element = 40;
    return o;
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
    struct fpl_error err;
    if (fpl_cuda_check(dev, &err) != FPL_OK) {
        printf("FAILED: %s: %s\n", first, err.text);
        exit(1);
    }
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

static void quantizers_match(struct fpl_device *dev) {
    const int64_t shapes[][2] = {{1, 1}, {3, 32}, {5, 52}, {17, 130}, {40, 264}};
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

int main(void) {
    struct fpl_device *dev = NULL;
    struct fpl_error err;
    if (fpl_cuda_open(&dev, NULL, &err) != FPL_OK) {
        printf("FAILED: %s\n", err.text);
        return 1;
    }
    fast_rounder_matches();
    for (int order = 0; order < 3; order++) {
#if FPL_HOST_EXECUTION
        fpl_host_order(order, 11);
#endif
        quantizers_match(dev);
    }
    fpl_cuda_close(dev);
    printf("%ld values compared, %d failures\n", compared, failures);
    return failures != 0;
}
