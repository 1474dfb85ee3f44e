/* penalty.c - what a format costs, in nats (arXiv 2501.02423, the floating-point quantization law).
 *
 *   penalty = D^beta / N^alpha * log2(B) / (gamma (E + 1/2)^delta (M + 1/2)^nu)
 *
 * with alpha and beta shared with the law's base.  Internally t = (g, delta, nu) with
 * gamma = e^g D0^beta N0^-alpha / (2.5^delta 1.5^nu): the penalty of E2M1 at the data's
 * centre is log2(B) e^-g, so g is known about as well as the gaps themselves.
 */
#include <math.h>

#include "problem.h"

double fpl_penalty(const double t[3], double alpha, double beta, const struct fpl_law_at *at) {
    if (!at->quantized) return 0.0;
    return at->g * exp(beta * at->d - alpha * at->n - t[0] - t[1] * at->e - t[2] * at->m);
}

static double gamma_offset(double delta, double nu, double alpha, double beta,
                           const struct fpl_centre *centre) {
    return beta * centre->d - alpha * centre->n - delta * log(FPL_E_ORIGIN) - nu * log(FPL_M_ORIGIN);
}

double fpl_gamma_publish(const double t[3], double alpha, double beta, const struct fpl_centre *centre) {
    return exp(t[0] + gamma_offset(t[1], t[2], alpha, beta, centre));
}

double fpl_gamma_internal(double gamma, double delta, double nu, double alpha, double beta,
                          const struct fpl_centre *centre) {
    return log(gamma) - gamma_offset(delta, nu, alpha, beta, centre);
}
