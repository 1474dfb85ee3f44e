/* nvml_abi.h - the calls of NVIDIA's management library (NVML) that fplaw uses, as nvml.h declares them.
 *
 * The library comes with the driver and is opened at run time; no header of it is needed to build.
 * tests/host/test_nvml_abi.cc compares these words with nvml.h where there is one.
 */
#ifndef FPL_NVML_ABI_H
#define FPL_NVML_ABI_H

typedef struct nvmlDevice_st *fpl_nvml_device;

enum { FPL_NVML_SUCCESS = 0 };

/* FIELD(member, the library's name, result, arguments) */
#define FPL_NVML_CALLS(FIELD)                                                                                \
    FIELD(init, nvmlInit_v2, int, (void))                                                                    \
    FIELD(by_bus, nvmlDeviceGetHandleByPciBusId_v2, int, (const char *bus, fpl_nvml_device *device))         \
    FIELD(millijoules, nvmlDeviceGetTotalEnergyConsumption, int,                                             \
          (fpl_nvml_device device, unsigned long long *since_driver_was_loaded))

struct fpl_nvml {
#define FPL_NVML_MEMBER(field, name, result, arguments) result(*field) arguments;
    FPL_NVML_CALLS(FPL_NVML_MEMBER)
#undef FPL_NVML_MEMBER
};

#endif
