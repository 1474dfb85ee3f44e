/* figures.c - gnuplot scripts of a report's drawings.
 *
 * Data travels inside the script as named blocks.  A figure is left out, never faked, when
 * there are too few points for it; a curve is drawn only where the law answers with a
 * finite number. */
#include "figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_MOST = 48 };

int fpl_run_usable(const struct fpl_run *r) { return r->status == FPL_RUN_OK && isfinite(r->loss); }

double fpl_figure_loss_at(const struct fpl_fit *fit, double N, double D, double lr, double batch, double E,
                          double M, double block) {
    if (fit == NULL) return (double)NAN;
    const struct fpl_point_at at = {
        .N = N, .D = D, .lr = lr, .batch_tokens = batch, .E = E, .M = M, .block = block};
    return fpl_fit_loss(fit, &at);
}

double fpl_run_fitted(const struct fpl_fit *fit, const struct fpl_run *r) {
    return fpl_figure_loss_at(fit, r->N, r->D, r->lr, r->batch_tokens, r->E, r->M, r->block);
}

double fpl_run_fitted_high_precision(const struct fpl_fit *fit, const struct fpl_run *r) {
    return fpl_figure_loss_at(fit, r->N, r->D, r->lr, r->batch_tokens, (double)NAN, (double)NAN, (double)NAN);
}

/* ---- sorted distinct values of a column -------------------------------------------------- */

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double column_N(const struct fpl_run *r) { return r->N; }
static double column_D(const struct fpl_run *r) { return r->D; }

int fpl_run_is_reference(const struct fpl_run *r) { return strcmp(r->recipe, "fp32") == 0; }

/* Distinct values of usable fp32 runs; malloced, NULL without memory. Values within 2 % count
 * as one (D is rounded to whole steps). */
static double *distinct(const struct fpl_runs *runs, double (*column)(const struct fpl_run *),
                        size_t *count) {
    double *v = malloc((runs->count + 1) * sizeof *v);
    *count = 0;
    if (v == NULL) return NULL;
    size_t n = 0;
    for (size_t i = 0; i < runs->count; i++)
        if (fpl_run_usable(&runs->run[i]) && fpl_run_is_reference(&runs->run[i]))
            v[n++] = column(&runs->run[i]);
    qsort(v, n, sizeof *v, compare_doubles);
    for (size_t i = 0; i < n; i++)
        if (*count == 0 || v[i] > 1.02 * v[*count - 1]) v[(*count)++] = v[i];
    return v;
}

int fpl_figure_near(double a, double b) { return a >= 0.98 * b && a <= 1.02 * b; }

void fpl_figure_si(char buf[24], double v) {
    /* 999,936 tokens are 1M, not 1e+03k */
    if (v >= 0.9995e9)
        snprintf(buf, 24, "%.3gG", v / 1e9);
    else if (v >= 0.9995e6)
        snprintf(buf, 24, "%.3gM", v / 1e6);
    else if (v >= 0.9995e3)
        snprintf(buf, 24, "%.3gk", v / 1e3);
    else
        snprintf(buf, 24, "%.3g", v);
}

enum fpl_code fpl_figure_finish(struct fpl_text *t, const char *name, const char *alt, const char *caption,
                                int width, int height, struct fpl_text *script, const char *figures,
                                struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    fpl_text_add(t, "<figure>\n");
    if (script->failed)
        code = fpl_fail(err, FPL_SYSTEM, "report: out of memory");
    else
        code = fpl_plot(t, name, alt, width, height, script->text, figures, err);
    fpl_text_add(t, "<figcaption>%s</figcaption>\n</figure>\n", caption);
    fpl_text_free(script);
    return code;
}

/* ---- loss against N and D ---------------------------------------------------------------- */

/* No fp32 run of the same N and D has a lower loss. */
static int is_best(const struct fpl_runs *runs, const struct fpl_run *r) {
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *o = &runs->run[i];
        if (fpl_run_usable(o) && fpl_run_is_reference(o) && fpl_figure_near(o->N, r->N) &&
            fpl_figure_near(o->D, r->D) && o->loss < r->loss)
            return 0;
    }
    return 1;
}

