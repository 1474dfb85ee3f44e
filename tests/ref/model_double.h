/* model_double.h - the model of sim/model compiled a second time with FPL_REAL=double.
 *
 * The copy lives in a shared library whose symbols are hidden (libmodel_double), so that a
 * test can hold it and the program's float32 model in one process.  What crosses is this
 * table of functions and types without fpl_real.  Two kernel tables serve it:
 *
 *   reference  plain loops in double (reference.h)
 *   perturbed  the same with errors as large as float32's (perturbed.h)
 */
#ifndef FPL_TEST_MODEL_DOUBLE_H
#define FPL_TEST_MODEL_DOUBLE_H

#include "../../sim/model/model.h"

struct double_model;

struct double_model_api {
    struct double_model *(*create)(const struct fpl_model_shape *shape,
                                   const struct fpl_model_replica *replicas, int perturbed,
                                   struct fpl_error *err);
    void (*destroy)(struct double_model *m);

    int64_t (*elements)(const struct double_model *m); /* of the flat buffers */
    /* Device memory is the host's: write, then call changed. */
    double *(*parameters)(const struct double_model *m);
    const double *(*gradients)(const struct double_model *m);
    void (*changed)(struct double_model *m);

    void (*evaluate)(struct double_model *m, const struct fpl_batch *batch, double *losses);
    /* forward, then backward */
    void (*train)(struct double_model *m, const struct fpl_batch *batch, int accumulate, double *losses);
};

extern const struct double_model_api double_model_api;

#endif
