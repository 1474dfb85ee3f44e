/* host_device.cc - the devices of host execution and their memory.
 *
 * Each allocation is one of the host's own of the exact size, so that an address sanitizer sees
 * what lies beside it.  FPLAW_HOST_DEVICES gives the number of devices (1), FPLAW_HOST_MEMORY the
 * bytes that all allocations of the process may take together (2^34): tests of hosts with several
 * GPUs and of full ones.
 */
#include "cuda_on_host.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>

static size_t setting(const char *name, size_t fallback) {
    const char *text = getenv(name);
    return text != nullptr ? strtoull(text, nullptr, 10) : fallback;
}

static int devices() {
    static const int count = static_cast<int>(setting("FPLAW_HOST_DEVICES", 1));
    return count;
}

static size_t memory() {
    static const size_t bytes = setting("FPLAW_HOST_MEMORY", static_cast<size_t>(1) << 34);
    return bytes;
}

static int current;
static size_t used;

cudaError_t cudaGetDeviceCount(int *count) {
    *count = devices();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= devices()) return fpl_host_fails(cudaErrorInvalidValue);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *bus, int size, int device) {
    if (device < 0 || device >= devices() || size < 13) return fpl_host_fails(cudaErrorInvalidValue);
    snprintf(bus, static_cast<size_t>(size), "0000:%02x:00.0", static_cast<unsigned>(device) + 1);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (device < 0 || device >= devices()) return fpl_host_fails(cudaErrorInvalidValue);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "host execution");
    p->totalGlobalMem = memory();
    p->sharedMemPerBlockOptin = 227 * 1024;
    p->major = 9;
    p->multiProcessorCount = 4;
    p->l2CacheSize = 1 << 20;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    *total = memory();
    *free = used < *total ? *total - used : 0;
    return cudaSuccess;
}

static int refused(void) {
    fpl_host_counting()->allocations++;
    return fpl_host_captures();
}

cudaError_t cudaMalloc(void **p, size_t bytes) {
    const size_t whole = bytes == 0 ? 1 : bytes;
    if (refused()) return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
    if (whole > memory() || used > memory() - whole || posix_memalign(p, 256, whole) != 0)
        return fpl_host_fails(cudaErrorMemoryAllocation);
    used += malloc_usable_size(*p);
    memset(*p, 0xff, bytes); /* fresh device memory holds anything */
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    if (p == nullptr) return cudaSuccess;
    if (refused()) return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
    fpl_host_finish();
    used -= malloc_usable_size(p);
    free(p);
    return cudaSuccess;
}

static std::map<const char *, size_t> pinned;

cudaError_t cudaMallocHost(void **p, size_t bytes) {
    if (refused()) return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
    if (posix_memalign(p, 256, bytes == 0 ? 1 : bytes) != 0) return fpl_host_fails(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    pinned[static_cast<const char *>(*p)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    if (p == nullptr) return cudaSuccess;
    if (refused()) return fpl_host_fails(cudaErrorStreamCaptureUnsupported);
    fpl_host_finish();
    if (pinned.erase(static_cast<const char *>(p)) == 0) return fpl_host_fails(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}

int fpl_host_is_pinned(const void *p) {
    const char *const at = static_cast<const char *>(p);
    auto after = pinned.upper_bound(at);
    if (after == pinned.begin()) return 0;
    --after;
    return at < after->first + after->second;
}
