/* gemm_cache.c - packed, quantized weights that outlive one call.
 *
 * Between two optimizer steps weights do not change, but every micro-batch multiplies by
 * them twice (forward, dgrad).  The caller says so by weights_version; the form in which
 * gemm reads a weight is then made once per version and kept here.
 *
 * An entry belongs to (address, role, replica) and is valid for one version, shape and
 * operand; anything else is a miss that reuses its memory.  Memory that is released,
 * uploaded to or zeroed invalidates what was made from it, so a stale address cannot hit.
 * Look-up is a hash table with linear probing that doubles when half full.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

struct fpl_pack_cache {
    size_t slots, used; /* slots: a power of two */
    struct fpl_pack *table;
};

static size_t hash(const struct fpl_pack_key *k) {
    uint64_t h = (uint64_t)(uintptr_t)k->w >> 6;
    h = h * 4u + (uint64_t)k->role;
    h = h * 1048583u + (uint64_t)k->replica;
    h *= 0x9e3779b97f4a7c15u;
    return (size_t)(h >> 32);
}

static struct fpl_pack *find(struct fpl_pack_cache *c, const struct fpl_pack_key *k) {
    size_t i = hash(k) & (c->slots - 1);
    for (;; i = (i + 1) & (c->slots - 1)) {
        struct fpl_pack *p = &c->table[i];
        if (p->key.w == NULL) return p;
        if (p->key.w == k->w && p->key.role == k->role && p->key.replica == k->replica) return p;
    }
}

static int grow(struct fpl_pack_cache *c) {
    struct fpl_pack_cache bigger = {.slots = c->slots == 0 ? 64 : 2 * c->slots, .used = c->used};
    bigger.table = calloc(bigger.slots, sizeof *bigger.table);
    if (bigger.table == NULL) return 0;
    for (size_t i = 0; i < c->slots; i++)
        if (c->table[i].key.w != NULL) *find(&bigger, &c->table[i].key) = c->table[i];
    free(c->table);
    *c = bigger;
    return 1;
}

static int same_source(const struct fpl_pack_key *a, const struct fpl_pack_key *b) {
    return a->rows == b->rows && a->cols == b->cols && a->version == b->version &&
           a->operand.hadamard == b->operand.hadamard &&
           memcmp(&a->operand.plan, &b->operand.plan, sizeof a->operand.plan) == 0 &&
           memcmp(&a->operand.at, &b->operand.at, sizeof a->operand.at) == 0;
}

static struct fpl_pack *out_of_memory(struct fpl_device *dev, size_t bytes) {
    if (dev->error.code == FPL_OK)
        fpl_fail(&dev->error, FPL_SYSTEM, "cpu: no memory for a packed weight of %zu bytes", bytes);
    return NULL;
}

struct fpl_pack *fpl_cpu_pack(struct fpl_device *dev, const struct fpl_pack_key *key, size_t bytes) {
    if (dev->packs == NULL) dev->packs = calloc(1, sizeof *dev->packs);
    struct fpl_pack_cache *c = dev->packs;
    if (c == NULL || (2 * (c->used + 1) > c->slots && !grow(c))) return out_of_memory(dev, bytes);

    struct fpl_pack *p = find(c, key);
    if (p->valid && p->size >= bytes && same_source(&p->key, key)) return p;
    if (p->size < bytes) {
        float *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
        if (data == NULL) return out_of_memory(dev, bytes);
        free(p->data);
        p->data = data;
        p->size = bytes;
    }
    if (p->key.w == NULL) c->used++;
    p->key = *key;
    p->valid = 0;
    p->nonfinite = 0;
    return p;
}

void fpl_cpu_packs_forget(struct fpl_device *dev, const void *from, size_t bytes) {
    struct fpl_pack_cache *c = dev->packs;
    const uintptr_t first = (uintptr_t)from;
    for (size_t i = 0; c != NULL && i < c->slots; i++) {
        const uintptr_t w = (uintptr_t)c->table[i].key.w;
        const uintptr_t end = w + (size_t)(c->table[i].key.rows * c->table[i].key.cols) * sizeof(float);
        if (w != 0 && (bytes == 0 || (w < first + bytes && first < end))) c->table[i].valid = 0;
    }
}

void fpl_cpu_packs_free(struct fpl_pack_cache *packs) {
    if (packs == NULL) return;
    for (size_t i = 0; i < packs->slots; i++) free(packs->table[i].data);
    free(packs->table);
    free(packs);
}
