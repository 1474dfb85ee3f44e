/* order.h - in which order host execution runs blocks, warps and lanes, and what it was asked for; for tests
 * in C and in C++. */
#ifndef FPL_HOST_ORDER_H
#define FPL_HOST_ORDER_H

#include <stdint.h>

enum fpl_host_orders { FPL_HOST_FORWARD, FPL_HOST_REVERSED, FPL_HOST_SHUFFLED };

/* Calls of the runtime since the program began.  On a real device (tests/gpu) `known` is 0 and so is the
 * rest. */
struct fpl_host_counts {
    int known;
    int64_t allocations;                       /* and releases, of device and of pinned memory */
    int64_t waits;                             /* for a stream or the device */
    int64_t kernels, copies, clears, products; /* issued or captured one by one, not by a graph */
    int64_t captures, instantiations, graph_launches, patches;
};

#ifdef __cplusplus
extern "C" {
#endif
/* How later launches order blocks, warps and lanes; the seed is used by `shuffled`. */
void fpl_host_order(int order, uint64_t seed);

struct fpl_host_counts fpl_host_counted(void);

#ifdef __cplusplus
}
#endif

#endif
