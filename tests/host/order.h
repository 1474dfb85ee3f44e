/* order.h - in which order host execution runs blocks, warps and lanes; for tests in C and in C++. */
#ifndef FPL_HOST_ORDER_H
#define FPL_HOST_ORDER_H

#include <stdint.h>

enum fpl_host_orders { FPL_HOST_FORWARD, FPL_HOST_REVERSED, FPL_HOST_SHUFFLED };

#ifdef __cplusplus
extern "C"
#endif
    /* How later launches order blocks, warps and lanes; the seed is used by `shuffled`. */
    void
    fpl_host_order(int order, uint64_t seed);

#endif
