/* linear.c - linear layers: each replica's recipe, told to the quantized products.
 *
 * A layer's three products take six operands (recipe.h).  What differs between replicas,
 * layers and slots is laid out once at creation: an operand per (layer, linear layer, slot,
 * replica) with its plan, Hadamard transform and random stream, and an accumulator per
 * (layer, role, replica).  Exempt blocks get what the recipe bf16 gives: bf16 operands, no
 * transform, float32 sums, no clip mask.
 *
 * Random bits of stochastic rounding: an operand's element 0 is the first row of this
 * micro-batch in the tensor of the whole step, so that dividing a step into micro-batches
 * leaves them unchanged; weights always start at 0.
 *
 * Clip mask (ste=clip): with m(x), m(w) in {0, 1} from the forward quantizers,
 *     dx = m(x) (Q(dy) Q(w)),      dw = m(w) (Q(dy)^T Q(x)).
 * m(w) is the same for every micro-batch of a step, so masking the sum so far masks each
 * term; m(x) takes the random bits of the forward product.
 */
#include <stdlib.h>

#include "../../formats/random.h"
#include "internal.h"

_Static_assert(FPL_FORWARD == 0 && FPL_DGRAD == 1 && FPL_WGRAD == 2, "recipes index roles in this order");
_Static_assert(FPL_FWD_X == 0 && FPL_DGRAD_DY == 2 && FPL_WGRAD_DY == 4, "two slots for each role");

/* ---- creation ------------------------------------------------------------------------------- */

/* Plans of every slot in blocks under the recipe, [0], and in exempt ones, [1]. */
static void lower_recipe(const struct fpl_recipe *recipe, struct fpl_quantizer_plan plans[2][FPL_SLOTS]) {
    struct fpl_quantizer bf16;
    (void)fpl_quantizer_parse("bf16", &bf16, NULL);
    fpl_recipe_lower(recipe, plans[0]);
    for (int s = 0; s < FPL_SLOTS; s++) fpl_quantizer_lower(&bf16, NULL, &plans[1][s]);
}

static void init_replica(struct fpl_model *m, int r, const struct fpl_model_replica *replica) {
    const struct fpl_recipe *recipe = replica->recipe;
    const size_t R = (size_t)m->shape.R;
    struct fpl_quantizer_plan plans[2][FPL_SLOTS];
    lower_recipe(recipe, plans);
    for (int64_t layer = 0; layer < m->shape.layers; layer++) {
        const int exempt = fpl_recipe_exempt(recipe, layer, m->shape.layers);
        const struct fpl_accumulator fp32 = {0};
        for (int role = 0; role < FPL_RECIPE_ROLES; role++)
            fpl_accumulator_lower(exempt ? &fp32 : &recipe->accumulator[role],
                                  &m->accumulator[(size_t)(layer * FPL_RECIPE_ROLES + role) * R + (size_t)r]);
        for (int i = 0; i < FPL_LINEARS * FPL_SLOTS; i++) {
            const uint32_t linear = (uint32_t)(i / FPL_SLOTS), slot = (uint32_t)(i % FPL_SLOTS);
            struct fpl_operand *o =
                &m->operand[(size_t)(layer * FPL_LINEARS * FPL_SLOTS + i) * R + (size_t)r];
            o->plan = plans[exempt][slot];
            o->hadamard = exempt ? 0 : recipe->hadamard[slot / 2];
            o->at.seed = replica->seed;
            o->at.stream = fpl_rounding_stream((uint32_t)layer, linear, slot);
        }
        m->clips[(size_t)layer * R + (size_t)r] = recipe->ste_clip && !exempt;
        m->any_clips |= recipe->ste_clip;
    }
}

enum fpl_code fpl_operands_init(struct fpl_model *m, const struct fpl_model_replica *replicas,
                                struct fpl_error *err) {
    const size_t R = (size_t)m->shape.R, L = (size_t)m->shape.layers;
    const struct fpl_quantizer none = {.identity = 1};
    m->operand = calloc(L * FPL_LINEARS * FPL_SLOTS * R, sizeof *m->operand);
    m->identity = calloc(R, sizeof *m->identity);
    m->masked = calloc(R, sizeof *m->masked);
    m->accumulator = calloc(L * FPL_RECIPE_ROLES * R, sizeof *m->accumulator);
    m->clips = calloc(L * R, sizeof *m->clips);
    if (m->operand == NULL || m->identity == NULL || m->masked == NULL || m->accumulator == NULL ||
        m->clips == NULL)
        return fpl_fail(err, FPL_SYSTEM, "model: no memory for %zu operands",
                        L * FPL_LINEARS * FPL_SLOTS * R);
    for (int r = 0; r < m->shape.R; r++) {
        fpl_quantizer_lower(&none, NULL, &m->identity[r].plan);
        init_replica(m, r, &replicas[r]);
    }
    return FPL_OK;
}

