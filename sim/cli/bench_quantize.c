/* bench_quantize.c - rounding and quantizing against memcpy, 2^24 floats, one core.
 *
 * memcpy reads and writes the same bytes and does nothing else: it is the limit.
 */
#include <stdlib.h>
#include <string.h>

#include "../../kernels/kernels.h"
#include "../base/file.h"
#include "../train/machine.h"
#include "bench.h"

enum { REPEATS = 9 };

static const char *const quantizers[] = {"bf16",      "e4m3fn",         "e4m3fn:sr",
                                         "e4m3/1x32", "e2m1/1x32:e8m0", "e4m3/tensor"};

struct buffers {
    size_t n;
    float *x, *out;
};

static enum fpl_code measure(struct fpl_bench *b, const struct buffers *m, const struct fpl_kernels *k,
                             struct fpl_device *dev, const char *text, struct fpl_error *err) {
    struct fpl_quantizer q;
    struct fpl_operand operand;
    double own[REPEATS], copy[REPEATS];
    const int repeats = b->quick ? 3 : REPEATS;
    memset(&operand, 0, sizeof operand);
    enum fpl_code code = fpl_quantizer_parse(text, &q, err);
    if (code != FPL_OK) return code;
    fpl_quantizer_lower(&q, NULL, &operand.plan);
    for (int i = 0; i < repeats; i++) {
        double start = fpl_clock();
        memcpy(m->out, m->x, m->n * sizeof(float));
        copy[i] = fpl_clock() - start;
        start = fpl_clock();
        k->quantize(dev, 1, (int64_t)(m->n / 4096), 4096, &operand, m->x, m->out, NULL);
        own[i] = fpl_clock() - start;
    }
    const struct fpl_times t = {own, repeats}, u = {copy, repeats};
    struct fpl_bench_row *row = fpl_bench_add(b, &t, "GB/s", "memcpy", "quantize %s", text);
    if (row == NULL) return FPL_OK;
    row->value = 1e-9 * 2.0 * (double)(m->n * sizeof(float)) / fpl_times_least(&t);
    row->ratio = fpl_times_least(&u) / fpl_times_least(&t);
    fpl_hash_text(m->out, m->n * sizeof(float), row->bits);
    return k->check(dev, err);
}

enum fpl_code fpl_bench_quantizers(struct fpl_bench *b, struct fpl_error *err) {
    const struct fpl_kernels *k = fpl_backend("cpu");
    const struct fpl_device_options options = {.threads = 1};
    struct fpl_device *dev = NULL;
    struct buffers m = {.n = b->quick ? (size_t)1 << 18 : (size_t)1 << 24};
    enum fpl_code code = k->open(&dev, &options, err);
    if (code != FPL_OK) return code;
    m.x = k->alloc(dev, m.n * sizeof(float));
    m.out = k->alloc(dev, m.n * sizeof(float));
    code = k->check(dev, err);
    if (code == FPL_OK) {
        uint32_t seed = 6;
        for (size_t i = 0; i < m.n; i++) {
            seed = seed * 1664525u + 1013904223u;
            m.x[i] = (float)((int32_t)seed >> 8) * 0x1p-20f;
        }
    }
    for (size_t i = 0; code == FPL_OK && i < sizeof quantizers / sizeof quantizers[0]; i++)
        code = measure(b, &m, k, dev, quantizers[i], err);
    k->release(dev, m.x);
    k->release(dev, m.out);
    k->close(dev);
    return code;
}
