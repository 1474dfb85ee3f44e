/* figures_law.c - any fitted law drawn the same way, from what its rows vary.
 *
 *   measured against fitted, with the diagonal; residuals against fitted
 *   one panel per variable that varies: the law along it, all others at their medians, and each run's
 *   residual put on that curve (a component-plus-residual plot), so that what the panel shows is the
 *   variable's own effect and the scatter around it, not that of the others.  A learning rate or batch whose
 *   optimum the law tells is drawn relative to that optimum
 *   laws of loss curves: the loss against the step, a curve per run, instead
 *
 * Runs are those that the fit was made of as far as its file tells (fpl_fit_describes, and the condition
 * that chose them).  A law of optima is drawn for its learning rate and its batch in turn.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "figures.h"

enum { PANEL_POINTS = 80, VARIABLES_MOST = 7, CURVES_MOST = 8 };

struct point {
    const struct fpl_run *run;
    struct fpl_question q;
    double measured, fitted;
    int quantized;
};

struct drawing {
    const struct fpl_fit *fit;
    const struct fpl_law *law;
    enum fpl_variable what; /* FPL_VARIABLES: the law's target */
    struct point *point;
    size_t count;
    struct fpl_schedule *schedule; /* of laws of curves, one per run */
    size_t schedules;
};

static int is_format(enum fpl_variable v) { return v == FPL_VAR_E || v == FPL_VAR_M || v == FPL_VAR_BLOCK; }

static int is_bits(enum fpl_variable v) {
    return v == FPL_VAR_E || v == FPL_VAR_M || v == FPL_VAR_PW || v == FPL_VAR_PA || v == FPL_VAR_PKV ||
           v == FPL_VAR_BITS;
}

/* ---- points --------------------------------------------------------------------------------------- */

static int by_step(const void *left, const void *right) {
    const struct fpl_run *a = *(const struct fpl_run *const *)left,
                         *b = *(const struct fpl_run *const *)right;
    return (a->step > b->step) - (a->step < b->step);
}

/* The schedule of the run that row i belongs to; rows before it share theirs. */
static const struct fpl_schedule *schedule_of(struct drawing *d, const struct fpl_runs *runs, size_t i) {
    for (size_t k = 0; k < d->count; k++)
        if (strcmp(d->point[k].run->run, runs->run[i].run) == 0) return d->point[k].q.schedule;
    const struct fpl_run **row = malloc((runs->count + 1) * sizeof *row);
    double *memory = malloc(2 * (runs->count + 1) * sizeof *memory);
    size_t count = 0, kept = 0;
    if (row == NULL || memory == NULL) {
        free(row);
        free(memory);
        return NULL;
    }
    for (size_t k = 0; k < runs->count; k++)
        if (strcmp(runs->run[k].run, runs->run[i].run) == 0 && runs->run[k].step >= 0.0 &&
            runs->run[k].lr >= 0.0)
            row[count++] = &runs->run[k];
    qsort(row, count, sizeof *row, by_step);
    double *lr = memory + count;
    for (size_t k = 0; k < count; k++) {
        if (kept > 0 && !(row[k]->step > memory[kept - 1])) continue;
        memory[kept] = row[k]->step;
        lr[kept++] = row[k]->lr;
    }
    free(row);
    struct fpl_schedule *s = &d->schedule[d->schedules++];
    *s = (struct fpl_schedule){kept, memory, lr};
    return s;
}

static double measured_of(const struct drawing *d, const struct fpl_run *r, double target) {
    return d->what == FPL_VAR_LR ? r->lr : d->what == FPL_VAR_BATCH ? r->batch_tokens : target;
}

