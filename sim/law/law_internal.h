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

/* ---- learning rate against batch (batch.c): surge, noise-scale --------------------------------- */

enum { FPL_BATCH_LR_MAX, FPL_BATCH_NOISE }; /* theta */
void fpl_place_batch(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at);
int fpl_start_batch(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room);
double fpl_tell_noise_scale(const struct fpl_fit *fit, const double *t, const struct fpl_question *q);

#endif
