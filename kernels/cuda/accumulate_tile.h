/* accumulate_tile.h - the kernel of emulated sums: a tile of the result by one block.
 *
 * 8 x 16 threads take ROWS x COLS neighbouring outputs each, in registers, over slices of 32 products that
 * all threads first copy to shared memory.  A slice ends where the reduction does, and is left early where
 * the next group of an aligned sum would cross its end, which then begins the next one.  Sums of chunks and
 * pieces (block:S) live in shared memory, each thread's at places of its own: they are touched once a chunk,
 * in a rolled loop, and cost no registers.
 *
 * Stochastic rounding: eight products share a block of random bits, along the reduction in the forward
 * product, else along a row of the result, so a thread has one row by eight columns.
 */
#ifndef FPL_CUDA_ACCUMULATE_TILE_H
#define FPL_CUDA_ACCUMULATE_TILE_H

#include "accumulate_step.h"

#define FPL_SUM_DEPTH 32
#define FPL_SUM_DOWN_THREADS 8
#define FPL_SUM_ACROSS_THREADS 16
#define FPL_SUM_THREADS (FPL_SUM_DOWN_THREADS * FPL_SUM_ACROSS_THREADS)

/* Outputs of a thread, and the type that sums and operands have. */
template <int WAY> struct fpl_sum_shape {
    enum { ROWS = 4, COLS = 4 };
    typedef float number;
};
template <> struct fpl_sum_shape<FPL_SUM_ALIGN_DOUBLE> {
    enum { ROWS = 4, COLS = 4 };
    typedef double number;
};
template <> struct fpl_sum_shape<FPL_SUM_RANDOM_BITS> {
    enum { ROWS = 1, COLS = 8 };
    typedef float number;
};
template <> struct fpl_sum_shape<FPL_SUM_RANDOM_DOUBLE> {
    enum { ROWS = 1, COLS = 8 };
    typedef double number;
};
template <> struct fpl_sum_shape<FPL_SUM_EACH> {
    enum { ROWS = 1, COLS = 1 };
    typedef float number;
};

/* A thread's part of a slice: a_slice[k][i], b_slice[k][j], lines padded to whole 16 bytes. */
template <int WAY> struct fpl_sum_thread {
    typedef fpl_sum_shape<WAY> shape;
    typedef typename shape::number number;
    enum {
        ROWS = shape::ROWS,
        COLS = shape::COLS,
        TALL = FPL_SUM_DOWN_THREADS * ROWS,
        WIDE = FPL_SUM_ACROSS_THREADS * COLS,
        A_LINE = TALL + 4,
        B_LINE = WIDE + 4
    };
    const number *a, *b;     /* of its first row and column */
    int64_t row, col, first; /* in the matrix; product of the slice's first line */
    number acc[ROWS][COLS];
    uint32_t worst; /* fpl_sum_watch */
};

/* Slice [k0, k0 + DEPTH) of lines [first, first + TILE) into to[k][i]; 0 beyond.  Returns whether there was
 * something that the way does not take. */
template <int WAY, int TILE, int LINE, typename T>
__device__ static inline int fpl_sum_load(const float *x, int64_t line, int64_t step, int64_t first,
                                          int64_t lines, int64_t k0, int64_t K, T *to) {
    int bad = 0;
    for (int e = (int)threadIdx.x; e < TILE * FPL_SUM_DEPTH; e += FPL_SUM_THREADS) {
        const int i = step == 1 ? e / FPL_SUM_DEPTH : e % TILE, k = step == 1 ? e % FPL_SUM_DEPTH : e / TILE;
        const float value = first + i < lines && k0 + k < K ? x[(first + i) * line + (k0 + k) * step] : 0.0f;
        bad |= !fpl_sum_takes<WAY>(value);
        to[k * LINE + i] = (T)value;
    }
    return bad;
}

/* ---- products of a slice ------------------------------------------------------------------------------- */

/* Lines [k, end) one after the other. */
template <int WAY>
__device__ static inline void fpl_sum_products(struct fpl_sum_thread<WAY> *t, const struct fpl_sum_fast *v,
                                               int k, int end) {
    typedef struct fpl_sum_thread<WAY> T;
    for (; k < end; k++) {
        float a[T::ROWS], b[T::COLS];
        FPL_UNROLL
        for (int u = 0; u < T::ROWS; u++) a[u] = (float)t->a[k * T::A_LINE + u];
        FPL_UNROLL
        for (int c = 0; c < T::COLS; c++) b[c] = (float)t->b[k * T::B_LINE + c];
        FPL_UNROLL
        for (int u = 0; u < T::ROWS; u++) {
            FPL_UNROLL
            for (int c = 0; c < T::COLS; c++)
                t->acc[u][c] = fpl_sum_step<WAY>(v, t->acc[u][c], a[u], b[c], &t->worst);
        }
    }
}