/* The fp32 runs of one N (or D) and the curve at its own best learning rate and batch. */
static void loss_group(struct fpl_text *s, const struct fpl_figure_input *in, int along_D, double value,
                       size_t g) {
    fpl_text_add(s, "$p%zu << EOD\n", g);
    double lo = (double)INFINITY, hi = 0.0;
    for (size_t i = 0; i < in->runs->count; i++) {
        const struct fpl_run *r = &in->runs->run[i];
        const double own = along_D ? r->N : r->D, x = along_D ? r->D : r->N;
        if (!fpl_run_usable(r) || !fpl_run_is_reference(r) || !fpl_figure_near(own, value)) continue;
        /* the best run of an (N, D) is drawn large: it is what the curve describes */
        fpl_text_add(s, "%.17g %.17g %g\n", x, r->loss, is_best(in->runs, r) ? 1.0 : 0.35);
        if (x < lo) lo = x;
        if (x > hi) hi = x;
    }
    fpl_text_add(s, "EOD\n$c%zu << EOD\n", g);
    for (int i = 0; i <= 40 && hi > 0.0; i++) {
        const double x = lo / 1.3 * pow(hi / lo * 1.69, i / 40.0);
        const double y = along_D ? fpl_figure_loss_at(in->curve, value, x, (double)NAN, (double)NAN,
                                                      (double)NAN, (double)NAN, (double)NAN)
                                 : fpl_figure_loss_at(in->curve, x, value, (double)NAN, (double)NAN,
                                                      (double)NAN, (double)NAN, (double)NAN);
        if (isfinite(y)) fpl_text_add(s, "%.17g %.17g\n", x, y);
    }
    fpl_text_add(s, "EOD\n");
}

static enum fpl_code loss_along(struct fpl_text *t, const struct fpl_figure_input *in, int along_D,
                                struct fpl_error *err) {
    size_t count = 0;
    double *value = distinct(in->runs, along_D ? column_N : column_D, &count);
    if (value == NULL) return fpl_fail(err, FPL_SYSTEM, "report: out of memory");
    struct fpl_text s = {0};
    if (count > 8) count = 8;
    fpl_text_add(&s,
                 "set logscale x\nset xlabel '%s'\nset ylabel 'held-out loss, nats per token'\n"
                 "set format x '%%.0s%%c'\n",
                 along_D ? "trained tokens D" : "non-vocabulary parameters N");
    for (size_t g = 0; g < count; g++) loss_group(&s, in, along_D, value[g], g);
    fpl_text_add(&s, "plot ");
    for (size_t g = 0; g < count; g++) {
        char label[24];
        fpl_figure_si(label, value[g]);
        if (in->curve != NULL) fpl_text_add(&s, "$c%zu using 1:2 with lines lt %zu notitle, ", g, g + 1);
        fpl_text_add(&s, "$p%zu using 1:2:3 with points lt %zu ps variable title '%s = %s'%s", g, g + 1,
                     along_D ? "N" : "D", label, g + 1 < count || isfinite(in->floor) ? ", " : "");
    }
    if (isfinite(in->floor))
        fpl_text_add(&s, "%.17g with lines dt 2 lc rgb '#4b5560' title 'entropy of the data'", in->floor);
    fpl_text_add(&s, "\n");
    free(value);
    if (count == 0) {
        fpl_text_free(&s);
        return FPL_OK;
    }
    return fpl_figure_finish(
        t, along_D ? "loss-D" : "loss-N", along_D ? "Loss against tokens" : "Loss against parameters",
        "Every fp32 run, the best of each size and amount of data large; the curve is the fit at "
        "its own best "
        "learning rate and batch.",
        560, 400, &s, in->figures, err);
}

enum fpl_code fpl_figure_loss(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err) {
    const enum fpl_code code = loss_along(t, in, 0, err);
    return code != FPL_OK ? code : loss_along(t, in, 1, err);
}

/* ---- ranking ------------------------------------------------------------------------------- */

/* A recipe as a tick: long ones are cut, and what would end gnuplot's text is left out. */
static void label_of(const char *recipe, char out[LABEL_MOST + 4]) {
    size_t n = 0;
    for (; *recipe != '\0' && n < LABEL_MOST; recipe++)
        if (*recipe != '"' && *recipe != '\\' && *recipe != '\'') out[n++] = *recipe;
    memcpy(out + n, *recipe != '\0' ? "..." : "", *recipe != '\0' ? 4 : 1);
}

