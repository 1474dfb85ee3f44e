/* contest.h - laws of learning rate and batch against each other on one grid of runs: residuals in
 * sample and by cells held out, regret (regret.h), and the error of the loss beyond the fitted range.
 */
#ifndef FPL_CONTEST_H
#define FPL_CONTEST_H

#include "regret.h"

/* A law as it enters: published constants, or fitted with these options. */
struct fpl_contestant {
    const char *label;
    const char *law; /* "steplaw:paper" or a law's name */
    const char *base, *fix, *release;
};
/* The models of the shared notes, section 4, and some more; ended by a NULL label. */
extern const struct fpl_contestant fpl_contestants[];

#define FPL_BEYOND 8

struct fpl_score {
    const struct fpl_contestant *who;
    char base[32]; /* that the fit stands on; "" */
    int fitted;    /* 0: published constants, in sample by nature */
    int parameters;
    double rms, held_out_rms;              /* of log residuals; NaN: not about the loss */
    struct fpl_estimate nearest, smoothed; /* mean over cells, each held out in turn */
    size_t off_grid;
    size_t beyond; /* cells of the extrapolation, at most FPL_BEYOND */
    struct {
        double N, D, mean; /* of ln(observed/predicted) */
    } cell[FPL_BEYOND];
    char note[256]; /* "" or why the fit is not to be trusted */
};

/* options: delta, window (of joint; the recipe keeps its own), threads, seed, level; bootstrap: draws of
 * cells for the intervals; hold_out: the extrapolation, NULL: largest-N. */
enum fpl_code fpl_contest(const struct fpl_contestant *who, const struct fpl_runs *runs,
                          const struct fpl_grid *grid, const struct fpl_fit_options *options,
                          struct fpl_score *out, struct fpl_error *err);

/* Schema fplaw-regret/1; malloced, NULL: out of memory. */
char *fpl_scores_to_json(const struct fpl_score *score, size_t count, const struct fpl_grid *grid,
                         const struct fpl_estimate *perfect, double noise, const struct fpl_runs *runs,
                         const char *version, const char *revision);

#endif
