/* transfer.cu - bytes between host and device, and when their copies are done.
 *
 * An upload copies the caller's array into pinned memory at once and from there to the device when the stream
 * comes to it: nobody waits.  What lies in pinned memory stays until the stream is known to be past it, which
 * is at the next download or check (fpl_cuda_settle), or when there is so much that it is waited for.
 */
#include "device.h"
#include "weights.h"
#include "work.h"

#include <stdlib.h>
#include <string.h>

/* A host array larger than STAGED is not worth a second copy; STAGING is on its way at most. */
static const size_t STAGED = FPL_HOST_EXECUTION ? 1 << 14 : 32 << 20, STAGING = 4 * STAGED;

struct fpl_cuda_fetched {
    void *to_host;
    const void *pinned;
    size_t bytes;
};

void fpl_cuda_wait(struct fpl_device *dev, const char *what) {
    fpl_cuda_flush(dev);
    if (!fpl_cuda_failed(dev) && fpl_cuda_ok(dev, cudaStreamSynchronize(dev->stream), what))
        for (int i = 0; i < dev->fetched_count; i++)
            memcpy(dev->fetched[i].to_host, dev->fetched[i].pinned, dev->fetched[i].bytes);
    dev->fetched_count = 0;
}

void fpl_cuda_settle(struct fpl_device *dev) {
    fpl_cuda_wait(dev, "waiting for the device");
    fpl_cuda_arena_reset(&dev->staging);
    fpl_cuda_arena_reset(&dev->transient);
}

/* NULL keeps an error. */
static void *pinned_room(struct fpl_device *dev, size_t bytes) {
    if (dev->staging.taken + bytes > STAGING) {
        fpl_cuda_wait(dev, "copying");
        fpl_cuda_arena_reset(&dev->staging);
    }
    return fpl_cuda_arena_take(dev, &dev->staging, bytes);
}

void fpl_cuda_send(struct fpl_device *dev, void *to, const void *from_host, size_t bytes) {
    if (bytes > STAGED) {
        fpl_cuda_flush(dev);
        (void)fpl_cuda_ok(dev, cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, dev->stream),
                          "upload");
        fpl_cuda_wait(dev, "upload"); /* the host array is the caller's again on return */
        return;
    }
    void *pinned = pinned_room(dev, bytes);
    if (pinned == NULL) return;
    memcpy(pinned, from_host, bytes);
    fpl_cuda_copy_later(dev, to, pinned, bytes, cudaMemcpyHostToDevice, "upload");
}

void fpl_cuda_upload(struct fpl_device *dev, void *to, const void *from_host, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    fpl_cuda_weights_forget(dev, to, bytes);
    fpl_cuda_send(dev, to, from_host, bytes);
}

void fpl_cuda_download(struct fpl_device *dev, void *to_host, const void *from, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    fpl_cuda_flush(dev);
    if (fpl_cuda_failed(dev)) return;
    (void)fpl_cuda_ok(dev, cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, dev->stream),
                      "download");
    fpl_cuda_settle(dev);
}

static int remember(struct fpl_device *dev, const struct fpl_cuda_fetched *f) {
    if (dev->fetched_count == dev->fetched_room) {
        const int room = dev->fetched_room == 0 ? 16 : 2 * dev->fetched_room;
        void *bigger = realloc(dev->fetched, (size_t)room * sizeof *dev->fetched);
        if (bigger == NULL) {
            fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
            return 0;
        }
        dev->fetched = (struct fpl_cuda_fetched *)bigger;
        dev->fetched_room = room;
    }
    dev->fetched[dev->fetched_count++] = *f;
    return 1;
}

void fpl_cuda_fetch(struct fpl_device *dev, void *to_host, const void *from, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    if (bytes > STAGED) {
        fpl_cuda_download(dev, to_host, from, bytes);
        return;
    }
    void *pinned = pinned_room(dev, bytes);
    const struct fpl_cuda_fetched f = {to_host, pinned, bytes};
    if (pinned == NULL || !remember(dev, &f)) return;
    fpl_cuda_copy_later(dev, pinned, from, bytes, cudaMemcpyDeviceToHost, "download");
}

void fpl_cuda_fetched_free(struct fpl_device *dev) {
    free(dev->fetched);
    dev->fetched = NULL;
    dev->fetched_count = dev->fetched_room = 0;
}

void fpl_cuda_zero(struct fpl_device *dev, void *p, size_t bytes) {
    if (fpl_cuda_failed(dev) || bytes == 0) return;
    fpl_cuda_weights_forget(dev, p, bytes);
    fpl_cuda_fill_zero(dev, p, bytes);
}
