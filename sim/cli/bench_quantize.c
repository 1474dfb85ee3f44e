/* bench_quantize.c - rounding and quantizing against memcpy: 2^24 floats from N(0, 1).
 *
 * memcpy reads and writes the same bytes and does nothing else: it is the limit, in the same
 * buffers of the CPU backend's making (large pages, where there are any).  Both run on
 * one thread and on two ("x2"; memcpy on two halves), out of place, turn about, the least of the
 * repeats.  Rows without a scale, with every way of scaling, and transposing ("turn", blocks
 * along the rows of x); the last ones repeat a few at the lower instruction sets.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/kernels.h"
#include "../base/detmath.h"
#include "../base/file.h"
#include "../train/machine.h"
#include "bench.h"

enum { REPEATS = 9, WIDTH = 4096 };

static const char *const quantizers[] = {
    /* scale given: one rounding */
    "bf16", "e4m3fn", "e5m2ieee", "e2m1", "e3m2", "e3m0", "e4m3ns", "e4m3:rna", "e4m3:rtz", "e4m3:rto",
    "e4m3fn:sr", "e4m3fn:sr32",
    /* absmax, scale, round */
    "e4m3/row", "e4m3/1x16", "e4m3/1x32", "e4m3/1x128", "e4m3/32x32", "e4m3/128x128", "e4m3/1x32:mul",
    "e2m1/1x32:e8m0", "e4m3/1x32:rceil", "e4m3/1x32:p3109", "e2m1/1x16:e4m3fn", "e2m1/1x16:e4m3fn+t",
    "e4m3:sr/1x32", "e4m3/tensor"};
static const char *const turned[] = {"e4m3/1x32", "e2m1/1x32:e8m0"};
static const int64_t turned_shapes[][2] = {{4096, 4096}, {4000, 4100}};
static const char *const lower_levels[] = {"avx2", "baseline"};
static const char *const lower[] = {"e4m3fn", "e4m3/1x32", "e2m1/1x32:e8m0", "e4m3fn:sr"};

struct buffers {
    size_t n;
    float *x, *out;
};

static void copy(const struct buffers *m, size_t n, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int t = 0; t < threads; t++) {
        const size_t first = n * (size_t)t / (size_t)threads, end = n * ((size_t)t + 1) / (size_t)threads;
        memcpy(m->out + first, m->x + first, (end - first) * sizeof(float));
    }
}

/* What is measured: a quantizer on rows x cols, transposing or not, by threads. */
struct subject {
    const char *text, *level; /* level: as FPLAW_SIMD names it, "" for the highest */
    int64_t rows, cols;
    int turn, threads;
};

static void name_row(const struct subject *s, char *name, size_t size) {
    char shape[48] = "";
    if (s->turn) snprintf(shape, sizeof shape, "%lldx%lld ", (long long)s->rows, (long long)s->cols);
    snprintf(name, size, "%s %s%s%s%s%s", s->turn ? "turn" : "quantize", shape, s->text,
             s->level[0] != '\0' ? " " : "", s->level, s->threads > 1 ? " x2" : "");
}

static enum fpl_code measure_on(struct fpl_bench *b, const struct buffers *m, const struct subject *s,
                                const struct fpl_kernels *k, struct fpl_device *dev, struct fpl_error *err) {
    struct fpl_quantizer q;
    struct fpl_operand operand;
    double own[REPEATS], peer[REPEATS];
    char name[64];
    const int repeats = b->quick ? 3 : REPEATS;
    const size_t n = (size_t)(s->rows * s->cols);
    memset(&operand, 0, sizeof operand);
    enum fpl_code code = fpl_quantizer_parse(s->text, &q, err);
    if (code != FPL_OK) return code;
    fpl_quantizer_lower(&q, NULL, &operand.plan);
    for (int i = 0; i < repeats; i++) {
        double start = fpl_clock();
        copy(m, n, s->threads);
        peer[i] = fpl_clock() - start;
        start = fpl_clock();
        if (s->turn)
            k->quantize_transposed(dev, 1, s->rows, s->cols, &operand, m->x, m->out, NULL);
        else
            k->quantize(dev, 1, s->rows, s->cols, &operand, m->x, m->out, NULL);
        own[i] = fpl_clock() - start;
    }
    const struct fpl_times t = {own, repeats}, u = {peer, repeats};
    name_row(s, name, sizeof name);
    struct fpl_bench_row *row = fpl_bench_add(b, &t, "GB/s", "memcpy", "%s", name);
    if (row == NULL) return FPL_OK;
    row->value = 1e-9 * 2.0 * (double)(n * sizeof(float)) / fpl_times_least(&t);
    row->ratio = fpl_times_least(&u) / fpl_times_least(&t);
    fpl_hash_text(m->out, n * sizeof(float), row->bits);
    return k->check(dev, err);
}

