/* arena.cu - blocks and pieces (arena.h). */
#include "arena.h"

#include "device.h"

#include <stdlib.h>

enum { ALIGNMENT = 256, BLOCK = FPL_HOST_EXECUTION ? 1 << 16 : 1 << 20 };

static size_t whole(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static int add_block(struct fpl_device *dev, struct fpl_cuda_arena *a, size_t bytes) {
    if (a->count == a->room) {
        const int room = a->room == 0 ? 8 : 2 * a->room;
        void *bigger = realloc(a->block, (size_t)room * sizeof *a->block);
        if (bigger == NULL) {
            fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
            return 0;
        }
        a->block = (struct fpl_cuda_block *)bigger;
        a->room = room;
    }
    /* Twice what there is: an arena has few blocks, whatever it grows to. */
    size_t size = BLOCK;
    for (int i = 0; i < a->count; i++) size = size < 2 * a->block[i].size ? 2 * a->block[i].size : size;
    if (size < bytes) size = bytes;
    void *data = NULL;
    const cudaError_t status =
        a->kind == FPL_ARENA_PINNED ? cudaMallocHost(&data, size) : cudaMalloc(&data, size);
    if (status != cudaSuccess) {
        (void)cudaGetLastError();
        if (!fpl_cuda_failed(dev))
            fpl_fail(&dev->error, FPL_MEMORY, "cuda: no memory for %zu bytes %s %s (%s)", size,
                     a->kind == FPL_ARENA_PINNED ? "that copies use beside" : "on", dev->name,
                     cudaGetErrorString(status));
        return 0;
    }
    a->block[a->count].data = (char *)data;
    a->block[a->count++].size = size;
    return 1;
}

void *fpl_cuda_arena_take(struct fpl_device *dev, struct fpl_cuda_arena *a, size_t bytes) {
    const size_t size = whole(bytes == 0 ? 1 : bytes);
    if (fpl_cuda_failed(dev)) return NULL;
    while (a->at < a->count && a->block[a->at].size - a->used < size) {
        a->at++;
        a->used = 0;
    }
    if (a->at == a->count && !add_block(dev, a, size)) return NULL;
    char *p = a->block[a->at].data + a->used;
    a->used += size;
    a->taken += size;
    return p;
}

void fpl_cuda_arena_reset(struct fpl_cuda_arena *a) {
    a->at = 0;
    a->used = a->taken = 0;
}

void fpl_cuda_arena_free(struct fpl_cuda_arena *a) {
    for (int i = 0; i < a->count; i++)
        (void)(a->kind == FPL_ARENA_PINNED ? cudaFreeHost(a->block[i].data) : cudaFree(a->block[i].data));
    free(a->block);
    a->block = NULL;
    a->count = a->room = 0;
    fpl_cuda_arena_reset(a);
}
