/* harness.h - what tests of a backend against the double reference share.
 *
 * Pack runs.  One operation is a function over byte buffers [R][size]; harness_run calls it
 * on R replicas at once, on one thread and on two, and again on every replica by itself,
 * and requires the same bits of every buffer each time: results depend neither on the pack
 * nor on threads.  The bits of the pack are left in the caller's buffers.
 *
 * Bounds.  A bound is computed, never tuned: struct bounded carries a value with a bound of
 * its error under the standard model fl(a op b) = (a op b)(1 + d), |d| <= u = 2^-24, and the
 * functions here propagate both.  Sums hold for any order and association:
 * n terms add gamma_n times the sum of magnitudes, gamma_n = n u / (1 - n u).
 */
#ifndef FPL_TEST_HARNESS_H
#define FPL_TEST_HARNESS_H

#include <math.h>
#include <stdint.h>

#include "../../kernels/kernels.h"

#define HARNESS_U 0x1p-24
/* A backend's exp may err by one ulp: 2 u of a normal result, 2^-149 of a subnormal one. */
#define HARNESS_EXP 2.0
#define HARNESS_TINY 0x1p-149

enum { HARNESS_BUFFERS = 10 };

struct harness {
    const struct fpl_kernels *kernels;
    struct fpl_device *one, *two; /* one and two threads */
};

/* The backend of FPLAW_TEST_BACKEND, "cpu" without it; says which SIMD level runs. */
void harness_open(struct harness *h);
/* 1 in every FPLAW_TEST_SHARE-th call, always without it: for slow backends and long lists of cases. */
int harness_take(void);
void harness_close(struct harness *h); /* prints a digest of all results, for levels.sh */

struct harness_buffer {
    void *data;  /* host [R][size]; NULL is passed on as NULL */
    size_t size; /* bytes of one replica */
    int shared;  /* one copy serves all replicas: rotary tables */
};

/* One call on replicas first .. first + R - 1 of the test; p: device pointers. */
typedef void harness_call(const struct harness *h, struct fpl_device *dev, int first, int R, void **p,
                          const void *shape);

void harness_run(const struct harness *h, const char *name, harness_call *call, const void *shape, int R,
                 struct harness_buffer *buffers, int count);

/* ---- data ------------------------------------------------------------------------------------ */

void harness_seed(uint64_t seed);
uint32_t harness_draw(void);
double harness_uniform(void); /* (-1, 1) */
double harness_normal(void);  /* about normal: sum of four uniforms, deviation about 1.15 */
void *harness_alloc(int64_t count, size_t size);
float *harness_floats(int64_t count, double deviation); /* malloced */
double *harness_widen(const float *x, int64_t count);   /* malloced */
float *harness_nans(int64_t count);                     /* for outputs that must be overwritten */
/* The device's copy of a host array: release() it. */
float *harness_device(const struct fpl_kernels *k, struct fpl_device *dev, const float *x, int64_t count);

/* ---- comparison ------------------------------------------------------------------------------ */

void harness_within(const char *name, int64_t index, double got, double want, double bound);
void harness_same_bits(const char *name, const float *got, const float *want, int64_t count);

/* Largest |error| / bound since the last call; a test prints it, so that slack is visible. */
double harness_worst(void);

/* ---- running error bounds -------------------------------------------------------------------- */

struct bounded {
    double v, e; /* |float result - v| <= e */
};

static inline double harness_gamma(int64_t n) {
    const double nu = (double)n * HARNESS_U;
    return nu / (1 - nu);
}

static inline struct bounded exactly(double v) { return (struct bounded){v, 0}; }

static inline struct bounded rounded(double v, double e) {
    return (struct bounded){v, e + HARNESS_U * (fabs(v) + e) + 0x1p-149};
}

static inline struct bounded b_add(struct bounded a, struct bounded b) {
    return rounded(a.v + b.v, a.e + b.e);
}

static inline struct bounded b_sub(struct bounded a, struct bounded b) {
    return rounded(a.v - b.v, a.e + b.e);
}

static inline struct bounded b_mul(struct bounded a, struct bounded b) {
    return rounded(a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e);
}

/* b.v - b.e > 0 */
static inline struct bounded b_div(struct bounded a, struct bounded b) {
    const double q = a.v / b.v;
    return rounded(q, (a.e + fabs(q) * b.e) / (b.v - b.e));
}

static inline struct bounded b_exp(struct bounded a) {
    const double v = exp(a.v), e = v * expm1(a.e);
    return (struct bounded){v, e + HARNESS_EXP * HARNESS_U * (v + e) + HARNESS_TINY};
}

/* Sum of n terms in any order; start with {0, 0}, 0. */
struct b_sum {
    double v, e, magnitude;
    int64_t n;
};

static inline void b_sum_add(struct b_sum *s, struct bounded x) {
    s->v += x.v;
    s->e += x.e;
    s->magnitude += fabs(x.v) + x.e;
    s->n++;
}

static inline struct bounded b_sum_result(const struct b_sum *s) {
    return (struct bounded){s->v, s->e + harness_gamma(s->n) * s->magnitude};
}

#endif
