/* weights.cu - the table of quantized weights (weights.h): a model has a few dozen, so it is a list. */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

struct fpl_cuda_weights_list {
    struct fpl_cuda_weights *entry;
    int count, room;
};

static void out_of_memory(struct fpl_device *dev) {
    if (!fpl_cuda_failed(dev)) fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
}

static int same_operand(const struct fpl_operand *a, const struct fpl_operand *b) {
    return a->hadamard == b->hadamard && memcmp(&a->plan, &b->plan, sizeof a->plan) == 0 &&
           memcmp(&a->at, &b->at, sizeof a->at) == 0;
}

static int holds(const struct fpl_cuda_weights *e, const struct fpl_gemm *g) {
    int same = e->valid && e->rows == g->O && e->cols == g->I && e->version == g->weights_version;
    for (int r = 0; same && r < g->R; r++) same = same_operand(&e->operands[r], &g->qb[r]);
    return same;
}

static struct fpl_cuda_weights *add(struct fpl_device *dev) {
    if (dev->weights == NULL) dev->weights = (struct fpl_cuda_weights_list *)calloc(1, sizeof *dev->weights);
    struct fpl_cuda_weights_list *l = dev->weights;
    if (l != NULL && l->count == l->room) {
        const int room = l->room == 0 ? 64 : 2 * l->room;
        void *bigger = realloc(l->entry, (size_t)room * sizeof *l->entry);
        if (bigger != NULL) l->entry = (struct fpl_cuda_weights *)bigger, l->room = room;
    }
    if (l == NULL || l->count == l->room) {
        out_of_memory(dev);
        return NULL;
    }
    struct fpl_cuda_weights *e = &l->entry[l->count++];
    memset(e, 0, sizeof *e);
    return e;
}

static struct fpl_cuda_weights *entry_of(struct fpl_device *dev, const struct fpl_gemm *g) {
    const struct fpl_cuda_weights_list *l = dev->weights;
    for (int i = 0; l != NULL && i < l->count; i++) {
        struct fpl_cuda_weights *e = &l->entry[i];
        if (e->w == g->b && e->role == (int)g->role && e->R == g->R) return e;
    }
    struct fpl_cuda_weights *e = add(dev);
    if (e == NULL) return NULL;
    e->w = g->b;
    e->role = (int)g->role;
    e->R = g->R;
    e->operands = (struct fpl_operand *)calloc((size_t)g->R, sizeof *e->operands);
    e->nonfinite = (int64_t *)fpl_cuda_alloc(dev, (size_t)g->R * sizeof *e->nonfinite);
    e->misfit = (int32_t *)fpl_cuda_alloc(dev, (size_t)g->R * sizeof *e->misfit);
    e->amax = (unsigned *)fpl_cuda_alloc(dev, (size_t)g->R * sizeof *e->amax);
    if (e->operands == NULL) out_of_memory(dev);
    return e;
}

struct fpl_cuda_weights *fpl_cuda_weights_find(struct fpl_device *dev, const struct fpl_gemm *g,
                                               enum fpl_cuda_carrier carrier) {
    const size_t bytes = (size_t)g->R * (size_t)(g->O * g->I) * fpl_cuda_carrier_bytes(carrier);
    struct fpl_cuda_weights *e = entry_of(dev, g);
    if (e == NULL || fpl_cuda_failed(dev)) return NULL;
    if (e->carrier == carrier && holds(e, g)) return e;
    e->valid = 0;
    if (e->bytes < bytes) {
        fpl_cuda_free(dev, e->values);
        e->values = (float *)fpl_cuda_alloc(dev, bytes);
        e->bytes = e->values != NULL ? bytes : 0;
    }
    const size_t factors = (size_t)g->R * (size_t)(g->O > g->I ? g->O : g->I);
    if (e->factors < factors) {
        fpl_cuda_free(dev, e->factor);
        e->factor = (float *)fpl_cuda_alloc(dev, factors * sizeof *e->factor);
        e->factors = e->factor != NULL ? factors : 0;
    }
    e->carrier = carrier;
    e->rows = g->O;
    e->cols = g->I;
    e->version = g->weights_version;
    for (int r = 0; r < g->R; r++) {
        e->operands[r] = g->qb[r];
    }
    fpl_cuda_zero(dev, e->nonfinite, (size_t)g->R * sizeof *e->nonfinite);
    fpl_cuda_zero(dev, e->amax, (size_t)g->R * sizeof *e->amax);
    fpl_cuda_zero(dev, e->misfit, (size_t)g->R * sizeof *e->misfit);
    return fpl_cuda_failed(dev) ? NULL : e;
}

void fpl_cuda_weights_forget(struct fpl_device *dev, const void *from, size_t bytes) {
    const struct fpl_cuda_weights_list *l = dev->weights;
    const uintptr_t first = (uintptr_t)from, most = bytes == 0 ? 1 : bytes;
    for (int i = 0; l != NULL && from != NULL && i < l->count; i++) {
        struct fpl_cuda_weights *e = &l->entry[i];
        const uintptr_t w = (uintptr_t)e->w;
        const uintptr_t end = w + (size_t)(e->R * e->rows * e->cols) * sizeof(float);
        /* The size of a released allocation is not known: all weights at or after its start go. */
        if (bytes == 0 ? w >= first : w < first + most && first < end) e->valid = 0;
    }
}

void fpl_cuda_weights_free(struct fpl_device *dev) {
    struct fpl_cuda_weights_list *l = dev->weights;
    for (int i = 0; l != NULL && i < l->count; i++) {
        free(l->entry[i].operands);
        (void)cudaFree(l->entry[i].values);
        (void)cudaFree(l->entry[i].nonfinite);
        (void)cudaFree(l->entry[i].amax);
        (void)cudaFree(l->entry[i].misfit);
        (void)cudaFree(l->entry[i].factor);
    }
    if (l != NULL) free(l->entry);
    free(l);
    dev->weights = NULL;
}
