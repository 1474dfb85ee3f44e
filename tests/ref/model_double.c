/* model_double.c - the functions of model_double.h; compiled with FPL_REAL=double. */
#include "model_double.h"

#include <stdlib.h>

#include "perturbed.h"
#include "reference.h"

_Static_assert(sizeof(fpl_real) == sizeof(double), "compile model_double.c with FPL_REAL=double");

struct double_model {
    const struct fpl_kernels *kernels;
    struct fpl_device *dev;
    struct fpl_model *model;
};

static void destroy(struct double_model *m) {
    if (!m) return;
    fpl_model_destroy(m->model);
    if (m->dev) m->kernels->close(m->dev);
    free(m);
}

static struct double_model *create(const struct fpl_model_shape *shape,
                                   const struct fpl_model_replica *replicas, int perturbed,
                                   struct fpl_error *err) {
    struct double_model *m = calloc(1, sizeof *m);
    const struct fpl_device_options options = {.threads = 1};
    if (!m) return NULL;
    m->kernels = perturbed ? &perturbed_kernels : &reference_kernels;
    if (m->kernels->open(&m->dev, &options, err) == FPL_OK &&
        fpl_model_create(shape, replicas, m->kernels, m->dev, &m->model, err) == FPL_OK)
        return m;
    destroy(m);
    return NULL;
}

static int64_t elements(const struct double_model *m) { return (int64_t)fpl_model_state(m->model).elements; }
static double *parameters(const struct double_model *m) { return fpl_model_state(m->model).parameters; }
static const double *gradients(const struct double_model *m) { return fpl_model_state(m->model).gradients; }
static void changed(struct double_model *m) { fpl_model_changed(m->model); }

static void evaluate(struct double_model *m, const struct fpl_batch *batch, double *losses) {
    fpl_model_evaluate(m->model, batch, losses);
}

static void train(struct double_model *m, const struct fpl_batch *batch, int accumulate, double *losses) {
    fpl_model_forward(m->model, batch, losses);
    fpl_model_backward(m->model, batch, accumulate);
}

__attribute__((visibility("default"))) const struct double_model_api double_model_api = {
    .create = create,
    .destroy = destroy,
    .elements = elements,
    .parameters = parameters,
    .gradients = gradients,
    .changed = changed,
    .evaluate = evaluate,
    .train = train,
};
