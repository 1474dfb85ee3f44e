/* accumulate_each.c - acc = round_F(acc + a b) at every product, on vectors.
 *
 *   float32 (AVX-512)  a fused multiply-add rounded down and one rounded up are the neighbours of
 *                      the exact value, whatever the operands; the odd one of the two is the value
 *                      rounded to odd to 24 bits, from which any F with M <= 21 follows in one
 *                      rounding (accumulator.h): 2 + 2 instructions and those of the rounding for
 *                      sixteen products
 *   double             any level, any M: the product is exact, the sum is rounded to odd (by two
 *                      directed additions, or by Knuth's two-sum), then to F as in
 *                      accumulate_double.h
 *
 * Stochastic rounding is accumulate_random.c's.
 */
#include "accumulate_double.h"
#include "accumulate_round.h"
#include "accumulate_tile.h"

/* ---- float32 ------------------------------------------------------------------------------ */

#if defined(FPL_LEVEL_avx512)

VINLINE int chunk_float(const struct sum_band *p, const struct sum_tile *t, int64_t n, nf acc[TILE][1],
                        const enum sum_way way, const enum sum_style style, const int mode) {
    const struct sum_round v = lower_sum_round(&p->job->plan->round);
    nf sum[TILE];
    nmask beyond = 0;
    const float *b = t->b;
    UNROLL(8)
    for (int i = 0; i < TILE; i++) sum[i] = nset(0.0f);
    for (int64_t k = 0; k < n; k++, b += t->b_row) {
        const nf bv = nload(b);
        UNROLL(8)
        for (int i = 0; i < TILE; i++) {
            const nf x = sum_fma_odd(nset(t->a[i][k * t->a_col]), bv, sum[i]);
            sum[i] = way == SUM_POWER  ? sum_round_power(&v, mode, style, x)
                     : mode == FPL_RNE ? sum_round_nearest(&v, way, style, x)
                                       : sum_round_directed(&v, mode, style, x);
            if (style == SUM_WATCH) beyond |= sum_beyond(&v, sum[i]);
        }
    }
    UNROLL(8)
    for (int i = 0; i < TILE; i++) acc[i][0] = sum[i];
    return beyond == 0;
}

#define FLOAT_KERNEL(name, way, style, mode)                                                                 \
    static int chunk_##name(const struct sum_band *p, const struct sum_tile *t, int64_t n,                   \
                            nf acc[TILE][1]) {                                                               \
        return chunk_float(p, t, n, acc, way, style, mode);                                                  \
    }                                                                                                        \
    static void each_##name(const struct sum_band *p) { each_tile(p, chunk_##name); }
