/* model.h - R language models of one LLaMA shape, trained side by side.
 *
 * Per replica, for a token sequence of length T:
 *
 *   h = embedding[token]                                               [n, C], n = B T rows
 *   for each of L blocks
 *       h += attention(rmsnorm(h) Wqkv^T) Wout^T        rotary positions, base 10000, causal
 *       h += swiglu(rmsnorm(h) Wgate_up^T) Wdown^T
 *   loss = cross-entropy(rmsnorm(h) Whead^T)             natural logarithm, per token
 *
 * (arXiv 2302.13971; no biases, untied head, norm epsilon 1e-5).  Non-vocabulary
 * parameters: N = L (4 C^2 + 3 C F).
 *
 * Linear layers of a block, in the order of random.h's stream table:
 *   0 qkv [3C, C]   1 attention output [C, C]   2 gate and up [2F, C]   3 down [C, F]
 * q, k, v and likewise gate, up are one fused layer each, as Megatron-LM and Transformer
 * Engine fuse them: one quantized product, whose dgrad reduces over the concatenated rows,
 * so that 1xB blocks of dgrad run across them and a per-tensor scale covers them all.  The
 * head is a product with identity operands, under every recipe.
 *
 * Parameters, gradients and the two moments are four flat device buffers of the same
 * layout; a tensor is a segment [R, size] (kernels.h).  Tensors start at multiples of
 * FPL_MODEL_ALIGNMENT elements; the gap between them is zero for ever.
 *
 * Precision: the model handles fpl_real and calls the kernel table only; what numbers are
 * rounded to is the replica's recipe.  Errors of operations are kept by the device; the
 * caller asks check() once per step.
 */
#ifndef FPL_MODEL_H
#define FPL_MODEL_H

#include <stdint.h>

#include "../../formats/recipe.h"
#include "../../kernels/kernels.h"

#define FPL_MODEL_ALIGNMENT 16 /* elements */

struct fpl_model;

struct fpl_model_shape {
    int R;                                    /* replicas, >= 1 */
    int64_t layers, width, heads, ffn, vocab; /* L, C, H, F, V; width/heads must be even */
    int64_t seq;                              /* T */
    int64_t micro_sequences;                  /* most sequences of one forward call */
    double init_std;                          /* 0: 0.5 / sqrt(C) */
    int threads;                              /* of the host, that draw initial weights; 0: 1 */
};

/* What differs between replicas. */
struct fpl_model_replica {
    const struct fpl_recipe *recipe; /* read during creation only */
    uint64_t seed;                   /* initial weights and stochastic rounding */
};

enum fpl_linear { FPL_QKV, FPL_ATTENTION_OUT, FPL_GATE_UP, FPL_DOWN, FPL_LINEARS };

/* One tensor of the model. */
struct fpl_parameter {
    char name[48]; /* "embedding", "block3.qkv", "head", ... */
    int64_t rows, cols;
    struct fpl_segment segment; /* size = rows cols; decay 1 for matrices, 0 for norm gains */
};

/* Bytes of device memory that a model of this shape takes on this backend, where a replica quantizes
 * attention's products or none does; delayed scaling (some kilobytes) and the
 * backend's own scratch aside; 0: the shape is none. */
size_t fpl_model_bytes(const struct fpl_model_shape *shape, const struct fpl_kernels *kernels,
                       int quantizes_attention);

/* Allocates everything that training and evaluation need and draws the initial weights. */
enum fpl_code fpl_model_create(const struct fpl_model_shape *shape, const struct fpl_model_replica *replicas,
                               const struct fpl_kernels *kernels, struct fpl_device *dev,
                               struct fpl_model **out, struct fpl_error *err);
void fpl_model_destroy(struct fpl_model *m); /* NULL is fine */

