/* diagnose.c - points of a diagnosis, from the model's sums to the replica's record.
 *
 * Due at the first step, each diagnose_every steps later, and at the last; a replica that has
 * ended is not looked at any more.  Points are in the order step, layer, operand.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

int fpl_diagnosis_is_due(const struct fpl_trainer *t, int replica) {
    const struct fpl_replica *p = &t->replica[replica];
    const int64_t every = p->config->diagnose_every;
    return every > 0 && p->status == FPL_RUN_OK && (t->step % every == 0 || t->step + 1 == t->steps);
}

enum fpl_code fpl_diagnosis_reserve(struct fpl_replica *p, int64_t count, struct fpl_error *err) {
    if (count <= p->diagnosis_room) return FPL_OK;
    const int64_t room = count < 64 ? 64 : 2 * count;
    struct fpl_diagnosis_point *larger = realloc(p->diagnosis, (size_t)room * sizeof *larger);
    if (larger == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for %lld diagnoses", (long long)room);
    p->diagnosis = larger;
    p->diagnosis_room = room;
    return FPL_OK;
}

/* The part of the histogram that holds anything. */
static enum fpl_code keep_exponents(struct fpl_diagnosis_point *p, const struct fpl_exponents *e,
                                    struct fpl_error *err) {
    int first = 0, end = FPL_EXPONENTS;
    while (first < end && e->count[first] == 0) first++;
    while (end > first && e->count[end - 1] == 0) end--;
    p->least = first < end ? FPL_EXPONENT_LEAST + first : 0;
    p->bins = end - first;
    p->count = malloc((size_t)(p->bins + 1) * sizeof *p->count);
    if (p->count == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for a diagnosis");
    memcpy(p->count, e->count + first, (size_t)p->bins * sizeof *p->count);
    return FPL_OK;
}

static enum fpl_code keep_operand(const struct fpl_trainer *t, struct fpl_replica *p, int64_t layer,
                                  int operand, const struct fpl_diagnosis *d, struct fpl_error *err) {
    static const struct fpl_quantizer any = {.identity = 1}; /* bits per value are not asked for */
    struct fpl_quantizer_measure m;
    enum fpl_code code = fpl_diagnosis_reserve(p, p->diagnosis_count + 1, err);
    if (code != FPL_OK) return code;
    struct fpl_diagnosis_point *to = &p->diagnosis[p->diagnosis_count];
    memset(to, 0, sizeof *to);
    fpl_measure_finish(&d->sums, &any, &m);
    to->step = t->step + 1;
    to->layer = layer;
    fpl_model_operand_name(operand, to->operand, sizeof to->operand);
    to->elements = m.elements;
    to->nonfinite = m.nonfinite;
    to->sqnr_db = m.sqnr_db;
    to->underflow = m.underflow;
    to->clipped = m.clipped;
    to->amax = m.amax;
    code = keep_exponents(to, &d->exponents, err);
    if (code == FPL_OK) p->diagnosis_count++;
    return code;
}

enum fpl_code fpl_diagnosis_keep(struct fpl_trainer *t, struct fpl_error *err) {
    for (int r = 0; r < t->R; r++) {
        if (!fpl_diagnosis_is_due(t, r)) continue;
        for (int64_t layer = 0; layer < t->replica[r].config->layers; layer++)
            for (int i = 0; i < FPL_MODEL_OPERANDS; i++) {
                const struct fpl_diagnosis *d = fpl_model_diagnosis(t->model, layer, i, r);
                const enum fpl_code code =
                    d != NULL ? keep_operand(t, &t->replica[r], layer, i, d, err) : FPL_OK;
                if (code != FPL_OK) return code;
            }
    }
    return FPL_OK;
}
