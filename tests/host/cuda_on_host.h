/* cuda_on_host.h - enough of CUDA C++ for a host compiler to build and execute fplaw's kernels.
 *
 * What a kernel may use: threadIdx, blockIdx, blockDim, gridDim; __syncthreads and warp
 * collectives; integer atomics; the intrinsics listed below; the runtime calls listed below.  A
 * word that is missing here is a compile error, so nothing is silently different.
 *
 * Execution (host.cc): a launch runs its blocks one after another in an order that a seed
 * shuffles; the threads of a block are fibres on stacks of their own.  A fibre runs until it ends
 * or waits.  Which fibre runs first - forward, reversed, shuffled - is set by fpl_host_order:
 * a kernel whose bits depend on it misses a barrier.  Shared memory is allocated at its exact size and
 * filled with NaN before each block; device memory is a host allocation of exactly the size asked
 * for.  With the address sanitizer both make an access outside a buffer an error.
 *
 * Errors that a device would answer with a hang or silence end the program with one line that
 * names kernel and block: a deadlock, lanes of one mask in different collectives, a shuffle from a
 * lane outside the mask.
 */
#ifndef FPL_CUDA_ON_HOST_H
#define FPL_CUDA_ON_HOST_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <utility>

#include "order.h"

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

/* ---- vector types -------------------------------------------------------------------------- */

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

/* ---- the thread that runs now ---------------------------------------------------------------- */

struct fpl_host_thread {
    uint3 thread, block;
    dim3 threads, blocks;
};
extern fpl_host_thread fpl_host_now;
inline const uint3 &threadIdx = fpl_host_now.thread, &blockIdx = fpl_host_now.block;
inline const dim3 &blockDim = fpl_host_now.threads, &gridDim = fpl_host_now.blocks;