/* One group of align. */
template <int WAY>
__device__ static inline void fpl_sum_group(struct fpl_sum_thread<WAY> *t, const struct fpl_sum *s, int begin,
                                            int end) {
    typedef struct fpl_sum_thread<WAY> T;
    typedef typename T::number number;
    const uint32_t bias = sizeof(number) == 4 ? 127u << 23 : 1023u << 20;
    uint32_t most[T::ROWS][T::COLS];
    number c[T::ROWS][T::COLS];
    FPL_UNROLL
    for (int u = 0; u < T::ROWS; u++) {
        FPL_UNROLL
        for (int w = 0; w < T::COLS; w++)
            most[u][w] = t->acc[u][w] == (number)0 ? 0u : fpl_sum_field(t->acc[u][w]) + bias;
    }
    for (int k = begin; k < end; k++) {
        uint32_t a[T::ROWS], b[T::COLS];
        FPL_UNROLL
        for (int u = 0; u < T::ROWS; u++) a[u] = fpl_sum_field(t->a[k * T::A_LINE + u]);
        FPL_UNROLL
        for (int w = 0; w < T::COLS; w++) b[w] = fpl_sum_field(t->b[k * T::B_LINE + w]);
        FPL_UNROLL
        for (int u = 0; u < T::ROWS; u++) {
            FPL_UNROLL
            for (int w = 0; w < T::COLS; w++) most[u][w] = fpl_sum_larger(a[u] + b[w], most[u][w]);
        }
    }
    FPL_UNROLL
    for (int u = 0; u < T::ROWS; u++) {
        FPL_UNROLL
        for (int w = 0; w < T::COLS; w++) {
            c[u][w] = fpl_sum_align_constant(most[u][w], s->plan.fraction, (number)0);
            t->acc[u][w] =
                fpl_sum_align_term(c[u][w], t->acc[u][w], (number)1, fpl_sum_sign(t->acc[u][w]), 0u);
        }
    }
    for (int k = begin; k < end; k++) {
        number a[T::ROWS], b[T::COLS];
        FPL_UNROLL
        for (int u = 0; u < T::ROWS; u++) a[u] = t->a[k * T::A_LINE + u];
        FPL_UNROLL
        for (int w = 0; w < T::COLS; w++) b[w] = t->b[k * T::B_LINE + w];
        FPL_UNROLL
        for (int u = 0; u < T::ROWS; u++) {
            FPL_UNROLL
            for (int w = 0; w < T::COLS; w++)
                t->acc[u][w] +=
                    fpl_sum_align_term(c[u][w], a[u], b[w], fpl_sum_sign(a[u]), fpl_sum_sign(b[w]));
        }
    }
    FPL_UNROLL
    for (int u = 0; u < T::ROWS; u++) {
        FPL_UNROLL
        for (int w = 0; w < T::COLS; w++)
            t->acc[u][w] = fpl_sum_align_result(t->acc[u][w], s->fast.scale, &t->worst);
    }
}

__device__ static inline float fpl_sum_random_step(const struct fpl_sum_fast *v, float acc, float a, float b,
                                                   uint32_t random, uint32_t *worst) {
    return fpl_sum_random_bits(v, acc, a, b, random, worst);
}
__device__ static inline double fpl_sum_random_step(const struct fpl_sum_fast *v, double acc, double a,
                                                    double b, uint32_t random, uint32_t *worst) {
    return fpl_sum_random_double(v, acc, a, b, random, worst);
}

/* Stochastic rounding; FORWARD: eight lines of a column share random bits, else eight columns of a line. */
template <int WAY, int FORWARD>
__device__ static inline void fpl_sum_random_products(struct fpl_sum_thread<WAY> *t, const struct fpl_sum *s,
                                                      const struct fpl_sum_layer *layer, int k, int end) {
    typedef struct fpl_sum_thread<WAY> T;
    const struct fpl_sum_fast v = s->fast;
    uint32_t w[4];
    while (k < end) {
        const int first = FORWARD ? k & ~7 : k;
        const uint64_t block = fpl_sum_index(s, layer, t->row, t->col, t->first + first) / 8u;
        if (!FORWARD) fpl_random_block(s->seed, block, s->step, s->stream, w);
        FPL_UNROLL
        for (int c = 0; c < T::COLS; c++) {
            if (!FORWARD) {
                t->acc[0][c] =
                    fpl_sum_random_step(&v, t->acc[0][c], t->a[k * T::A_LINE], t->b[k * T::B_LINE + c],
                                        w[c / 2] >> (16 * (c % 2)), &t->worst);
                continue;
            }
            fpl_random_block(s->seed, block + (uint64_t)c * (uint64_t)(layer->I / 8), s->step, s->stream, w);
            FPL_UNROLL
            for (int i = 0; i < 8; i++) {
                const int line = first + i;
                if (line < k || line >= end) continue;
                t->acc[0][c] =
                    fpl_sum_random_step(&v, t->acc[0][c], t->a[line * T::A_LINE], t->b[line * T::B_LINE + c],
                                        w[i / 2] >> (16 * (i % 2)), &t->worst);
            }
        }
        k = FORWARD ? first + 8 : k + 1;
    }
}

/* Whatever comes at every product. */
__device__ static inline void fpl_sum_each(struct fpl_sum_thread<FPL_SUM_EACH> *t, const struct fpl_sum *s,
                                           const struct fpl_sum_layer *layer, int k, int end) {
    typedef struct fpl_sum_thread<FPL_SUM_EACH> T;
    for (; k < end; k++)
        t->acc[0][0] =
            fpl_accumulate_each(&s->plan.round, t->acc[0][0], t->a[k * T::A_LINE], t->b[k * T::B_LINE],
                                fpl_sum_random(s, layer, t->row, t->col, t->first + k));
}

#endif
