/* test_reference_quantize.c - the backend's standalone quantizer equals
 * fpl_quantize_reference bit for bit.
 *
 * Walks formats x roundings and overflows x granularities x scale rules on ragged shapes,
 * with packs of different quantizers, values over many binades, groups of zeros,
 * subnormals, both ends of float32, Inf and NaN; counts of non-finite inputs agree.
 */
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

enum { MOST = 3 };

struct job {
    int64_t rows, cols;
    struct fpl_operand q[MOST];
};

static void call_quantize(const struct harness *hh, struct fpl_device *dev, int first, int R, void **p,
                          const void *shape) {
    const struct job *j = shape;
    hh->kernels->quantize(dev, R, j->rows, j->cols, j->q + first, p[0], p[1], p[2]);
}

static void set_plan(struct fpl_operand *o, const char *text, const char *post, uint32_t stream) {
    struct fpl_quantizer q;
    struct fpl_format f;
    struct fpl_error err = {0};
    if (fpl_quantizer_parse(text, &q, &err) != FPL_OK) fail_msg("%s: %s", text, err.text);
    if (post && fpl_format_parse(post, &f, &err) != FPL_OK) fail_msg("%s: %s", post, err.text);
    fpl_quantizer_lower(&q, post ? &f : NULL, &o->plan);
    o->at = (struct fpl_random_at){.seed = 5 + stream, .step = 2, .stream = stream, .element = 17 * stream};
}

static float sample(int kind, int64_t i) {
    const double u = harness_normal();
    if (kind == 0) return (float)u;
    if (kind == 1) return (float)ldexp(u, (int)(harness_draw() % 40) - 20);
    if (kind == 2) return (float)ldexp(u, (i / 32) % 2 ? 125 : -135);
    switch (harness_draw() % 24) {
    case 0:
        return INFINITY;
    case 1:
        return -INFINITY;
    case 2:
        return NAN;
    case 3:
        return -0.0f;
    case 4:
        return 0.0f;
    case 5:
        return 0x1.fffffep127f;
    case 6:
        return 0x1p-149f;
    default:
        return i / 48 % 3 == 0 ? 0.0f : (float)u;
    }
}

static void run_job(const char *name, struct job *j, int R, int kind) {
    const int64_t size = j->rows * j->cols;
    if (!harness_take()) return;
    float *x = harness_alloc(R * size, sizeof *x), *got = harness_nans(R * size);
    float *want = harness_alloc(size, sizeof *want);
    int64_t nonfinite[MOST] = {0};
    for (int64_t i = 0; i < R * size; i++) x[i] = sample(kind, i);
    struct harness_buffer buffers[] = {{x, (size_t)size * sizeof *x, 0},
                                       {got, (size_t)size * sizeof *got, 0},
                                       {nonfinite, sizeof *nonfinite, 0}};
    harness_run(&h, name, call_quantize, j, R, buffers, 3);
    for (int r = 0; r < R; r++) {
        const struct fpl_operand *q = &j->q[r];
        const int64_t bad =
            fpl_quantize_reference(&q->plan, j->rows, j->cols, j->cols, 1, x + r * size, want, NULL, &q->at);
        char where[160];
        snprintf(where, sizeof where, "%s, %lldx%lld, data %d, replica %d", name, (long long)j->rows,
                 (long long)j->cols, kind, r);
        harness_same_bits(where, got + r * size, want, size);
        if (!q->plan.identity && nonfinite[r] != bad)
            fail_msg("%s: %lld non-finite, expected %lld", where, (long long)nonfinite[r], (long long)bad);
    }
    free(x);
    free(got);
    free(want);
}

static const char *const formats[] = {"e4m3fn", "e4m3", "e5m2ieee", "e5m2", "e3m2", "e2m3",  "e2m1",
                                      "e1m2",   "e3m0", "e2m0",     "e1m1", "int8", "int4",  "mxint8",
                                      "bf16",   "fp16", "tf32",     "fp32", "e6m9", "e4m3ns"};
static const char *const roundings[] = {"",     ":rna",     ":rtz",    ":sr",       ":rup",
                                        ":rdn", ":rto:ovf", ":sr:ovf", ":rne:satp", ":sr8"};
static const char *const grains[] = {"",      "/tensor", "/row",   "/col", "/1x32",
                                     "/1x16", "/1x1",    "/16x16", "/3x7", "/1x100"};
static const char *const rules[] = {"", ":e8m0", ":rceil", ":mul"};

static int accepted(const char *text) {
    struct fpl_quantizer q;
    struct fpl_error err = {0};
    return fpl_quantizer_parse(text, &q, &err) == FPL_OK;
}

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static void test_sweep(void **unused) {
    (void)unused;
    static const int64_t shapes[][2] = {{1, 1}, {3, 31}, {5, 64}, {17, 33}, {1, 200}, {34, 16}};
    int tried = 0;
    for (int f = 0; f < COUNT(formats); f++) {
        for (int r = 0; r < COUNT(roundings); r++) {
            for (int g = 0; g < COUNT(grains); g++) {
                for (int s = 0; s < (g == 0 ? 1 : COUNT(rules)); s++) {
                    char text[96];
                    snprintf(text, sizeof text, "%s%s%s%s", formats[f], roundings[r], grains[g], rules[s]);
                    if (!accepted(text)) continue;
                    const int pick = f * 7 + r * 5 + g * 3 + s;
                    struct job j = {.rows = shapes[pick % 6][0], .cols = shapes[pick % 6][1]};
                    set_plan(&j.q[0], text, pick % 7 == 0 ? "bf16" : NULL, (uint32_t)pick % 5);
                    harness_seed((uint64_t)pick);
                    run_job(text, &j, 1, pick % 4);
                    tried++;
                }
            }
        }
    }
    print_message("%d quantizers\n", tried);
    assert_true(tried > 4000);
}

static void test_packs(void **unused) {
    (void)unused;
    static const char *const packs[][3] = {{"e4m3fn/1x32:e8m0", "e2m1:sr/1x32:e8m0", "-"},
                                           {"bf16", "e3m2/tensor", "e2m1/16x16"},
                                           {"e4m3:rna/row:mul", "e4m3:rna/1x32:mul", "int8/col"},
                                           {"e2m1:sr24/row", "e2m1:sr/row", "e2m1:sr8/row"}};
    static const int64_t shapes[][2] = {{64, 96}, {129, 65}, {1, 4099}, {300, 40}};
    for (int p = 0; p < 4; p++) {
        for (int s = 0; s < 4; s++) {
            for (int kind = 0; kind < 4; kind++) {
                struct job j = {.rows = shapes[s][0], .cols = shapes[s][1]};
                for (int r = 0; r < 3; r++)
                    set_plan(&j.q[r], packs[p][r], s == 3 ? "bf16" : NULL, (uint32_t)r);
                harness_seed((uint64_t)(9000 + p * 16 + s * 4 + kind));
                run_job(packs[p][0], &j, 3, kind);
            }
        }
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
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_packs),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
