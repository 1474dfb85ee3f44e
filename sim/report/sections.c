/* sections.c - the report's text and tables.
 *
 * Every sentence with a number takes it from the runs or from FIT.json; where a fit says
 * that it did not converge or that its data cannot tell, the report repeats that sentence
 * before showing any constant. */
#include "sections.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../formats/format.h"

static void cell_text(struct fpl_text *t, const char *text, int left) {
    fpl_text_add(t, left ? "<td class=\"l\">" : "<td>");
    fpl_html_escaped(t, text);
    fpl_text_add(t, "</td>");
}

static void cell_number(struct fpl_text *t, const char *fmt, double v) FPL_PRINTF(2, 0);
static void cell_number(struct fpl_text *t, const char *fmt, double v) {
    char buf[64];
    if (isnan(v)) {
        fpl_text_add(t, "<td></td>");
        return;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(buf, sizeof buf, fmt, v);
#pragma GCC diagnostic pop
    fpl_text_add(t, "<td>%s</td>", buf);
}

static int usable(const struct fpl_run *r) { return r->status == FPL_RUN_OK && isfinite(r->loss); }

/* The `name:` of a study file, else the directory. */
void fpl_report_title(const struct fpl_report_inputs *in, char *buf, size_t size) {
    const char *line = in->study_text;
    while (line != NULL && strncmp(line, "name:", 5) != 0) {
        line = strchr(line, '\n');
        if (line != NULL) line++;
    }
    if (line != NULL) {
        line += 5 + strspn(line + 5, " \t\"'");
        snprintf(buf, size, "fplaw: %.*s", (int)strcspn(line, "\"'\r\n#"), line);
    } else {
        snprintf(buf, size, "fplaw: %s", in->name[0] != '\0' ? in->name : "fits");
    }
}

/* ---- what was asked -------------------------------------------------------------------------- */

void fpl_section_asked(struct fpl_text *t, const struct fpl_report_inputs *in) {
    fpl_text_add(t, "<h2>What was asked</h2>\n");
    if (in->runs.count > 0) {
        size_t by_status[FPL_RUN_STATUSES] = {0};
        double seconds = 0.0, nlo = (double)INFINITY, nhi = 0.0, dlo = (double)INFINITY, dhi = 0.0;
        for (size_t i = 0; i < in->runs.count; i++) {
            const struct fpl_run *r = &in->runs.run[i];
            by_status[r->status]++;
            if (isfinite(r->seconds)) seconds += r->seconds;
            nlo = fmin(nlo, r->N), nhi = fmax(nhi, r->N), dlo = fmin(dlo, r->D), dhi = fmax(dhi, r->D);
        }
        fpl_text_add(t, "<p>%zu runs: ", in->runs.count);
        for (int s = 0, first = 1; s < FPL_RUN_STATUSES; s++)
            if (by_status[s] > 0) {
                fpl_text_add(t, "%s%zu %s", first ? "" : ", ", by_status[s], fpl_status_names[s]);
                first = 0;
            }
        fpl_text_add(t,
                     "; N from %.3g to %.3g parameters, D from %.3g to %.3g tokens; %.0f core-seconds of "
                     "training.</p>\n",
                     nlo, nhi, dlo, dhi, seconds);
    }
    if (in->study_text != NULL) {
        fpl_text_add(t, "<details><summary>The study file</summary><pre>");
        fpl_html_escaped(t, in->study_text);
        fpl_text_add(t, "</pre></details>\n");
    }
}

/* ---- ranking ----------------------------------------------------------------------------------- */

static double largest_of(const char *format) {
    struct fpl_format f;
    struct fpl_error ignored;
    struct fpl_format_limits limits;
    if (format[0] == '\0' || fpl_format_parse(format, &f, &ignored) != FPL_OK) return (double)NAN;
    fpl_format_limits(&f, &limits);
    return limits.largest;
}

void fpl_section_ranking(struct fpl_text *t, const struct fpl_ranking *r) {
    fpl_text_add(
        t, "<h2>Formats, ranked</h2>\n<p class=\"note\">Gap: mean over cells (runs that agree in N, D, "
           "learning rate, "
           "batch and seed) of the loss minus the reference's, nats per token, with Student's 95 %% "
           "interval. Formats "
           "whose intervals overlap are not told apart by this study.</p>\n<div class=\"scroll\"><table>"
           "<thead><tr><th>recipe</th><th>largest value</th><th>gap</th><th>95 %% "
           "from</th><th>to</th><th>cells</th>"
           "<th>runs</th><th>diverged or collapsed</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < r->count; i++) {
        const struct fpl_rank_row *row = &r->row[i];
        fpl_text_add(t, "<tr>");
        cell_text(t, row->recipe, 1);
        cell_number(t, "%g", largest_of(row->format));
        if (row->is_reference)
            fpl_text_add(t, "<td>reference</td><td></td><td></td>");
        else if (row->cells == 0)
            fpl_text_add(t, "<td>not paired</td><td></td><td></td>");
        else {
            cell_number(t, "%+.4f", row->gap);
            cell_number(t, "%+.4f", row->lo);
            cell_number(t, "%+.4f", row->hi);
        }
        fpl_text_add(t, "<td>%zu</td><td>%zu</td><td>%zu</td></tr>\n", row->cells, row->runs, row->failed);
    }
    fpl_text_add(t, "</tbody></table></div>\n");
}

/* ---- critical data size -------------------------------------------------------------------------- */

/* The formats in the order of the table of runs, one row each, at the study's largest N. */
void fpl_section_critical(struct fpl_text *t, const struct fpl_report_inputs *in, const struct fpl_fit *fit) {
    if (fit == NULL) return;
    double N = 0.0;
    for (size_t i = 0; i < in->runs.count; i++) N = fmax(N, in->runs.run[i].N);
    struct {
        double E, M, block;
    } seen[64];
    size_t count = 0, rows = 0;
    struct fpl_text body = {0};
    for (size_t i = 0; i < in->runs.count && count < 64; i++) {
        const struct fpl_run *r = &in->runs.run[i];
        if (!usable(r) || !isfinite(r->E) || !isfinite(r->block)) continue;
        size_t s = 0;
        while (s < count && (seen[s].E != r->E || seen[s].M != r->M || seen[s].block != r->block)) s++;
        if (s < count) continue;
        seen[count].E = r->E, seen[count].M = r->M, seen[count++].block = r->block;
        const struct fpl_point_at at = {N, (double)NAN, (double)NAN, (double)NAN, r->E, r->M, r->block};
        struct fpl_answer a;
        struct fpl_error ignored = {FPL_OK, ""};
        if (fpl_fit_predict(fit, &at, &a, &ignored) != FPL_OK || !(a.D_crit.value > 0.0)) continue;
        fpl_text_add(&body, "<tr><td>E%gM%g, blocks of %g</td><td>%.3g</td><td>%.3g</td><td>%.3g</td></tr>\n",
                     r->E, r->M, r->block, a.D_crit.value, a.D_crit.lo, a.D_crit.hi);
        rows++;
    }
    if (rows > 0 && !body.failed)
        fpl_text_add(
            t,
            "<h3>Critical data size</h3>\n<p class=\"note\">Tokens beyond which more data raises the loss at "
            "N = %.3g, by the fit. Values beyond the largest D of the study are extrapolations.</p>\n"
            "<div class=\"scroll\"><table><thead><tr><th>format</th><th>D_crit</th><th>95 %% "
            "from</th><th>to</th></tr>"
            "</thead><tbody>\n%s</tbody></table></div>\n",
            N, body.text);
    fpl_text_free(&body);
}

/* ---- constants -------------------------------------------------------------------------------------- */

static double number_of(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

/* The published value of a law's parameter, NaN where there is none.  The joint law shares its
 * penalty with capybara and its optima with steplaw. */
static double published(const char *law, const char *parameter, const char **source) {
    const char *candidates[] = {law, "capybara", "steplaw"};
    const size_t count = strcmp(law, "joint") == 0 ? 3 : 1;
    for (size_t i = 0; i < count; i++) {
        const struct fpl_law *row = fpl_law_find(candidates[i]);
        const char *name;
        const double *values;
        if (row == NULL || !fpl_law_preset_at(row, 0, &name, source, &values)) continue;
        char text[96];
        snprintf(text, sizeof text, "%s:%s", candidates[i], name);
        struct fpl_fit *preset = NULL;
        struct fpl_error ignored;
        struct fpl_estimate value;
        const int found =
            fpl_law_preset(text, &preset, &ignored) == FPL_OK && fpl_fit_value(preset, parameter, &value);
        fpl_fit_free(preset);
        if (found) return value.value;
    }
    *source = NULL;
    return (double)NAN;
}

static void one_law(struct fpl_text *t, const json_t *law, const char *path) {
    const char *name = json_string_value(json_object_get(law, "law"));
    const char *status = json_string_value(json_object_get(law, "status"));
    const char *message = json_string_value(json_object_get(law, "message"));
    if (name == NULL) return;
    fpl_text_add(t, "<h3>");
    fpl_html_escaped(t, name);
    fpl_text_add(t, "</h3>\n<p class=\"note\">");
    fpl_html_escaped(t, path);
    fpl_text_add(t, ": %s%s",
                 status != NULL && strcmp(status, "converged") != 0 ? "<span class=\"bad\">" : "", "");
    fpl_html_escaped(t, status != NULL ? status : "no status");
    if (status != NULL && strcmp(status, "converged") != 0) fpl_text_add(t, "</span>");
    if (message != NULL && *message != '\0') {
        fpl_text_add(t, ". ");
        fpl_html_escaped(t, message);
    }
    const json_t *runs = json_object_get(law, "runs");
    fpl_text_add(t, ". %.0f runs used, %zu left out; rms of log residuals %.3g %%.</p>\n",
                 number_of(runs, "used"), json_array_size(json_object_get(runs, "left_out")),
                 100.0 * number_of(law, "rms_log_residual"));
    fpl_text_add(t, "<div class=\"scroll\"><table><thead><tr><th>parameter</th><th>value</th><th>95 %% "
                    "from</th><th>to</th>"
                    "<th>published</th><th class=\"l\">source</th></tr></thead><tbody>\n");
    const char *key;
    json_t *param;
    json_object_foreach(json_object_get(law, "params"), key, param) {
        const char *source = NULL;
        const double known = published(name, key, &source);
        fpl_text_add(t, "<tr>");
        cell_text(t, key, 1);
        cell_number(t, "%.5g", number_of(param, "value"));
        cell_number(t, "%.5g", number_of(param, "lo"));
        cell_number(t, "%.5g", number_of(param, "hi"));
        cell_number(t, "%.5g", known);
        cell_text(t, source != NULL ? source : "", 1);
        fpl_text_add(t, "</tr>\n");
    }
    fpl_text_add(t, "</tbody></table></div>\n");
}

void fpl_section_constants(struct fpl_text *t, const struct fpl_report_inputs *in) {
    if (in->fit_files == 0) return;
    fpl_text_add(t, "<h2>Fitted constants</h2>\n<p class=\"note\">Published constants belong to models a "
                    "thousand times larger, "
                    "other data and other schedules: they stand beside the fitted ones for orientation, not "
                    "as a test.</p>\n");
    for (size_t i = 0; i < in->fit_files; i++) {
        size_t index;
        json_t *law;
        json_array_foreach(json_object_get(in->fit_file[i].json, "laws"), index, law)
            one_law(t, law, in->fit_file[i].path);
    }
}

/* ---- the floor --------------------------------------------------------------------------------------- */

void fpl_section_floor(struct fpl_text *t, const struct fpl_report_inputs *in, double entropy) {
    if (!isfinite(entropy) || in->fit_files == 0) return;
    fpl_text_add(t,
                 "<h2>The floor</h2>\n<p>The data's true entropy rate is %.4f nats per token; an unbiased "
                 "law should find it as "
                 "its loss at infinite size and data.</p>\n<div "
                 "class=\"scroll\"><table><thead><tr><th>law</th><th>fitted floor"
                 "</th><th>95 %% from</th><th>to</th><th>fitted minus true</th></tr></thead><tbody>\n",
                 entropy);
    for (size_t i = 0; i < in->fit_files; i++) {
        size_t index;
        json_t *law;
        json_array_foreach(json_object_get(in->fit_file[i].json, "laws"), index, law) {
            const json_t *params = json_object_get(law, "params");
            const json_t *floor = json_object_get(params, "E") != NULL ? json_object_get(params, "E")
                                                                       : json_object_get(params, "eps");
            const char *name = json_string_value(json_object_get(law, "law"));
            if (floor == NULL || name == NULL) continue;
            fpl_text_add(t, "<tr>");
            cell_text(t, name, 1);
            cell_number(t, "%.4f", number_of(floor, "value"));
            cell_number(t, "%.4f", number_of(floor, "lo"));
            cell_number(t, "%.4f", number_of(floor, "hi"));
            cell_number(t, "%+.4f", number_of(floor, "value") - entropy);
            fpl_text_add(t, "</tr>\n");
        }
    }
    fpl_text_add(t, "</tbody></table></div>\n");
}

/* ---- every run ---------------------------------------------------------------------------------------- */

void fpl_section_runs(struct fpl_text *t, const struct fpl_runs *runs) {
    fpl_text_add(
        t, "<h2>Every run</h2>\n<p class=\"note\">A click on a column's head sorts by it.</p>\n<div "
           "class=\"runs scroll\">"
           "<table "
           "class=\"sort\"><thead><tr><th>run</th><th>seed</th><th>status</th><th>N</th><th>D</th><th>lr</th>"
           "<th>batch</th><th>recipe</th><th>E</th><th>M</th><th>block</th><th>steps</th><th>loss</"
           "th><th>s.e.</th>"
           "<th>seconds</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < runs->count; i++) {
        const struct fpl_run *r = &runs->run[i];
        fpl_text_add(t, "<tr>");
        cell_text(t, r->run, 1);
        fpl_text_add(t, "<td>%llu</td><td%s>%s</td>", (unsigned long long)r->seed,
                     r->status == FPL_RUN_OK ? "" : " class=\"bad\"", fpl_status_names[r->status]);
        cell_number(t, "%.0f", r->N);
        cell_number(t, "%.0f", r->D);
        cell_number(t, "%.4g", r->lr);
        cell_number(t, "%.0f", r->batch_tokens);
        cell_text(t, r->recipe, 1);
        cell_number(t, "%g", r->E);
        cell_number(t, "%g", r->M);
        cell_number(t, "%g", r->block);
        cell_number(t, "%.0f", r->steps);
        cell_number(t, "%.4f", r->loss);
        cell_number(t, "%.4f", r->loss_se);
        cell_number(t, "%.1f", r->seconds);
        fpl_text_add(t, "</tr>\n");
    }
    fpl_text_add(t, "</tbody></table></div>\n");
}

/* ---- one law ------------------------------------------------------------------------------------ */

void fpl_section_law(struct fpl_text *t, const struct fpl_fit *fit, const char *path) {
    struct fpl_fit_summary s;
    fpl_fit_summarize(fit, &s);
    fpl_text_add(t, "<h3>");
    fpl_html_escaped(t, fpl_law_name(fpl_fit_law(fit)));
    fpl_text_add(t, "</h3>\n<p>");
    fpl_html_escaped(t, fpl_law_formula(fpl_fit_law(fit)));
    fpl_text_add(t, " (");
    fpl_html_escaped(t, fpl_law_citation(fpl_fit_law(fit)));
    fpl_text_add(t, "), %s, %zu runs, rms of log residuals %.3g", fpl_fit_status_names[fpl_fit_state(fit)],
                 s.used, s.rms_log_residual);
    if (s.held_out_runs > 0) fpl_text_add(t, ", held out %.3g", s.held_out_rms);
    fpl_text_add(t, "; from ");
    fpl_html_escaped(t, path);
    fpl_text_add(t, "</p>\n");
}
