/* report.c - reads the inputs and puts the sections in order; see report.h. */
#include "report.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../store/store.h"
#include "figures.h"
#include "sections.h"

enum { LARGEST_FIT = 256 << 20 }; /* bytes of a FIT.json */

static int is_directory(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* ---- inputs -------------------------------------------------------------------------------- */

static enum fpl_code append_runs(struct fpl_runs *all, const struct fpl_runs *more, struct fpl_error *err) {
    struct fpl_run *grown = realloc(all->run, (all->count + more->count + 1) * sizeof *grown);
    if (grown == NULL)
        return fpl_fail(err, FPL_SYSTEM, "report: out of memory for %zu runs", all->count + more->count);
    all->run = grown;
    for (size_t i = 0; i < more->count; i++) {
        size_t j = 0;
        while (j < all->count && strcmp(all->run[j].run, more->run[i].run) != 0) j++;
        if (j == all->count) all->run[all->count++] = more->run[i];
    }
    return FPL_OK;
}

static enum fpl_code read_study(struct fpl_report_inputs *in, const char *directory, struct fpl_error *err) {
    struct fpl_store *store = NULL;
    struct fpl_runs runs = {0};
    enum fpl_code code = fpl_store_open(directory, 0, &store, err);
    if (code == FPL_OK) code = fpl_store_runs(store, &runs, err);
    if (code == FPL_OK) code = append_runs(&in->runs, &runs, err);
    if (code == FPL_OK && in->study_text == NULL) {
        char path[1200];
        snprintf(path, sizeof path, "%s/study.yaml", directory);
        size_t size;
        if (is_file(path)) code = fpl_file_read(path, 1 << 20, &in->study_text, &size, err);
        snprintf(in->name, sizeof in->name, "%s", directory);
    }
    fpl_runs_free(&runs);
    fpl_store_close(store);
    return code;
}

/* Rows of a CSV are not matched with others: those of one loss curve share their run. */
static enum fpl_code read_csv(struct fpl_report_inputs *in, const char *path, const char *const *columns,
                              struct fpl_error *err) {
    struct fpl_runs runs = {0};
    enum fpl_code code = fpl_runs_read_csv(path, columns, &runs, err);
    if (code != FPL_OK) return code;
    struct fpl_run *grown = realloc(in->runs.run, (in->runs.count + runs.count + 1) * sizeof *grown);
    if (grown != NULL) {
        memcpy(grown + in->runs.count, runs.run, runs.count * sizeof *grown);
        in->runs.run = grown;
        in->runs.count += runs.count;
        if (in->name[0] == '\0') snprintf(in->name, sizeof in->name, "%s", path);
    } else {
        code = fpl_fail(err, FPL_SYSTEM, "report: out of memory for %zu runs", runs.count);
    }
    fpl_runs_free(&runs);
    return code;
}

int fpl_report_is_table(const char *path) {
    const size_t n = strlen(path);
    return n > 4 && strcmp(path + n - 4, ".csv") == 0;
}

static enum fpl_code read_fit(struct fpl_report_inputs *in, const char *path, struct fpl_error *err) {
    if (in->fit_files == FPL_REPORT_FITS)
        return fpl_fail(err, FPL_INVALID, "report: %s: more than %d fits; at most that many are accepted",
                        path, FPL_REPORT_FITS);
    struct fpl_fit_file *f = &in->fit_file[in->fit_files];
    char *text = NULL;
    size_t size;
    enum fpl_code code = fpl_file_read(path, LARGEST_FIT, &text, &size, err); /* once: it may be a pipe */
    if (code == FPL_OK) code = fpl_fits_parse(path, text, size, &f->fits, &f->count, err);
    if (code == FPL_OK && (f->json = json_loadb(text, size, 0, NULL)) == NULL)
        code = fpl_fail(err, FPL_SYSTEM, "report: %s: out of memory", path); /* it has just been parsed */
    free(text);
    if (code != FPL_OK) return code;
    snprintf(f->path, sizeof f->path, "%s", path);
    in->fit_files++;
    return FPL_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* fit*.json beside the store, in the order of their names. */
static enum fpl_code read_own_fits(struct fpl_report_inputs *in, const char *directory,
                                   struct fpl_error *err) {
    DIR *d = opendir(directory);
    if (d == NULL) return FPL_OK;
    char *name[FPL_REPORT_FITS];
    size_t count = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL && count < FPL_REPORT_FITS;) {
        const size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, "fit", 3) == 0 && n > 5 && strcmp(e->d_name + n - 5, ".json") == 0 &&
            (name[count] = strdup(e->d_name)) != NULL)
            count++;
    }
    closedir(d);
    qsort(name, count, sizeof *name, compare_names);
    enum fpl_code code = FPL_OK;
    for (size_t i = 0; i < count; i++) {
        char path[2048];
        snprintf(path, sizeof path, "%s/%s", directory, name[i]);
        if (code == FPL_OK) code = read_fit(in, path, err);
        free(name[i]);
    }
    return code;
}

