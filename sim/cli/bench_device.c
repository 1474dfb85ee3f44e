/* bench_device.c - `fplaw bench --device cuda`: the operations of a device against what it can do at best.
 *
 *   quantize   any format, scale given or found in blocks: against a copy between two buffers of the
 *              device, which reads and writes the same bytes and does nothing else
 *   both       row-wise and column-wise copies of one operand from one read: against the same copy,
 *              for the 4 + 8 bytes an element that it moves
 *   product    both operands quantized on the fly from float32: against the vendor's bfloat16 product of
 *              operands that lie ready
 *   accumulate products rounded as accumulators of less width do: against the vendor's float32 product
 *              without matrix units
 *
 * Ours and the peer run turn about; calls are queued until one measurement takes two milliseconds, so
 * that the cost of starting them is seen as training sees it.  A peer that is not to be had (no
 * library) leaves its rows out.  `bits` hashes the first and the last megabyte of the output.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/recipe.h"
#include "../../kernels/kernels.h"
#include "../base/file.h"
#include "../train/machine.h"
#include "bench.h"

enum { REPEATS = 15, CHUNK = 1 << 18, WIDTH = 4096 };
#define LONG_ENOUGH 2e-3 /* seconds of one measurement */

static const char *const quantizers[] = {
    /* scale given */
    "bf16", "e4m3fn", "e5m2ieee", "e4m3", "e3m2", "e2m3", "e2m1", "e3m0",
    /* blocks */
    "e4m3fn/1x32", "e5m2ieee/1x32", "e4m3/1x32", "e3m2/1x32", "e2m3/1x32", "e2m1/1x32", "e2m1/1x32:e8m0",
    "e2m1/1x16:e4m3fn+t", "e4m3/1x128", "e4m3/tensor",
    /* 16 random bits */
    "e4m3fn:sr", "e4m3:sr/1x32"};
static const char *const turned[] = {"e4m3/1x32", "e2m1/1x32:e8m0"};
static const char *const products[] = {"mxfp8", "mxfp4", "full:e2m1/1x16:e4m3fn+t"};
static const int64_t product_sizes[] = {1024, 2048, 4096}; /* N = K; M = 8192 */
static const char *const accumulators[] = {
    "chunk:fp16/128",  "fp16",    "bf16",    "e4m3fn", "fp32:rtz", "align:16,25",
    "align:32,13/128", "bf16/32", "bf16:sr", "fp16:sr"};

struct bench_device {
    struct fpl_bench *b;
    const struct fpl_kernels *k;
    struct fpl_device *dev;
    size_t n;           /* floats of each buffer */
    float *x, *w, *out; /* device */
    float *noise;       /* host [CHUNK] */
};

/* ---- timing ----------------------------------------------------------------------------------- */

struct work {                                                 /* what a measurement repeats */
    int (*run)(struct bench_device *d, const struct work *w); /* 0: cannot be done */
    const struct fpl_operand *qa, *qb;
    const struct fpl_accumulator_plan *accumulator;
    int64_t rows, cols, depth;
    int bf16;
};

static double seconds_of(struct bench_device *d, const struct work *w, int times) {
    const double start = fpl_clock();
    for (int i = 0; i < times; i++)
        if (!w->run(d, w)) return 0.0;
    (void)d->k->check(d->dev, NULL);
    return (fpl_clock() - start) / times;
}

static int calls_for(struct bench_device *d, const struct work *w) {
    seconds_of(d, w, 1); /* chooses algorithms, allocates scratch */
    const double once = seconds_of(d, w, 2);
    return d->b->quick || !(once > 0) ? 1 : (int)fmin(1000.0, 1.0 + LONG_ENOUGH / once);
}

static void hash_output(struct bench_device *d, size_t n, char bits[33]) {
    const size_t part = n < CHUNK ? n : CHUNK;
    float *ends = malloc(2 * part * sizeof *ends);
    bits[0] = '\0';
    if (ends == NULL) return;
    d->k->download(d->dev, ends, d->out, part * sizeof *ends);
    d->k->download(d->dev, ends + part, d->out + n - part, part * sizeof *ends);
    fpl_hash_text((const char *)ends, 2 * part * sizeof *ends, bits);
    free(ends);
}

/* One row; amount: of the unit, for one call of ours. */
static enum fpl_code measure(struct bench_device *d, const struct work *ours, const struct work *peer,
                             const char *unit, double amount, const char *peer_name, const char *name,
                             size_t hashed, struct fpl_error *err) {
    double own[REPEATS], other[REPEATS];
    const int repeats = d->b->quick ? 2 : REPEATS, calls = calls_for(d, ours);
    char bits[33];
    hash_output(d, hashed, bits);
    const int peer_calls = calls_for(d, peer);
    for (int i = 0; i < repeats; i++) {
        other[i] = seconds_of(d, peer, peer_calls);
        own[i] = seconds_of(d, ours, calls);
        if (own[i] <= 0 || other[i] <= 0) return d->k->check(d->dev, err);
    }
    const struct fpl_times t = {own, repeats}, u = {other, repeats};
    struct fpl_bench_row *row = fpl_bench_add(d->b, &t, unit, peer_name, "%s", name);
    if (row == NULL) return FPL_OK;
    row->value = amount / fpl_times_least(&t);
    row->ratio = fpl_times_least(&u) / fpl_times_least(&t);
    memcpy(row->bits, bits, sizeof bits);
    return d->k->check(d->dev, err);
}

