/* state.c - what a recipe rounds besides the linear layers' operands: the optimizer's tensors and
 * attention's products; and the memory of delayed scaling for all of them.
 *
 * Attention (kernels.h, enum fpl_attention_slot), from the recipe's four quantizers:
 *   attn.qk    q, k of S = q k^T;  k of dq = dS k;  q of dk = dS^T q;  and dS of both
 *   attn.pv    P, v of out = P v;  P, dout of dv = P^T dout
 *   attn.dp    dout, v of dP = dout v^T
 *   attn.grad  in place of these for dS and dout, where the product is quantized at all
 * so attn.qk with attn.pv alone is SageBwd (arXiv 2505.11594): every product but dP.  Exempt
 * blocks keep attention in high precision.
 *
 * Delayed scaling: one flat buffer holds the state of every operand whose plan has a history:
 * linear layers' operands, then attention's (one state for all heads), then the optimizer's (one
 * for each tensor), replicas innermost.  A checkpoint holds one replica's part in that order.
 */
#include <stdlib.h>
#include <string.h>

#include "../../formats/random.h"
#include "internal.h"

_Static_assert((int)FPL_OPT_M == (int)FPL_STATE_M && (int)FPL_OPT_V == (int)FPL_STATE_V &&
                   (int)FPL_OPT_MASTER == (int)FPL_STATE_MASTER && (int)FPL_OPT_GRAD == (int)FPL_STATE_GRAD &&
                   (int)FPL_OPT_SLOTS == (int)FPL_STATE_SLOTS,
               "recipes and kernels number the optimizer's tensors alike");

#define INITIAL_STEP UINT32_MAX /* of the random bits that round initial weights */

/* ---- operands ------------------------------------------------------------------------------- */

static const struct fpl_quantizer *attention_quantizer(const struct fpl_recipe *r, int slot) {
    static const struct {
        uint8_t part, is_gradient;
    } of[FPL_ATTN_SLOTS] = {
        [FPL_ATTN_S_Q] = {FPL_ATTENTION_QK, 0},     [FPL_ATTN_S_K] = {FPL_ATTENTION_QK, 0},
        [FPL_ATTN_OUT_P] = {FPL_ATTENTION_PV, 0},   [FPL_ATTN_OUT_V] = {FPL_ATTENTION_PV, 0},
        [FPL_ATTN_DV_P] = {FPL_ATTENTION_PV, 0},    [FPL_ATTN_DV_DOUT] = {FPL_ATTENTION_PV, 1},
        [FPL_ATTN_DP_DOUT] = {FPL_ATTENTION_DP, 1}, [FPL_ATTN_DP_V] = {FPL_ATTENTION_DP, 0},
        [FPL_ATTN_DQ_DS] = {FPL_ATTENTION_QK, 1},   [FPL_ATTN_DQ_K] = {FPL_ATTENTION_QK, 0},
        [FPL_ATTN_DK_DS] = {FPL_ATTENTION_QK, 1},   [FPL_ATTN_DK_Q] = {FPL_ATTENTION_QK, 0},
    };
    const struct fpl_quantizer *q = &r->attention[of[slot].part], *g = &r->attention[FPL_ATTENTION_GRAD];
    return of[slot].is_gradient && !q->identity && !g->identity ? g : q;
}

static void init_replica(struct fpl_model *m, int r, const struct fpl_model_replica *replica) {
    const struct fpl_quantizer none = {.identity = 1};
    const size_t R = (size_t)m->shape.R;
    for (int64_t layer = 0; layer < m->shape.layers; layer++) {
        const int exempt = fpl_recipe_exempt(replica->recipe, layer, m->shape.layers);
        for (int slot = 0; slot < FPL_ATTN_SLOTS; slot++) {
            struct fpl_operand *o = &m->attention[(size_t)(layer * FPL_ATTN_SLOTS + slot) * R + (size_t)r];
            fpl_quantizer_lower(exempt ? &none : attention_quantizer(replica->recipe, slot), NULL, &o->plan);
            o->at.seed = replica->seed;
            o->at.stream = fpl_stream(FPL_STREAM_ATTENTION, (uint32_t)layer << 8 | (uint32_t)slot);
            m->quantizes_attention |= !o->plan.identity;
        }
    }
    for (int slot = 0; slot < FPL_OPT_SLOTS; slot++) {
        struct fpl_operand *o = &m->optimizer[(size_t)slot * R + (size_t)r];
        fpl_quantizer_lower(&replica->recipe->state[slot], NULL, &o->plan);
        o->at.seed = replica->seed;
        o->at.stream = fpl_stream(FPL_STREAM_OPTIMIZER, (uint32_t)slot);
        o->observe = 1;
        m->quantizes_state[slot] |= !o->plan.identity;
    }
}

