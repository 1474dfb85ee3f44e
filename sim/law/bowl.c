/* bowl.c - the landscape of learning rate and batch around its optimum.
 *
 *   q(u, v) = k1 K(u + r1 v; s1) + k2 K(v + r2 u; s2)
 *   K(w; s) = 2 (e^(s w) - s w - 1) / s^2          (w^2 as s -> 0)
 *
 * u = ln(lr/lr*), v = ln(batch/batch*).  K is convex with minimum 0 at 0 and skewed by s, so q
 * is convex everywhere for positive k1, k2 (a sum of convex functions of linear forms), which
 * a polynomial of the same freedom is not.  The law multiplies the loss by e^q.
 *
 * Near s w = 0 the closed form cancels; there K = w^2 phi(s w) by its series.
 */
#include <math.h>

#include "law_internal.h"

/* phi(z) = 2 (e^z - z - 1)/z^2 = sum of 2 z^k/(k+2)!, and its derivative. */
static double phi(double z, double *slope) {
    if (fabs(z) < 0.5) {
        double sum = 0.0, rise = 0.0, term = 1.0; /* term = 2 z^k/(k+2)! */
        for (int k = 0; k < 14; k++) {
            sum += term;
            const double next = term / (double)(k + 3);
            rise += (double)(k + 1) * next;
            term = next * z;
        }
        *slope = rise;
        return sum;
    }
    const double e = exp(z);
    *slope = 2.0 * (e * (z - 2.0) + z + 2.0) / (z * z * z);
    return 2.0 * (e - z - 1.0) / (z * z);
}

/* K(w; s) and its derivatives in w and s. */
static double bend(double w, double s, double *by_w, double *by_s) {
    double slope;
    const double z = s * w, p = phi(z, &slope);
    *by_w = w * (2.0 * p + z * slope);
    *by_s = w * w * w * slope;
    return w * w * p;
}

double fpl_bowl(const double t[6], double u, double v, double *du, double *dv, double *dt) {
    double w1, s1, w2, s2;
    const double k1 = exp(t[0]), k2 = exp(t[3]);
    const double b1 = bend(u + t[1] * v, t[2], &w1, &s1), b2 = bend(v + t[4] * u, t[5], &w2, &s2);
    if (dt != NULL) {
        *du = k1 * w1 + k2 * w2 * t[4];
        *dv = k1 * w1 * t[1] + k2 * w2;
        dt[0] = k1 * b1;
        dt[1] = k1 * w1 * v;
        dt[2] = k1 * s1;
        dt[3] = k2 * b2;
        dt[4] = k2 * w2 * u;
        dt[5] = k2 * s2;
    }
    return k1 * b1 + k2 * b2;
}

void fpl_bowl_of_form(const double h[3], double r1, double *t) {
    const double det = h[0] * h[2] - h[1] * h[1];
    const double k1 = det / (h[0] * r1 * r1 - 2.0 * h[1] * r1 + h[2]), k2 = h[2] - k1 * r1 * r1;
    t[0] = log(fmax(k1, 1e-6));
    t[1] = r1;
    t[3] = log(fmax(k2, 1e-6));
    t[4] = fmin(3.0, fmax(-3.0, (h[1] - k1 * r1) / fmax(k2, 1e-6)));
}

int fpl_bowl_mirror(const double t[6], double out[6]) {
    const double r1 = t[1], r2 = t[4];
    if (fabs(r1) < 1e-3 || fabs(r2) < 1e-3) return 0;
    out[0] = t[3] + 2.0 * log(fabs(r2));
    out[1] = 1.0 / r2;
    out[2] = t[5] * r2;
    out[3] = t[0] + 2.0 * log(fabs(r1));
    out[4] = 1.0 / r1;
    out[5] = t[2] * r1;
    return 1;
}
