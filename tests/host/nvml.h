/* nvml.h - how the NVML of host execution behaves; for tests in C and in C++. */
#ifndef FPL_HOST_NVML_H
#define FPL_HOST_NVML_H

#include <stdint.h>

enum fpl_host_nvml_mode {
    FPL_NVML_WORKS,
    FPL_NVML_ABSENT,          /* no library */
    FPL_NVML_IS_OLD,          /* a library without the counter's call */
    FPL_NVML_FAILS_TO_START,  /* no permission, say */
    FPL_NVML_KNOWS_NO_DEVICE, /* of CUDA's bus number */
    FPL_NVML_HAS_NO_COUNTER   /* as before Volta */
};
#define FPL_HOST_NVML_JOULES 7 /* what passes from one reading to the next */

#ifdef __cplusplus
extern "C" {
#endif
/* A library that works once stays open. */
void fpl_host_nvml_set(enum fpl_host_nvml_mode mode);
int64_t fpl_host_nvml_readings(void);
#ifdef __cplusplus
}
#endif

#endif
