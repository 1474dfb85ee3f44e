/* yardstick.cu - what benchmarks measure the other operations against (kernels.h): a copy by the
 * runtime, a product by cuBLASLt from operands that lie ready, by the algorithm that training takes
 * (cublaslt.h: no split reduction, float32 results). */
#include "cublaslt.h"
#include "operations.h"
#include "work.h"

void fpl_cuda_copy(struct fpl_device *dev, void *to, const void *from, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    fpl_cuda_copy_later(dev, to, from, bytes, cudaMemcpyDeviceToDevice, "copy");
}

int fpl_cuda_vendor_product(struct fpl_device *dev, int bf16, int64_t M, int64_t N, int64_t K, const void *a,
                            const void *b, float *out) {
    struct fpl_cuda_product p;
    if (fpl_cuda_failed(dev) || dev->lt == NULL) return 0;
    memset(&p, 0, sizeof p);
    p.M = M;
    p.N = N;
    p.K = K;
    p.batch = p.inner = 1;
    p.a = (const float *)a;
    p.b = (const float *)b;
    p.c = out;
    p.a_at.row = K;
    p.a_at.col = 1;
    p.b_at.row = 1;
    p.b_at.col = K;
    p.c_at.row = N;
    p.c_at.col = 1;
    p.carrier = bf16 ? FPL_CARRIER_BF16 : FPL_CARRIER_FP32;
    p.align = (M | N | K) & -(M | N | K);
    if (!fpl_cuda_lt_can(dev, &p)) return 0;
    fpl_cuda_lt_multiply(dev, &p);
    return 1;
}
