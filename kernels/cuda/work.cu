/* work.cu - the list of work: how it is written, issued, and launched as a graph (work.h). */
#include "work.h"

#include "cublaslt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_OPERATIONS = 1 << 15, /* in one list */
    MOST_GRAPHS = 32,
    FEWEST = 8, /* operations that are worth a graph */
    SEEN = 64,  /* shapes that are remembered from their first sight to their second */
    MOST_ARGUMENTS = 32,
    ALIGNMENT = 16
};

enum kind { KERNEL, FILL, COPY, PRODUCT };

/* Zeros beyond what its kind needs, so that operations compare byte by byte. */
struct shape {
    enum kind kind;
    unsigned grid[3], block[3];
    const void *kernel;
    void *filled;
    size_t bytes; /* of data, of a fill, of a copy: by kind */
    enum cudaMemcpyKind direction;
    uint32_t padding;
    struct fpl_cuda_lt_call product;
};

struct operation {
    struct shape shape;
    size_t shared;
    const char *name;
    size_t data;         /* offset in the list's data: arguments of a kernel, the addresses of a copy */
    const size_t *sizes; /* of a kernel's arguments */
    size_t count;
};

struct list {
    struct operation *operation;
    int count, room;
    char *data;
    size_t used, size;
};

struct addresses {
    void *to;
    const void *from;
};

/* A list as it was launched last, and the graph of its shape. */
struct graph {
    uint64_t hash, used;
    struct list list;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaGraphNode_t *node; /* of each operation; NULL for products, which never change */
};

struct fpl_cuda_work {
    struct list list;
    struct graph *graph[MOST_GRAPHS];
    uint64_t seen[SEEN], clock;
    int next_seen, most;
    int off; /* no graphs */
    char why[256];
};

/* ---- lists --------------------------------------------------------------------------------------------- */

static void free_list(struct list *l) {
    free(l->operation);
    free(l->data);
    memset(l, 0, sizeof *l);
}

static void *grown(void *p, size_t *room, size_t needed, size_t each) {
    size_t more = *room == 0 ? 64 : *room;
    while (more < needed) more *= 2;
    void *bigger = realloc(p, more * each);
    if (bigger != NULL) *room = more;
    return bigger;
}

/* Room for one more operation with `bytes` of data; NULL keeps an error. */
static struct operation *append(struct fpl_device *dev, enum kind kind, const char *name, size_t bytes) {
    if (fpl_cuda_failed(dev)) return NULL;
    if (dev->work->list.count >= dev->work->most) fpl_cuda_flush(dev);
    struct list *l = &dev->work->list;
    size_t room = (size_t)l->room;
    if (l->count == l->room) {
        void *bigger = grown(l->operation, &room, room + 1, sizeof *l->operation);
        if (bigger != NULL) l->operation = (struct operation *)bigger;
        l->room = (int)room;
    }
    if (l->used + bytes > l->size) {
        void *bigger = grown(l->data, &l->size, l->used + bytes, 1);
        if (bigger != NULL) l->data = (char *)bigger;
    }
    if (l->count == l->room || l->used + bytes > l->size) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    struct operation *o = &l->operation[l->count++];
    memset(o, 0, sizeof *o);
    if (bytes > 0) memset(l->data + l->used, 0, bytes); /* an empty list has no data yet */
    o->shape.kind = kind;
    o->name = name;
    o->data = l->used;
    l->used += bytes;
    return o;
}

static size_t aligned(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

void fpl_cuda_kernel(struct fpl_device *dev, const char *name, const void *kernel, dim3 grid, dim3 block,
                     size_t shared, size_t count, void *const *arguments, const size_t *sizes) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += aligned(sizes[i]);
    struct operation *o = append(dev, KERNEL, name, bytes);
    if (o == NULL) return;
    const unsigned g[3] = {grid.x, grid.y, grid.z}, b[3] = {block.x, block.y, block.z};
    memcpy(o->shape.grid, g, sizeof g);
    memcpy(o->shape.block, b, sizeof b);
    o->shape.kernel = kernel;
    o->shape.bytes = bytes;
    o->shared = shared;
    o->sizes = sizes;
    o->count = count;
    char *to = dev->work->list.data + o->data;
    for (size_t i = 0; i < count; to += aligned(sizes[i]), i++) memcpy(to, arguments[i], sizes[i]);
}

