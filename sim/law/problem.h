/* problem.h - the runs of a table that a law is fitted to (rows.c, rows_curve.c, censor.c, weights.c,
 * restrict.c), loss curves among them (curve.c), and where a minimisation over them begins (start.c).
 */
#ifndef FPL_LAW_PROBLEM_H
#define FPL_LAW_PROBLEM_H

#include "dense.h"
#include "law_internal.h"

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

#endif
