/* harness_data.c - random data and memory of tests (see harness.h). */
#include <stdlib.h>

#include "../../formats/random.h"
#include "harness.h"

static uint64_t state;

void harness_seed(uint64_t seed) { state = seed << 40; }

uint32_t harness_draw(void) {
    uint32_t w[4];
    fpl_random_block(29, state++, 0, fpl_stream(FPL_STREAM_TEST, 3), w);
    return w[0];
}

double harness_uniform(void) { return (double)harness_draw() * 0x1p-31 - 1; }

double harness_normal(void) {
    return harness_uniform() + harness_uniform() + harness_uniform() + harness_uniform();
}

void *harness_alloc(int64_t count, size_t size) {
    void *p = calloc(count > 0 ? (size_t)count : 1, size);
    if (!p) abort();
    return p;
}

float *harness_floats(int64_t count, double deviation) {
    float *x = harness_alloc(count, sizeof *x);
    for (int64_t i = 0; i < count; i++) x[i] = (float)(deviation * harness_normal());
    return x;
}

float *harness_device(const struct fpl_kernels *k, struct fpl_device *dev, const float *x, int64_t count) {
    float *p = k->alloc(dev, (size_t)count * sizeof *p);
    if (p == NULL) abort();
    k->upload(dev, p, x, (size_t)count * sizeof *p);
    return p;
}

double *harness_widen(const float *x, int64_t count) {
    double *d = harness_alloc(count, sizeof *d);
    for (int64_t i = 0; i < count; i++) d[i] = (double)x[i];
    return d;
}

float *harness_nans(int64_t count) {
    float *x = harness_alloc(count, sizeof *x);
    for (int64_t i = 0; i < count; i++) x[i] = NAN;
    return x;
}
