/* hadamard.c - the random Hadamard transform of an operand, before it is quantized.
 *
 * formats/hadamard.h defines it: signs, butterflies over h = 1, 2, ..., n/2, one product with
 * the factor.  Additions of one h are independent of each other, so the two layouts below,
 * and the three instruction sets, give the same bits.
 *
 *   within lines   a group is one vector of sixteen lanes, or two.  The partner of lane i is
 *                  lane i ^ h: y = partner + x where bit h of i is clear, else partner - x.
 *                  That is a + b and a - b, since addition commutes.
 *   along lines    a group is n lines; sixteen columns at a time, a butterfly takes two
 *                  vectors.
 *
 * Threads share out lines, or groups of lines; each output is one tile's.
 */
#include "hadamard.h"

#include "../../../formats/hadamard.h"
#include "parallel.h"

enum { LINES_PER_TILE = 32 };

struct transform {
    int n;
    int64_t lines, width;
    const float *x;
    float *out;
};

/* ---- within lines --------------------------------------------------------------------------- */

#define SHUFFLE(x, h)                                                                                        \
    __builtin_shufflevector(x, x, 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h, 8 ^ h, 9 ^ h,      \
                            10 ^ h, 11 ^ h, 12 ^ h, 13 ^ h, 14 ^ h, 15 ^ h)

/* The sign bit in the lanes whose number has a one in common with h. */
VINLINE vu sign_lanes(uint32_t h) {
    const vu lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (vu)((lane & h) != 0) & 0x80000000u;
}

/* Lanes 0..15 of the sign vector from bit `first` on. */
VINLINE vu sign_vector(int first) {
    const vu lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return (vsetu(FPL_HADAMARD_SIGNS >> first) >> lane) << 31;
}

VINLINE vf flip(vf x, vu signs) { return vfrom_bits(vbits(x) ^ signs); }

/* The butterflies h = 1, 2, 4, 8. */
VINLINE vf butterflies_16(vf x) {
    x = SHUFFLE(x, 1) + flip(x, sign_lanes(1));
    x = SHUFFLE(x, 2) + flip(x, sign_lanes(2));
    x = SHUFFLE(x, 4) + flip(x, sign_lanes(4));
    return SHUFFLE(x, 8) + flip(x, sign_lanes(8));
}

static void line_16(const float *x, float *out, int64_t width) {
    const vu signs = sign_vector(0);
    for (int64_t j = 0; j + 16 <= width; j += 16)
        vstore(out + j, butterflies_16(flip(vload(x + j), signs)) * FPL_HADAMARD_FACTOR_16);
}

static void line_32(const float *x, float *out, int64_t width) {
    const vu low = sign_vector(0), high = sign_vector(16);
    for (int64_t j = 0; j + 32 <= width; j += 32) {
        const vf a = butterflies_16(flip(vload(x + j), low));
        const vf b = butterflies_16(flip(vload(x + j + 16), high));
        vstore(out + j, (a + b) * FPL_HADAMARD_FACTOR_32);
        vstore(out + j + 16, (a - b) * FPL_HADAMARD_FACTOR_32);
    }
}

static void lines_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct transform *t = job;
    const int64_t last = smaller((tile + 1) * LINES_PER_TILE, t->lines), whole = t->width / t->n * t->n;
    for (int64_t l = tile * LINES_PER_TILE; l < last; l++) {
        const float *x = t->x + l * t->width;
        float *out = t->out + l * t->width;
        if (t->n == 16)
            line_16(x, out, t->width);
        else
            line_32(x, out, t->width);
        if (x != out) memcpy(out + whole, x + whole, (size_t)(t->width - whole) * sizeof *out);
    }
}

/* ---- along lines ---------------------------------------------------------------------------- */

/* `wide` (1..16) columns of a group of n lines. */
VINLINE void columns(const int n, int64_t stride, int64_t wide, const float *x, float *out) {
    vf v[FPL_HADAMARD_MOST];
    for (int i = 0; i < n; i++) {
        const vf loaded = wide == 16 ? vload(x + i * stride) : vload_n(x + i * stride, wide);
        v[i] = flip(loaded, vsetu((FPL_HADAMARD_SIGNS >> i & 1u) << 31));
    }
    for (int h = 1; h < n; h *= 2) {
        for (int i = 0; i < n; i++) {
            if (i & h) continue;
            const vf a = v[i], b = v[i + h];
            v[i] = a + b;
            v[i + h] = a - b;
        }
    }
    for (int i = 0; i < n; i++) {
        const vf y = v[i] * fpl_hadamard_factor(n);
        if (wide == 16)
            vstore(out + i * stride, y);
        else
            vstore_n(out + i * stride, y, wide);
    }
}

static void group_tile(const void *job, int64_t tile, int thread) {
    (void)thread;
    const struct transform *t = job;
    const int64_t first = tile * t->n * t->width;
    for (int64_t j = 0; j < t->width; j += 16) {
        const int64_t wide = smaller(16, t->width - j);
        if (t->n == 16)
            columns(16, t->width, wide, t->x + first + j, t->out + first + j);
        else
            columns(32, t->width, wide, t->x + first + j, t->out + first + j);
    }
}

void FPL_VEC(hadamard)(struct fpl_device *dev, int n, int64_t lines, int64_t width, int along_lines,
                       const float *x, float *out) {
    const struct transform t = {n, lines, width, x, out};
    if (!along_lines) {
        for_tiles(dev, tiles_of(lines, LINES_PER_TILE), lines_tile, &t);
        return;
    }
    const int64_t whole = lines / n * n;
    for_tiles(dev, lines / n, group_tile, &t);
    if (x != out)
        memcpy(out + whole * width, x + whole * width, (size_t)((lines - whole) * width) * sizeof *x);
}
