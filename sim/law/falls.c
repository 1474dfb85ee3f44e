/* falls.c - the inner sum of the multi-power law, a vector at a time.
 *
 *   sum_k fall_k (1 - (1 + w_k)^-beta),  w_k = C eta_k^-gamma S_k
 *
 * Every row of a loss curve sums over all falls of its rate, two exponentials and a logarithm each: most of
 * a fit's time.  Both functions are written here without branches, so that the compiler makes vectors of
 * them (clones.h): exp by a Taylor polynomial of degree 13 on |r| <= ln(2)/2 (remainder 4e-18), log1p as
 * log(u) + (x - (u - 1))/u with u = 1 + x rounded, log by the series of 2 artanh(s) to s^21 with
 * |s| <= 0.1716 (remainder 3e-18).  Sums run in eight lanes, added in order at the end, so that every
 * instruction set gives the same bits.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../../formats/clones.h"
#include "falls.h"

enum { LANES = 8, CHUNK = 256 };

#define INLINE static inline __attribute__((always_inline))
#define SHIFTER 0x1.8p52 /* adding it rounds to an integer, which is then in the low bits */

INLINE double double_of(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE double exp_of(double x) {
    static const double c[] = {1.0 / 6227020800,
                               1.0 / 479001600,
                               1.0 / 39916800,
                               1.0 / 3628800,
                               1.0 / 362880,
                               1.0 / 40320,
                               1.0 / 5040,
                               1.0 / 720,
                               1.0 / 120,
                               1.0 / 24,
                               1.0 / 6,
                               0.5,
                               1.0,
                               1.0};
    x = x < -700.0 ? -700.0 : x > 700.0 ? 700.0 : x;
    const double shifted = x * 0x1.71547652b82fep0 + SHIFTER, n = shifted - SHIFTER;
    const double r = (x - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
    double p = c[0];
    for (int k = 1; k < 14; k++) p = p * r + c[k];
    return double_of(bits_of(p) + (bits_of(shifted) << 52));
}

/* x >= 1 */
INLINE double log_of(double x) {
    const uint64_t bits = bits_of(x), k = (bits - 0x3fe6a09e667f3bcdu) >> 52;
    const double m = double_of(bits - (k << 52)), n = double_of(k | 0x4330000000000000u) - 0x1p52;
    const double f = m - 1.0, s = f / (2.0 + f), z = s * s;
    double p = 1.0 / 21;
    p = p * z + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    return n * 0x1.62e42fefa3800p-1 + (2.0 * s + (2.0 * s * z * p + n * 0x1.ef35793c76730p-45));
}

/* x >= 0; by: 1/(1 + x) */
INLINE double log1p_of(double x, double *by) {
    const double u = 1.0 + x;
    *by = 1.0 / u;
    return log_of(u) + (x - (u - 1.0)) * *by;
}

FPL_CLONES void fpl_falls_exp(int count, const double *x, double *out) {
    for (int i = 0; i < count; i++) out[i] = exp_of(x[i]);
}

FPL_CLONES void fpl_falls_log1p(int count, const double *x, double *out) {
    double by;
    for (int i = 0; i < count; i++) out[i] = log1p_of(x[i], &by);
}

/* What each fall adds, four arrays of CHUNK. */
struct parts {
    double value[CHUNK], by_beta[CHUNK], by_c[CHUNK], by_gamma[CHUNK];
};

FPL_CLONES static void parts_of(struct parts *restrict p, const struct fpl_speed *s, int count,
                                const double *restrict fall, const double *restrict log_lr,
                                const double *restrict before, double sum) {
    const double at = s->at, c = s->c, gamma = s->gamma, beta = s->beta;
    for (int k = 0; k < count; k++) {
        const double bend = log_lr[k] - at, since = sum > before[k] ? sum - before[k] : 0.0,
                     fast = exp_of(c - gamma * bend) * since;
        double by;
        const double w = fast < 1e15 ? fast : 1e15, log_w = log1p_of(w, &by);
        const double left = exp_of(-beta * log_w), part = fall[k] * left, slope = beta * part * (w * by);
        p->value[k] = fall[k] - part;
        p->by_beta[k] = part * log_w;
        p->by_c[k] = slope;
        p->by_gamma[k] = -slope * bend;
    }
}

/* In lanes, those added in order. */
FPL_CLONES static double sum_of(const double *x, int count) {
    double lane[LANES] = {0.0}, sum = 0.0;
    const int whole = count - count % LANES;
    for (int k = 0; k < whole; k += LANES)
        for (int i = 0; i < LANES; i++) lane[i] += x[k + i];
    for (int i = 0; i < LANES; i++) sum += lane[i];
    for (int k = whole; k < count; k++) sum += x[k];
    return sum;
}

void fpl_add_falls(struct fpl_gain *gain, const struct fpl_speed *speed, int count, const double *fall,
                   const double *log_lr, const double *before, double sum) {
    struct parts parts;
    for (int from = 0; from < count; from += CHUNK) {
        const int n = count - from < CHUNK ? count - from : CHUNK;
        parts_of(&parts, speed, n, fall + from, log_lr + from, before + from, sum);
        gain->value += sum_of(parts.value, n);
        gain->by_beta += sum_of(parts.by_beta, n);
        gain->by_c += sum_of(parts.by_c, n);
        gain->by_gamma += sum_of(parts.by_gamma, n);
    }
}
