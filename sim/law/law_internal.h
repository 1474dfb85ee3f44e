/* law_internal.h - what a law file provides and what the fitting machinery shares.
 *
 * A law is evaluated in internal parameters theta: logarithms of positive constants, taken at
 * the data's geometric centre (N0, D0), so that steps of one size mean much the same for all
 * of them.  `publish` and `internal` translate to the published parametrisation and back;
 * predictions do not depend on the centre.
 *
 * theta and the published vector have the same order and length, law->params.
 */
#ifndef FPL_LAW_INTERNAL_H
#define FPL_LAW_INTERNAL_H

#include "law.h"

/* A point in the coordinates of the laws.  A law with variables of its own says in `place` which
 * of them n and d stand for and what is in z; n and d are centred, the others are not. */
struct fpl_law_at {
    double n, d;   /* ln(N/N0), ln(D/D0) */
    double x, y;   /* ln lr, ln batch_tokens; NaN: at the optimum */
    double e, m;   /* ln((E + 1/2)/2.5), ln((M + 1/2)/1.5): E2M1 is the origin */
    double g;      /* log2(block) */
    int quantized; /* 0: e, m, g are not used */
    int steps;     /* of laws of curves: bins of `curve` that lie before this step */
    double z[4];
    const struct fpl_curve *curve;
    double n0, d0; /* the centre: n + n0 = ln N */
};
#define FPL_E_ORIGIN 2.5
#define FPL_M_ORIGIN 1.5

struct fpl_centre {
    double n, d;
}; /* ln N0, ln D0 */

struct fpl_law_param {
    const char *name, *unit;
    double lo, hi; /* bounds of theta */
    double scale;  /* a standard error of theta above this means: not identified */
    double prior;  /* > 0: one pseudo-run theta = centre +- prior keeps a shape parameter finite */
    double prior_at;
    int nuisance; /* shape only: being unidentified is a remark, not a failure */
    const char *meaning;
};

/* How parameter j is published: ln p_j (log) or p_j = theta_j + sum over links of
 * theta[of] (n ln N0 + d ln D0 + k). fpl_publish and fpl_internal apply the table; a law whose
 * translation is not of this form has functions of its own. */
struct fpl_link {
    int of;
    double n, d, k;
};
struct fpl_form {
    int log;
    int precision; /* fitted only where there are quantized runs */
    struct fpl_link link[6];
};
#define FPL_LINK_N(of, sign)                                                                                 \
    { of, sign, 0.0, 0.0 }
#define FPL_LINK_D(of, sign)                                                                                 \
    { of, 0.0, sign, 0.0 }
#define FPL_LINK_K(of, k)                                                                                    \
    { of, 0.0, 0.0, k }

/* The variables of a law, ended by FPL_VARIABLES.  The first `cell_keys` make a cell; with them all
 * but settings make a group. */
enum {
    FPL_REQUIRED = 1,
    FPL_OPTIONAL = 2,
    FPL_FORMAT = 4,  /* needed of quantized runs */
    FPL_SETTING = 8, /* varied within a group: learning rate, batch */
};
struct fpl_takes {
    enum fpl_variable which;
    int need;
};
extern const struct fpl_takes fpl_takes_nd[];     /* N D */
extern const struct fpl_takes fpl_takes_format[]; /* N D [E M block] */
extern const struct fpl_takes fpl_takes_optima[]; /* N D lr batch_tokens */
extern const struct fpl_takes fpl_takes_joint[];  /* N D lr batch_tokens [E M block] */

struct fpl_preset {
    const char *name, *source;
    double value[FPL_LAW_PARAMS]; /* published parametrisation */
    double N[2], D[2];            /* range of the source's runs; 0: not stated */
};

