/* alias.c - Vose's linear-time construction: bins holding less than the mean are filled up
 * from bins holding more, two stacks in one array. */
#include "alias.h"

#include <stdlib.h>

static uint64_t fraction(double share) { return share < 1.0 ? (uint64_t)(share * 0x1p64) : UINT64_MAX; }

int fpl_alias_build(struct fpl_alias *table, const double *weight, uint32_t count) {
    double *share = malloc(count * sizeof *share);
    uint32_t *stack = malloc(count * sizeof *stack);
    table->count = count;
    table->bin = malloc(count * sizeof *table->bin);
    int done = share != NULL && stack != NULL && table->bin != NULL;
    if (done) {
        double sum = 0.0;
        for (uint32_t i = 0; i < count; i++) sum += weight[i];
        uint32_t small = 0, large = count; /* stack[0, small) below the mean, stack[large, count) not */
        for (uint32_t i = 0; i < count; i++) {
            share[i] = weight[i] / sum * (double)count;
            if (share[i] < 1.0)
                stack[small++] = i;
            else
                stack[--large] = i;
        }
        while (small > 0 && large < count) {
            uint32_t low = stack[--small], high = stack[large];
            table->bin[low] = (struct fpl_alias_bin){fraction(share[low]), high};
            share[high] -= 1.0 - share[low];
            if (share[high] < 1.0) {
                large++;
                stack[small++] = high;
            }
        }
        /* What rounding leaves over on either stack is full. */
        while (small > 0) large--, stack[large] = stack[--small];
        for (; large < count; large++)
            table->bin[stack[large]] = (struct fpl_alias_bin){UINT64_MAX, stack[large]};
    }
    free(share);
    free(stack);
    if (!done) fpl_alias_free(table);
    return done;
}

void fpl_alias_free(struct fpl_alias *table) {
    free(table->bin);
    *table = (struct fpl_alias){0, NULL};
}
