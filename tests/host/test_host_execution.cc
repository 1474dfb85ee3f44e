/* test_host_execution.cc - the executor of CUDA kernels is itself put to the test: right kernels
 * give the right sums in every order, and each kind of wrong kernel is caught. */
#include "../../kernels/cuda/launch.h"

#include <setjmp.h>
#include <stdio.h>

#include <vector>

static const cudaStream_t at_once = nullptr;
static int failures;
#define CHECK(what)                                                                                          \
    do {                                                                                                     \
        if (!(what)) {                                                                                       \
            printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, #what);                                         \
            failures++;                                                                                      \
        }                                                                                                    \
    } while (0)

/* A block's sum by shuffles, then by shared memory. */
__global__ void block_sums(const float *x, float *out, int n) {
    FPL_SHARED(float, part, 32);
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    float v = i < n ? x[i] : 0.0f;
    for (int by = 16; by > 0; by /= 2) v += __shfl_xor_sync(FPL_ALL_LANES, v, by);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (unsigned w = 0; w < blockDim.x / 32; w++) sum += part[w];
        out[blockIdx.x] = sum;
    }
}

/* The same without its barrier. */
__global__ void forgotten_barrier(const float *x, float *out) {
    FPL_SHARED(float, part, 4);
    float v = x[threadIdx.x];
    for (int by = 16; by > 0; by /= 2) v += __shfl_xor_sync(FPL_ALL_LANES, v, by);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    if (threadIdx.x == 64) out[0] = part[0] + part[1] + part[2] + part[3];
}

__global__ void reads_poison(float *out) {
    FPL_SHARED_DYNAMIC(float, memory);
    out[0] = memory[0];
    memory[0] = 1.0f;
}

__global__ void half_a_warp_stays_behind(int *out) {
    if (threadIdx.x < 16) out[0] = __shfl_sync(FPL_ALL_LANES, 1, 0);
}

__global__ void different_collectives(int *out) {
    if (threadIdx.x < 16)
        out[0] = __any_sync(FPL_ALL_LANES, 1);
    else
        out[1] = __shfl_sync(FPL_ALL_LANES, 1, 0);
}

__global__ void counts(unsigned *out) {
    const unsigned votes = __ballot_sync(FPL_ALL_LANES, threadIdx.x % 3 == 0);
    if (__syncthreads_or(threadIdx.x == 40)) atomicAdd(out, static_cast<unsigned>(__popc(votes)));
    const int up = __shfl_up_sync(FPL_ALL_LANES, static_cast<int>(threadIdx.x), 1);
    const int down = __shfl_down_sync(FPL_ALL_LANES, static_cast<int>(threadIdx.x), 1, 16);
    if (threadIdx.x == 5) out[1] = static_cast<unsigned>(up);
    if (threadIdx.x == 15) out[2] = static_cast<unsigned>(down);
}

static jmp_buf back;
static char said[512];
[[maybe_unused]] static void caught(const char *message) {
    snprintf(said, sizeof said, "%s", message);
    longjmp(back, 1);
}

static void orders(void) {
    const int n = 1000;
    std::vector<float> x(static_cast<size_t>(n)), out(8);
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[static_cast<size_t>(i)] = static_cast<float>(i % 17) * 0.5f;
    for (int order = 0; order < 3; order++) {
        fpl_host_order(order, 7);
        FPL_LAUNCH(block_sums, dim3(8), dim3(128), 0, at_once, x.data(), out.data(), n);
        double total = 0;
        for (float v : out) total += static_cast<double>(v);
        CHECK(total == sum);
    }
    unsigned c[3] = {0, 0, 0};
    FPL_LAUNCH(counts, dim3(1), dim3(64), 0, at_once, c);
    CHECK(c[0] == 32 * 11 + 32 * 11); /* multiples of 3 below 32, and in 32 .. 63 */
    CHECK(c[1] == 4 && c[2] == 15);
}

static void a_missing_barrier_shows(void) {
    std::vector<float> x(128, 1.0f);
    float out[3];
    for (int order = 0; order < 3; order++) {
        fpl_host_order(order, 3);
        FPL_LAUNCH(forgotten_barrier, dim3(1), dim3(128), 0, at_once, x.data(), &out[order]);
    }
    CHECK(!(out[0] == 128.0f && out[1] == 128.0f && out[2] == 128.0f));
}

static void poison(void) {
    float out = 0.0f;
    for (int again = 0; again < 2; again++) {
        FPL_LAUNCH(reads_poison, dim3(2), dim3(1), 64, at_once, &out);
        CHECK(out != out);
    }
}

static void refusals(void) {
    int out[2] = {0, 0};
    float f = 0.0f;
    FPL_LAUNCH(reads_poison, dim3(1), dim3(1025), 0, at_once, &f);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    FPL_LAUNCH(reads_poison, dim3(1), dim3(1), 100 * 1024, at_once, &f);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaFuncSetAttribute(reads_poison, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 * 1024) ==
          cudaSuccess);
    FPL_LAUNCH(reads_poison, dim3(1), dim3(1), 100 * 1024, at_once, &f);
    CHECK(cudaGetLastError() == cudaSuccess);
    (void)out;
}

