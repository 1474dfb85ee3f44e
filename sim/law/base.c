/* base.c - see base.h: the four base losses, each with value, gradient and translation.
 *
 * Internal coordinates.  chinchilla: E, ln of each term at the centre, exponents, c.  capacity:
 * with X = A/N^alpha + B/D^beta, t holds ln of A^k and B^k at the centre, k alpha, k beta and k: the
 * levels and slopes in nats hardly move with k, which the prefactors do by orders of magnitude.
 * farseer: every e^(a N^g + b) has the exponent
 *
 *   f(n) = p + s (e^(g n) - 1)/g        p and s its value and slope at the centre, g -> 0 a line
 *
 * and the data term is written at the centre's D0, ln term2 = f2(n) - e^(f1(n)) (d0 + d) with p2 and
 * s2 standing for value and slope of the whole at d = 0; otherwise f2 and f1 d0, both near 10, cancel.
 */
#include "base.h"

#include <math.h>
#include <string.h>

/* ---- chinchilla, with and without interaction ---------------------------------------------------- */

enum { E, A, ALPHA, B, BETA, C };

static double nd_value(const double *t, const struct fpl_law_at *at, double *grad, double *by_d) {
    const double a = exp(t[A] - t[ALPHA] * at->n), b = exp(t[B] - t[BETA] * at->d + t[C] * at->n);
    if (grad != NULL) {
        grad[E] = 1.0;
        grad[A] = a;
        grad[ALPHA] = -a * at->n;
        grad[B] = b;
        grad[BETA] = -b * at->d;
        grad[C] = b * at->n;
        *by_d = -t[BETA] * b;
    }
    return t[E] + a + b;
}

static void nd_publish(const double *t, const struct fpl_centre *c, double *p) {
    p[E] = t[E];
    p[A] = exp(t[A] + t[ALPHA] * c->n);
    p[ALPHA] = t[ALPHA];
    p[B] = exp(t[B] + t[BETA] * c->d - t[C] * c->n);
    p[BETA] = t[BETA];
    p[C] = t[C];
}

static void nd_internal(const double *p, const struct fpl_centre *c, double *t) {
    t[E] = p[E];
    t[A] = log(p[A]) - p[ALPHA] * c->n;
    t[ALPHA] = p[ALPHA];
    t[B] = log(p[B]) - p[BETA] * c->d + p[C] * c->n;
    t[BETA] = p[BETA];
    t[C] = p[C];
}

static void nd_start(const struct fpl_levels *l, const struct fpl_centre *centre, double *t) {
    (void)centre;
    t[E] = l->E;
    t[A] = l->a;
    t[ALPHA] = l->alpha;
    t[B] = l->b;
    t[BETA] = l->beta;
    t[C] = l->c;
}

static double additive_value(const double *t, const struct fpl_law_at *at, double *grad, double *by_d) {
    double full[6], g[6];
    memcpy(full, t, 5 * sizeof *t);
    full[C] = 0.0;
    const double value = nd_value(full, at, grad != NULL ? g : NULL, by_d);
    if (grad != NULL) memcpy(grad, g, 5 * sizeof *grad);
    return value;
}

static void additive_publish(const double *t, const struct fpl_centre *c, double *p) {
    double full[6], out[6];
    memcpy(full, t, 5 * sizeof *t);
    full[C] = 0.0;
    nd_publish(full, c, out);
    memcpy(p, out, 5 * sizeof *p);
}

static void additive_internal(const double *p, const struct fpl_centre *c, double *t) {
    double full[6], out[6];
    memcpy(full, p, 5 * sizeof *p);
    full[C] = 0.0;
    nd_internal(full, c, out);
    memcpy(t, out, 5 * sizeof *t);
}

static void additive_start(const struct fpl_levels *l, const struct fpl_centre *centre, double *t) {
    double full[6];
    nd_start(l, centre, full);
    memcpy(t, full, 5 * sizeof *t);
}

const struct fpl_base fpl_base_chinchilla = {
    .name = "chinchilla",
    .citation = "arXiv 2203.15556",
    .formula = "E + A/N^alpha + B/D^beta",
    .params = 5,
    .floor_at = E,
    .alpha_at = ALPHA,
    .beta_at = BETA,
    .value = additive_value,
    .publish = additive_publish,
    .internal = additive_internal,
    .start = additive_start,
};

const struct fpl_base fpl_base_nd = {
    .name = "chinchilla-nd",
    .citation = "arXiv 2203.15556 with an N-D interaction",
    .formula = "E + A/N^alpha + B N^c/D^beta",
    .params = 6,
    .floor_at = E,
    .alpha_at = ALPHA,
    .beta_at = BETA,
    .value = nd_value,
    .publish = nd_publish,
    .internal = nd_internal,
    .start = nd_start,
};

/* ---- capacity --------------------------------------------------------------------------------------- */

enum { K = 5 };

static double capacity_value(const double *t, const struct fpl_law_at *at, double *grad, double *by_d) {
    const double k = t[K], a = t[A] - t[ALPHA] * at->n, b = t[B] - t[BETA] * at->d;
    const double high = fmax(a, b), wa = exp((a - high) / k), wb = exp((b - high) / k), sum = wa + wb;
    const double capacity = exp(high + k * log(sum));
    if (grad != NULL) {
        const double pa = wa / sum, pb = wb / sum;
        grad[E] = 1.0;
        grad[A] = capacity * pa;
        grad[ALPHA] = -capacity * pa * at->n;
        grad[B] = capacity * pb;
        grad[BETA] = -capacity * pb * at->d;
        grad[K] = capacity * (log(sum) - (pa * (a - high) + pb * (b - high)) / k);
        *by_d = -capacity * pb * t[BETA];
    }
    return t[E] + capacity;
}

