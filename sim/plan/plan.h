/* plan.h - what to run: the best size, data, format, learning rate and batch for a budget, from a fit.
 *
 * Conventions
 *   compute   training a token costs 6 N FLOP, using one costs 2 N (N: non-vocabulary parameters):
 *                 C = 6 N D + 2 N T                              T = inference tokens, 0 by default
 *             Where the shape is known a training token costs 6 N + 12 L T C + 6 V C; a law knows N
 *             alone, so a plan leaves attention and vocabulary out, and --next, which knows the shapes
 *             of the runs that it proposes, does not.
 *   budget    FLOP as the reference, the unquantized run at speed 1, does them.  A format of speed s
 *             does s times as many in the same time: 6 N D + 2 N T = s * budget.
 *   memory    bytes N (width/8 + 8/(8 block) + state): the weights in the format with an 8-bit scale per
 *             block, and `state` bytes for the rest of a parameter (12: a float32 master copy and two
 *             float32 moments).  Unquantized weights: 2 bytes for bf16, 0 for fp32, whose master copy
 *             they are.
 *   optimum   min over N of L(N, D(N)), D(N) = min((sC/N - 2T)/6, max_D, D_crit(N, format)): beyond the
 *             critical data size of a format more tokens raise the loss, so they are left unspent.
 *   reference the fastest unquantized candidate: break-even speeds and equivalents are against it.
 *
 * Every decision is taken again on each bootstrap vector, and its interval lies between quantiles of
 * those: not only the loss at the optimum, but the optimum itself.  Differences between formats are
 * paired by vector.  Laws without resamples (published constants) give values without intervals.
 *
 * Determinism: a plan is a function of the fit and the options; nothing is random.
 */
#ifndef FPL_PLAN_H
#define FPL_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "../law/law.h"

#define FPL_PLAN_STATE_BYTES 12.0

/* A format that the budget may be spent in. */
struct fpl_plan_format {
    char name[48];      /* "fp32", "e4m3" */
    double E, M, block; /* NaN: unquantized */
    double speed;       /* against the reference, > 0 */
    double bytes;       /* of one weight, without optimizer state */
};
/* From its name: fp32 and bf16 are the unquantized run, anything else as format.h parses it. */
enum fpl_code fpl_plan_format_parse(const char *name, double block, double speed, struct fpl_plan_format *out,
                                    struct fpl_error *err);

/* 0 or NaN: not limited. */
struct fpl_plan_limits {
    double N, max_D;
    double batch_min, batch_max;
    double memory, state_bytes; /* state_bytes < 0: FPL_PLAN_STATE_BYTES */
    double inference_tokens;
};
#define FPL_PLAN_NO_LIMITS ((struct fpl_plan_limits){.state_bytes = -1.0})

/* What holds the optimum where it is. */
enum fpl_plan_bound {
    FPL_BOUND_N = 1,        /* N is given */
    FPL_BOUND_MAX_D = 2,    /* D is at its limit */
    FPL_BOUND_MEMORY = 4,   /* N is at what memory holds */
    FPL_BOUND_D_CRIT = 8,   /* D is the critical data size: the rest of the budget is not spent */
    FPL_BOUND_BATCH = 16,   /* the batch is at its limit */
    FPL_BOUND_SEARCH = 32,  /* the law has no optimum inside what is searched */
    FPL_BOUND_UNSPENT = 64, /* part of the budget is left (max_D, D_CRIT) */
};
/* One line for a set of bounds; "" for none. */
void fpl_plan_bounds_text(unsigned bounds, char *text, size_t size);

struct fpl_plan_point {
    double N, D, loss;
    double lr, batch_tokens; /* NaN: the law does not say */
    double spent;            /* share of the budget */
    unsigned bounds;
};

