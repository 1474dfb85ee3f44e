/* gemm_tile.c - the register tiles that exist, and the loop over the rows of one panel.
 *
 * A panel is one to three units of sixteen columns.  Its rows are cut into tiles of the
 * tallest shape that fits the registers, then into the shapes of the remainder. */
#include "gemm_tile.h"

/* One row of the table: tiles of mr rows by nu units, whole and ragged. */
#define TILE(mr, nu)                                                                                         \
    static void tile_##mr##x##nu(const struct tile *t) { tile_body(t, mr, nu *NU, 0); }                      \
    static void tile_##mr##x##nu##_ragged(const struct tile *t) { tile_body(t, mr, nu *NU, 1); }
#define ROW(mr, nu)                                                                                          \
    {                                                                                                        \
        mr, { tile_##mr##x##nu, tile_##mr##x##nu##_ragged }                                                  \
    }

struct shape {
    int rows;
    void (*run[2])(const struct tile *t);
};

/* clang-format off */
#if defined(FPL_LEVEL_avx512)
TILE(16, 1) TILE(8, 1) TILE(4, 1) TILE(2, 1) TILE(1, 1)
TILE(12, 2) TILE(8, 2) TILE(4, 2) TILE(2, 2) TILE(1, 2)
TILE(8, 3) TILE(4, 3) TILE(2, 3) TILE(1, 3)
static const struct shape shapes[MAX_UNITS][6] = {
    {ROW(16, 1), ROW(8, 1), ROW(4, 1), ROW(2, 1), ROW(1, 1)},
    {ROW(12, 2), ROW(8, 2), ROW(4, 2), ROW(2, 2), ROW(1, 2)},
    {ROW(8, 3), ROW(4, 3), ROW(2, 3), ROW(1, 3)},
};
#elif defined(FPL_LEVEL_avx2)
TILE(6, 1) TILE(4, 1) TILE(2, 1) TILE(1, 1)
static const struct shape shapes[MAX_UNITS][6] = {{ROW(6, 1), ROW(4, 1), ROW(2, 1), ROW(1, 1)}};
#else
TILE(2, 1) TILE(1, 1)
static const struct shape shapes[MAX_UNITS][6] = {{ROW(2, 1), ROW(1, 1)}};
#endif
/* clang-format on */

void FPL_VEC(gemm_panel)(struct tile t, int64_t rows, int units) {
    const int ragged = t.cols < 16 * units;
    for (const struct shape *s = shapes[units - 1]; rows > 0; s++) {
        for (; rows >= s->rows; rows -= s->rows) {
            s->run[ragged](&t);
            t.a += s->rows * t.a_row;
            t.c += s->rows * t.c_row;
        }
    }
}