/* ---- delayed scaling ------------------------------------------------------------------------- */

/* Operands, each with `states` histories one after the other. */
struct family {
    struct fpl_operand *operand;
    size_t count;
    int states;
};

static void families(const struct fpl_model *m, struct family f[3]) {
    const size_t R = (size_t)m->shape.R, L = (size_t)m->shape.layers;
    f[0] = (struct family){m->operand, L * FPL_LINEARS * FPL_SLOTS * R, 1};
    f[1] = (struct family){m->attention, L * FPL_ATTN_SLOTS * R, 1};
    f[2] = (struct family){m->optimizer, FPL_OPT_SLOTS * R, m->parameter_count};
}

static enum fpl_code init_delay(struct fpl_model *m, struct fpl_error *err) {
    struct family f[3];
    size_t count = 0, size = 0;
    families(m, f);
    for (int i = 0; i < 3; i++)
        for (size_t j = 0; j < f[i].count; j++) {
            const int64_t history = f[i].operand[j].plan.history;
            if (history == 0) continue;
            count += (size_t)f[i].states;
            size += (size_t)f[i].states * (size_t)(FPL_DELAY_HEAD + history);
        }
    m->delay_count = (int)count;
    if (count == 0) return FPL_OK;
    m->delays = calloc(count, sizeof *m->delays);
    if (m->delays == NULL)
        return fpl_fail(err, FPL_SYSTEM, "model: no memory for %zu histories of delayed scaling", count);
    m->delay = m->k->alloc(m->dev, size * sizeof *m->delay);
    if (m->delay == NULL) return m->k->check(m->dev, err);
    m->owned[m->owned_count++] = m->delay;

    struct fpl_delay *next = m->delays;
    int64_t offset = 0;
    for (int i = 0; i < 3; i++)
        for (size_t j = 0; j < f[i].count; j++) {
            const int32_t history = f[i].operand[j].plan.history;
            if (history == 0) continue;
            f[i].operand[j].delay = m->delay + offset;
            for (int s = 0; s < f[i].states; s++, offset += FPL_DELAY_HEAD + history)
                *next++ = (struct fpl_delay){.offset = offset, .length = history};
        }
    return FPL_OK;
}

enum fpl_code fpl_state_init(struct fpl_model *m, const struct fpl_model_replica *replicas,
                             struct fpl_error *err) {
    const size_t R = (size_t)m->shape.R, L = (size_t)m->shape.layers;
    m->attention = calloc(L * FPL_ATTN_SLOTS * R, sizeof *m->attention);
    m->optimizer = calloc(FPL_OPT_SLOTS * R, sizeof *m->optimizer);
    if (m->attention == NULL || m->optimizer == NULL)
        return fpl_fail(err, FPL_SYSTEM, "model: no memory for %zu operands of attention",
                        L * FPL_ATTN_SLOTS * R);
    for (int r = 0; r < m->shape.R; r++) init_replica(m, r, &replicas[r]);
    return init_delay(m, err);
}

/* ---- a step ----------------------------------------------------------------------------------- */

const struct fpl_attention *fpl_attention_operands(struct fpl_model *m, const struct fpl_batch *b,
                                                   int64_t layer, struct fpl_attention *out) {
    const int R = m->shape.R;
    if (!m->quantizes_attention) return NULL;
    *out = (struct fpl_attention){.first_sequence = b->first_row / m->shape.seq,
                                  .nonfinite = m->nonfinite,
                                  .diagnosis = fpl_attention_diagnosis(m, layer)};
    for (int slot = 0; slot < FPL_ATTN_SLOTS; slot++) {
        struct fpl_operand *o = &m->attention[(layer * FPL_ATTN_SLOTS + slot) * R];
        for (int r = 0; r < R; r++) {
            o[r].at.step = b->step;
            o[r].observe = m->observing;
        }
        out->slot[slot] = o;
    }
    return out;
}

