/* memory.c - a model's life: every buffer is allocated once, here, and released here.
 *
 * Device buffers go through take(), which keeps them in one list; a failed allocation is
 * kept by the device and reported once at the end of creation.  No call of a training step
 * allocates.  The largest is what attention keeps of a block, on a CPU
 * [R, B, H, T, T]; activations of all blocks together take about
 * R n (L (11 C + 3 F + H T) + 8 C + 3 F + 2 V) elements then.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../base/detmath.h"
#include "internal.h"

#define BLOCK_BUFFERS 11
#define OTHER_BUFFERS 24

void fpl_model_changed(struct fpl_model *m) {
    /* A backend may cache quantized weights by (address, version): versions must differ
     * between models that lived at one address. Results do not depend on their values. */
    static atomic_uint_least64_t versions;
    m->version = atomic_fetch_add(&versions, 1) + 1;
}

/* Without a device only counts. */
static void *take(struct fpl_model *m, int64_t count, size_t size) {
    m->bytes += (size_t)count * size;
    void *p = m->dev != NULL ? m->k->alloc(m->dev, (size_t)count * size) : NULL;
    if (p != NULL) m->owned[m->owned_count++] = p;
    return p;
}

static fpl_real *take_reals(struct fpl_model *m, int64_t count) { return take(m, count, sizeof(fpl_real)); }

static void take_block(struct fpl_model *m, struct fpl_block_activations *b, int64_t kept) {
    const struct fpl_model_shape *s = &m->shape;
    const int64_t rows = s->R * s->micro_sequences * s->seq; /* R n */
    b->h = take_reals(m, rows * s->width);
    b->normed = take_reals(m, rows * s->width);
    b->rstd = take_reals(m, rows);
    b->qkv = take_reals(m, rows * 3 * s->width);
    b->kept = take_reals(m, kept);
    b->attended = take_reals(m, rows * s->width);
    b->h_ffn = take_reals(m, rows * s->width);
    b->normed_ffn = take_reals(m, rows * s->width);
    b->rstd_ffn = take_reals(m, rows);
    b->gate_up = take_reals(m, rows * 2 * s->ffn);
    b->activated = take_reals(m, rows * s->ffn);
}

/* quantized: some replica quantizes attention's products. */
static void take_all(struct fpl_model *m, int quantized) {
    const struct fpl_model_shape *s = &m->shape;
    const int64_t kept =
        m->k->attention_kept(s->micro_sequences, s->seq, s->heads, s->width / s->heads, quantized);
    const int64_t rows = s->R * s->micro_sequences * s->seq; /* R n */
    const int64_t angles = s->seq * (s->width / s->heads / 2);
    fpl_real **const flat[] = {&m->state.parameters, &m->state.gradients, &m->state.moment1,
                               &m->state.moment2};
    fpl_real **const wide[] = {&m->h_final, &m->normed_final, &m->delta, &m->dh, &m->dnormed, &m->dattended};
    for (size_t i = 0; i < sizeof flat / sizeof flat[0]; i++)
        *flat[i] = take_reals(m, (int64_t)m->state.elements);
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) *wide[i] = take_reals(m, rows * s->width);
    m->cosines = take_reals(m, angles);
    m->sines = take_reals(m, angles);
    m->inputs = take(m, rows, sizeof *m->inputs);
    m->targets = take(m, rows, sizeof *m->targets);
    m->rstd_final = take_reals(m, rows);
    m->logits = take_reals(m, rows * s->vocab);
    m->losses = take(m, rows, sizeof *m->losses);
    m->sqnorm = take(m, s->R, sizeof *m->sqnorm);
    m->nonfinite = take(m, s->R, sizeof *m->nonfinite);
    m->dqkv = take_reals(m, rows * 3 * s->width);
    m->dgate_up = take_reals(m, rows * 2 * s->ffn);
    m->dactivated = take_reals(m, rows * s->ffn);
    for (int64_t l = 0; l < s->layers; l++) take_block(m, &m->block[l], s->R * kept);
}

/* Angles t * base^(-2i/D), computed in double. */
static enum fpl_code init_rotary(struct fpl_model *m, struct fpl_error *err) {
    const int64_t T = m->shape.seq, half = m->shape.width / m->shape.heads / 2;
    const size_t bytes = (size_t)(T * half) * sizeof(fpl_real);
    fpl_real *table = malloc(2 * bytes);
    if (table == NULL) return fpl_fail(err, FPL_SYSTEM, "model: no memory for rotary positions");
    for (int64_t i = 0; i < half; i++) {
        const double rate = fpl_det_exp(-fpl_det_log(FPL_ROTARY_BASE) * (double)i / (double)half);
        for (int64_t t = 0; t < T; t++) {
            double sine, cosine;
            fpl_det_sincos((double)t * rate, &sine, &cosine);
            table[t * half + i] = (fpl_real)cosine;
            table[T * half + t * half + i] = (fpl_real)sine;
        }
    }
    m->k->upload(m->dev, m->cosines, table, bytes);
    m->k->upload(m->dev, m->sines, table + T * half, bytes);
    free(table);
    return FPL_OK;
}

