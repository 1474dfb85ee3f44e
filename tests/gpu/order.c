/* order.c - a device runs blocks, warps and lanes in an order of its own: what host execution is asked for has no
 * effect here (tests/host/order.h). */
#include "../host/order.h"

void fpl_host_order(int order, uint64_t seed) {
    (void)order;
    (void)seed;
}
