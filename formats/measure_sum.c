/* measure_sum.c - sums over values and what a quantizer made of them, at memory speed.
 *
 *   signal = sum x^2        noise = sum (x - out)^2        relative = sum |x - out| / |x|
 *
 * The pieces and lanes of measure.h as vectors of eight doubles: the same bits at every vector
 * width, and those of a GPU (kernels/cuda/diagnose.cu).  Non-finite inputs are masked out before
 * anything is computed, together with what became of them; a tail is filled up with NaN, which
 * therefore counts nowhere.  Squares of float32 values and their differences are exact or
 * nearly so in double: a sum of n of them is off by at most n 2^-53 of itself.
 */
#include "measure.h"

#include <math.h>
#include <string.h>

#include "clones.h"
#include "round.h"

enum { LANES = FPL_MEASURE_LANES };

typedef float floats __attribute__((vector_size(LANES * 4)));
typedef int32_t ints __attribute__((vector_size(LANES * 4)));
typedef double doubles __attribute__((vector_size(LANES * 8)));
typedef int64_t longs __attribute__((vector_size(LANES * 8)));

struct lanes {
    doubles signal, noise, relative, relative_max;
    ints finite, nonzero, kept; /* counts, negated */
    ints amax;                  /* bits of magnitudes */
};

static inline void add_lanes(struct lanes *s, const float *x, const float *out) {
    const ints infinite = (ints){0} + 0x7f800000, magnitude = (ints){0} + 0x7fffffff;
    ints xb, ob;
    memcpy(&xb, x, sizeof xb);
    memcpy(&ob, out, sizeof ob);
    const ints finite = (xb & infinite) != infinite;
    xb &= finite;
    ob &= finite;
    const ints a = xb & magnitude, nonzero = a != 0;
    s->finite += finite;
    s->nonzero += nonzero;
    s->kept += nonzero & ((ob & magnitude) != 0);
    const ints larger = a > s->amax;
    s->amax = (a & larger) | (s->amax & ~larger);

    const doubles v = __builtin_convertvector((floats)xb, doubles);
    const doubles d = v - __builtin_convertvector((floats)ob, doubles);
    s->signal += v * v;
    s->noise += d * d;
    /* |d| / |x|, and 0 / 1 where x is 0. */
    const ints one = (ints){0} + 0x3f800000;
    const longs counted = __builtin_convertvector(nonzero, longs) & INT64_MAX;
    const doubles below = __builtin_convertvector((floats)(a | (one & ~nonzero)), doubles);
    const doubles r = (doubles)((longs)d & counted) / below;
    s->relative += r;
    const longs greater = r > s->relative_max;
    s->relative_max = (doubles)(((longs)r & greater) | ((longs)s->relative_max & ~greater));
}

FPL_CLONES static void sum_lanes(struct lanes *s, int64_t n, const float *x, const float *out) {
    int64_t i = 0;
    struct lanes sums = *s;
    for (; i + LANES <= n; i += LANES) add_lanes(&sums, x + i, out + i);
    if (i < n) {
        float tail[LANES], became[LANES] = {0.0f};
        for (int l = 0; l < LANES; l++) tail[l] = NAN;
        memcpy(tail, x + i, (size_t)(n - i) * sizeof *x);
        memcpy(became, out + i, (size_t)(n - i) * sizeof *out);
        add_lanes(&sums, tail, became);
    }
    *s = sums;
}

static struct fpl_measure_piece fold(const struct lanes *s) {
    struct fpl_measure_piece p = {.amax = 0.0f};
    for (int l = 0; l < LANES; l++) {
        p.finite -= s->finite[l];
        p.nonzero -= s->nonzero[l];
        p.underflown += s->kept[l] - s->nonzero[l]; /* both negated */
        p.signal += s->signal[l];
        p.noise += s->noise[l];
        p.relative += s->relative[l];
        if (s->relative_max[l] > p.relative_max) p.relative_max = s->relative_max[l];
        const float a = fpl_bits_float((uint32_t)s->amax[l]);
        if (a > p.amax) p.amax = a;
    }
    return p;
}

void fpl_measure_add(struct fpl_measure *m, const struct fpl_measure_piece *p) {
    m->finite += p->finite;
    m->nonzero += p->nonzero;
    m->underflown += p->underflown;
    m->signal += p->signal;
    m->noise += p->noise;
    m->relative += p->relative;
    if (p->relative_max > m->relative_max) m->relative_max = p->relative_max;
    if (p->amax > m->amax) m->amax = p->amax;
}

void fpl_measure_values(struct fpl_measure *m, int64_t n, const float *x, const float *out) {
    for (int64_t i = 0; i < n; i += FPL_MEASURE_PIECE) {
        struct lanes s;
        memset(&s, 0, sizeof s);
        sum_lanes(&s, n - i < FPL_MEASURE_PIECE ? n - i : FPL_MEASURE_PIECE, x + i, out + i);
        const struct fpl_measure_piece p = fold(&s);
        fpl_measure_add(m, &p);
    }
    m->elements += n;
}

void fpl_measure_merge(struct fpl_measure *to, const struct fpl_measure *part) {
    to->elements += part->elements;
    to->finite += part->finite;
    to->nonzero += part->nonzero;
    to->underflown += part->underflown;
    to->clipped += part->clipped;
    to->groups += part->groups;
    to->tensors += part->tensors;
    to->signal += part->signal;
    to->noise += part->noise;
    to->relative += part->relative;
    if (part->relative_max > to->relative_max) to->relative_max = part->relative_max;
    if (part->amax > to->amax) to->amax = part->amax;
}

/* ---- exponents ------------------------------------------------------------------------------ */

/* Exponent fields first; only subnormals need more than a table look-up. */
void fpl_exponents_add(struct fpl_exponents *e, int64_t n, const float *x, const float *out) {
    for (int64_t i = 0; i < n; i++) {
        const uint32_t a = fpl_float_bits(x[i]) & 0x7fffffffu;
        if (a == 0 || a >= 0x7f800000u) continue;
        const int at = fpl_exponent(x[i]) - FPL_EXPONENT_LEAST;
        e->count[at]++;
        e->lost[at] += (fpl_float_bits(out[i]) & 0x7fffffffu) == 0;
    }
}

void fpl_exponents_merge(struct fpl_exponents *to, const struct fpl_exponents *part) {
    for (int i = 0; i < FPL_EXPONENTS; i++) {
        to->count[i] += part->count[i];
        to->lost[i] += part->lost[i];
    }
}
