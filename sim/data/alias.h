/* alias.h - drawing from a discrete distribution in constant time (Walker 1977, Vose 1991).
 *
 * One 64-bit draw x decides: the high half of the 128-bit product x n is a bin, the low half
 * a fraction that keeps the bin or takes its alias.  A probability is met within
 * (n + 2) 2^-52, the rounding of at most n subtractions.  The table is built with + - * / only, so it is the
 * same on every machine.
 */
#ifndef FPL_DATA_ALIAS_H
#define FPL_DATA_ALIAS_H

#include <stdint.h>

struct fpl_alias_bin {
    uint64_t keep; /* the bin itself if the fraction, in units of 2^-64, is below this */
    uint32_t other;
};

struct fpl_alias {
    uint32_t count;
    struct fpl_alias_bin *bin;
};

/* From count >= 1 non-negative weights with a positive sum.  0: out of memory. */
int fpl_alias_build(struct fpl_alias *table, const double *weight, uint32_t count);
void fpl_alias_free(struct fpl_alias *table);

__extension__ typedef unsigned __int128 fpl_u128;

static inline uint32_t fpl_alias_draw(const struct fpl_alias *table, uint64_t x) {
    fpl_u128 product = (fpl_u128)x * table->count;
    uint32_t i = (uint32_t)(product >> 64);
    const struct fpl_alias_bin *bin = &table->bin[i];
    return (uint64_t)product < bin->keep ? i : bin->other;
}

#endif
