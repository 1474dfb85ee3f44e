/* operand.h - a quantized operand as CUDA kernels see it.
 *
 * struct fpl_cuda_view says where element (i, j) of an operand lies: the reduction axis is j whatever the
 * memory order is, so wgrad's operands are views with col_stride > 1 and nothing is transposed in
 * memory.  One of the two strides is 1.
 *
 * struct fpl_cuda_operand is the device's copy of a replica's operand: plan, seed and the state of
 * delayed scaling.  What changes from step to step (step, stream, first element) is the same for
 * all replicas of a pack and is passed by value in struct fpl_cuda_at, so that the copies stay equal
 * and are found again (fpl_cuda_parameter).
 *
 * Carriers (carrier.h): an operand is written as float32, or in a narrower type that holds every
 * dequantized value (fpl_cuda_carrier_of proves it from the plan).
 */
#ifndef FPL_CUDA_OPERAND_H
#define FPL_CUDA_OPERAND_H

#include "carrier.h"
#include "device.h"
#include "round_quick.h"

#include "../../formats/random.h"
#include "../../formats/scale.h"

struct fpl_cuda_view {
    int64_t rows, cols, row_stride, col_stride;
    int64_t replica; /* elements from one matrix to the next */
    int64_t heads;   /* matrices of one replica, one after the other; 1 but in attention */
};

/* What a quantizer does beside its meaning when its result travels (carried.h); zero: nothing. */
struct fpl_cuda_carriage {
    float low, high; /* scales outside raise *misfit; misfit NULL: not looked at */
    int32_t *misfit; /* device, this replica's */
    float *factor;   /* device, of the first replica: receives what stays behind; NULL: nothing does */
    int32_t raw;     /* store elements, not scaled back */
    int32_t tensor;  /* store without the tensor's factor of two-level scales */
};

struct fpl_cuda_operand {
    struct fpl_quantizer_plan plan;
    struct fpl_cuda_carriage carriage;
    struct fpl_quick quick;
    uint64_t seed;
    const float *delay; /* state of delayed scaling, NULL: none */
};

struct fpl_cuda_at {
    uint32_t step, stream;
    uint64_t element;
};

/* Where the random bits of R operands start, which agree in it; zeros where none draws any, so that steps
 * that differ in nothing else launch the same (work.h). */
struct fpl_cuda_at fpl_cuda_at_of(int R, const struct fpl_operand *q);

/* Device copies of the operands; NULL keeps an error. */
const struct fpl_cuda_operand *fpl_cuda_operands(struct fpl_device *dev, int R, const struct fpl_operand *q);

static inline int fpl_cuda_is_identity(const struct fpl_operand *q) {
    return q->plan.identity && q->plan.post.identity && q->hadamard == 0;
}

/* Plans whose scales take more than the group's amax: quantized by scales.cu, in float32. */
static inline int fpl_cuda_is_rare(const struct fpl_quantizer_plan *p) {
    return !p->identity && (p->zero_point || p->search);
}

/* 1 if the carrier holds every value that the plan can give (carrier.cu has the rule). */
extern "C" int fpl_cuda_travels(const struct fpl_quantizer_plan *plan, enum fpl_cuda_carrier carrier);
/* The narrowest such carrier: bf16, fp16, tf32, fp32 in this order. */
extern "C" enum fpl_cuda_carrier fpl_cuda_carrier_of(const struct fpl_quantizer_plan *plan);
extern const enum fpl_cuda_carrier fpl_cuda_carrier_order[FPL_CARRIERS];
extern const char *const fpl_cuda_carrier_names[FPL_CARRIERS]; /* index: the carrier */

/* Q(x) of R replicas, in x's own layout, as `carrier`; out may be x where that is float32.  nonfinite: device
 * [R] or NULL.  Equal, to the bit, to fpl_quantize_reference.  q: host [R]; the operands' `at` must agree in
 * step, stream and element.  Hadamard transforms are the caller's. */
void fpl_cuda_quantize_view(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                            const struct fpl_operand *q, const float *x, void *out,
                            enum fpl_cuda_carrier carrier, int64_t *nonfinite);

/* The same with a carriage for each replica, host [R]; heads must be 1, plans not rare. */
void fpl_cuda_quantize_carried(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                               const struct fpl_operand *q, const float *x, void *out,
                               enum fpl_cuda_carrier carrier, const struct fpl_cuda_carriage *carriage,
                               int64_t *nonfinite);

/* Raises bits[z], device, to those of the largest finite magnitude of matrix z of `count` elements. */
void fpl_cuda_amax(struct fpl_device *dev, int64_t matrices, int64_t count, const float *x, unsigned *bits);

/* One replica's operand x leaves its trace for delayed scaling. */
void fpl_cuda_observe_values(struct fpl_device *dev, const struct fpl_cuda_view *view,
                             const struct fpl_operand *q, const float *x);

/* ---- scales of groups, one by one (scales.cu) --------------------------------------------------- */

/* Shape of the groups, as device code needs it: `across` groups in a row of groups. */
struct fpl_cuda_groups {
    int64_t rows, cols, across, count; /* count: of one matrix */
};
struct fpl_cuda_groups fpl_cuda_groups_of(const struct fpl_quantizer_plan *p, const struct fpl_cuda_view *v);

/* The scale of every group of R * heads matrices, [matrices, groups->count] in the order of
 * fpl_quantizer_groups, in scratch slot `slot`; the plans must agree in the shape of their groups.  *s_enc,
 * where not NULL: device [matrices], the first factors of two-level scales, 1 elsewhere; they follow the
 * scales in the same slot. */
struct fpl_group_scale *fpl_cuda_group_scales(struct fpl_device *dev, int slot, int R,
                                              const struct fpl_cuda_view *view, const struct fpl_operand *q,
                                              const float *x, const float **s_enc);

void fpl_cuda_quantize_rare(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                            const struct fpl_operand *q, const float *x, void *out,
                            enum fpl_cuda_carrier carrier, int64_t *nonfinite);

/* The transform along the reduction axis (hadamard.cu): each replica by its operand's `hadamard`, 0 copies;
 * out is not x where anything is transformed along lines. */
void fpl_cuda_hadamard(struct fpl_device *dev, int R, const struct fpl_operand *q, int64_t lines,
                       int64_t width, int along_lines, const float *x, float *out);

#endif
