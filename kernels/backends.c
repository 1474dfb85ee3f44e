/* backends.c - the backends of this build, by name.
 *
 * FPL_WITH_CUDA is defined where kernels/cuda is part of the build.  Tests that execute the CUDA
 * kernels on the host compile this file once more with it (tests/CMakeLists.txt).
 */
#include <string.h>

#include "cpu/cpu.h"

#ifdef FPL_WITH_CUDA
extern const struct fpl_kernels fpl_kernels_cuda;
const char *const fpl_backend_names[] = {"cpu", "cuda", NULL};
#else
const char *const fpl_backend_names[] = {"cpu", NULL};
#endif

const struct fpl_kernels *fpl_backend(const char *name) {
    if (strcmp(name, "cpu") == 0) return fpl_cpu_kernels();
#ifdef FPL_WITH_CUDA
    if (strcmp(name, "cuda") == 0) return &fpl_kernels_cuda;
#endif
    return NULL;
}
