/* energy.cu - what a device has spent and held (kernels.h, joules and peak_bytes).
 *
 * Energy is NVML's counter (libnvidia-ml.so.1, part of the driver): millijoules since the driver was loaded,
 * the whole board, other processes included; Volta and newer.  Where the library, the counter or the
 * permission is missing the answer is NaN, never an error: a record says null.
 *
 * Memory is what the device has less free than when it was opened, asked after each allocation, so that the
 * context's own share, which precedes the opening, is left out, and what others take meanwhile is not.
 */
#include "device.h"
#include "nvml_abi.h"

#if FPL_HOST_EXECUTION
static void *open_library(void) { return fpl_host_nvml("libnvidia-ml.so.1"); }
static void *find_call(void *library, const char *name) { return (void)library, fpl_host_nvml(name); }
#else
#include <dlfcn.h>
static void *open_library(void) { return dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL); }
static void *find_call(void *library, const char *name) { return dlsym(library, name); }
#endif

/* NULL: not to be had.  Once open it stays so until the process ends. */
static const struct fpl_nvml *library(void) {
    static struct fpl_nvml call;
    static int ready;
    if (ready) return &call;
    void *file = open_library();
    if (file == NULL) return NULL;
#define TAKE(field, name, result, arguments)                                                                 \
    *(void **)&call.field = find_call(file, #name);                                                          \
    if (call.field == NULL) return NULL;
    FPL_NVML_CALLS(TAKE)
#undef TAKE
    ready = call.init() == FPL_NVML_SUCCESS;
    return ready ? &call : NULL;
}

void fpl_cuda_energy_open(struct fpl_device *dev) {
    char bus[32];
    fpl_nvml_device device;
    const struct fpl_nvml *nvml = library();
    size_t total;
    if (cudaMemGetInfo(&dev->free_when_opened, &total) != cudaSuccess) dev->free_when_opened = 0;
    dev->nvml = NULL;
    if (nvml != NULL && cudaDeviceGetPCIBusId(bus, (int)sizeof bus, dev->number) == cudaSuccess &&
        nvml->by_bus(bus, &device) == FPL_NVML_SUCCESS)
        dev->nvml = device;
    (void)cudaGetLastError();
}

double fpl_cuda_joules(struct fpl_device *dev) {
    unsigned long long millijoules;
    const struct fpl_nvml *nvml = dev->nvml != NULL ? library() : NULL;
    if (nvml == NULL || nvml->millijoules((fpl_nvml_device)dev->nvml, &millijoules) != FPL_NVML_SUCCESS)
        return (double)NAN;
    return 1e-3 * (double)millijoules;
}

void fpl_cuda_see_memory(struct fpl_device *dev) {
    size_t left, total;
    if (cudaMemGetInfo(&left, &total) != cudaSuccess) {
        (void)cudaGetLastError();
        return;
    }
    const size_t held = dev->free_when_opened > left ? dev->free_when_opened - left : 0;
    if (held > dev->most_held) dev->most_held = held;
}

double fpl_cuda_peak_bytes(struct fpl_device *dev) {
    fpl_cuda_see_memory(dev);
    return dev->free_when_opened == 0 ? (double)NAN : (double)dev->most_held;
}
