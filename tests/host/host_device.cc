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

cudaError_t cudaMalloc(void **p, size_t bytes) {
    const size_t whole = bytes == 0 ? 1 : bytes;
    if (whole > memory() || used > memory() - whole || posix_memalign(p, 256, whole) != 0)
        return fpl_host_fails(cudaErrorMemoryAllocation);
    used += malloc_usable_size(*p);
    memset(*p, 0xff, bytes); /* fresh device memory holds anything */
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    used -= malloc_usable_size(p);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes) { return cudaMalloc(p, bytes); }
cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }
