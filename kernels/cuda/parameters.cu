/* parameters.cu - small host arrays that kernels read: rates, quantizer plans, segment tables.
 *
 * What repeats from step to step is kept by content: a step that passes the same plans as the last one finds
 * them on the device.  There are two tables: a full one becomes the older one, which is emptied first, after
 * the stream has finished.  So a pointer outlives at least a table of later parameters.  What each step
 * brings anew (fpl_cuda_transient) lies in an arena instead, at the same address in every step of one kind.
 * Neither allocates nor waits once tables and arenas have their size.
 */
#include "device.h"

#include <stdlib.h>
#include <string.h>

enum { PARAMETERS = 4096, MOST = PARAMETERS / 2 };
static const size_t MOST_BYTES = 64 << 20;

struct parameter_table {
    struct {
        void *host, *device;
        size_t bytes;
        uint64_t hash;
    } entry[PARAMETERS]; /* open addressing by hash */
    int count;
    struct fpl_cuda_arena memory;
};

struct fpl_cuda_parameters {
    struct parameter_table table[2];
    int now;
};

static void forget(struct parameter_table *p) {
    for (int i = 0; i < PARAMETERS; i++) {
        free(p->entry[i].host);
        p->entry[i].host = NULL;
    }
    p->count = 0;
    fpl_cuda_arena_reset(&p->memory);
}

void fpl_cuda_parameters_free(struct fpl_device *dev) {
    for (int i = 0; dev->parameters != NULL && i < 2; i++) {
        forget(&dev->parameters->table[i]);
        fpl_cuda_arena_free(&dev->parameters->table[i].memory);
    }
    free(dev->parameters);
    dev->parameters = NULL;
}

/* FNV-1a over whole words, then the rest. */
static uint64_t hash_of(const void *data, size_t bytes) {
    const unsigned char *p = (const unsigned char *)data;
    uint64_t h = 0xcbf29ce484222325u;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * 0x100000001b3u;
        h ^= h >> 29;
    }
    for (; bytes > 0; bytes--, p++) h = (h ^ *p) * 0x100000001b3u;
    return h;
}

/* The entry that holds this content, or the free one where it belongs. */
static int find(const struct parameter_table *p, const void *host, size_t bytes, uint64_t hash) {
    int i = (int)(hash % PARAMETERS);
    while (p->entry[i].host != NULL && (p->entry[i].hash != hash || p->entry[i].bytes != bytes ||
                                        memcmp(p->entry[i].host, host, bytes) != 0))
        i = (i + 1) % PARAMETERS;
    return i;
}

/* Room for one more of `bytes`; NULL keeps an error. */
static struct parameter_table *table_for(struct fpl_device *dev, size_t bytes) {
    struct fpl_cuda_parameters *p = dev->parameters;
    struct parameter_table *t = &p->table[p->now];
    if (t->count < MOST && (t->count == 0 || t->memory.taken + bytes <= MOST_BYTES)) return t;
    /* Nothing in the stream may still read the older one. */
    fpl_cuda_wait(dev, "waiting for the device");
    if (fpl_cuda_failed(dev)) return NULL;
    p->now ^= 1;
    forget(&p->table[p->now]);
    return &p->table[p->now];
}

static const void *out_of_memory(struct fpl_device *dev) {
    if (!fpl_cuda_failed(dev)) fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
    return NULL;
}

const void *fpl_cuda_parameter(struct fpl_device *dev, const void *host, size_t bytes) {
    if (fpl_cuda_failed(dev)) return NULL;
    if (dev->parameters == NULL)
        dev->parameters = (struct fpl_cuda_parameters *)calloc(1, sizeof *dev->parameters);
    if (dev->parameters == NULL) return out_of_memory(dev);
    const uint64_t hash = hash_of(host, bytes);
    struct parameter_table *t = &dev->parameters->table[dev->parameters->now];
    int i = find(t, host, bytes, hash);
    if (t->entry[i].host != NULL) return t->entry[i].device;
    t = table_for(dev, bytes);
    void *device = t != NULL ? fpl_cuda_arena_take(dev, &t->memory, bytes) : NULL;
    void *copy = device != NULL ? malloc(bytes) : NULL;
    if (copy == NULL) return out_of_memory(dev);
    memcpy(copy, host, bytes);
    i = find(t, host, bytes, hash);
    t->entry[i].host = copy;
    t->entry[i].device = device;
    t->entry[i].bytes = bytes;
    t->entry[i].hash = hash;
    t->count++;
    fpl_cuda_send(dev, device, copy, bytes);
    return fpl_cuda_failed(dev) ? NULL : device;
}

const void *fpl_cuda_transient(struct fpl_device *dev, const void *host, size_t bytes) {
    void *device = fpl_cuda_arena_take(dev, &dev->transient, bytes);
    if (device != NULL) fpl_cuda_send(dev, device, host, bytes);
    return fpl_cuda_failed(dev) ? NULL : device;
}
