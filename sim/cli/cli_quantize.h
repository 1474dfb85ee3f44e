/* cli_quantize.h - inside of `fplaw quantize`: what was asked, what came out.
 *
 * cli_quantize.c         arguments and order of work
 * cli_quantize_files.c   one quantizer over one file: sweeps, and OUT
 * cli_quantize_report.c  the line, the table and the JSON
 * cli_quantize_draw.c    histograms in the terminal and as SVG
 */
#ifndef FPL_CLI_QUANTIZE_H
#define FPL_CLI_QUANTIZE_H

#include <stdint.h>
#include <stdio.h>

#include "../tensor/sweep.h"

/* What became of one tensor, or of all that were selected. */
struct quantize_result {
    struct fpl_measure sums;
    int64_t changed; /* values that F16 or BF16 rounded once more */
};

struct quantize_target {
    struct fpl_quantizer quantizer;
    char text[FPL_QUANTIZER_TEXT]; /* canonical */
    char *out;                     /* file name; NULL: none */
    struct quantize_result total;
    struct quantize_result *tensors; /* [container.count]; of selected ones */
    struct fpl_exponents *exponents; /* NULL: not asked for */
};

struct quantize_job {
    const char *in;
    struct fpl_container container;
    uint8_t *selected; /* [container.count] */
    size_t selected_count;
    int64_t elements;               /* of the selected, once */
    int64_t shape_rows, shape_cols; /* 0: as the file says */
    uint64_t seed;
    int threads, codes;
    struct quantize_target *targets;
    size_t count;
    int64_t done; /* elements, for progress */
};

/* One quantizer over the file, OUT written whole or not at all. */
enum fpl_code quantize_file(struct quantize_job *job, struct quantize_target *target, struct fpl_error *err);

/* On standard error, for one quantizer of one array with OUT. */
void quantize_print_line(const struct quantize_target *target, const struct fpl_container *c);
/* One row per quantizer and tensor, then totals. */
void quantize_print_table(FILE *f, const struct quantize_job *job);
/* One object; FPL_SYSTEM without memory. */
enum fpl_code quantize_print_json(const struct quantize_job *job, struct fpl_error *err);

/* Exponents of the inputs, and which became zero. */
void quantize_draw(FILE *f, const struct quantize_target *target);
enum fpl_code quantize_write_svg(const struct quantize_job *job, const char *path, struct fpl_error *err);

#endif
