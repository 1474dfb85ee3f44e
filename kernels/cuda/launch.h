/* launch.h - the words in which fplaw's CUDA kernels are written, so that a host can execute them.
 *
 * Every kernel starts through FPL_LAUNCH, which lists it (work.h), and takes shared memory through FPL_SHARED
 * or FPL_SHARED_DYNAMIC.  Compiled by nvcc these are what they say.  Compiled by a host compiler, the header
 * cuda_on_host.h (tests/host) supplies the same words: a launch runs the grid block by block in shuffled
 * order, each thread as a fibre that stops at barriers and warp collectives, shared memory poisoned between
 * blocks.  So the same sources are tested where there is no GPU.
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
/* A launch by address needs no more than nvcc keeps in the program. */
#define FPL_KNOWN(name, kernel) reinterpret_cast<const void *>(kernel)

#else
#define FPL_HOST_EXECUTION 1
#include "cuda_on_host.h"
#define FPL_KNOWN(name, kernel) fpl_host_known(name, kernel)
#define FPL_NOINLINE __attribute__((noinline))
#define FPL_UNROLL
#define FPL_ROLLED
#endif

#include <type_traits>

struct fpl_device;

/* Appends a kernel to the device's list of work (work.h); arguments are copied. */
void fpl_cuda_kernel(struct fpl_device *dev, const char *name, const void *kernel, dim3 grid, dim3 block,
                     size_t shared, size_t count, void *const *arguments, const size_t *sizes);

template <typename... P> struct fpl_kernel_arguments {
    static constexpr size_t sizes[sizeof...(P)] = {sizeof(P)...};
};

/* Into the device's list; its status comes with the list's. */
template <typename... P>
static inline void fpl_launch(struct fpl_device *to, const char *name, void (*kernel)(P...), dim3 grid,
                              dim3 block, size_t shared, std::common_type_t<P>... value) {
    void *const at[] = {const_cast<void *>(static_cast<const void *>(&value))...};
    fpl_cuda_kernel(to, name, FPL_KNOWN(name, kernel), grid, block, shared, sizeof...(P), at,
                    fpl_kernel_arguments<P...>::sizes);
}

/* Into a stream; the status is cudaGetLastError()'s. */
template <typename... P>
static inline void fpl_launch(cudaStream_t to, const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                              size_t shared, std::common_type_t<P>... value) {
    void *at[] = {const_cast<void *>(static_cast<const void *>(&value))...};
    (void)name;
    (void)cudaLaunchKernel(FPL_KNOWN(name, kernel), grid, block, at, shared, to);
}

/* kernel(arguments) on grid x block threads with so many bytes of FPL_SHARED_DYNAMIC, for a device or in a
 * stream. */
#define FPL_LAUNCH(kernel, grid, block, shared, to, ...)                                                     \
    fpl_launch(to, #kernel, kernel, grid, block, shared, __VA_ARGS__)

#define FPL_WARP 32
#define FPL_ALL_LANES 0xffffffffu

#endif
