/* accumulate_random.c - acc = round_F(acc + a b) at every product, rounding stochastically.
 *
 * In double: the product is exact, and the sum, rounded toward zero to 53 bits, keeps every bit
 * of the fraction that r random bits look at.  With q the quantum of F at y = |acc + a b| and
 * c = 2^(52 - r) q, y + c rounded toward zero ends at q 2^-r: adding R to its bits and clearing r
 * of them leaves c plus the result, floor((floor(f 2^r) + R) / 2^r) quanta.  M + r <= 50 leaves room
 * in 53 bits for y < 2^(M+1) q beside c.
 *
 * Random bits are those of products (t, o, i) in the layer, one half of a block of eight along i
 * each, or one word of four where r > 16 (accumulator.h).  With halves and I a multiple of
 * eight, sixteen columns by eight products take sixteen blocks: where i is the reduction axis, a
 * column's eight products share one; otherwise a product's columns share two.  Else every
 * product makes the block that its bits are in.
 */
#include "accumulate_tile.h"

#include "../../../formats/random.h"
#include "quantize_random.h"

#if defined(FPL_LEVEL_avx512)

#include "accumulate_double.h"

enum { ROWS = 4, STEPS = 8 };

int FPL_VEC(sum_random_covers)(const struct fpl_round *f) {
    return f->mode == FPL_SR && f->sr_bits <= 32 && f->sr_bits + f->mbits <= 50 && f->is_signed &&
           f->subnormals && !f->no_zero && !f->identity && f->codebook == 0;
}

struct random_round {
    nq low, high;       /* bits of 2^emin, and what makes c's bits of a binade's */
    nq random, cleared; /* masks of R, and of what is kept */
    nd largest;
    int clamp, one_zero;
};

static struct random_round lower_random(const struct fpl_round *f) {
    const int r = f->sr_bits;
    return (struct random_round){.low = nsetq((uint64_t)(1023 + f->emin) << 52),
                                 .high = nsetq((uint64_t)(52 - r - f->mbits) << 52),
                                 .random = nsetq(((uint64_t)1 << r) - 1),
                                 .cleared = nsetq(~(((uint64_t)1 << r) - 1)),
                                 .largest = nset_d((double)f->largest),
                                 .clamp = f->overflow == FPL_SAT,
                                 .one_zero = f->one_zero};
}

/* Random bits of one row: eight products by sixteen columns, at the bottom of a 64-bit lane each. */
struct row_bits {
    nq half[STEPS][PARTS];
};

/* Number of the product (row, col, k) in the layer. */
static uint64_t product_index(const struct fpl_sum_job *job, int64_t row, int64_t col, int64_t k) {
    int64_t t = row, o = col, i = k + job->first_k; /* forward */
    if (job->role == FPL_DGRAD)
        o = i, i = col;
    else if (job->role == FPL_WGRAD)
        t = i, o = row, i = col;
    const uint64_t first = job->at->element / (uint64_t)(job->role == FPL_FORWARD ? job->I : job->O);
    return ((first + (uint64_t)t) * (uint64_t)job->O + (uint64_t)o) * (uint64_t)job->I + (uint64_t)i;
}

VINLINE nq lanes_of(uint64_t first, uint64_t step) {
    const nq lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return nsetq(first) + lane * nsetq(step);
}

/* Forward: a block per column; k is its first product's. */
static void bits_along(const struct fpl_sum_job *job, const struct philox *keys, int64_t row, int64_t col,
                       int64_t k, struct row_bits *out) {
    const uint64_t step = (uint64_t)job->I / 8, first = product_index(job, row, col, k) / 8;
    for (int part = 0; part < PARTS; part++) {
        nq w[4];
        philox_blocks(keys, lanes_of(first + (uint64_t)(part * ND) * step, step), &w[0], &w[1], &w[2], &w[3]);
        for (int s = 0; s < STEPS; s++) out->half[s][part] = w[s / 2] >> (16 * (s % 2)) & nsetq(0xffff);
    }
}

/* Dgrad and wgrad: two blocks per product. */
static void bits_across(const struct fpl_sum_job *job, const struct philox *keys, int64_t row, int64_t col,
                        int64_t k, struct row_bits *out) {
    const uint64_t first = product_index(job, row, col, k) / 8;
    const uint64_t step = product_index(job, row, col, k + 1) / 8 - first;
    _Alignas(64) uint16_t halves[STEPS * 16 + RANDOM_ROOM];
    const nq pair = {0, 0, 1, 1, 2, 2, 3, 3}, which = {0, 1, 0, 1, 0, 1, 0, 1};
    for (int s = 0; s < STEPS; s += 4) {
        nq c0, c1, c2, c3;
        philox_blocks(keys, nsetq(first + (uint64_t)s * step) + pair * nsetq(step) + which, &c0, &c1, &c2,
                      &c3);
        philox_store(c0, c1, c2, c3, halves + 16 * s);
    }
    for (int s = 0; s < STEPS; s++)
        for (int part = 0; part < PARTS; part++)
            out->half[s][part] =
                (nq)_mm512_cvtepu16_epi64(_mm_load_si128((const __m128i *)(halves + 16 * s + ND * part)));
}