#define FLOAT_MODE(mode)                                                                                     \
    FLOAT_KERNEL(mode##_clamp, SUM_MAGIC, SUM_CLAMP, FPL_##mode)                                             \
    FLOAT_KERNEL(mode##_watch, SUM_MAGIC, SUM_WATCH, FPL_##mode)

/* clang-format off */
FLOAT_KERNEL(bits, SUM_BITS, SUM_INFINITE, FPL_RNE)
FLOAT_KERNEL(infinite, SUM_MAGIC, SUM_INFINITE, FPL_RNE)
FLOAT_MODE(RNE) FLOAT_MODE(RNA) FLOAT_MODE(RTZ) FLOAT_MODE(RUP) FLOAT_MODE(RDN) FLOAT_MODE(RTO)

FLOAT_KERNEL(power_rne_clamp, SUM_POWER, SUM_CLAMP, FPL_RNE) FLOAT_KERNEL(power_rne_watch, SUM_POWER, SUM_WATCH, FPL_RNE)
FLOAT_KERNEL(power_rto_clamp, SUM_POWER, SUM_CLAMP, FPL_RTO) FLOAT_KERNEL(power_rto_watch, SUM_POWER, SUM_WATCH, FPL_RTO)

static sum_band_fn float_kernel(const struct fpl_round *f) {
    static const sum_band_fn by_mode[][2] = {
        [FPL_RNE] = {each_RNE_clamp, each_RNE_watch}, [FPL_RNA] = {each_RNA_clamp, each_RNA_watch},
        [FPL_RTZ] = {each_RTZ_clamp, each_RTZ_watch}, [FPL_RUP] = {each_RUP_clamp, each_RUP_watch},
        [FPL_RDN] = {each_RDN_clamp, each_RDN_watch}, [FPL_RTO] = {each_RTO_clamp, each_RTO_watch}};
    const struct sum_round v = lower_sum_round(f);
    if (v.way == SUM_NONE || f->mode > FPL_RTO) return NULL;
    if (v.way == SUM_BITS) return each_bits;
    if (v.way == SUM_POWER && f->mode == FPL_RNE)
        return v.style == SUM_WATCH ? each_power_rne_watch : each_power_rne_clamp;
    if (v.way == SUM_POWER) return v.style == SUM_WATCH ? each_power_rto_watch : each_power_rto_clamp;
    if (v.style == SUM_INFINITE) return each_infinite;
    return by_mode[f->mode][v.style == SUM_WATCH];
}
/* clang-format on */

#endif

/* ---- double --------------------------------------------------------------------------------- */

enum { ROWS_D = NL == 16 ? 8 : 4 };

/* watch: lanes beyond the largest value are repeated in scalars; otherwise they are clamped
 * before the rounding (sat) or become infinite after it (rne under ovf). */
VINLINE int chunk_double(const struct sum_band *p, const struct sum_tile *t, int64_t n, nf acc[TILE][16 / NL],
                         const enum sum_style style, const int mode, const int no_mantissa) {
    const struct double_round v = lower_double(&p->job->plan->round);
    const nd largest = nset_d(v.largest), infinity = nset_d((double)INFINITY);
    dmask beyond = dmore(nset_d(0.0), nset_d(0.0));
    for (int first = 0; first < TILE; first += ROWS_D) {
        for (int part = 0; part < PARTS; part++) {
            nd sum[ROWS_D];
            const float *b = t->b + part * ND;
            UNROLL(8)
            for (int i = 0; i < ROWS_D; i++) sum[i] = nset_d(0.0);
            for (int64_t k = 0; k < n; k++, b += t->b_row) {
                const nd bv = nload_d(b);
                UNROLL(8)
                for (int i = 0; i < ROWS_D; i++) {
                    nd x = dsum_to_odd(sum[i], bv * nset_d((double)t->a[first + i][k * t->a_col]));
                    if (style == SUM_CLAMP) x = dmax(-largest, dmin(largest, x));
                    nd r = dround(&v, mode, no_mantissa, x);
                    if (style == SUM_INFINITE) r = dselect(dmore(dabs(r), largest), dsigned(infinity, r), r);
                    if (style == SUM_WATCH) beyond |= dmore(dabs(r), largest);
                    sum[i] = (nd)((nl)r | ((nl)x & v.sign));
                }
            }
            for (int i = 0; i < ROWS_D; i++) nstore_d((float *)acc[first + i] + part * ND, sum[i]);
        }
    }
    return !dany(beyond);
}

#define DOUBLE_KERNEL(name, style, mode, no_mantissa)                                                        \
    static int chunk_double_##name(const struct sum_band *p, const struct sum_tile *t, int64_t n,            \
                                   nf acc[TILE][16 / NL]) {                                                  \
        return chunk_double(p, t, n, acc, style, mode, no_mantissa);                                         \
    }                                                                                                        \
    static void double_##name(const struct sum_band *p) { each_tile(p, chunk_double_##name); }
#define DOUBLE_MODE(mode)                                                                                    \
    DOUBLE_KERNEL(mode##_clamp, SUM_CLAMP, FPL_##mode, 0)                                                    \
    DOUBLE_KERNEL(mode##_watch, SUM_WATCH, FPL_##mode, 0)

/* clang-format off */
DOUBLE_KERNEL(infinite, SUM_INFINITE, FPL_RNE, 0)
DOUBLE_KERNEL(zero_clamp, SUM_CLAMP, FPL_RNE, 1) DOUBLE_KERNEL(zero_watch, SUM_WATCH, FPL_RNE, 1)
DOUBLE_MODE(RNE) DOUBLE_MODE(RNA) DOUBLE_MODE(RTZ) DOUBLE_MODE(RUP) DOUBLE_MODE(RDN) DOUBLE_MODE(RTO)

static sum_band_fn double_kernel(const struct fpl_round *f) {
    static const sum_band_fn by_mode[][2] = {
        [FPL_RNE] = {double_RNE_clamp, double_RNE_watch}, [FPL_RNA] = {double_RNA_clamp, double_RNA_watch},
        [FPL_RTZ] = {double_RTZ_clamp, double_RTZ_watch}, [FPL_RUP] = {double_RUP_clamp, double_RUP_watch},
        [FPL_RDN] = {double_RDN_clamp, double_RDN_watch}, [FPL_RTO] = {double_RTO_clamp, double_RTO_watch}};
    const int watch = f->overflow != FPL_SAT;
    if (!f->is_signed || f->no_zero || f->mode > FPL_RTO) return NULL;
    if (f->mbits == 0 && f->mode == FPL_RTO) return NULL;
    if (f->mbits == 0 && f->mode == FPL_RNE) return watch ? double_zero_watch : double_zero_clamp;
    if (f->mode == FPL_RNE && f->overflow == FPL_OVF && f->has_inf) return double_infinite;
    return by_mode[f->mode][watch];
}
/* clang-format on */

sum_band_fn FPL_VEC(sum_each_kernel)(const struct fpl_round *f) {
#if defined(FPL_LEVEL_avx512)
    if (FPL_VEC(sum_random_covers)(f)) return FPL_VEC(sum_random);
    const sum_band_fn in_float = float_kernel(f);
    if (in_float != NULL) return in_float;
#endif
    return double_kernel(f);
}
