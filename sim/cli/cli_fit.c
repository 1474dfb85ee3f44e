/* cli_fit.c - `fplaw fit`: laws fitted to a study's runs or to any CSV, written as FIT.json. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../base/file.h"
#include "../law/law.h"
#include "../store/store.h"
#include "../study/study.h"
#include "cli.h"
#include "cli_fit.h"
#include "fit_arguments.h"

enum {
    KEY_WHERE = 256,
    KEY_HOLD_OUT,
    KEY_DELTA,
    KEY_BOOTSTRAP,
    KEY_THREADS,
    KEY_SEED,
    KEY_WINDOW,
    KEY_LEVEL,
    KEY_OBJECTIVE,
    KEY_WEIGHTS,
    KEY_UNIT,
    KEY_PROFILE,
    KEY_BASE,
    KEY_FIX,
    KEY_RELEASE,
    KEY_CENSOR,
    KEY_REGRET
};

static const struct argp_option options[] = {
    {"law", 'l', "NAME[,NAME...]", 0, "laws to fit; an unknown name lists them", 0},
    {"out", 'o', "FIT.json", 0, "where the fit goes ('-': standard output)", 0},
    {"columns", 'c', "NAME=COLUMN[*NUMBER]", 0,
     "read NAME from another column of the CSV, times a number; may be repeated", 0},
    {"where", KEY_WHERE, "EXPR", 0, "only runs for which it holds: 'N>1e9 and format=e4m3'", 0},
    {"hold-out", KEY_HOLD_OUT, "EXPR", 0,
     "report the error on these runs of a fit without them: 'N>1e9'; 'largest-N', 'largest-D'; 'cell': each "
     "(N, D) in turn",
     0},
    {"objective", KEY_OBJECTIVE, "huber|squared|absolute", 0, "of log residuals (default huber)", 0},
    {"delta", KEY_DELTA, "auto|X", 0,
     "Huber's delta on log residuals (auto: 1.35 robust scales, at least 1e-3)", 0},
    {"weights", KEY_WEIGHTS, "none|seed", 0,
     "seed: weigh runs by the inverse of the variance that repeated seeds show (default none)", 0},
    {"censor", KEY_CENSOR, NULL, 0,
     "diverged runs count as 'at least 1.2 times the best of their group' instead of being left out "
     "(laws with a bowl)",
     0},
    {"base", KEY_BASE, "auto|NAME", 0,
     "what joint stands on: chinchilla, chinchilla-nd, capacity, farseer, or (auto, the default) the "
     "simplest "
     "within one standard error of the least held-out error",
     0},
    {"fix", KEY_FIX, "NAME=VALUE[,...]", 0, "hold parameters: 'batch_N=0'", 0},
    {"release", KEY_RELEASE, "NAME[,...]", 0, "free parameters that the law holds: steplaw's batch_N", 0},
    {"profile", KEY_PROFILE, "NAME[,...]", 0, "profile-likelihood intervals of these parameters", 0},
    {"regret", KEY_REGRET, NULL, 0,
     "instead of a fit: published and fitted laws of learning rate and batch compared by regret, cells held "
     "out one at a time; the table goes to standard output, its figures to --out",
     0},
    {"bootstrap-unit", KEY_UNIT, "run|cell|seed", 0,
     "what a resample draws: runs, cells (equal N and D), or runs of a cell paired by seed (default run)", 0},
    {"bootstrap", KEY_BOOTSTRAP, "K", 0, "resamples for intervals, 0 for none (default 1000)", 0},
    {"level", KEY_LEVEL, "X", 0, "of the intervals (default 0.95)", 0},
    {"window", KEY_WINDOW, "auto|X", 0,
     "leave out runs whose loss is more than this share above the best of their group, "
     "for laws with a bowl or an optimum (steplaw: 0.0025; joint: found from the data)",
     0},
    {"seed", KEY_SEED, "S", 0, "of the resamples (default 0)", 0},
    {"threads", KEY_THREADS, "T", 0, "default: one per core; results do not depend on them", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct fit_arguments *a = state->input;
    switch (key) {
    case 'l':
        a->laws = arg;
        return 0;
    case 'o':
        a->out = arg;
        return 0;
    case 'c':
        if (a->columns < FIT_COLUMNS) a->column[a->columns] = arg;
        a->columns++;
        return 0;
    case KEY_WHERE:
        if (a->wheres < FIT_COLUMNS) a->where[a->wheres] = arg;
        a->wheres++;
        return 0;
    case KEY_HOLD_OUT:
        a->hold_out = arg;
        return 0;
    case KEY_DELTA:
        a->delta = arg;
        return 0;
    case KEY_BOOTSTRAP:
        a->bootstrap = arg;
        return 0;
    case KEY_LEVEL:
        a->level = arg;
        return 0;
    case KEY_WINDOW:
        a->window = arg;
        return 0;
    case KEY_OBJECTIVE:
        a->objective = arg;
        return 0;
    case KEY_WEIGHTS:
        a->weights = arg;
        return 0;
    case KEY_UNIT:
        a->unit = arg;
        return 0;
    case KEY_PROFILE:
        a->profile = arg;
        return 0;
    case KEY_BASE:
        a->base = arg;
        return 0;
    case KEY_FIX:
        a->fix = arg;
        return 0;
    case KEY_RELEASE:
        a->release = arg;
        return 0;
    case KEY_CENSOR:
        a->censor = 1;
        return 0;
    case KEY_REGRET:
        a->regret = 1;
        return 0;
    case KEY_SEED:
        a->seed = arg;
        return 0;
    case KEY_THREADS:
        a->threads = arg;
        return 0;
    case ARGP_KEY_ARG:
        a->input = arg;
        a->inputs++;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    options,
    parse,
    "--law NAME[,NAME...] DIR|RUNS.csv --out FIT.json\n--regret DIR|RUNS.csv --out TABLE.json",
    "Fit scaling laws to the runs of a study (its directory) or of any CSV ('-': standard input).",
    NULL,
    NULL,
    NULL};

/* ---- runs ------------------------------------------------------------------------------------------ */

