/* watch.h - one run seen from outside: its loss curve, and whether it still trains.
 *
 * A pure function of the sequence (training loss, gradient norm, non-finite operands) of
 * the steps; plain data, so that a checkpoint can hold it.
 *
 * Diverged, at the step where it is seen:
 *   - the loss or the gradient norm is not finite, or a quantized operand had a non-finite
 *     input (whatever clamping made of it);
 *   - after warm-up, three windows in a row have a mean loss above 1.5 log V, or the held-out
 *     loss at the end is: worse than guessing, with no way back seen in practice.
 * Collapsed:
 *   - a window once had a mean loss below 0.9 U (U: unigram entropy), so the run had
 *     learned, and now three windows in a row have one above 0.95 U;
 *   - at the end the held-out loss is above 0.95 U after having learned, or above 0.98 U
 *     without: nothing was learned but the frequencies of tokens.
 * A window is 16,384 tokens, at least 16 steps: the standard error of its mean is near
 * 0.015 nats, well below 0.05 U.  Three in a row, because a spike that recovers is no
 * collapse.  U unknown (NaN): no collapse is ever found.
 *
 * Spike: a gradient norm above ten times its running mean (over about 64 steps, from step 64
 * on, each norm counted at most ten times the mean).  Spikes are counted, and the largest
 * is named in the reason given for a collapse.
 */
#ifndef FPL_WATCH_H
#define FPL_WATCH_H

#include "../base/record.h"

#define FPL_CURVE_POINTS 512

struct fpl_watch {
    /* fixed by the configuration */
    double unigram, uniform;     /* U and log V */
    int64_t window, warm, width; /* steps of a window, of warm-up, of a point of the curve */
    /* collapse and divergence */
    double sum, best;
    int64_t count, near, above; /* steps in the open window; windows in a row */
    /* spikes */
    double norm_mean, spike_norm;
    int64_t spikes, spike_step;
    /* curve: the open point, then the closed ones */
    double point_sum, point_squares, point_norm;
    int64_t point_steps, points;
    struct fpl_point curve[FPL_CURVE_POINTS];
};

void fpl_watch_init(struct fpl_watch *w, double unigram, int64_t vocab, int64_t batch_tokens, int64_t steps,
                    int64_t warm);

/* Steps are numbered from 1 here: `step` steps are done. Returns FPL_RUN_OK to go on; else
 * why[160] says what was seen. nonfinite: of this step. */
enum fpl_status fpl_watch_step(struct fpl_watch *w, int64_t step, double loss, double norm, int64_t nonfinite,
                               char why[160]);

/* The status of a run that did all its steps, from its held-out loss and the non-finite
 * operands met in computing it. */
enum fpl_status fpl_watch_end(const struct fpl_watch *w, int64_t step, double held_out, int64_t nonfinite,
                              char why[160]);

/* Close the open point, if any: at the end of a run. */
void fpl_watch_close(struct fpl_watch *w, int64_t step);

#endif
