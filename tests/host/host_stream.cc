/* host_stream.cc - streams, graphs and launches of host execution.
 *
 * A stream is a list of work that is done when somebody waits for it: a host array that is reused too early,
 * or a buffer released under a kernel, shows as wrong numbers or to the address sanitizer.  A graph is a list
 * of nodes in the order of their capture; a launch puts copies of its executable's nodes into the stream, so
 * later changes of their parameters reach later launches only.
 */
#include "cuda_on_host.h"

#include <stdlib.h>
#include <time.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

static cudaError_t last_error = cudaSuccess;
static fpl_host_counts counts = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

fpl_host_counts *fpl_host_counting(void) { return &counts; }
fpl_host_counts fpl_host_counted(void) { return counts; }

cudaError_t fpl_host_fails(cudaError_t e) {
    last_error = e;
    return e;
}

const char *cudaGetErrorName(cudaError_t e) { return e == cudaSuccess ? "cudaSuccess" : "cudaError"; }
const char *cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorInvalidDeviceFunction:
        return "invalid device function";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    default:
        return "invalid argument";
    }
}
cudaError_t cudaGetLastError(void) {
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void) { return last_error; }
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) { return cudaRuntimeGetVersion(version); }

/* ---- kernels ------------------------------------------------------------------------------------------- */

static std::deque<fpl_host_kernel> kernels; /* work points into it */

static const fpl_host_kernel *kernel_at(const void *address) {
    for (const fpl_host_kernel &k : kernels)
        if (k.address == address) return &k;
    return nullptr;
}

void fpl_host_declare(const struct fpl_host_kernel *k) {
    if (kernel_at(k->address) == nullptr) kernels.push_back(*k);
}

static std::vector<std::pair<const void *, size_t>> shared_limits;

cudaError_t fpl_host_set_shared_limit(const void *kernel, cudaFuncAttribute a, int value) {
    if (a != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > 227 * 1024)
        return fpl_host_fails(cudaErrorInvalidValue);
    shared_limits.emplace_back(kernel, static_cast<size_t>(value));
    return cudaSuccess;
}

/* What a device refuses: too large a block, grid or shared memory. */
static int launchable(const void *address, dim3 grid, dim3 block, size_t shared) {
    size_t limit = 48 * 1024;
    for (const auto &l : shared_limits)
        if (l.first == address && l.second > limit) limit = l.second;
    const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
    return threads >= 1 && threads <= 1024 && block.z <= 64 && grid.x >= 1 && grid.x <= 0x7fffffffu &&
           grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535 && shared <= limit;
}

/* ---- nodes ----------------------------------------------------------------------------------------------
 */

enum node_kind { KERNEL, COPY, OTHER };

/* What a node does, as a value: an executable graph and each of its launches have their own. */
struct work {
    node_kind kind = OTHER;
    const fpl_host_kernel *kernel = nullptr;
    dim3 grid, block;
    size_t shared = 0;
    std::vector<std::vector<char>> arguments;
    void *to = nullptr;
    const void *from = nullptr;
    size_t bytes = 0;
    cudaMemcpyKind direction = cudaMemcpyDefault;
    std::function<void()> other;

    void run() const {
        if (kind == COPY) {
            memcpy(to, from, bytes);
        } else if (kind == OTHER) {
            other();
        } else {
            std::vector<void *> at;
            for (const std::vector<char> &a : arguments) at.push_back(const_cast<char *>(a.data()));
            const fpl_host_kernel *const k = kernel;
            fpl_host_run_grid(k->name, grid, block, shared, [=]() { k->call(k->address, at.data()); });
        }
    }
};

struct fpl_host_node {
    work does;
};
struct fpl_host_graph {
    std::vector<std::unique_ptr<fpl_host_node>> node;
};
struct fpl_host_exec {
    std::vector<std::pair<cudaGraphNode_t, work>> node;
};
struct fpl_host_stream {
    std::deque<work> pending;
    std::unique_ptr<fpl_host_graph> capture;
    cudaGraphNode_t last = nullptr; /* captured */
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    int spoiled = 0;
};
struct fpl_host_event {
    struct timespec at;
};

static std::vector<cudaStream_t> streams;

static void finish(cudaStream_t s) {
    while (!s->pending.empty()) {
        const work w = std::move(s->pending.front());
        s->pending.pop_front();
        w.run();
    }
}

