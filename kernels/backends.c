/* backends.c - the backends of this build, by name.
 *
 * FPL_WITH_CUDA is defined where kernels/cuda is part of the build.  Tests that execute the CUDA
 * kernels on the host compile this file once more with it (tests/CMakeLists.txt).
 */
#include <stdio.h>
#include <stdlib.h>
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

/* "cpu, cuda or cuda:N" for messages. */
static void list_devices(char *buf, size_t size) {
    size_t used = 0;
    for (int i = 0; fpl_backend_names[i] != NULL && used < size; i++) {
        const char *name = fpl_backend_names[i];
        const int numbered = fpl_backend(name)->devices != NULL;
        const int n = snprintf(buf + used, size - used, numbered ? "%s%s, %s:N" : "%s%s", i > 0 ? ", " : "",
                               name, name);
        used += n > 0 ? (size_t)n : 0;
    }
}

enum fpl_code fpl_backend_choose(const char *text, const struct fpl_kernels **kernels, int *number,
                                 struct fpl_error *err) {
    char name[32], accepted[128];
    const size_t length = strcspn(text, ":");
    snprintf(name, sizeof name, "%.*s", length < sizeof name ? (int)length : 31, text);
    *kernels = fpl_backend(name);
    *number = -1;
    list_devices(accepted, sizeof accepted);
    if (*kernels == NULL)
        return fpl_fail(err, FPL_INVALID, "--device %.40s: this build has no such backend; accepted: %s",
                        text, accepted);
    if (text[length] == '\0') return FPL_OK;
    char *end;
    const char *digits = text + length + 1;
    const long n = strtol(digits, &end, 10);
    if ((*kernels)->devices == NULL || digits[0] < '0' || digits[0] > '9' || *end != '\0' || n > 4095)
        return fpl_fail(err, FPL_INVALID, "--device %.40s: accepted: %s, N a number from 0", text, accepted);
    *number = (int)n;
    return FPL_OK;
}

enum fpl_code fpl_backend_ready(const struct fpl_kernels *kernels, int number, struct fpl_error *err) {
    const struct fpl_device_options options = {.threads = 1, .number = number < 0 ? 0 : number};
    struct fpl_device *dev = NULL;
    if (kernels->devices == NULL || kernels->devices() > options.number) return FPL_OK;
    const enum fpl_code code = kernels->open(&dev, &options, err);
    if (code == FPL_OK) kernels->close(dev);
    return code;
}
