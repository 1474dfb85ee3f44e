/* accumulate_align.c - the aligned dot product of a matrix unit, on vectors of doubles.
 *
 * For each group of n products of an element (accumulator.h):
 *   1  E = max(exponent of acc, max over the group of ea + eb), exponents prepared once per
 *      operand as small floats, far below any other for a zero
 *   2  S = trunc(acc 2^(w - E)) + sum of trunc(a b 2^(w - E)): products are exact in double, the
 *      scaling is by a power of two, and S, at most 1025 terms below 2^40, is an exact integer
 *   3  acc = S 2^(E - w), cut to min(w, 23) fraction bits by clearing low bits
 * Results beyond float32's normal range, above or below, are left to scalars: the tile again.
 *
 * Operands are prepared as doubles, so that a step of 2 is a multiplication by a broadcast
 * operand, one by the scale, a truncation and an addition.
 */
#include "accumulate.h"

#include "accumulate_double.h"
#include "ops.h"

enum { TILE = 4, NONE = -30000 };

/* A row-major [M][K]; B in the panels of job->b. */
struct prepared {
    double *a, *b;
    float *ea, *eb;
};

VINLINE nl nmax_l(nl a, nl b) {
    const nl more = (nl)(a > b);
    return (a & more) | (b & ~more);
}