static void capacity_publish(const double *t, const struct fpl_centre *c, double *p) {
    p[E] = t[E];
    p[A] = exp((t[A] + t[ALPHA] * c->n) / t[K]);
    p[ALPHA] = t[ALPHA] / t[K];
    p[B] = exp((t[B] + t[BETA] * c->d) / t[K]);
    p[BETA] = t[BETA] / t[K];
    p[K] = t[K];
}

static void capacity_internal(const double *p, const struct fpl_centre *c, double *t) {
    t[E] = p[E];
    t[A] = p[K] * (log(p[A]) - p[ALPHA] * c->n);
    t[ALPHA] = p[K] * p[ALPHA];
    t[B] = p[K] * (log(p[B]) - p[BETA] * c->d);
    t[BETA] = p[K] * p[BETA];
    t[K] = p[K];
}

/* A small common exponent is what an interaction looks like. */
static void capacity_start(const struct fpl_levels *l, const struct fpl_centre *centre, double *t) {
    nd_start(l, centre, t);
    t[K] = l->c > 0.1 ? 0.5 : 1.0;
}

const struct fpl_base fpl_base_capacity = {
    .name = "capacity",
    .citation = "arXiv 2505.14669",
    .formula = "E + (A/N^alpha + B/D^beta)^k",
    .params = 6,
    .floor_at = E,
    .alpha_at = -1,
    .beta_at = -1,
    .value = capacity_value,
    .publish = capacity_publish,
    .internal = capacity_internal,
    .start = capacity_start,
};

/* ---- farseer ------------------------------------------------------------------------------------------ */

enum { P3, S3, G3, P2, S2, G2, P1, S1, G1 };

/* (e^(g n) - 1)/g and its derivative in g. */
static double bend(double g, double n, double *by_g) {
    const double z = g * n;
    if (fabs(z) < 1e-3) {
        *by_g = n * n * (0.5 + z / 3.0 + z * z / 8.0);
        return n * (1.0 + z * (0.5 + z / 6.0));
    }
    const double e = expm1(z);
    *by_g = (n * (e + 1.0) - e / g) / g;
    return e / g;
}

static double farseer_value(const double *t, const struct fpl_law_at *at, double *grad, double *by_d) {
    double g1, g2, g3;
    const double h1 = bend(t[G1], at->n, &g1), h2 = bend(t[G2], at->n, &g2), h3 = bend(t[G3], at->n, &g3);
    const double centre = exp(t[P1]), slope = exp(t[P1] + t[S1] * h1), d0 = at->d0, x = d0 + at->d;
    /* f2 of the published form has value p2 + e^p1 d0 and slope s2 + e^p1 s1 d0 at the centre */
    const double rise = t[S2] + centre * t[S1] * d0;
    const double first = exp(t[P3] + t[S3] * h3), second = exp(t[P2] + centre * d0 + rise * h2 - slope * x);
    if (grad != NULL) {
        grad[P3] = first;
        grad[S3] = first * h3;
        grad[G3] = first * t[S3] * g3;
        grad[P2] = second;
        grad[S2] = second * h2;
        grad[G2] = second * rise * g2;
        grad[P1] = second * (centre * d0 * (1.0 + t[S1] * h2) - slope * x);
        grad[S1] = second * (centre * d0 * h2 - slope * h1 * x);
        grad[G1] = -second * slope * t[S1] * g1 * x;
        *by_d = -slope * second;
    }
    return first + second;
}

/* f(n) = p + s (e^(g n) - 1)/g as a N^g + b. */
static void power_publish(double p, double s, double g, double n0, double *out) {
    out[0] = s / g * exp(-g * n0);
    out[1] = p - s / g;
    out[2] = g;
}

static void power_internal(const double *in, double n0, double *p, double *s) {
    *s = in[0] * in[2] * exp(in[2] * n0);
    *p = in[1] + *s / in[2];
}

static void farseer_publish(const double *t, const struct fpl_centre *c, double *p) {
    const double slope = exp(t[P1]);
    power_publish(t[P3], t[S3], t[G3], c->n, p);
    power_publish(t[P2] + slope * c->d, t[S2] + slope * t[S1] * c->d, t[G2], c->n, p + 3);
    power_publish(t[P1], t[S1], t[G1], c->n, p + 6);
}

static void farseer_internal(const double *p, const struct fpl_centre *c, double *t) {
    power_internal(p, c->n, &t[P3], &t[S3]);
    power_internal(p + 3, c->n, &t[P2], &t[S2]);
    power_internal(p + 6, c->n, &t[P1], &t[S1]);
    t[P2] -= exp(t[P1]) * c->d;
    t[S2] -= exp(t[P1]) * t[S1] * c->d;
    t[G3] = p[2];
    t[G2] = p[5];
    t[G1] = p[8];
}

static void farseer_start(const struct fpl_levels *l, const struct fpl_centre *centre, double *t) {
    (void)centre;
    const double floor = fmax(l->E + exp(l->a), 1e-3);
    t[P3] = log(floor);
    t[S3] = -l->alpha * exp(l->a) / floor;
    t[P2] = l->b;
    t[S2] = l->c;
    t[P1] = log(l->beta);
    t[S1] = 0.0;
    t[G3] = t[G2] = t[G1] = 0.15;
}

const struct fpl_base fpl_base_farseer = {
    .name = "farseer",
    .citation = "arXiv 2506.10972",
    .formula = "e^(a3 N^g3 + b3) + e^(a2 N^g2 + b2) D^(-e^(a1 N^g1 + b1))",
    .params = 9,
    .floor_at = -1,
    .alpha_at = -1,
    .beta_at = -1,
    .value = farseer_value,
    .publish = farseer_publish,
    .internal = farseer_internal,
    .start = farseer_start,
};