/* Can this fit be planned with?  A law of the loss in N and D; else an error that says what it is. */
enum fpl_code fpl_plan_check(const struct fpl_fit *fit, struct fpl_error *err);
/* The best point for a budget on one vector. hint: a size near the optimum (of another vector), or 0.
 * 0: nothing fits the limits, or the law says nothing of the format. */
int fpl_plan_best(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                  const struct fpl_plan_limits *limits, double flop, double hint, struct fpl_plan_point *out);
/* The point of a given size. */
int fpl_plan_at_size(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                     const struct fpl_plan_limits *limits, double flop, double N, struct fpl_plan_point *out);
/* Memory in bytes that N parameters take. */
double fpl_plan_memory(const struct fpl_plan_format *format, const struct fpl_plan_limits *limits, double N);

/* ---- a budget ------------------------------------------------------------------------------------ */

struct fpl_plan_row {
    const struct fpl_plan_format *format;
    int possible;             /* 0: `note` says why, and nothing else is set */
    struct fpl_plan_point at; /* on the fit's own parameters */
    struct fpl_estimate N, D, loss, lr, batch_tokens;
    struct fpl_estimate D_crit;     /* at N; NaN: none */
    struct fpl_estimate gap;        /* ln loss above the best row's, paired by vector */
    struct fpl_estimate exponent_N; /* N* ~ C^a, between half and twice the budget */
    double share_best;              /* of resamples in which it is the best row; NaN: no resamples */
    int within_noise;               /* of the fit: the paired interval of the gap reaches 0 */
    struct fpl_estimate gap_run;    /* the gap that one run of each will show: both runs' noise added */
    int within_run_noise;           /* its interval reaches 0, the gap's own may not */
    double flat_N[2];               /* sizes that cost under 0.25 %; NaN: at a bound */
    double outside;                 /* octaves outside the fitted range */
    char note[1152];                /* where it stands: bounds, ranges, D below N */
    /* Against the reference. */
    struct fpl_estimate break_even;             /* speed at which the best losses are equal; inf: never */
    struct fpl_estimate same_N, same_D, same_C; /* shares with which the reference has the loss that the
                                                   format has at the reference's optimum */
};
struct fpl_plan {
    double flop;
    size_t rows; /* sorted by loss, those not possible last */
    struct fpl_plan_row *row;
    size_t reference; /* index, or `rows`: no unquantized candidate is possible */
    int resamples;
};
/* Rows of all formats; they must outlive the plan. */
enum fpl_code fpl_plan_make(const struct fpl_fit *fit, const struct fpl_plan_format *formats, size_t count,
                            const struct fpl_plan_limits *limits, double flop, struct fpl_plan *out,
                            struct fpl_error *err);
void fpl_plan_free(struct fpl_plan *plan);

/* The speed, against a reference at ref->speed, at which the format's best loss at the budget equals the
 * reference's; HUGE_VAL: none up to 2^60; NaN: undefined. hints: sizes near the optima, or 0. */
double fpl_plan_break_even(const struct fpl_fit_vector *v, const struct fpl_plan_format *format,
                           const struct fpl_plan_format *ref, const struct fpl_plan_limits *limits,
                           double flop, const double hint[2]);
/* Shares of N, of D, and of compute along the reference's best path, with which the reference has the
 * loss `loss` that is above its own at `at`; NaN: nowhere. */
void fpl_plan_equivalents(const struct fpl_fit_vector *v, const struct fpl_plan_format *ref,
                          const struct fpl_plan_limits *limits, double flop, const struct fpl_plan_point *at,
                          double loss, double share[3]);

/* ---- tables --------------------------------------------------------------------------------------- */

/* Losses at one compute over sizes around the optimum, a factor 2^(1/2) apart. */
struct fpl_isoflop {
    double N, D;
    struct fpl_estimate loss, above; /* above: ln loss over that of the optimum, paired */
};
/* out[room]; returns the number written. */
size_t fpl_plan_isoflop(const struct fpl_fit *fit, const struct fpl_plan_format *format,
                        const struct fpl_plan_limits *limits, double flop, struct fpl_isoflop *out,
                        size_t room);
