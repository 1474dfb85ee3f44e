/* kumar.c - precision as a loss of effective parameters (arXiv 2411.04330).
 *
 *   L = A N_eff^-alpha + B D^-beta + E,    N_eff = N prod over x in {w, a, kv} of f(P_x)
 *   f(P_x) = 1 - exp(-P_x/gamma_x + n_x)
 *
 * P in bits of weights, activations, and keys and values; one that is not given is not quantized, f = 1.
 * The sign of the offsets n is inferred: with it the tied optimum is 7.0 bits, as the paper says.
 *
 * A factor is negative below gamma n bits, and two negative factors would multiply to a positive one:
 * factors are clamped to (0, 1], and a question there is answered "outside its domain".  Runs there
 * enter a fit with the clamped factor, which their losses contradict; leave them out.
 *
 * At a cost of (6/16) P N D a precision enters the loss only through N_eff D = (16/6) C f(P)/P, so the
 * best tied P maximises f_w f_a f_kv / P at any budget.
 */
#include <math.h>
#include <string.h>

#include "fitting.h"

enum { A, ALPHA, B, BETA, E, GAMMA_W, N_W, GAMMA_A, N_A, GAMMA_KV, N_KV, PARAMS };

#define LEAST_FACTOR 1e-4

static const struct fpl_law_param params[PARAMS] = {
    {"A", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of effective model size"},
    {"alpha", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of effective model size"},
    {"B", "nats", -15.0, 8.0, 3.0, 0.0, 0.0, 0, "prefactor of data size"},
    {"beta", "", 0.01, 2.0, 0.5, 0.0, 0.0, 0, "exponent of data size"},
    {"E", "nats", 0.0, 20.0, 1.0, 0.0, 0.0, 0, "loss of infinite model and data"},
    {"gamma_w", "bits", -3.0, 4.0, 1.0, 0.0, 0.0, 0, "bits of weights that cost a factor e"},
    {"n_w", "", -3.0, 6.0, 2.0, 0.0, 0.0, 0, "their offset"},
    {"gamma_a", "bits", -3.0, 4.0, 1.0, 0.0, 0.0, 0, "bits of activations that cost a factor e"},
    {"n_a", "", -3.0, 6.0, 2.0, 0.0, 0.0, 0, "their offset"},
    {"gamma_kv", "bits", -3.0, 4.0, 1.0, 0.0, 0.0, 0, "bits of keys and values that cost a factor e"},
    {"n_kv", "", -3.0, 6.0, 2.0, 0.0, 0.0, 0, "their offset"},
};

static const struct fpl_form forms[PARAMS] = {
    [A] = {.log = 1, .link = {FPL_LINK_N(ALPHA, 1.0)}},
    [B] = {.log = 1, .link = {FPL_LINK_D(BETA, 1.0)}},
    [GAMMA_W] = {.log = 1, .precision = 1},
    [N_W] = {.precision = 1},
    [GAMMA_A] = {.log = 1, .precision = 1},
    [N_A] = {.precision = 1},
    [GAMMA_KV] = {.log = 1, .precision = 1},
    [N_KV] = {.precision = 1},
};

/* ---- the law -------------------------------------------------------------------------------------- */

static void place(const struct fpl_law *law, const struct fpl_question *q, struct fpl_law_at *at) {
    fpl_place_classic(law, q, at);
    at->z[0] = q->value[FPL_VAR_PW];
    at->z[1] = q->value[FPL_VAR_PA];
    at->z[2] = q->value[FPL_VAR_PKV];
    at->quantized = !isnan(at->z[0]) || !isnan(at->z[1]) || !isnan(at->z[2]);
    at->e = at->m = 0.0;
    at->g = 1.0;
}

/* ln f(P), and its derivatives in ln gamma and n. */
static double log_factor(const double *t, double bits, double *by) {
    by[0] = by[1] = 0.0;
    if (isnan(bits)) return 0.0;
    const double z = bits * exp(-t[0]), lost = exp(t[1] - z), left = 1.0 - lost;
    if (!(left > LEAST_FACTOR)) return log(LEAST_FACTOR);
    by[0] = -lost * z / left;
    by[1] = -lost / left;
    return log(left);
}

static double log_loss(const struct fpl_law *law, const double *t, const struct fpl_law_at *at,
                       double *grad) {
    (void)law;
    double by[6], n = at->n;
    for (int k = 0; k < 3; k++) n += log_factor(t + GAMMA_W + 2 * k, at->z[k], by + 2 * k);
    const double a = exp(t[A] - t[ALPHA] * n), b = exp(t[B] - t[BETA] * at->d), loss = a + b + t[E];
    if (grad != NULL) {
        const double by_loss = 1.0 / loss;
        grad[A] = a * by_loss;
        grad[ALPHA] = -a * n * by_loss;
        grad[B] = b * by_loss;
        grad[BETA] = -b * at->d * by_loss;
        grad[E] = by_loss;
        for (int k = 0; k < 6; k++) grad[GAMMA_W + k] = -t[ALPHA] * a * by_loss * by[k];
    }
    return log(loss);
}

/* A precision that no run gives leaves its two parameters out. */
static int speaks(const struct fpl_problem *p, int j) {
    if (j < GAMMA_W) return 1;
    const int k = (j - GAMMA_W) / 2;
    for (size_t i = 0; i < p->count; i++)
        if (!isnan(p->row[i].at.z[k])) return 1;
    return 0;
}

static const char *domain(const struct fpl_fit *fit, const double *t, const struct fpl_law_at *at) {
    for (int k = 0; k < 3; k++) {
        if (isnan(at->z[k])) continue;
        if (!fit->active[GAMMA_W + 2 * k])
            return "this fit has no runs with that precision (Pw, Pa or Pkv) quantized";
        if (!(exp(t[N_W + 2 * k] - at->z[k] * exp(-t[GAMMA_W + 2 * k])) < 1.0 - LEAST_FACTOR))
            return "outside its domain: at so few bits the effective model size is not positive";
    }
    return "";
}

static int start(const struct fpl_problem *problem, double (*theta)[FPL_LAW_PARAMS], int room) {
    static const double widths[6][2] = {{0.7, 0.0}, {0.0, 0.0},  {0.7, 1.0},
                                        {0.0, 1.0}, {-0.5, 0.0}, {-0.5, 2.0}};
    struct fpl_levels best[8];
    const int count = fpl_start_levels(problem, NULL, 0, best, room / 6 < 8 ? room / 6 : 8);
    for (int w = 0; w < 6; w++)
        for (int i = 0; i < count; i++) {
            double *t = theta[w * count + i];
            t[A] = best[i].a;
            t[ALPHA] = best[i].alpha;
            t[B] = best[i].b;
            t[BETA] = best[i].beta;
            t[E] = best[i].E;
            for (int k = 0; k < 3; k++) {
                t[GAMMA_W + 2 * k] = widths[w][0];
                t[N_W + 2 * k] = widths[w][1];
            }
        }
    return 6 * count;
}

/* ---- what it tells ---------------------------------------------------------------------------------- */

static double tell_n(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    static const enum fpl_variable bits[3] = {FPL_VAR_PW, FPL_VAR_PA, FPL_VAR_PKV};
    double by[2], n = log(q->value[FPL_VAR_N]);
    (void)fit;
    for (int k = 0; k < 3; k++) n += log_factor(t + GAMMA_W + 2 * k, q->value[bits[k]], by);
    return exp(n);
}

struct tied {
    const struct fpl_fit *fit;
    const double *theta;
};

/* -ln of effective parameters per cost, over the precisions that the fit knows. */
static double cost_of_bits(double bits, void *data) {
    const struct tied *tied = data;
    double by[2], sum = -log(bits);
    for (int k = 0; k < 3; k++)
        if (tied->fit->active[GAMMA_W + 2 * k]) sum += log_factor(tied->theta + GAMMA_W + 2 * k, bits, by);
    return -sum;
}

/* Clamped factors are flat, so the golden section starts where a scan finds the least cost. */
static double tell_tied(const struct fpl_fit *fit, const double *t, const struct fpl_question *q) {
    struct tied tied = {fit, t};
    double best = 1.0, value;
    (void)q;
    if (!fit->active[GAMMA_W] && !fit->active[GAMMA_A] && !fit->active[GAMMA_KV]) return (double)NAN;
    for (double bits = 0.5; bits <= 32.0; bits += 0.25)
        if (cost_of_bits(bits, &tied) < cost_of_bits(best, &tied)) best = bits;
    return fpl_golden(cost_of_bits, &tied, fmax(0.25, best - 0.25), best + 0.25, &value);
}

static const struct fpl_teller tellers[] = {
    {"N_eff", "parameters", "effective model size", tell_n},
    {"bits_opt", "bits", "cost-optimal precision, the same for all that is quantized", tell_tied},
    {NULL, NULL, NULL, NULL},
};

static const struct fpl_takes takes[] = {{FPL_VAR_N, FPL_REQUIRED},   {FPL_VAR_D, FPL_REQUIRED},
                                         {FPL_VAR_PW, FPL_OPTIONAL},  {FPL_VAR_PA, FPL_OPTIONAL},
                                         {FPL_VAR_PKV, FPL_OPTIONAL}, {FPL_VARIABLES, 0}};

static const struct fpl_preset presets[] = {
    {"paper",
     "arXiv 2411.04330 (sign of the offsets inferred)",
     {4299.0, 0.4965, 18060.0, 0.4965, 2.7648, 2.6745, 0.3037, 2.2102, 1.4072, 0.9578, 2.4185},
     {0, 0},
     {0, 0}},
};

const struct fpl_law fpl_law_kumar = {
    .name = "kumar",
    .citation = "arXiv 2411.04330",
    .formula =
        "L = A N_eff^-alpha + B D^-beta + E, N_eff = N prod (1 - exp(-P_x/gamma_x + n_x)), x = w, a, kv",
    .params = PARAMS,
    .param = params,
    .use = FPL_TAKE_FORMAT | FPL_ONLY_BEST,
    .floor_at = E,
    .penalty_at = -1,
    .shift_at = -1,
    .form = forms,
    .publish = fpl_publish,
    .internal = fpl_internal,
    .place = place,
    .log_loss = log_loss,
    .speaks = speaks,
    .domain = domain,
    .start = start,
    .takes = takes,
    .cell_keys = 2,
    .tellers = tellers,
    .presets = presets,
    .preset_count = 1,
};
