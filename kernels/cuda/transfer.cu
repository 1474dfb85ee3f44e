/* transfer.cu - bytes between host and device, and when their copies are done.
 *
 * An upload copies the caller's array into pinned memory at once and from there to the device when the stream
 * comes to it: nobody waits.  What lies in pinned memory stays until the stream is known to be past it, which
 * is at the next download or check (fpl_cuda_settle), or when there is so much that it is waited for.
 */
#include "device.h"
#include "weights.h"

#include <string.h>

/* A host array larger than STAGED is not worth a second copy; STAGING is on its way at most. */
static const size_t STAGED = FPL_HOST_EXECUTION ? 1 << 14 : 32 << 20, STAGING = 4 * STAGED;

static void wait_for_device(struct fpl_device *dev, const char *what) {
    if (!fpl_cuda_failed(dev)) (void)fpl_cuda_ok(dev, cudaStreamSynchronize(dev->stream), what);
}

void fpl_cuda_settle(struct fpl_device *dev) {
    wait_for_device(dev, "waiting for the device");
    fpl_cuda_arena_reset(&dev->staging);
    fpl_cuda_arena_reset(&dev->transient);
}

void fpl_cuda_send(struct fpl_device *dev, void *to, const void *from_host, size_t bytes) {
    if (bytes > STAGED) {
        (void)fpl_cuda_ok(dev, cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, dev->stream),
                          "upload");
        wait_for_device(dev, "upload"); /* the host array is the caller's again on return */
        return;
    }
    if (dev->staging.taken + bytes > STAGING) {
        wait_for_device(dev, "upload");
        fpl_cuda_arena_reset(&dev->staging);
    }
    void *pinned = fpl_cuda_arena_take(dev, &dev->staging, bytes);
    if (pinned == NULL) return;
    memcpy(pinned, from_host, bytes);
    (void)fpl_cuda_ok(dev, cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, dev->stream), "upload");
}

void fpl_cuda_upload(struct fpl_device *dev, void *to, const void *from_host, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    fpl_cuda_weights_forget(dev, to, bytes);
    fpl_cuda_send(dev, to, from_host, bytes);
}

void fpl_cuda_download(struct fpl_device *dev, void *to_host, const void *from, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    (void)fpl_cuda_ok(dev, cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, dev->stream),
                      "download");
    fpl_cuda_settle(dev);
}

void fpl_cuda_zero(struct fpl_device *dev, void *p, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    fpl_cuda_weights_forget(dev, p, bytes);
    (void)fpl_cuda_ok(dev, cudaMemsetAsync(p, 0, bytes, dev->stream), "zeroing memory");
}
