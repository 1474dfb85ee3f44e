/* model.c - the forward and backward passes, as calls of the kernel table.
 *
 * The residual stream is never written twice: each norm adds what the previous half block
 * computed (delta) to the stream it reads and keeps the sum, h = x + delta, for its own
 * backward pass.  Backward, dh is the gradient of the stream, updated in place; each norm
 * adds its own path to it.
 */
#include "internal.h"

int fpl_model_parameter_count(const struct fpl_model *m) { return m->parameter_count; }

const struct fpl_parameter *fpl_model_parameter(const struct fpl_model *m, int index) {
    return &m->parameter[index];
}

struct fpl_model_state fpl_model_state(const struct fpl_model *m) {
    return m->state;
}

void fpl_model_nonfinite(struct fpl_model *m, int64_t *count) {
    m->k->download(m->dev, count, m->nonfinite, (size_t)m->shape.R * sizeof *count);
}

/* ---- forward -------------------------------------------------------------------------------- */

/* One block. x[R, n, C] is the stream, delta (NULL in block 0) what the block before adds
 * to it; on return the same of the next block: a->h_ffn and m->delta. */
static void block_forward(struct fpl_model *m, const struct fpl_batch *b, int64_t layer, const fpl_real *x,
                          const fpl_real *delta) {
    const struct fpl_model_shape *s = &m->shape;
    const struct fpl_kernels *k = m->k;
    const struct fpl_block_offsets *at = &m->offsets[layer];
    struct fpl_block_activations *a = &m->block[layer];
    struct fpl_attention quantized;
    const fpl_real *w = m->state.parameters;
    const int R = s->R;
    const int64_t n = b->sequences * s->seq;

    k->rmsnorm_forward(m->dev, R, n, s->width, FPL_NORM_EPS, x, delta, w + at->attention_norm, a->h,
                       a->normed, a->rstd);
    fpl_linear_forward(m, b, layer, FPL_QKV, a->normed, a->qkv);
    k->attention_forward(m->dev, R, b->sequences, s->seq, s->heads, s->width / s->heads, m->cosines, m->sines,
                         a->qkv, a->kept, a->attended, fpl_attention_operands(m, b, layer, &quantized));
    fpl_linear_forward(m, b, layer, FPL_ATTENTION_OUT, a->attended, m->delta);
    k->rmsnorm_forward(m->dev, R, n, s->width, FPL_NORM_EPS, a->h, m->delta, w + at->ffn_norm, a->h_ffn,
                       a->normed_ffn, a->rstd_ffn);
    fpl_linear_forward(m, b, layer, FPL_GATE_UP, a->normed_ffn, a->gate_up);
    k->swiglu_forward(m->dev, R, n, s->ffn, a->gate_up, a->activated);
    fpl_linear_forward(m, b, layer, FPL_DOWN, a->activated, m->delta);
}

static void run_forward(struct fpl_model *m, const struct fpl_batch *b, double *losses, fpl_real *dlogits) {
    const struct fpl_model_shape *s = &m->shape;
    const struct fpl_kernels *k = m->k;
    const fpl_real *w = m->state.parameters;
    const int R = s->R;
    const int64_t n = b->sequences * s->seq;
    const size_t rows = (size_t)(R * n);

    k->upload(m->dev, m->inputs, b->inputs, rows * sizeof *b->inputs);
    k->upload(m->dev, m->targets, b->targets, rows * sizeof *b->targets);
    k->embedding_forward(m->dev, R, n, s->width, s->vocab, m->inputs, w + m->embedding, m->block[0].h);
    block_forward(m, b, 0, m->block[0].h, NULL);
    for (int64_t l = 1; l < s->layers; l++) block_forward(m, b, l, m->block[l - 1].h_ffn, m->delta);
    k->rmsnorm_forward(m->dev, R, n, s->width, FPL_NORM_EPS, m->block[s->layers - 1].h_ffn, m->delta,
                       w + m->final_norm, m->h_final, m->normed_final, m->rstd_final);
    fpl_head_product(m, b, FPL_FORWARD, m->normed_final, w + m->head, m->logits, 0);
    k->cross_entropy(m->dev, R, n, s->vocab, m->logits, m->targets, b->scale, m->losses, dlogits);
    if (dlogits != NULL)
        fpl_model_fetch(m, losses, m->losses, rows * sizeof *losses);
    else
        k->download(m->dev, losses, m->losses, rows * sizeof *losses);
}

