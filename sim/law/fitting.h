/* fitting.h - a fit as its makers see it: fit.c, bootstrap.c, holdout.c, fitfile.c and who asks it.
 */
#ifndef FPL_LAW_FITTING_H
#define FPL_LAW_FITTING_H

#include "minimise.h"

#define FPL_RECIPE_LONGEST sizeof((struct fpl_run *)0)->recipe

struct fpl_fit {
    const struct fpl_law *law;
    enum fpl_fit_status status;
    char message[512];
    int active[FPL_LAW_PARAMS];
    double value[FPL_LAW_PARAMS], lo[FPL_LAW_PARAMS], hi[FPL_LAW_PARAMS]; /* published */
    double delta, objective, rms, scale, window;
    int starts_agree, starts; /* starts that reached the best objective, of those polished */
    char hold_out[256];
    double held_out_rms, held_out_mean;
    size_t held_out_runs;
    double N[2], D[2];
    double range[FPL_VARIABLES][2]; /* 0: not known */
    char schedule[16];
    const char *conventions;         /* static; NULL: none stated */
    char where[1024];                /* of the table; read from a file only */
    char recipe[FPL_RECIPE_LONGEST]; /* of the first quantized run; "": not known */
    size_t used;
    struct fpl_left_list left;
    int bootstrap; /* vectors kept */
    double level;
    double *vector; /* bootstrap x params, published */
    struct fpl_centre centre;
    enum fpl_objective_kind kind;
    enum fpl_bootstrap_unit unit;
    size_t units;     /* of the bootstrap */
    double condition; /* of the information matrix in the parameters' own units */
    int free_params;
    int identified[FPL_LAW_PARAMS]; /* free, not held by a bound, and known to within its unit */
    char findings[4096];            /* sentences, each ended by a line feed */
    struct fpl_held_cell *held;
    size_t held_count;
    double base_rms[4]; /* held-out error by base, in the order of fpl_law_joints; 0: not tried */
    int profiled[FPL_LAW_PARAMS];
    struct fpl_estimate profile[FPL_LAW_PARAMS]; /* published */
};

/* Appends a sentence to the findings (cut where they are full). */
void fpl_finding(struct fpl_fit *fit, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Resample: fills fit->vector, lo and hi.  theta is the full fit. */
enum fpl_code fpl_bootstrap(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                            const struct fpl_runs *runs, int count, uint64_t seed, struct fpl_error *err);
/* Held-out error of an expression or "cell" (holdout.c): fills the fit's held_out fields. */
enum fpl_code fpl_hold_out(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                           const struct fpl_runs *runs, const char *expression, struct fpl_error *err);
/* A decision on the fit's parameters and on every bootstrap vector, with its interval; resamples on
 * which it is undefined are left out. */
typedef double fpl_decision(const struct fpl_fit *fit, const double *theta, const void *question);
struct fpl_estimate fpl_estimate_of(const struct fpl_fit *fit, fpl_decision *decide, const void *question);
/* Variables of a question that follow from others (predict.c). */
void fpl_question_derive(struct fpl_question *q);
/* fpl_fit_best_bits at given parameters. */
int fpl_best_bits_of(const struct fpl_fit *fit, const double *theta, double flop, double block, double *bits,
                     double *N, double *D);
/* The law on the base that the options name, or with "auto" on that with the least held-out error, within
 * one standard error the simplest (choose.c); rms: held-out error by base, NaN where it could not be
 * fitted, untouched where nothing was chosen. */
enum fpl_code fpl_law_of_options(const struct fpl_law **law, const struct fpl_runs *runs,
                                 const struct fpl_fit_options *options, double rms[4], struct fpl_error *err);
/* Quantile of sorted values, at rank p (count + 1): unbiased for the coverage of intervals. */
double fpl_quantile(const double *sorted, size_t count, double p);
/* P(chi squared with `freedom` degrees > x). */
double fpl_chi_squared_above(double x, double freedom);

#endif