static enum fpl_code check_shape(const struct fpl_model_shape *s, struct fpl_error *err) {
    const int64_t limit = (int64_t)1 << 24; /* products of three sizes stay far below 2^63 */
    const int64_t sizes[] = {s->R,   s->layers, s->width, s->heads,
                             s->ffn, s->vocab,  s->seq,   s->micro_sequences};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i] < 1 || sizes[i] > limit)
            return fpl_fail(err, FPL_INVALID, "model: a size is %lld, accepted are 1 to %lld",
                            (long long)sizes[i], (long long)limit);
    if (s->width % s->heads != 0 || s->width / s->heads % 2 != 0)
        return fpl_fail(
            err, FPL_INVALID,
            "model: width %lld over %lld heads gives no even head width, which rotary positions need",
            (long long)s->width, (long long)s->heads);
    return FPL_OK;
}

size_t fpl_model_bytes(const struct fpl_model_shape *shape, const struct fpl_kernels *kernels,
                       int quantizes_attention) {
    struct fpl_model m = {.shape = *shape, .k = kernels};
    if (check_shape(shape, NULL) != FPL_OK) return 0;
    m.block = calloc((size_t)shape->layers, sizeof *m.block);
    if (m.block != NULL && fpl_parameters_layout(&m, NULL) == FPL_OK) take_all(&m, quantizes_attention);
    free(m.block);
    free(m.parameter);
    free(m.segment);
    free(m.offsets);
    return m.bytes;
}

enum fpl_code fpl_model_create(const struct fpl_model_shape *shape, const struct fpl_model_replica *replicas,
                               const struct fpl_kernels *kernels, struct fpl_device *dev,
                               struct fpl_model **out, struct fpl_error *err) {
    *out = NULL;
    enum fpl_code code = check_shape(shape, err);
    if (code != FPL_OK) return code;
    struct fpl_model *m = calloc(1, sizeof *m);
    if (m == NULL) return fpl_fail(err, FPL_SYSTEM, "model: no memory");
    m->shape = *shape;
    m->k = kernels;
    m->dev = dev;
    m->seeds = calloc((size_t)shape->R, sizeof *m->seeds);
    m->block = calloc((size_t)shape->layers, sizeof *m->block);
    m->owned = calloc((size_t)shape->layers * BLOCK_BUFFERS + OTHER_BUFFERS, sizeof *m->owned);
    if (m->seeds == NULL || m->block == NULL || m->owned == NULL) {
        fpl_model_destroy(m);
        return fpl_fail(err, FPL_SYSTEM, "model: no memory for %lld blocks", (long long)shape->layers);
    }
    int quantized = 0;
    for (int r = 0; r < shape->R; r++) {
        m->seeds[r] = replicas[r].seed;
        quantized |= fpl_recipe_quantizes_attention(replicas[r].recipe);
    }
    code = fpl_parameters_layout(m, err);
    if (code == FPL_OK) take_all(m, quantized);
    if (code == FPL_OK) code = kernels->check(dev, err);
    if (code == FPL_OK) code = init_rotary(m, err);
    if (code == FPL_OK) code = fpl_operands_init(m, replicas, err);
    if (code == FPL_OK) code = fpl_state_init(m, replicas, err);
    if (code == FPL_OK) code = fpl_parameters_init(m, err);
    if (code == FPL_OK) code = kernels->check(dev, err);
    if (code == FPL_OK)
        *out = m;
    else
        fpl_model_destroy(m);
    return code;
}

void fpl_model_destroy(struct fpl_model *m) {
    if (m == NULL) return;
    for (size_t i = 0; i < m->owned_count; i++) m->k->release(m->dev, m->owned[i]);
    free(m->owned);
    free(m->block);
    free(m->seeds);
    free(m->parameter);
    free(m->segment);
    free(m->offsets);
    free(m->operand);
    free(m->identity);
    free(m->masked);
    free(m->accumulator);
    free(m->clips);
    free(m->attention);
    free(m->optimizer);
    free(m->delays);
    free(m->diagnosis);
    free(m);
}
