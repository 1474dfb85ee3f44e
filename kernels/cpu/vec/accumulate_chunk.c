/* accumulate_chunk.c - a float32 chain over k products, one rounding to F, a float32 sum.
 *
 * The chain is the product's own register tile (gemm_tile.h), chunk after chunk into a buffer
 * that the first cache holds; then the buffer is rounded and added.  A chunk's rounding costs a
 * few instructions per element against k fused multiply-adds.
 *
 * F's that accumulate_round.h has no float32 form for, and modes other than rne, are rounded in
 * scalars; fp32 is not rounded at all.
 */
#include "accumulate.h"

#include "accumulate_round.h"
#include "gemm_tile.h"

/* In place, n a multiple of sixteen; 0 where a value left what vectors handle. */
static int round_buffer(const struct fpl_round *f, float *x, int64_t n) {
    const struct sum_round v = lower_sum_round(f);
    if (f->mode != FPL_RNE || v.way == SUM_NONE) {
        for (int64_t i = 0; i < n; i++) x[i] = fpl_round_double(f, (double)x[i], 0);
        return 1;
    }
    uint32_t beyond = 0;
    for (int64_t i = 0; i < n; i += NL) {
        nf r;
        if (v.way == SUM_BITS)
            r = sum_round_nearest(&v, SUM_BITS, SUM_INFINITE, nload(x + i));
        else if (v.way == SUM_POWER)
            r = sum_round_power(&v, FPL_RNE, v.style, nload(x + i));
        else if (v.style == SUM_CLAMP)
            r = sum_round_nearest(&v, SUM_MAGIC, SUM_CLAMP, nload(x + i));
        else if (v.style == SUM_INFINITE)
            r = sum_round_nearest(&v, SUM_MAGIC, SUM_INFINITE, nload(x + i));
        else
            r = sum_round_nearest(&v, SUM_MAGIC, SUM_WATCH, nload(x + i));
        if (v.style == SUM_WATCH) beyond |= nlanes(sum_beyond(&v, r));
        nstore(x + i, r);
    }
    return beyond == 0;
}

void FPL_VEC(sum_chunk)(const struct sum_band *p) {
    const struct fpl_sum_job *job = p->job;
    const int64_t width = 16 * p->units, K = job->K, n = p->rows * width;
    const int64_t chunk = job->plan->chunk > 0 ? job->plan->chunk : K;
    const int rounds = !sum_is_float32(&job->plan->round);
    float chain[SUM_BAND * SUM_WIDTH] __attribute__((aligned(64)));
    memset(p->out, 0, (size_t)n * sizeof(float));
    for (int64_t k = 0; k < K; k += chunk) {
        const struct tile t = {.K = K - k < chunk ? K - k : chunk,
                               .cols = width,
                               .a = job->a + p->first * job->a_row + k * job->a_col,
                               .a_row = job->a_row,
                               .a_col = job->a_col,
                               .b = p->b + k * width,
                               .b_row = width,
                               .c = chain,
                               .c_row = width};
        FPL_VEC(gemm_panel)(t, p->rows, p->units);
        if (rounds && !round_buffer(&job->plan->round, chain, n)) {
            for (int unit = 0; unit < p->units; unit++) sum_again(p, 0, p->rows, unit);
            return;
        }
        for (int64_t i = 0; i < n; i += NL) nstore(p->out + i, nload(p->out + i) + nload(chain + i));
    }
}