void fpl_host_finish(void) {
    for (cudaStream_t s : streams) finish(s);
}

int fpl_host_captures(void) {
    int any = 0;
    for (cudaStream_t s : streams) {
        if (s->capture == nullptr || s->mode == cudaStreamCaptureModeRelaxed) continue;
        s->spoiled = any = 1;
    }
    return any;
}

static void enqueue(cudaStream_t s, work w) {
    if (s == nullptr) {
        fpl_host_finish();
        w.run();
    } else if (s->capture != nullptr) {
        s->capture->node.emplace_back(new fpl_host_node{std::move(w)});
        s->last = s->capture->node.back().get();
    } else {
        s->pending.push_back(std::move(w));
    }
}

void fpl_host_enqueue(cudaStream_t stream, std::function<void()> other) {
    work w;
    w.other = std::move(other);
    enqueue(stream, std::move(w));
}

/* 0: the parameters are no launch. */
static int kernel_work(const void *address, dim3 grid, dim3 block, size_t shared, void *const *arguments,
                       work *w) {
    if (!launchable(address, grid, block, shared)) return 0;
    w->kind = KERNEL;
    w->kernel = kernel_at(address);
    w->grid = grid;
    w->block = block;
    w->shared = shared;
    w->arguments.clear();
    for (size_t i = 0; i < w->kernel->count; i++) {
        const char *const p = static_cast<const char *>(arguments[i]);
        w->arguments.emplace_back(p, p + w->kernel->bytes[i]);
    }
    return 1;
}

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t stream) {
    work w;
    counts.kernels++;
    if (kernel_at(kernel) == nullptr) return fpl_host_fails(cudaErrorInvalidDeviceFunction);
    if (!kernel_work(kernel, grid, block, shared, arguments, &w))
        return fpl_host_fails(cudaErrorInvalidConfiguration);
    enqueue(stream, std::move(w));
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    const int up = kind == cudaMemcpyHostToDevice && !fpl_host_is_pinned(from),
              down = kind == cudaMemcpyDeviceToHost && !fpl_host_is_pinned(to);
    counts.copies++;
    if (to == nullptr || from == nullptr) return fpl_host_fails(cudaErrorInvalidValue);
    work w;
    w.kind = COPY;
    w.to = to;
    w.from = from;
    w.bytes = bytes;
    w.direction = kind;
    if (up && stream != nullptr && stream->capture == nullptr) { /* read before the call returns */
        const std::vector<char> bytes_now(static_cast<const char *>(from),
                                          static_cast<const char *>(from) + bytes);
        w.kind = OTHER;
        w.other = [=]() { memcpy(to, bytes_now.data(), bytes); };
    }
    enqueue(stream, std::move(w));
    if (down && stream != nullptr && stream->capture == nullptr) finish(stream);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
    counts.clears++;
    if (p == nullptr) return fpl_host_fails(cudaErrorInvalidValue);
    fpl_host_enqueue(stream, [=]() { memset(p, value, bytes); });
    return cudaSuccess;
}

/* ---- streams and events -----------------------------------------------------------------------------------
 */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    (void)flags;
    *s = new fpl_host_stream;
    streams.push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    finish(s);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s) streams.erase(streams.begin() + static_cast<long>(i--));
    delete s;
    return cudaSuccess;
}
static cudaError_t wait_for(cudaStream_t s) {
    if (s == nullptr) {
        if (fpl_host_captures()) return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
        fpl_host_finish();
        return cudaSuccess;
    }
    if (s->capture != nullptr) {
        s->spoiled = 1;
        return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
    }
    finish(s);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    counts.waits++;
    return wait_for(s);
}
cudaError_t cudaDeviceSynchronize(void) { return cudaStreamSynchronize(nullptr); }
cudaError_t cudaEventCreate(cudaEvent_t *e) {
    *e = new fpl_host_event;
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    fpl_host_enqueue(s, [=]() { clock_gettime(CLOCK_MONOTONIC, &e->at); });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    (void)e;
    return cudaDeviceSynchronize();
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to) {
    *ms = static_cast<float>(static_cast<double>(to->at.tv_sec - from->at.tv_sec) * 1e3 +
                             static_cast<double>(to->at.tv_nsec - from->at.tv_nsec) * 1e-6);
    return cudaSuccess;
}

