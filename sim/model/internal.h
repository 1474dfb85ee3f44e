/* internal.h - the model's own memory; shared by the files of sim/model only. */
#ifndef FPL_MODEL_INTERNAL_H
#define FPL_MODEL_INTERNAL_H

#include "model.h"

#define FPL_NORM_EPS 1e-5
#define FPL_ROTARY_BASE 10000.0

/* Device offsets of one block's tensors in the flat buffers. */
struct fpl_block_offsets {
    int64_t attention_norm, ffn_norm; /* [R, C] */
    int64_t linear[FPL_LINEARS];      /* [R, O, I] */
};

/* What a block keeps for its backward pass. */
struct fpl_block_activations {
    fpl_real *h;          /* [R, n, C] residual stream entering the block */
    fpl_real *normed;     /* [R, n, C] input of qkv */
    fpl_real *rstd;       /* [R, n] */
    fpl_real *qkv;        /* [R, n, 3C] q and k rotated */
    fpl_real *kept;       /* [R, attention_kept()] */
    fpl_real *attended;   /* [R, n, C] input of the attention output layer */
    fpl_real *h_ffn;      /* [R, n, C] residual stream entering the feed-forward half */
    fpl_real *normed_ffn; /* [R, n, C] input of gate and up */
    fpl_real *rstd_ffn;   /* [R, n] */
    fpl_real *gate_up;    /* [R, n, 2F] */
    fpl_real *activated;  /* [R, n, F] input of down */
};

struct fpl_model {
    struct fpl_model_shape shape;
    const struct fpl_kernels *k;
    struct fpl_device *dev;
    uint64_t version; /* of the weights, unique in the process */
    uint64_t *seeds;  /* host [R] */

    /* parameters */
    int parameter_count;
    struct fpl_parameter *parameter;   /* host */
    struct fpl_segment *segment;       /* host, the same segments as a plain array */
    struct fpl_block_offsets *offsets; /* host [L] */
    int64_t embedding, final_norm, head;
    struct fpl_model_state state;
    int64_t summed; /* leading elements (embedding, gains) whose gradients kernels only add to */

    /* operands: host [L][FPL_LINEARS][FPL_SLOTS][R], then identity [R] */
    struct fpl_operand *operand, *identity;
    struct fpl_operand *masked;               /* host [R]: of the call at hand */
    struct fpl_accumulator_plan *accumulator; /* host [L][FPL_RECIPE_ROLES][R] */
    int *clips, any_clips;                    /* host [L][R]: gradients under the clip mask */

    /* state.c: host [L][FPL_ATTN_SLOTS][R] and [FPL_OPT_SLOTS][R]; whether any replica needs them */
    struct fpl_operand *attention, *optimizer;
    int quantizes_attention, quantizes_state[FPL_OPT_SLOTS];
    struct fpl_delay *delays; /* host [delay_count] */
    int delay_count;
    float *delay;                    /* device */
    int observing;                   /* the call at hand is training, not evaluation */
    uint32_t step;                   /* of the last backward call */
    struct fpl_diagnosis *diagnosis; /* host [L][FPL_MODEL_OPERANDS][R]; NULL: never asked for */
    int diagnosing;

    /* device buffers, all kept in owned[] */
    fpl_real *cosines, *sines;           /* [T, D/2] */
    int32_t *inputs, *targets;           /* [R, n] */
    struct fpl_block_activations *block; /* host [L] */
    fpl_real *h_final, *normed_final, *rstd_final;
    fpl_real *logits; /* [R, n, V], then their gradient */
    double *losses;   /* [R, n] */
    double *sqnorm;   /* [R] */
    int64_t *nonfinite;
    fpl_real *delta;                        /* [R, n, C] what a half block adds to the stream */
    fpl_real *dh, *dnormed, *dattended;     /* [R, n, C] */
    fpl_real *dqkv, *dgate_up, *dactivated; /* [R, n, 3C], [R, n, 2F], [R, n, F] */
    void **owned;
    size_t owned_count, bytes; /* bytes asked for */
};

/* O and I of a block's linear layer. */
void fpl_linear_shape(const struct fpl_model_shape *s, enum fpl_linear linear, int64_t *O, int64_t *I);

/* linear.c: operands and accumulators of every layer; y[R, n, O] = Q(x)[R, n, I] Q(w)^T;
 * dw[R, O, I] (+)= Q(dy)^T Q(x), then dx[R, n, I] = Q(dy)[R, n, O] Q(w); the head's products,
 * with identity operands. */
enum fpl_code fpl_operands_init(struct fpl_model *m, const struct fpl_model_replica *replicas,
                                struct fpl_error *err);
void fpl_linear_forward(struct fpl_model *m, const struct fpl_batch *b, int64_t layer, enum fpl_linear linear,
                        const fpl_real *x, fpl_real *y);
void fpl_linear_backward(struct fpl_model *m, const struct fpl_batch *b, int64_t layer,
                         enum fpl_linear linear, const fpl_real *dy, const fpl_real *x, fpl_real *dx,
                         int accumulate);
void fpl_head_product(struct fpl_model *m, const struct fpl_batch *b, enum fpl_role role, const fpl_real *a,
                      const fpl_real *second, fpl_real *out, int accumulate);

/* state.c: attention's and the optimizer's operands and delayed scaling; after fpl_operands_init. */
enum fpl_code fpl_state_init(struct fpl_model *m, const struct fpl_model_replica *replicas,
                             struct fpl_error *err);
/* Attention's operands in this call; NULL where nothing is quantized. */
const struct fpl_attention *fpl_attention_operands(struct fpl_model *m, const struct fpl_batch *b,
                                                   int64_t layer, struct fpl_attention *out);
/* Initial weights, a host copy of the flat buffer, through the master weights' quantizers. */
enum fpl_code fpl_round_initial(const struct fpl_model *m, fpl_real *all, struct fpl_error *err);

/* diagnose.c: no-ops unless m->diagnosing. */
void fpl_diagnose_product(struct fpl_model *m, const struct fpl_batch *b, int64_t layer,
                          enum fpl_linear linear, const struct fpl_gemm *g);
struct fpl_diagnosis *fpl_attention_diagnosis(struct fpl_model *m, int64_t layer);

extern const char *const fpl_linear_names[FPL_LINEARS];

/* parameters.c: the table of tensors (host only), then their initial values. */
enum fpl_code fpl_parameters_layout(struct fpl_model *m, struct fpl_error *err);
enum fpl_code fpl_parameters_init(struct fpl_model *m, struct fpl_error *err);

/* By the device's fetch(), or download() where it has none. */
void fpl_model_fetch(struct fpl_model *m, void *to_host, const void *from, size_t bytes);

#endif