/* Laws of loss curves read points of trajectories, the others one row per run. */
static enum fpl_code wants_curves(const struct fpl_law *const *laws, size_t count, int *curves,
                                  struct fpl_error *err) {
    size_t taking = 0;
    for (size_t i = 0; i < count; i++) taking += fpl_law_takes_schedule(laws[i]) ? 1 : 0;
    *curves = taking > 0;
    if (taking == 0 || taking == count) return FPL_OK;
    return fpl_fail(
        err, FPL_INVALID,
        "fit: --law: laws of loss curves (annealing, multipower) read other rows than the rest: fit "
        "them by themselves");
}

static enum fpl_code read_runs(const struct fit_arguments *a, int curves, struct fpl_runs *runs,
                               struct fpl_error *err) {
    struct stat st;
    enum fpl_code code;
    memset(runs, 0, sizeof *runs);
    if (strcmp(a->input, "-") != 0 && stat(a->input, &st) == 0 && S_ISDIR(st.st_mode)) {
        struct fpl_store *store = NULL;
        if (a->columns > 0)
            return fpl_fail(err, FPL_INVALID, "fit: --columns is for a CSV; %s is a study", a->input);
        code = fpl_store_open(a->input, 0, &store, err);
        if (code != FPL_OK) return code;
        code = curves ? fpl_study_curves(store, runs, err) : fpl_store_runs(store, runs, err);
        fpl_store_close(store);
        if (code == FPL_OK) snprintf(runs->source, sizeof runs->source, "%s", a->input);
    } else {
        code = fpl_runs_read_csv(a->input, a->column, runs, err);
    }
    for (int i = 0; code == FPL_OK && i < a->wheres; i++) {
        code = fpl_runs_where(runs, a->where[i], err);
        if (code != FPL_OK) fpl_fail_at(err, "fit: --where");
    }
    if (code == FPL_OK && runs->count == 0)
        code = fpl_fail(err, FPL_INVALID, "%s: no run is left to fit%s", a->input,
                        a->wheres > 0 ? " after --where" : "");
    return code;
}

/* ---- telling ------------------------------------------------------------------------------------------ */