void fpl_cuda_fill_zero(struct fpl_device *dev, void *p, size_t bytes) {
    struct operation *o = append(dev, FILL, "zeroing memory", 0);
    if (o == NULL) return;
    o->shape.filled = p;
    o->shape.bytes = bytes;
}

void fpl_cuda_copy_later(struct fpl_device *dev, void *to, const void *from, size_t bytes,
                         enum cudaMemcpyKind kind, const char *what) {
    const struct addresses a = {to, from};
    struct operation *o = append(dev, COPY, what, aligned(sizeof a));
    if (o == NULL) return;
    o->shape.bytes = bytes;
    o->shape.direction = kind;
    memcpy(dev->work->list.data + o->data, &a, sizeof a);
}

void fpl_cuda_product_later(struct fpl_device *dev, const struct fpl_cuda_lt_call *call) {
    struct operation *o = append(dev, PRODUCT, "a product by cuBLASLt", 0);
    if (o != NULL) o->shape.product = *call;
}

static size_t data_bytes(const struct operation *o) {
    return o->shape.kind == KERNEL ? o->shape.bytes
           : o->shape.kind == COPY ? aligned(sizeof(struct addresses))
                                   : 0;
}

/* ---- issuing ------------------------------------------------------------------------------------------- */

/* Where a kernel's arguments lie. */
static void arguments_of(const struct list *l, const struct operation *o, void *at[MOST_ARGUMENTS]) {
    char *p = l->data + o->data;
    for (size_t i = 0; i < o->count; p += aligned(o->sizes[i]), i++) at[i] = p;
}

static dim3 extent(const unsigned n[3]) { return dim3(n[0], n[1], n[2]); }

static int issue(struct fpl_device *dev, const struct list *l, const struct operation *o) {
    const struct shape *s = &o->shape;
    void *at[MOST_ARGUMENTS];
    struct addresses a;
    switch (s->kind) {
    case KERNEL:
        arguments_of(l, o, at);
        return fpl_cuda_ok(
            dev, cudaLaunchKernel(s->kernel, extent(s->grid), extent(s->block), at, o->shared, dev->stream),
            o->name);
    case FILL:
        return fpl_cuda_ok(dev, cudaMemsetAsync(s->filled, 0, s->bytes, dev->stream), o->name);
    case COPY:
        memcpy(&a, l->data + o->data, sizeof a);
        return fpl_cuda_ok(dev, cudaMemcpyAsync(a.to, a.from, s->bytes, s->direction, dev->stream), o->name);
    default:
        return fpl_cuda_lt_issue(dev, &s->product);
    }
}

static void issue_all(struct fpl_device *dev, const struct list *l) {
    for (int i = 0; i < l->count; i++)
        if (!issue(dev, l, &l->operation[i])) return;
}

/* ---- graphs -------------------------------------------------------------------------------------------- */

static void free_graph(struct graph *g) {
    if (g == NULL) return;
    if (g->exec != NULL) (void)cudaGraphExecDestroy(g->exec);
    if (g->graph != NULL) (void)cudaGraphDestroy(g->graph);
    free(g->node);
    free_list(&g->list);
    free(g);
}

/* FNV-1a over the words of all shapes. */
static uint64_t hash_of(const struct list *l) {
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < l->count; i++) {
        uint64_t words[sizeof(struct shape) / 8];
        memcpy(words, &l->operation[i].shape, sizeof words);
        for (uint64_t w : words) h = (h ^ w) * 0x100000001b3u, h ^= h >> 31;
        h = (h ^ l->operation[i].shared) * 0x100000001b3u;
    }
    return h;
}

static int same_shape(const struct list *a, const struct list *b) {
    int same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++)
        same = memcmp(&a->operation[i].shape, &b->operation[i].shape, sizeof(struct shape)) == 0 &&
               a->operation[i].shared == b->operation[i].shared;
    return same;
}

static struct graph *find_graph(struct fpl_cuda_work *w, uint64_t hash) {
    for (int i = 0; i < MOST_GRAPHS; i++)
        if (w->graph[i] != NULL && w->graph[i]->hash == hash && same_shape(&w->graph[i]->list, &w->list))
            return w->graph[i];
    return NULL;
}

static int was_seen(struct fpl_cuda_work *w, uint64_t hash) {
    for (int i = 0; i < SEEN; i++)
        if (w->seen[i] == hash) return 1;
    w->seen[w->next_seen++ % SEEN] = hash;
    return 0;
}

