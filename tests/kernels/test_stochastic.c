/* test_stochastic.c - stochastic rounding: its probabilities, and what its bits depend on.
 *
 * P(away) of r random bits and fraction f is floor(f 2^r)/2^r (sr), f 2^r to nearest over 2^r,
 * halves up (srb) or to even (src): not f, which few bits cannot give.  Every class of format is
 * asked at a normal and a subnormal place, on both sides of zero, scaled and not, at every
 * instruction set: of N equal elements the count that went away lies within 5 standard errors
 * of N P, and is exact where P is 0 or 1.
 *
 * The bits are a function of (seed, step, stream, element): threads, cuts of the array and the
 * replicas beside one do not matter; each coordinate does.  tests/sim/test_model_sr_independence.c
 * shows the same of training: micro-batches, packs, roles, layers and steps.
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

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *const level_names[] = {"avx512", "avx2", "baseline"};

static const struct fpl_kernels *level(const char *name) {
    setenv("FPLAW_SIMD", name, 1);
    const struct fpl_kernels *k = strcmp(fpl_simd_level(), name) == 0 ? fpl_backend("cpu") : NULL;
    unsetenv("FPLAW_SIMD");
    return k;
}

static void operand_of(const char *text, const struct fpl_random_at *at, struct fpl_operand *q) {
    struct fpl_quantizer parsed;
    struct fpl_error err = {FPL_OK, ""};
    memset(q, 0, sizeof *q);
    if (fpl_quantizer_parse(text, &parsed, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    fpl_quantizer_lower(&parsed, NULL, &q->plan);
    q->at = *at;
}

static void quantize(const struct fpl_kernels *k, int threads, int R, int64_t rows, int64_t cols,
                     const struct fpl_operand *q, const float *x, float *out) {
    struct fpl_device *dev;
    int64_t bad[4];
    assert_int_equal(k->open(&dev, &(struct fpl_device_options){.threads = threads}, NULL), FPL_OK);
    k->quantize(dev, R, rows, cols, q, x, out, bad);
    k->close(dev);
}

/* ---- probabilities ---------------------------------------------------------------------------- */

enum { N = 1 << 14, EVERY = 64 }; /* each EVERYth element is the largest value: scales are 1 */

static const float *two_values(const char *name, int place, double *largest) {
    static float pair[2];
    struct fpl_format f;
    struct fpl_format_limits limits;
    assert_int_equal(fpl_element_parse(name, &f, NULL), FPL_OK);
    fpl_format_limits(&f, &limits);
    *largest = limits.largest;
    const uint32_t top = fpl_format_top_code(&f);
    uint32_t code = place == 0 ? top - top / 4 : place == 1 ? (f.mbits > 0 && f.subnormals ? 1 : 0) : 0;
    if (f.codebook != 0) code = place == 0 ? top - 2 : top / 2 + 1;
    if (!f.subnormals && code == 0) code = 1u << f.mbits;
    pair[0] = (float)fpl_format_value(&f, code);
    pair[1] = (float)fpl_format_value(&f, code + 1);
    return pair;
}

static double probability(char definition, int r, double f) {
    const double t = ldexp(f, r);
    const double whole = definition == 'a' ? floor(t) : definition == 'b' ? floor(t + 0.5) : rint(t);
    return ldexp(whole, -r);
}

static uint32_t draws;

/* The farthest count from its mean, in standard errors. */
static double check(const struct fpl_kernels *k, const char *text, float near, float far, float largest,
                    float x, double p) {
    static float in[N], out[N];
    struct fpl_operand q;
    const struct fpl_random_at at = {.seed = 0x5eedu, .step = 7, .stream = draws++, .element = 3};
    operand_of(text, &at, &q);
    for (int i = 0; i < N; i++) in[i] = i % EVERY ? x : largest;
    quantize(k, 1, 1, 1, N, &q, in, out);
    int n = 0, away = 0;
    for (int i = 0; i < N; i++) {
        if (i % EVERY == 0) continue;
        if (out[i] != near && out[i] != far)
            fail_msg("%s: %a becomes %a, which is not its neighbour", text, (double)x, (double)out[i]);
        n++;
        away += out[i] == far;
    }
    const double error = sqrt(n * p * (1 - p)), off = fabs((double)away - n * p);
    if (off > 5 * error)
        fail_msg("%s: %a between %a and %a went away %d times of %d, expected %.1f, error %.1f", text,
                 (double)x, (double)near, (double)far, away, n, n * p, error);
    return error > 0 ? off / error : 0;
}

