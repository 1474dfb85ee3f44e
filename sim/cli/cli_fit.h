/* cli_fit.h - the part of `fplaw fit` that lives in a file of its own. */
#ifndef FPL_CLI_FIT_H
#define FPL_CLI_FIT_H

#include "../law/law.h"

/* --regret: the table to standard output (standard error where out is "-"), its figures to out. */
enum fpl_code fpl_cli_regret(const char *out, const struct fpl_runs *runs,
                             const struct fpl_fit_options *options, struct fpl_error *err);

#endif