/* The node that the last call on the capturing stream became; a refusal leaves NULL. */
static int node_of_last(struct fpl_device *dev, cudaGraphNode_t *node) {
    enum cudaStreamCaptureStatus status;
    const cudaGraphNode_t *last = NULL;
    const cudaGraphEdgeData *edges = NULL; /* asked for: a vendor's kernels may have edges of their own */
    size_t count = 0;
#if defined(CUDART_VERSION) && CUDART_VERSION < 13000
    const cudaError_t told =
        cudaStreamGetCaptureInfo_v3(dev->stream, &status, NULL, NULL, &last, &edges, &count); /* from 12.3 */
#else
    const cudaError_t told =
        cudaStreamGetCaptureInfo(dev->stream, &status, NULL, NULL, &last, &edges, &count);
#endif
    if (!fpl_cuda_ok(dev, told, "asking for a node")) return 0;
    if (status != cudaStreamCaptureStatusActive || count != 1) {
        if (!fpl_cuda_failed(dev)) fpl_fail(&dev->error, FPL_SYSTEM, "cuda: a capture without its node");
        return 0;
    }
    *node = last[0];
    return 1;
}

/* The list's calls, captured. */
static int capture(struct fpl_device *dev, struct graph *g) {
    const struct list *l = &g->list;
    if (!fpl_cuda_ok(dev, cudaStreamBeginCapture(dev->stream, cudaStreamCaptureModeThreadLocal),
                     "beginning a capture"))
        return 0;
    for (int i = 0; i < l->count && !fpl_cuda_failed(dev); i++) {
        const enum kind kind = l->operation[i].shape.kind;
        if (issue(dev, l, &l->operation[i]) && kind != PRODUCT) (void)node_of_last(dev, &g->node[i]);
    }
    /* Ends in any case: the stream is of no use before. */
    return fpl_cuda_ok(dev, cudaStreamEndCapture(dev->stream, &g->graph), "ending a capture") &&
           !fpl_cuda_failed(dev) &&
           fpl_cuda_ok(dev, cudaGraphInstantiate(&g->exec, g->graph, 0), "instantiating a graph");
}

