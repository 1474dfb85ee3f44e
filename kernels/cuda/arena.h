/* arena.h - memory that is handed out piece by piece and taken back all at once.
 *
 * An arena grows by whole blocks and keeps them: once it has grown to what a training step asks for, taking
 * costs no call of the runtime, which would wait for the device (cudaMalloc, cudaMallocHost).  Taken in the
 * same order after a reset, pieces of the same sizes lie at the same addresses.
 */
#ifndef FPL_CUDA_ARENA_H
#define FPL_CUDA_ARENA_H

#include <stddef.h>

struct fpl_device;

enum fpl_cuda_arena_kind { FPL_ARENA_DEVICE, FPL_ARENA_PINNED /* host memory that copies run beside */ };

struct fpl_cuda_block {
    char *data;
    size_t size;
};

struct fpl_cuda_arena {
    enum fpl_cuda_arena_kind kind;
    struct fpl_cuda_block *block;
    int count, room; /* of blocks */
    int at;          /* the block in use; all before it are full */
    size_t used;     /* of that block */
    size_t taken;    /* since the reset, of all */
};

/* Aligned to 256 bytes, contents undefined; NULL keeps an error. */
void *fpl_cuda_arena_take(struct fpl_device *dev, struct fpl_cuda_arena *a, size_t bytes);
/* All pieces are the arena's again.  The caller knows that the device has done with them. */
void fpl_cuda_arena_reset(struct fpl_cuda_arena *a);
void fpl_cuda_arena_free(struct fpl_cuda_arena *a);

#endif
