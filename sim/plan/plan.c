/* plan.c - a budget spent in each of several formats: the best point of each, with intervals.
 *
 * The same decisions are taken on every bootstrap vector of the fit.  Formats are compared pair by
 * pair inside a vector, since what moves the loss of all of them alike (the floor, the data term)
 * says nothing about which is best: a row is within the noise of the fit where the paired interval of its
 * gap reaches zero.  That noise is of the expected losses.  What one run in each format will show has the
 * noise of two runs besides (the robust scale of the fit's residuals): a row may be clearly worse and still
 * win such a race.  Both are told; the first decides which format is better, the second whether trying both
 * once would tell.
 *
 * Against the reference, the unquantized row, each format gets its break-even speed and its gap as
 * equivalents (equivalent.c).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/format.h"
#include "internal.h"

#define NEGLIGIBLE_LOSS 0.0025

/* ---- formats ---------------------------------------------------------------------------------- */

static enum fpl_code unknown_format(const char *name, struct fpl_error *err) {
    static const char *const known[] = {"fp32", "bf16", "e4m3", "e5m2", "e3m2", "e2m3", "e2m1",
                                        "e3m4", "e2m2", "e1m2", "e3m1", "e1m1", NULL};
    const char *near = fpl_nearest_word(name, known);
    char why[sizeof err->text];
    if (err == NULL || near == NULL || strcmp(near, name) == 0) return FPL_INVALID;
    memcpy(why, err->text, sizeof why);
    return fpl_fail(err, FPL_INVALID, "%.900s; did you mean '%s'?", why, near);
}

enum fpl_code fpl_plan_format_parse(const char *name, double block, double speed, struct fpl_plan_format *out,
                                    struct fpl_error *err) {
    struct fpl_format format;
    *out = (struct fpl_plan_format){.E = (double)NAN, .M = (double)NAN, .block = (double)NAN, .speed = speed};
    if (!(speed > 0.0 && speed <= 1e6))
        return fpl_fail(err, FPL_INVALID, "speed of %.40s: found %g, accepted is above 0 to 1e6", name,
                        speed);
    if (strlen(name) >= sizeof out->name)
        return fpl_fail(err, FPL_INVALID, "format: a name of at most %zu characters is expected",
                        sizeof out->name - 1);
    memcpy(out->name, name, strlen(name) + 1);
    if (strcmp(name, "fp32") == 0 || strcmp(name, "bf16") == 0) {
        out->bytes = name[0] == 'b' ? 2.0 : 0.0;
        return FPL_OK;
    }
    if (fpl_format_parse(name, &format, err) != FPL_OK) return unknown_format(name, err);
    out->E = (double)format.ebits;
    out->M = (double)format.mbits;
    out->block = block;
    out->bytes = (1.0 + out->E + out->M) / 8.0 + (block >= 1.0 ? 1.0 / block : 0.0);
    return FPL_OK;
}

/* ---- samples ------------------------------------------------------------------------------------ */

int fpl_samples_make(const struct fpl_fit *fit, size_t width, struct fpl_samples *out) {
    out->count = (size_t)fpl_fit_vectors(fit);
    out->width = width;
    out->value = malloc((width * out->count + 1) * sizeof *out->value);
    for (size_t i = 0; out->value != NULL && i < width * out->count; i++) out->value[i] = (double)NAN;
    return out->value != NULL;
}

void fpl_samples_free(struct fpl_samples *s) { free(s->value); }

/* ---- can it be planned with? --------------------------------------------------------------------- */

enum fpl_code fpl_plan_check(const struct fpl_fit *fit, struct fpl_error *err) {
    const struct fpl_law *law = fpl_fit_law(fit);
    const struct fpl_point_at at = {1e8,         1e10,        (double)NAN, (double)NAN,
                                    (double)NAN, (double)NAN, (double)NAN};
    struct fpl_fit_vector v;
    char takes[128];
    fpl_law_describe(law, takes, sizeof takes);
    const int sized = fpl_law_takes(law, FPL_VAR_N) || fpl_law_takes(law, FPL_VAR_N_MEAN);
    fpl_fit_vector_at(fit, -1, &v);
    if (strcmp(fpl_law_target(law), "loss") == 0 && sized && fpl_law_takes(law, FPL_VAR_D) &&
        !fpl_law_takes_schedule(law) && isfinite(fpl_vector_loss(&v, &at)))
        return FPL_OK;
    return fpl_fail(
        err, FPL_INVALID,
        "%s tells no loss of N and D, so it cannot plan (chinchilla, capybara, joint, ... can); it "
        "takes %s",
        fpl_law_name(law), takes);
}

