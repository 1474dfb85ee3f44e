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

#include "../../formats/clones.h"

/* ---- chinchilla, with and without interaction ---------------------------------------------------- */

enum { E, A, ALPHA, B, BETA, C };

/* with_c: a constant at either call, so that each becomes a loop of its own. */
FPL_INLINE void nd_loop(const double *t, const struct fpl_block *at, int with_c, const struct fpl_values *out,
                        lanes *by_d) {
    const double e = t[E], a0 = t[A], alpha = t[ALPHA], b0 = t[B], beta = t[BETA], c = with_c ? t[C] : 0.0;
    lanes *const value = out->value, *const grad = out->grad;
    const int s = out->stride;
    for (int k = 0; k < at->count; k++) {
        const lanes n = at->n[k], d = at->d[k], a = exp_of(a0 - alpha * n),
                    b = exp_of(with_c ? b0 - beta * d + c * n : b0 - beta * d);
        value[k] = e + a + b;
        by_d[k] = -beta * b;
        grad[E * s + k] = all_of(1.0);
        grad[A * s + k] = a;
        grad[ALPHA * s + k] = -a * n;
        grad[B * s + k] = b;
        grad[BETA * s + k] = -b * d;
        if (with_c) grad[C * s + k] = b * n;
    }
}

static FPL_CLONES void nd_clones(const double *t, const struct fpl_block *at, const struct fpl_values *out,
                                 lanes *by_d) {
    nd_loop(t, at, 1, out, by_d);
}

static FPL_CLONES void additive_clones(const double *t, const struct fpl_block *at,
                                       const struct fpl_values *out, lanes *by_d) {
    nd_loop(t, at, 0, out, by_d);
}

static void nd_rows(const double *t, const struct fpl_block *at, const struct fpl_values *out, lanes *by_d) {
    nd_clones(t, at, out, by_d);
}

static void additive_rows(const double *t, const struct fpl_block *at, const struct fpl_values *out,
                          lanes *by_d) {
    additive_clones(t, at, out, by_d);
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
    .rows = additive_rows,
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
    .rows = nd_rows,
    .publish = nd_publish,
    .internal = nd_internal,
    .start = nd_start,
};

/* ---- capacity --------------------------------------------------------------------------------------- */

enum { K = 5 };

static FPL_CLONES void capacity_clones(const double *t, const struct fpl_block *at,
                                       const struct fpl_values *out, lanes *by_d) {
    const double e = t[E], a0 = t[A], alpha = t[ALPHA], b0 = t[B], beta = t[BETA], k = t[K], by_k = 1.0 / k;
    lanes *const value = out->value, *const grad = out->grad;
    const int s = out->stride;
    for (int i = 0; i < at->count; i++) {
        const lanes n = at->n[i], d = at->d[i], a = a0 - alpha * n, b = b0 - beta * d, high = max_of(a, b);
        const lanes za = (a - high) * by_k, zb = (b - high) * by_k, wa = exp_of(za), wb = exp_of(zb);
        const lanes sum = wa + wb, log_sum = log_of(sum), capacity = exp_of(high + k * log_sum);
        const lanes first = capacity * (wa / sum), second = capacity * (wb / sum);
        value[i] = e + capacity;
        by_d[i] = -second * beta;
        grad[E * s + i] = all_of(1.0);
        grad[A * s + i] = first;
        grad[ALPHA * s + i] = -first * n;
        grad[B * s + i] = second;
        grad[BETA * s + i] = -second * d;
        grad[K * s + i] = capacity * log_sum - (first * za + second * zb);
    }
}

static void capacity_rows(const double *t, const struct fpl_block *at, const struct fpl_values *out,
                          lanes *by_d) {
    capacity_clones(t, at, out, by_d);
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
    .rows = capacity_rows,
    .publish = capacity_publish,
    .internal = capacity_internal,
    .start = capacity_start,
};

/* ---- farseer ------------------------------------------------------------------------------------------ */

enum { P3, S3, G3, P2, S2, G2, P1, S1, G1 };

/* (e^(g n) - 1)/g = n psi(g n), psi(z) = (e^z - 1)/z = 1 + z phi(z)/2, and its derivative in g. */
FPL_INLINE lanes bend(double g, lanes n, lanes *by_g) {
    lanes slope;
    const lanes z = g * n, phi = phi_of(z, &slope);
    *by_g = n * n * (0.5 * phi + 0.5 * z * slope);
    return n * (1.0 + 0.5 * z * phi);
}

static FPL_CLONES void farseer_clones(const double *t, const struct fpl_block *at,
                                      const struct fpl_values *out, lanes *by_d) {
    const double p3 = t[P3], s3 = t[S3], g3 = t[G3], p2 = t[P2], s2 = t[S2], g2 = t[G2], p1 = t[P1],
                 s1 = t[S1], g1 = t[G1], d0 = at->d0, centre = exp(p1);
    /* f2 of the published form has value p2 + e^p1 d0 and slope s2 + e^p1 s1 d0 at the centre */
    const double rise = s2 + centre * s1 * d0;
    lanes *const value = out->value, *const grad = out->grad;
    const int s = out->stride;
    for (int k = 0; k < at->count; k++) {
        lanes b1, b2, b3;
        const lanes n = at->n[k], h1 = bend(g1, n, &b1), h2 = bend(g2, n, &b2), h3 = bend(g3, n, &b3);
        const lanes slope = exp_of(p1 + s1 * h1), x = d0 + at->d[k], first = exp_of(p3 + s3 * h3),
                    second = exp_of(p2 + centre * d0 + rise * h2 - slope * x);
        value[k] = first + second;
        by_d[k] = -slope * second;
        grad[P3 * s + k] = first;
        grad[S3 * s + k] = first * h3;
        grad[G3 * s + k] = first * s3 * b3;
        grad[P2 * s + k] = second;
        grad[S2 * s + k] = second * h2;
        grad[G2 * s + k] = second * rise * b2;
        grad[P1 * s + k] = second * (centre * d0 * (1.0 + s1 * h2) - slope * x);
        grad[S1 * s + k] = second * (centre * d0 * h2 - slope * h1 * x);
        grad[G1 * s + k] = -second * slope * s1 * b1 * x;
    }
}

static void farseer_rows(const double *t, const struct fpl_block *at, const struct fpl_values *out,
                         lanes *by_d) {
    farseer_clones(t, at, out, by_d);
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
    .rows = farseer_rows,
    .publish = farseer_publish,
    .internal = farseer_internal,
    .start = farseer_start,
};
