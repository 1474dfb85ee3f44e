/* falls.c - the inner sum of the multi-power law, a vector at a time.
 *
 *   sum_k fall_k (1 - (1 + w_k)^-beta),  w_k = C eta_k^-gamma S_k
 *
 * Every row of a loss curve sums over all falls of its rate, two exponentials and a logarithm each: most of
 * a fit's time.  They are elementary.h's.  Sums run in eight lanes, added in order at the end, so that every
 * instruction set gives the same bits.
 */
#include "falls.h"

#include <string.h>

#include "../../formats/clones.h"
#include "elementary.h"

struct parts {
    lanes value, by_beta, by_c, by_gamma;
};

FPL_INLINE void add_lanes(struct parts *p, const struct fpl_speed *s, lanes fall, lanes log_lr, lanes before,
                          double sum) {
    const lanes none = all_of(0.0), most = all_of(1e15);
    const lanes bend = log_lr - s->at, since = max_of(sum - before, none),
                fast = exp_of(s->c - s->gamma * bend) * since;
    lanes by;
    const lanes w = lanes_if(fast < most, fast, most), log_w = log1p_of(w, &by);
    const lanes left = exp_of(-s->beta * log_w), part = fall * left, slope = s->beta * part * (w * by);
    p->value += fall - part;
    p->by_beta += part * log_w;
    p->by_c += slope;
    p->by_gamma -= slope * bend;
}

/* The first `count` of eight, 0 after them. */
FPL_INLINE lanes some_of(const double *x, int count) {
    lanes all = all_of(0.0);
    for (int i = 0; i < count; i++) all[i] = x[i];
    return all;
}

FPL_INLINE lanes next_of(const double *x) {
    lanes all;
    memcpy(&all, x, sizeof all);
    return all;
}

FPL_CLONES void fpl_add_falls(struct fpl_gain *gain, const struct fpl_speed *speed, int count,
                              const double *fall, const double *log_lr, const double *before, double sum) {
    const lanes none = all_of(0.0);
    struct parts p = {none, none, none, none};
    int k = 0;
    for (; k + FPL_LANES <= count; k += FPL_LANES)
        add_lanes(&p, speed, next_of(fall + k), next_of(log_lr + k), next_of(before + k), sum);
    if (k < count) /* a fall of 0 adds 0 */
        add_lanes(&p, speed, some_of(fall + k, count - k), some_of(log_lr + k, count - k),
                  some_of(before + k, count - k), sum);
    gain->value += sum_of(p.value);
    gain->by_beta += sum_of(p.by_beta);
    gain->by_c += sum_of(p.by_c);
    gain->by_gamma += sum_of(p.by_gamma);
}