/* ---- rows ---------------------------------------------------------------------------------------- */

/* Columns of a row's samples. */
enum { S_N, S_D, S_LOSS, S_LR, S_BATCH, S_CRIT, S_EXPONENT, S_BREAK, S_SAME_N, S_SAME_D, S_SAME_C, S_WIDTH };

struct making {
    const struct fpl_fit *fit;
    const struct fpl_plan_limits *limits;
    double flop;
    struct fpl_plan *plan;
};

static double exponent_of(const struct making *m, const struct fpl_fit_vector *v,
                          const struct fpl_plan_format *format, double N) {
    struct fpl_plan_point up, down;
    if (m->limits->N > 0.0 || !fpl_plan_best(v, format, m->limits, 2.0 * m->flop, 1.5 * N, &up) ||
        !fpl_plan_best(v, format, m->limits, 0.5 * m->flop, N / 1.5, &down))
        return (double)NAN;
    return log(up.N / down.N) / log(4.0);
}

static double critical_at(const struct fpl_fit_vector *v, const struct fpl_plan_format *format, double N) {
    const struct fpl_point_at at = {N, 1e10, (double)NAN, (double)NAN, format->E, format->M, format->block};
    return isnan(format->E) ? (double)NAN : fpl_vector_dcrit(v, &at);
}

/* What the row says on one vector, beside the reference's optimum there. */
static void fill(const struct making *m, const struct fpl_fit_vector *v, const struct fpl_plan_row *row,
                 const struct fpl_plan_point *at, const struct fpl_plan_point *ref, double out[S_WIDTH]) {
    const struct fpl_plan_format *format = row->format;
    out[S_N] = at->N, out[S_D] = at->D, out[S_LOSS] = at->loss;
    out[S_LR] = at->lr, out[S_BATCH] = at->batch_tokens;
    out[S_CRIT] = critical_at(v, format, at->N);
    out[S_EXPONENT] = exponent_of(m, v, format, at->N);
    out[S_BREAK] = out[S_SAME_N] = out[S_SAME_D] = out[S_SAME_C] = (double)NAN;
    if (ref == NULL || isnan(format->E)) return;
    const struct fpl_plan_format *base = m->plan->row[m->plan->reference].format;
    const double hint[2] = {at->N, ref->N};
    const struct fpl_point_at same = {ref->N,    ref->D,    (double)NAN,  (double)NAN,
                                      format->E, format->M, format->block};
    out[S_BREAK] = fpl_plan_break_even(v, format, base, m->limits, m->flop, hint);
    fpl_plan_equivalents(v, base, m->limits, m->flop, ref, fpl_vector_loss(v, &same), out + S_SAME_N);
}

/* The fit's own optimum of each row, and the reference. */
static void place_rows(const struct making *m, const struct fpl_fit_vector *own) {
    struct fpl_plan *plan = m->plan;
    plan->reference = plan->rows;
    double fastest = 0.0;
    for (size_t i = 0; i < plan->rows; i++) {
        struct fpl_plan_row *row = &plan->row[i];
        row->possible = fpl_plan_best(own, row->format, m->limits, m->flop, 0.0, &row->at);
        if (row->possible && isnan(row->format->E) && row->format->speed > fastest) {
            fastest = row->format->speed;
            plan->reference = i;
        }
    }
}

static void resample(const struct making *m, const struct fpl_samples *samples) {
    const struct fpl_plan *plan = m->plan;
    const int vectors = (int)samples->count;
#pragma omp parallel for schedule(static)
    for (int k = 0; k < vectors; k++) {
        struct fpl_fit_vector v;
        struct fpl_plan_point ref, at;
        fpl_fit_vector_at(m->fit, k, &v);
        const struct fpl_plan_row *base = plan->reference < plan->rows ? &plan->row[plan->reference] : NULL;
        const int have =
            base != NULL && fpl_plan_best(&v, base->format, m->limits, m->flop, base->at.N, &ref);
        for (size_t i = 0; i < plan->rows; i++) {
            const struct fpl_plan_row *row = &plan->row[i];
            double out[S_WIDTH];
            if (!row->possible || !fpl_plan_best(&v, row->format, m->limits, m->flop, row->at.N, &at))
                continue;
            fill(m, &v, row, &at, have ? &ref : NULL, out);
            for (size_t j = 0; j < S_WIDTH; j++) fpl_samples_of(samples, i * S_WIDTH + j)[k] = out[j];
        }
    }
}

