/* accumulate_tiles.cu - emulated sums by tiles (accumulate_tile.h), and element by element where a sum has no
 * way of its own or a tile met what its way does not take.
 *
 * Instructions of the inner loop for each product, its loads and its share of the loop included, and in
 * brackets the registers of a thread: sm_90a, nvcc 13.0, counted in `cuobjdump -sass`; nothing spills.  They
 * are counts, not times: no device has run them yet.
 *
 *   CHAIN 1.3 (80)       BITS 8.6 (72)        DOWN 11.8 (72)                 ALIGN_FLOAT 2.1 + 5.6 (80)
 *   TRUNCATED 2.3 (72)   CLAMPED 11.6 (72)    RANDOM_BITS 21 to 22 (93)      ALIGN_DOUBLE 2.3 + 6.8 (124)
 *                        WATCHED 11.3 (72)    RANDOM_DOUBLE 32 to 34 (108)
 *
 * ALIGN: the search for the largest exponent, and the sums, of which three are instructions in double.  Of
 * RANDOM_BITS's, seven are the step; the others draw random bits, a block of Philox for eight products.
 */
#include "accumulate.h"
#include "accumulate_tile.h"

/* ---- one tile -------------------------------------------------------------------------------------------
 */

/* Products [k, end) of the slice by the way; k and end count from the slice's first line. */
template <int WAY, int FORWARD> struct run_way {
    __device__ static inline void run(struct fpl_sum_thread<WAY> *t, const struct fpl_sum *s,
                                      const struct fpl_sum_layer *, int k, int end) {
        const struct fpl_sum_fast v = s->fast;
        fpl_sum_products(t, &v, k, end);
    }
};
template <int FORWARD> struct run_way<FPL_SUM_ALIGN_FLOAT, FORWARD> {
    __device__ static inline void run(struct fpl_sum_thread<FPL_SUM_ALIGN_FLOAT> *t, const struct fpl_sum *s,
                                      const struct fpl_sum_layer *, int k, int end) {
        fpl_sum_group(t, s, k, end);
    }
};
template <int FORWARD> struct run_way<FPL_SUM_ALIGN_DOUBLE, FORWARD> {
    __device__ static inline void run(struct fpl_sum_thread<FPL_SUM_ALIGN_DOUBLE> *t, const struct fpl_sum *s,
                                      const struct fpl_sum_layer *, int k, int end) {
        fpl_sum_group(t, s, k, end);
    }
};
template <int FORWARD> struct run_way<FPL_SUM_RANDOM_BITS, FORWARD> {
    __device__ static inline void run(struct fpl_sum_thread<FPL_SUM_RANDOM_BITS> *t, const struct fpl_sum *s,
                                      const struct fpl_sum_layer *layer, int k, int end) {
        fpl_sum_random_products<FPL_SUM_RANDOM_BITS, FORWARD>(t, s, layer, k, end);
    }
};
template <int FORWARD> struct run_way<FPL_SUM_RANDOM_DOUBLE, FORWARD> {
    __device__ static inline void run(struct fpl_sum_thread<FPL_SUM_RANDOM_DOUBLE> *t,
                                      const struct fpl_sum *s, const struct fpl_sum_layer *layer, int k,
                                      int end) {
        fpl_sum_random_products<FPL_SUM_RANDOM_DOUBLE, FORWARD>(t, s, layer, k, end);
    }
};
template <int FORWARD> struct run_way<FPL_SUM_EACH, FORWARD> {
    __device__ static inline void run(struct fpl_sum_thread<FPL_SUM_EACH> *t, const struct fpl_sum *s,
                                      const struct fpl_sum_layer *layer, int k, int end) {
        fpl_sum_each(t, s, layer, k, end);
    }
};

/* Sums beyond the registers: shared, output e of this thread at e * FPL_SUM_THREADS. */
struct kept {
    float *ends;   /* sums at the end of a chunk, to be rounded; CHAIN only */
    float *totals; /* of finished chunks */
    float *outer;  /* of finished pieces */
};

