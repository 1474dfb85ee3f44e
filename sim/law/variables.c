/* variables.c - the named quantities that laws take, and how a run or a question gives them.
 *
 * A law lists its variables (struct fpl_takes); a table's columns, the arguments of `predict` and
 * the ranges in FIT.json carry the same names.  `place` turns them into the law's coordinates: the
 * classic one takes N, D, lr, batch_tokens and a format, other laws say for themselves what n, d
 * and z stand for.
 *
 * Some variables follow from others where a table does not have them.  Pw and Pa are the widths
 * 1 + E + M of the forward operands w and x of the recipe, or of the run's format; bits likewise;
 * group is the block; steps = D/batch_tokens.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/recipe.h"
#include "problem.h"

#define COUNT_MOST 1e30

const struct fpl_variable_info fpl_variables[FPL_VARIABLES] = {
    [FPL_VAR_N] = {"N", "parameters", "model size without vocabulary", 1.0, COUNT_MOST},
    [FPL_VAR_D] = {"D", "tokens", "training tokens", 1.0, COUNT_MOST},
    [FPL_VAR_LR] = {"lr", "", "peak learning rate", 1e-300, 1e300},
    [FPL_VAR_BATCH] = {"batch_tokens", "tokens", "tokens of one step", 1e-300, COUNT_MOST},
    [FPL_VAR_E] = {"E", "bits", "exponent bits", 0.0, 64.0},
    [FPL_VAR_M] = {"M", "bits", "mantissa bits", 0.0, 64.0},
    [FPL_VAR_BLOCK] = {"block", "elements", "elements that share one scale", 1e-300, COUNT_MOST},
    [FPL_VAR_PW] = {"Pw", "bits", "bits of weights", 0.01, 64.0},
    [FPL_VAR_PA] = {"Pa", "bits", "bits of activations", 0.01, 64.0},
    [FPL_VAR_PKV] = {"Pkv", "bits", "bits of keys and values", 0.01, 64.0},
    [FPL_VAR_BITS] = {"bits", "bits", "bits after training", 0.01, 64.0},
    [FPL_VAR_GROUP] = {"group", "elements", "elements of a quantization group", 1.0, COUNT_MOST},
    [FPL_VAR_STEPS] = {"steps", "steps", "steps of training", 1e-300, COUNT_MOST},
    [FPL_VAR_STEP] = {"step", "steps", "step of a loss curve", 1.0, COUNT_MOST},
    [FPL_VAR_N_MEAN] = {"N_mean", "parameters", "parameters averaged over training", 1.0, COUNT_MOST},
    [FPL_VAR_X] = {"x", "", "a positive variable", 1e-300, 1e300},
    [FPL_VAR_EFF_N] = {"eff_N", "", "effective share of the parameters", 1e-6, 1e6},
    [FPL_VAR_EFF_D] = {"eff_D", "", "effective share of the tokens", 1e-6, 1e6},
};

int fpl_variable_find(const char *name) {
    for (int i = 0; i < FPL_VARIABLES; i++)
        if (strcmp(fpl_variables[i].name, name) == 0) return i;
    return -1;
}

const struct fpl_takes fpl_takes_nd[] = {
    {FPL_VAR_N, FPL_REQUIRED}, {FPL_VAR_D, FPL_REQUIRED}, {FPL_VARIABLES, 0}};
const struct fpl_takes fpl_takes_format[] = {{FPL_VAR_N, FPL_REQUIRED},   {FPL_VAR_D, FPL_REQUIRED},
                                             {FPL_VAR_E, FPL_FORMAT},     {FPL_VAR_M, FPL_FORMAT},
                                             {FPL_VAR_BLOCK, FPL_FORMAT}, {FPL_VARIABLES, 0}};
const struct fpl_takes fpl_takes_optima[] = {{FPL_VAR_N, FPL_REQUIRED},
                                             {FPL_VAR_D, FPL_REQUIRED},
                                             {FPL_VAR_LR, FPL_REQUIRED | FPL_SETTING},
                                             {FPL_VAR_BATCH, FPL_REQUIRED | FPL_SETTING},
                                             {FPL_VARIABLES, 0}};
const struct fpl_takes fpl_takes_joint[] = {{FPL_VAR_N, FPL_REQUIRED},
                                            {FPL_VAR_D, FPL_REQUIRED},
                                            {FPL_VAR_LR, FPL_REQUIRED | FPL_SETTING},
                                            {FPL_VAR_BATCH, FPL_REQUIRED | FPL_SETTING},
                                            {FPL_VAR_E, FPL_FORMAT},
                                            {FPL_VAR_M, FPL_FORMAT},
                                            {FPL_VAR_BLOCK, FPL_FORMAT},
                                            {FPL_VARIABLES, 0}};

/* ---- questions ------------------------------------------------------------------------------ */