/* What one run of each will show: the fit's interval and the noise of two runs, in quadrature. */
static struct fpl_estimate gap_of_runs(const struct fpl_fit *fit, const struct fpl_estimate *gap) {
    struct fpl_fit_summary s;
    fpl_fit_summarize(fit, &s);
    const double width = sqrt(2.0) * fpl_normal_width(s.level) * fpl_fit_run_noise(fit);
    const double down = gap->value - gap->lo, up = gap->hi - gap->value;
    return (struct fpl_estimate){gap->value, gap->value - sqrt(down * down + width * width),
                                 gap->value + sqrt(up * up + width * width)};
}

/* Paired gaps to the best row and how often each is the best; before estimates sort the samples. */
static enum fpl_code compare(const struct making *m, const struct fpl_samples *samples, size_t best,
                             struct fpl_error *err) {
    struct fpl_plan *plan = m->plan;
    double *gap = malloc((samples->count + 1) * sizeof *gap);
    if (gap == NULL) return fpl_fail(err, FPL_SYSTEM, "plan: out of memory");
    const double *of_best = fpl_samples_of(samples, best * S_WIDTH + S_LOSS);
    for (size_t i = 0; i < plan->rows; i++) {
        struct fpl_plan_row *row = &plan->row[i];
        if (!row->possible) continue;
        const double *loss = fpl_samples_of(samples, i * S_WIDTH + S_LOSS);
        size_t least = 0, valid = 0;
        for (size_t k = 0; k < samples->count; k++) {
            int first = !isnan(loss[k]);
            for (size_t j = 0; j < plan->rows; j++) {
                const double other = fpl_samples_of(samples, j * S_WIDTH + S_LOSS)[k];
                first = first && !(other < loss[k]) && !(j < i && other <= loss[k]);
            }
            least += (size_t)first;
            valid += isnan(of_best[k]) ? 0 : 1;
            gap[k] = log(loss[k] / of_best[k]);
        }
        row->share_best = valid > 0 ? (double)least / (double)valid : (double)NAN;
        row->gap =
            fpl_estimate_from(m->fit, log(row->at.loss / plan->row[best].at.loss), gap, samples->count);
        row->within_noise = i != best && row->gap.lo <= 0.0;
        row->gap_run = gap_of_runs(m->fit, &row->gap);
        row->within_run_noise = i != best && row->gap_run.lo <= 0.0;
    }
    free(gap);
    return FPL_OK;
}

/* Sizes to both sides of the optimum that cost under 0.25 %. */
static void flat(const struct making *m, const struct fpl_fit_vector *own, struct fpl_plan_row *row) {
    row->flat_N[0] = row->flat_N[1] = (double)NAN;
    if (row->at.bounds & (FPL_BOUND_N | FPL_BOUND_MEMORY | FPL_BOUND_SEARCH)) return;
    const double limit = row->at.loss * (1.0 + NEGLIGIBLE_LOSS);
    for (int side = 0; side < 2; side++) {
        double low = 0.0, high = 9.0;
        struct fpl_plan_point p;
        for (int i = 0; i < 50; i++) {
            const double middle = 0.5 * (low + high);
            const double N = row->at.N * exp(side ? middle : -middle);
            const int cheap =
                fpl_plan_at_size(own, row->format, m->limits, m->flop, N, &p) && p.loss <= limit;
            *(cheap ? &low : &high) = middle;
        }
        row->flat_N[side] = row->at.N * exp(side ? low : -low);
    }
}

static void say(struct fpl_plan_row *row, const char *text) {
    const size_t used = strlen(row->note);
    if (text[0] != '\0')
        snprintf(row->note + used, sizeof row->note - used, "%s%s", used > 0 ? "; " : "", text);
}

