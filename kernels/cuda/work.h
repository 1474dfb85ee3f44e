/* work.h - a device's list of work, and CUDA graphs made of it.
 *
 * Operations do not launch: kernels, copies, fills and cuBLASLt's products are appended to a list in the
 * order of the calls, which is the order of the stream.  The list is handed to the stream (fpl_cuda_flush)
 * where somebody waits for it - downloads and checks - and before memory is released that it may use.  A
 * training step waits once, so it is one list.
 *
 * Lists repeat.  A list whose shape (kinds, kernels, grids, blocks, sizes, products, filled memory) is met
 * for the first time is issued call by call.  At its second sight it is captured into a CUDA graph: the same
 * calls, so a graph computes what they compute; everything that a first call may set up lazily has then been
 * set up. From then on only nodes whose arguments differ from those of the last launch are told so
 * (cudaGraphExecKernelNodeSetParams), and the graph is launched: one call for some hundred.  Few graphs are
 * kept, the least recently used one goes.  Where the runtime refuses any part of that, the list is issued
 * call by call, graphs are given up for the device, and describe() says why.
 *
 * FPLAW_CUDA_GRAPH=0 issues call by call always; a number N > 1 cuts lists at N operations, so that the
 * device begins with a step while the host still lists its rest; 1, or nothing, is one graph per list.
 */
#ifndef FPL_CUDA_WORK_H
#define FPL_CUDA_WORK_H

#include "device.h"

struct fpl_cuda_lt_call; /* a product by cuBLASLt (cublaslt.h) */

/* Reads FPLAW_CUDA_GRAPH; 0 keeps an error. */
int fpl_cuda_work_open(struct fpl_device *dev);
void fpl_cuda_work_close(struct fpl_device *dev);
/* "" or "; no graphs: WHY" */
void fpl_cuda_work_describe(const struct fpl_device *dev, char *buf, size_t size);

void fpl_cuda_fill_zero(struct fpl_device *dev, void *p, size_t bytes);
/* Both ends must live until the list is through: device memory, or pinned. */
void fpl_cuda_copy_later(struct fpl_device *dev, void *to, const void *from, size_t bytes,
                         enum cudaMemcpyKind kind, const char *what);
void fpl_cuda_product_later(struct fpl_device *dev, const struct fpl_cuda_lt_call *call);

/* Hands all listed work to the stream, without waiting. */
void fpl_cuda_flush(struct fpl_device *dev);

#endif