/* ---- graphs
 * ------------------------------------------------------------------------------------------------
 */

static std::vector<cudaGraph_t> graphs;

static cudaError_t capturing(cudaStream_t s) {
    if (s == nullptr || s->capture == nullptr) return fpl_host_fails(cudaErrorInvalidValue);
    return s->spoiled ? fpl_host_fails(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
    counts.captures++;
    if (s == nullptr || s->capture != nullptr) return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
    s->capture.reset(new fpl_host_graph);
    s->last = nullptr;
    s->mode = mode;
    s->spoiled = 0;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
    const cudaError_t e = capturing(s);
    *g = nullptr;
    if (e == cudaSuccess) {
        *g = s->capture.release();
        graphs.push_back(*g);
    } else if (s != nullptr) {
        s->capture.reset();
    }
    return e;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t s, cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *g, const cudaGraphNode_t **dependencies,
                                     const cudaGraphEdgeData **edges, size_t *count) {
    static const cudaGraphEdgeData plain = {0, 0, 0, {0, 0, 0, 0, 0}};
    if (s == nullptr || status == nullptr) return fpl_host_fails(cudaErrorInvalidValue);
    *status = s->capture == nullptr ? cudaStreamCaptureStatusNone
              : s->spoiled          ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
    if (*status != cudaStreamCaptureStatusActive) return cudaSuccess;
    if (id != nullptr) *id = 1;
    if (g != nullptr) *g = s->capture.get();
    if (dependencies != nullptr) *dependencies = &s->last;
    if (edges != nullptr) *edges = &plain;
    if (count != nullptr) *count = s->last != nullptr;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags) {
    (void)flags;
    counts.instantiations++;
    if (getenv("FPLAW_HOST_NO_GRAPHS") != nullptr) return fpl_host_fails(cudaErrorMemoryAllocation);
    *x = new fpl_host_exec;
    for (const auto &n : g->node) (*x)->node.emplace_back(n.get(), n->does);
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s) {
    counts.graph_launches++;
    if (s != nullptr && s->capture != nullptr) return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
    for (const auto &n : x->node) enqueue(s, n.second);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    for (size_t i = 0; i < graphs.size(); i++)
        if (graphs[i] == g) graphs.erase(graphs.begin() + static_cast<long>(i--));
    delete g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) {
    delete x;
    return cudaSuccess;
}

/* The executable's own copy of a node whose graph still exists; NULL: none of that kind. */
static work *node_of(cudaGraphExec_t x, cudaGraphNode_t node, node_kind kind) {
    int exists = 0;
    for (cudaGraph_t g : graphs)
        for (const auto &n : g->node) exists |= n.get() == node;
    for (auto &n : x->node)
        if (exists && n.first == node && n.second.kind == kind) return &n.second;
    return nullptr;
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t x, cudaGraphNode_t node,
                                             const cudaKernelNodeParams *p) {
    work *const w = node_of(x, node, KERNEL);
    work changed;
    counts.patches++;
    if (w == nullptr || kernel_at(p->func) == nullptr || p->extra != nullptr ||
        !kernel_work(p->func, p->gridDim, p->blockDim, p->sharedMemBytes, p->kernelParams, &changed))
        return fpl_host_fails(cudaErrorInvalidValue);
    if (getenv("FPLAW_HOST_NO_PATCHES") == nullptr) *w = changed; /* a test that a lost patch shows */
    return cudaSuccess;
}

cudaError_t cudaGraphExecMemcpyNodeSetParams1D(cudaGraphExec_t x, cudaGraphNode_t node, void *to,
                                               const void *from, size_t bytes, cudaMemcpyKind kind) {
    work *const w = node_of(x, node, COPY);
    counts.patches++;
    if (w == nullptr || kind != w->direction || to == nullptr || from == nullptr ||
        (kind == cudaMemcpyHostToDevice && fpl_host_is_pinned(from) != fpl_host_is_pinned(w->from)) ||
        (kind == cudaMemcpyDeviceToHost && fpl_host_is_pinned(to) != fpl_host_is_pinned(w->to)))
        return fpl_host_fails(cudaErrorInvalidValue);
    w->to = to;
    w->from = from;
    w->bytes = bytes;
    return cudaSuccess;
}