void fpl_model_evaluate(struct fpl_model *m, const struct fpl_batch *batch, double *losses) {
    const int diagnosing = m->diagnosing;
    m->observing = m->diagnosing = 0;
    run_forward(m, batch, losses, NULL);
    m->diagnosing = diagnosing;
}

void fpl_model_forward(struct fpl_model *m, const struct fpl_batch *batch, double *losses) {
    m->observing = 1;
    run_forward(m, batch, losses, m->logits);
}

/* ---- backward ------------------------------------------------------------------------------- */

/* m->dh: gradient of the stream after the block -> before it. */
static void block_backward(struct fpl_model *m, const struct fpl_batch *b, int64_t layer, int accumulate) {
    const struct fpl_model_shape *s = &m->shape;
    const struct fpl_kernels *k = m->k;
    const struct fpl_block_offsets *at = &m->offsets[layer];
    const struct fpl_block_activations *a = &m->block[layer];
    struct fpl_attention quantized;
    const fpl_real *w = m->state.parameters;
    fpl_real *g = m->state.gradients;
    const int R = s->R;
    const int64_t n = b->sequences * s->seq;

    fpl_linear_backward(m, b, layer, FPL_DOWN, m->dh, a->activated, m->dactivated, accumulate);
    k->swiglu_backward(m->dev, R, n, s->ffn, a->gate_up, m->dactivated, m->dgate_up);
    fpl_linear_backward(m, b, layer, FPL_GATE_UP, m->dgate_up, a->normed_ffn, m->dnormed, accumulate);
    k->rmsnorm_backward(m->dev, R, n, s->width, m->dnormed, a->h_ffn, w + at->ffn_norm, a->rstd_ffn, m->dh,
                        m->dh, g + at->ffn_norm);
    fpl_linear_backward(m, b, layer, FPL_ATTENTION_OUT, m->dh, a->attended, m->dattended, accumulate);
    k->attention_backward(m->dev, R, b->sequences, s->seq, s->heads, s->width / s->heads, m->cosines,
                          m->sines, a->qkv, a->kept, a->attended, m->dattended, m->dqkv,
                          fpl_attention_operands(m, b, layer, &quantized));
    fpl_linear_backward(m, b, layer, FPL_QKV, m->dqkv, a->normed, m->dnormed, accumulate);
    k->rmsnorm_backward(m->dev, R, n, s->width, m->dnormed, a->h, w + at->attention_norm, a->rstd, m->dh,
                        m->dh, g + at->attention_norm);
}

void fpl_model_backward(struct fpl_model *m, const struct fpl_batch *batch, int accumulate) {
    const struct fpl_model_shape *s = &m->shape;
    const struct fpl_kernels *k = m->k;
    const fpl_real *w = m->state.parameters;
    fpl_real *g = m->state.gradients;
    const int R = s->R;
    const int64_t n = batch->sequences * s->seq;

    m->step = batch->step;
    if (!accumulate) k->zero(m->dev, g, (size_t)m->summed * sizeof *g);
    fpl_head_product(m, batch, FPL_WGRAD, m->logits, m->normed_final, g + m->head, accumulate);
    fpl_head_product(m, batch, FPL_DGRAD, m->logits, w + m->head, m->dnormed, 0);
    k->rmsnorm_backward(m->dev, R, n, s->width, m->dnormed, m->h_final, w + m->final_norm, m->rstd_final,
                        NULL, m->dh, g + m->final_norm);
    for (int64_t l = s->layers - 1; l >= 0; l--) block_backward(m, batch, l, accumulate);
    k->embedding_backward(m->dev, R, n, s->width, s->vocab, m->inputs, m->dh, g + m->embedding);
}
