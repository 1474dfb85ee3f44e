/* diagnosis.h - what quantizing did to one operand at one step, as records keep it.
 *
 * Definitions: formats/measure.h.  A point covers all micro-batches of its step.
 */
#ifndef FPL_DIAGNOSIS_H
#define FPL_DIAGNOSIS_H

#include <jansson.h>
#include <stdint.h>

#include "../../formats/error.h"

struct fpl_diagnosis_point {
    int64_t step;     /* 1, 2, ...: as the curve counts */
    int64_t layer;    /* 0, 1, ... */
    char operand[32]; /* "qkv.fwd.x", "attention.scores.q", ... (model.h) */
    int64_t elements, nonfinite;
    double sqnr_db, underflow, clipped, amax; /* sqnr_db: Inf without error, NaN without signal */
    int64_t least, bins;                      /* histogram of floor(log2 |x|), x finite, not 0: */
    int64_t *count;                           /* malloced [bins]: of exponents least, least + 1, ... */
};

void fpl_diagnosis_free(struct fpl_diagnosis_point *points, int64_t count);

/* [[step, layer, operand, elements, nonfinite, sqnr_db, underflow, clipped, amax, least,
 * [count, ...]], ...]; NULL: out of memory. */
json_t *fpl_diagnosis_to_json(const struct fpl_diagnosis_point *points, int64_t count);
enum fpl_code fpl_diagnosis_from_json(const json_t *list, struct fpl_diagnosis_point **points, int64_t *count,
                                      struct fpl_error *err);
/* The same as text, malloced. */
char *fpl_diagnosis_to_text(const struct fpl_diagnosis_point *points, int64_t count);
enum fpl_code fpl_diagnosis_from_text(const char *text, struct fpl_diagnosis_point **points, int64_t *count,
                                      struct fpl_error *err);

/* Lines of a CSV; the header has a line break at its end:
 * run,step,layer,operand,elements,nonfinite,sqnr_db,underflow,clipped,amax,exponents
 * Doubles have 17 digits, NaN is nan; exponents is "least:count count ...". Malloced text. */
extern const char fpl_diagnosis_header[];
char *fpl_diagnosis_to_csv(const char *run, const struct fpl_diagnosis_point *points, int64_t count);

#endif