/* Operands [R] of an optimizer slot at a step; NULL where no replica quantizes it. */
static const struct fpl_operand *state_operands(struct fpl_model *m, int slot, uint32_t step) {
    const int R = m->shape.R;
    if (!m->quantizes_state[slot]) return NULL;
    for (int r = 0; r < R; r++) m->optimizer[slot * R + r].at.step = step;
    return &m->optimizer[slot * R];
}

void fpl_model_fetch(struct fpl_model *m, void *to_host, const void *from, size_t bytes) {
    (m->k->fetch != NULL ? m->k->fetch : m->k->download)(m->dev, to_host, from, bytes);
}

void fpl_model_gradient_norm(struct fpl_model *m, double *sqnorm) {
    const struct fpl_operand *q = state_operands(m, FPL_OPT_GRAD, m->step);
    if (q != NULL)
        m->k->quantize_tensors(m->dev, m->shape.R, m->segment, m->parameter_count, q, m->state.gradients,
                               m->nonfinite);
    m->k->sqnorm(m->dev, m->shape.R, m->segment, m->parameter_count, m->state.gradients, m->sqnorm);
    fpl_model_fetch(m, sqnorm, m->sqnorm, (size_t)m->shape.R * sizeof *sqnorm);
}

void fpl_model_update(struct fpl_model *m, struct fpl_adamw *a) {
    const uint32_t step = (uint32_t)(a->step - 1);
    a->R = m->shape.R;
    a->sqnorm = m->sqnorm;
    a->qm = state_operands(m, FPL_OPT_M, step);
    a->qv = state_operands(m, FPL_OPT_V, step);
    a->qmaster = state_operands(m, FPL_OPT_MASTER, step);
    a->nonfinite = m->nonfinite;
    m->k->adamw(m->dev, a, m->segment, m->parameter_count, m->state.parameters, m->state.gradients,
                m->state.moment1, m->state.moment2);
    if (m->delay_count > 0) m->k->delay(m->dev, m->delays, m->delay_count, a->step - 1, m->delay);
    fpl_model_changed(m);
}

int fpl_model_rounds_state(const struct fpl_model *m) {
    return m->quantizes_state[FPL_OPT_M] || m->quantizes_state[FPL_OPT_V] ||
           m->quantizes_state[FPL_OPT_MASTER];
}

void fpl_model_delay(const struct fpl_model *m, int replica,
                     void (*visit)(void *context, float *piece, size_t count), void *context) {
    struct family f[3];
    families(m, f);
    for (int i = 0; i < 3; i++)
        for (size_t j = (size_t)replica; j < f[i].count; j += (size_t)m->shape.R) {
            const struct fpl_operand *o = &f[i].operand[j];
            if (o->plan.history > 0)
                visit(context, o->delay, (size_t)f[i].states * (size_t)(FPL_DELAY_HEAD + o->plan.history));
        }
}

/* ---- initial weights ------------------------------------------------------------------------------ */

enum fpl_code fpl_round_initial(const struct fpl_model *m, fpl_real *all, struct fpl_error *err) {
    const int R = m->shape.R;
    if (!m->quantizes_state[FPL_OPT_MASTER]) return FPL_OK;
    for (int p = 0; p < m->parameter_count; p++) {
        const struct fpl_segment *s = &m->segment[p];
        float *x = malloc((size_t)s->size * sizeof *x);
        if (x == NULL)
            return fpl_fail(err, FPL_SYSTEM, "model: no memory to round %lld weights", (long long)s->size);
        for (int r = 0; r < R; r++) {
            const struct fpl_operand *q = &m->optimizer[FPL_OPT_MASTER * R + r];
            fpl_real *w = all + s->offset + r * s->size;
            struct fpl_random_at at = q->at;
            if (q->plan.identity) continue;
            at.step = INITIAL_STEP;
            at.stream += (uint32_t)p << 8;
            for (int64_t i = 0; i < s->size; i++) x[i] = (float)w[i];
            fpl_quantize_reference(&q->plan, s->size / s->cols, s->cols, s->cols, 1, x, x, NULL, &at);
            for (int64_t i = 0; i < s->size; i++) w[i] = (fpl_real)x[i];
        }
        free(x);
    }
    return FPL_OK;
}
