/* bench_accumulate.c - products under emulated accumulators against float32 ones.
 *
 * 512^3 on one core, the peer being OpenBLAS's sgemm of the same operands in turn with ours: the
 * ratio is the share of float32 speed that an experiment on accumulators keeps.  Rows are chosen
 * to take every way of the kernels: float32 with each overflow style, double (F too wide for
 * float32), directed rounding, chunks, aligned sums of matrix units.
 */
#include <cblas.h>
#undef I

#include <stdlib.h>
#include <string.h>

#include "../../kernels/kernels.h"
#include "../base/file.h"
#include "../train/machine.h"
#include "bench.h"

enum { SIZE = 512, SMALL = 64, REPEATS = 9 };

static const char *const accumulators[] = {
    "chunk:fp16/128",  "fp16",    "bf16", "e4m3fn",   "fp16:rtz", "e5m22ieee", "fp32:rtz", "align:16,25",
    "align:32,13/128", "bf16/32", "e5m0", "fp16:rto", "fp16:sr"};

struct operands {
    int n;
    float *x, *w, *y;
    const struct fpl_kernels *k;
    struct fpl_device *dev;
    struct fpl_operand none;
};

static double own_seconds(const struct operands *o, const struct fpl_accumulator_plan *plan) {
    const struct fpl_gemm g = {.role = FPL_FORWARD,
                               .R = 1,
                               .n = o->n,
                               .O = o->n,
                               .I = o->n,
                               .a = o->x,
                               .b = o->w,
                               .out = o->y,
                               .qa = &o->none,
                               .qb = &o->none,
                               .accumulator = plan,
                               .weights_version = 1};
    const double start = fpl_clock();
    o->k->gemm(o->dev, &g);
    return fpl_clock() - start;
}

static double peer_seconds(const struct operands *o) {
    const int n = o->n;
    const double start = fpl_clock();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, n, 1.0f, o->x, n, o->w, n, 0.0f, o->y, n);
    return fpl_clock() - start;
}

static enum fpl_code measure(struct fpl_bench *b, const struct operands *o, const char *text,
                             struct fpl_error *err) {
    struct fpl_accumulator a;
    struct fpl_accumulator_plan plan;
    double own[REPEATS], peer[REPEATS];
    char bits[33];
    const int repeats = b->quick ? 3 : REPEATS;
    const enum fpl_code code = fpl_accumulator_parse(text, &a, err);
    if (code != FPL_OK) return code;
    fpl_accumulator_lower(&a, &plan);
    own_seconds(o, &plan);
    fpl_hash_text(o->y, (size_t)o->n * (size_t)o->n * sizeof(float), bits);
    for (int i = 0; i < repeats; i++) {
        peer[i] = peer_seconds(o);
        own[i] = own_seconds(o, &plan);
    }
    const struct fpl_times t = {own, repeats}, u = {peer, repeats};
    struct fpl_bench_row *row = fpl_bench_add(b, &t, "GFLOP/s", "OpenBLAS", "accumulate %s", text);
    if (row == NULL) return FPL_OK;
    row->value = 2e-9 * (double)o->n * (double)o->n * (double)o->n / fpl_times_least(&t);
    row->ratio = fpl_times_least(&u) / fpl_times_least(&t);
    memcpy(row->bits, bits, sizeof bits);
    return o->k->check(o->dev, err);
}

enum fpl_code fpl_bench_accumulators(struct fpl_bench *b, struct fpl_error *err) {
    const struct fpl_device_options options = {.threads = 1};
    const struct fpl_quantizer identity = {.identity = 1};
    struct operands o = {.n = b->quick ? SMALL : SIZE, .k = fpl_backend("cpu")};
    fpl_quantizer_lower(&identity, NULL, &o.none.plan);
    enum fpl_code code = o.k->open(&o.dev, &options, err);
    if (code != FPL_OK) return code;
    const size_t n = (size_t)o.n * (size_t)o.n;
    o.x = o.k->alloc(o.dev, n * sizeof(float));
    o.w = o.k->alloc(o.dev, n * sizeof(float));
    o.y = o.k->alloc(o.dev, n * sizeof(float));
    code = o.k->check(o.dev, err);
    uint32_t seed = 11;
    for (size_t i = 0; code == FPL_OK && i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        o.x[i] = (float)((int32_t)seed >> 8) * 0x1p-23f;
        seed = seed * 1664525u + 1013904223u;
        o.w[i] = (float)((int32_t)seed >> 8) * 0x1p-23f;
    }
    for (size_t i = 0; code == FPL_OK && i < sizeof accumulators / sizeof accumulators[0]; i++)
        code = measure(b, &o, accumulators[i], err);
    o.k->release(o.dev, o.x);
    o.k->release(o.dev, o.w);
    o.k->release(o.dev, o.y);
    o.k->close(o.dev);
    return code;
}