/* On a device of its own, at the subject's instruction set; no row where the processor lacks it. */
static enum fpl_code measure(struct fpl_bench *b, const struct buffers *m, const struct subject *s,
                             struct fpl_error *err) {
    const struct fpl_device_options options = {.threads = s->threads};
    const char *wish = getenv("FPLAW_SIMD");
    char *before = wish != NULL ? strdup(wish) : NULL;
    struct fpl_device *dev = NULL;
    if (s->level[0] != '\0') setenv("FPLAW_SIMD", s->level, 1);
    const struct fpl_kernels *k = fpl_backend("cpu");
    const int present = s->level[0] == '\0' || strcmp(fpl_simd_level(), s->level) == 0;
    enum fpl_code code = present ? k->open(&dev, &options, err) : FPL_OK;
    if (s->level[0] != '\0') {
        if (before != NULL)
            setenv("FPLAW_SIMD", before, 1);
        else
            unsetenv("FPLAW_SIMD");
    }
    free(before);
    if (!present || code != FPL_OK) return code;
    code = measure_on(b, m, s, k, dev, err);
    k->close(dev);
    return code;
}

/* N(0, 1) by Box and Muller's method, the same everywhere. */
static void fill(struct buffers *m) {
    uint32_t seed = 6;
    for (size_t i = 0; i + 1 < m->n; i += 2) {
        double sine, cosine, u[2];
        for (int j = 0; j < 2; j++) {
            seed = seed * 1664525u + 1013904223u;
            u[j] = ((double)(seed >> 8) + 0.5) * 0x1p-24;
        }
        const double radius = sqrt(-2.0 * fpl_det_log(u[0]));
        fpl_det_sincos(6.283185307179586 * u[1], &sine, &cosine);
        m->x[i] = (float)(radius * cosine);
        m->x[i + 1] = (float)(radius * sine);
    }
}

static enum fpl_code measure_all(struct fpl_bench *b, const struct buffers *m, struct fpl_error *err) {
    const int64_t rows = (int64_t)m->n / WIDTH;
    const size_t plain = sizeof quantizers / sizeof quantizers[0], levels = 2;
    enum fpl_code code = FPL_OK;
    for (int threads = 1; threads <= 2; threads++) {
        for (size_t i = 0; code == FPL_OK && i < plain; i++)
            code = measure(b, m, &(struct subject){quantizers[i], "", rows, WIDTH, 0, threads}, err);
        for (size_t i = 0; code == FPL_OK && i < 2 * sizeof turned / sizeof turned[0]; i++) {
            const int64_t *shape = turned_shapes[i % 2];
            const int64_t lines = b->quick ? shape[0] / 64 : shape[0];
            code = measure(b, m, &(struct subject){turned[i / 2], "", lines, shape[1], 1, threads}, err);
        }
    }
    for (size_t l = 0; l < levels; l++)
        for (size_t i = 0; code == FPL_OK && i < sizeof lower / sizeof lower[0]; i++)
            code = measure(b, m, &(struct subject){lower[i], lower_levels[l], rows, WIDTH, 0, 1}, err);
    return code;
}

enum fpl_code fpl_bench_quantizers(struct fpl_bench *b, struct fpl_error *err) {
    const struct fpl_device_options options = {.threads = 1};
    const struct fpl_kernels *k = fpl_backend("cpu");
    struct buffers m = {.n = b->quick ? (size_t)1 << 19 : (size_t)1 << 24};
    struct fpl_device *dev;
    enum fpl_code code = k->open(&dev, &options, err);
    if (code != FPL_OK) return code;
    m.x = k->alloc(dev, m.n * sizeof(float));
    m.out = k->alloc(dev, m.n * sizeof(float));
    code = k->check(dev, err);
    if (code == FPL_OK) {
        fill(&m);
        memset(m.out, 0, m.n * sizeof(float));
        code = measure_all(b, &m, err);
    }
    k->release(dev, m.x);
    k->release(dev, m.out);
    k->close(dev);
    return code;
}
