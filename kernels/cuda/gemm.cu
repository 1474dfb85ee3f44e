/* gemm.cu - the three products of a linear layer, for a whole pack (kernels.h, struct fpl_gemm).
 *
 *   role      M  N  K   A(i, k)     B(k, j)
 *   forward   n  O  I   x[i, k]     w[j, k]
 *   dgrad     n  I  O   dy[i, k]    w[k, j]
 *   wgrad     O  I  n   dy[k, i]    x[k, j]
 *
 * Operands are quantized in their own layout, transposed only as views, into scratch or, weights, into
 * the table of weights.h, as the narrowest carrier that holds both exactly; operands that all replicas leave
 * alone are read in place.  Then replicas that sum alike are multiplied together: the fp32 accumulator by
 * cuBLASLt, without the library by product.cu from float32, emulated accumulators by accumulate.cu,
 * which also makes its own operands for block:S.
 */
#include "carried.h"
#include "cublaslt.h"
#include "operand.h"
#include "operations.h"
#include "product.h"
#include "weights.h"

#include <stdio.h>
#include <stdlib.h>

__global__ void add_counts(int R, const int64_t *counts, int64_t *to) {
    const int r = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (r < R) to[r] += counts[r];
}

/* ---- operands -------------------------------------------------------------------------------------- */

struct fpl_cuda_view fpl_cuda_source_view(const struct fpl_cuda_source *s) {
    const struct fpl_cuda_view along = {s->width, s->lines, 1, s->width, s->lines * s->width, 1};
    const struct fpl_cuda_view within = {s->lines, s->width, s->width, 1, s->lines * s->width, 1};
    return s->along_lines ? along : within;
}

static int any_hadamard(int R, const struct fpl_operand *q) {
    int any = 0;
    for (int r = 0; r < R; r++) any |= q[r].hadamard;
    return any;
}

static int turned_slot(int slot) {
    return slot == FPL_CUDA_SCRATCH_A ? FPL_CUDA_SCRATCH_TURNED_A : FPL_CUDA_SCRATCH_TURNED_B;
}

const float *fpl_cuda_transformed(struct fpl_device *dev, int R, const struct fpl_cuda_source *s,
                                  float *room) {
    if (!any_hadamard(R, s->q)) return s->x;
    fpl_cuda_hadamard(dev, R, s->q, s->lines, s->width, s->along_lines, s->x, room);
    return room;
}

/* How one operand of a product is to be made: the same for all replicas of a part. */
struct order {
    enum fpl_cuda_carrier carrier;
    enum fpl_cuda_passage passage;
    int per_row;     /* of RAW: a factor per row of the view */
    float *factor;   /* device; of RAW and TENSOR */
    int32_t *misfit; /* device, zeros; of CHECKED */
};

/* Host [R]; NULL keeps an error. */
static struct fpl_cuda_carriage *carriages(struct fpl_device *dev, int R, const struct fpl_cuda_source *s,
                                           const struct order *o) {
    const int64_t rows = fpl_cuda_source_view(s).rows;
    struct fpl_cuda_carriage *c = (struct fpl_cuda_carriage *)calloc((size_t)R, sizeof *c);
    if (c == NULL) fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
    for (int r = 0; c != NULL && r < R; r++) {
        (void)fpl_cuda_passage_of(&s->q[r].plan, o->carrier, &c[r].low, &c[r].high);
        if (o->passage == FPL_PASSAGE_CHECKED) c[r].misfit = o->misfit + r;
        c[r].raw = o->passage == FPL_PASSAGE_RAW;
        c[r].tensor = o->passage == FPL_PASSAGE_TENSOR;
        if (c[r].raw || c[r].tensor) c[r].factor = o->factor + (o->per_row ? r * rows : r);
    }
    return c;
}

/* Q(x) into `out`, which holds x's elements as the carrier.  A transform needs room in float32: `out` itself,
 * or scratch. */
