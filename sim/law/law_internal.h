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

/* A point in the coordinates of the laws. */
struct fpl_law_at {
    double n, d;   /* ln(N/N0), ln(D/D0) */
    double x, y;   /* ln lr, ln batch_tokens; NaN: at the optimum */
    double e, m;   /* ln((E + 1/2)/2.5), ln((M + 1/2)/1.5): E2M1 is the origin */
    double g;      /* log2(block) */
    int quantized; /* 0: e, m, g are not used */
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
    FPL_OPTIMA = 32          /* fitted to ln lr and ln batch of the runs kept, not to the loss */
};

struct fpl_problem;
typedef double fpl_law_value(const double *theta, const struct fpl_law_at *at, double *grad);

struct fpl_law {
    const char *name, *citation, *formula;
    int params;
    const struct fpl_law_param *param;
    unsigned use;
    int floor_at;   /* index of the loss of infinite model and data; -1: none */
    int penalty_at; /* index of gamma, delta, nu in the parameters; -1: no precision term */
    int shift_at;   /* index of lr_shift; -1: none */
    void (*publish)(const double *theta, const struct fpl_centre *centre, double *published);
    void (*internal)(const double *published, const struct fpl_centre *centre, double *theta);
    /* NULL where the law says nothing. Each returns a natural logarithm, and writes (not adds)
     * params entries of grad if grad is not NULL. log_dcrit: ln(D_crit/D0). */
    fpl_law_value *log_loss, *log_lr, *log_batch, *log_dcrit;
    /* Deterministic starts, at most room; returns their number. */
    int (*start)(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room);
    const struct fpl_preset *presets;
    int preset_count;
};

extern const struct fpl_law fpl_law_chinchilla, fpl_law_capybara, fpl_law_steplaw, fpl_law_joint;

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

/* ---- rows: the runs that a fit uses ----------------------------------------------------- */

struct fpl_row {
    struct fpl_law_at at;
    double target;      /* ln loss */
    size_t run;         /* index in the table */
    size_t cell, group; /* equal (N, D); equal (N, D, E, M, block) */
};

struct fpl_left_out {
    char run[33];
    char why[128];
};

struct fpl_problem {
    const struct fpl_law *law;
    struct fpl_row *row;
    size_t count, cells;
    struct fpl_centre centre;
    int active[FPL_LAW_PARAMS]; /* 0: no data speak of it; fixed at 0 (theta) and not reported */
    double lo[FPL_LAW_PARAMS], hi[FPL_LAW_PARAMS];
    double least_loss, N[2], D[2];
    int threads;
};

struct fpl_left_list {
    size_t count, room;
    struct fpl_left_out *item;
};

/* Rows of the table that the law can use; `window` <= 0: none applied. Appends to `left`. */
enum fpl_code fpl_rows_select(const struct fpl_law *law, const struct fpl_runs *runs, double window,
                              struct fpl_problem *problem, struct fpl_left_list *left, struct fpl_error *err);
void fpl_problem_free(struct fpl_problem *problem);
void fpl_law_at_point(const struct fpl_point_at *at, const struct fpl_centre *centre, struct fpl_law_at *out);
/* Number of parameters that are fitted. */
int fpl_problem_active(const struct fpl_problem *problem);

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
    double scale; /* of one run, weighs the pseudo-runs of the priors */
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
/* Newton's method with the Hessian by differences of the analytic gradient; near a minimum. */
void fpl_polish(const struct fpl_objective *objective, double *theta, struct fpl_minimum *out);
/* Log residuals: count of them for laws of the loss, 2 count for laws of optima. */
size_t fpl_residuals(const struct fpl_problem *problem, const double *theta, double *out);
/* Information matrix (Gauss-Newton Hessian, without priors), params x params. */
void fpl_information(const struct fpl_objective *objective, const double *theta, double *h);
/* Robust scale of residuals, 1.4826 median |r|, with sqrt(n/(n - p)); sorts its argument. */
double fpl_robust_scale(double *residual, size_t count, int params);

/* ---- a fit ----------------------------------------------------------------------------------- */

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
    size_t used;
    struct fpl_left_list left;
    int bootstrap; /* vectors kept */
    double level;
    double *vector; /* bootstrap x params, published */
    struct fpl_centre centre;
};

/* Resample: fills fit->vector, lo and hi.  theta is the full fit. */
enum fpl_code fpl_bootstrap(struct fpl_fit *fit, const struct fpl_problem *problem, const double *theta,
                            int count, uint64_t seed, struct fpl_error *err);
/* Held-out error of an expression or "cell" (holdout.c): fills the fit's held_out fields. */
enum fpl_code fpl_hold_out(struct fpl_fit *fit, const struct fpl_objective *objective, const double *theta,
                           const struct fpl_runs *runs, const char *expression, struct fpl_error *err);
/* Quantile of sorted values, linear interpolation. */
double fpl_quantile(const double *sorted, size_t count, double p);

#endif