/* What a law needs of every run, and how runs are chosen (rows.c). */
enum {
    FPL_NEED_LR = 1,         /* lr and batch_tokens */
    FPL_NEED_FORMAT = 2,     /* E, M, block of quantized runs; the table must have some */
    FPL_TAKE_FORMAT = 4,     /* uses E, M, block where there are any */
    FPL_ONLY_BEST = 8,       /* of a cell, only the runs of its best lr and batch (no bowl) */
    FPL_ONLY_NEAR_BEST = 16, /* only runs within a window of the best of their cell */
    FPL_OPTIMA = 32,         /* fitted to ln lr and ln batch of the runs kept, not to the loss */
    FPL_TARGET_DELTA = 64,   /* row->target is ln delta: a rise of the loss */
    FPL_TARGET_LR = 128,     /* row->target is ln lr; log_lr is what is fitted */
    FPL_ANY_FORMAT = 256,    /* quantized runs are as good as others, but all alike */
    FPL_ONE_CELL = 512,      /* the table must hold one (N, D) only */
    FPL_ONE_FORMAT = 2048,   /* the quantized runs must be of one format */
    FPL_CURVES = 1024        /* rows of a run are its loss curve (curve.c); cell = run */
};

struct fpl_problem;
struct fpl_base;
struct fpl_block;
struct fpl_values;
typedef double fpl_law_value(const struct fpl_law *law, const double *theta, const struct fpl_law_at *at,
                             double *grad);

/* ln loss and its gradient of a block of rows (block.h). */
typedef void fpl_law_rows(const struct fpl_law *law, const double *theta, const struct fpl_block *at,
                          const struct fpl_values *out);

/* What a law tells beyond loss, lr, batch and D_crit: value(fit, theta, question), NaN: nothing. */
struct fpl_teller {
    const char *name, *unit, *meaning;
    double (*value)(const struct fpl_fit *fit, const double *theta, const struct fpl_question *question);
};

struct fpl_law {
    const char *name, *citation, *formula;
    int params;
    const struct fpl_law_param *param;
    unsigned use;
    int floor_at;   /* index of the loss of infinite model and data; -1: none */
    int penalty_at; /* index of gamma, delta, nu in the parameters; -1: no precision term */
    int shift_at;   /* index of lr_shift; -1: none */
    void (*publish)(const struct fpl_law *law, const double *theta, const struct fpl_centre *centre,
                    double *published);
    void (*internal)(const struct fpl_law *law, const double *published, const struct fpl_centre *centre,
                     double *theta);
    /* NULL where the law says nothing. Each returns a natural logarithm, and writes (not adds)
     * params entries of grad if grad is not NULL. log_dcrit: ln(D_crit/D0). */
    fpl_law_value *log_loss, *log_lr, *log_batch, *log_dcrit;
    fpl_law_rows *rows; /* log_loss a block at a time, log_loss then being fpl_law_one; NULL: it has none */
    /* Deterministic starts, at most room; returns their number. */
    int (*start)(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room);
    const struct fpl_preset *presets;
    int preset_count;
    const struct fpl_takes *takes;
    int cell_keys;
    const struct fpl_form *form; /* of fpl_publish and fpl_internal */
    /* Coordinates of a question, not yet centred; NULL: fpl_place_classic. */
    void (*place)(const struct fpl_law *law, const struct fpl_question *question, struct fpl_law_at *at);
    /* Why this run is none of the law's, beyond what `takes` says; NULL: nothing. Returns 0: it is. */
    int (*refuse)(const struct fpl_law *law, const struct fpl_run *run, char *why, size_t size);
    /* Why the law does not hold at this point ("" where it does); NULL: everywhere. */
    const char *(*domain)(const struct fpl_fit *fit, const double *theta, const struct fpl_law_at *at);
    /* Do the rows speak of parameter j? NULL: of all. */
    int (*speaks)(const struct fpl_problem *problem, int j);
    const char *scaling;              /* granularity that the law is made for; NULL: blocks, or any */
    const struct fpl_base *levels;    /* of laws that are a base loss alone (base_law.c) */
    const struct fpl_teller *tellers; /* last row has name NULL */
    const struct fpl_base *base;      /* of joint: its loss of unquantized, tuned runs; else NULL */
    int bowl_at;                      /* index of the bowl's six parameters; 0: none */
    int penalty_own;                  /* index of exponents that the penalty does not share, two; 0: none */
};

