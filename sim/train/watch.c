/* watch.c - see watch.h for the rules and their reasons.
 *
 * A point of the curve covers ceil(steps/512) steps: the mean of their losses, its standard
 * error over those steps (NaN for one), and the largest gradient norm, so that spikes stay
 * visible.  Its step is the last one covered.
 */
#include "watch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/detmath.h"

#define WINDOW_TOKENS 16384
#define WINDOW_STEPS 16
#define WINDOWS 3
#define LEARNED_SHARE 0.9
#define COLLAPSED_SHARE 0.95
#define UNLEARNED_SHARE 0.98
#define WORSE_SHARE 1.5
#define SPIKE_FACTOR 10.0
#define SPIKE_STEPS 64

void fpl_watch_init(struct fpl_watch *w, double unigram, int64_t vocab, int64_t batch_tokens, int64_t steps,
                    int64_t warm) {
    memset(w, 0, sizeof *w);
    w->unigram = unigram;
    w->uniform = fpl_det_log((double)vocab);
    w->window = (WINDOW_TOKENS + batch_tokens - 1) / batch_tokens;
    if (w->window < WINDOW_STEPS) w->window = WINDOW_STEPS;
    w->warm = warm;
    w->width = (steps + FPL_CURVE_POINTS - 1) / FPL_CURVE_POINTS;
    w->best = (double)INFINITY;
}

void fpl_watch_close(struct fpl_watch *w, int64_t step) {
    if (w->point_steps == 0 || w->points == FPL_CURVE_POINTS) return;
    const double n = (double)w->point_steps, mean = w->point_sum / n;
    const double squares = w->point_squares - n * mean * mean;
    struct fpl_point *p = &w->curve[w->points++];
    p->step = step;
    p->loss = mean;
    p->se = n > 1 ? sqrt((squares > 0 ? squares : 0) / (n - 1) / n) : (double)NAN;
    p->grad_norm = w->point_norm;
    w->point_sum = w->point_squares = w->point_norm = 0;
    w->point_steps = 0;
}

static void add_to_curve(struct fpl_watch *w, int64_t step, double loss, double norm) {
    w->point_sum += loss;
    w->point_squares += loss * loss;
    if (!(norm <= w->point_norm)) w->point_norm = norm; /* NaN is kept */
    if (++w->point_steps == w->width) fpl_watch_close(w, step);
}

static void look_for_spike(struct fpl_watch *w, int64_t step, double norm) {
    const double limit = SPIKE_FACTOR * w->norm_mean;
    if (step > SPIKE_STEPS && norm > limit) {
        w->spikes++;
        if (norm > w->spike_norm) {
            w->spike_norm = norm;
            w->spike_step = step;
        }
    }
    const double counted = step > SPIKE_STEPS && norm > limit ? limit : norm;
    w->norm_mean += (counted - w->norm_mean) / (double)(step < SPIKE_STEPS ? step : SPIKE_STEPS);
}

/* The sign of a NaN differs between instruction sets, so it is not printed. */
static const char *word_for(double x) { return isnan(x) ? "not a number" : "infinite"; }

static int has_learned(const struct fpl_watch *w) { return w->best < LEARNED_SHARE * w->unigram; }

static enum fpl_status close_window(struct fpl_watch *w, int64_t step, char why[160]) {
    const double mean = w->sum / (double)w->count;
    w->sum = 0;
    w->count = 0;
    w->near = has_learned(w) && mean > COLLAPSED_SHARE * w->unigram ? w->near + 1 : 0;
    w->above = step > w->warm && mean > WORSE_SHARE * w->uniform ? w->above + 1 : 0;
    if (mean < w->best) w->best = mean;
    if (w->above == WINDOWS) {
        snprintf(why, 160, "step %lld: training loss %.4f, worse than guessing (%.4f), for %lld steps",
                 (long long)step, mean, w->uniform, (long long)(WINDOWS * w->window));
        return FPL_RUN_DIVERGED;
    }
    if (w->near < WINDOWS) return FPL_RUN_OK;
    int n =
        snprintf(why, 160,
                 "step %lld: training loss %.4f, near the unigram entropy %.4f for %lld steps, had been %.4f",
                 (long long)step, mean, w->unigram, (long long)(WINDOWS * w->window), w->best);
    if (w->spikes > 0 && n > 0 && n < 160)
        snprintf(why + n, (size_t)(160 - n), "; gradient norm %.3g at step %lld", w->spike_norm,
                 (long long)w->spike_step);
    return FPL_RUN_COLLAPSED;
}

enum fpl_status fpl_watch_step(struct fpl_watch *w, int64_t step, double loss, double norm, int64_t nonfinite,
                               char why[160]) {
    add_to_curve(w, step, loss, norm);
    if (!isfinite(loss))
        snprintf(why, 160, "step %lld: the training loss is %s", (long long)step, word_for(loss));
    else if (!isfinite(norm))
        snprintf(why, 160, "step %lld: the gradient norm is %s", (long long)step, word_for(norm));
    else if (nonfinite > 0)
        snprintf(why, 160, "step %lld: %lld non-finite inputs of quantized operands", (long long)step,
                 (long long)nonfinite);
    else {
        look_for_spike(w, step, norm);
        w->sum += loss;
        if (++w->count < w->window) return FPL_RUN_OK;
        return close_window(w, step, why);
    }
    return FPL_RUN_DIVERGED;
}

enum fpl_status fpl_watch_end(const struct fpl_watch *w, int64_t step, double held_out, int64_t nonfinite,
                              char why[160]) {
    const double limit = (has_learned(w) ? COLLAPSED_SHARE : UNLEARNED_SHARE) * w->unigram;
    if (!isfinite(held_out))
        snprintf(why, 160, "step %lld: the held-out loss is %s", (long long)step, word_for(held_out));
    else if (nonfinite > 0)
        snprintf(why, 160, "step %lld: %lld non-finite inputs of quantized operands in the evaluation",
                 (long long)step, (long long)nonfinite);
    else if (held_out > WORSE_SHARE * w->uniform)
        snprintf(why, 160, "step %lld: held-out loss %.4f, worse than guessing (%.4f)", (long long)step,
                 held_out, w->uniform);
    else if (held_out > limit) {
        snprintf(why, 160, "step %lld: held-out loss %.4f, near or above the unigram entropy %.4f",
                 (long long)step, held_out, w->unigram);
        return FPL_RUN_COLLAPSED;
    } else
        return FPL_RUN_OK;
    return FPL_RUN_DIVERGED;
}
