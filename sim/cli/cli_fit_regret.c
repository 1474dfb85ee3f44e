/* cli_fit_regret.c - `fplaw fit --regret`: laws of learning rate and batch compared on one grid of
 * runs, printed as a table in Markdown. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "../law/contest.h"
#include "cli.h"
#include "cli_fit.h"

#define DRAWS 2000
#define MODELS 32

static void print_percent(FILE *out, double share, int digits) {
    if (isnan(share))
        fprintf(out, " - |");
    else
        fprintf(out, " %.*f |", digits, 100.0 * share);
}

static void print_interval(FILE *out, const struct fpl_estimate *e) {
    if (isnan(e->value))
        fprintf(out, " - |");
    else
        fprintf(out, " %.4f [%.3f, %.3f] |", 100.0 * e->value, 100.0 * e->lo, 100.0 * e->hi);
}

static void print_score(FILE *out, const struct fpl_score *s) {
    fprintf(out, "| %s%s%s%s%s | %d |", s->who->label,
            s->base[0] != '\0' && strcmp(s->who->base, "auto") == 0 ? " (" : "",
            s->base[0] != '\0' && strcmp(s->who->base, "auto") == 0 ? s->base : "",
            s->base[0] != '\0' && strcmp(s->who->base, "auto") == 0 ? ")" : "",
            s->fitted ? "" : " (in sample)", s->parameters);
    print_percent(out, s->rms, 3);
    print_percent(out, s->held_out_rms, 3);
    print_interval(out, &s->nearest);
    print_percent(out, s->smoothed.value, 3);
    fprintf(out, " %zu |", s->off_grid);
    if (s->beyond == 0) fprintf(out, " -");
    for (size_t k = 0; k < s->beyond; k++)
        fprintf(out, "%s%+.2f", k > 0 ? ", " : " ", -100.0 * s->cell[k].mean);
    fprintf(out, " |\n");
}

static void print_table(FILE *out, const struct fpl_score *score, size_t count, const struct fpl_grid *grid,
                        const struct fpl_estimate *perfect, double noise,
                        const struct fpl_fit_options *options) {
    const char *beyond = options->hold_out != NULL ? options->hold_out : "largest-N";
    fprintf(out,
            "| model | parameters | rms in sample, %% | rms, cell held out, %% | nearest-grid regret, %% [%g "
            "%% over "
            "cells] | smoothed regret, %% | off grid | %s held out: error of the loss by cell, %% |\n",
            100.0 * options->level, beyond);
    fprintf(out, "|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++) print_score(out, &score[i]);
    fprintf(out,
            "\n%zu cells. Noise of one run, by the robust scale around each cell's quartic: %.3f %% "
            "(median). A law "
            "that knew every quartic's minimum would have a nearest-grid regret of %.4f %% [%.3f, %.3f] "
            "under that "
            "noise.\n",
            fpl_grid_cells(grid), 100.0 * noise, 100.0 * perfect->value, 100.0 * perfect->lo,
            100.0 * perfect->hi);
    for (size_t i = 0; i < count; i++)
        if (score[i].note[0] != '\0') fprintf(out, "%s: %s\n", score[i].who->label, score[i].note);
}

static enum fpl_code write_scores(const char *path, const char *json, struct fpl_error *err) {
    if (json == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", path);
    return fpl_file_write(path, json, strlen(json), err);
}

/* The window of joint that the data ask for, so that all models see the same runs. */
static enum fpl_code find_window(const struct fpl_runs *runs, struct fpl_fit_options *o,
                                 struct fpl_error *err) {
    struct fpl_fit_options plain = *o;
    struct fpl_fit_summary s;
    struct fpl_fit *fit = NULL;
    if (o->window > 0.0) return FPL_OK;
    plain.bootstrap = 0;
    plain.hold_out = plain.base = plain.fix = plain.release = NULL;
    const enum fpl_code code = fpl_law_fit(fpl_law_find("joint"), runs, &plain, &fit, err);
    if (code != FPL_OK && code != FPL_NOT_CONVERGED) return code;
    fpl_fit_summarize(fit, &s);
    o->window = s.window;
    fpl_fit_free(fit);
    return FPL_OK;
}

enum fpl_code fpl_cli_regret(const char *path, const struct fpl_runs *runs,
                             const struct fpl_fit_options *options, struct fpl_error *err) {
    struct fpl_grid *grid = NULL;
    struct fpl_score score[MODELS];
    struct fpl_fit_options o = *options;
    size_t count = 0, models = 0;
    o.diagnose = 0;
    o.bootstrap = DRAWS;
    enum fpl_code code = fpl_grid_new(runs, &grid, err);
    if (code == FPL_OK) code = find_window(runs, &o, err);
    while (fpl_contestants[models].label != NULL && models < MODELS) models++;
    for (; code == FPL_OK && count < models; count++) {
        fpl_cli_progress((double)count / (double)models, fpl_contestants[count].label);
        code = fpl_contest(&fpl_contestants[count], runs, grid, &o, &score[count], err);
    }
    fpl_cli_progress_end();
    if (code == FPL_OK) {
        double noise;
        const struct fpl_estimate perfect = fpl_grid_perfect(grid, DRAWS, o.level, o.seed, &noise);
        char *json =
            fpl_scores_to_json(score, count, grid, &perfect, noise, runs, fpl_cli_version, fpl_cli_revision);
        code = write_scores(path, json, err);
        free(json);
        if (code == FPL_OK)
            print_table(strcmp(path, "-") == 0 ? stderr : stdout, score, count, grid, &perfect, noise, &o);
    }
    fpl_grid_free(grid);
    return code;
}
