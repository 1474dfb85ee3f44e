/* nvml.cc - NVML as the tests want it (tests/host/nvml.h): a counter that every reading moves on. */
#include "nvml.h"

#include <string.h>

#include "cuda_on_host.h"
#include "nvml_abi.h"

static enum fpl_host_nvml_mode mode = FPL_NVML_WORKS;
static unsigned long long counter = 123456;
static int64_t readings;

void fpl_host_nvml_set(enum fpl_host_nvml_mode m) { mode = m; }
int64_t fpl_host_nvml_readings(void) { return readings; }

static int init(void) { return mode == FPL_NVML_FAILS_TO_START ? 999 : 0; }

static int by_bus(const char *bus, fpl_nvml_device *device) {
    static char some;
    if (mode == FPL_NVML_KNOWS_NO_DEVICE || strcmp(bus, "0000:01:00.0") != 0) return 6; /* not found */
    *device = reinterpret_cast<fpl_nvml_device>(&some);
    return 0;
}

static int millijoules(fpl_nvml_device device, unsigned long long *value) {
    if (mode == FPL_NVML_HAS_NO_COUNTER || device == nullptr) return 3; /* not supported */
    readings++;
    *value = counter += static_cast<unsigned long long>(1000 * FPL_HOST_NVML_JOULES);
    return 0;
}

void *fpl_host_nvml(const char *name) {
    if (mode == FPL_NVML_ABSENT) return nullptr;
    if (strcmp(name, "libnvidia-ml.so.1") == 0) return const_cast<char *>("open");
    if (strcmp(name, "nvmlInit_v2") == 0) return reinterpret_cast<void *>(&init);
    if (strcmp(name, "nvmlDeviceGetHandleByPciBusId_v2") == 0) return reinterpret_cast<void *>(&by_bus);
    if (mode == FPL_NVML_IS_OLD) return nullptr;
    if (strcmp(name, "nvmlDeviceGetTotalEnergyConsumption") == 0)
        return reinterpret_cast<void *>(&millijoules);
    return nullptr;
}