/* ---- products ------------------------------------------------------------------------------- */

/* Operands [R] of a slot, told where this micro-batch starts: row_elements = columns of the
 * tensor, 0 for weights. */
static const struct fpl_operand *operands(struct fpl_model *m, int64_t layer, enum fpl_linear linear,
                                          enum fpl_slot slot, const struct fpl_batch *b,
                                          int64_t row_elements) {
    const int R = m->shape.R;
    struct fpl_operand *o = &m->operand[((layer * FPL_LINEARS + (int)linear) * FPL_SLOTS + (int)slot) * R];
    for (int r = 0; r < R; r++) {
        o[r].at.step = b->step;
        o[r].at.element = (uint64_t)(b->first_row * row_elements);
        o[r].observe = m->observing;
    }
    return o;
}

static struct fpl_gemm product(struct fpl_model *m, const struct fpl_batch *b, int64_t layer,
                               enum fpl_linear linear, enum fpl_role role) {
    struct fpl_gemm g = {.role = role, .R = m->shape.R, .n = b->sequences * m->shape.seq};
    fpl_linear_shape(&m->shape, linear, &g.O, &g.I);
    g.accumulator = m->accumulator + (layer * FPL_RECIPE_ROLES + (int)role) * m->shape.R;
    g.weights_version = m->version;
    g.nonfinite = m->nonfinite;
    return g;
}

void fpl_linear_forward(struct fpl_model *m, const struct fpl_batch *b, int64_t layer, enum fpl_linear linear,
                        const fpl_real *x, fpl_real *y) {
    struct fpl_gemm g = product(m, b, layer, linear, FPL_FORWARD);
    g.a = x;
    g.b = m->state.parameters + m->offsets[layer].linear[linear];
    g.out = y;
    g.qa = operands(m, layer, linear, FPL_FWD_X, b, g.I);
    g.qb = operands(m, layer, linear, FPL_FWD_W, b, 0);
    fpl_diagnose_product(m, b, layer, linear, &g);
    m->k->gemm(m->dev, &g);
}

/* The gradient of x[R, rows, cols], an operand of the forward product, under its mask. */
static void clip(struct fpl_model *m, int64_t layer, const struct fpl_operand *q, int64_t rows, int64_t cols,
                 const fpl_real *x, fpl_real *gradient) {
    for (int r = 0; r < m->shape.R; r++)
        m->masked[r] = m->clips[layer * m->shape.R + r] ? q[r] : m->identity[r];
    m->k->clip_mask(m->dev, m->shape.R, rows, cols, m->masked, x, gradient);
}

void fpl_linear_backward(struct fpl_model *m, const struct fpl_batch *b, int64_t layer,
                         enum fpl_linear linear, const fpl_real *dy, const fpl_real *x, fpl_real *dx,
                         int accumulate) {
    const int64_t offset = m->offsets[layer].linear[linear];
    const fpl_real *w = m->state.parameters + offset;
    fpl_real *dw = m->state.gradients + offset;
    struct fpl_gemm g = product(m, b, layer, linear, FPL_WGRAD);
    g.a = dy;
    g.b = x;
    g.out = dw;
    g.accumulate = accumulate;
    g.qa = operands(m, layer, linear, FPL_WGRAD_DY, b, g.O);
    g.qb = operands(m, layer, linear, FPL_WGRAD_X, b, g.I);
    fpl_diagnose_product(m, b, layer, linear, &g);
    m->k->gemm(m->dev, &g);

    g = product(m, b, layer, linear, FPL_DGRAD);
    g.a = dy;
    g.b = w;
    g.out = dx;
    g.qa = operands(m, layer, linear, FPL_DGRAD_DY, b, g.O);
    g.qb = operands(m, layer, linear, FPL_DGRAD_W, b, 0);
    fpl_diagnose_product(m, b, layer, linear, &g);
    m->k->gemm(m->dev, &g);

    if (!m->any_clips) return;
    clip(m, layer, operands(m, layer, linear, FPL_FWD_W, b, 0), g.O, g.I, w, dw);
    clip(m, layer, operands(m, layer, linear, FPL_FWD_X, b, g.I), g.n, g.I, x, dx);
}

void fpl_head_product(struct fpl_model *m, const struct fpl_batch *b, enum fpl_role role, const fpl_real *a,
                      const fpl_real *second, fpl_real *out, int accumulate) {
    const struct fpl_gemm g = {.role = role,
                               .R = m->shape.R,
                               .n = b->sequences * m->shape.seq,
                               .O = m->shape.vocab,
                               .I = m->shape.width,
                               .a = a,
                               .b = second,
                               .out = out,
                               .accumulate = accumulate,
                               .qa = m->identity,
                               .qb = m->identity,
                               .weights_version = m->version};
    m->k->gemm(m->dev, &g);
}
