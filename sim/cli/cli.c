/* cli.c - what every command shares: messages, exit statuses, argp conventions, progress,
 * signals.
 *
 * argp exits with 64 on a usage error and prints several lines; fplaw's contract is one
 * line and status 2.  So argp runs with ARGP_NO_ERRS and its complaints are rebuilt here
 * from the option table, with the nearest known option suggested.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t fpl_cli_signal;

static int exit_status(enum fpl_code code) {
    switch (code) {
    case FPL_OK:
        return 0;
    case FPL_INVALID:
        return 2;
    case FPL_REGRESSION:
        return 3;
    case FPL_STOPPED:
        return fpl_cli_signal == SIGTERM ? 143 : 130;
    case FPL_SYSTEM:
    case FPL_MEMORY:
    case FPL_NOT_CONVERGED:
        break;
    }
    return 1;
}

int fpl_cli_fail(const struct fpl_error *err) {
    fpl_cli_progress_end();
    fprintf(stderr, "fplaw: %s\n", err->text);
    return exit_status(err->code);
}

int fpl_cli_flush(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (status == 0) {
            fprintf(stderr, "fplaw: standard output: %s\n", strerror(errno));
            return 1;
        }
    }
    return status;
}

/* ---- argp ------------------------------------------------------------------------------ */

static const struct argp_option *find_option(const struct argp *argp, const char *name, size_t length) {
    for (const struct argp_option *o = argp->options; o != NULL && (o->name != NULL || o->key != 0); o++)
        if (o->name != NULL && strlen(o->name) == length && strncmp(o->name, name, length) == 0) return o;
    return NULL;
}

/* `--name` or `--name=value` when it is wrong by itself: unknown, or its value missing. */
static int explain_long(const struct argp *argp, char **argv, const char *text, int last,
                        struct fpl_error *err) {
    const size_t length = strcspn(text + 2, "=");
    const struct argp_option *o = find_option(argp, text + 2, length);
    if (o != NULL) {
        const int has_value = text[2 + length] == '=';
        if (o->arg != NULL && !has_value && last)
            fpl_fail(err, FPL_INVALID, "%s: option --%s needs a value: %s", argv[0], o->name, o->arg);
        else if (o->arg == NULL && has_value)
            fpl_fail(err, FPL_INVALID, "%s: option --%s takes no value, found '%s'", argv[0], o->name, text);
        else
            return 0;
        return 1;
    }
    char name[64];
    const char *known[64];
    size_t count = 0;
    snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), text + 2);
    for (o = argp->options; o != NULL && (o->name != NULL || o->key != 0); o++)
        if (o->name != NULL && count < 62) known[count++] = o->name;
    known[count++] = "help";
    known[count] = NULL;
    const char *near = fpl_nearest_word(name, known);
    if (near != NULL)
        fpl_fail(err, FPL_INVALID, "%s: unknown option '%.80s'; did you mean '--%s'?", argv[0], text, near);
    else
        fpl_fail(err, FPL_INVALID, "%s: unknown option '%.80s'; `fplaw %s --help` lists them", argv[0], text,
                 argv[0]);
    return 1;
}

/* The same of single letters, `-a` or `-abVALUE`. *takes_next: the last one's value follows. */
static int explain_short(const struct argp *argp, char **argv, const char *text, int last, int *takes_next,
                         struct fpl_error *err) {
    for (const char *letter = text + 1; *letter != '\0'; letter++) {
        const struct argp_option *o = argp->options;
        while (o != NULL && (o->name != NULL || o->key != 0) && o->key != *letter) o++;
        if (o == NULL || (o->name == NULL && o->key == 0)) {
            fpl_fail(err, FPL_INVALID, "%s: unknown option '-%c' in '%.80s'; `fplaw %s --help` lists them",
                     argv[0], *letter, text, argv[0]);
            return 1;
        }
        if (o->arg == NULL) continue;
        *takes_next = letter[1] == '\0';
        if (!*takes_next || !last) return 0; /* the rest is its value */
        fpl_fail(err, FPL_INVALID, "%s: option -%c needs a value: %s", argv[0], *letter, o->arg);
        return 1;
    }
    return 0;
}

