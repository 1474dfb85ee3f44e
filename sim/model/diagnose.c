/* diagnose.c - what quantizing does to every operand of a step, layer by layer.
 *
 * While it is on, every product's operands are measured before they are multiplied, with the
 * random bits and scales of that very product; sums run over the step's micro-batches.  A weight
 * is measured once a step, at the first micro-batch.  Operands in high precision are not.
 * Nothing that training computes changes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

_Static_assert(FPL_MODEL_OPERANDS == FPL_LINEARS * FPL_SLOTS + FPL_ATTN_SLOTS, "see model.h");

void fpl_model_operand_name(int operand, char *buf, size_t size) {
    static const char *const attention[FPL_ATTN_SLOTS] = {"scores.q", "scores.k", "out.p",   "out.v",
                                                          "dv.p",     "dv.dout",  "dp.dout", "dp.v",
                                                          "dq.ds",    "dq.k",     "dk.ds",   "dk.q"};
    const int of_linears = FPL_LINEARS * FPL_SLOTS;
    if (operand < of_linears)
        snprintf(buf, size, "%s.%s", fpl_linear_names[operand / FPL_SLOTS],
                 fpl_slot_names[operand % FPL_SLOTS]);
    else
        snprintf(buf, size, "attention.%s", attention[operand - of_linears]);
}

static size_t index_of(const struct fpl_model *m, int64_t layer, int operand, int replica) {
    return (size_t)((layer * FPL_MODEL_OPERANDS + operand) * m->shape.R + replica);
}

enum fpl_code fpl_model_diagnose(struct fpl_model *m, int on, struct fpl_error *err) {
    const size_t count = (size_t)(m->shape.layers * FPL_MODEL_OPERANDS * m->shape.R);
    m->diagnosing = 0;
    if (!on) return FPL_OK;
    if (m->diagnosis == NULL) m->diagnosis = calloc(count, sizeof *m->diagnosis);
    if (m->diagnosis == NULL)
        return fpl_fail(err, FPL_SYSTEM, "model: no memory to diagnose %zu operands", count);
    memset(m->diagnosis, 0, count * sizeof *m->diagnosis);
    m->diagnosing = 1;
    return FPL_OK;
}

const struct fpl_diagnosis *fpl_model_diagnosis(const struct fpl_model *m, int64_t layer, int operand,
                                                int replica) {
    if (m->diagnosis == NULL) return NULL;
    const struct fpl_diagnosis *d = &m->diagnosis[index_of(m, layer, operand, replica)];
    return d->sums.elements > 0 ? d : NULL;
}

struct fpl_diagnosis *fpl_attention_diagnosis(struct fpl_model *m, int64_t layer) {
    return m->diagnosing ? &m->diagnosis[index_of(m, layer, FPL_LINEARS * FPL_SLOTS, 0)] : NULL;
}

/* One operand of a linear layer's product, x[R, lines, width]. */
static void diagnose_operand(struct fpl_model *m, int64_t layer, int operand, int64_t lines, int64_t width,
                             int along_lines, const struct fpl_operand *q, const fpl_real *x) {
    for (int r = 0; r < m->shape.R; r++)
        if (!q[r].plan.identity || !q[r].plan.post.identity)
            m->k->diagnose(m->dev, 1, lines, width, along_lines, &q[r], x + r * lines * width,
                           &m->diagnosis[index_of(m, layer, operand, r)]);
}

void fpl_diagnose_product(struct fpl_model *m, const struct fpl_batch *b, int64_t layer,
                          enum fpl_linear linear, const struct fpl_gemm *g) {
    const int left = (int)linear * FPL_SLOTS + 2 * (int)g->role, wgrad = g->role == FPL_WGRAD;
    const int64_t width = g->role == FPL_FORWARD ? g->I : g->O;
    if (!m->diagnosing) return;
    diagnose_operand(m, layer, left, g->n, width, wgrad, g->qa, g->a);
    if (wgrad)
        diagnose_operand(m, layer, left + 1, g->n, g->I, 1, g->qb, g->b);
    else if (b->first_row == 0)
        diagnose_operand(m, layer, left + 1, g->O, g->I, g->role == FPL_DGRAD, g->qb, g->b);
}