/* ---- the works ---------------------------------------------------------------------------------- */

static int run_copy(struct bench_device *d, const struct work *w) {
    if (d->k->copy == NULL) return 0;
    d->k->copy(d->dev, d->out, d->x, (size_t)(w->rows * w->cols) * sizeof(float));
    return 1;
}

static int run_quantize(struct bench_device *d, const struct work *w) {
    d->k->quantize(d->dev, 1, w->rows, w->cols, w->qa, d->x, d->out, NULL);
    return 1;
}

static int run_both(struct bench_device *d, const struct work *w) {
    if (d->k->quantize_both == NULL) return 0;
    d->k->quantize_both(d->dev, 1, w->rows, w->cols, w->qa, w->qb, d->x, d->out, d->w, NULL);
    return 1;
}

static int run_gemm(struct bench_device *d, const struct work *w) {
    const struct fpl_gemm g = {.role = FPL_FORWARD,
                               .R = 1,
                               .n = w->rows,
                               .O = w->cols,
                               .I = w->depth,
                               .a = d->x,
                               .b = d->w,
                               .out = d->out,
                               .qa = w->qa,
                               .qb = w->qb,
                               .accumulator = w->accumulator};
    d->k->gemm(d->dev, &g);
    return 1;
}

static int run_vendor(struct bench_device *d, const struct work *w) {
    return d->k->vendor_product != NULL &&
           d->k->vendor_product(d->dev, w->bf16, w->rows, w->cols, w->depth, d->x, d->w, d->out);
}

/* ---- parts ------------------------------------------------------------------------------------------ */

/* The same noise over and over; zeros would draw less power and run faster.  As bfloat16, pairs of it are
 * pairs of finite numbers too. */
static void fill(struct bench_device *d, float *buffer) {
    for (size_t at = 0; at < d->n; at += CHUNK) {
        const size_t part = d->n - at < CHUNK ? d->n - at : CHUNK;
        d->k->upload(d->dev, buffer + at, d->noise, part * sizeof *buffer);
    }
}

static enum fpl_code open_device(struct bench_device *d, struct fpl_bench *b, size_t n,
                                 struct fpl_error *err) {
    const struct fpl_device_options options = {.threads = 1, .number = b->number};
    *d = (struct bench_device){.b = b, .k = b->kernels, .n = n};
    d->noise = malloc(CHUNK * sizeof *d->noise);
    if (d->noise == NULL) return fpl_fail(err, FPL_SYSTEM, "bench: out of memory");
    uint32_t seed = 6;
    for (size_t i = 0; i < CHUNK; i++) { /* sums of four: nearly normal, of one exponent for each half too */
        float sum = 0;
        for (int j = 0; j < 4; j++) {
            seed = seed * 1664525u + 1013904223u;
            sum += (float)((int32_t)seed >> 8) * 0x1p-23f;
        }
        uint32_t bits;
        memcpy(&bits, &sum, sizeof bits);
        bits = (bits & 0xffff0000u) | ((bits >> 16) & 0x807fu) |
               0x3f00u; /* the lower half as bfloat16: 0.5 to 1 */
        memcpy(&d->noise[i], &bits, sizeof bits);
    }
    enum fpl_code code = d->k->open(&d->dev, &options, err);
    if (code != FPL_OK) return code;
    float **const buffers[] = {&d->x, &d->w, &d->out};
    for (int i = 0; i < 3; i++) *buffers[i] = d->k->alloc(d->dev, n * sizeof(float));
    code = d->k->check(d->dev, err);
    if (code == FPL_OK) fill(d, d->x);
    if (code == FPL_OK) fill(d, d->w);
    return code;
}

static void close_device(struct bench_device *d) {
    if (d->dev != NULL) {
        d->k->release(d->dev, d->x);
        d->k->release(d->dev, d->w);
        d->k->release(d->dev, d->out);
        d->k->close(d->dev);
    }
    free(d->noise);
}

