/* law.h - laws, fits and what a fit can tell.  Reads only tables of runs (runs.h).
 *
 * A law is one file in sim/law and one row of fpl_laws: name, citation, parameters with
 * bounds and units, value and gradient (law_internal.h).  rows.c and manner.c choose runs, fit.c
 * minimises, restart.c doubts the minimum, bootstrap.c resamples, fitfile.c and fitread.c write and read
 * FIT.json, predict.c answers.
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

/* Every named quantity that some law takes, in the order of fpl_variables. */
enum fpl_variable {
    FPL_VAR_N,
    FPL_VAR_D,
    FPL_VAR_LR,
    FPL_VAR_BATCH,
    FPL_VAR_E,
    FPL_VAR_M,
    FPL_VAR_BLOCK,
    FPL_VAR_PW,
    FPL_VAR_PA,
    FPL_VAR_PKV,
    FPL_VAR_BITS,
    FPL_VAR_GROUP,
    FPL_VAR_STEPS,
    FPL_VAR_STEP,
    FPL_VAR_N_MEAN,
    FPL_VAR_X,
    FPL_VAR_EFF_N,
    FPL_VAR_EFF_D,
    FPL_VARIABLES
};
struct fpl_variable_info {
    const char *name, *unit, *meaning;
    double lo, hi; /* accepted values, inclusive */
};
extern const struct fpl_variable_info fpl_variables[FPL_VARIABLES];
int fpl_variable_find(const char *name); /* -1: none */

/* Learning rates by step, linear between the points: step ascending from 0 or later.  Before the
 * first point the rate is that of the first. */
struct fpl_schedule {
    size_t count;
    const double *step, *lr;
};

/* A question to any law: value[enum fpl_variable], NaN: not given.  flop: a compute budget, NaN:
 * none.  schedule: of laws of whole loss curves, else NULL. */
struct fpl_question {
    double value[FPL_VARIABLES], flop;
    const struct fpl_schedule *schedule;
    const struct fpl_curve *curve; /* made of the schedule by whoever answers; NULL from outside */
};
void fpl_question_clear(struct fpl_question *q);
struct fpl_question fpl_question_of_point(const struct fpl_point_at *at);
/* What a run says of every variable; Pw, Pa, bits and group follow from its recipe or format where the
 * table has no such columns. */
struct fpl_question fpl_question_of_run(const struct fpl_run *run);

/* value with an interval at the fit's level; lo = hi = NaN where there is no bootstrap. */
struct fpl_estimate {
    double value, lo, hi;
};
double fpl_normal_width(double level); /* z with P(|normal| < z) = level */

struct fpl_law;                                /* opaque row of the registry; law_internal.h */
extern const struct fpl_law *const fpl_laws[]; /* NULL-terminated; tests iterate it */
const struct fpl_law *fpl_law_find(const char *name);
const char *fpl_law_name(const struct fpl_law *law);
const char *fpl_law_citation(const struct fpl_law *law);
const char *fpl_law_formula(const struct fpl_law *law);
/* Laws that stand on a base law (joint): its name, and the same law on another; NULL: none such. */
const char *fpl_law_base(const struct fpl_law *law);
const struct fpl_law *fpl_law_with_base(const struct fpl_law *law, const char *base);
/* Does the law take this variable? 0 no, 1 if it is given, 2 always. */
int fpl_law_takes(const struct fpl_law *law, enum fpl_variable which);
int fpl_law_takes_schedule(const struct fpl_law *law);
/* "N D [E M block]": what the law takes, in brackets what may be left out. */
void fpl_law_describe(const struct fpl_law *law, char *text, size_t size);
/* Granularity of the scales that the law is made for ("row", "tensor"); "": it takes blocks, or any. */
const char *fpl_law_scaling(const struct fpl_law *law);
int fpl_law_of_optima(const struct fpl_law *law); /* fitted to the learning rate and batch of the best runs */
/* What the law is about: "loss", "delta" (rise of the loss) or "lr". */
const char *fpl_law_target(const struct fpl_law *law);

