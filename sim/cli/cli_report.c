/* cli_report.c - `fplaw report DIR|RUNS.csv|FIT.json... --out report.html`. */
#include <stdio.h>
#include <stdlib.h>

#include "../report/report.h"
#include "cli.h"

struct arguments {
    const char *inputs[64];
    int count;
    const char *out, *figures, *columns[65];
    int column_count;
};

static const struct argp_option options[] = {
    {"out", 'o', "FILE.html", 0, "where the report is written (- for standard output)", 0},
    {"columns", 'c', "NAME=COLUMN[*NUMBER]", 0,
     "read NAME of a CSV from another column, times a number; may be repeated", 0},
    {"figures", 'f', "DIR", 0, "also write each figure there as SVG", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 'o':
        a->out = arg;
        return 0;
    case 'c':
        if (a->column_count == (int)(sizeof a->columns / sizeof *a->columns) - 1) return EINVAL;
        a->columns[a->column_count++] = arg;
        return 0;
    case 'f':
        a->figures = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (a->count == (int)(sizeof a->inputs / sizeof *a->inputs)) return EINVAL;
        a->inputs[a->count++] = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int fpl_cmd_report(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "STUDY|RUNS.csv|FIT.json... --out FILE.html",
        "Draw studies, tables of runs and fits as one self-contained HTML file.\v"
        "A study directory's own fit*.json files are shown unless FIT.json files are named.",
        NULL,
        NULL,
        NULL};
    struct arguments a = {.count = 0};
    fpl_cli_parse(&argp, argc, argv, &a);
    struct fpl_error err = {FPL_OK, ""};
    if (a.count == 0) {
        fpl_fail(&err, FPL_INVALID, "report: no input; give a study directory or a FIT.json");
        return fpl_cli_fail(&err);
    }
    if (a.out == NULL) {
        fpl_fail(&err, FPL_INVALID, "report: no --out given; `--out report.html` says where to write");
        return fpl_cli_fail(&err);
    }
    int tables = 0;
    for (int i = 0; i < a.count; i++) tables |= fpl_report_is_table(a.inputs[i]);
    if (a.column_count > 0 && !tables) {
        fpl_fail(&err, FPL_INVALID, "report: --columns is for a table of runs (NAME.csv); none is named");
        return fpl_cli_fail(&err);
    }
    char version[160];
    snprintf(version, sizeof version, "%s (revision %s)", fpl_cli_version, fpl_cli_revision);
    const struct fpl_report_options o = {a.inputs, a.count, a.out, version, a.columns, a.figures};
    if (fpl_report_write(&o, &err) != FPL_OK) return fpl_cli_fail(&err);
    return 0;
}