/* Laws of N and D that are a row of base.h. */
fpl_law_rows fpl_levels_rows;
void fpl_levels_publish(const struct fpl_law *law, const double *theta, const struct fpl_centre *centre,
                        double *published);
void fpl_levels_internal(const struct fpl_law *law, const double *published, const struct fpl_centre *centre,
                         double *theta);
int fpl_levels_start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room);
/* N_opt, D_opt, loss_opt at the compute of the question, 6 N D (told.c); bits_opt, N_bits, D_bits at a
 * given budget; lr and batch ranges that cost under 0.25 %. */
extern const struct fpl_teller fpl_tellers_compute[], fpl_tellers_bits[], fpl_tellers_bowl[];
/* Is parameter j of the law's precision term: absent from fits without quantized runs? */
static inline int fpl_param_precision(const struct fpl_law *law, int j) {
    if (law->form != NULL && law->form[j].precision) return 1;
    if (law->penalty_own > 0 && j >= law->penalty_own && j < law->penalty_own + 2) return 1;
    return j == law->shift_at || (law->penalty_at >= 0 && j >= law->penalty_at && j < law->penalty_at + 3);
}
/* Is the range of this variable kept?  What the law takes, and of laws of one condition its format too. */
static inline int fpl_law_keeps_range(const struct fpl_law *law, enum fpl_variable which) {
    const int format = which == FPL_VAR_E || which == FPL_VAR_M || which == FPL_VAR_BLOCK;
    return fpl_law_takes(law, which) || (format && (law->use & (FPL_ANY_FORMAT | FPL_ONE_FORMAT)) != 0);
}
/* What the rows' targets are fitted to. */
static inline fpl_law_value *fpl_law_fitted(const struct fpl_law *law) {
    return law->log_loss != NULL ? law->log_loss : law->log_lr;
}
void fpl_publish(const struct fpl_law *law, const double *theta, const struct fpl_centre *centre,
                 double *published);
void fpl_internal(const struct fpl_law *law, const double *published, const struct fpl_centre *centre,
                  double *theta);
void fpl_place_classic(const struct fpl_law *law, const struct fpl_question *question, struct fpl_law_at *at);
/* place, then centre. */
void fpl_law_place(const struct fpl_law *law, const struct fpl_question *question,
                   const struct fpl_centre *centre, struct fpl_law_at *out);

extern const struct fpl_law fpl_law_chinchilla, fpl_law_capybara, fpl_law_steplaw, fpl_law_joint;
extern const struct fpl_law fpl_law_chinchilla_nd, fpl_law_capacity, fpl_law_farseer, fpl_law_average_n,
    fpl_law_capybara_e, fpl_law_capybara_m, fpl_law_capybara_b, fpl_law_capybara_channel,
    fpl_law_capybara_tensor, fpl_law_kumar, fpl_law_kumar_ptq, fpl_law_qat, fpl_law_bowl, fpl_law_kaplan,
    fpl_law_annealing, fpl_law_multipower, fpl_law_power_floor, fpl_law_surge, fpl_law_noise_scale;
/* joint on each base, ended by NULL; fpl_law_joint stands on chinchilla-nd. */
extern const struct fpl_law fpl_law_joint_chinchilla, fpl_law_joint_capacity, fpl_law_joint_farseer;
extern const struct fpl_law *const fpl_law_joints[];

/* ---- shared terms of laws ------------------------------------------------------------- */

/* Penalty of precision in nats (arXiv 2501.02423), 0 where nothing is quantized:
 * log2(B) exp(-t[0] + beta d - alpha n - t[1] e - t[2] m). */