enum fpl_code fpl_figure_ranking(struct fpl_text *t, const struct fpl_figure_input *in,
                                 struct fpl_error *err) {
    struct fpl_text s = {0};
    char base[LABEL_MOST + 4];
    size_t n = 0;
    const char *reference = "";
    fpl_text_add(&s, "$r << EOD\n");
    for (size_t i = 0; i < in->ranking->count; i++) {
        const struct fpl_rank_row *row = &in->ranking->row[i];
        if (row->is_reference) reference = row->recipe;
        if (!isfinite(row->gap) || row->is_reference) continue;
        char label[LABEL_MOST + 4];
        label_of(row->recipe, label);
        fpl_text_add(&s, "%zu %.17g %.17g %.17g \"%s\"\n", n++, row->gap,
                     isfinite(row->lo) ? row->lo : row->gap, isfinite(row->hi) ? row->hi : row->gap, label);
    }
    label_of(reference, base);
    fpl_text_add(
        &s,
        "EOD\nset ytics noenhanced\nset xlabel noenhanced\nset yrange [%g:-0.7] \nset xlabel 'loss minus "
        "that of %s in the same cell, nats per token'\n"
        "unset key\nset xzeroaxis\nset arrow from 0, graph 0 to 0, graph 1 nohead lc rgb '#4b5560' dt 2\n"
        "plot $r using 2:1:3:4:ytic(5) with xerrorbars lt 1 ps 1\n",
        (double)n - 0.3, base);
    if (n == 0) {
        fpl_text_free(&s);
        return FPL_OK;
    }
    const int height = 120 + 26 * (int)(n < 40 ? n : 40);
    return fpl_figure_finish(
        t, "ranking", "Paired loss gaps of the recipes",
        "Mean gap over cells that agree in size, data, learning rate, batch and seed, with its 95 "
        "% interval.",
        760, height, &s, in->figures, err);
}

/* ---- the gap by exponent, mantissa, block ---------------------------------------------------- */

struct gap_group {
    double E, M, block, observed, square, fitted;
    size_t n;
};

/* Mean observed and fitted gap per (E, M, block); observed = loss - fit without quantization. */
static size_t gap_groups(const struct fpl_figure_input *in, struct gap_group *group, size_t room) {
    size_t count = 0;
    for (size_t i = 0; i < in->runs->count; i++) {
        const struct fpl_run *r = &in->runs->run[i];
        if (!fpl_run_usable(r) || !isfinite(r->E) || !isfinite(r->block) || !in->described[i]) continue;
        const double base = fpl_run_fitted_high_precision(in->curve, r), whole = fpl_run_fitted(in->curve, r);
        if (!isfinite(base) || !isfinite(whole)) continue;
        size_t g = 0;
        while (g < count && (group[g].E != r->E || group[g].M != r->M || group[g].block != r->block)) g++;
        if (g == count) {
            if (count == room) continue;
            memset(&group[count++], 0, sizeof *group);
            group[g].E = r->E;
            group[g].M = r->M;
            group[g].block = r->block;
        }
        const double gap = r->loss - base;
        group[g].observed += gap;
        group[g].square += gap * gap;
        group[g].fitted += whole - base;
        group[g].n++;
    }
    return count;
}

static double group_value(const struct gap_group *g, int axis) {
    return axis == 0 ? g->E : axis == 1 ? g->M : g->block;
}

