/* parameters.c - the model's tensors: layout in the flat buffers and initial values.
 *
 * Order: embedding, all norm gains, all matrices of the blocks, head.  Gradients of the
 * first two are only ever added to by kernels, so they lie together at the front and one
 * call clears them; gradients of matrices are overwritten by a step's first micro-batch.
 *
 * Initial values: gains 1; matrices normal with standard deviation init_std (0.5/sqrt(C)
 * by default), those that write to the residual stream (attention output, down) times
 * 1/sqrt(2L), so that the stream's variance does not grow with depth (GPT-2).
 *
 * Elements 2b and 2b+1 of a tensor are the Box-Muller pair of Philox block b under stream
 * kind FPL_STREAM_WEIGHTS, low bits 0 embedding, 1 head, 2 + 4 layer + linear; key: the
 * replica's seed.  Values are rounded to float32 under any fpl_real, so that the double
 * build of the tests starts from the same weights.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../formats/random.h"
#include "../base/detmath.h"
#include "internal.h"

#define ALIGNMENT FPL_MODEL_ALIGNMENT
#define HEAD_STREAM 1u
#define BLOCK_STREAM 2u

const char *const fpl_linear_names[FPL_LINEARS] = {"qkv", "attention_out", "gate_up", "down"};

void fpl_linear_shape(const struct fpl_model_shape *s, enum fpl_linear linear, int64_t *O, int64_t *I) {
    switch (linear) {
    case FPL_QKV:
        *O = 3 * s->width, *I = s->width;
        break;
    case FPL_GATE_UP:
        *O = 2 * s->ffn, *I = s->width;
        break;
    case FPL_DOWN:
        *O = s->width, *I = s->ffn;
        break;
    default:
        *O = s->width, *I = s->width;
        break;
    }
}

/* Append a tensor and return its offset. layer < 0: not in a block. */
static int64_t add(struct fpl_model *m, int64_t layer, const char *name, int64_t rows, int64_t cols,
                   int64_t *end) {
    struct fpl_parameter *p = &m->parameter[m->parameter_count];
    if (layer < 0)
        snprintf(p->name, sizeof p->name, "%s", name);
    else
        snprintf(p->name, sizeof p->name, "block%lld.%s", (long long)layer, name);
    p->rows = rows;
    p->cols = cols;
    p->segment = (struct fpl_segment){.offset = *end, .size = rows * cols, .decay = rows > 1, .cols = cols};
    m->segment[m->parameter_count++] = p->segment;
    *end += (m->shape.R * rows * cols + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return p->segment.offset;
}

enum fpl_code fpl_parameters_layout(struct fpl_model *m, struct fpl_error *err) {
    const struct fpl_model_shape *s = &m->shape;
    const size_t count = 3 + (size_t)s->layers * (2 + FPL_LINEARS);
    int64_t end = 0;
    m->parameter = calloc(count, sizeof *m->parameter);
    m->segment = calloc(count, sizeof *m->segment);
    m->offsets = calloc((size_t)s->layers, sizeof *m->offsets);
    if (m->parameter == NULL || m->segment == NULL || m->offsets == NULL)
        return fpl_fail(err, FPL_SYSTEM, "model: no memory for %zu parameter descriptions", count);

    m->embedding = add(m, -1, "embedding", s->vocab, s->width, &end);
    for (int64_t l = 0; l < s->layers; l++) {
        m->offsets[l].attention_norm = add(m, l, "attention_norm", 1, s->width, &end);
        m->offsets[l].ffn_norm = add(m, l, "ffn_norm", 1, s->width, &end);
    }
    m->final_norm = add(m, -1, "final_norm", 1, s->width, &end);
    m->summed = end;
    for (int64_t l = 0; l < s->layers; l++)
        for (int i = 0; i < FPL_LINEARS; i++) {
            int64_t O, I;
            fpl_linear_shape(s, (enum fpl_linear)i, &O, &I);
            m->offsets[l].linear[i] = add(m, l, fpl_linear_names[i], O, I, &end);
        }
    m->head = add(m, -1, "head", s->vocab, s->width, &end);
    m->state.elements = (size_t)end;
    return FPL_OK;
}

#define WORTH_THREADS 4096 /* elements of a matrix that several threads fill */

/* w[size] = std * normal deviates of (seed, stream). */
static void fill_normal(fpl_real *w, int64_t size, double std, uint64_t seed, uint32_t stream, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && size > WORTH_THREADS)
    for (int64_t i = 0; i < size; i += 2) {
        uint32_t word[4];
        double sine, cosine;
        fpl_random_block(seed, (uint64_t)i / 2, 0, stream, word);
        const double u = 1.0 - fpl_random_uniform(word[0], word[1]); /* (0, 1] */
        const double radius = std * sqrt(-2.0 * fpl_det_log(u));
        fpl_det_sincos(2.0 * 3.14159265358979323846 * fpl_random_uniform(word[2], word[3]), &sine, &cosine);
        w[i] = (fpl_real)(float)(radius * cosine);
        if (i + 1 < size) w[i + 1] = (fpl_real)(float)(radius * sine);
    }
}

static void init_matrix(const struct fpl_model *m, fpl_real *all, int64_t offset, int64_t size, double std,
                        uint32_t low) {
    const int R = m->shape.R, threads = m->shape.threads > 0 ? m->shape.threads : 1;
    const int outer = threads < R ? threads : R;
    /* Replicas side by side, or one after the other by all threads. */
#pragma omp parallel for schedule(static) num_threads(outer) if (outer > 1)
    for (int r = 0; r < R; r++)
        fill_normal(all + offset + r * size, size, std, m->seeds[r], fpl_stream(FPL_STREAM_WEIGHTS, low),
                    outer > 1 ? 1 : threads);
}

enum fpl_code fpl_parameters_init(struct fpl_model *m, struct fpl_error *err) {
    const struct fpl_model_shape *s = &m->shape;
    const double std = s->init_std > 0 ? s->init_std : 0.5 / sqrt((double)s->width);
    const double residual = std / sqrt(2.0 * (double)s->layers);
    const size_t bytes = m->state.elements * sizeof(fpl_real);
    fpl_real *all = calloc(1, bytes);
    if (all == NULL) return fpl_fail(err, FPL_SYSTEM, "model: no memory for %zu bytes of parameters", bytes);

    for (int p = 0; p < m->parameter_count; p++)
        if (!m->segment[p].decay)
            for (int64_t i = 0; i < s->R * m->segment[p].size; i++) all[m->segment[p].offset + i] = 1;
    init_matrix(m, all, m->embedding, s->vocab * s->width, std, 0);
    init_matrix(m, all, m->head, s->vocab * s->width, std, HEAD_STREAM);
    for (int64_t l = 0; l < s->layers; l++)
        for (int i = 0; i < FPL_LINEARS; i++) {
            const int writes_stream = i == FPL_ATTENTION_OUT || i == FPL_DOWN;
            int64_t O, I;
            fpl_linear_shape(s, (enum fpl_linear)i, &O, &I);
            init_matrix(m, all, m->offsets[l].linear[i], O * I, writes_stream ? residual : std,
                        BLOCK_STREAM + (uint32_t)l * FPL_LINEARS + (uint32_t)i);
        }
    const enum fpl_code code = fpl_round_initial(m, all, err);
    m->k->upload(m->dev, m->state.parameters, all, bytes);
    free(all);
    fpl_model_changed(m);
    return code;
}