static enum fpl_code collect(struct drawing *d, const struct fpl_runs *runs, const unsigned char *chosen,
                             struct fpl_error *err) {
    double *target = fpl_law_targets(d->law, runs);
    d->point = malloc((runs->count + 1) * sizeof *d->point);
    d->schedule = calloc(runs->count + 1, sizeof *d->schedule);
    if (target == NULL || d->point == NULL || d->schedule == NULL) {
        free(target);
        return fpl_fail(err, FPL_SYSTEM, "report: out of memory");
    }
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *r = &runs->run[i];
        if (!chosen[i] || !fpl_fit_describes(d->fit, r)) continue;
        struct point p = {.run = r, .q = fpl_question_of_run(r), .measured = measured_of(d, r, target[i])};
        if (!(p.measured > 0.0) || !isfinite(p.measured)) continue;
        if (fpl_law_takes_schedule(d->law)) p.q.schedule = schedule_of(d, runs, i);
        p.fitted = fpl_fit_tell(d->fit, &p.q, d->what);
        p.quantized = !isnan(r->E);
        if (p.fitted > 0.0 && isfinite(p.fitted)) d->point[d->count++] = p;
    }
    free(target);
    return FPL_OK;
}

static void drawing_free(struct drawing *d) {
    for (size_t k = 0; k < d->schedules; k++) free((void *)(size_t)d->schedule[k].step);
    free(d->schedule);
    free(d->point);
}

/* ---- panels --------------------------------------------------------------------------------------- */

static const char *target_name(const struct drawing *d) {
    if (d->what == FPL_VAR_LR) return "learning rate";
    if (d->what == FPL_VAR_BATCH) return "batch, tokens";
    const char *target = fpl_law_target(d->law);
    return strcmp(target, "delta") == 0 ? "rise of the loss, nats"
           : strcmp(target, "lr") == 0  ? "learning rate"
                                        : "loss, nats";
}

static void begin_panel(struct fpl_text *s, const char *x, const char *y, int log_x, int log_y) {
    fpl_text_add(s,
                 "unset logscale\nset autoscale\nset xtics auto\nset format x '%s'\nset xlabel '%s'\n"
                 "set ylabel '%s'\nunset xzeroaxis\n",
                 log_x ? "%.0s%c" : "%g", x, y);
    if (log_x) fpl_text_add(s, "set logscale x\nset xtics rotate by -35\n");
    if (log_y) fpl_text_add(s, "set logscale y\n");
}

static void overview(struct fpl_text *s, const struct drawing *d) {
    for (int quantized = 0; quantized < 2; quantized++) {
        fpl_text_add(s, "$m%d << EOD\n", quantized);
        for (size_t i = 0; i < d->count; i++)
            if (d->point[i].quantized == quantized)
                fpl_text_add(s, "%.17g %.17g %.17g\n", d->point[i].fitted, d->point[i].measured,
                             100.0 * log(d->point[i].measured / d->point[i].fitted));
        fpl_text_add(s, "NaN NaN NaN\nEOD\n");
    }
    char label[64];
    snprintf(label, sizeof label, "fitted %s", target_name(d));
    begin_panel(s, label, "measured", 0, 0);
    fpl_text_add(s, "set logscale xy\nset key top left\n"
                    "plot x with lines lc rgb '#9aa5b1' notitle, $m0 using 1:2 with points lt 1 title 'high "
                    "precision', $m1 using 1:2 with points lt 2 title 'quantized'\nunset key\n");
    begin_panel(s, label, "residual, %", 0, 0);
    fpl_text_add(s, "set logscale x\nset xzeroaxis lt 7\n"
                    "plot $m0 using 1:3 with points lt 1, $m1 using 1:3 with points lt 2\n");
}

