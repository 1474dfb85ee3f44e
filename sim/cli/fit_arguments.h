/* fit_arguments.h - the words of `fplaw fit`'s command line, and what they mean. */
#ifndef FPL_CLI_FIT_ARGUMENTS_H
#define FPL_CLI_FIT_ARGUMENTS_H

#include "../law/law.h"

#define FIT_LAWS 32
#define FIT_COLUMNS 64

struct fit_arguments {
    const char *input, *out, *laws, *where[FIT_COLUMNS], *column[FIT_COLUMNS + 1];
    const char *hold_out, *delta, *bootstrap, *threads, *seed, *window, *level;
    const char *objective, *weights, *unit, *profile, *base, *fix, *release;
    int inputs, wheres, columns, regret, censor;
};

/* Options of a fit; errors name the option, what was found and what is accepted. */
enum fpl_code fit_take_options(const struct fit_arguments *a, struct fpl_fit_options *o,
                               struct fpl_error *err);
/* "NAME[,NAME...]" to at most FIT_LAWS laws. */
enum fpl_code fit_take_laws(const char *text, const struct fpl_law **laws, size_t *count,
                            struct fpl_error *err);

#endif
