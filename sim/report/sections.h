/* sections.h - the report's text and tables; figures.h has the drawings. */
#ifndef FPL_SECTIONS_H
#define FPL_SECTIONS_H

#include <jansson.h>

#include "../law/law.h"
#include "report.h"

#define FPL_REPORT_FITS 16 /* FIT.json files in one report */

struct fpl_fit_file {
    char path[1024];
    json_t *json; /* as read */
    struct fpl_fit **fits;
    size_t count;
};

struct fpl_report_inputs {
    char name[600];   /* first study's directory, "" if none */
    char *study_text; /* its study.yaml, NULL if none */
    struct fpl_runs runs;
    struct fpl_fit_file fit_file[FPL_REPORT_FITS];
    size_t fit_files;
};

void fpl_report_title(const struct fpl_report_inputs *in, char *buf, size_t size);
void fpl_section_asked(struct fpl_text *t, const struct fpl_report_inputs *in);
void fpl_section_ranking(struct fpl_text *t, const struct fpl_ranking *r);
/* Critical data size and tuned optimum for the study's formats and sizes, by one fit. */
void fpl_section_critical(struct fpl_text *t, const struct fpl_report_inputs *in, const struct fpl_fit *fit);
/* Fitted parameters with intervals beside published values. */
void fpl_section_constants(struct fpl_text *t, const struct fpl_report_inputs *in);
/* The fitted floor beside the entropy of the data (NaN: unknown). */
void fpl_section_floor(struct fpl_text *t, const struct fpl_report_inputs *in, double entropy);
/* A law's heading: formula, source and what its fit says of itself. */
void fpl_section_law(struct fpl_text *t, const struct fpl_fit *fit, const char *path);
void fpl_section_runs(struct fpl_text *t, const struct fpl_runs *runs);

#endif
