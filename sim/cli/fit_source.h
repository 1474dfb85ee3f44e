/* fit_source.h - where a command's law comes from: FIT.json or published constants (LAW:PRESET). */
#ifndef FPL_CLI_FIT_SOURCE_H
#define FPL_CLI_FIT_SOURCE_H

#include "../law/law.h"

/* All fits of a source.  A text whose part before its first colon names a law is LAW:PRESET. */
enum fpl_code fpl_cli_fits(const char *source, struct fpl_fit ***fits, size_t *count, struct fpl_error *err);

#endif