/* Complain about the first option that is wrong by itself; 1 if there is one. */
static int explain_options(const struct argp *argp, int argc, char **argv, struct fpl_error *err) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *text = argv[i];
        int takes_next = 0;
        if (strncmp(text, "--", 2) == 0) {
            if (explain_long(argp, argv, text, i + 1 == argc, err)) return 1;
            const struct argp_option *o = find_option(argp, text + 2, strlen(text + 2));
            takes_next = o != NULL && o->arg != NULL;
        } else if (text[0] == '-' && text[1] != '\0') {
            if (explain_short(argp, argv, text, i + 1 == argc, &takes_next, err)) return 1;
        }
        i += takes_next;
    }
    return 0;
}

static int wants_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-?") == 0) return 1;
    return 0;
}

int fpl_cli_parse(const struct argp *argp, int argc, char **argv, void *input) {
    struct fpl_error err = {FPL_OK, ""};
    if (wants_help(argc, argv)) {
        char program[64];
        snprintf(program, sizeof program, "fplaw %s", argv[0]);
        argp_help(argp, stdout, ARGP_HELP_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG | ARGP_HELP_POST_DOC,
                  program);
        exit(fpl_cli_flush(0));
    }
    if (explain_options(argp, argc, argv, &err)) exit(fpl_cli_fail(&err));
    int index = 0;
    const error_t rc =
        argp_parse(argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_EXIT | ARGP_NO_HELP, &index, input);
    if (rc == 0) return 0;
    if (rc == ENOMEM)
        fpl_fail(&err, FPL_SYSTEM, "%s: out of memory", argv[0]);
    else if (index < argc)
        fpl_fail(&err, FPL_INVALID, "%s: argument '%s' is not understood; `fplaw %s --help` shows the usage",
                 argv[0], argv[index], argv[0]);
    else
        fpl_fail(&err, FPL_INVALID, "%s: an argument is missing; `fplaw %s --help` shows the usage", argv[0],
                 argv[0]);
    exit(fpl_cli_fail(&err));
}

/* ---- progress -------------------------------------------------------------------------- */

static struct {
    int drawn; /* a bar stands on the terminal's last line */
    double begun, last;
} progress;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_duration(char *buf, size_t size, double seconds) {
    const long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(buf, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(buf, size, "%ld:%02ld", s / 60, s % 60);
}

void fpl_cli_progress(double done, const char *text) {
    const double t = now();
    const int terminal = isatty(STDERR_FILENO);
    if (progress.begun == 0.0) {
        progress.begun = t;
        progress.last = t;
        if (!terminal) return;
    } else if (t - progress.last < (terminal ? 0.1 : 10.0) && !(terminal && done >= 1.0)) {
        return;
    }
    progress.last = t;
    if (!(done >= 0.0)) done = 0.0;
    if (done > 1.0) done = 1.0;
    char left[32] = "?";
    if (done > 0.0) print_duration(left, sizeof left, (t - progress.begun) * (1.0 - done) / done);
    if (!terminal) {
        fprintf(stderr, "%3.0f %%  %s left  %s\n", 100.0 * done, left, text);
        return;
    }
    char bar[31];
    for (int i = 0; i < 30; i++) bar[i] = i < (int)(30.0 * done) ? '#' : '.';
    bar[30] = '\0';
    fprintf(stderr, "\r\033[K[%s] %3.0f %%  %s left  %.60s", bar, 100.0 * done, left, text);
    fflush(stderr);
    progress.drawn = 1;
}

void fpl_cli_progress_end(void) {
    if (progress.drawn) fputc('\n', stderr);
    progress.drawn = 0;
    progress.begun = 0.0;
}

/* ---- signals --------------------------------------------------------------------------- */

/* The first signal asks for a checkpoint at the next step. A step may be long: the same again
 * after some seconds ends at once (soon after, it is taken for an echo: timeout(1) and Slurm
 * send twice). Only functions that are safe in a handler. */
static void remember_signal(int number) {
    static volatile time_t first;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (fpl_cli_signal == 0) {
        fpl_cli_signal = number;
        first = t.tv_sec;
    } else if (t.tv_sec - first > 2) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

void fpl_cli_catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = remember_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}
