/* probe.c - is there a device that the CUDA backend can use?  0: yes, 77: no, and why. */
#include <stdio.h>

#include "../../kernels/kernels.h"

int main(void) {
    const struct fpl_kernels *k = fpl_backend("cuda");
    const struct fpl_device_options options = {.threads = 1};
    struct fpl_device *dev;
    struct fpl_error err = {FPL_OK, ""};
    char text[256];
    if (k == NULL || k->open(&dev, &options, &err) != FPL_OK) {
        printf("skipped: %s\n", k != NULL ? err.text : "no CUDA backend");
        return 77;
    }
    k->describe(dev, text, sizeof text);
    printf("device: %s\n", text);
    k->close(dev);
    return 0;
}
