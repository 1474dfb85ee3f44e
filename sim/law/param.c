/* param.c - between the parameters that a fit moves and those that papers publish.
 *
 *   ln p_j  or  p_j  =  theta_j + sum over links of theta[of] (n ln N0 + d ln D0 + k)
 *
 * theta_j is the logarithm of a positive constant at the data's centre (N0, D0): A/N^alpha becomes
 * exp(theta_A - alpha ln(N/N0)) with ln A = theta_A + alpha ln N0, so that a prefactor and its
 * exponent, which published forms tie to each other over many powers of ten, are nearly
 * independent.  A law states its links in a table (struct fpl_form) and both directions follow from
 * it; links refer only to parameters that have none themselves, so the inverse is exact.
 */
#include <math.h>

#include "problem.h"

/* What the links of parameter j add, from parameters of which `value` tells theta. */
static double shift(const struct fpl_form *form, const double *value, const struct fpl_centre *centre) {
    double sum = 0.0;
    for (size_t k = 0; k < sizeof form->link / sizeof form->link[0]; k++) {
        const struct fpl_link *l = &form->link[k];
        const double factor = l->n * centre->n + l->d * centre->d + l->k;
        if (factor != 0.0) sum += value[l->of] * factor;
    }
    return sum;
}

void fpl_publish(const struct fpl_law *law, const double *theta, const struct fpl_centre *centre,
                 double *published) {
    for (int j = 0; j < law->params; j++) {
        const double x = theta[j] + shift(&law->form[j], theta, centre);
        published[j] = law->form[j].log ? exp(x) : x;
    }
}

/* A link's parameter is published as itself, so `published` holds its theta. */
void fpl_internal(const struct fpl_law *law, const double *published, const struct fpl_centre *centre,
                  double *theta) {
    for (int j = 0; j < law->params; j++) {
        const double x = law->form[j].log ? log(published[j]) : published[j];
        theta[j] = x - shift(&law->form[j], published, centre);
    }
}
