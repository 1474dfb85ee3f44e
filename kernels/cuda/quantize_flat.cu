/* quantize_flat.cu - one scale for a whole matrix (tensor, delayed), or none: every element on its own.
 *
 * A matrix is a line of elements.  Whole quads go by accesses of 16 bytes, four of them in flight a thread;
 * the rest, and matrices that do not start at a multiple of 16 bytes, one by one.  The amax of a tensor takes
 * a pass of its own before; maxima do not depend on order.
 */
#include "operations.h"
#include "quantize.h"

enum { THREADS = 256, QUADS = 4, STEP = THREADS * QUADS * 4 };

/* bits[z] becomes the largest finite magnitude's bits: positive floats order as integers do. */
__global__ void __launch_bounds__(THREADS)
    tensor_amax(int64_t count, int64_t whole, const float *x, unsigned *bits) {
    const float *from = x + (int64_t)blockIdx.y * count;
    uint32_t most = 0, unused;
    for (int64_t first = (int64_t)blockIdx.x * STEP; first < whole; first += (int64_t)gridDim.x * STEP) {
        float v[QUADS][4];
        FPL_UNROLL
        for (int j = 0; j < QUADS; j++) {
            const int64_t i = first + (j * THREADS + (int)threadIdx.x) * 4;
            v[j][0] = v[j][1] = v[j][2] = v[j][3] = 0.0f;
            if (i < whole) fpl_load_four(from + i, v[j]);
        }
        FPL_UNROLL
        for (int j = 0; j < QUADS; j++) most = fpl_larger(most, fpl_quad_amax(v[j], &unused));
    }
    for (int64_t i = whole + (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * THREADS)
        most = fpl_larger(most, fpl_float_bits(fpl_finite_magnitude(from[i])));
    most = fpl_warp_max(most);
    if (threadIdx.x % FPL_WARP == 0 && most > 0) atomicMax(&bits[blockIdx.y], most);
}

template <int KIND, typename Out>
__device__ static inline void flat_quads(struct fpl_quantizing *t, const struct fpl_quick_scale *s,
                                         int64_t whole, const float *from, Out to) {
    for (int64_t first = (int64_t)blockIdx.x * STEP; first < whole; first += (int64_t)gridDim.x * STEP) {
        const int64_t mine = first + (int)threadIdx.x * 4;
        float v[QUADS][4];
        uint2 words[QUADS];
        FPL_UNROLL
        for (int j = 0; j < QUADS; j++) {
            v[j][0] = v[j][1] = v[j][2] = v[j][3] = 0.0f;
            if (mine + j * THREADS * 4 < whole) fpl_load_four(from + mine + j * THREADS * 4, v[j]);
        }
        if (KIND != FPL_QUICK_NEAREST && t->quick.random_bits != 0) {
            fpl_pair_words(t, (uint64_t)mine, (uint64_t)(mine + THREADS * 4), words);
            fpl_pair_words(t, (uint64_t)(mine + THREADS * 8), (uint64_t)(mine + THREADS * 12), words + 2);
        }
        unsigned left = 0; /* quads for the long way */
        FPL_UNROLL
        for (int j = 0; j < QUADS; j++) {
            const int64_t i = mine + j * THREADS * 4;
            uint32_t most;
            (void)fpl_quad_amax(v[j], &most);
            if (i < whole && !fpl_quad_quick<KIND>(t, s, v[j], most, i, words[j], to)) left |= 1u << j;
        }
        FPL_ROLLED
        for (int j = 0; left >> j != 0; j++)
            if (left >> j & 1u) fpl_quad_long(t, s, from, mine + j * THREADS * 4, to);
    }
}

template <typename Out>
__global__ void __launch_bounds__(THREADS, 2)
    quantize_flat(int64_t count, int64_t whole, int64_t heads, const struct fpl_cuda_operand *operands,
                  struct fpl_cuda_at at, const unsigned *tensor, const float *x, Out out,
                  int64_t *nonfinite) {
    const int64_t z = blockIdx.y;
    struct fpl_quantizing t = fpl_quantizing_of(operands, heads, count, z, at, NULL);
    const struct fpl_quick_scale s =
        fpl_scale_of_group(&t, tensor != NULL ? __uint_as_float(tensor[z]) : 0.0f);
    const float *from = x + z * count;
    Out to = fpl_further(out, z * count);
    FPL_BY_KIND(t.quick.kind, flat_quads, &t, &s, whole, from, to);
    const struct fpl_group_scale g = fpl_quick_full(&t.quick, &s);
    for (int64_t i = whole + (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * THREADS) {
        t.bad += !fpl_is_finite(from[i]) && !t.operand->plan.identity;
        fpl_store(to, i,
                  fpl_element_long(t.operand, t.fast, g, from[i], fpl_element_random(t.operand, &t.at, i)));
    }
    fpl_count_nonfinite(nonfinite, heads == 1 ? z : z / heads, t.bad);
}

/* How much of each of several matrices of `count` elements goes by quads. */
static int64_t whole_of(int64_t matrices, int64_t count, const void *x, const void *out) {
    const int aligned =
        (uintptr_t)x % 16 == 0 && (uintptr_t)out % 16 == 0 && (matrices == 1 || count % 4 == 0);
    return aligned ? count / 4 * 4 : 0;
}

static unsigned blocks_of(int64_t count, int64_t whole, unsigned most) {
    const unsigned blocks = whole != 0 ? fpl_cuda_blocks(whole, STEP) : fpl_cuda_blocks(count, THREADS * 8);
    return blocks == 0 ? 1 : blocks < most ? blocks : most;
}

void fpl_cuda_amax(struct fpl_device *dev, int64_t matrices, int64_t count, const float *x, unsigned *bits) {
    const int64_t whole = whole_of(matrices, count, x, NULL);
    FPL_LAUNCH(tensor_amax, dim3(blocks_of(count, whole, 1024), (unsigned)matrices), dim3(THREADS), 0, dev,
               count, whole, x, bits);
}

template <typename Out> static void launch(const struct fpl_cuda_job *j, Out out) {
    const int64_t count = j->view.rows * j->view.cols, whole = whole_of(j->matrices, count, j->x, j->out);
    FPL_LAUNCH(quantize_flat<Out>, dim3(blocks_of(count, whole, 16384), (unsigned)j->matrices), dim3(THREADS),
               0, j->dev, count, whole, j->view.heads, j->operands, j->at, j->tensor, j->x, out,
               j->nonfinite);
}

void fpl_cuda_quantize_flat(const struct fpl_cuda_job *j) {
    if (fpl_cuda_carrier_bytes(j->carrier) == 2)
        launch(j, fpl_narrow_out(j->out, j->carrier));
    else
        launch(j, (float *)j->out);
}