/* The chunk that ends before product k goes into the totals; registers start anew. */
template <int WAY>
__device__ static inline void end_chunk(struct fpl_sum_thread<WAY> *t, const struct fpl_sum_job *job,
                                        const struct fpl_sum *s, const struct kept *kept, int64_t k) {
    typedef struct fpl_sum_thread<WAY> T;
    const int rounds = WAY == FPL_SUM_CHAIN && s->rounds, chunked = s->plan.chunk > 0;
    if (rounds) {
        FPL_UNROLL
        for (int e = 0; e < T::ROWS * T::COLS; e++)
            kept->ends[e * FPL_SUM_THREADS] = (float)t->acc[e / T::COLS][e % T::COLS];
        FPL_ROLLED
        for (int e = 0; e < T::ROWS * T::COLS; e++)
            kept->ends[e * FPL_SUM_THREADS] = fpl_round_double(
                &s->plan.round, (double)kept->ends[e * FPL_SUM_THREADS],
                fpl_sum_random(s, &job->layer, t->row + e / T::COLS, t->col + e % T::COLS, k - 1));
    }
    FPL_UNROLL
    for (int e = 0; e < T::ROWS * T::COLS; e++) {
        const float value =
            rounds ? kept->ends[e * FPL_SUM_THREADS] : (float)t->acc[e / T::COLS][e % T::COLS];
        float *total = &kept->totals[e * FPL_SUM_THREADS];
        *total = chunked ? fpl_accumulate_chunk(*total, value) : value;
        t->acc[e / T::COLS][e % T::COLS] = 0;
    }
}

/* The piece from product k on, whose sum is in the totals. */
template <int WAY>
__device__ static inline void end_piece(const struct fpl_sum_thread<WAY> *t, const struct fpl_sum_job *job,
                                        const struct kept *kept, int64_t z, int64_t k) {
    typedef struct fpl_sum_thread<WAY> T;
    FPL_ROLLED
    for (int e = 0; e < T::ROWS * T::COLS; e++) {
        const int64_t i = t->row + e / T::COLS, j = t->col + e % T::COLS;
        float *outer = &kept->outer[e * FPL_SUM_THREADS], *total = &kept->totals[e * FPL_SUM_THREADS];
        if (i < job->p.M && j < job->p.N) *outer = fpl_sum_add_piece(job, z, i, j, k, *total, *outer);
        *total = 0.0f;
    }
}

/* All products of the tile; returns whether something was met that the way does not take. */
template <int WAY, int FORWARD>
__device__ static inline int
sum_slices(struct fpl_sum_thread<WAY> *t, const struct fpl_sum_job *job, const struct fpl_sum *s,
           const struct kept *kept, typename fpl_sum_thread<WAY>::number *a_slice,
           typename fpl_sum_thread<WAY>::number *b_slice, int64_t i0, int64_t j0) {
    typedef struct fpl_sum_thread<WAY> T;
    const int align = WAY == FPL_SUM_ALIGN_FLOAT || WAY == FPL_SUM_ALIGN_DOUBLE;
    const struct fpl_cuda_product *p = &job->p;
    const int64_t z = blockIdx.y, chunk = s->plan.chunk;
    const float *a = p->a + z * p->a_at.outer, *b = p->b + z * p->b_at.outer;
    int64_t k = 0, piece = 0, piece_end = fpl_sum_cut(job, 0);
    int64_t chunk_end = chunk > 0 ? fpl_sum_smaller(piece_end, chunk) : piece_end;
    int bad = 0;
    while (k < p->K) {
        const int64_t k0 = k, end = fpl_sum_smaller(p->K, k0 + FPL_SUM_DEPTH);
        __syncthreads();
        bad |=
            fpl_sum_load<WAY, T::TALL, T::A_LINE>(a, p->a_at.row, p->a_at.col, i0, p->M, k0, p->K, a_slice);
        bad |=
            fpl_sum_load<WAY, T::WIDE, T::B_LINE>(b, p->b_at.col, p->b_at.row, j0, p->N, k0, p->K, b_slice);
        __syncthreads();
        t->first = k0;
        while (k < end) {
            int64_t stop = fpl_sum_smaller(chunk_end, end);
            if (align) stop = fpl_sum_smaller(chunk_end, k + s->plan.terms);
            if (stop > end) break;
            run_way<WAY, FORWARD>::run(t, s, &job->layer, (int)(k - k0), (int)(stop - k0));
            k = stop;
            if (k < chunk_end) continue;
            end_chunk(t, job, s, kept, k);
            if (k == piece_end) {
                if (job->block) end_piece(t, job, kept, z, piece);
                piece = k;
                piece_end = fpl_sum_cut(job, k);
            }
            chunk_end = chunk > 0 ? fpl_sum_smaller(piece_end, k + chunk) : piece_end;
        }
    }
    return bad;
}