/* Slope of ln N* and ln D* in ln C over budgets (at least two), least squares. */
struct fpl_allocation {
    struct fpl_estimate N, D;
};
int fpl_plan_allocation(const struct fpl_fit *fit, const struct fpl_plan_format *format,
                        const struct fpl_plan_limits *limits, const double *flop, size_t count,
                        struct fpl_allocation *out);
/* Cost-optimal bits, C = (6/16) P N D with the best split; 0: the law has no such term. */
struct fpl_plan_bits {
    double flop;
    struct fpl_estimate bits, N, D;
};
int fpl_plan_best_bits(const struct fpl_fit *fit, double flop, double block, struct fpl_plan_bits *out);

/* ---- which run next ------------------------------------------------------------------------------ */

enum fpl_decide { FPL_DECIDE_LOSS, FPL_DECIDE_LR, FPL_DECIDE_BATCH, FPL_DECIDE_D_CRIT, FPL_DECIDE_FORMAT };
extern const char *const fpl_decide_names[]; /* "loss", "lr", "batch", "D_crit", "best-format"; NULL */

/* A decision: its value on a vector is ln of loss, lr, batch or critical size at `at`, or (FORMAT) the
 * difference of ln loss between the two best formats of `plan`. */
struct fpl_decision_of {
    enum fpl_decide what;
    struct fpl_point_at at;
    const struct fpl_plan *plan;
    const struct fpl_plan_limits *limits;
};
/* "loss@N=1e9,D=1e11,format=e4m3,block=32"; N, D and formats that it leaves out come from the plan's best
 * row (plan may be NULL where all is given). */
enum fpl_code fpl_decision_parse(const struct fpl_fit *fit, const char *text, const struct fpl_plan *plan,
                                 const struct fpl_plan_limits *limits, struct fpl_decision_of *out,
                                 struct fpl_error *err);

/* A run that could be made. */
struct fpl_proposal {
    int64_t width, layers, batch_tokens;
    double tokens, lr; /* lr NaN: the law says none; the run takes the configuration's */
    struct fpl_plan_format format;
    char recipe[768];
    struct fpl_point_at at;
    double flop; /* with attention and vocabulary */
    double gain; /* share by which the decision's standard error falls, given the runs before it */
    double sd;   /* of the decision after it, ln units */
    int repeats; /* how many equal runs were proposed before */
};
struct fpl_next_options {
    int count;                             /* runs to propose */
    double max_flop;                       /* of one run */
    double noise;                          /* sd of ln loss of one run; <= 0: the fit's */
    double least_gain;                     /* of the candidates whose fall of ln variance is at least this
                                              share of the largest, the one with most per FLOP; 0.1 */
    double extend;                         /* octaves beyond the fitted range of N and D; 1 */
    const struct fpl_plan_format *formats; /* of candidates */
    size_t format_count;
    struct fpl_plan_limits limits;
    const char *const *setting; /* "key=value" of every run (sim/base/config.h), settings of them */
    size_t settings;
    uint64_t seed; /* of the first of equal runs */
};
struct fpl_next {
    struct fpl_proposal *run;
    size_t runs;
    double sd_before, sd_after; /* of the decision, ln units (differences of ln loss for best-format) */
    double noise;
    size_t candidates;
};
/* FPL_INVALID: a fit without resamples, a decision that the law cannot tell, no candidate left. */
enum fpl_code fpl_plan_next(const struct fpl_fit *fit, const struct fpl_decision_of *decision,
                            const struct fpl_next_options *options, struct fpl_next *out,
                            struct fpl_error *err);
void fpl_next_free(struct fpl_next *next);
/* The study file of the proposals. Malloced; NULL: out of memory. */
char *fpl_next_yaml(const struct fpl_next *next, const struct fpl_next_options *options, const char *decision,
                    const char *source);

#endif