void fpl_question_clear(struct fpl_question *q) {
    for (int i = 0; i < FPL_VARIABLES; i++) q->value[i] = (double)NAN;
    q->flop = (double)NAN;
    q->schedule = NULL;
    q->curve = NULL;
}

struct fpl_question fpl_question_of_point(const struct fpl_point_at *at) {
    struct fpl_question q;
    fpl_question_clear(&q);
    q.value[FPL_VAR_N] = at->N;
    q.value[FPL_VAR_D] = at->D;
    q.value[FPL_VAR_LR] = at->lr;
    q.value[FPL_VAR_BATCH] = at->batch_tokens;
    q.value[FPL_VAR_E] = at->E;
    q.value[FPL_VAR_M] = at->M;
    q.value[FPL_VAR_BLOCK] = at->block;
    return q;
}

/* Variables beyond the classic ones are positive; 0 is not given. */
static void take(struct fpl_question *q, enum fpl_variable which, double x) {
    if (x > 0.0) q->value[which] = x;
}

static double width(const struct fpl_quantizer *quantizer) {
    return quantizer->identity ? (double)NAN
                               : 1.0 + (double)quantizer->format.ebits + (double)quantizer->format.mbits;
}

/* Bits of the forward operands: of the recipe if there is one, else of the format. */
static void take_widths(struct fpl_question *q, const struct fpl_run *r) {
    struct fpl_recipe recipe;
    struct fpl_error ignored;
    double w = (double)NAN, x = (double)NAN;
    const double bits = 1.0 + r->E + r->M;
    if (r->recipe[0] != '\0' && fpl_recipe_parse(r->recipe, &recipe, &ignored) == FPL_OK) {
        w = width(&recipe.slot[FPL_FWD_W]);
        x = width(&recipe.slot[FPL_FWD_X]);
    } else {
        w = x = bits;
    }
    take(q, FPL_VAR_PW, r->Pw > 0.0 ? r->Pw : w);
    take(q, FPL_VAR_PA, r->Pa > 0.0 ? r->Pa : x);
    take(q, FPL_VAR_BITS, r->bits > 0.0 ? r->bits : bits);
}

struct fpl_question fpl_question_of_run(const struct fpl_run *r) {
    const struct fpl_point_at at = fpl_point_of_run(r);
    struct fpl_question q = fpl_question_of_point(&at);
    take_widths(&q, r);
    take(&q, FPL_VAR_PKV, r->Pkv);
    take(&q, FPL_VAR_GROUP, r->group > 0.0 ? r->group : r->block);
    take(&q, FPL_VAR_STEPS, r->steps > 0.0 ? r->steps : r->D / r->batch_tokens);
    take(&q, FPL_VAR_STEP, r->step);
    take(&q, FPL_VAR_N_MEAN, r->N_mean);
    take(&q, FPL_VAR_X, r->x);
    take(&q, FPL_VAR_EFF_N, r->eff_N);
    take(&q, FPL_VAR_EFF_D, r->eff_D);
    return q;
}