static void tell_fit(FILE *out, const struct fpl_fit *fit) {
    struct fpl_fit_summary s;
    struct fpl_estimate e;
    const char *name;
    fpl_fit_summarize(fit, &s);
    fprintf(out, "%s: %s%s%s\n", fpl_law_name(fpl_fit_law(fit)), fpl_fit_status_names[fpl_fit_state(fit)],
            fpl_fit_message(fit)[0] != '\0' ? "; " : "", fpl_fit_message(fit));
    fprintf(out, "  %s\n", fpl_law_formula(fpl_fit_law(fit)));
    fprintf(out, "  %zu runs, %zu left out; rms of log residuals %.3g", s.used, s.left_out,
            s.rms_log_residual);
    if (!isnan(s.delta)) fprintf(out, ", Huber delta %.3g", s.delta);
    if (!isnan(s.window)) fprintf(out, ", window %.3g", s.window);
    if (s.hold_out != NULL)
        fprintf(out, "\n  held out (%s): %zu runs, rms %.3g, mean %+.3g", s.hold_out, s.held_out_runs,
                s.held_out_rms, s.held_out_mean);
    fprintf(out, "\n");
    for (size_t i = 0; (name = fpl_fit_param(fit, i, &e)) != NULL; i++) {
        fprintf(out, "  %-9s %14.7g", name, e.value);
        if (!isnan(e.lo)) fprintf(out, "  [%.5g, %.5g]", e.lo, e.hi);
        if (fpl_fit_profile(fit, i, &e)) fprintf(out, "  profile [%.5g, %.5g]", e.lo, e.hi);
        fprintf(out, "%s%s\n", fpl_fit_param_unit(fit, i)[0] != '\0' ? "  " : "", fpl_fit_param_unit(fit, i));
    }
    for (size_t i = 0; (name = fpl_fit_base_tried(fit, i, &e.value)) != NULL; i++)
        fprintf(out, "  base %s: held-out rms %.3g%s\n", name, e.value,
                strcmp(name, fpl_law_base(fpl_fit_law(fit))) == 0 ? " (taken)" : "");
    for (size_t i = 0; (name = fpl_fit_finding(fit, i)) != NULL; i++)
        fprintf(out, "  - %.*s\n", (int)strcspn(name, "\n"), name);
}

static enum fpl_code write_fits(const char *path, struct fpl_fit *const *fits, size_t count,
                                const struct fpl_runs *runs, struct fpl_error *err) {
    char *json = fpl_fits_to_json_by(fits, count, runs, fpl_cli_version, fpl_cli_revision);
    if (json == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", path);
    const enum fpl_code code = fpl_file_write(path, json, strlen(json), err);
    free(json);
    return code;
}

/* Fit all; one that did not converge is written like the others and told at the end. */
static enum fpl_code fit_all(const struct fit_arguments *a, const struct fpl_runs *runs,
                             const struct fpl_law *const *laws, size_t count, const struct fpl_fit_options *o,
                             struct fpl_error *err) {
    struct fpl_fit *fits[FIT_LAWS] = {NULL};
    struct fpl_error not_converged = {FPL_OK, ""};
    size_t made = 0;
    enum fpl_code code = FPL_OK;
    for (; made < count; made++) {
        fpl_cli_progress((double)made / (double)count, fpl_law_name(laws[made]));
        code = fpl_law_fit(laws[made], runs, o, &fits[made], err);
        if (code == FPL_NOT_CONVERGED)
            not_converged = *err;
        else if (code != FPL_OK)
            break;
    }
    fpl_cli_progress_end();
    if (made == count) {
        FILE *out = strcmp(a->out, "-") == 0 ? stderr : stdout;
        code = write_fits(a->out, fits, count, runs, err);
        for (size_t i = 0; code == FPL_OK && i < count; i++) tell_fit(out, fits[i]);
    }
    for (size_t i = 0; i < made; i++) fpl_fit_free(fits[i]);
    if (code == FPL_OK && not_converged.code != FPL_OK) *err = not_converged;
    return code == FPL_OK ? not_converged.code : code;
}

int fpl_cmd_fit(int argc, char **argv) {
    struct fit_arguments a = {0};
    struct fpl_fit_options o;
    struct fpl_error err = {FPL_OK, ""};
    const struct fpl_law *laws[FIT_LAWS];
    struct fpl_runs runs;
    size_t count = 0;
    fpl_cli_parse(&argp, argc, argv, &a);
    enum fpl_code code = fit_take_options(&a, &o, &err);
    if (code == FPL_OK && !a.regret) code = fit_take_laws(a.laws, laws, &count, &err);
    if (code != FPL_OK) return fpl_cli_fail(&err);
    int curves = 0;
    code = wants_curves(laws, count, &curves, &err);
    if (code != FPL_OK) return fpl_cli_fail(&err);
    code = read_runs(&a, curves, &runs, &err);
    if (code == FPL_OK)
        code = a.regret ? fpl_cli_regret(a.out, &runs, &o, &err) : fit_all(&a, &runs, laws, count, &o, &err);
    fpl_runs_free(&runs);
    return code == FPL_OK ? fpl_cli_flush(0) : fpl_cli_fail(&err);
}
