/* weights.h - quantized weights that outlive one call (kernels.h, weights_version).
 *
 * An entry belongs to (address, role, number of replicas) and is valid for one version, shape and
 * operands; anything else is a miss that reuses its memory.  Memory that is released, uploaded to or
 * zeroed invalidates what was made from it.  What a call must do beside reading the values - count
 * non-finite inputs, note the amax of delayed scaling - is kept with them, so that a hit leaves the
 * traces of a miss.
 */
#ifndef FPL_CUDA_WEIGHTS_H
#define FPL_CUDA_WEIGHTS_H

#include "carrier.h"
#include "device.h"

struct fpl_cuda_weights {
    const float *w; /* key */
    int role, R;
    int64_t rows, cols; /* validity */
    uint64_t version;
    struct fpl_operand *operands; /* host [R] */
    int valid;
    enum fpl_cuda_carrier carrier; /* of values */
    float *values;                 /* device [R, rows, cols], elements of `carrier` */
    size_t bytes;
    int64_t *nonfinite; /* device [R] */
    int32_t *misfit;    /* device [R] (carried.h) */
    float *factor;      /* device [R, larger of rows and cols] */
    size_t factors;
    unsigned *amax; /* device [R]: bits; of operands with delayed scaling */
};

/* The entry for this weight, its memory ready; `valid` says whether it holds the values.  NULL keeps an
 * error. */
struct fpl_cuda_weights *fpl_cuda_weights_find(struct fpl_device *dev, const struct fpl_gemm *g,
                                               enum fpl_cuda_carrier carrier);

/* Everything made from [from, from + bytes) is stale; bytes 0: from the allocation at `from`. */
void fpl_cuda_weights_forget(struct fpl_device *dev, const void *from, size_t bytes);
void fpl_cuda_weights_free(struct fpl_device *dev);

#endif