/* Bits of products number e: a block for each. */
VINLINE nq bits_of(const struct philox *keys, nq e, const int words) {
    const nq word = (words ? e : e >> 1) & nsetq(3);
    nq w[4];
    philox_blocks(keys, words ? e >> 2 : e >> 3, &w[0], &w[1], &w[2], &w[3]);
    for (int i = 1; i < 4; i++) {
        const __mmask8 here = _mm512_cmpeq_epi64_mask((__m512i)word, (__m512i)nsetq((uint64_t)i));
        w[0] = (nq)_mm512_mask_mov_epi64((__m512i)w[0], here, (__m512i)w[i]);
    }
    return words ? w[0] : w[0] >> ((e & nsetq(1)) << 4);
}

/* Any width, any number of bits. */
static void bits_each(const struct fpl_sum_job *job, const struct philox *keys, int64_t row, int64_t col,
                      int64_t k, struct row_bits *out) {
    const int words = job->plan->round.sr_bits > 16;
    const uint64_t step = product_index(job, row, col + 1, k) - product_index(job, row, col, k);
    for (int s = 0; s < STEPS; s++) {
        for (int part = 0; part < PARTS; part++) {
            const nq e = lanes_of(product_index(job, row, col + part * ND, k + s), step);
            out->half[s][part] = words ? bits_of(keys, e, 1) : bits_of(keys, e, 0);
        }
    }
}

VINLINE nd round_random(const struct random_round *v, nd x, nq bits) {
    nd y = dabs(x);
    if (v->clamp) y = dmin(v->largest, y);
    const nq e = (nq)y & nsetq(0x7ff0000000000000u);
    const nq c = (nq)_mm512_max_epu64((__m512i)e, (__m512i)v->low) + v->high;
    const nq sum = (nq)_mm512_add_round_pd((__m512d)y, (__m512d)c, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const nd r = (nd)((sum + (bits & v->random)) & v->cleared) - (nd)c;
    const nd out = dsigned(r, x);
    return v->one_zero ? dselect(dequal(r, nset_d(0.0)), r, out) : out;
}

/* `count` products of ROWS rows with bits of their own, from product `from` of the bits. */
VINLINE void random_products(const struct random_round *v, const struct sum_tile *t, int first, int64_t k,
                             int from, int count, const struct row_bits bits[ROWS], nd sum[ROWS][PARTS],
                             dmask *beyond) {
    for (int s = from; s < from + count; s++, k++) {
        const float *b = t->b + k * t->b_row;
        nd bv[PARTS];
        for (int part = 0; part < PARTS; part++) bv[part] = nload_d(b + part * ND);
        UNROLL(4)
        for (int i = 0; i < ROWS; i++) {
            const nd a = nset_d((double)t->a[first + i][k * t->a_col]);
            UNROLL(2)
            for (int part = 0; part < PARTS; part++) {
                const nd x = (nd)_mm512_add_round_pd((__m512d)sum[i][part], (__m512d)(bv[part] * a),
                                                     _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
                sum[i][part] = round_random(v, x, bits[i].half[s][part]);
                if (!v->clamp) *beyond |= dmore(dabs(sum[i][part]), v->largest);
            }
        }
    }
}

typedef void (*bits_fn)(const struct fpl_sum_job *job, const struct philox *keys, int64_t row, int64_t col,
                        int64_t k, struct row_bits *out);

static int chunk_random(const struct sum_band *p, const struct sum_tile *t, int64_t n, nf acc[TILE][1]) {
    const struct fpl_sum_job *job = p->job;
    const struct random_round v = lower_random(&job->plan->round);
    struct fpl_random_at at = *job->at;
    at.stream = fpl_stream(FPL_STREAM_ACCUMULATE, at.stream);
    const struct philox keys = philox_keys(&at);
    const int shared = job->I % 8 == 0 && job->plan->round.sr_bits <= 16;
    const int aligned = shared && job->role == FPL_FORWARD;
    const bits_fn make_bits = !shared ? bits_each : aligned ? bits_along : bits_across;
    dmask beyond = 0;
    for (int first = 0; first < TILE; first += ROWS) {
        nd sum[ROWS][PARTS];
        for (int i = 0; i < ROWS; i++) sum[i][0] = sum[i][1] = nset_d(0.0);
        for (int64_t k = 0; k < n;) {
            struct row_bits bits[ROWS];
            /* a block's first product is a multiple of eight of the layer's */
            const int from = aligned ? (int)((t->k + k + job->first_k) % STEPS) : 0;
            const int count = n - k < STEPS - from ? (int)(n - k) : STEPS - from;
            for (int i = 0; i < ROWS; i++)
                make_bits(job, &keys, t->row[first + i], t->col, t->k + k - from, &bits[i]);
            random_products(&v, t, first, k, from, count, bits, sum, &beyond);
            k += count;
        }
        for (int i = 0; i < ROWS; i++)
            for (int part = 0; part < PARTS; part++)
                nstore_d((float *)acc[first + i] + part * ND, sum[i][part]);
    }
    return !dany(beyond);
}

void FPL_VEC(sum_random)(const struct sum_band *p) { each_tile(p, chunk_random); }

#else

int FPL_VEC(sum_random_covers)(const struct fpl_round *f) {
    (void)f;
    return 0;
}

void FPL_VEC(sum_random)(const struct sum_band *p) {
    for (int unit = 0; unit < p->units; unit++) sum_again(p, 0, p->rows, unit);
}

#endif
