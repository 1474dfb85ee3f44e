/* device.cu - the CUDA device: what it is, its memory, the first error, scratch. */
#include "cublaslt.h"
#include "gemm.h"
#include "weights.h"
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OLDEST = 80 /* compute capability that the kernels are built for */ };

int fpl_cuda_ok(struct fpl_device *dev, cudaError_t status, const char *what) {
    if (status == cudaSuccess) return 1;
    if (dev->error.code == FPL_OK)
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: %s: %s (%s)", what, cudaGetErrorString(status),
                 cudaGetErrorName(status));
    return 0;
}

/* ---- device ------------------------------------------------------------------------------------ */

/* Without a driver the runtime speaks of one that is too old. */
static const char *why_none(cudaError_t status) {
    int driver = 0;
    if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
        return "no driver (libcuda.so.1) is found";
    return cudaGetErrorString(status);
}

static enum fpl_code start(struct fpl_device *dev, struct fpl_error *err) {
    cudaDeviceProp properties;
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess || count < 1)
        return fpl_fail(err, FPL_SYSTEM, "cuda: no device: %s; --device cpu needs none",
                        status != cudaSuccess ? why_none(status) : "none is visible");
    if (dev->number < 0 || dev->number >= count)
        return fpl_fail(err, FPL_SYSTEM,
                        "cuda: device %d: there are %d, numbered from 0 (CUDA_VISIBLE_DEVICES chooses which)",
                        dev->number, count);
    const int ok =
        fpl_cuda_ok(dev, cudaSetDevice(dev->number), "choosing the device") &&
        fpl_cuda_ok(dev, cudaGetDeviceProperties(&properties, dev->number), "asking for its properties") &&
        fpl_cuda_ok(dev, cudaStreamCreateWithFlags(&dev->stream, cudaStreamNonBlocking), "making a stream");
    if (!ok) return fpl_cuda_check(dev, err);
    snprintf(dev->name, sizeof dev->name, "%.120s", properties.name);
    dev->compute = properties.major * 10 + properties.minor;
    if (dev->compute < OLDEST)
        return fpl_fail(err, FPL_SYSTEM, "cuda: %s has compute capability %d.%d; %d.%d or newer is needed",
                        dev->name, properties.major, properties.minor, OLDEST / 10, OLDEST % 10);
    dev->staging.kind = FPL_ARENA_PINNED;
    if (!fpl_cuda_work_open(dev)) return fpl_cuda_check(dev, err);
    fpl_cuda_energy_open(dev);
    fpl_cuda_lt_open(dev);
    return fpl_cuda_check(dev, err);
}

enum fpl_code fpl_cuda_open(struct fpl_device **dev, const struct fpl_device_options *options,
                            struct fpl_error *err) {
    *dev = (struct fpl_device *)calloc(1, sizeof **dev);
    if (*dev == NULL) return fpl_fail(err, FPL_SYSTEM, "cuda: out of host memory");
    (*dev)->number = options != NULL ? options->number : 0; /* threads are the CPU's */
    const enum fpl_code code = start(*dev, err);
    if (code == FPL_OK) return FPL_OK;
    fpl_cuda_close(*dev);
    *dev = NULL;
    return code;
}

void fpl_cuda_close(struct fpl_device *dev) {
    if (dev == NULL) return;
    if (dev->stream != NULL) (void)cudaStreamSynchronize(dev->stream);
    for (int i = 0; i < FPL_CUDA_SCRATCH_COUNT; i++) (void)cudaFree(dev->scratch[i].data);
    fpl_cuda_work_close(dev);
    fpl_cuda_fetched_free(dev);
    fpl_cuda_parameters_free(dev);
    fpl_cuda_arena_free(&dev->staging);
    fpl_cuda_arena_free(&dev->transient);
    fpl_cuda_weights_free(dev);
    fpl_cuda_lt_close(dev);
    if (dev->stream != NULL) (void)cudaStreamDestroy(dev->stream);
    free(dev);
}

