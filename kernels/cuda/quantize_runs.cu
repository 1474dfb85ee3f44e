/* quantize_runs.cu - groups that are read once, kept in registers, and written once.
 *
 *   runs   a matrix without gaps, cut into groups of 16, 32, 64 or 128 elements.  A warp takes 512 elements
 *          at a time by four loads of 16 bytes a lane, so a lane has a quad of each of four loads.  The four
 * maxima are reduced and dealt out in one go (a reduce-scatter): lane bits 0 and 1 say of which load a lane
 * ends up with its group's amax.  So a scale costs a lane sixteen elements' worth of time, not four, and
 * reaches the others by shuffles. held   any group of up to 16384 elements whose lines start at multiples of
 * four: rows, 128x128, 16x16; one block of threads per group, four quads a thread at most.
 *
 * Account for an H200 (132 multiprocessors, 1.755 GHz, 128 lanes issue a cycle; 4.3 TB/s measured copy):
 * 0.9 of copy bandwidth at 8 bytes an element is 2.1 elements a cycle and multiprocessor, so 61 issue slots
 * an element, of which the integer units give 30.
 */
#include "quantize.h"

enum { QUADS = 4, RUN_THREADS = 256, CHUNK = QUADS * FPL_WARP * 4, HELD_MOST = 1024 * QUADS * 4 };

/* ---- runs ------------------------------------------------------------------------------------------------
 */

/* The amax of each lane's group: lanes whose bit 0 is a, bit 1 is b get that of load 2a + b. */
__device__ static inline uint32_t deal_amax(const uint32_t m[QUADS], int lanes) {
    const int b0 = threadIdx.x & 1, b1 = threadIdx.x >> 1 & 1;
    uint32_t x = b0 ? m[2] : m[0], y = b0 ? m[3] : m[1];
    x = fpl_larger(x, __shfl_xor_sync(FPL_ALL_LANES, b0 ? m[0] : m[2], 1));
    y = fpl_larger(y, __shfl_xor_sync(FPL_ALL_LANES, b0 ? m[1] : m[3], 1));
    x = fpl_larger(b1 ? y : x, __shfl_xor_sync(FPL_ALL_LANES, b1 ? x : y, 2));
    for (int by = 4; by < lanes; by *= 2) x = fpl_larger(x, __shfl_xor_sync(FPL_ALL_LANES, x, by));
    return x;
}

/* The words of random bits of a lane's four quads; element i + 128 j is the first of quad j. */
__device__ static inline void chunk_words(const struct fpl_quantizing *t, uint64_t i, uint2 words[QUADS]) {
    if (t->quick.random_bits == 0) return;
    if (t->at.element % 8 == 0) {
        fpl_pair_words(t, i, i + 128, words);
        fpl_pair_words(t, i + 256, i + 384, words + 2);
        return;
    }
    for (int j = 0; j < QUADS; j++) words[j] = fpl_quad_words(t, i + 128u * (unsigned)j);
}

template <typename Out>
__global__ void __launch_bounds__(RUN_THREADS, 4)
    quantize_runs(int lanes, int64_t count, int64_t heads, const struct fpl_cuda_operand *operands,
                  struct fpl_cuda_at at, const unsigned *tensor, const float *x, Out *out,
                  int64_t *nonfinite) {
    const int64_t z = blockIdx.y, step = (int64_t)gridDim.x * (RUN_THREADS / FPL_WARP) * CHUNK;
    const int lane = (int)threadIdx.x % FPL_WARP;
    struct fpl_quantizing t = fpl_quantizing_of(operands, heads, count, z, at, tensor);
    const float *from = x + z * count;
    Out *to = out + z * count;
    for (int64_t first = ((int64_t)blockIdx.x * (RUN_THREADS / FPL_WARP) + threadIdx.x / FPL_WARP) * CHUNK;
         first < count; first += step) {
        const int64_t mine = first + lane * 4;
        float v[QUADS][4];
        uint32_t most[QUADS], amax[QUADS];
        uint2 words[QUADS];
        for (int j = 0; j < QUADS; j++) {
            v[j][0] = v[j][1] = v[j][2] = v[j][3] = 0.0f;
            if (mine + j * 128 < count) fpl_load_four(from + mine + j * 128, v[j]);
        }
        for (int j = 0; j < QUADS; j++) amax[j] = fpl_quad_amax(v[j], &most[j]);
        const struct fpl_quick_scale own = fpl_scale_of_group(&t, fpl_bits_float(deal_amax(amax, lanes)));
        chunk_words(&t, (uint64_t)mine, words);
        for (int j = 0; j < QUADS; j++) {
            const int source = (lane & ~3) | j >> 1 | (j & 1) << 1;
            const struct fpl_quick_scale s = fpl_scale_from(&own, source);
            float y[4];
            if (mine + j * 128 >= count) continue;
            fpl_quad_quantized(&t, &s, v[j], most[j], mine + j * 128, words[j], y);
            fpl_store_four(to, mine + j * 128, y);
        }
    }
    fpl_count_nonfinite(nonfinite, heads == 1 ? z : z / heads, t.bad);
}