template <int WAY, int FORWARD>
__global__ void __launch_bounds__(FPL_SUM_THREADS) sum_tiles(struct fpl_sum_job job, int32_t *again) {
    typedef struct fpl_sum_thread<WAY> T;
    typedef typename T::number number;
    const int outputs = T::ROWS * T::COLS, ends = WAY == FPL_SUM_CHAIN ? outputs * FPL_SUM_THREADS : 1;
    FPL_SHARED(float4, a_room, FPL_SUM_DEPTH * T::A_LINE * sizeof(number) / sizeof(float4));
    FPL_SHARED(float4, b_room, FPL_SUM_DEPTH * T::B_LINE * sizeof(number) / sizeof(float4));
    FPL_SHARED(float, room_ends, ends);
    FPL_SHARED(float, room_totals, outputs *FPL_SUM_THREADS);
    FPL_SHARED(float, room_outer, outputs *FPL_SUM_THREADS);
    number *a_slice = reinterpret_cast<number *>(a_room), *b_slice = reinterpret_cast<number *>(b_room);
    const int64_t across = (job.p.N + T::WIDE - 1) / T::WIDE, z = blockIdx.y;
    const int64_t i0 = blockIdx.x / across * T::TALL, j0 = blockIdx.x % across * T::WIDE;
    const int ty = (int)threadIdx.x / FPL_SUM_ACROSS_THREADS, tx = (int)threadIdx.x % FPL_SUM_ACROSS_THREADS;
    const struct kept kept = {room_ends + (WAY == FPL_SUM_CHAIN ? threadIdx.x : 0), room_totals + threadIdx.x,
                              room_outer + threadIdx.x};
    struct fpl_sum_thread<WAY> t;
    t.a = a_slice + ty * T::ROWS;
    t.b = b_slice + tx * T::COLS;
    t.row = i0 + ty * T::ROWS;
    t.col = j0 + tx * T::COLS;
    t.first = 0;
    t.worst = 0;
    FPL_UNROLL
    for (int e = 0; e < outputs; e++) {
        t.acc[e / T::COLS][e % T::COLS] = 0;
        kept.totals[e * FPL_SUM_THREADS] = kept.outer[e * FPL_SUM_THREADS] = 0.0f;
    }
    const int bad = sum_slices<WAY, FORWARD>(&t, &job, job.sums + z, &kept, a_slice, b_slice, i0, j0) |
                    (t.worst > job.sums[z].fast.most);
    const int left = __syncthreads_or(bad);
    if (threadIdx.x == 0) again[z * gridDim.x + blockIdx.x] = left;
    if (left) return;
    FPL_ROLLED
    for (int e = 0; e < outputs; e++) {
        const int64_t i = t.row + e / T::COLS, j = t.col + e % T::COLS;
        if (i >= job.p.M || j >= job.p.N) continue;
        float sum = kept.totals[e * FPL_SUM_THREADS];
        if (job.block) sum = fpl_sum_finish(&job, z, kept.outer[e * FPL_SUM_THREADS]);
        fpl_sum_store(&job.p, z, i, j, sum);
    }
}