enum fpl_objective_kind { FPL_HUBER_LOG, FPL_SQUARED_LOG, FPL_ABSOLUTE_LOG, FPL_OBJECTIVES };
extern const char *const fpl_objective_names[FPL_OBJECTIVES + 1]; /* "huber_log", ... */
/* What a resample draws: runs; whole cells (equal N and D); the runs of a cell that share a seed. */
enum fpl_bootstrap_unit { FPL_UNIT_RUN, FPL_UNIT_CELL, FPL_UNIT_SEED, FPL_UNITS };
extern const char *const fpl_unit_names[FPL_UNITS + 1]; /* "run", "cell", "seed" */

struct fpl_fit_options {
    double delta;         /* Huber on log residuals; <= 0: auto (laws.md, section 6) */
    int bootstrap;        /* resamples; 0: none */
    double level;         /* 0.95 */
    const char *hold_out; /* expression, "cell", "largest-N", "largest-D", or NULL */
    int threads;
    uint64_t seed;
    double window; /* runs further above the best of their cell (a share of the loss) are left out
                      of laws with a bowl or an optimum; <= 0: auto (rows.c) */
    enum fpl_objective_kind objective;
    enum fpl_bootstrap_unit unit;
    int seed_weights;    /* weigh runs by the variance that repeated seeds show (weights.c) */
    int censor;          /* diverged runs of laws with a bowl count as "at least this high" (censor.c) */
    const char *base;    /* joint's base: a name, "auto" (least held-out error), NULL: the law's own */
    const char *fix;     /* "NAME=VALUE[,NAME=VALUE...]": parameters held, or NULL */
    const char *release; /* "NAME[,NAME...]": parameters that the law holds and the fit frees, or NULL */
    const char *profile; /* "NAME[,NAME...]": profile-likelihood intervals, or NULL */
    int diagnose;        /* nested models, residual patterns, noise floor: fills the fit's findings */
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
    double N[2], D[2];              /* fitted range */
    double range[FPL_VARIABLES][2]; /* of every variable that the law takes; 0: not known */
};
void fpl_fit_summarize(const struct fpl_fit *fit, struct fpl_fit_summary *out);
/* What the fit found out about itself, one plain sentence each, up to its line feed; NULL past the last. */
const char *fpl_fit_finding(const struct fpl_fit *fit, size_t i);
/* Recipe of the first quantized run of the fit; the others compute in its manner, in other formats and
 * blocks (manner.c).  "": not known, or nothing is quantized. */
const char *fpl_fit_recipe(const struct fpl_fit *fit);
/* The condition that chose the table's runs before the fit did (--where); "": none, or not known. */
const char *fpl_fit_where(const struct fpl_fit *fit);
/* The learning-rate schedule of the fit's runs, "mixed" where they differ; "": not known.  And what published
 * constants take for granted besides; "" of fits. */
const char *fpl_fit_schedule(const struct fpl_fit *fit);
const char *fpl_fit_conventions(const struct fpl_fit *fit);
/* The noise of one run, of ln loss: the robust scale of the residuals, so that a law's misfit at a few
 * points does not count.  0: not known (published constants). */
double fpl_fit_run_noise(const struct fpl_fit *fit);
/* The i-th cell of --hold-out cell, predicted by a fit without it; 0 past the last. */
struct fpl_held_cell {
    double N, D;
    size_t runs;
    double mean, rms;        /* of ln(observed/predicted) */
    double lr, batch_tokens; /* optimum that the fit without the cell predicts; NaN: the law has none */
};
int fpl_fit_held_cell(const struct fpl_fit *fit, size_t i, struct fpl_held_cell *out);
/* The i-th base that was tried and its held-out error (NaN: could not be fitted); NULL past the last. */
const char *fpl_fit_base_tried(const struct fpl_fit *fit, size_t i, double *held_out_rms);
/* Profile-likelihood interval of the i-th parameter; 0: none. */
int fpl_fit_profile(const struct fpl_fit *fit, size_t i, struct fpl_estimate *out);

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
#define FPL_TOLD 12
struct fpl_told {
    const char *name, *unit, *meaning; /* of the law's own table (static) */
    struct fpl_estimate value;
};
struct fpl_answer {
    /* intervals of the mean; laws of a rise of the loss answer `delta`, not `loss` */
    struct fpl_estimate loss, lr, batch_tokens, D_crit, delta;
    /* Largest distance outside the fitted range, in octaves (of E + 1/2 and M + 1/2); 0 inside.  Over every
     * variable that the law takes; a learning rate or batch that is not given is its optimum. */
    double outside;
    char warning[1024];
    struct fpl_estimate loss_new; /* interval of one new run: of the mean plus the noise of a run */
    int told_count;
    struct fpl_told told[FPL_TOLD]; /* what else the law tells: critical batch, ranges, ... */
};
enum fpl_code fpl_fit_ask(const struct fpl_fit *fit, const struct fpl_question *question,
                          struct fpl_answer *out, struct fpl_error *err);