/* ---- held -------------------------------------------------------------------------------------------------
 */

/* Lines of `width` elements, `height` of them; a thread's quads are threadIdx.x, + blockDim.x, ... in memory
 * order. */
template <typename Out>
__global__ void quantize_held(int height, int width, int64_t across, struct fpl_cuda_view v,
                              const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                              const unsigned *tensor, const float *x, Out *out, int64_t *nonfinite) {
    FPL_SHARED(unsigned, part, FPL_WARP);
    const int64_t z = blockIdx.y, line = blockIdx.x / across * height, column = blockIdx.x % across * width;
    const int64_t corner = line * v.row_stride + column;
    struct fpl_quantizing t = fpl_quantizing_of(operands, v.heads, v.rows * v.cols, z, at, tensor);
    const int quads = width / 4; /* of a line */
    float value[QUADS][4];
    uint32_t most[QUADS], amax = 0;
    int64_t offset[QUADS]; /* -1: none */
    for (int j = 0; j < QUADS; j++) {
        const int e = (int)threadIdx.x + j * (int)blockDim.x, i = e / quads, k = e % quads * 4;
        value[j][0] = value[j][1] = value[j][2] = value[j][3] = 0.0f;
        offset[j] =
            i < height && line + i < v.rows && column + k < v.cols ? corner + i * v.row_stride + k : -1;
        if (offset[j] >= 0) fpl_load_four(x + z * v.replica + offset[j], value[j]);
    }
    for (int j = 0; j < QUADS; j++) amax = fpl_larger(amax, fpl_quad_amax(value[j], &most[j]));
    amax = blockDim.x == FPL_WARP ? fpl_warp_max(amax) : fpl_block_max(amax, part);
    const struct fpl_quick_scale s = fpl_scale_of_group(&t, fpl_bits_float(amax));
    for (int j = 0; j < QUADS; j++) {
        float y[4];
        if (offset[j] < 0) continue;
        const uint2 words =
            t.quick.random_bits != 0 ? fpl_quad_words(&t, (uint64_t)offset[j]) : make_uint2(0, 0);
        fpl_quad_quantized(&t, &s, value[j], most[j], offset[j], words, y);
        fpl_store_four(out + z * v.replica, offset[j], y);
    }
    fpl_count_nonfinite(nonfinite, v.heads == 1 ? z : z / v.heads, t.bad);
}

/* ---- launches
 * ----------------------------------------------------------------------------------------------- */

static int is_run(const struct fpl_cuda_job *j, int64_t height, int64_t width) {
    const struct fpl_cuda_view *v = &j->view;
    return height == 1 && (width == 16 || width == 32 || width == 64 || width == 128) &&
           v->cols % width == 0 && v->row_stride == v->cols && v->replica == v->rows * v->cols;
}

int fpl_cuda_can_hold(const struct fpl_cuda_job *j, int64_t height, int64_t width) {
    const struct fpl_cuda_view *v = &j->view;
    return v->col_stride == 1 && width % 4 == 0 && height * width <= HELD_MOST && v->cols % 4 == 0 &&
           v->row_stride % 4 == 0 && v->replica % 4 == 0 && (uintptr_t)j->x % 16 == 0 &&
           (uintptr_t)j->out % 16 == 0;
}

template <typename Out>
static void launch(const struct fpl_cuda_job *j, int64_t height, int64_t width, Out *out) {
    if (is_run(j, height, width)) {
        /* A warp goes on for some chunks, so that what it knows of its operand is read once. */
        const int64_t count = j->view.rows * j->view.cols;
        const unsigned blocks = fpl_cuda_blocks(count, RUN_THREADS / FPL_WARP * CHUNK),
                       fewer = blocks >= 4096 ? (blocks + 3) / 4 : blocks;
        FPL_LAUNCH(quantize_runs<Out>, dim3(fewer, (unsigned)j->matrices), dim3(RUN_THREADS), 0,
                   j->dev->stream, (int)(width / 4), count, j->view.heads, j->operands, j->at, j->tensor,
                   j->x, out, j->nonfinite);
        fpl_cuda_launched(j->dev, "quantize_runs");
        return;
    }
    const int64_t across = (j->view.cols + width - 1) / width, down = (j->view.rows + height - 1) / height;
    const unsigned warps = fpl_cuda_blocks(height * width, QUADS * 4 * FPL_WARP);
    FPL_LAUNCH(quantize_held<Out>, dim3((unsigned)(across * down), (unsigned)j->matrices),
               dim3(warps * FPL_WARP), 0, j->dev->stream, (int)height, (int)width, across, j->view,
               j->operands, j->at, j->tensor, j->x, out, j->nonfinite);
    fpl_cuda_launched(j->dev, "quantize_held");
}

void fpl_cuda_quantize_held(const struct fpl_cuda_job *j, int64_t height, int64_t width) {
    if (j->carrier == FPL_CARRIER_BF16)
        launch(j, height, width, (struct fpl_bf16 *)j->out);
    else if (j->carrier == FPL_CARRIER_FP16)
        launch(j, height, width, (struct fpl_fp16 *)j->out);
    else
        launch(j, height, width, (float *)j->out);
}