static enum fpl_code quantize_row(struct bench_device *d, const char *text, int both, struct fpl_error *err) {
    struct fpl_quantizer q;
    struct fpl_operand operand;
    char name[64];
    memset(&operand, 0, sizeof operand);
    const enum fpl_code code = fpl_quantizer_parse(text, &q, err);
    if (code != FPL_OK) return code;
    fpl_quantizer_lower(&q, NULL, &operand.plan);
    const int64_t rows = (int64_t)d->n / WIDTH;
    const struct work ours = {.run = both ? run_both : run_quantize,
                              .qa = &operand,
                              .qb = &operand,
                              .rows = rows,
                              .cols = WIDTH},
                      copy = {.run = run_copy, .rows = rows, .cols = WIDTH};
    const double bytes = (both ? 12.0 : 8.0) * (double)d->n;
    snprintf(name, sizeof name, "%s %s", both ? "both" : "quantize", text);
    const int before = d->b->count;
    const enum fpl_code measured =
        measure(d, &ours, &copy, "GB/s", 1e-9 * bytes, "device copy", name, d->n, err);
    if (both && d->b->count > before) d->b->row[before].ratio *= bytes / (8.0 * (double)d->n);
    return measured;
}

enum fpl_code fpl_bench_device_quantizers(struct fpl_bench *b, struct fpl_error *err) {
    struct bench_device d;
    enum fpl_code code = open_device(&d, b, b->quick ? (size_t)1 << 14 : (size_t)1 << 28, err);
    for (size_t i = 0; code == FPL_OK && i < sizeof quantizers / sizeof quantizers[0]; i++)
        code = quantize_row(&d, quantizers[i], 0, err);
    for (size_t i = 0; code == FPL_OK && i < sizeof turned / sizeof turned[0]; i++)
        code = quantize_row(&d, turned[i], 1, err);
    close_device(&d);
    return code;
}

static enum fpl_code product_row(struct bench_device *d, const char *text, int64_t M, int64_t size,
                                 struct fpl_error *err) {
    struct fpl_recipe recipe;
    struct fpl_quantizer_plan plans[FPL_SLOTS];
    struct fpl_operand x, w;
    char name[64];
    memset(&x, 0, sizeof x);
    memset(&w, 0, sizeof w);
    const enum fpl_code code = fpl_recipe_parse(text, &recipe, err);
    if (code != FPL_OK) return code;
    fpl_recipe_lower(&recipe, plans);
    x.plan = plans[FPL_FWD_X];
    w.plan = plans[FPL_FWD_W];
    const struct work ours = {.run = run_gemm, .qa = &x, .qb = &w, .rows = M, .cols = size, .depth = size},
                      peer = {.run = run_vendor, .rows = M, .cols = size, .depth = size, .bf16 = 1};
    snprintf(name, sizeof name, "product %s %lldx%lldx%lld", text, (long long)M, (long long)size,
             (long long)size);
    return measure(d, &ours, &peer, "TFLOP/s", 2e-12 * (double)M * (double)size * (double)size, "vendor bf16",
                   name, (size_t)(M * size), err);
}

enum fpl_code fpl_bench_device_products(struct fpl_bench *b, struct fpl_error *err) {
    struct bench_device d;
    const int64_t M = b->quick ? 64 : 8192, shrink = b->quick ? 32 : 1;
    enum fpl_code code =
        open_device(&d, b, (size_t)((M < 4096 / shrink ? 4096 / shrink : M) * 4096 / shrink), err);
    for (size_t i = 0; code == FPL_OK && i < sizeof products / sizeof products[0]; i++)
        for (int s = 0; code == FPL_OK && s < 3; s++)
            code = product_row(&d, products[i], M, product_sizes[s] / shrink, err);
    close_device(&d);
    return code;
}

static enum fpl_code accumulate_row(struct bench_device *d, const char *text, int64_t size,
                                    struct fpl_error *err) {
    const struct fpl_quantizer identity = {.identity = 1};
    struct fpl_accumulator a;
    struct fpl_accumulator_plan plan;
    struct fpl_operand none;
    char name[64];
    memset(&none, 0, sizeof none);
    fpl_quantizer_lower(&identity, NULL, &none.plan);
    const enum fpl_code code = fpl_accumulator_parse(text, &a, err);
    if (code != FPL_OK) return code;
    fpl_accumulator_lower(&a, &plan);
    const struct work ours = {.run = run_gemm,
                              .qa = &none,
                              .qb = &none,
                              .accumulator = &plan,
                              .rows = size,
                              .cols = size,
                              .depth = size},
                      peer = {.run = run_vendor, .rows = size, .cols = size, .depth = size};
    snprintf(name, sizeof name, "accumulate %s", text);
    return measure(d, &ours, &peer, "GFLOP/s", 2e-9 * (double)size * (double)size * (double)size,
                   "vendor fp32", name, (size_t)(size * size), err);
}

enum fpl_code fpl_bench_device_accumulators(struct fpl_bench *b, struct fpl_error *err) {
    struct bench_device d;
    const int64_t size = b->quick ? 32 : 2048;
    enum fpl_code code = open_device(&d, b, (size_t)(size * size), err);
    for (size_t i = 0; code == FPL_OK && i < sizeof accumulators / sizeof accumulators[0]; i++)
        code = accumulate_row(&d, accumulators[i], size, err);
    close_device(&d);
    return code;
}