/* The same with the seven classic variables. */
enum fpl_code fpl_fit_predict(const struct fpl_fit *fit, const struct fpl_point_at *at,
                              struct fpl_answer *out, struct fpl_error *err);
/* The loss alone, without intervals (loss.c); NaN lr or batch_tokens: at the fit's optimum. */
double fpl_fit_loss(const struct fpl_fit *fit, const struct fpl_point_at *at);
/* What a law is fitted to, or (FPL_VAR_LR, FPL_VAR_BATCH) its optimum, at any question and without
 * intervals; which: FPL_VARIABLES for the target (fpl_law_target).  NaN where the law does not say it. */
double fpl_fit_tell(const struct fpl_fit *fit, const struct fpl_question *question, enum fpl_variable which);
/* The target of every run of a table; a rise of the loss is taken over unquantized twins where the table has
 * no column of its own.  Malloced, NaN: none; NULL: out of memory. */
double *fpl_law_targets(const struct fpl_law *law, const struct fpl_runs *runs);
/* Can the fit speak of this run: it is not left out, and not of another manner (manner.c)? */
int fpl_fit_describes(const struct fpl_fit *fit, const struct fpl_run *run);
/* Does the fit make something of a number format? */
int fpl_fit_knows_formats(const struct fpl_fit *fit);

/* One parameter vector of a fit, ready to be asked thousands of times (vector.c): what decides and
 * plans evaluates every resample.  k = -1: the fit's own parameters; 0 .. fpl_fit_vectors() - 1: a
 * bootstrap vector.  It points into the fit. */
struct fpl_fit_vector {
    const struct fpl_fit *fit;
    double theta[FPL_LAW_PARAMS];
};
int fpl_fit_vectors(const struct fpl_fit *fit);
void fpl_fit_vector_at(const struct fpl_fit *fit, int k, struct fpl_fit_vector *out);
/* NaN where the law does not say it, or says nothing of this format.  Loss: lr or batch_tokens NaN are at
 * their optimum; with a batch alone, lr is the best at that batch. */
double fpl_vector_loss(const struct fpl_fit_vector *v, const struct fpl_point_at *at);
double fpl_vector_lr(const struct fpl_fit_vector *v, const struct fpl_point_at *at);
double fpl_vector_batch(const struct fpl_fit_vector *v, const struct fpl_point_at *at);
double fpl_vector_dcrit(const struct fpl_fit_vector *v, const struct fpl_point_at *at);
/* fpl_fit_best_bits of this vector. */
int fpl_vector_best_bits(const struct fpl_fit_vector *v, double flop, double block, double *bits, double *N,
                         double *D);
/* A value with the interval of its resamples, sorted in place; NaN among them are left out. */
struct fpl_estimate fpl_estimate_from(const struct fpl_fit *fit, double value, double *resampled,
                                      size_t count);

/* The point at which a run stands (format, learning rate and batch included). */
struct fpl_point_at fpl_point_of_run(const struct fpl_run *run);

/* Mean size of a model pruned from `before` to `after` parameters by the cubic schedule over the shares
 * begin to end of training (average_n.c). */
double fpl_pruned_mean(double before, double after, double begin, double end);

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