static void quantize_into(struct fpl_device *dev, int R, const struct fpl_cuda_source *s, void *out,
                          const struct order *o, int room_slot) {
    const struct fpl_cuda_view view = fpl_cuda_source_view(s);
    const size_t bytes = (size_t)R * (size_t)(s->lines * s->width) * sizeof(float);
    float *room = (float *)out;
    if (any_hadamard(R, s->q) && fpl_cuda_carrier_bytes(o->carrier) != sizeof(float))
        room = (float *)fpl_cuda_scratch(dev, room_slot, bytes);
    if (room == NULL) return;
    const float *x = fpl_cuda_transformed(dev, R, s, room);
    if (o->passage == FPL_PASSAGE_WHOLE) {
        fpl_cuda_quantize_view(dev, R, &view, s->q, x, out, o->carrier, s->nonfinite);
        return;
    }
    struct fpl_cuda_carriage *c = carriages(dev, R, s, o);
    if (c != NULL) fpl_cuda_quantize_carried(dev, R, &view, s->q, x, out, o->carrier, c, s->nonfinite);
    free(c);
}

static int all_identity(int R, const struct fpl_operand *q) {
    int all = 1;
    for (int r = 0; r < R; r++) all &= fpl_cuda_is_identity(&q[r]);
    return all;
}

static const void *quantized(struct fpl_device *dev, int R, int slot, const struct fpl_cuda_source *s,
                             const struct order *o) {
    if (all_identity(R, s->q)) return s->x;
    const size_t bytes = (size_t)R * (size_t)(s->lines * s->width) * fpl_cuda_carrier_bytes(o->carrier);
    void *out = fpl_cuda_scratch(dev, slot, bytes);
    if (out != NULL && o->passage == FPL_PASSAGE_CHECKED)
        fpl_cuda_zero(dev, o->misfit, (size_t)R * sizeof *o->misfit);
    if (out != NULL) quantize_into(dev, R, s, out, o, turned_slot(slot));
    return out;
}