static enum fpl_code read_inputs(const struct fpl_report_options *o, struct fpl_report_inputs *in,
                                 struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    int named_fits = 0, studies = 0;
    for (int i = 0; i < o->count && code == FPL_OK; i++) {
        if (is_directory(o->inputs[i])) {
            studies++;
            code = read_study(in, o->inputs[i], err);
        } else if (fpl_report_is_table(o->inputs[i])) {
            studies++;
            code = read_csv(in, o->inputs[i], o->columns, err);
        } else {
            named_fits++;
            code = read_fit(in, o->inputs[i], err);
        }
    }
    for (int i = 0; i < o->count && code == FPL_OK && named_fits == 0; i++)
        if (is_directory(o->inputs[i])) code = read_own_fits(in, o->inputs[i], err);
    if (code == FPL_OK && studies > 0 && in->runs.count == 0)
        return fpl_fail(err, FPL_INVALID, "report: %s holds no runs yet; run `fplaw study` first",
                        o->inputs[0]);
    return code;
}

static void free_inputs(struct fpl_report_inputs *in) {
    for (size_t i = 0; i < in->fit_files; i++) {
        for (size_t j = 0; j < in->fit_file[i].count; j++) fpl_fit_free(in->fit_file[i].fits[j]);
        free(in->fit_file[i].fits);
        json_decref(in->fit_file[i].json);
    }
    fpl_runs_free(&in->runs);
    free(in->study_text);
}

/* ---- the fit that curves are drawn from ------------------------------------------------------ */

static struct fpl_fit *fit_named(const struct fpl_report_inputs *in, const char *law) {
    for (size_t i = 0; i < in->fit_files; i++) {
        const json_t *laws = json_object_get(in->fit_file[i].json, "laws");
        for (size_t j = 0; j < in->fit_file[i].count && j < json_array_size(laws); j++) {
            const char *name = json_string_value(json_object_get(json_array_get(laws, j), "law"));
            if (name != NULL && strcmp(name, law) == 0) return in->fit_file[i].fits[j];
        }
    }
    return NULL;
}

/* The entropy that the fitted floor should reach: one value if all runs agree, else NaN. */
static double common_entropy(const struct fpl_runs *runs) {
    double v = (double)NAN;
    for (size_t i = 0; i < runs->count; i++) {
        const double e = runs->run[i].entropy_rate;
        if (!isfinite(e) || (isfinite(v) && fabs(e - v) > 1e-9 * v)) return (double)NAN;
        v = e;
    }
    return v;
}

/* chosen[i]: the condition that chose the fit's runs holds for run i; a condition on columns that this
 * table does not have chooses none. */
static enum fpl_code choose(const struct fpl_fit *fit, const struct fpl_runs *runs, unsigned char *chosen,
                            struct fpl_error *err) {
    memset(chosen, 1, runs->count);
    return fpl_fit_where(fit)[0] != '\0' ? fpl_runs_match(runs, fpl_fit_where(fit), chosen, err) : FPL_OK;
}

/* Which runs the curve's fit describes, for the drawings of it. */
static enum fpl_code describe(const struct fpl_fit *curve, const struct fpl_runs *runs, unsigned char *out,
                              struct fpl_error *err) {
    memset(out, 1, runs->count);
    if (curve == NULL) return FPL_OK;
    const enum fpl_code code = choose(curve, runs, out, err);
    for (size_t i = 0; code == FPL_OK && i < runs->count; i++)
        out[i] = out[i] && fpl_fit_describes(curve, &runs->run[i]);
    return code;
}