/* Takes the list over; NULL keeps an error. */
static struct graph *build(struct fpl_device *dev, uint64_t hash) {
    struct fpl_cuda_work *w = dev->work;
    struct graph *g = (struct graph *)calloc(1, sizeof *g);
    if (g != NULL) g->node = (cudaGraphNode_t *)calloc((size_t)w->list.count, sizeof *g->node);
    if (g == NULL || g->node == NULL) {
        free(g);
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    g->hash = hash;
    g->list = w->list;
    const int captured = capture(dev, g);
    if (captured) {
        memset(&w->list, 0, sizeof w->list);
        return g;
    }
    memset(&g->list, 0, sizeof g->list); /* it stays the device's */
    free_graph(g);
    return NULL;
}

/* In the place of the least recently used one. */
static void keep(struct fpl_cuda_work *w, struct graph *g) {
    int oldest = 0;
    for (int i = 0; i < MOST_GRAPHS; i++) {
        const struct graph *o = w->graph[oldest];
        if (o != NULL && (w->graph[i] == NULL || w->graph[i]->used < o->used)) oldest = i;
    }
    free_graph(w->graph[oldest]);
    w->graph[oldest] = g;
}

static int patch_one(struct fpl_device *dev, const struct graph *g, const struct list *l, int i) {
    const struct operation *o = &l->operation[i];
    if (o->shape.kind == COPY) {
        struct addresses a;
        memcpy(&a, l->data + o->data, sizeof a);
        return fpl_cuda_ok(dev,
                           cudaGraphExecMemcpyNodeSetParams1D(g->exec, g->node[i], a.to, a.from,
                                                              o->shape.bytes, o->shape.direction),
                           o->name);
    }
    void *at[MOST_ARGUMENTS];
    arguments_of(l, o, at);
    cudaKernelNodeParams p;
    memset((void *)&p, 0, sizeof p);
    p.func = (void *)o->shape.kernel;
    p.gridDim = extent(o->shape.grid);
    p.blockDim = extent(o->shape.block);
    p.sharedMemBytes = (unsigned)o->shared;
    p.kernelParams = at;
    return fpl_cuda_ok(dev, cudaGraphExecKernelNodeSetParams(g->exec, g->node[i], &p), o->name);
}

/* The graph's nodes get what differs from its last launch; the list becomes the one launched last. */
static int patch(struct fpl_device *dev, struct graph *g) {
    struct list *now = &dev->work->list;
    for (int i = 0; i < now->count; i++) {
        const struct operation *o = &now->operation[i], *was = &g->list.operation[i];
        const size_t bytes = data_bytes(o);
        if (bytes == 0 || memcmp(now->data + o->data, g->list.data + was->data, bytes) == 0) continue;
        if (!patch_one(dev, g, now, i)) return 0;
    }
    const struct list last = g->list;
    g->list = *now;
    *now = last;
    return 1;
}

/* 0: it was not launched, an error is kept, and the list is whole. */
static int launch_graph(struct fpl_device *dev) {
    struct fpl_cuda_work *w = dev->work;
    const uint64_t hash = hash_of(&w->list);
    struct graph *g = find_graph(w, hash);
    if (g == NULL && !was_seen(w, hash)) {
        issue_all(dev, &w->list);
        return 1;
    }
    if (g == NULL) {
        g = build(dev, hash);
        if (g == NULL) return 0;
        keep(w, g);
    } else if (!patch(dev, g)) {
        return 0;
    }
    g->used = ++w->clock;
    if (fpl_cuda_ok(dev, cudaGraphLaunch(g->exec, dev->stream), "launching a graph")) return 1;
    const struct list whole = g->list; /* back: it is issued otherwise */
    g->list = w->list;
    w->list = whole;
    return 0;
}

/* Whatever the runtime holds against graphs, calls one by one need none. */
static void give_up(struct fpl_device *dev) {
    struct fpl_cuda_work *w = dev->work;
    (void)cudaGetLastError();
    snprintf(w->why, sizeof w->why, "%.250s", dev->error.text);
    for (char *c = w->why; *c != '\0'; c++) *c = *c == ',' || *c == '\n' ? ';' : *c; /* describe() promises */
    memset(&dev->error, 0, sizeof dev->error);
    w->off = 1;
    for (int i = 0; i < MOST_GRAPHS; i++) {
        free_graph(w->graph[i]);
        w->graph[i] = NULL;
    }
}

void fpl_cuda_flush(struct fpl_device *dev) {
    struct fpl_cuda_work *w = dev->work;
    if (w == NULL) return;
    if (!fpl_cuda_failed(dev) && w->list.count > 0) {
        const int graphs = !w->off && w->list.count >= FEWEST;
        const int launched = graphs && launch_graph(dev);
        if (graphs && !launched) give_up(dev);
        if (!launched) issue_all(dev, &w->list);
    }
    w->list.count = 0;
    w->list.used = 0;
}

/* ---- the device's -------------------------------------------------------------------------------------- */

int fpl_cuda_work_open(struct fpl_device *dev) {
    const char *wish = getenv("FPLAW_CUDA_GRAPH");
    char *end = NULL;
    const long number = wish != NULL && *wish != '\0' ? strtol(wish, &end, 10) : 1;
    dev->work = (struct fpl_cuda_work *)calloc(1, sizeof *dev->work);
    if (dev->work == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return 0;
    }
    if (number < 0 || number > MOST_OPERATIONS || (end != NULL && *end != '\0')) {
        fpl_fail(&dev->error, FPL_INVALID,
                 "FPLAW_CUDA_GRAPH: '%.40s'; accepted: 0 (no graphs), 1, or 2 to %d operations in a graph",
                 wish, MOST_OPERATIONS);
        return 0;
    }
    dev->work->off = number == 0;
    dev->work->most = number > 1 ? (int)number : MOST_OPERATIONS;
    return 1;
}

void fpl_cuda_work_close(struct fpl_device *dev) {
    struct fpl_cuda_work *w = dev->work;
    if (w == NULL) return;
    for (int i = 0; i < MOST_GRAPHS; i++) free_graph(w->graph[i]);
    free_list(&w->list);
    free(w);
    dev->work = NULL;
}

void fpl_cuda_work_describe(const struct fpl_device *dev, char *buf, size_t size) {
    const int refused = dev->work != NULL && dev->work->why[0] != '\0';
    snprintf(buf, size, "%s%s", refused ? "; no graphs: " : "", refused ? dev->work->why : "");
}