double fpl_penalty(const double t[3], double alpha, double beta, const struct fpl_law_at *at);
/* gamma <-> its logarithm at the centre and at E2M1. */
double fpl_gamma_publish(const double t[3], double alpha, double beta, const struct fpl_centre *centre);
double fpl_gamma_internal(double gamma, double delta, double nu, double alpha, double beta,
                          const struct fpl_centre *centre);

/* Convex skewed bowl q(u, v) >= 0 with minimum 0 at the origin (laws.md, section 4):
 * q = k1 K(u + r1 v; s1) + k2 K(v + r2 u; s2), K(w; s) = 2 (e^(s w) - s w - 1)/s^2.
 * t = ln k1, r1, s1, ln k2, r2, s2; du, dv, dt[6] may be NULL together. */
double fpl_bowl(const double t[6], double u, double v, double *du, double *dv, double *dt);
/* k1, r1, k2, r2 of t for a quadratic form h = {uu, uv, vv} whose first direction is u + r1 v. */
void fpl_bowl_of_form(const double h[3], double r1, double *t);
/* The same bowl with its two directions exchanged, since K(r w; s) = r^2 K(w; r s); 0: one of r1, r2 is
 * (all but) 0 and there is none. */
int fpl_bowl_mirror(const double t[6], double out[6]);

/* ---- rows: the runs that a fit uses ----------------------------------------------------- */

struct fpl_row {
    struct fpl_law_at at;
    double target;      /* ln loss */
    size_t run;         /* index in the table */
    size_t cell, group; /* equal (N, D); equal (N, D, E, M, block) */
    int censored;       /* the loss is at least the target (censor.c) */
    int format;         /* of free shifts (nested.c): index from 1 of the quantized format, 0: none */
};

struct fpl_left_out {
    char run[33];
    char why[192];
};

struct fpl_problem {
    const struct fpl_law *law;
    struct fpl_row *row;
    struct fpl_columns *columns; /* the rows once more (block.h) */
    size_t count, cells;
    struct fpl_curve *curve; /* of laws of curves, curve_count of them */
    size_t curve_count;
    double range[FPL_VARIABLES][2];
    struct fpl_centre centre;
    int active[FPL_LAW_PARAMS]; /* 0: no data speak of it; fixed at 0 (theta) and not reported */
    double lo[FPL_LAW_PARAMS], hi[FPL_LAW_PARAMS];
    double least_loss, N[2], D[2];
    int threads;
    double *weight;          /* per row, NULL: 1 (weights.c) */
    int tie[FPL_LAW_PARAMS]; /* k + 1: theta_j follows theta_k; 0: it stands alone (nested.c) */
    size_t other_manners;    /* quantized runs left out because they compute otherwise (manner.c) */
    int shifts;              /* parameters after law->params: free shifts of ln lr* by format */
};

struct fpl_left_list {
    size_t count, room;
    struct fpl_left_out *item;
};

/* Rows of the table that the law can use; `window` <= 0: none applied. Appends to `left`. */
enum fpl_code fpl_rows_select(const struct fpl_law *law, const struct fpl_runs *runs, double window,
                              struct fpl_problem *problem, struct fpl_left_list *left, struct fpl_error *err);
void fpl_problem_free(struct fpl_problem *problem);
/* Makes the columns anew from the rows; 0: out of memory. */
int fpl_problem_columns(struct fpl_problem *problem);
/* The same for laws of curves (rows_curve.c): why[i] "" where run i's row is used. */
enum fpl_code fpl_rows_of_curves(const struct fpl_law *law, const struct fpl_runs *runs,
                                 struct fpl_problem *problem, struct fpl_left_out *why,
                                 struct fpl_error *err);