/* The block's memory of a declaration, told apart by its place in the source. */
void *fpl_host_shared(const void *declaration, size_t bytes);
#define FPL_SHARED(type, name, count)                                                                        \
    static const char name##_declared = 0;                                                                   \
    type *const name = static_cast<type *>(fpl_host_shared(&name##_declared, sizeof(type) * (count)))
#define FPL_SHARED_DYNAMIC(type, name) type *const name = static_cast<type *>(fpl_host_shared(nullptr, 0))

/* ---- barriers and warp collectives ------------------------------------------------------------ */

void __syncthreads(void);
int __syncthreads_or(int predicate);

/* Every lane of `mask` hands in `mine`; when all have come, together(lanes, mask) runs once, with NULL for
 * lanes outside the mask, and all go on.  Host twins of matrix-unit instructions use this too. */
typedef void fpl_host_together(void *const lane[32], unsigned mask);
void fpl_host_warp(unsigned mask, fpl_host_together *together, void *mine);
unsigned fpl_host_lane(void);
[[noreturn]] void fpl_host_fail(const char *what);

template <typename T> struct fpl_host_shuffle {
    T value, result;
    int from;
    static void together(void *const lane[32], unsigned mask) {
        for (int i = 0; i < 32; i++) {
            if (lane[i] == nullptr) continue;
            auto *s = static_cast<fpl_host_shuffle *>(lane[i]);
            if (!(mask >> s->from & 1u)) fpl_host_fail("a shuffle reads a lane outside its mask");
            s->result = static_cast<fpl_host_shuffle *>(lane[s->from])->value;
        }
    }
};
template <typename T> static inline T fpl_host_shuffled(unsigned mask, T value, int from) {
    fpl_host_shuffle<T> s = {value, value, from};
    fpl_host_warp(mask, &fpl_host_shuffle<T>::together, &s);
    return s.result;
}
template <typename T> static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    const int lane = static_cast<int>(fpl_host_lane());
    return fpl_host_shuffled(mask, v, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32) {
    const int lane = static_cast<int>(fpl_host_lane()), to = lane ^ by;
    return fpl_host_shuffled(mask, v, (to & ~(width - 1)) > (lane & ~(width - 1)) ? lane : to);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    const int lane = static_cast<int>(fpl_host_lane()), to = lane + static_cast<int>(by);
    return fpl_host_shuffled(mask, v, (lane & (width - 1)) + static_cast<int>(by) < width ? to : lane);
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    const int lane = static_cast<int>(fpl_host_lane()), to = lane - static_cast<int>(by);
    return fpl_host_shuffled(mask, v, (lane & (width - 1)) >= static_cast<int>(by) ? to : lane);
}
void __syncwarp(unsigned mask = 0xffffffffu);
unsigned __ballot_sync(unsigned mask, int predicate);
static inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
static inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
static inline void __threadfence(void) {}

/* ---- intrinsics --------------------------------------------------------------------------------- */

static inline unsigned __float_as_uint(float x) {
    unsigned u;
    memcpy(&u, &x, sizeof u);
    return u;
}
static inline float __uint_as_float(unsigned u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
/* Arithmetic rounded down, up or toward zero, from the nearest sum and what it lost (Knuth's two-sum), which
 * tells where the exact value lies. */
static inline double fpl_host_lost(double s, double a, double b) {
    const double part = s - a;
    return (a - (s - part)) + (b - part);
}
/* The double next to s on the side of zero, where |s + lost| < |s|. */
static inline double fpl_host_toward_zero(double s, double lost) {
    return (s > 0 && lost < 0) || (s < 0 && lost > 0) ? nextafter(s, 0) : s;
}
static inline double __dadd_rz(double a, double b) {
    const double s = a + b;
    return fpl_host_toward_zero(s, fpl_host_lost(s, a, b));
}
/* Of factors whose product is exact, as that of two float32 values is. */
static inline double __fma_rz(double a, double b, double c) { return __dadd_rz(a * b, c); }
/* a b + c to nearest, and how the exact value compares with that: below -1, equal 0, above 1. */
static inline float fpl_host_fma(float a, float b, float c, int *side) {
    const double p = static_cast<double>(a) * static_cast<double>(b), s = p + static_cast<double>(c),
                 lost = fpl_host_lost(s, p, static_cast<double>(c));
    const float f = fmaf(a, b, c);
    const double left = (s - static_cast<double>(f)) + lost; /* the first difference is exact */
    *side = left > 0 ? 1 : left < 0 ? -1 : 0;
    return f;
}
static inline float __fmaf_rd(float a, float b, float c) {
    int side;
    const float f = fpl_host_fma(a, b, c, &side);
    const bool cancelled = f == 0 && side == 0 && !(signbit(c) == (signbit(a) ^ signbit(b)));
    return side < 0 ? nextafterf(f, -INFINITY) : cancelled ? -0.0f : f;
}
static inline float __fmaf_ru(float a, float b, float c) {
    int side;
    const float f = fpl_host_fma(a, b, c, &side);
    return side > 0 ? nextafterf(f, INFINITY) : f;
}
static inline float __fmaf_rz(float a, float b, float c) {
    int side;
    const float f = fpl_host_fma(a, b, c, &side);
    return (f > 0 && side < 0) || (f < 0 && side > 0) ? nextafterf(f, 0) : f;
}
static inline float __fadd_rz(float a, float b) { return __fmaf_rz(a, 1.0f, b); }
template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline void __stcs(T *p, T v) { *p = v; }

template <typename T> static inline T atomicAdd(T *p, T v) {
    static_assert(static_cast<T>(0.5) == static_cast<T>(0),
                  "no float atomics: their order shows in the result");
    const T old = *p;
    *p = static_cast<T>(old + v);
    return old;
}
template <typename T> static inline T atomicMax(T *p, T v) {
    static_assert(static_cast<T>(0.5) == static_cast<T>(0), "integers only");
    const T old = *p;
    if (v > old) *p = v;
    return old;
}
template <typename T> static inline T atomicOr(T *p, T v) {
    const T old = *p;
    *p = old | v;
    return old;
}

/* ---- the runtime ------------------------------------------------------------------------------------- */

typedef int cudaError_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInvalidDeviceFunction = 98,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
};
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated
};
enum { cudaStreamNonBlocking = 1 };
typedef struct fpl_host_stream *cudaStream_t;
typedef struct fpl_host_event *cudaEvent_t;
typedef struct fpl_host_graph *cudaGraph_t;
typedef struct fpl_host_node *cudaGraphNode_t;
typedef struct fpl_host_exec *cudaGraphExec_t;
struct cudaGraphEdgeData {
    unsigned char from_port, to_port, type, reserved[5];
};
struct cudaKernelNodeParams {
    void *func;
    dim3 gridDim, blockDim;
    unsigned sharedMemBytes;
    void **kernelParams, **extra;
};
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, l2CacheSize;
};

