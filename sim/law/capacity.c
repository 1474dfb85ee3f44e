/* capacity.c - precision as a loss of capacity (arXiv 2505.14669v4).
 *
 *   L = ( A/(N eff_N)^alpha + B/(D eff_D)^beta )^gamma + E
 *
 * Precision of the forward pass makes a model act like one of N eff_N parameters, precision of the
 * backward pass like one that has seen D eff_D tokens.  A format's two efficiencies are constants:
 * fitted here from the unquantized runs and the runs of one format (its row's E and M given), or given
 * with a question, or as columns eff_N and eff_D.
 *
 * theta: base.c's (levels and slopes in nats at the centre), then ln eff_N, ln eff_D.
 */
#include <math.h>
#include <string.h>

#include "base.h"
#include "fitting.h"

enum { E, A, ALPHA, B, BETA, GAMMA, EFF_N, EFF_D, PARAMS };

static const struct fpl_law_param params[PARAMS] = {
    {"E", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"},
    {"A", "", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of model size, inside the common exponent"},
    {"alpha", "", 0.005, 2.0, 0.5, 0.0, 0.0, 0, "exponent of model size, inside the common exponent"},
    {"B", "", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size, inside the common exponent"},
    {"beta", "", 0.005, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size, inside the common exponent"},
    {"gamma", "", 0.05, 3.0, 0.7, 0.0, 0.0, 1, "common exponent of both terms"},
    {"eff_N", "", -7.0, 0.5, 1.0, 0.0, 0.0, 0, "effective share of the parameters in the runs' format"},
    {"eff_D", "", -7.0, 0.5, 1.0, 0.0, 0.0, 0, "effective share of the tokens in the runs' format"},
};

static const struct fpl_form forms[PARAMS] = {[EFF_N] = {.precision = 1}, [EFF_D] = {.precision = 1}};

static void publish(const struct fpl_law *law, const double *t, const struct fpl_centre *c, double *p) {
    law->levels->publish(t, c, p);
    p[EFF_N] = exp(t[EFF_N]);
    p[EFF_D] = exp(t[EFF_D]);
}

/* A fit without quantized runs has no efficiencies: their logarithms are 0. */
static void internal(const struct fpl_law *law, const double *p, const struct fpl_centre *c, double *t) {
    law->levels->internal(p, c, t);
    t[EFF_N] = p[EFF_N] > 0.0 ? log(p[EFF_N]) : 0.0;
    t[EFF_D] = p[EFF_D] > 0.0 ? log(p[EFF_D]) : 0.0;
}

/* z: logarithms of given efficiencies; else those of the format, where there is one. */
static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    const double *v = q->value, n = v[FPL_VAR_EFF_N], d = v[FPL_VAR_EFF_D];
    fpl_place_classic(law, q, at);
    at->z[0] = isnan(n) ? 0.0 : log(n);
    at->z[1] = isnan(d) ? 0.0 : log(d);
    at->quantized = isnan(n) && isnan(d) && !isnan(v[FPL_VAR_E]) && !isnan(v[FPL_VAR_M]);
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    struct fpl_law_at moved = *at;
    double by_d;
    moved.n += at->z[0] + (at->quantized ? t[EFF_N] : 0.0);
    moved.d += at->z[1] + (at->quantized ? t[EFF_D] : 0.0);
    const double loss = fpl_base_one(law->levels, t, &moved, grad, &by_d);
    if (grad != NULL) {
        /* the slope in ln N, from that in the level A: both move A/N^alpha alone */
        grad[EFF_N] = at->quantized ? -t[ALPHA] * grad[A] : 0.0;
        grad[EFF_D] = at->quantized ? by_d : 0.0;
        for (int j = 0; j < PARAMS; j++) grad[j] /= loss;
    }
    return log(loss);
}

/* Levels as if precision cost nothing; efficiencies from mild to severe. */
static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double efficiencies[3][2] = {{-0.1, -0.1}, {-0.7, -0.1}, {-0.1, -0.7}};
    const int count = fpl_levels_start(problem, theta, room / 3);
    for (int e = 0; e < 3; e++)
        for (int i = 0; i < count; i++) {
            double *t = theta[e * count + i];
            memmove(t, theta[i], (size_t)PARAMS * sizeof *t);
            t[EFF_N] = efficiencies[e][0];
            t[EFF_D] = efficiencies[e][1];
        }
    return 3 * count;
}

static double effective(const struct fpl_question *q, enum fpl_variable size, enum fpl_variable share,
                        double fitted) {
    const double given = q->value[share];
    if (!isnan(given)) return q->value[size] * given;
    return isnan(q->value[FPL_VAR_E]) ? (double)NAN : q->value[size] * exp(fitted);
}
static double tell_n(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    (void)fit;
    return effective(q, FPL_VAR_N, FPL_VAR_EFF_N, t[EFF_N]);
}
static double tell_d(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    (void)fit;
    return effective(q, FPL_VAR_D, FPL_VAR_EFF_D, t[EFF_D]);
}
static const struct fpl_teller tellers[] = {
    {"N_eff", "parameters", "model size that it acts like", tell_n},
    {"D_eff", "tokens", "data size that it acts like", tell_d},
    {NULL, NULL, NULL, NULL},
};

/* A format that is not the fit's own, or whose efficiencies it does not have. */
static const char *domain(const struct fpl_fit *fit, const double *theta, const struct fpl_law_at *at) {
    (void)theta;
    if (!at->quantized) return "";
    if (!fit->active[EFF_N] || fit->used == 0)
        return "this fit has no efficiencies of a format: give eff_N and eff_D";
    return "";
}

static const struct fpl_takes takes[] = {
    {FPL_VAR_N, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED},     {FPL_VAR_E, FPL_FORMAT},
    {FPL_VAR_M, FPL_FORMAT},   {FPL_VAR_EFF_N, FPL_OPTIONAL}, {FPL_VAR_EFF_D, FPL_OPTIONAL},
    {FPL_VARIABLES, 0}};

static const struct fpl_preset presets[] = {
    {"paper",
     "arXiv 2505.14669v4 (unquantized base; a format's eff_N and eff_D are given with the question)",
     {1.35, 1.52e5, 0.589, 5.25e5, 0.544, 0.274, 1.0, 1.0},
     {0, 0},
     {0, 0}},
};

const struct fpl_law fpl_law_capacity = {
    .name = "capacity",
    .citation = "arXiv 2505.14669v4",
    .formula = "L = (A/(N eff_N)^alpha + B/(D eff_D)^beta)^gamma + E",
    .params = PARAMS,
    .param = params,
    .use = FPL_TAKE_FORMAT | FPL_ONLY_BEST | FPL_ONE_FORMAT,
    .floor_at = E,
    .penalty_at = -1,
    .shift_at = -1,
    .levels = &fpl_base_capacity,
    .form = forms,
    .publish = publish,
    .internal = internal,
    .place = place,
    .log_loss = log_loss,
    .start = start,
    .takes = takes,
    .cell_keys = 2,
    .domain = domain,
    .tellers = tellers,
    .presets = presets,
    .preset_count = 1,
};