/* One panel: gap along an axis (0 E, 1 M, 2 block), a line per value of the other two. */
static void gap_panel(struct fpl_text *s, const struct gap_group *group, size_t count, int axis) {
    static const char *const titles[] = {"exponent bits E", "mantissa bits M", "block size B"};
    static int serial;
    struct fpl_text plot = {0};
    size_t lines = 0;
    int *done = calloc(count + 1, sizeof *done);
    if (done == NULL) {
        s->failed = 1;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (done[i]) continue;
        size_t points = 0;
        struct fpl_text data = {0};
        for (double v = 0; v <= 4096; v++) /* along the axis in order */
            for (size_t j = i; j < count; j++) {
                const int same = (axis == 0 || group[j].E == group[i].E) &&
                                 (axis == 1 || group[j].M == group[i].M) &&
                                 (axis == 2 || group[j].block == group[i].block);
                if (!same || group_value(&group[j], axis) != v) continue;
                const double n = (double)group[j].n, mean = group[j].observed / n;
                const double se =
                    group[j].n > 1 ? sqrt(fabs(group[j].square / n - mean * mean) / (n - 1.0)) : 0.0;
                fpl_text_add(&data, "%g %.17g %.17g %.17g\n", v, mean, se, group[j].fitted / n);
                done[j] = 1;
                points++;
            }
        if (points >= 2 && lines < 8) {
            char label[64];
            if (axis == 0)
                snprintf(label, sizeof label, "M%g, B=%g", group[i].M, group[i].block);
            else if (axis == 1)
                snprintf(label, sizeof label, "E%g, B=%g", group[i].E, group[i].block);
            else
                snprintf(label, sizeof label, "E%gM%g", group[i].E, group[i].M);
            fpl_text_add(s, "$g%d_%zu << EOD\n%sEOD\n", serial, lines, data.text);
            fpl_text_add(&plot,
                         "%s$g%d_%zu using 1:4 with lines lt %zu notitle, $g%d_%zu using 1:2:3 with "
                         "yerrorbars lt %zu title '%s'",
                         lines > 0 ? ", " : "plot ", serial, lines, lines + 1, serial, lines, lines + 1,
                         label);
            lines++;
        }
        fpl_text_free(&data);
    }
    fpl_text_add(s, "set xlabel '%s'\n%s\n", titles[axis],
                 axis == 2 ? "set logscale x 2\nset xrange [*:*]\nset xtics auto\n"
                           : "unset logscale x\nset xtics 1\nset xrange [-0.5:*]\n");
    if (lines > 0)
        fpl_text_add(s, "%s\n", plot.text);
    else
        fpl_text_add(s, "set multiplot next\n");
    serial++;
    free(done);
    fpl_text_free(&plot);
}

enum fpl_code fpl_figure_gaps(struct fpl_text *t, const struct fpl_figure_input *in, struct fpl_error *err) {
    struct gap_group group[256];
    const size_t count = in->curve != NULL ? gap_groups(in, group, 256) : 0;
    if (count < 2) return FPL_OK;
    struct fpl_text s = {0};
    fpl_text_add(&s, "set multiplot layout 1,3\nset ylabel 'gap, nats per token'\nset xzeroaxis\n");
    for (int axis = 0; axis < 3; axis++) gap_panel(&s, group, count, axis);
    fpl_text_add(&s, "unset multiplot\n");
    return fpl_figure_finish(
        t, "gaps", "Gap by exponent bits, mantissa bits and block",
        "Points: mean over runs of the loss minus the fit's loss without quantization at the same "
        "N, D, learning "
        "rate and batch, with one standard error; lines: the fit's penalty at the same runs.",
        1000, 360, &s, in->figures, err);
}

/* ---- residuals ------------------------------------------------------------------------------ */

enum fpl_code fpl_figure_residuals(struct fpl_text *t, const struct fpl_figure_input *in,
                                   struct fpl_error *err) {
    if (in->curve == NULL) return FPL_OK;
    struct fpl_text s = {0};
    size_t n = 0;
    for (int quantized = 0; quantized < 2; quantized++) {
        fpl_text_add(&s, "$e%d << EOD\n", quantized);
        for (size_t i = 0; i < in->runs->count; i++) {
            const struct fpl_run *r = &in->runs->run[i];
            const double fitted =
                fpl_run_usable(r) && in->described[i] ? fpl_run_fitted(in->curve, r) : (double)NAN;
            if (!isfinite(fitted) || isfinite(r->E) != quantized) continue;
            fpl_text_add(&s, "%.17g %.17g\n", fitted, 100.0 * log(r->loss / fitted));
            n++;
        }
        fpl_text_add(&s, "-1 NaN\nEOD\n");
    }
    fpl_text_add(&s,
                 "set xlabel 'fitted loss, nats per token'\nset ylabel 'residual, %%'\nset xrange [0:*]\nset "
                 "xzeroaxis lt 7\n"
                 "set autoscale x\nplot $e0 using ($1>0?$1:NaN):2 with points lt 1 title 'high precision', "
                 "$e1 using ($1>0?$1:NaN):2 with points lt 2 title 'quantized'\n");
    if (n < 3) {
        fpl_text_free(&s);
        return FPL_OK;
    }
    return fpl_figure_finish(t, "residuals", "Residuals of the fit",
                             "Log residuals of every run that the fit can describe.", 640, 380, &s,
                             in->figures, err);
}
