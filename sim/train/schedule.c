/* schedule.c - see schedule.h.
 *
 * The final rate is an absolute number, not a share of the peak: with a final rate that
 * grows with the peak, the best peak of a sweep depends on the ratio chosen (Step Law,
 * arXiv 2503.04715, section on schedules).  A run of one step, or one whose warm-up ends at
 * its last step, ends at the peak.
 */
#include "schedule.h"

#include <string.h>

#include "../base/detmath.h"

int64_t fpl_warmup_steps(const struct fpl_config *c) {
    const int64_t steps = fpl_config_steps(c), warm = (int64_t)(c->warmup * (double)steps + 0.5);
    return warm < steps ? warm : steps - 1;
}

static double cosine(const struct fpl_config *c, double done) {
    double sine, wave;
    fpl_det_sincos(3.14159265358979323846 * done, &sine, &wave);
    return c->lr_final + (c->lr - c->lr_final) * (0.5 * (1.0 + wave));
}

double fpl_learning_rate(const struct fpl_config *c, int64_t step) {
    const int64_t warm = fpl_warmup_steps(c), last = fpl_config_steps(c) - 1;
    if (step < warm) return c->lr * (double)(step + 1) / (double)(warm + 1);
    if (last <= warm) return c->lr;
    if (strcmp(c->schedule, "cosine") == 0) return cosine(c, (double)(step - warm) / (double)(last - warm));
    if (strcmp(c->schedule, "wsd") == 0) {
        int64_t decay = (int64_t)(c->decay_share * (double)(last + 1) + 0.5);
        if (decay > last - warm) decay = last - warm;
        const int64_t into = step - (last - decay);
        if (into > 0) return c->lr + (c->lr_final - c->lr) * ((double)into / (double)decay);
    }
    return c->lr;
}
