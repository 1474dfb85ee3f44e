/* cli_study.c - `fplaw study`: run what is missing of a study file, or export its table. */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../base/file.h"
#include "../base/number.h"
#include "../store/store.h"
#include "../study/study.h"
#include "cli.h"

#define MOST_WORKERS 1024
#define MOST_PACK 4096

struct arguments {
    const char *input, *out, *device, *export, *diagnostics, *workers, *budget, *pack;
    int inputs, dry_run, timing;
};

enum { KEY_EXPORT = 256, KEY_TIMING, KEY_DRY_RUN, KEY_BUDGET, KEY_DIAGNOSTICS, KEY_PACK };

static const struct argp_option options[] = {
    {"out", 'o', "DIR", 0, "directory of the study's results, made if missing; the same again goes on", 0},
    {"workers", 'w', "K", 0,
     "worker processes (default: one for each GPU, or for each core); results do not depend on them", 0},
    {"pack", KEY_PACK, "R", 0,
     "at most R runs of one shape train side by side in a worker (default: as many as the device gains from, "
     "measured; cpu: 1); results do not depend on it",
     0},
    {"device", 'd', "NAME", 0,
     "cpu (default), cuda where this build has it (`fplaw --version`), or one of several: cuda:1", 0},
    {"budget", KEY_BUDGET, "TIME", 0, "3600, 90m, 1h30m: replaces the file's time budget over all calls", 0},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "expand, check and estimate; run nothing and write nothing", 0},
    {"export", KEY_EXPORT, "RUNS.csv", 0, "write the table of all runs in DIR ('-': standard output)", 0},
    {"export-diagnostics", KEY_DIAGNOSTICS, "OUT.csv", 0,
     "write what quantizing did to each operand, of the runs in DIR with diagnose_every ('-': standard "
     "output): run, step, layer, operand, SQNR, shares of underflow and clipping, amax, exponents",
     0},
    {"timing", KEY_TIMING, NULL, 0, "with --export: append what was measured", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 'o':
        a->out = arg;
        return 0;
    case 'w':
        a->workers = arg;
        return 0;
    case 'd':
        a->device = arg;
        return 0;
    case KEY_PACK:
        a->pack = arg;
        return 0;
    case KEY_BUDGET:
        a->budget = arg;
        return 0;
    case KEY_DRY_RUN:
        a->dry_run = 1;
        return 0;
    case KEY_EXPORT:
        a->export = arg;
        return 0;
    case KEY_DIAGNOSTICS:
        a->diagnostics = arg;
        return 0;
    case KEY_TIMING:
        a->timing = 1;
        return 0;
    case ARGP_KEY_ARG:
        a->input = arg;
        a->inputs++;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- telling ------------------------------------------------------------------------------------- */

static void print_time(char *buf, size_t size, double seconds) {
    if (seconds < 100)
        snprintf(buf, size, "%.3g s", seconds);
    else if (seconds < 6000)
        snprintf(buf, size, "%.0f min", seconds / 60);
    else
        snprintf(buf, size, "%.1f h", seconds / 3600);
}

struct telling {
    FILE *out;
    int workers, pack; /* 0: not given */
    double budget;
};

static void tell_plan(void *context, const struct fpl_study *s, const struct fpl_study_plan *plan) {
    const struct telling *t = context;
    char core[32], wall[32];
    fprintf(t->out, "study %s: %zu runs, %zu done, %zu to run", s->name, plan->runs, plan->done,
            plan->missing);
    if (plan->waiting > 0)
        fprintf(t->out, " (%zu of them wait for a fit of an earlier stage)", plan->waiting);
    fprintf(t->out, "\n");
    for (size_t i = 0; i < s->stages && s->stages > 1; i++)
        fprintf(t->out, "  stage %-20s %6zu runs\n", s->stage[i].name, s->stage[i].runs);
    if (plan->missing == 0) return;
    print_time(core, sizeof core, plan->seconds);
    print_time(wall, sizeof wall, plan->seconds / t->workers);
    fprintf(t->out, "estimated cost: %.3g FLOP, %s of one worker at %.3g GFLOP/s (%s); %s with %d workers\n",
            plan->flop, core, 1e-9 * plan->rate,
            plan->measured ? "measured in this study" : "assumed until a run is measured", wall, t->workers);
    double budget = t->budget > 0 ? t->budget : s->budget;
    if (!(budget > 0)) return;
    print_time(core, sizeof core, budget);
    print_time(wall, sizeof wall, plan->spent);
    fprintf(t->out, "time budget: %s, %s of it used by earlier calls\n", core, wall);
}

static void tell_progress(void *context, double done, const char *text) {
    (void)context;
    fpl_cli_progress(done, text);
}

static void tell_note(void *context, const char *text) {
    (void)context;
    fpl_cli_progress_end();
    fprintf(stderr, "fplaw: %s\n", text);
}

static void tell_result(const struct fpl_study_result *r) {
    char time[32];
    fpl_cli_progress_end();
    print_time(time, sizeof time, r->seconds);
    fprintf(stderr, "%zu of %zu runs done; %zu in this call, %s", r->done, r->runs, r->ran, time);
    for (int i = 0; i < FPL_RUN_STATUSES; i++)
        if (r->status[i] > 0 && r->status[i] < r->ran + (i != FPL_RUN_OK))
            fprintf(stderr, ", %zu %s", r->status[i], fpl_status_names[i]);
    fprintf(stderr, "\n");
    if (r->out_of_budget)
        fprintf(stderr,
                "%zu runs did not start: the time budget is used up; the same command with a larger --budget "
                "goes on\n",
                r->left);
}

/* ---- export ------------------------------------------------------------------------------------ */

static enum fpl_code open_study(const struct arguments *a, struct fpl_store **store, struct fpl_error *err) {
    const char *option = a->export != NULL ? "--export" : "--export-diagnostics";
    struct stat st;
    if (stat(a->input, &st) != 0)
        return fpl_fail(err, errno == EACCES || errno == EIO ? FPL_SYSTEM : FPL_INVALID,
                        "%s: %s takes the directory of a study: %s", a->input, option, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return fpl_fail(err, FPL_INVALID, "%s: %s takes the directory of a study, a file is found", a->input,
                        option);
    return fpl_store_open(a->input, 0, store, err);
}

struct diagnostics {
    struct fpl_store *store;
    struct fpl_writer out;
    int64_t runs;
};

static enum fpl_code export_run(void *context, const char *run, struct fpl_error *err) {
    struct diagnostics *d = context;
    struct fpl_diagnosis_point *points;
    int64_t count;
    enum fpl_code code = fpl_store_diagnoses(d->store, run, &points, &count, err);
    if (code != FPL_OK) return code;
    char *csv = fpl_diagnosis_to_csv(run, points, count);
    fpl_diagnosis_free(points, count);
    if (csv == NULL) return fpl_fail(err, FPL_SYSTEM, "study: out of memory");
    code = fpl_writer_put(&d->out, csv, strlen(csv), err);
    free(csv);
    d->runs++;
    return code;
}

/* Run by run, so that a study of any size fits. */
static enum fpl_code export_diagnostics(const struct arguments *a, struct fpl_error *err) {
    struct diagnostics d = {.runs = 0};
    enum fpl_code code = open_study(a, &d.store, err);
    if (code != FPL_OK) return code;
    code = fpl_writer_open(&d.out, a->diagnostics, err);
    if (code == FPL_OK) {
        code = fpl_writer_put(&d.out, fpl_diagnosis_header, strlen(fpl_diagnosis_header), err);
        if (code == FPL_OK) code = fpl_store_diagnosed(d.store, export_run, &d, err);
        if (code == FPL_OK) code = fpl_writer_commit(&d.out, err);
        fpl_writer_abandon(&d.out);
    }
    fpl_store_close(d.store);
    if (code == FPL_OK && d.runs == 0)
        fprintf(stderr, "fplaw: %s: no run has diagnostics; set the option diagnose_every\n", a->input);
    return code;
}

static enum fpl_code export_table(const struct arguments *a, struct fpl_error *err) {
    struct fpl_store *store = NULL;
    struct fpl_runs runs;
    enum fpl_code code = open_study(a, &store, err);
    if (code != FPL_OK) return code;
    code = fpl_store_runs(store, &runs, err);
    fpl_store_close(store);
    if (code != FPL_OK) return code;
    char *csv = fpl_runs_to_csv(&runs, a->timing);
    fpl_runs_free(&runs);
    if (csv == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", a->input);
    code = fpl_file_write(a->export, csv, strlen(csv), err);
    free(csv);
    return code;
}

/* ---- running ----------------------------------------------------------------------------------- */

static int cores(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n < 1 ? 1 : n;
}

static enum fpl_code check_arguments(const struct arguments *a, struct telling *t, struct fpl_error *err) {
    int64_t workers = 0, pack = 0;
    if (a->inputs != 1)
        return fpl_fail(err, FPL_INVALID,
                        "study: one study file (or one directory with --export) is expected, %d given",
                        a->inputs);
    if (a->export != NULL || a->diagnostics != NULL) {
        if (a->out != NULL || a->dry_run || a->workers != NULL || a->pack != NULL || a->budget != NULL ||
            a->device != NULL)
            return fpl_fail(err, FPL_INVALID,
                            "study: --export goes with --timing only, and "
                            "--export-diagnostics with --export or nothing");
        if (a->timing && a->export == NULL)
            return fpl_fail(err, FPL_INVALID, "study: --timing goes with --export");
        return FPL_OK;
    }
    if (a->timing) return fpl_fail(err, FPL_INVALID, "study: --timing goes with --export");
    if (a->out == NULL && !a->dry_run)
        return fpl_fail(err, FPL_INVALID, "study: --out DIR is missing: where the results go");
    if (a->workers != NULL &&
        (fpl_integer_parse(a->workers, &workers, err) != FPL_OK || workers < 1 || workers > MOST_WORKERS))
        return fpl_fail(err, FPL_INVALID, "study: --workers: 1 to %d is expected, '%.40s' is found",
                        MOST_WORKERS, a->workers);
    if (a->pack != NULL && (fpl_integer_parse(a->pack, &pack, err) != FPL_OK || pack < 1 || pack > MOST_PACK))
        return fpl_fail(err, FPL_INVALID, "study: --pack: 1 to %d is expected, '%.40s' is found", MOST_PACK,
                        a->pack);
    if (a->budget != NULL && !fpl_study_duration(a->budget, &t->budget))
        return fpl_fail(err, FPL_INVALID,
                        "study: --budget: a time such as 3600, 90m or 1h30m is expected, '%.40s' is found",
                        a->budget);
    t->workers = (int)workers;
    t->pack = (int)pack;
    return FPL_OK;
}

static enum fpl_code run_study(const struct arguments *a, struct telling *t, struct fpl_error *err) {
    struct fpl_study *s = NULL;
    const struct fpl_kernels *kernels;
    int number;
    enum fpl_code code = fpl_backend_choose(a->device, &kernels, &number, err);
    if (code == FPL_OK && !a->dry_run) code = fpl_backend_ready(kernels, number, err);
    if (code == FPL_OK) code = fpl_study_read(a->input, kernels->name, &s, err);
    if (code != FPL_OK) return code;
    const int devices = kernels->devices == NULL || number >= 0 ? 1 : kernels->devices();
    if (t->workers == 0) t->workers = kernels->devices == NULL ? cores() : devices > 0 ? devices : 1;
    const char *const worker[] = {"/proc/self/exe", "worker", a->device, NULL};
    struct fpl_study_options o = {.directory = a->out,
                                  .workers = t->workers,
                                  .pack = t->pack,
                                  .threads = kernels->devices != NULL ? 1 + (cores() - 1) / t->workers : 1,
                                  .measure = kernels->replicas != NULL,
                                  .device = number >= 0 ? number : 0,
                                  .devices = devices,
                                  .dry_run = a->dry_run,
                                  .budget = t->budget,
                                  .worker = worker,
                                  .stop = &fpl_cli_signal,
                                  .version = fpl_cli_version,
                                  .revision = fpl_cli_revision,
                                  .planned = tell_plan,
                                  .progress = tell_progress,
                                  .note = tell_note,
                                  .context = t};
    struct fpl_study_result result;
    fpl_cli_catch_signals();
    code = fpl_study_run(s, &o, &result, err);
    if (!a->dry_run && (code == FPL_OK || code == FPL_STOPPED || result.ran > 0)) tell_result(&result);
    fpl_study_free(s);
    return code;
}

static const struct argp argp = {
    options,
    parse,
    "FILE.yaml --out DIR\nDIR --export RUNS.csv\nDIR --export-diagnostics OUT.csv",
    "Expand a study file into runs and run what is missing; killed at any moment, the same command goes on. "
    "Or export the table of a study's runs.\v"
    "A study file is YAML: `options` that hold for every run; `grid`, `zip`, `list` and `seeds`, whose "
    "product are the runs; `stages` with `after`; `law` for LR and batch sizes from a law; `budget`. "
    "sim/study/study.h has the grammar and an example.\n"
    "Exit status: 0 done, or the time budget is used up; 1 the environment failed; 2 wrong arguments or "
    "input; "
    "130 and 143 after SIGINT and SIGTERM, checkpoints written.",
    NULL,
    NULL,
    NULL};

int fpl_cmd_study(int argc, char **argv) {
    struct arguments a = {.device = NULL};
    struct telling t = {.workers = 1};
    struct fpl_error err = {FPL_OK, ""};
    fpl_cli_parse(&argp, argc, argv, &a);
    const int exports = a.export != NULL || a.diagnostics != NULL;
    if (a.device == NULL && !exports) a.device = fpl_backend_names[0];
    enum fpl_code code = check_arguments(&a, &t, &err);
    if (code == FPL_OK && a.export != NULL) code = export_table(&a, &err);
    if (code == FPL_OK && a.diagnostics != NULL) code = export_diagnostics(&a, &err);
    if (code == FPL_OK && exports) return 0;
    if (code == FPL_OK) {
        t.out = a.dry_run ? stdout : stderr;
        code = run_study(&a, &t, &err);
    }
    return code == FPL_OK ? 0 : fpl_cli_fail(&err);
}
