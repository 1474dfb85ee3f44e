/* contest.c - see contest.h.
 *
 * A fitted law is scored on cells that it has not seen: every cell is held out in turn, and the
 * optimum that the other cells give it is looked up on the cell's own runs.  Published constants are
 * scored as they are.  The rows with "B* without N" hold the exponent of N in the batch law at 0, as
 * Step Law does; the others let the data decide.
 */
#include "contest.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fitting.h"

const struct fpl_contestant fpl_contestants[] = {
    {"Step Law as published", "steplaw:paper", NULL, NULL, NULL},
    {"DeepSeek", "steplaw:deepseek", NULL, NULL, NULL},
    {"Porian et al.", "steplaw:porian", NULL, NULL, NULL},
    {"published recipe refitted", "steplaw", NULL, NULL, NULL},
    {"the same with ln N in the batch law", "steplaw", NULL, NULL, "batch_N"},
    {"joint, additive Chinchilla base, B* without N", "joint", "chinchilla", "batch_N=0", NULL},
    {"joint, additive Chinchilla base", "joint", "chinchilla", NULL, NULL},
    {"joint, Chinchilla base with interaction, B* without N", "joint", "chinchilla-nd", "batch_N=0", NULL},
    {"joint, Chinchilla base with interaction, quadratic bowl", "joint", "chinchilla-nd",
     "bowl_s1=0,bowl_s2=0", NULL},
    {"joint, Chinchilla base with interaction", "joint", "chinchilla-nd", NULL, NULL},
    {"joint, capacity base", "joint", "capacity", NULL, NULL},
    {"joint, Farseer base", "joint", "farseer", NULL, NULL},
    {"joint, base chosen by held-out error", "joint", "auto", NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* Mean regrets from one optimum per cell of the grid. */
static void score_optima(const struct fpl_grid *grid, const double *lr, const double *batch,
                         const struct fpl_fit_options *options, double *room, struct fpl_score *out) {
    const size_t cells = fpl_grid_cells(grid);
    double *nearest = room, *smoothed = room + cells;
    for (size_t i = 0; i < cells; i++) {
        const struct fpl_regret r = fpl_grid_regret(grid, i, lr[i], batch[i]);
        nearest[i] = r.nearest;
        smoothed[i] = r.smoothed;
        out->off_grid += r.distance > FPL_OFF_GRID;
    }
    out->nearest = fpl_mean_over_cells(nearest, cells, options->bootstrap, options->level, options->seed);
    out->smoothed = fpl_mean_over_cells(smoothed, cells, options->bootstrap, options->level, options->seed);
}

static enum fpl_code published_optima(const char *preset, const struct fpl_grid *grid, double *lr,
                                      double *batch, struct fpl_score *out, struct fpl_error *err) {
    struct fpl_fit *fit = NULL;
    enum fpl_code code = fpl_law_preset(preset, &fit, err);
    for (size_t i = 0; code == FPL_OK && i < fpl_grid_cells(grid); i++) {
        const struct fpl_grid_cell c = fpl_grid_cell(grid, i);
        struct fpl_point_at at = {.N = c.N, .D = c.D};
        at.lr = at.batch_tokens = at.E = at.M = at.block = (double)NAN;
        struct fpl_answer answer;
        code = fpl_fit_predict(fit, &at, &answer, err);
        lr[i] = answer.lr.value;
        batch[i] = answer.batch_tokens.value;
    }
    if (code == FPL_OK) out->parameters = (int)fpl_fit_param_count(fit);
    fpl_fit_free(fit);
    return code;
}

/* Optima of the cells that were held out; NaN where a cell of the grid is none of the fit's. */
static void held_optima(const struct fpl_fit *fit, const struct fpl_grid *grid, double *lr, double *batch) {
    for (size_t i = 0; i < fpl_grid_cells(grid); i++) {
        const struct fpl_grid_cell c = fpl_grid_cell(grid, i);
        lr[i] = batch[i] = (double)NAN;
        for (size_t k = 0; k < fit->held_count; k++)
            if (fit->held[k].N == c.N && fit->held[k].D == c.D) {
                lr[i] = fit->held[k].lr;
                batch[i] = fit->held[k].batch_tokens;
            }
    }
}

static void score_beyond(const struct fpl_fit *fit, struct fpl_score *out) {
    for (size_t k = 0; k < fit->held_count && out->beyond < FPL_BEYOND; k++) {
        out->cell[out->beyond].N = fit->held[k].N;
        out->cell[out->beyond].D = fit->held[k].D;
        out->cell[out->beyond++].mean = fit->held[k].mean;
    }
}

/* One fit with cells held out, one with the extrapolation held out, on the same base. */
static enum fpl_code fitted_optima(const struct fpl_contestant *who, const struct fpl_runs *runs,
                                   const struct fpl_grid *grid, const struct fpl_fit_options *options,
                                   double *lr, double *batch, struct fpl_score *out, struct fpl_error *err) {
    const struct fpl_law *law = fpl_law_find(who->law);
    struct fpl_fit *fit = NULL, *far = NULL;
    struct fpl_fit_options o = *options;
    if (law == NULL) return fpl_fail(err, FPL_INVALID, "no law is called '%s'", who->law);
    o.bootstrap = 0;
    o.base = who->base;
    o.fix = who->fix;
    o.release = who->release;
    o.hold_out = "cell";
    if ((law->use & FPL_OPTIMA) != 0) o.window = 0.0; /* the recipe has its own */
    enum fpl_code code = fpl_law_fit(law, runs, &o, &fit, err);
    if (code != FPL_OK && code != FPL_NOT_CONVERGED) return code;
    const int about_loss = (fit->law->use & FPL_OPTIMA) == 0;
    held_optima(fit, grid, lr, batch);
    out->fitted = 1;
    out->parameters = fit->free_params;
    out->rms = about_loss ? fit->rms : (double)NAN;
    out->held_out_rms = about_loss ? fit->held_out_rms : (double)NAN;
    snprintf(out->base, sizeof out->base, "%s", fpl_law_base(fit->law) != NULL ? fpl_law_base(fit->law) : "");
    if (fit->status != FPL_FIT_CONVERGED)
        snprintf(out->note, sizeof out->note, "%s: %.200s", fpl_fit_status_names[fit->status], fit->message);
    if (about_loss) {
        o.base = fpl_law_base(fit->law);
        o.window = fit->window;
        o.hold_out = options->hold_out != NULL ? options->hold_out : "largest-N";
        code = fpl_law_fit(law, runs, &o, &far, err);
        if (code == FPL_OK || code == FPL_NOT_CONVERGED) score_beyond(far, out);
        fpl_fit_free(far);
    }
    fpl_fit_free(fit);
    return code == FPL_NOT_CONVERGED ? FPL_OK : code;
}

enum fpl_code fpl_contest(const struct fpl_contestant *who, const struct fpl_runs *runs,
                          const struct fpl_grid *grid, const struct fpl_fit_options *options,
                          struct fpl_score *out, struct fpl_error *err) {
    const size_t cells = fpl_grid_cells(grid);
    double *room = malloc(4 * cells * sizeof *room);
    if (room == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    *out = (struct fpl_score){.who = who, .rms = (double)NAN, .held_out_rms = (double)NAN};
    enum fpl_code code = strchr(who->law, ':') != NULL
                             ? published_optima(who->law, grid, room, room + cells, out, err)
                             : fitted_optima(who, runs, grid, options, room, room + cells, out, err);
    if (code == FPL_OK) score_optima(grid, room, room + cells, options, room + 2 * cells, out);
    free(room);
    return code;
}

/* ---- JSON ---------------------------------------------------------------------------------------- */

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *interval(const struct fpl_estimate *e) {
    json_t *j = json_object();
    json_object_set_new(j, "value", number(e->value));
    json_object_set_new(j, "lo", number(e->lo));
    json_object_set_new(j, "hi", number(e->hi));
    return j;
}

static json_t *one_score(const struct fpl_score *s) {
    json_t *j = json_object(), *beyond = json_array();
    json_object_set_new(j, "model", json_string(s->who->label));
    json_object_set_new(j, "law", json_string(s->who->law));
    json_object_set_new(j, "base", s->base[0] != '\0' ? json_string(s->base) : json_null());
    json_object_set_new(j, "fix", s->who->fix != NULL ? json_string(s->who->fix) : json_null());
    json_object_set_new(j, "release", s->who->release != NULL ? json_string(s->who->release) : json_null());
    json_object_set_new(j, "fitted", json_boolean(s->fitted));
    json_object_set_new(j, "parameters", json_integer(s->parameters));
    json_object_set_new(j, "rms", number(s->rms));
    json_object_set_new(j, "held_out_rms", number(s->held_out_rms));
    json_object_set_new(j, "nearest_grid_regret", interval(&s->nearest));
    json_object_set_new(j, "smoothed_regret", interval(&s->smoothed));
    json_object_set_new(j, "off_grid", json_integer((json_int_t)s->off_grid));
    for (size_t k = 0; k < s->beyond; k++) {
        json_t *cell = json_object();
        json_object_set_new(cell, "N", number(s->cell[k].N));
        json_object_set_new(cell, "D", number(s->cell[k].D));
        json_object_set_new(cell, "mean_log_residual", number(s->cell[k].mean));
        json_array_append_new(beyond, cell);
    }
    json_object_set_new(j, "extrapolation", beyond);
    json_object_set_new(j, "note", json_string(s->note));
    return j;
}

static json_t *cells_of(const struct fpl_grid *grid) {
    json_t *list = json_array();
    for (size_t i = 0; i < fpl_grid_cells(grid); i++) {
        const struct fpl_grid_cell c = fpl_grid_cell(grid, i);
        json_t *j = json_object();
        json_object_set_new(j, "N", number(c.N));
        json_object_set_new(j, "D", number(c.D));
        json_object_set_new(j, "runs", json_integer((json_int_t)c.runs));
        json_object_set_new(j, "least_loss", number(c.least));
        json_object_set_new(j, "lr", number(c.lr));
        json_object_set_new(j, "batch_tokens", number(c.batch_tokens));
        json_object_set_new(j, "noise", number(c.noise));
        json_array_append_new(list, j);
    }
    return list;
}

char *fpl_scores_to_json(const struct fpl_score *score, size_t count, const struct fpl_grid *grid,
                         const struct fpl_estimate *perfect, double noise, const struct fpl_runs *runs,
                         const char *version, const char *revision) {
    json_t *root = json_object(), *models = json_array(), *data = json_object(), *program = json_object();
    for (size_t i = 0; i < count; i++) json_array_append_new(models, one_score(&score[i]));
    json_object_set_new(root, "schema", json_string("fplaw-regret/1"));
    json_object_set_new(root, "models", models);
    json_object_set_new(root, "noise", number(noise));
    json_object_set_new(root, "perfect_law_nearest_grid_regret", interval(perfect));
    json_object_set_new(root, "cells", cells_of(grid));
    json_object_set_new(data, "path", json_string(runs->source));
    json_object_set_new(data, "xxh128", json_string(runs->hash));
    json_object_set_new(root, "data", data);
    json_object_set_new(program, "version", json_string(version));
    json_object_set_new(program, "revision", json_string(revision));
    json_object_set_new(root, "program", program);
    char *text = json_dumps(root, JSON_REAL_PRECISION(17) | JSON_PRESERVE_ORDER | JSON_INDENT(1));
    json_decref(root);
    return text;
}