/* Every fitted law by itself. */
static enum fpl_code write_laws(const struct fpl_report_inputs *in, const struct fpl_figure_input *f,
                                unsigned char *chosen, struct fpl_text *t, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    if (in->fit_files > 0) fpl_text_add(t, "<h2>Every fitted law</h2>\n");
    for (size_t i = 0; i < in->fit_files; i++)
        for (size_t j = 0; j < in->fit_file[i].count && code == FPL_OK; j++) {
            const struct fpl_fit *fit = in->fit_file[i].fits[j];
            char name[64];
            fpl_section_law(t, fit, in->fit_file[i].path);
            snprintf(name, sizeof name, "law-%s", fpl_law_name(fpl_fit_law(fit)));
            if (i > 0) snprintf(name, sizeof name, "law-%s-%zu", fpl_law_name(fpl_fit_law(fit)), i + 1);
            code = choose(fit, f->runs, chosen, err);
            if (code == FPL_OK) code = fpl_figure_law(t, f, fit, name, chosen, err);
        }
    return code;
}

static enum fpl_code write_sections(const struct fpl_report_options *o, const struct fpl_report_inputs *in,
                                    const struct fpl_ranking *ranking, struct fpl_text *t,
                                    struct fpl_error *err) {
    struct fpl_figure_input f = {.runs = &in->runs, .ranking = ranking, .figures = o->figures};
    static const char *const preferred[] = {"joint", "capybara", "chinchilla"};
    for (size_t i = 0; i < 3 && f.curve == NULL; i++) {
        f.curve = fit_named(in, preferred[i]);
        f.curve_name = preferred[i];
    }
    f.bowl = fit_named(in, "joint");
    f.floor = common_entropy(&in->runs);
    unsigned char *chosen = malloc(2 * (in->runs.count + 1));
    if (chosen == NULL) return fpl_fail(err, FPL_SYSTEM, "report: out of memory");
    f.described = chosen + in->runs.count + 1;
    enum fpl_code code = describe(f.curve, &in->runs, chosen + in->runs.count + 1, err);
    fpl_section_asked(t, in);
    if (in->runs.count > 0) {
        fpl_section_ranking(t, ranking);
        if (code == FPL_OK) code = fpl_figure_ranking(t, &f, err);
        fpl_text_add(t, "<h2>Loss against size and data</h2>\n<div class=\"two\">\n");
        if (code == FPL_OK) code = fpl_figure_loss(t, &f, err);
        fpl_text_add(t, "</div>\n<h2>What exponent, mantissa and block cost</h2>\n");
        if (f.curve == NULL)
            fpl_text_add(t, "<p class=\"note\">No fit was given, so no curve is drawn.</p>\n");
        if (code == FPL_OK) code = fpl_figure_gaps(t, &f, err);
        fpl_section_critical(t, in, f.bowl != NULL ? f.bowl : f.curve);
        fpl_text_add(t, "<h2>Learning rate and batch</h2>\n");
        if (code == FPL_OK) code = fpl_figure_bowls(t, &f, err);
    }
    fpl_section_constants(t, in);
    fpl_section_floor(t, in, f.floor);
    if (in->runs.count > 0) {
        fpl_text_add(t, "<h2>Residuals</h2>\n");
        if (code == FPL_OK) code = fpl_figure_residuals(t, &f, err);
        if (code == FPL_OK) code = write_laws(in, &f, chosen, t, err);
        fpl_section_runs(t, &in->runs);
    }
    free(chosen);
    return code;
}

enum fpl_code fpl_report_write(const struct fpl_report_options *o, struct fpl_error *err) {
    struct fpl_report_inputs in;
    memset(&in, 0, sizeof in);
    struct fpl_ranking ranking = {0};
    struct fpl_text t = {0};
    enum fpl_code code = read_inputs(o, &in, err);
    if (code == FPL_OK) code = fpl_rank_formats(&in.runs, &ranking, err);
    if (code == FPL_OK) {
        char title[700];
        fpl_report_title(&in, title, sizeof title);
        fpl_html_begin(&t, title);
        code = write_sections(o, &in, &ranking, &t, err);
        fpl_html_end(&t, o->version);
    }
    if (code == FPL_OK && t.failed) code = fpl_fail(err, FPL_SYSTEM, "report: out of memory");
    if (code == FPL_OK) code = fpl_file_write(o->out, t.text, t.size, err);
    fpl_text_free(&t);
    fpl_ranking_free(&ranking);
    free_inputs(&in);
    return code;
}