struct fpl_point_at fpl_point_of_run(const struct fpl_run *r) {
    return (struct fpl_point_at){r->N, r->D, r->lr, r->batch_tokens, r->E, r->M, r->block};
}

/* ---- coordinates ------------------------------------------------------------------------------ */

void fpl_place_classic(const struct fpl_law *law, const struct fpl_question *question,
                       struct fpl_law_at *at) {
    const double *v = question->value;
    (void)law;
    memset(at, 0, sizeof *at);
    at->n = log(v[FPL_VAR_N]);
    at->d = log(v[FPL_VAR_D]);
    at->x = log(v[FPL_VAR_LR]);
    at->y = log(v[FPL_VAR_BATCH]);
    at->quantized = !isnan(v[FPL_VAR_E]) && !isnan(v[FPL_VAR_M]) && !isnan(v[FPL_VAR_BLOCK]);
    if (!at->quantized) return;
    at->e = log((v[FPL_VAR_E] + 0.5) / FPL_E_ORIGIN);
    at->m = log((v[FPL_VAR_M] + 0.5) / FPL_M_ORIGIN);
    at->g = log2(v[FPL_VAR_BLOCK]);
}

static void centre_at(struct fpl_law_at *at, const struct fpl_centre *centre) {
    at->n0 = centre->n;
    at->d0 = centre->d;
    at->n -= centre->n;
    at->d -= centre->d;
}

void fpl_law_place(const struct fpl_law *law, const struct fpl_question *question,
                   const struct fpl_centre *centre, struct fpl_law_at *out) {
    (law->place != NULL ? law->place : fpl_place_classic)(law, question, out);
    centre_at(out, centre);
}

void fpl_law_at_point(const struct fpl_point_at *at, const struct fpl_centre *centre,
                      struct fpl_law_at *out) {
    const struct fpl_question q = fpl_question_of_point(at);
    fpl_place_classic(NULL, &q, out);
    centre_at(out, centre);
}

/* ---- what a law takes ----------------------------------------------------------------------------- */

int fpl_law_takes(const struct fpl_law *law, enum fpl_variable which) {
    for (const struct fpl_takes *t = law->takes; t->which != FPL_VARIABLES; t++) {
        if (t->which != which) continue;
        /* a setting that rows need is the law's optimum where a question leaves it out */
        return (t->need & FPL_REQUIRED) != 0 && (t->need & FPL_SETTING) == 0 ? 2 : 1;
    }
    return 0;
}

int fpl_law_takes_schedule(const struct fpl_law *law) { return (law->use & FPL_CURVES) != 0; }

void fpl_law_describe(const struct fpl_law *law, char *text, size_t size) {
    int open = 0;
    size_t used = 0;
    text[0] = '\0';
    for (int optional = 0; optional < 2; optional++)
        for (const struct fpl_takes *t = law->takes; t->which != FPL_VARIABLES && used < size; t++) {
            if ((fpl_law_takes(law, t->which) == 1) != optional) continue;
            const char *before = used == 0 ? "" : " ";
            used += (size_t)snprintf(text + used, size - used, "%s%s%s", before, optional && !open ? "[" : "",
                                     fpl_variables[t->which].name);
            open |= optional;
        }
    if (used < size && fpl_law_takes_schedule(law))
        used += (size_t)snprintf(text + used, size - used, "%sschedule", open ? "] " : " ");
    else if (used < size && open)
        snprintf(text + used, size - used, "]");
}

int fpl_law_of_optima(const struct fpl_law *law) { return (law->use & FPL_OPTIMA) != 0; }

const char *fpl_law_scaling(const struct fpl_law *law) { return law->scaling != NULL ? law->scaling : ""; }

const char *fpl_law_target(const struct fpl_law *law) {
    if ((law->use & FPL_TARGET_DELTA) != 0) return "delta";
    return (law->use & FPL_TARGET_LR) != 0 ? "lr" : "loss";
}
