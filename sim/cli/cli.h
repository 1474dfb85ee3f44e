/* cli.h - the only layer that prints or exits.  One row of fpl_commands per command; each
 * command lives in cli_<name>.c, parses with argp and returns an exit status:
 * 0 done, 1 environment or not converged, 2 wrong arguments or input, 3 regression,
 * 130 and 143 after SIGINT and SIGTERM.
 */
#ifndef FPL_CLI_H
#define FPL_CLI_H

#include <argp.h>
#include <signal.h>

#include "../../formats/error.h"

struct fpl_command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
};
extern const struct fpl_command fpl_commands[]; /* last row has name NULL */

/* One line on standard error, "fplaw: ..."; returns the exit status of the code. */
int fpl_cli_fail(const struct fpl_error *err);

/* What this build is: version and source revision, for records and FIT.json. */
extern const char *const fpl_cli_version, *const fpl_cli_revision;

/* Flush standard output; a failed write (full disk, closed pipe) turns status 0 into 1. */
int fpl_cli_flush(int status);

/* argp_parse with fplaw's conventions: --help on standard output and exit 0, any error one
 * line and exit 2, options not in argp's default list (no --version here).
 * Returns 0 to go on. */
int fpl_cli_parse(const struct argp *argp, int argc, char **argv, void *input);

/* Progress on standard error: a bar with remaining time on a terminal, else a plain line at
 * most every ten seconds. done in [0, 1]. */
void fpl_cli_progress(double done, const char *text);
void fpl_cli_progress_end(void);

/* Installs handlers for SIGINT and SIGTERM that set fpl_cli_signal. */
void fpl_cli_catch_signals(void);
extern volatile sig_atomic_t fpl_cli_signal;

int fpl_cmd_formats(int argc, char **argv);
int fpl_cmd_quantize(int argc, char **argv);
int fpl_cmd_data(int argc, char **argv);
int fpl_cmd_train(int argc, char **argv);
int fpl_cmd_study(int argc, char **argv);
int fpl_cmd_fit(int argc, char **argv);
int fpl_cmd_predict(int argc, char **argv);
int fpl_cmd_plan(int argc, char **argv);
int fpl_cmd_report(int argc, char **argv);
int fpl_cmd_bench(int argc, char **argv);
int fpl_cmd_worker(int argc, char **argv); /* hidden: study's child process */

#endif
