/* reference.h - every operation of kernels/kernels.h as plain loops in double precision.
 *
 * The second witness for all backends and, through reference_kernels (a table for
 * FPL_REAL=double), for the gradients of the model.  Same arguments and shapes as the
 * table's entries (kernels.h), written from their comments and formulas alone: no code is
 * shared with kernels/cpu, nothing is vectorised, blocked or cached, sums run in index
 * order.  Arguments are always double, whatever fpl_real is where this header is read.
 *
 * Quantized products round each operand to float32, quantize it with
 * fpl_quantize_reference (which has an oracle of its own in tests/formats) and multiply the
 * results in double.
 */
#ifndef FPL_TEST_REFERENCE_H
#define FPL_TEST_REFERENCE_H

#include "../../kernels/kernels.h"

void ref_embedding_forward(int R, int64_t n, int64_t C, int64_t V, const int32_t *tokens, const double *table,
                           double *out);
void ref_embedding_backward(int R, int64_t n, int64_t C, int64_t V, const int32_t *tokens, const double *dout,
                            double *dtable);

void ref_rmsnorm_forward(int R, int64_t n, int64_t C, double eps, const double *x, const double *delta,
                         const double *gain, double *h, double *y, double *rstd);
void ref_rmsnorm_backward(int R, int64_t n, int64_t C, const double *dy, const double *h, const double *gain,
                          const double *rstd, const double *dh_in, double *dh, double *dgain);

void ref_attention_forward(int R, int64_t B, int64_t T, int64_t H, int64_t D, const double *cosines,
                           const double *sines, double *qkv, double *probs, double *out,
                           const struct fpl_attention *quantized);
/* Elements of probs per replica. */
int64_t ref_attention_kept(int64_t B, int64_t T, int64_t H, int64_t D, int quantized);
void ref_attention_backward(int R, int64_t B, int64_t T, int64_t H, int64_t D, const double *cosines,
                            const double *sines, const double *qkv, const double *probs, const double *dout,
                            double *dqkv, const struct fpl_attention *quantized);

void ref_swiglu_forward(int R, int64_t n, int64_t F, const double *gate_up, double *out);
void ref_swiglu_backward(int R, int64_t n, int64_t F, const double *gate_up, const double *dout,
                         double *dgate_up);

/* The shape of one replica's product: out[i, j] = sum_k A[i, k] B[j, k], each operand
 * addressed with its reduction axis as columns. */
struct ref_product {
    int64_t rows, cols, depth;
    int64_t a_row, a_col, b_row, b_col; /* strides of A[i, k] and B[j, k] */
    int64_t a_size, b_size, out_size;   /* elements of one replica */
};
struct ref_product ref_product_shape(enum fpl_role role, int64_t n, int64_t O, int64_t I);

/* struct fpl_gemm with double operands. */
void ref_gemm(enum fpl_role role, int R, int64_t n, int64_t O, int64_t I, const double *a, const double *b,
              double *out, int accumulate, const struct fpl_operand *qa, const struct fpl_operand *qb,
              int64_t *nonfinite);

/* (1/sqrt n) H D of formats/hadamard.h, or its transpose, along the columns; n 0: nothing; the
 * second by fpl_hadamard (reference_recipe.c). */
void ref_hadamard(int n, int transposed, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                  double *x);
void ref_hadamard_float(int n, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, float *x);

void ref_clip_mask(int R, int64_t rows, int64_t cols, const struct fpl_operand *q, const double *x,
                   double *gradient);

void ref_cross_entropy(int R, int64_t n, int64_t V, const double *logits, const int32_t *targets,
                       double scale, double *loss, double *dlogits);

void ref_sqnorm(int R, const struct fpl_segment *segments, int count, const double *g, double *out);
/* x[lines, width] in place, as its operation sees it (reference_quantize.c); q NULL or identity:
 * x stays, whatever its precision.  Returns the number of non-finite inputs that count. */
int64_t ref_quantize_operand(const struct fpl_operand *q, int64_t lines, int64_t width, int along_lines,
                             double *x);
/* active NULL: all; q NULL: nothing */
void ref_quantize_tensors(int R, const struct fpl_segment *segments, int count, const struct fpl_operand *q,
                          const int32_t *active, double *x, int64_t *nonfinite);
void ref_delay(const struct fpl_delay *states, int count, int64_t step, float *buffer);
void ref_adamw(const struct fpl_adamw *a, const struct fpl_segment *segments, int count, double *p,
               const double *g, double *m, double *v);

/* The reference table's device: host memory from calloc (table.c). */
enum fpl_code ref_device_open(struct fpl_device **dev, const struct fpl_device_options *options,
                              struct fpl_error *err);
void ref_device_close(struct fpl_device *dev);
void ref_device_describe(const struct fpl_device *dev, char *buf, size_t size);
enum fpl_code ref_device_check(struct fpl_device *dev, struct fpl_error *err);
void *ref_device_alloc(struct fpl_device *dev, size_t bytes);
void ref_device_release(struct fpl_device *dev, void *p);
void ref_device_copy(struct fpl_device *dev, void *to, const void *from, size_t bytes);
void ref_device_zero(struct fpl_device *dev, void *p, size_t bytes);

/* The table for FPL_REAL=double (table.c, compiled so): name "reference", memory from calloc. */
extern const struct fpl_kernels reference_kernels;

#endif