/* Ranges, centre and bounds from the rows' questions; ends a selection. */
void fpl_rows_finish(struct fpl_problem *problem, const struct fpl_runs *runs);
/* Why a row's number cannot be used (outside its variable's range), 0 if it can. */
int fpl_row_refused(const char *name, double x, char *why, size_t size);
void fpl_law_at_point(const struct fpl_point_at *at, const struct fpl_centre *centre, struct fpl_law_at *out);
/* Parameters of theta: the law's and the free shifts. */
static inline int fpl_problem_width(const struct fpl_problem *problem) {
    return problem->law->params + problem->shifts;
}
/* --fix and --release (restrict.c). */
enum fpl_code fpl_problem_restrict(struct fpl_problem *problem, const char *fix, const char *release,
                                   struct fpl_error *err);
/* Weights from what repeated seeds show (weights.c): fills problem->weight where there are
 * repeats; *noise: pooled standard deviation of ln loss between seeds, NaN without repeats. */
enum fpl_code fpl_seed_weights(struct fpl_problem *problem, const struct fpl_runs *runs, int weigh,
                               double *noise, double *freedom, struct fpl_error *err);
/* Appends rows for diverged runs, "at least this high" (censor.c). */
enum fpl_code fpl_censor_rows(struct fpl_problem *problem, const struct fpl_runs *runs,
                              struct fpl_left_list *left, struct fpl_error *err);
/* theta inside its bounds, held and tied parameters where they belong. */
void fpl_problem_settle(const struct fpl_problem *problem, double *theta);
/* Number of parameters that are fitted. */
int fpl_problem_active(const struct fpl_problem *problem);

/* ---- loss curves (curve.c) ------------------------------------------------------------- */

#define FPL_ANNEALING_MEMORY 0.999 /* lambda of arXiv 2408.11029 */

/* A learning-rate schedule with its sums, so that any step's are found without summing again. */
struct fpl_curve {
    size_t run;                                    /* index of its first row in the table */
    size_t nodes;                                  /* points of the schedule from the end of warm-up on */
    double *step, *lr, *sum, *momentum, *annealed; /* at the nodes; sum: of all rates up to it */
    double warm_step, last_step;
    int bins; /* falls of the rate, at most FPL_CURVE_BINS or one per step */
    double *bin_end, *bin_steps, *drop, *log_lr,
        *before; /* last step, steps, fall; rate and sum in its middle */
};
#define FPL_CURVE_BINS 256
enum fpl_code fpl_curve_make(const struct fpl_schedule *schedule, struct fpl_curve *out,
                             struct fpl_error *err);
void fpl_curve_free(struct fpl_curve *curve);
/* At a step after warm-up: its rate, S1 = sum of rates to it, S2 = annealing area. */
void fpl_curve_at(const struct fpl_curve *curve, double step, double *lr, double *sum, double *area);
/* Bins before the step, and the fall that the step cuts off: {fall, ln rate, sum before}. */
int fpl_curve_bins(const struct fpl_curve *curve, double step, double partial[3]);

/* ---- starts -------------------------------------------------------------------------- */

/* L = E + e^(a - alpha n) + e^(b - beta d + c n) + penalty, linear in (E, e^a, e^b, e^-g). */
struct fpl_levels {
    double E, a, alpha, b, beta, c, penalty[3];
    double misfit; /* sum of squared relative residuals */
};
/* Best `room` grid points of the exponents with the linear parameters projected out by
 * non-negative least squares of relative residuals; level: loss per row. */
int fpl_start_levels(const struct fpl_problem *problem, const double *level, int with_c,
                     struct fpl_levels *out, int room);
/* Quadratic bowl by a regression of ln loss inside groups: optimum ln lr* = p[0] + p[1] n + p[2] d,
 * ln batch* = p[3] + p[4] n + p[5] d, curvature matrix h = {uu, uv, vv}, made positive definite. */
void fpl_start_bowl(const struct fpl_problem *problem, double p[6], double h[3]);

/* ---- small dense linear algebra (row-major) ------------------------------------------------ */

