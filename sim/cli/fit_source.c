/* fit_source.c - FIT.json or LAW:PRESET as fits (fit_source.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fit_source.h"

enum fpl_code fpl_cli_fits(const char *source, struct fpl_fit ***fits, size_t *count, struct fpl_error *err) {
    /* LAW:PRESET has no path separator and a law before its colon. */
    const char *colon = strchr(source, ':');
    char name[32] = "";
    if (colon != NULL && colon - source < 30)
        snprintf(name, sizeof name, "%.*s", (int)(colon - source), source);
    if (fpl_law_find(name) == NULL) return fpl_fits_read(source, fits, count, err);
    *fits = calloc(1, sizeof **fits);
    if (*fits == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    const enum fpl_code code = fpl_law_preset(source, &(*fits)[0], err);
    *count = code == FPL_OK;
    return code;
}
