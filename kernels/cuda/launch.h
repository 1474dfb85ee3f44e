/* launch.h - the words in which fplaw's CUDA kernels are written, so that a host can execute them.
 *
 * Every kernel starts through FPL_LAUNCH and takes shared memory through FPL_SHARED or
 * FPL_SHARED_DYNAMIC.  Compiled by nvcc these are what they say.  Compiled by a host compiler, the
 * header cuda_on_host.h (tests/host) supplies the same words: a launch runs the grid block by
 * block in shuffled order, each thread as a fibre that stops at barriers and warp collectives,
 * shared memory poisoned between blocks.  So the same sources are tested where there is no GPU.
 *
 * Rules for kernels, which keep both readings equal:
 *   - no `extern __shared__`, no `<<< >>>`, no inline PTX outside device functions that have a
 *     host twin under `#if FPL_HOST_EXECUTION`;
 *   - float arithmetic by operators and explicit fmaf(): nvcc runs with --fmad=false
 *     --ftz=false --prec-div=true --prec-sqrt=true, hosts with -ffp-contract=off;
 *   - no float atomics; integer atomics only where the order cannot be seen in the result;
 *   - warp collectives name their mask; every lane of the mask reaches the same one;
 *   - arguments are passed by value and are plain data.
 */
#ifndef FPL_LAUNCH_H
#define FPL_LAUNCH_H

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#define FPL_HOST_EXECUTION 0

#define FPL_NOINLINE __noinline__
/* Before a loop over a register array: constant bounds, every index known when it is compiled. */
#define FPL_UNROLL _Pragma("unroll")
#define FPL_ROLLED _Pragma("unroll 1")

/* count elements of the block's own memory; not initialised. */
#define FPL_SHARED(type, name, count) __shared__ type name[count]
/* The memory whose size the launch gives; one per kernel, aligned to 16 bytes. */
#define FPL_SHARED_DYNAMIC(type, name)                                                                       \
    extern __shared__ uint4 fpl_shared_dynamic[];                                                            \
    type *name = reinterpret_cast<type *>(fpl_shared_dynamic)

/* kernel<<<grid, block, shared bytes, stream>>>(arguments); the status is cudaGetLastError()'s. */
#define FPL_LAUNCH(kernel, grid, block, shared, stream, ...)                                                 \
    kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)

#else
#define FPL_HOST_EXECUTION 1
#include "cuda_on_host.h"
#define FPL_NOINLINE __attribute__((noinline))
#define FPL_UNROLL
#define FPL_ROLLED
#endif

#define FPL_WARP 32
#define FPL_ALL_LANES 0xffffffffu

#endif
