/* order.c - a device runs blocks, warps and lanes in an order of its own, and does not tell what it was asked
 * for: what host execution serves has no effect here (tests/host/order.h). */
#include "../host/order.h"

void fpl_host_order(int order, uint64_t seed) {
    (void)order;
    (void)seed;
}

struct fpl_host_counts fpl_host_counted(void) {
    const struct fpl_host_counts none = {0};
    return none;
}
