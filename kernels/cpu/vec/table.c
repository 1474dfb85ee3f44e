/* table.c - this level's table of operations. */
#include "simd.h"

#include "ops.h"

extern const struct fpl_kernels FPL_VEC(kernels);

const struct fpl_kernels FPL_VEC(kernels) = {
    .name = "cpu",
    .open = fpl_cpu_open,
    .close = fpl_cpu_close,
    .describe = fpl_cpu_describe,
    .check = fpl_cpu_check,
    .alloc = fpl_cpu_alloc,
    .release = fpl_cpu_release,
    .upload = fpl_cpu_upload,
    .download = fpl_cpu_download,
    .zero = fpl_cpu_zero,
    .embedding_forward = FPL_VEC(embedding_forward),
    .embedding_backward = FPL_VEC(embedding_backward),
    .rmsnorm_forward = FPL_VEC(rmsnorm_forward),
    .rmsnorm_backward = FPL_VEC(rmsnorm_backward),
    .attention_forward = FPL_VEC(attention_forward),
    .attention_backward = FPL_VEC(attention_backward),
    .attention_kept = FPL_VEC(attention_kept),
    .swiglu_forward = FPL_VEC(swiglu_forward),
    .swiglu_backward = FPL_VEC(swiglu_backward),
    .gemm = FPL_VEC(gemm),
    .clip_mask = FPL_VEC(clip_mask),
    .quantize = FPL_VEC(quantize),
    .quantize_transposed = FPL_VEC(quantize_transposed),
    .cross_entropy = FPL_VEC(cross_entropy),
    .sqnorm = FPL_VEC(sqnorm),
    .quantize_tensors = FPL_VEC(quantize_tensors),
    .delay = fpl_cpu_delay,
    .diagnose = FPL_VEC(diagnose),
    .adamw = FPL_VEC(adamw),
};
