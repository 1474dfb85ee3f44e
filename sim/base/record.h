/* record.h - what is kept of one run.  Stored as JSON text (record_json), doubles with 17
 * digits, NaN as null. */
#ifndef FPL_RECORD_H
#define FPL_RECORD_H

#include <stdint.h>

#include "../../formats/error.h"
#include "diagnosis.h"

enum fpl_status { FPL_RUN_OK, FPL_RUN_DIVERGED, FPL_RUN_COLLAPSED, FPL_RUN_STOPPED, FPL_RUN_STATUSES };
extern const char *const fpl_status_names[FPL_RUN_STATUSES + 1]; /* ok diverged collapsed stopped */

struct fpl_point {
    int64_t step;
    double loss, se, grad_norm;
};

struct fpl_record {
    enum fpl_status status;
    char why[160]; /* for a run that is not ok: what was seen, with the step */
    char id[17];
    char *canonical;      /* malloced: the configuration's canonical text */
    double N, D;          /* D as trained (steps done * batch_tokens) */
    int64_t steps;        /* done */
    double loss, loss_se; /* held-out, nats per token; NaN unless evaluated */
    double oracle;        /* of the same sample, NaN where unknown */
    double entropy_rate, unigram_entropy;
    int64_t spikes;      /* steps whose gradient norm exceeded ten times its running mean */
    int64_t nonfinite;   /* quantized operands' non-finite inputs over the whole run */
    int64_t curve_count; /* training loss and gradient norm before clipping, <= 512 points */
    struct fpl_point *curve;
    int64_t eval_count; /* evaluations on the way */
    struct fpl_point *eval;
    int64_t diagnosis_count; /* of quantized operands, in order of step, layer, operand; 0: not asked for */
    struct fpl_diagnosis_point *diagnosis;
    /* measured, not deterministic */
    double seconds, tokens_per_second, flop, peak_bytes, joules; /* joules NaN where unknown */
    int pack; /* runs that began side by side; 1: alone */
    /* what ran */
    char backend[16], variants[224], simd[16], host[64], cpu[80], compiler[80], revision[48];
    int numerics;
};

void fpl_record_free(struct fpl_record *r);
/* JSON text, malloced. */
char *fpl_record_to_json(const struct fpl_record *r);
enum fpl_code fpl_record_from_json(const char *text, struct fpl_record *r, struct fpl_error *err);

#endif
