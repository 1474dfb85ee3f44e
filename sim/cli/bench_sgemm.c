/* bench_sgemm.c - the peer: single-threaded OpenBLAS, and the product against it.
 *
 * OpenBLAS is linked for this alone; training never calls it.  cblas.h brings in complex.h,
 * whose macro I would hide a matrix dimension, so that header stays in this file.
 */
#include <cblas.h>
#undef I

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/kernels.h"
#include "../base/file.h"
#include "../train/machine.h"
#include "bench.h"

enum { SIZE = 1024 };

struct fpl_sgemm {
    float *a, *b, *c;
};

/* Values in [-1, 1), the same everywhere. */
static void fill(float *x, size_t n, uint32_t seed) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)((int32_t)seed >> 8) * 0x1p-23f;
    }
}

struct fpl_sgemm *fpl_sgemm_create(void) {
    const size_t n = (size_t)SIZE * SIZE;
    struct fpl_sgemm *s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    s->a = aligned_alloc(64, n * sizeof(float));
    s->b = aligned_alloc(64, n * sizeof(float));
    s->c = aligned_alloc(64, n * sizeof(float));
    if (s->a == NULL || s->b == NULL || s->c == NULL) {
        fpl_sgemm_free(s);
        return NULL;
    }
    fill(s->a, n, 1);
    fill(s->b, n, 2);
    fpl_sgemm_seconds(s, 1);
    return s;
}

double fpl_sgemm_flop(void) { return 2.0 * SIZE * SIZE * SIZE; }

double fpl_sgemm_seconds(struct fpl_sgemm *s, int times) {
    const double start = fpl_clock();
    for (int i = 0; i < times; i++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, SIZE, SIZE, SIZE, 1.0f, s->a, SIZE, s->b, SIZE,
                    0.0f, s->c, SIZE);
    return fpl_clock() - start;
}

const char *fpl_sgemm_core(void) { return openblas_get_corename(); }

void fpl_sgemm_free(struct fpl_sgemm *s) {
    if (s == NULL) return;
    free(s->a);
    free(s->b);
    free(s->c);
    free(s);
}

/* ---- products ------------------------------------------------------------------------------ */

/* Forward products y[n, O] = x[n, I] w[O, I]^T, weights packed once as in training. */
struct shape {
    int n, O, I;
};

struct product {
    struct shape shape;
    float *x, *w, *y;
    const struct fpl_kernels *k;
    struct fpl_device *dev;
    struct fpl_operand none;
};

static double own_seconds(struct product *p, int times) {
    const struct fpl_gemm g = {.role = FPL_FORWARD,
                               .R = 1,
                               .n = p->shape.n,
                               .O = p->shape.O,
                               .I = p->shape.I,
                               .a = p->x,
                               .b = p->w,
                               .out = p->y,
                               .qa = &p->none,
                               .qb = &p->none,
                               .weights_version = 1};
    const double start = fpl_clock();
    for (int i = 0; i < times; i++) p->k->gemm(p->dev, &g);
    return (fpl_clock() - start) / times;
}

static double peer_seconds(struct product *p, int times) {
    const struct shape *s = &p->shape;
    const double start = fpl_clock();
    for (int i = 0; i < times; i++)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, s->n, s->O, s->I, 1.0f, p->x, s->I, p->w, s->I,
                    0.0f, p->y, s->O);
    return (fpl_clock() - start) / times;
}

static void measure_product(struct fpl_bench *b, struct product *p) {
    enum { REPEATS = 15 };
    double own[REPEATS], peer[REPEATS];
    const struct shape *s = &p->shape;
    const double flop = 2.0 * s->n * s->O * s->I;
    const int repeats = b->quick ? 3 : REPEATS, times = flop < 1e7 ? (int)(1e7 / flop) : 1;
    char bits[33];
    own_seconds(p, 1);
    fpl_hash_text(p->y, (size_t)s->n * (size_t)s->O * sizeof(float), bits);
    for (int i = 0; i < repeats; i++) {
        own[i] = own_seconds(p, times);
        peer[i] = peer_seconds(p, times);
    }
    const struct fpl_times t = {own, repeats}, u = {peer, repeats};
    struct fpl_bench_row *row =
        fpl_bench_add(b, &t, "GFLOP/s", "OpenBLAS", "product %dx%dx%d", s->n, s->O, s->I);
    if (row == NULL) return;
    row->value = 1e-9 * flop / fpl_times_least(&t);
    row->ratio = fpl_times_least(&u) / fpl_times_least(&t);
    memcpy(row->bits, bits, sizeof bits);
}

enum fpl_code fpl_bench_products(struct fpl_bench *b, struct fpl_error *err) {
    static const struct shape shapes[] = {{256, 96, 32}, {256, 192, 64}, {256, 704, 128}, {1024, 1024, 1024}};
    const int count = b->quick ? 2 : (int)(sizeof shapes / sizeof shapes[0]);
    const struct fpl_device_options options = {.threads = 1};
    const struct fpl_quantizer identity = {.identity = 1};
    struct product p = {.k = fpl_backend("cpu")};
    memset(&p.none, 0, sizeof p.none);
    fpl_quantizer_lower(&identity, NULL, &p.none.plan);
    enum fpl_code code = p.k->open(&p.dev, &options, err);
    for (int i = 0; code == FPL_OK && i < count; i++) {
        const struct shape *s = &shapes[i];
        p.shape = *s;
        p.x = p.k->alloc(p.dev, (size_t)s->n * (size_t)s->I * sizeof(float));
        p.w = p.k->alloc(p.dev, (size_t)s->O * (size_t)s->I * sizeof(float));
        p.y = p.k->alloc(p.dev, (size_t)s->n * (size_t)s->O * sizeof(float));
        if (p.x != NULL && p.w != NULL && p.y != NULL) {
            fill(p.x, (size_t)s->n * (size_t)s->I, 3);
            fill(p.w, (size_t)s->O * (size_t)s->I, 4);
            measure_product(b, &p);
        }
        p.k->release(p.dev, p.x);
        p.k->release(p.dev, p.w);
        p.k->release(p.dev, p.y);
        code = p.k->check(p.dev, err);
    }
    p.k->close(p.dev);
    return code;
}