/* A stream works when it is waited for; what is pageable is read at once. */
static void streams(void) {
    cudaStream_t s;
    int *device = nullptr, *pinned = nullptr, pageable = 1, back[2] = {0, 0};
    CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaMalloc(reinterpret_cast<void **>(&device), 2 * sizeof(int)) == cudaSuccess);
    CHECK(cudaMallocHost(reinterpret_cast<void **>(&pinned), sizeof(int)) == cudaSuccess);
    *pinned = 1;
    CHECK(cudaMemcpyAsync(device, pinned, sizeof(int), cudaMemcpyHostToDevice, s) == cudaSuccess);
    CHECK(cudaMemcpyAsync(device + 1, &pageable, sizeof(int), cudaMemcpyHostToDevice, s) == cudaSuccess);
    *pinned = pageable = 2;
    CHECK(cudaMemcpyAsync(back, device, sizeof back, cudaMemcpyDeviceToHost, s) == cudaSuccess);
    CHECK(back[0] == 2 && back[1] == 1);
    CHECK(cudaFreeHost(device) == cudaErrorInvalidValue);
    CHECK(cudaFreeHost(pinned) == cudaSuccess && cudaFree(device) == cudaSuccess);
    CHECK(cudaStreamDestroy(s) == cudaSuccess);
    (void)cudaGetLastError();
}

/* The node that the last launch became. */
static cudaGraphNode_t last_node(cudaStream_t s) {
    cudaStreamCaptureStatus status;
    const cudaGraphNode_t *nodes = nullptr;
    const cudaGraphEdgeData *edges = nullptr;
    size_t count = 0;
    CHECK(cudaStreamGetCaptureInfo(s, &status, nullptr, nullptr, &nodes, &edges, &count) == cudaSuccess);
    CHECK(status == cudaStreamCaptureStatusActive && count == 1);
    return nodes[0];
}

static void graphs(void) {
    cudaStream_t s;
    cudaGraph_t g;
    cudaGraphExec_t x;
    unsigned c[3] = {0, 0, 0}, other[3] = {0, 0, 0}, *to = other;
    CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
    CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    FPL_LAUNCH(counts, dim3(1), dim3(64), 0, s, c);
    const cudaGraphNode_t node = last_node(s);
    CHECK(cudaStreamEndCapture(s, &g) == cudaSuccess);
    CHECK(cudaStreamSynchronize(s) == cudaSuccess && c[0] == 0);
    CHECK(cudaGraphInstantiate(&x, g, 0) == cudaSuccess);
    CHECK(cudaGraphLaunch(x, s) == cudaSuccess && cudaGraphLaunch(x, s) == cudaSuccess);
    /* Launches that are under way keep their arguments. */
    void *arguments[] = {&to};
    cudaKernelNodeParams p = {reinterpret_cast<void *>(counts), dim3(1), dim3(64), 0, arguments, nullptr};
    CHECK(cudaGraphExecKernelNodeSetParams(x, node, &p) == cudaSuccess);
    CHECK(cudaStreamSynchronize(s) == cudaSuccess);
    CHECK(c[0] == 2 * 64 * 11 && other[0] == 0);
    CHECK(cudaGraphLaunch(x, s) == cudaSuccess && cudaStreamSynchronize(s) == cudaSuccess);
    CHECK(c[0] == 2 * 64 * 11 && other[0] == 64 * 11);
    p.blockDim = dim3(2000);
    CHECK(cudaGraphExecKernelNodeSetParams(x, node, &p) != cudaSuccess);
    CHECK(cudaGraphExecMemcpyNodeSetParams1D(x, node, c, other, 4, cudaMemcpyDeviceToDevice) != cudaSuccess);
    p.blockDim = dim3(64);
    cudaGraphDestroy(g);
    CHECK(cudaGraphExecKernelNodeSetParams(x, node, &p) != cudaSuccess);
    cudaGraphExecDestroy(x);
    cudaStreamDestroy(s);
    (void)cudaGetLastError();
}

/* What a capture refuses also spoils it. */
static void spoiled_captures(void) {
    cudaStream_t s;
    cudaGraph_t g;
    void *p = nullptr;
    unsigned c[3] = {0, 0, 0};
    CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess);
    for (int how = 0; how < 2; how++) {
        CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
        FPL_LAUNCH(counts, dim3(1), dim3(64), 0, s, c);
        CHECK((how == 0 ? cudaMalloc(&p, 64) : cudaStreamSynchronize(s)) ==
              cudaErrorStreamCaptureUnsupported);
        CHECK(cudaStreamEndCapture(s, &g) == cudaErrorStreamCaptureInvalidated && g == nullptr);
    }
    FPL_LAUNCH(counts, dim3(1), dim3(64), 0, s, c); /* the stream is of use again */
    CHECK(cudaStreamSynchronize(s) == cudaSuccess && c[0] == 64 * 11);
    cudaStreamDestroy(s);
    (void)cudaGetLastError();
}

/* Last: a caught failure leaves fibres behind. */
[[maybe_unused]] static void wrong_kernels_are_caught(void) {
    int out[2];
    fpl_host_on_failure(caught);
    if (setjmp(back) == 0) {
        FPL_LAUNCH(half_a_warp_stays_behind, dim3(1), dim3(32), 0, at_once, out);
        CHECK(!"a lane that ended is waited for");
    }
    CHECK(strstr(said, "has ended") != nullptr || strstr(said, "deadlock") != nullptr);
    if (setjmp(back) == 0) {
        FPL_LAUNCH(different_collectives, dim3(1), dim3(32), 0, at_once, out);
        CHECK(!"different collectives met");
    }
    CHECK(strstr(said, "different collectives") != nullptr);
}

int main(void) {
    orders();
    a_missing_barrier_shows();
    poison();
    refusals();
    streams();
    graphs();
    spoiled_captures();
#if !defined(__SANITIZE_ADDRESS__)
    wrong_kernels_are_caught(); /* it leaves fibres by longjmp, which the sanitizer would have to be told */
#endif
    printf(failures == 0 ? "host execution: all checks passed\n" : "host execution: %d checks FAILED\n",
           failures);
    return failures != 0;
}
