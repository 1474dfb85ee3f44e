/* fitread.h - between the two files that read FIT.json. */
#ifndef FPL_LAW_FITREAD_H
#define FPL_LAW_FITREAD_H

#include <jansson.h>

#include "fitting.h"

/* Findings, held-out cells, bases tried, profiles; after the law and its parameters are known. */
void fpl_fit_read_told(const json_t *law, struct fpl_fit *fit);

#endif
