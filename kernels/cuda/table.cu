/* table.cu - the CUDA backend as one table of operations (kernels.h). */
#include "operations.h"

static struct fpl_kernels table(void) {
    struct fpl_kernels k;
    memset(&k, 0, sizeof k);
    k.name = "cuda";
    k.open = fpl_cuda_open;
    k.close = fpl_cuda_close;
    k.describe = fpl_cuda_describe;
    k.check = fpl_cuda_check;
    k.devices = fpl_cuda_devices;
    k.about = fpl_cuda_about;
    k.replicas = fpl_cuda_replicas;
    k.joules = fpl_cuda_joules;
    k.peak_bytes = fpl_cuda_peak_bytes;
    k.alloc = fpl_cuda_alloc;
    k.release = fpl_cuda_release;
    k.upload = fpl_cuda_upload;
    k.download = fpl_cuda_download;
    k.fetch = fpl_cuda_fetch;
    k.zero = fpl_cuda_zero;
    k.embedding_forward = fpl_cuda_embedding_forward;
    k.embedding_backward = fpl_cuda_embedding_backward;
    k.rmsnorm_forward = fpl_cuda_rmsnorm_forward;
    k.rmsnorm_backward = fpl_cuda_rmsnorm_backward;
    k.swiglu_forward = fpl_cuda_swiglu_forward;
    k.swiglu_backward = fpl_cuda_swiglu_backward;
    k.cross_entropy = fpl_cuda_cross_entropy;
    k.attention_kept = fpl_cuda_attention_kept;
    k.attention_forward = fpl_cuda_attention_forward;
    k.attention_backward = fpl_cuda_attention_backward;
    k.gemm = fpl_cuda_gemm;
    k.clip_mask = fpl_cuda_clip_mask;
    k.quantize_tensors = fpl_cuda_quantize_tensors;
    k.diagnose = fpl_cuda_diagnose;
    k.quantize = fpl_cuda_quantize;
    k.quantize_transposed = fpl_cuda_quantize_transposed;
    k.quantize_both = fpl_cuda_quantize_both;
    k.delay = fpl_cuda_delay;
    k.sqnorm = fpl_cuda_sqnorm;
    k.adamw = fpl_cuda_adamw;
    k.copy = fpl_cuda_copy;
    k.vendor_product = fpl_cuda_vendor_product;
    return k;
}

/* By a function: C++17 has no designated initializers, and a table in order of declaration would be
 * wrong without notice when an entry moves. */
extern "C" const struct fpl_kernels fpl_kernels_cuda;
const struct fpl_kernels fpl_kernels_cuda = table();
