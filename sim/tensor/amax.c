/* amax.c - largest finite magnitudes (sweep_internal.h); NaN and infinities do not count. */
#include <string.h>

#include "../../formats/clones.h"
#include "sweep_internal.h"

/* The largest finite magnitudes of a stretch, by bits: integers compare as their floats do. */
FPL_CLONES static uint32_t amax_bits(int64_t n, const float *x) {
    uint32_t amax = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t a;
        memcpy(&a, x + i, sizeof a);
        a &= 0x7fffffffu;
        a = a < 0x7f800000u ? a : 0;
        amax = a > amax ? a : amax;
    }
    return amax;
}

/* The same element by element: amax[i] = max(amax[i], |x[i]|). */
FPL_CLONES static void raise_amax(int64_t n, const float *x, float *amax) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t a, old;
        memcpy(&a, x + i, sizeof a);
        memcpy(&old, amax + i, sizeof old);
        a &= 0x7fffffffu;
        a = a < 0x7f800000u ? a : 0;
        old = a > old ? a : old;
        memcpy(amax + i, &old, sizeof old);
    }
}

float sweep_amax(int64_t n, const float *x) { return fpl_bits_float(amax_bits(n, x)); }

void sweep_raise_amax(int64_t n, const float *x, float *amax) { raise_amax(n, x, amax); }

/* amax of the groups of group_rows x group_cols of a matrix, group rows outermost. */
void sweep_groups_amax(int64_t rows, int64_t cols, int64_t group_rows, int64_t group_cols, const float *x,
                       float *amax) {
    const int64_t across = sweep_divide_up(cols, group_cols);
    memset(amax, 0, (size_t)(sweep_divide_up(rows, group_rows) * across) * sizeof *amax);
    for (int64_t i = 0; i < rows; i++, x += cols) {
        float *line = amax + i / group_rows * across;
        if (group_cols == 1) {
            raise_amax(cols, x, line);
            continue;
        }
        for (int64_t g = 0, j = 0; g < across; g++, j += group_cols) {
            const int64_t n = cols - j < group_cols ? cols - j : group_cols;
            const float a = sweep_amax(n, x + j);
            if (a > line[g]) line[g] = a;
        }
    }
}