/* The operands as a product of one step, but leaving no trace: a cached weight keeps its own. */
static struct fpl_operand *unobserved(struct fpl_device *dev, int R, const struct fpl_operand *q,
                                      int *delayed) {
    struct fpl_operand *copy = (struct fpl_operand *)malloc((size_t)R * sizeof *copy);
    if (copy == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    memcpy(copy, q, (size_t)R * sizeof *copy);
    *delayed = 0;
    for (int r = 0; r < R; r++) {
        *delayed |= copy[r].plan.history > 0 && copy[r].delay != NULL;
        copy[r].observe = 0;
    }
    return copy;
}

static void make_weights(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_source *w,
                         const struct order *o, struct fpl_cuda_weights *e) {
    struct fpl_cuda_source source = *w;
    int delayed;
    struct fpl_operand *q = unobserved(dev, g->R, w->q, &delayed);
    if (q == NULL) return;
    source.q = q;
    source.nonfinite = e->nonfinite;
    if (delayed) {
        float *room = (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_TURNED_B,
                                                (size_t)g->R * (size_t)(g->O * g->I) * sizeof(float));
        const float *x = room != NULL ? fpl_cuda_transformed(dev, g->R, &source, room) : NULL;
        if (x != NULL) fpl_cuda_amax(dev, g->R, g->O * g->I, x, e->amax);
    }
    quantize_into(dev, g->R, &source, e->values, o, FPL_CUDA_SCRATCH_TURNED_B);
    free(q);
    e->valid = !fpl_cuda_failed(dev);
}

/* What stays behind of cached weights is kept with them. */
static const void *weights(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_source *w,
                           struct order *o) {
    if (g->weights_version == 0 || all_identity(g->R, w->q))
        return quantized(dev, g->R, FPL_CUDA_SCRATCH_B, w, o);
    struct fpl_cuda_weights *e = fpl_cuda_weights_find(dev, g, o->carrier);
    if (e == NULL) return NULL;
    o->factor = e->factor;
    o->misfit = e->misfit;
    if (!e->valid) make_weights(dev, g, w, o, e);
    fpl_cuda_observe(dev, g->R, 1, g->qb, e->amax);
    if (g->nonfinite != NULL && !fpl_cuda_failed(dev)) {
        FPL_LAUNCH(add_counts, dim3(fpl_cuda_blocks(g->R, 128)), dim3(128), 0, dev, g->R, e->nonfinite,
                   g->nonfinite);
    }
    return e->values;
}

/* ---- products --------------------------------------------------------------------------------------------
 */

struct fpl_cuda_source fpl_cuda_gemm_a(const struct fpl_gemm *g) {
    const struct fpl_cuda_source s = {
        g->a, g->n, g->role == FPL_FORWARD ? g->I : g->O, g->role == FPL_WGRAD, g->qa, g->nonfinite};
    return s;
}

struct fpl_cuda_source fpl_cuda_gemm_b(const struct fpl_gemm *g) {
    const struct fpl_cuda_source s = {
        g->b, g->role == FPL_WGRAD ? g->n : g->O, g->I, g->role != FPL_FORWARD, g->qb, g->nonfinite};
    return s;
}

/* Shapes and strides; the operands' pointers are the caller's. */
struct fpl_cuda_product fpl_cuda_gemm_product(const struct fpl_gemm *g) {
    const int forward = g->role == FPL_FORWARD, wgrad = g->role == FPL_WGRAD;
    struct fpl_cuda_product p;
    memset(&p, 0, sizeof p);
    p.M = wgrad ? g->O : g->n;
    p.N = forward ? g->O : g->I;
    p.K = forward ? g->I : wgrad ? g->n : g->O;
    p.batch = g->R;
    p.inner = 1;
    p.c = g->out;
    p.accumulate = g->accumulate;
    p.a_at.row = wgrad ? 1 : p.K;
    p.a_at.col = wgrad ? g->O : 1;
    p.b_at.row = forward ? 1 : p.N;
    p.b_at.col = forward ? p.K : 1;
    p.c_at.row = p.N;
    p.c_at.col = 1;
    p.a_at.outer = p.M * p.K;
    p.b_at.outer = p.N * p.K;
    p.c_at.outer = p.M * p.N;
    p.align = (g->O | g->I) & -(g->O | g->I);
    return p;
}

enum sum { CHAIN, EMULATED, BLOCKS };

static enum sum sum_of(const struct fpl_gemm *g, int r) {
    if (g->accumulator == NULL) return CHAIN;
    if (g->accumulator[r].block) return BLOCKS;
    return g->accumulator[r].kind == FPL_ACC_FP32 ? CHAIN : EMULATED;
}

/* How a replica's product is made. */
struct way {
    enum sum sum;
    int library; /* by cuBLASLt, from operands in `carrier` */
    enum fpl_cuda_carrier carrier;
    enum fpl_cuda_passage a, b;
    int a_per_row, b_per_row;
};

/* Algorithms are chosen for what the shape implies: models place tensors at multiples of `align`.  Other
 * callers' odd addresses go to own kernels. */
static int is_aligned(const struct fpl_gemm *g, const struct fpl_cuda_product *p) {
    const int64_t bytes = p->align * (int64_t)sizeof(float);
    const uintptr_t mask = (uintptr_t)(bytes < 16 ? bytes : 16) - 1;
    return (((uintptr_t)g->a | (uintptr_t)g->b | (uintptr_t)g->out) & mask) == 0;
}

/* A replica that does not fit is made again from whole values, which no factor may then meet. */
static int go_together(enum fpl_cuda_passage a, enum fpl_cuda_passage b) {
    const int checked = a == FPL_PASSAGE_CHECKED || b == FPL_PASSAGE_CHECKED;
    const int behind = a >= FPL_PASSAGE_RAW || b >= FPL_PASSAGE_RAW;
    return a != FPL_PASSAGE_NONE && b != FPL_PASSAGE_NONE && !(checked && behind);
}

/* The narrowest carrier of both operands for which the library has an algorithm: of the plans and the shape
 * alone, so that it is the same in every pack. */
static struct way way_of(struct fpl_device *dev, const struct fpl_gemm *g, int r) {
    struct way w = {sum_of(g, r), 0, FPL_CARRIER_FP32, FPL_PASSAGE_WHOLE, FPL_PASSAGE_WHOLE, 0, 0};
    const struct fpl_quantizer_plan *qa = &g->qa[r].plan, *qb = &g->qb[r].plan;
    struct fpl_cuda_product p = fpl_cuda_gemm_product(g);
    const int open = w.sum == CHAIN && dev->lt != NULL && is_aligned(g, &p);
    for (int i = 0; open && !w.library && i < FPL_CARRIERS; i++) {
        float low, high;
        const enum fpl_cuda_passage a = fpl_cuda_passage_of(qa, fpl_cuda_carrier_order[i], &low, &high),
                                    b = fpl_cuda_passage_of(qb, fpl_cuda_carrier_order[i], &low, &high);
        p.carrier = fpl_cuda_carrier_order[i];
        if (!go_together(a, b) || !fpl_cuda_lt_can(dev, &p)) continue;
        w.library = 1;
        w.carrier = p.carrier;
        w.a = a;
        w.b = b;
        w.a_per_row = a == FPL_PASSAGE_RAW && qa->granularity == FPL_ROW;
        w.b_per_row = b == FPL_PASSAGE_RAW && qb->granularity == FPL_ROW;
    }
    return w;
}

static int same_plans(const struct fpl_gemm *g, int r, int s) {
    return memcmp(&g->qa[r].plan, &g->qa[s].plan, sizeof g->qa[r].plan) == 0 &&
           memcmp(&g->qb[r].plan, &g->qb[s].plan, sizeof g->qb[r].plan) == 0;
}

static int same_way(const struct way *a, const struct way *b) {
    return a->sum == b->sum && a->library == b->library && a->carrier == b->carrier && a->a == b->a &&
           a->b == b->b && a->a_per_row == b->a_per_row && a->b_per_row == b->b_per_row;
}

/* Factors and flags of both operands: [R, M] floats, [R, N] floats, [R] and [R] flags.  0 keeps an error. */
static int room_behind(struct fpl_device *dev, const struct fpl_gemm *g, const struct fpl_cuda_product *p,
                       struct order *a, struct order *b) {
    if (a->passage == FPL_PASSAGE_WHOLE && b->passage == FPL_PASSAGE_WHOLE) return 1;
    const size_t R = (size_t)g->R, M = (size_t)p->M, N = (size_t)p->N;
    float *room = (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_BEHIND,
                                            R * (M + N) * sizeof(float) + 2 * R * sizeof(int32_t));
    if (room == NULL) return 0;
    a->factor = room;
    b->factor = room + R * M;
    a->misfit = (int32_t *)(room + R * (M + N));
    b->misfit = a->misfit + R;
    return 1;
}

static struct fpl_cuda_carried_operand carried(const void *values, const struct order *o) {
    const int behind = o->passage >= FPL_PASSAGE_RAW;
    const struct fpl_cuda_carried_operand c = {values, behind ? o->factor : NULL, o->per_row,
                                               o->passage == FPL_PASSAGE_CHECKED ? o->misfit : NULL};
    return c;
}

/* Replicas that go one way. */
static void multiply(struct fpl_device *dev, const struct fpl_gemm *g, const struct way *w) {
    unsigned *used = &dev->products[g->role];
    if (w->sum == BLOCKS) {
        fpl_cuda_accumulate_blocks(dev, g);
        *used |= 1u << FPL_BY_EMULATION;
        return;
    }
    const struct fpl_cuda_source a = fpl_cuda_gemm_a(g), b = fpl_cuda_gemm_b(g);
    struct fpl_cuda_product p = fpl_cuda_gemm_product(g);
    struct order oa = {w->carrier, w->a, w->a_per_row, NULL, NULL},
                 ob = {w->carrier, w->b, w->b_per_row, NULL, NULL};
    if (!room_behind(dev, g, &p, &oa, &ob)) return;
    p.carrier = w->carrier;
    const void *x = quantized(dev, g->R, FPL_CUDA_SCRATCH_A, &a, &oa);
    const void *y =
        g->role == FPL_WGRAD ? quantized(dev, g->R, FPL_CUDA_SCRATCH_B, &b, &ob) : weights(dev, g, &b, &ob);
    if (fpl_cuda_failed(dev)) return;
    p.a = (const float *)x;
    p.b = (const float *)y;
    if (w->sum == EMULATED) {
        fpl_cuda_accumulate(dev, g, &p);
        *used |= 1u << FPL_BY_EMULATION;
    } else if (w->library) {
        const struct fpl_cuda_carried_operand ca = carried(x, &oa), cb = carried(y, &ob);
        fpl_cuda_multiply_carried(dev, g, &p, &ca, &cb);
        *used |= 1u << w->carrier;
    } else {
        fpl_cuda_multiply(dev, &p);
        *used |= 1u << FPL_BY_OWN_FP32;
    }
}

void fpl_cuda_gemm_describe(const struct fpl_device *dev, char *buf, size_t size) {
    static const char *const roles[] = {"forward", "dgrad", "wgrad"};
    size_t at = 0;
    buf[0] = '\0';
    for (int role = 0; role < 3; role++)
        for (unsigned bit = 0, first = 1; bit <= FPL_BY_EMULATION; bit++) {
            if (!(dev->products[role] >> bit & 1u) || at >= size) continue;
            const char *name = bit < FPL_CARRIERS       ? fpl_cuda_carrier_names[bit]
                               : bit == FPL_BY_OWN_FP32 ? "own-fp32"
                                                        : "emulated";
            const int n = first ? snprintf(buf + at, size - at, " %s=%s", roles[role], name)
                                : snprintf(buf + at, size - at, "+%s", name);
            at += n > 0 ? (size_t)n : 0;
            first = 0;
        }
}

void fpl_cuda_gemm(struct fpl_device *dev, const struct fpl_gemm *g) {
    if (g->n == 0 || g->O == 0 || g->I == 0) {
        /* Without a reduction the product is zero; without rows or columns there is none. */
        const struct fpl_cuda_product p = fpl_cuda_gemm_product(g);
        if (!g->accumulate && p.M * p.N > 0)
            fpl_cuda_zero(dev, g->out, (size_t)g->R * (size_t)(p.M * p.N) * sizeof(float));
        return;
    }
    for (int first = 0, end; first < g->R && !fpl_cuda_failed(dev); first = end) {
        const struct way w = way_of(dev, g, first);
        for (end = first + 1; end < g->R && sum_of(g, end) == w.sum; end++) {
            if (same_plans(g, end - 1, end)) continue;
            const struct way next = way_of(dev, g, end);
            if (!same_way(&w, &next)) break;
        }
        const struct fpl_cuda_product p = fpl_cuda_gemm_product(g);
        struct fpl_gemm part = *g;
        part.R = end - first;
        part.a += first * p.a_at.outer;
        part.b += first * p.b_at.outer;
        part.out += first * p.c_at.outer;
        part.qa += first;
        part.qb += first;
        if (part.accumulator != NULL) part.accumulator += first;
        if (part.nonfinite != NULL) part.nonfinite += first;
        multiply(dev, &part, &w);
    }
}