/* Solve the symmetric positive definite n x n system in place (a destroyed); 0: not definite. */
int fpl_solve(double *a, double *b, int n);
/* The same in two steps: Cholesky factor in place (0: not definite), then L y = b. */
int fpl_factor(double *a, int n);
void fpl_forward(const double *a, double *b, int n);
/* Eigenvalues (ascending) and vectors (columns of v) of a symmetric matrix (a destroyed). */
void fpl_eigen(double *a, double *values, double *v, int n);
/* Minimise x'Ax - 2 b'x over x >= 0, n <= 4; returns the minimum. */
double fpl_nonnegative(const double *a, const double *b, double *x, int n);

/* ---- minimisation ------------------------------------------------------------------------ */

/* Summed Huber loss of log residuals: sum of w r^2/2 for |r| <= delta, w delta (|r| - delta/2)
 * beyond; delta = HUGE_VAL: least squares; plus scale^2/2 ((theta - prior_at)/prior)^2. */
struct fpl_objective {
    const struct fpl_problem *problem;
    const double *weight; /* per row, NULL: 1 */
    double delta;
    double scale;              /* of one run, weighs the pseudo-runs of the priors */
    const struct fpl_pin *pin; /* NULL: none */
};

/* Holds one published parameter (its logarithm where it is positive) at a value, by a term
 * ((f - at)/width)^2/2 whose width is far below what the data tell. */
struct fpl_pin {
    int param, log;
    double at, width;
};

/* An objective below this is rounding: log residuals of 1e-10. */
double fpl_negligible(const struct fpl_problem *problem);

struct fpl_minimum {
    double value;     /* of the objective */
    double decrement; /* predicted further decrease, a share of the value */
    int iterations, converged;
};
/* Damped Gauss-Newton with Huber weights inside the bounds, from theta, to a predicted
 * decrease below tolerance * value. */
void fpl_minimise(const struct fpl_objective *objective, double *theta, int iterations, double tolerance,
                  struct fpl_minimum *out);
/* The same from far away: least squares first, then Huber's loss with a delta that falls to the objective's.
 */
void fpl_approach(const struct fpl_objective *objective, double *theta, int iterations, double tolerance,
                  struct fpl_minimum *out);
/* Newton's method with the Hessian by differences of the analytic gradient; near a minimum. */
void fpl_polish(const struct fpl_objective *objective, double *theta, struct fpl_minimum *out);
/* Log residuals: count of them for laws of the loss, 2 count for laws of optima. */
size_t fpl_residuals(const struct fpl_problem *problem, const double *theta, double *out);
/* Information matrix (Gauss-Newton Hessian, without priors), params x params. */
void fpl_information(const struct fpl_objective *objective, const double *theta, double *h);
/* Robust scale of residuals, 1.4826 median |r|, with sqrt(n/(n - p)); sorts its argument. */
double fpl_robust_scale(double *residual, size_t count, int params);

/* ---- a fit ----------------------------------------------------------------------------------- */

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
/* Golden-section minimum of f over [low, high], where f is unimodal; *value gets f there. */
double fpl_golden(double (*f)(double, void *), void *data, double low, double high, double *value);
/* The law on the base that the options name, or with "auto" on that with the least held-out error, within
 * one standard error the simplest (choose.c); rms: held-out error by base, NaN where it could not be
 * fitted, untouched where nothing was chosen. */
enum fpl_code fpl_law_of_options(const struct fpl_law **law, const struct fpl_runs *runs,
                                 const struct fpl_fit_options *options, double rms[4], struct fpl_error *err);
/* Quantile of sorted values, at rank p (count + 1): unbiased for the coverage of intervals. */
double fpl_quantile(const double *sorted, size_t count, double p);
/* P(chi squared with `freedom` degrees > x). */
double fpl_chi_squared_above(double x, double freedom);

/* ---- learning rate against batch (batch.c): surge, noise-scale --------------------------------- */

enum { FPL_BATCH_LR_MAX, FPL_BATCH_NOISE }; /* theta */
void fpl_place_batch(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at);
int fpl_start_batch(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room);
double fpl_tell_noise_scale(const struct fpl_fit *fit, const double *t, const struct fpl_question *q);

#endif