/* One micro-batch. */
struct fpl_batch {
    int64_t sequences;      /* 1 .. micro_sequences */
    const int32_t *inputs;  /* host [R, sequences, T] */
    const int32_t *targets; /* host [R, sequences, T] */
    uint32_t step;          /* of stochastic rounding's counter */
    int64_t first_row;      /* rows of the step before this micro-batch: random-bit offset */
    double scale;           /* gradients are of scale * sum of losses; used in training only */
};

/* Steps of stochastic rounding's counter that evaluation uses: FPL_EVAL_STEP + training step,
 * so that an evaluation never draws the bits of a training step. */
#define FPL_EVAL_STEP 0x80000000u

/* Losses of every token, host [R, sequences * T], nats.  Nothing is kept for backward. */
void fpl_model_evaluate(struct fpl_model *m, const struct fpl_batch *batch, double *losses);

/* The same, and keeps what fpl_model_backward needs.  The losses are there after the next
 * fpl_model_nonfinite, or check() of the device: a step waits once. */
void fpl_model_forward(struct fpl_model *m, const struct fpl_batch *batch, double *losses);

/* Gradients of the last forward call's batch.  accumulate 0: the first micro-batch of a
 * step, old gradients are replaced; 1: added to. */
void fpl_model_backward(struct fpl_model *m, const struct fpl_batch *batch, int accumulate);

/* Squared norms of all gradients, host [R], after these went through the recipe's format for
 * gradients (kernels.h, struct fpl_adamw), in place: once per step.  There when the losses are. */
void fpl_model_gradient_norm(struct fpl_model *m, double *sqnorm);

/* One AdamW step.  a->sqnorm and a->R are filled in here; fpl_model_gradient_norm of the same
 * gradients must come before it.  Ends the step for delayed scaling. */
void fpl_model_update(struct fpl_model *m, struct fpl_adamw *a);

/* Whether an update may itself meet non-finite inputs: some replica's moments or master weights
 * are quantized. */
int fpl_model_rounds_state(const struct fpl_model *m);

/* Non-finite inputs of quantized operands since creation, host [R]; waits for the device. */
void fpl_model_nonfinite(struct fpl_model *m, int64_t *count);

/* ---- parameters, for checkpoints and tests ------------------------------------------------- */

int fpl_model_parameter_count(const struct fpl_model *m);
const struct fpl_parameter *fpl_model_parameter(const struct fpl_model *m, int index);

/* The flat buffers: device memory, `elements` fpl_real each. */
struct fpl_model_state {
    fpl_real *parameters, *gradients, *moment1, *moment2;
    size_t elements;
};
struct fpl_model_state fpl_model_state(const struct fpl_model *m);

/* What delayed scaling remembers of one replica: device memory, piece by piece, in the order of a
 * model that trains this replica alone. */
void fpl_model_delay(const struct fpl_model *m, int replica,
                     void (*visit)(void *context, float *piece, size_t count), void *context);

/* ---- diagnoses -------------------------------------------------------------------------------- */

/* Quantized operands of a block: FPL_SLOTS of each linear layer, linear layer outermost, then
 * enum fpl_attention_slot.  Names: "qkv.fwd.x", "down.wgrad.dy", "attention.scores.q", ... */
enum { FPL_MODEL_OPERANDS = FPL_LINEARS * FPL_SLOTS + FPL_ATTN_SLOTS };
void fpl_model_operand_name(int operand, char *buf, size_t size);

/* on: forward and backward calls from now on (not evaluations) measure their operands, from zero;
 * off: they do not, what was measured stays. */
enum fpl_code fpl_model_diagnose(struct fpl_model *m, int on, struct fpl_error *err);
/* NULL: not measured (high precision, or never on).  Lives until the next fpl_model_diagnose. */
const struct fpl_diagnosis *fpl_model_diagnosis(const struct fpl_model *m, int64_t layer, int operand,
                                                int replica);

/* Tell the model that the parameters were written from outside. */
void fpl_model_changed(struct fpl_model *m);

#endif