/* Bounds, distances, and what the law cannot say. */
static void annotate(const struct making *m, struct fpl_plan_row *row) {
    const struct fpl_point_at at = {row->at.N,      row->at.D,      row->at.lr,        row->at.batch_tokens,
                                    row->format->E, row->format->M, row->format->block};
    struct fpl_answer answer;
    char text[400];
    fpl_plan_bounds_text(row->at.bounds, text, sizeof text);
    say(row, text);
    if (row->at.D < row->at.N) {
        snprintf(text, sizeof text, "fewer tokens than parameters (D/N = %.2g)", row->at.D / row->at.N);
        say(row, text);
    }
    if (fpl_fit_predict(m->fit, &at, &answer, NULL) != FPL_OK) return;
    row->outside = answer.outside;
    say(row, answer.warning);
}

static void estimate(const struct making *m, const struct fpl_fit_vector *own,
                     const struct fpl_samples *samples, size_t i) {
    struct fpl_plan *plan = m->plan;
    struct fpl_plan_row *row = &plan->row[i];
    const int have = plan->reference < plan->rows;
    double value[S_WIDTH];
    struct fpl_estimate *const out[S_WIDTH] = {
        &row->N,          &row->D,          &row->loss,   &row->lr,     &row->batch_tokens, &row->D_crit,
        &row->exponent_N, &row->break_even, &row->same_N, &row->same_D, &row->same_C};
    fill(m, own, row, &row->at, have ? &plan->row[plan->reference].at : NULL, value);
    for (size_t j = 0; j < S_WIDTH; j++)
        *out[j] =
            fpl_estimate_from(m->fit, value[j], fpl_samples_of(samples, i * S_WIDTH + j), samples->count);
    flat(m, own, row);
    annotate(m, row);
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static int by_loss(const void *left, const void *right) {
    const struct fpl_plan_row *a = left, *b = right;
    if (a->possible != b->possible) return b->possible - a->possible;
    if (!a->possible) return (a->format > b->format) - (a->format < b->format);
    if (a->at.loss != b->at.loss) return (a->at.loss > b->at.loss) - (a->at.loss < b->at.loss);
    return (a->format > b->format) - (a->format < b->format);
}

static void explain_impossible(const struct making *m, const struct fpl_fit_vector *own,
                               struct fpl_plan_row *row) {
    const struct fpl_point_at at = {
        1e8, 1e10, (double)NAN, (double)NAN, row->format->E, row->format->M, row->format->block};
    const int told = isfinite(fpl_vector_loss(own, &at));
    row->note[0] = '\0';
    say(row, told ? "no size within the limits (--N, --memory, inference tokens) is left for this budget"
                  : "this fit tells nothing of the format");
    (void)m;
}

enum fpl_code fpl_plan_make(const struct fpl_fit *fit, const struct fpl_plan_format *formats, size_t count,
                            const struct fpl_plan_limits *limits, double flop, struct fpl_plan *out,
                            struct fpl_error *err) {
    struct fpl_samples samples;
    struct fpl_fit_vector own;
    const struct making m = {fit, limits, flop, out};
    *out = (struct fpl_plan){.flop = flop, .rows = count, .resamples = fpl_fit_vectors(fit)};
    if (!(flop > 0.0 && flop <= 1e45))
        return fpl_fail(err, FPL_INVALID, "budget: found %g FLOP, accepted is above 0 to 1e45", flop);
    enum fpl_code code = fpl_plan_check(fit, err);
    if (code != FPL_OK) return code;
    out->row = calloc(count + 1, sizeof *out->row);
    if (out->row == NULL || !fpl_samples_make(fit, count * S_WIDTH, &samples)) {
        fpl_plan_free(out);
        return fpl_fail(err, FPL_SYSTEM, "plan: out of memory");
    }
    fpl_fit_vector_at(fit, -1, &own);
    for (size_t i = 0; i < count; i++) {
        out->row[i].format = &formats[i];
        out->row[i].share_best = (double)NAN;
    }
    place_rows(&m, &own);
    qsort(out->row, count, sizeof *out->row, by_loss);
    place_rows(&m, &own);
    resample(&m, &samples);
    if (count > 0 && out->row[0].possible) code = compare(&m, &samples, 0, err);
    for (size_t i = 0; code == FPL_OK && i < count; i++)
        if (out->row[i].possible)
            estimate(&m, &own, &samples, i);
        else
            explain_impossible(&m, &own, &out->row[i]);
    fpl_samples_free(&samples);
    if (code != FPL_OK) fpl_plan_free(out);
    return code;
}

void fpl_plan_free(struct fpl_plan *plan) {
    free(plan->row);
    *plan = (struct fpl_plan){0};
}
