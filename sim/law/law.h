/* law.h - laws, fits and what a fit can tell.  Reads only tables of runs (runs.h).
 *
 * A law is one file in sim/law and one row of fpl_laws: name, citation, parameters with
 * bounds and units, value and gradient (law_internal.h).  fit.c minimises, bootstrap.c
 * resamples, fitfile.c and fitread.c write and read FIT.json, predict.c answers.
 *
 * Natural logarithms; losses in nats per token; N = non-vocabulary parameters and D = tokens,
 * raw counts; lr = peak learning rate; batch_tokens = tokens of one step.
 *
 * Determinism: a fit is a function of the table, the options and the program; the number of
 * threads does not change a bit.
 */
#ifndef FPL_LAW_H
#define FPL_LAW_H

#include <stddef.h>
#include <stdint.h>

#include "../base/runs.h"

#define FPL_LAW_PARAMS 40

/* The point at which a law is asked. NaN: not given. E, M, block NaN: nothing quantized. */
struct fpl_point_at {
    double N, D, lr, batch_tokens;
    double E, M, block;
};

/* value with an interval at the fit's level; lo = hi = NaN where there is no bootstrap. */
struct fpl_estimate {
    double value, lo, hi;
};

struct fpl_law;                                /* opaque row of the registry; law_internal.h */
extern const struct fpl_law *const fpl_laws[]; /* NULL-terminated; tests iterate it */
const struct fpl_law *fpl_law_find(const char *name);
const char *fpl_law_name(const struct fpl_law *law);
const char *fpl_law_citation(const struct fpl_law *law);
const char *fpl_law_formula(const struct fpl_law *law);

struct fpl_fit_options {
    double delta;         /* Huber on log residuals; <= 0: auto (laws.md, section 6) */
    int bootstrap;        /* resamples; 0: none */
    double level;         /* 0.95 */
    const char *hold_out; /* expression, "cell", or NULL */
    int threads;
    uint64_t seed;
    double window; /* runs further above the best of their cell (a share of the loss) are left out
                      of laws with a bowl or an optimum; <= 0: auto (rows.c) */
};
#define FPL_FIT_DEFAULTS                                                                                     \
    ((struct fpl_fit_options){.delta = 0.0, .bootstrap = 1000, .level = 0.95, .threads = 1})

enum fpl_fit_status { FPL_FIT_CONVERGED, FPL_FIT_NOT_CONVERGED, FPL_FIT_UNIDENTIFIED, FPL_FIT_STATUSES };
extern const char *const fpl_fit_status_names[FPL_FIT_STATUSES + 1];

/* One fitted law: parameters, bootstrap parameter vectors (for decisions), messages. */
struct fpl_fit;

/* Fit one law.  FPL_NOT_CONVERGED still gives a fit (its status says why; an unidentified fit
 * that converged returns FPL_OK); FPL_INVALID (fewer runs than parameters, a column missing,
 * nothing left) gives none. */
enum fpl_code fpl_law_fit(const struct fpl_law *law, const struct fpl_runs *runs,
                          const struct fpl_fit_options *options, struct fpl_fit **out, struct fpl_error *err);
void fpl_fit_free(struct fpl_fit *fit);

/* Published constants as a fit without runs: "capybara:paper".  Error: names what there is. */
enum fpl_code fpl_law_preset(const char *text, struct fpl_fit **out, struct fpl_error *err);
/* The i-th published set of a law: name, source, values in parameter order; 0 past the last. */
int fpl_law_preset_at(const struct fpl_law *law, size_t i, const char **name, const char **source,
                      const double **values);