static int ascending(const void *left, const void *right) {
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Median and range of a variable over the points that have it; 0: none has. */
static size_t spread(const struct drawing *d, enum fpl_variable v, double *scratch, double out[3]) {
    size_t count = 0;
    for (size_t i = 0; i < d->count; i++)
        if (!isnan(d->point[i].q.value[v])) scratch[count++] = d->point[i].q.value[v];
    if (count == 0) return 0;
    qsort(scratch, count, sizeof *scratch, ascending);
    out[0] = scratch[0], out[1] = scratch[count / 2], out[2] = scratch[count - 1];
    return count;
}

/* All variables at their medians; the format only where it is wanted, or where no run is without. */
static struct fpl_question middle(const struct drawing *d, double *scratch, int with_format) {
    struct fpl_question q;
    double of[3];
    int plain = 0;
    fpl_question_clear(&q);
    for (size_t i = 0; i < d->count; i++) plain |= !d->point[i].quantized;
    for (int k = 0; k < FPL_VARIABLES; k++) {
        const enum fpl_variable v = (enum fpl_variable)k;
        if (!fpl_law_takes(d->law, v) || (is_format(v) && plain && !with_format)) continue;
        if (spread(d, v, scratch, of) > 0) q.value[v] = of[1];
    }
    if (isnan(fpl_fit_tell(d->fit, &q, FPL_VAR_LR)) == 0) q.value[FPL_VAR_LR] = (double)NAN;
    if (isnan(fpl_fit_tell(d->fit, &q, FPL_VAR_BATCH)) == 0) q.value[FPL_VAR_BATCH] = (double)NAN;
    return q;
}

/* The variable's panel; 0: it does not vary, or the law does not change along it. */
static int variable_panel(struct fpl_text *s, const struct drawing *d, enum fpl_variable v, double *scratch) {
    double of[3];
    const int setting = v == FPL_VAR_LR || v == FPL_VAR_BATCH, bits = is_bits(v);
    if (setting && fpl_law_of_optima(d->law)) return 0; /* what it is fitted to */
    if (!fpl_law_takes(d->law, v) || spread(d, v, scratch, of) < 3) return 0;
    if (bits ? !(of[2] > of[0]) : !(of[2] > 1.02 * of[0])) return 0;
    struct fpl_question q = middle(d, scratch, is_format(v));
    const double best = setting ? fpl_fit_tell(d->fit, &q, v) : (double)NAN;
    const int relative = setting && !isnan(best) && strcmp(fpl_law_target(d->law), "lr") != 0;
    double low = of[0], high = of[2];
    if (relative) low = HUGE_VAL, high = 0.0;
    fpl_text_add(s, "$v%d << EOD\n", (int)v);
    for (size_t i = 0; i < d->count; i++) {
        const struct point *p = &d->point[i];
        double x = p->q.value[v];
        if (isnan(x)) continue;
        if (relative) {
            struct fpl_question own = p->q;
            own.value[v] = (double)NAN;
            x /= fpl_fit_tell(d->fit, &own, v);
            low = fmin(low, x), high = fmax(high, x);
        }
        q.value[v] = relative ? best * x : x;
        const double along = fpl_fit_tell(d->fit, &q, d->what) * p->measured / p->fitted;
        if (isfinite(along)) fpl_text_add(s, "%.17g %.17g %d\n", x, along, p->quantized ? 2 : 1);
    }
    fpl_text_add(s, "EOD\n$w%d << EOD\n", (int)v);
    for (int k = 0; k <= PANEL_POINTS; k++) {
        const double share = (double)k / PANEL_POINTS;
        const double x = bits ? low + (high - low) * share : low * pow(high / low, share);
        q.value[v] = relative ? best * x : x;
        const double y = fpl_fit_tell(d->fit, &q, d->what);
        if (isfinite(y)) fpl_text_add(s, "%.17g %.17g\n", x, y);
    }
    char label[80];
    snprintf(label, sizeof label, "%s%s", fpl_variables[v].name, relative ? " / its optimum" : "");
    fpl_text_add(s, "EOD\n");
    begin_panel(s, label, target_name(d), !bits, 0);
    fpl_text_add(
        s,
        "plot $v%d using 1:2:3 with points lc variable pt 7 ps 0.5, $w%d using 1:2 with lines lc rgb "
        "'#4b5560'\n",
        (int)v, (int)v);
    return 1;
}

/* Loss against step of the first few runs, and the law's. */
static void curve_panel(struct fpl_text *s, const struct drawing *d) {
    size_t shown = 0;
    struct fpl_text plot = {0};
    begin_panel(s, "step", target_name(d), 0, 0);
    for (size_t k = 0; k < d->schedules && shown < CURVES_MOST; k++) {
        fpl_text_add(s, "$s%zu << EOD\n", k);
        for (size_t i = 0; i < d->count; i++)
            if (d->point[i].q.schedule == &d->schedule[k])
                fpl_text_add(s, "%.17g %.17g %.17g\n", d->point[i].run->step, d->point[i].measured,
                             d->point[i].fitted);
        fpl_text_add(s, "NaN NaN NaN\nEOD\n");
        fpl_text_add(&plot, "%s$s%zu using 1:2 with points lt %zu ps 0.3, $s%zu using 1:3 with lines lt %zu",
                     shown > 0 ? ", " : "plot ", k, shown + 1, k, shown + 1);
        shown++;
    }
    if (shown > 0) fpl_text_add(s, "%s\n", plot.text);
    fpl_text_free(&plot);
}

/* ---- a law ------------------------------------------------------------------------------------------ */

static size_t variables_of(const struct drawing *d, double *scratch) {
    struct fpl_text none = {0};
    size_t count = 0;
    for (int v = 0; v < FPL_VARIABLES && count < VARIABLES_MOST; v++)
        count += (size_t)variable_panel(&none, d, (enum fpl_variable)v, scratch);
    fpl_text_free(&none);
    return count;
}

static enum fpl_code draw(struct fpl_text *t, const struct drawing *d, const char *name, const char *figures,
                          struct fpl_error *err) {
    double *scratch = malloc((d->count + 1) * sizeof *scratch);
    if (scratch == NULL) return fpl_fail(err, FPL_SYSTEM, "report: out of memory");
    const int curves = fpl_law_takes_schedule(d->law);
    const size_t panels = 2 + (curves ? 1 : variables_of(d, scratch));
    const int rows = (int)(panels + 2) / 3;
    struct fpl_text s = {0};
    char alt[96];
    fpl_text_add(&s, "set multiplot layout %d,3\nset xtics font ',11'\n", rows);
    overview(&s, d);
    if (curves) curve_panel(&s, d);
    for (int v = 0, shown = 0; v < FPL_VARIABLES && shown < VARIABLES_MOST && !curves; v++)
        shown += variable_panel(&s, d, (enum fpl_variable)v, scratch);
    fpl_text_add(&s, "unset multiplot\n");
    free(scratch);
    snprintf(alt, sizeof alt, "Law %s: measured against fitted, residuals, each variable",
             fpl_law_name(d->law));
    return fpl_figure_finish(
        t, name, alt,
        curves ? "Measured against fitted; residuals; loss against step, points measured "
                 "and lines fitted, a colour per run."
               : "Measured against fitted; residuals; then the law along each variable, the "
                 "others at their medians, with every run's residual put on it.",
        1000, 40 + 320 * rows, &s, figures, err);
}

enum fpl_code fpl_figure_law(struct fpl_text *t, const struct fpl_figure_input *in, const struct fpl_fit *fit,
                             const char *name, const unsigned char *chosen, struct fpl_error *err) {
    const int optima = fpl_law_of_optima(fpl_fit_law(fit));
    enum fpl_code code = FPL_OK;
    for (int k = 0; k < (optima ? 2 : 1) && code == FPL_OK; k++) {
        struct drawing d = {.fit = fit, .law = fpl_fit_law(fit), .what = FPL_VARIABLES};
        char own[96];
        if (optima) d.what = k == 0 ? FPL_VAR_LR : FPL_VAR_BATCH;
        snprintf(own, sizeof own, "%s%s", name, !optima ? "" : k == 0 ? "-lr" : "-batch");
        code = collect(&d, in->runs, chosen, err);
        if (code == FPL_OK && d.count >= 3) code = draw(t, &d, own, in->figures, err);
        if (code == FPL_OK && d.count < 3)
            fpl_text_add(
                t, "<p class=\"note\">The runs shown here are not those of the fit; nothing is drawn.</p>\n");
        drawing_free(&d);
    }
    return code;
}