static void counts_follow_the_definition(void **unused) {
    static const char *const formats[] = {"e4m3",       "e4m3fn", "e5m2ieee",    "e4m3fnuz", "e4m3p3109e",
                                          "e3m3p3109f", "e2m1",   "e3m0",        "e1m2",     "int4",
                                          "mxint8",     "uint4",  "ue4m3fn",     "e4m3fnns", "fp16",
                                          "bf16",       "tf32",   "e4m3b11fnuz", "ue5m3fn",  "nf4"};
    static const int bits[] = {1, 4, 7, 16, 17, 32};
    static const double fractions[] = {0.03, 0.40625, 0.7193};
    static const char *const scales[] = {"", "/row", "/1x64:e8m0"};
    double most = 0;
    int cases = 0;
    (void)unused;
    for (size_t f = 0; f < COUNT(formats); f++)
        for (size_t b = 0; b < COUNT(bits); b++)
            for (int d = 0; d < 3; d++)
                for (size_t c = 0; c < COUNT(fractions); c++) {
                    const int place = (int)(b + c) % 2,
                              negative = (int)(f + b + c) % 2 && formats[f][0] != 'u';
                    const char *scale = scales[(f + b + c) % 3];
                    double largest;
                    const float *pair = two_values(formats[f], place, &largest);
                    const float near = pair[0], far = pair[1];
                    const float x = (float)((double)near + fractions[c] * ((double)far - (double)near));
                    const double exact = ((double)x - (double)near) / ((double)far - (double)near);
                    const double p = probability((char)('a' + d), bits[b], exact);
                    /* nf4 is not symmetric, and has no power-of-two largest value's exponent to spare */
                    const float sign = negative && strcmp(formats[f], "nf4") != 0 ? -1.0f : 1.0f;
                    char text[64];
                    snprintf(text, sizeof text, "%s:sr%d%c%s", formats[f], bits[b], 'a' + d, scale);
                    for (size_t l = 0; l < COUNT(level_names); l++) {
                        const struct fpl_kernels *k = level(level_names[l]);
                        if (k == NULL) continue;
                        const double off =
                            check(k, text, sign * near, sign * far, (float)largest, sign * x, p);
                        most = off > most ? off : most;
                        cases++;
                    }
                }
    print_message("%d cases, the farthest %.2f standard errors from its mean\n", cases, most);
    assert_true(cases >= (int)(COUNT(formats) * COUNT(bits) * 9));
    assert_true(most > 2); /* the errors are of the size that chance gives */
}

/* ---- what the bits depend on -------------------------------------------------------------------- */

enum { ROWS = 24, COLS = 2048, SIZE = ROWS * COLS };

static const char *const invariant[] = {"e4m3fn:sr",          "e2m1:sr5b",   "bf16:sr20c",
                                        "int8:sr32",          "e3m2:sr/row", "e4m3fn:sr/1x32:e8m0",
                                        "e2m1:sr/1x16:rceil", "nf4:sr7/1x64"};

static void noise(float *x) {
    for (int i = 0; i < SIZE; i += 4) {
        uint32_t w[4];
        fpl_random_block(77, (uint64_t)i, 0, fpl_stream(FPL_STREAM_TEST, 4), w);
        for (int k = 0; k < 4; k++) x[i + k] = ((float)(w[k] >> 8) * 0x1p-23f - 1.0f) * 5.0f;
    }
}

static void bits_do_not_depend_on_threads_or_cuts(void **unused) {
    static float x[SIZE], whole[SIZE], other[SIZE];
    const struct fpl_random_at at = {.seed = 0x123456789abcdefu, .step = 5, .stream = 9, .element = 1000003};
    (void)unused;
    noise(x);
    for (size_t t = 0; t < COUNT(invariant); t++) {
        struct fpl_operand q;
        operand_of(invariant[t], &at, &q);
        fpl_quantize_reference(&q.plan, ROWS, COLS, COLS, 1, x, whole, NULL, &q.at);
        for (size_t l = 0; l < COUNT(level_names); l++) {
            const struct fpl_kernels *k = level(level_names[l]);
            if (k == NULL) continue;
            for (int threads = 1; threads <= 5; threads += 2) {
                quantize(k, threads, 1, ROWS, COLS, &q, x, other);
                assert_memory_equal(whole, other, sizeof whole);
            }
            /* Rows one by one, then cuts inside rows where groups allow them. */
            for (int r = 0; r < ROWS; r++) {
                const int cut = q.plan.granularity == FPL_UNSCALED ? 1 + 61 * r
                                : q.plan.granularity == FPL_ROW    ? 0
                                                                   : 64 * (r + 1);
                struct fpl_operand part = q;
                part.at.element = at.element + (uint64_t)r * COLS;
                if (cut > 0) quantize(k, 1, 1, 1, cut, &part, x + r * COLS, other + r * COLS);
                part.at.element += (uint64_t)cut;
                quantize(k, 1, 1, 1, COLS - cut, &part, x + r * COLS + cut, other + r * COLS + cut);
            }
            assert_memory_equal(whole, other, sizeof whole);
        }
        /* Each coordinate matters. */
        for (int c = 0; c < 4; c++) {
            struct fpl_operand moved = q;
            moved.at.seed += c == 0;
            moved.at.step += c == 1;
            moved.at.stream += c == 2;
            moved.at.element += c == 3;
            fpl_quantize_reference(&moved.plan, ROWS, COLS, COLS, 1, x, other, NULL, &moved.at);
            assert_memory_not_equal(whole, other, sizeof whole);
        }
    }
}

static void bits_do_not_depend_on_other_replicas(void **unused) {
    enum { R = 3 };
    static float x[R * SIZE], out[R * SIZE], alone[SIZE];
    (void)unused;
    for (int r = 0; r < R; r++) noise(x + r * SIZE);
    for (size_t t = 0; t + R <= COUNT(invariant); t++) {
        struct fpl_operand q[R];
        for (int r = 0; r < R; r++) {
            const struct fpl_random_at at = {.seed = 40 + (uint64_t)r, .step = 5, .stream = 9, .element = 64};
            operand_of(invariant[t + (size_t)r], &at, &q[r]);
        }
        const struct fpl_kernels *k = fpl_backend("cpu");
        quantize(k, 2, R, ROWS, COLS, q, x, out);
        for (int r = 0; r < R; r++) {
            quantize(k, 1, 1, ROWS, COLS, &q[r], x + r * SIZE, alone);
            assert_memory_equal(out + r * SIZE, alone, sizeof alone);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_follow_the_definition),
                                       cmocka_unit_test(bits_do_not_depend_on_threads_or_cuts),
                                       cmocka_unit_test(bits_do_not_depend_on_other_replicas)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