/* What a fit holds. */
const struct fpl_law *fpl_fit_law(const struct fpl_fit *fit);
enum fpl_fit_status fpl_fit_state(const struct fpl_fit *fit);
const char *fpl_fit_message(const struct fpl_fit *fit);
/* Parameters that this fit has, in the law's order (those without data are absent). */
size_t fpl_fit_param_count(const struct fpl_fit *fit);
const char *fpl_fit_param(const struct fpl_fit *fit, size_t i, struct fpl_estimate *value);
const char *fpl_fit_param_unit(const struct fpl_fit *fit, size_t i);
int fpl_fit_value(const struct fpl_fit *fit, const char *name, struct fpl_estimate *value); /* 0: absent */

struct fpl_fit_summary {
    const char *objective;              /* huber_log, squared_log */
    double delta, objective_value;      /* delta NaN for squared_log */
    double rms_log_residual, scale;     /* scale: robust, of one run */
    double window;                      /* NaN where the law has none */
    const char *hold_out;               /* NULL: none */
    double held_out_rms, held_out_mean; /* of ln(observed/predicted); NaN: none */
    size_t held_out_runs;
    size_t used, left_out;
    int bootstrap;
    double level;
    double N[2], D[2]; /* fitted range */
};
void fpl_fit_summarize(const struct fpl_fit *fit, struct fpl_fit_summary *out);
/* The i-th run left out and why; 0 past the last. */
int fpl_fit_left_out(const struct fpl_fit *fit, size_t i, const char **run, const char **why);

/* FIT.json: several fits of one table. Malloced; NULL: out of memory. */
char *fpl_fits_to_json(struct fpl_fit *const *fits, size_t count, const struct fpl_runs *runs);
/* The same, naming the program that fitted. */
char *fpl_fits_to_json_by(struct fpl_fit *const *fits, size_t count, const struct fpl_runs *runs,
                          const char *version, const char *revision);
enum fpl_code fpl_fits_read(const char *path, struct fpl_fit ***fits, size_t *count, struct fpl_error *err);
/* From memory; name is used in messages. */
enum fpl_code fpl_fits_parse(const char *name, const char *text, size_t size, struct fpl_fit ***fits,
                             size_t *count, struct fpl_error *err);
void fpl_fits_free(struct fpl_fit **fits, size_t count);

/* Answers; a question a law cannot answer gives NaN.  Of a format whose penalty the fit cannot
 * tell (no quantized runs in it, or E and M without a fixed block) loss and D_crit are NaN and
 * lr is that of the unquantized run; the warning says so. */
struct fpl_answer {
    struct fpl_estimate loss, lr, batch_tokens, D_crit; /* intervals of the mean */
    double outside; /* largest distance outside the fitted range over N, D, in octaves; 0 inside */
    char warning[256];
    struct fpl_estimate loss_new; /* interval of one new run: of the mean plus the noise of a run */
};
enum fpl_code fpl_fit_predict(const struct fpl_fit *fit, const struct fpl_point_at *at,
                              struct fpl_answer *out, struct fpl_error *err);
/* The loss alone, without intervals (loss.c); NaN lr or batch_tokens: at the fit's optimum. */
double fpl_fit_loss(const struct fpl_fit *fit, const struct fpl_point_at *at);
/* The point at which a run stands (format, learning rate and batch included). */
struct fpl_point_at fpl_point_of_run(const struct fpl_run *run);

/* Best exponent/mantissa split of 1 + E + M = bits; 0 if the law has no precision term. */
struct fpl_split {
    int bits, E, M;            /* best integers, 1 <= E <= 8 */
    struct fpl_estimate E_opt; /* real-valued optimum; M_opt = bits - 1 - E_opt */
    double share;              /* of resamples that agree on E and M; NaN without bootstrap */
};
int fpl_fit_split(const struct fpl_fit *fit, int bits, struct fpl_split *out);
/* Cost-optimal bits at compute flop = (6/16) P N D with the best real-valued split, and the N
 * and D that go with them; 0 if the law has no precision term. */
int fpl_fit_best_bits(const struct fpl_fit *fit, double flop, double block, double *bits, double *N,
                      double *D);

#endif