/* A block for every tile of tall x wide elements; again: NULL, or 0 where the tile is done. */
__global__ void sum_again(struct fpl_sum_job job, int tall, int wide, const int32_t *again) {
    const int64_t across = (job.p.N + wide - 1) / wide, z = blockIdx.y;
    const int64_t i0 = blockIdx.x / across * tall, j0 = blockIdx.x % across * wide;
    if (again != NULL && !again[z * gridDim.x + blockIdx.x]) return;
    for (int e = (int)threadIdx.x; e < tall * wide; e += FPL_SUM_THREADS) {
        const int64_t i = i0 + e / wide, j = j0 + e % wide;
        if (i < job.p.M && j < job.p.N) fpl_sum_store(&job.p, z, i, j, fpl_sum_element(&job, z, i, j));
    }
}

/* ---- launches ---------------------------------------------------------------------------------------------
 */

static dim3 grid_of(const struct fpl_sum_job *job, int64_t tall, int64_t wide) {
    return dim3((unsigned)(((job->p.M + tall - 1) / tall) * ((job->p.N + wide - 1) / wide)),
                (unsigned)job->p.batch);
}

static void launch_again(struct fpl_device *dev, const struct fpl_sum_job *job, int tall, int wide,
                         const int32_t *again) {
    FPL_LAUNCH(sum_again, grid_of(job, tall, wide), dim3(FPL_SUM_THREADS), 0, dev, *job, tall, wide, again);
}

template <int WAY, int FORWARD> static void launch(struct fpl_device *dev, const struct fpl_sum_job *job) {
    typedef struct fpl_sum_thread<WAY> T;
    void (*const sum_tiles_way)(struct fpl_sum_job, int32_t *) = sum_tiles<WAY, FORWARD>;
    const dim3 grid = grid_of(job, T::TALL, T::WIDE);
    int32_t *again =
        (int32_t *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_SUMS, (size_t)grid.x * grid.y * sizeof(int32_t));
    if (again == NULL) return;
    FPL_LAUNCH(sum_tiles_way, grid, dim3(FPL_SUM_THREADS), 0, dev, *job, again);
    launch_again(dev, job, T::TALL, T::WIDE, again);
}

void fpl_cuda_sum(struct fpl_device *dev, const struct fpl_sum_job *job, enum fpl_sum_way way) {
    const int forward = job->layer.role == FPL_FORWARD;
    switch (way) {
    case FPL_SUM_CHAIN:
        return launch<FPL_SUM_CHAIN, 0>(dev, job);
    case FPL_SUM_TRUNCATED:
        return launch<FPL_SUM_TRUNCATED, 0>(dev, job);
    case FPL_SUM_BITS:
        return launch<FPL_SUM_BITS, 0>(dev, job);
    case FPL_SUM_CLAMPED:
        return launch<FPL_SUM_CLAMPED, 0>(dev, job);
    case FPL_SUM_WATCHED:
        return launch<FPL_SUM_WATCHED, 0>(dev, job);
    case FPL_SUM_DOWN:
        return launch<FPL_SUM_DOWN, 0>(dev, job);
    case FPL_SUM_RANDOM_BITS:
        return forward ? launch<FPL_SUM_RANDOM_BITS, 1>(dev, job) : launch<FPL_SUM_RANDOM_BITS, 0>(dev, job);
    case FPL_SUM_RANDOM_DOUBLE:
        return forward ? launch<FPL_SUM_RANDOM_DOUBLE, 1>(dev, job)
                       : launch<FPL_SUM_RANDOM_DOUBLE, 0>(dev, job);
    case FPL_SUM_ALIGN_FLOAT:
        return launch<FPL_SUM_ALIGN_FLOAT, 0>(dev, job);
    case FPL_SUM_ALIGN_DOUBLE:
        return launch<FPL_SUM_ALIGN_DOUBLE, 0>(dev, job);
    case FPL_SUM_EACH:
        return launch<FPL_SUM_EACH, 0>(dev, job);
    default:
        launch_again(dev, job, 8, 16, NULL);
    }
}