void fpl_cuda_describe(const struct fpl_device *dev, char *buf, size_t size) {
    char library[48], products[64], graphs[280];
    fpl_cuda_lt_describe(dev, library, sizeof library);
    fpl_cuda_gemm_describe(dev, products, sizeof products);
    fpl_cuda_work_describe(dev, graphs, sizeof graphs);
    snprintf(buf, size, "%.60s; sm_%d; gemm=%s%s%s%s", dev->name, dev->compute, library, products,
             dev->fuses && dev->batches ? "; attention=fused+batched"
             : dev->fuses               ? "; attention=fused"
             : dev->batches             ? "; attention=batched"
                                        : "",
             graphs);
}

enum fpl_code fpl_cuda_check(struct fpl_device *dev, struct fpl_error *err) {
    fpl_cuda_settle(dev);
    if (dev->error.code != FPL_OK && err != NULL) *err = dev->error;
    return dev->error.code;
}

int fpl_cuda_devices(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    (void)cudaGetLastError();
    return 0;
}

/* 13020 is 13.2. */
static void print_version(char *buf, size_t size, int version) {
    if (version == 0)
        snprintf(buf, size, "none");
    else
        snprintf(buf, size, "%d.%d", version / 1000, version % 1000 / 10);
}

void fpl_cuda_about(char *buf, size_t size) {
    int runtime = 0, driver = 0, devices = 0;
    char runtime_text[16], driver_text[16];
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    print_version(runtime_text, sizeof runtime_text, runtime);
    print_version(driver_text, sizeof driver_text, driver);
    char found[80], products[400];
    if (status == cudaSuccess)
        snprintf(found, sizeof found, "%d device%s", devices, devices == 1 ? "" : "s");
    else
        snprintf(found, sizeof found, "no device (%.60s)", why_none(status));
    fpl_lt_about(products, sizeof products);
    snprintf(buf, size, "runtime %s, driver %s, %s, products by %s", runtime_text, driver_text, found,
             products);
    (void)cudaGetLastError();
}

/* An eighth of what is free is left for scratch, quantized copies of weights and parameters, which
 * grow with the replicas too; more replicas than MOST fill no device further. */
int fpl_cuda_replicas(struct fpl_device *dev, size_t bytes) {
    enum { MOST = 1024 };
    size_t free_bytes = 0, total = 0;
    if (fpl_cuda_failed(dev) || bytes == 0) return 1;
    if (!fpl_cuda_ok(dev, cudaMemGetInfo(&free_bytes, &total), "asking for free memory")) return 1;
    const size_t fit = (free_bytes - free_bytes / 8) / bytes;
    return fit < 1 ? 1 : fit > MOST ? MOST : (int)fit;
}

/* ---- memory ------------------------------------------------------------------------------------ */

static void *allocate(struct fpl_device *dev, size_t bytes) {
    void *p = NULL;
    const cudaError_t status = cudaMalloc(&p, bytes == 0 ? 1 : bytes);
    fpl_cuda_see_memory(dev);
    if (status == cudaSuccess) return p;
    (void)cudaGetLastError();
    if (dev->error.code == FPL_OK)
        fpl_fail(
            &dev->error, FPL_MEMORY,
            "cuda: no memory for %zu bytes on %s (%s); a smaller model, pack, seq or micro_tokens needs less",
            bytes, dev->name, cudaGetErrorString(status));
    return NULL;
}

void *fpl_cuda_alloc(struct fpl_device *dev, size_t bytes) {
    if (fpl_cuda_failed(dev)) return NULL;
    void *p = allocate(dev, bytes);
    if (p != NULL) fpl_cuda_zero(dev, p, bytes);
    return p;
}

void fpl_cuda_release(struct fpl_device *dev, void *p) {
    fpl_cuda_weights_forget(dev, p, 0);
    fpl_cuda_free(dev, p);
}

void fpl_cuda_free(struct fpl_device *dev, void *p) {
    if (p == NULL) return;
    fpl_cuda_flush(dev);
    (void)fpl_cuda_ok(dev, cudaFree(p), "releasing memory"); /* waits for work in flight */
}

void *fpl_cuda_scratch(struct fpl_device *dev, int slot, size_t bytes) {
    if (fpl_cuda_failed(dev)) return NULL;
    if (dev->scratch[slot].data == NULL || dev->scratch[slot].size < bytes) {
        fpl_cuda_free(dev, dev->scratch[slot].data);
        dev->scratch[slot].data = allocate(dev, bytes);
        dev->scratch[slot].size = dev->scratch[slot].data != NULL ? bytes : 0;
    }
    return dev->scratch[slot].data;
}