VINLINE nd ntrunc_d(nd x) {
#if defined(FPL_LEVEL_avx512)
    return (nd)_mm512_roundscale_pd((__m512d)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
#elif defined(FPL_LEVEL_avx2)
    return (nd)_mm256_round_pd((__m256d)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
#else
    return __builtin_convertvector(__builtin_convertvector(x, nl), nd);
#endif
}

/* ---- preparation ------------------------------------------------------------------------------ */

static float exponent_of(float x) { return x == 0.0f ? (float)NONE : (float)fpl_exponent(x); }

int FPL_VEC(sum_align_prepare)(struct fpl_device *dev, const struct fpl_sum_job *job, const void **prepared) {
    const size_t ma = (size_t)(job->M * job->K), mb = (size_t)((job->N + 15) / 16 * 16 * job->K);
    const size_t a16 = (ma + 15) / 16 * 16;
    char *at = fpl_cpu_scratch(dev, FPL_CPU_SUMS, 64 + (a16 + mb) * (sizeof(double) + sizeof(float)));
    if (at == NULL) return 0;
    struct prepared *p = (struct prepared *)(void *)at;
    p->a = (double *)(void *)(at + 64);
    p->b = p->a + a16;
    p->ea = (float *)(void *)(p->b + mb);
    p->eb = p->ea + a16;
    for (int64_t i = 0; i < job->M; i++) {
        for (int64_t k = 0; k < job->K; k++) {
            const float x = job->a[i * job->a_row + k * job->a_col];
            p->a[i * job->K + k] = (double)x;
            p->ea[i * job->K + k] = exponent_of(x);
        }
    }
    for (size_t i = 0; i < mb; i++) {
        p->b[i] = (double)job->b[i];
        p->eb[i] = exponent_of(job->b[i]);
    }
    *prepared = p;
    return 1;
}

/* ---- tiles ---------------------------------------------------------------------------------- */

struct tile {
    const double *a[TILE], *b;
    const float *ea[TILE], *eb;
    int64_t width; /* of the panel */
};

/* The largest exponents of products [k, k + n), as integers. */
VINLINE void largest_exponents(const struct tile *t, int64_t k, int64_t n, int32_t e[TILE][16]) {
    nf most[TILE][16 / NL];
    for (int i = 0; i < TILE; i++)
        for (int p = 0; p < 16 / NL; p++) most[i][p] = nset((float)(2 * NONE));
    for (int64_t end = k + n; k < end; k++) {
        const float *b = t->eb + k * t->width;
        UNROLL(4)
        for (int p = 0; p < 16 / NL; p++) {
            const nf eb = nload(b + p * NL);
            UNROLL(4)
            for (int i = 0; i < TILE; i++) {
                const nf sum = nset(t->ea[i][k]) + eb;
#if defined(FPL_LEVEL_avx512)
                most[i][p] = (nf)_mm512_max_ps((__m512)most[i][p], (__m512)sum);
#elif defined(FPL_LEVEL_avx2)
                most[i][p] = (nf)_mm256_max_ps((__m256)most[i][p], (__m256)sum);
#else
                most[i][p] = nselect_f(nmore(most[i][p], sum), most[i][p], sum);
#endif
            }
        }
    }
    for (int i = 0; i < TILE; i++) {
        for (int p = 0; p < 16 / NL; p++) {
            const nu whole = nto_int(most[i][p]);
            memcpy(&e[i][p * NL], &whole, sizeof whole);
        }
    }
}

struct cut {
    int64_t w, keep;
};

/* Group step 1, end: E of one vector of accumulators; the scale 2^(w - E) and its inverse. */
VINLINE void scales_of(const struct cut *c, const int32_t *e, nd acc, nd *scale, nd *inverse) {
    nd_ints narrow;
    memcpy(&narrow, e, sizeof narrow);
    const nl own = ((nl)acc >> 52 & 0x7ff) - 1023; /* of zero: -1023 */
    /* Nothing but zeros: any E does, this one keeps the scales finite. */
    const nl most = nmax_l(nmax_l(__builtin_convertvector(narrow, nl), own), nset_l(-400));
    *scale = (nd)((1023 + c->w - most) << 52);
    *inverse = (nd)((1023 + most - c->w) << 52);
}

/* Group step 3; lanes of `beyond` are set where the result is left to scalars. */
VINLINE nd result_of(const struct cut *c, nd sum, nd inverse, nl *beyond) {
    const nd x = (sum + 0.0) * inverse; /* no -0 */
    const nl own = (nl)x >> 52 & 0x7ff;
    *beyond |= (nl)(own > 1023 + 127) | ((nl)(own < 1023 - 126) & (nl)(own != 0));
    return (nd)((nl)x & c->keep);
}

/* One group of n products from k on. */
VINLINE void group(const struct tile *t, const struct cut *c, int64_t k, int64_t n, nd acc[TILE][PARTS],
                   nl *beyond) {
    int32_t e[TILE][16] __attribute__((aligned(64)));
    largest_exponents(t, k, n, e);
    enum { STEP = PARTS < 2 ? PARTS : 2 };
    for (int first = 0; first < PARTS; first += STEP) {
        nd sum[TILE][STEP], scale[TILE][STEP], inverse[TILE][STEP];
        UNROLL(4)
        for (int i = 0; i < TILE; i++) {
            UNROLL(2)
            for (int p = 0; p < STEP; p++) {
                scales_of(c, &e[i][(first + p) * ND], acc[i][first + p], &scale[i][p], &inverse[i][p]);
                sum[i][p] = ntrunc_d(acc[i][first + p] * scale[i][p]);
            }
        }
        for (int64_t j = k; j < k + n; j++) {
            const double *b = t->b + j * t->width + first * ND;
            UNROLL(2)
            for (int p = 0; p < STEP; p++) {
                const nd bv = *(const nd_unaligned *)(const void *)(b + p * ND);
                UNROLL(4)
                for (int i = 0; i < TILE; i++) sum[i][p] += ntrunc_d(bv * t->a[i][j] * scale[i][p]);
            }
        }
        UNROLL(4)
        for (int i = 0; i < TILE; i++) {
            UNROLL(2)
            for (int p = 0; p < STEP; p++) acc[i][first + p] = result_of(c, sum[i][p], inverse[i][p], beyond);
        }
    }
}

/* The finished sums of one tile; 0 where scalars must do it. */
static int align_tile(const struct fpl_accumulator_plan *plan, int64_t K, const struct tile *t,
                      float out[TILE][16]) {
    const int kept = plan->fraction < 23 ? plan->fraction : 23;
    const struct cut c = {plan->fraction, (int64_t)(~(uint64_t)0 << (52 - kept))};
    const int64_t chunk = plan->chunk > 0 ? plan->chunk : K;
    nl beyond = {0};
    memset(out, 0, TILE * sizeof out[0]);
    for (int64_t k = 0; k < K; k += chunk) {
        const int64_t end = K - k < chunk ? K : k + chunk;
        nd acc[TILE][PARTS];
        memset(acc, 0, sizeof acc);
        for (int64_t g = k; g < end; g += plan->terms)
            group(t, &c, g, end - g < plan->terms ? end - g : plan->terms, acc, &beyond);
        for (int i = 0; i < TILE; i++)
            for (int j = 0; j < 16; j++) out[i][j] += (float)acc[i][j / ND][j % ND];
    }
    int good = 1;
    for (int i = 0; i < ND; i++) good &= beyond[i] == 0;
    return good;
}

void FPL_VEC(sum_align)(const struct sum_band *p) {
    const struct fpl_sum_job *job = p->job;
    const struct prepared *q = p->prepared;
    const int64_t width = 16 * p->units;
    for (int unit = 0; unit < p->units; unit++) {
        const int64_t at = p->col * job->K + 16 * unit;
        for (int64_t i = 0; i < p->rows; i += TILE) {
            const int rows = p->rows - i < TILE ? (int)(p->rows - i) : TILE;
            struct tile t = {.b = q->b + at, .eb = q->eb + at, .width = width};
            float out[TILE][16];
            for (int r = 0; r < TILE; r++) {
                const int64_t row = (p->first + i + (r < rows ? r : rows - 1)) * job->K;
                t.a[r] = q->a + row;
                t.ea[r] = q->ea + row;
            }
            if (!align_tile(job->plan, job->K, &t, out))
                sum_again(p, i, rows, unit);
            else
                for (int r = 0; r < rows; r++)
                    memcpy(p->out + (i + r) * width + 16 * unit, out[r], sizeof out[r]);
        }
    }
}
