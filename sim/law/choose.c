/* choose.c - which base a joint fit stands on (--base auto).
 *
 * Every base (base.h) is fitted to the same rows and judged by the runs of cells held out one at a
 * time: a base that fits its own runs better may predict others worse, and with a poor base the bowl
 * absorbs its misfit and puts the optimum in the wrong place.  Of the bases whose held-out squared
 * error is within one standard error (over cells, paired) of the least, the one with the fewest
 * parameters is taken (the one-standard-error rule of Breiman et al. 1984); equally many: the lesser
 * error.  Bases that do not converge are not eligible.
 */
#include <math.h>
#include <string.h>

#include "base.h"
#include "fitting.h"

enum { BASES = 4 };

struct trial {
    struct fpl_fit *fit; /* NULL: none */
    double square;       /* summed over held-out runs */
};

static double cell_square(const struct fpl_held_cell *c) { return (double)c->runs * c->rms * c->rms; }

/* Is b's error above a's by no more than one standard error of the difference? */
static int close_enough(const struct fpl_fit *a, const struct fpl_fit *b) {
    const double cells = (double)a->held_count;
    double mean = 0.0, square = 0.0;
    if (a->held_count != b->held_count || cells < 2.0) return 0;
    for (size_t i = 0; i < a->held_count; i++)
        mean += (cell_square(&b->held[i]) - cell_square(&a->held[i])) / cells;
    for (size_t i = 0; i < a->held_count; i++) {
        const double d = cell_square(&b->held[i]) - cell_square(&a->held[i]) - mean;
        square += d * d;
    }
    return mean <= sqrt(square / (cells - 1.0) / cells);
}

static int pick(const struct trial *trial) {
    int least = -1, best;
    for (int k = 0; k < BASES; k++)
        if (trial[k].fit != NULL && (least < 0 || trial[k].square < trial[least].square)) least = k;
    if (least < 0) return -1;
    best = least;
    for (int k = 0; k < BASES; k++) {
        if (trial[k].fit == NULL || k == least || !close_enough(trial[least].fit, trial[k].fit)) continue;
        const size_t mine = fpl_fit_param_count(trial[k].fit), theirs = fpl_fit_param_count(trial[best].fit);
        if (mine < theirs || (mine == theirs && trial[k].square < trial[best].square)) best = k;
    }
    return best;
}

/* Fit of one base, judged; NULL where it cannot be. */
static struct fpl_fit *judge_base(const struct fpl_law *law, const struct fpl_runs *runs,
                                  const struct fpl_fit_options *options) {
    struct fpl_fit *fit = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (fpl_law_fit(law, runs, options, &fit, &err) == FPL_OK) return fit;
    fpl_fit_free(fit);
    return NULL;
}

static const struct fpl_law *choose_base(const struct fpl_law *law, const struct fpl_runs *runs,
                                         const struct fpl_fit_options *given, double rms[BASES]) {
    struct fpl_fit_options options = *given;
    struct trial trial[BASES] = {{NULL, 0.0}};
    options.bootstrap = 0;
    options.base = options.profile = NULL;
    options.diagnose = 0;
    options.hold_out = "cell";
    struct fpl_fit *first = judge_base(law, runs, &options);
    if (first == NULL) return law;
    options.window = first->window; /* the same runs for all */
    for (int k = 0; k < BASES; k++) {
        trial[k].fit = judge_base(fpl_law_joints[k], runs, &options);
        rms[k] = trial[k].fit != NULL ? trial[k].fit->held_out_rms : (double)NAN;
        trial[k].square = trial[k].fit != NULL ? rms[k] * rms[k] : HUGE_VAL;
    }
    const int best = pick(trial);
    for (int k = 0; k < BASES; k++) fpl_fit_free(trial[k].fit);
    fpl_fit_free(first);
    return best >= 0 ? fpl_law_joints[best] : law;
}

enum fpl_code fpl_law_of_options(const struct fpl_law **law, const struct fpl_runs *runs,
                                 const struct fpl_fit_options *options, double rms[4],
                                 struct fpl_error *err) {
    if (options->base == NULL || (*law)->base == NULL) return FPL_OK;
    if (strcmp(options->base, "auto") == 0) {
        *law = choose_base(*law, runs, options, rms);
        return FPL_OK;
    }
    const struct fpl_law *named = fpl_law_with_base(*law, options->base);
    if (named == NULL)
        return fpl_fail(
            err, FPL_INVALID,
            "--base: unknown base '%.40s'; auto, chinchilla, chinchilla-nd, capacity or farseer is "
            "expected",
            options->base);
    *law = named;
    return FPL_OK;
}