const char *cudaGetErrorString(cudaError_t e);
const char *cudaGetErrorName(cudaError_t e);
cudaError_t cudaGetLastError(void);
cudaError_t fpl_host_fails(cudaError_t e); /* keeps it for cudaGetLastError */
cudaError_t cudaPeekAtLastError(void);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDevice(int *device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaDeviceGetPCIBusId(char *bus, int size, int device);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
/* Work of a stream is done when somebody waits for it, as late as a device might: what copies read from
 * pinned memory is read then.  Copies of pageable memory are done with the host's side when the call
 * returns.  The null stream works at once. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaEventCreate(cudaEvent_t *e);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t stream);
/* Work between begin and end is recorded, not run; a launch of the graph runs it.  While a stream captures,
 * waiting for it and (but in relaxed mode) allocating and releasing memory are refused, and spoil the
 * capture. */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, cudaStreamCaptureStatus *status,
                                     unsigned long long *id = nullptr, cudaGraph_t *g = nullptr,
                                     const cudaGraphNode_t **dependencies = nullptr,
                                     const cudaGraphEdgeData **edges = nullptr, size_t *count = nullptr);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x);
/* For later launches; the node is one of the graph that x was made of, which still exists. */
cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t x, cudaGraphNode_t node,
                                             const cudaKernelNodeParams *p);
cudaError_t cudaGraphExecMemcpyNodeSetParams1D(cudaGraphExec_t x, cudaGraphNode_t node, void *to,
                                               const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t fpl_host_set_shared_limit(const void *kernel, cudaFuncAttribute a, int value);
template <typename F>
static inline cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute a, int value) {
    return fpl_host_set_shared_limit(reinterpret_cast<const void *>(kernel), a, value);
}

/* ---- launches ---------------------------------------------------------------------------------------------
 */

/* What nvcc knows of a kernel and keeps in the program: without it there is no launch by address. */
struct fpl_host_kernel {
    const char *name;
    const void *address;
    size_t count;
    const size_t *bytes; /* of each argument */
    void (*call)(const void *address, void *const *arguments);
};
void fpl_host_declare(const struct fpl_host_kernel *k);

template <typename... P> struct fpl_host_signature {
    static constexpr size_t bytes[sizeof...(P) + 1] = {sizeof(P)..., 0};
    template <size_t... I>
    static void call_each(const void *address, void *const *arguments, std::index_sequence<I...>) {
        reinterpret_cast<void (*)(P...)>(const_cast<void *>(address))(*static_cast<P *>(arguments[I])...);
    }
    static void call(const void *address, void *const *arguments) {
        call_each(address, arguments, std::index_sequence_for<P...>());
    }
};
template <typename... P> static inline const void *fpl_host_known(const char *name, void (*kernel)(P...)) {
    const void *const address = reinterpret_cast<const void *>(kernel);
    const struct fpl_host_kernel k = {name, address, sizeof...(P), fpl_host_signature<P...>::bytes,
                                      fpl_host_signature<P...>::call};
    fpl_host_declare(&k);
    return address;
}

/* Work of a stream that is no kernel; the fake cuBLASLt uses it. */
void fpl_host_enqueue(cudaStream_t stream, std::function<void()> work);
void fpl_host_run_grid(const char *kernel, dim3 grid, dim3 block, size_t shared, std::function<void()> body);
int fpl_host_is_pinned(const void *p);
int fpl_host_captures(void); /* some stream does, not in relaxed mode: that spoils it */
void fpl_host_finish(void);  /* all streams: what cudaFree waits for */
struct fpl_host_counts *fpl_host_counting(void);

/* cuBLASLt's calls by name, served by tests/host/cublaslt.cc; NULL: the library has no such call. */
void *fpl_host_cublaslt(const char *name);
/* The same for NVML (tests/host/nvml.cc), and, by its file's name, whether there is one. */
void *fpl_host_nvml(const char *name);

/* Where fpl_host_fail jumps instead of ending the program; for tests of this header itself. */
void fpl_host_on_failure(void (*handler)(const char *message));

#endif
