/* codec.c - the fields of a checkpoint's state, little-endian, in both directions: one function per
 * structure walks its fields, so what is written is what is read (checkpoint.c has the file). */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

void fpl_code_u64(struct codec *c, uint64_t *x) {
    if (c->data != NULL) {
        if (c->size - c->at < 8) {
            c->failed = 1;
            return;
        }
        unsigned char *p = c->data + c->at;
        if (c->reading) *x = 0;
        for (int i = 0; i < 8; i++) {
            if (c->reading)
                *x |= (uint64_t)p[i] << (8 * i);
            else
                p[i] = (unsigned char)(*x >> (8 * i));
        }
    }
    c->at += 8;
}

static void code_i64(struct codec *c, int64_t *x) {
    uint64_t u = (uint64_t)*x;
    fpl_code_u64(c, &u);
    *x = (int64_t)u;
}

static void code_double(struct codec *c, double *x) {
    uint64_t u;
    memcpy(&u, x, sizeof u);
    fpl_code_u64(c, &u);
    memcpy(x, &u, sizeof u);
}

static void code_point(struct codec *c, struct fpl_point *p) {
    code_i64(c, &p->step);
    code_double(c, &p->loss);
    code_double(c, &p->se);
    code_double(c, &p->grad_norm);
}

static void code_text(struct codec *c, char *text, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
        uint64_t u = 0;
        for (size_t j = 0; j < 8 && i + j < size; j++) u |= (uint64_t)(unsigned char)text[i + j] << (8 * j);
        fpl_code_u64(c, &u);
        for (size_t j = 0; j < 8 && i + j < size; j++) text[i + j] = (char)(unsigned char)(u >> (8 * j));
    }
    text[size - 1] = '\0';
}

/* What the configuration fixes (windows, widths) is not stored. */
static void code_watch(struct codec *c, struct fpl_watch *w) {
    double *const reals[] = {&w->sum,       &w->best,          &w->norm_mean, &w->spike_norm,
                             &w->point_sum, &w->point_squares, &w->point_norm};
    int64_t *const counts[] = {&w->count,      &w->near,        &w->above, &w->spikes,
                               &w->spike_step, &w->point_steps, &w->points};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) code_double(c, reals[i]);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) code_i64(c, counts[i]);
    if (w->points < 0 || w->points > FPL_CURVE_POINTS) {
        c->failed = 1;
        w->points = 0;
    }
    for (int64_t i = 0; i < w->points; i++) code_point(c, &w->curve[i]);
}

static void code_diagnosis(struct codec *c, struct fpl_diagnosis_point *p) {
    int64_t *const counts[] = {&p->step, &p->layer, &p->elements, &p->nonfinite, &p->least, &p->bins};
    double *const reals[] = {&p->sqnr_db, &p->underflow, &p->clipped, &p->amax};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) code_i64(c, counts[i]);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) code_double(c, reals[i]);
    code_text(c, p->operand, sizeof p->operand);
    if (c->reading) {
        const int sound = !c->failed && p->bins >= 0 && (uint64_t)p->bins <= (c->size - c->at) / 8;
        p->count = sound ? calloc((size_t)p->bins + 1, sizeof *p->count) : NULL;
        if (p->count == NULL) {
            c->failed = 1;
            p->bins = 0;
        }
    }
    for (int64_t i = 0; i < p->bins; i++) code_i64(c, &p->count[i]);
}

static void code_diagnoses(struct codec *c, struct fpl_replica *p) {
    int64_t count = p->diagnosis_count;
    code_i64(c, &count);
    if (c->reading) {
        p->diagnosis_count = 0;
        if (count < 0 || (uint64_t)count > (c->size - c->at) / 112 ||
            fpl_diagnosis_reserve(p, count, NULL) != FPL_OK) {
            c->failed = 1;
            return;
        }
    }
    for (int64_t i = 0; i < count && !c->failed; i++) {
        if (c->reading) memset(&p->diagnosis[i], 0, sizeof p->diagnosis[i]);
        code_diagnosis(c, &p->diagnosis[i]);
        p->diagnosis_count = i + 1;
    }
}

static void replica_state(struct codec *c, struct fpl_replica *p) {
    int64_t status = (int64_t)p->status, evals = p->eval_count;
    code_i64(c, &status);
    code_text(c, p->why, sizeof p->why);
    code_i64(c, &p->steps);
    code_i64(c, &p->nonfinite);
    code_watch(c, &p->watch);
    code_i64(c, &evals);
    if (c->reading) {
        const int sound = status >= 0 && status < FPL_RUN_STATUSES && evals >= 0 &&
                          (uint64_t)evals <= (c->size - c->at) / 32 &&
                          fpl_replica_reserve(p, evals, NULL) == FPL_OK;
        if (!sound) {
            c->failed = 1;
            return;
        }
        p->status = (enum fpl_status)status;
        p->eval_count = evals;
    }
    for (int64_t i = 0; i < evals; i++) code_point(c, &p->eval[i]);
    if (c->version >= 2 && !c->failed) code_diagnoses(c, p);
}

/* float32 between host and file order. */
void fpl_order_floats(void *data, size_t count) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    uint32_t *word = data;
    for (size_t i = 0; i < count; i++) word[i] = __builtin_bswap32(word[i]);
#else
    (void)data;
    (void)count;
#endif
}

/* ---- delayed scaling --------------------------------------------------------------------------- */

struct pieces {
    struct codec *codec;
    const struct fpl_trainer *t;
    size_t count;
};

static void count_piece(void *context, float *piece, size_t count) {
    struct pieces *p = context;
    (void)piece;
    p->count += count;
}

static void code_piece(void *context, float *piece, size_t count) {
    struct codec *c = ((struct pieces *)context)->codec;
    const struct fpl_trainer *t = ((struct pieces *)context)->t;
    if (c->data != NULL && c->reading) {
        fpl_order_floats(c->data + c->at, count);
        t->k->upload(t->dev, piece, c->data + c->at, 4 * count);
    } else if (c->data != NULL) {
        t->k->download(t->dev, c->data + c->at, piece, 4 * count);
        fpl_order_floats(c->data + c->at, count);
    }
    c->at += 4 * count;
}

static void code_delay(struct codec *c, const struct fpl_trainer *t, int r) {
    struct pieces p = {.codec = c, .t = t};
    fpl_model_delay(t->model, r, count_piece, &p);
    uint64_t stored = p.count;
    fpl_code_u64(c, &stored);
    if (stored != p.count || (c->data != NULL && (c->size - c->at) / 4 < p.count)) c->failed = 1;
    if (!c->failed) fpl_model_delay(t->model, r, code_piece, &p);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

void fpl_code_state(struct codec *c, struct fpl_trainer *t, int r, int64_t *step) {
    struct fpl_replica *p = &t->replica[r];
    code_i64(c, step);
    code_double(c, &p->seconds);
    code_double(c, &p->train_seconds);
    replica_state(c, p);
    if (c->version >= 2) code_delay(c, t, r);
}
