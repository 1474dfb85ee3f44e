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

/* The lane that made the scale of load j for this one's group. */
__device__ static inline int source_of(int lane, int j) { return (lane & ~3) | j >> 1 | (j & 1) << 1; }

template <int KIND, typename Out>
__device__ static inline void run_chunks(struct fpl_quantizing *t, int lanes, int64_t count,
                                         const float *from, Out to) {
    const int64_t step = (int64_t)gridDim.x * (RUN_THREADS / FPL_WARP) * CHUNK;
    const int lane = (int)threadIdx.x % FPL_WARP;
    for (int64_t first = ((int64_t)blockIdx.x * (RUN_THREADS / FPL_WARP) + threadIdx.x / FPL_WARP) * CHUNK;
         first < count; first += step) {
        const int64_t mine = first + lane * 4;
        float v[QUADS][4];
        uint32_t most[QUADS], amax[QUADS];
        uint2 words[QUADS];
        FPL_UNROLL
        for (int j = 0; j < QUADS; j++) {
            v[j][0] = v[j][1] = v[j][2] = v[j][3] = 0.0f;
            if (mine + j * 128 < count) fpl_load_four(from + mine + j * 128, v[j]);
        }
        FPL_UNROLL
        for (int j = 0; j < QUADS; j++) amax[j] = fpl_quad_amax(v[j], &most[j]);
        const struct fpl_quick_scale own = fpl_scale_of_group(t, fpl_bits_float(deal_amax(amax, lanes)));
        if (KIND != FPL_QUICK_NEAREST && t->quick.random_bits != 0) {
            fpl_pair_words(t, (uint64_t)mine, (uint64_t)(mine + 128), words);
            fpl_pair_words(t, (uint64_t)(mine + 256), (uint64_t)(mine + 384), words + 2);
        }
        unsigned left = 0; /* quads for the long way */
        FPL_UNROLL
        for (int j = 0; j < QUADS; j++) {
            const struct fpl_quick_scale s = fpl_scale_from(&own, source_of(lane, j));
            const int64_t i = mine + j * 128;
            if (i < count && !fpl_quad_quick<KIND>(t, &s, v[j], most[j], i, words[j], to)) left |= 1u << j;
        }
        if (!__any_sync(FPL_ALL_LANES, left != 0)) continue;
        FPL_ROLLED
        for (int j = 0; j < QUADS; j++) {
            const struct fpl_quick_scale s = fpl_scale_from(&own, source_of(lane, j));
            if (left >> j & 1u) fpl_quad_long(t, &s, from, mine + j * 128, to);
        }
    }
}

template <typename Out>
__global__ void __launch_bounds__(RUN_THREADS, 2)
    quantize_runs(int lanes, int64_t count, int64_t heads, const struct fpl_cuda_operand *operands,
                  struct fpl_cuda_at at, const unsigned *tensor, const float *x, Out out,
                  int64_t *nonfinite) {
    const int64_t z = blockIdx.y;
    struct fpl_quantizing t = fpl_quantizing_of(operands, heads, count, z, at, tensor);
    FPL_BY_KIND(t.quick.kind, run_chunks, &t, lanes, count, x + z * count, fpl_further(out, z * count));
    fpl_count_nonfinite(nonfinite, heads == 1 ? z : z / heads, t.bad);
}

/* ---- held -------------------------------------------------------------------------------------------------
 */

/* A group's place: its corner, its shape in quads a line, the end of the matrix. */
struct held_group {
    int64_t z, line, column;
    int height, quads;
};

template <int KIND, typename Out>
__device__ static inline void hold(struct fpl_quantizing *t, const struct held_group *g,
                                   const struct fpl_cuda_view *v, unsigned *part, const float *x, Out out) {
    float value[QUADS][4];
    uint32_t most[QUADS], amax = 0;
    int64_t offset[QUADS]; /* -1: none */
    FPL_UNROLL
    for (int j = 0; j < QUADS; j++) {
        const int e = (int)threadIdx.x + j * (int)blockDim.x, i = e / g->quads, k = e % g->quads * 4;
        const int inside = i < g->height && g->line + i < v->rows && g->column + k < v->cols;
        value[j][0] = value[j][1] = value[j][2] = value[j][3] = 0.0f;
        offset[j] = inside ? (g->line + i) * v->row_stride + g->column + k : -1;
        if (inside) fpl_load_four(x + offset[j], value[j]);
    }
    FPL_UNROLL
    for (int j = 0; j < QUADS; j++) amax = fpl_larger(amax, fpl_quad_amax(value[j], &most[j]));
    amax = blockDim.x == FPL_WARP ? fpl_warp_max(amax) : fpl_block_max(amax, part);
    const struct fpl_quick_scale s = fpl_scale_of_group(t, fpl_bits_float(amax));
    unsigned left = 0; /* quads for the long way */
    FPL_UNROLL
    for (int j = 0; j < QUADS; j++) {
        if (offset[j] < 0) continue;
        const uint2 words = KIND != FPL_QUICK_NEAREST && t->quick.random_bits != 0
                                ? fpl_quad_words(t, (uint64_t)offset[j])
                                : make_uint2(0, 0);
        if (!fpl_quad_quick<KIND>(t, &s, value[j], most[j], offset[j], words, out)) left |= 1u << j;
    }
    FPL_ROLLED
    for (int j = 0; left >> j != 0; j++) {
        const int e = (int)threadIdx.x + j * (int)blockDim.x;
        if (left >> j & 1u)
            fpl_quad_long(t, &s, x, (g->line + e / g->quads) * v->row_stride + g->column + e % g->quads * 4,
                          out);
    }
}

/* Lines of `width` elements, `height` of them; a thread's quads are threadIdx.x, + blockDim.x, ... in memory
 * order. */
template <typename Out>
__global__ void quantize_held(int height, int width, int64_t across, struct fpl_cuda_view v,
                              const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                              const unsigned *tensor, const float *x, Out out, int64_t *nonfinite) {
    FPL_SHARED(unsigned, part, FPL_WARP);
    const struct held_group g = {blockIdx.y, blockIdx.x / across * height, blockIdx.x % across * width,
                                 height, width / 4};
    struct fpl_quantizing t = fpl_quantizing_of(operands, v.heads, v.rows * v.cols, g.z, at, tensor);
    FPL_BY_KIND(t.quick.kind, hold, &t, &g, &v, part, x + g.z * v.replica, fpl_further(out, g.z * v.replica));
    fpl_count_nonfinite(nonfinite, v.heads == 1 ? g.z : g.z / v.heads, t.bad);
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
static void launch(const struct fpl_cuda_job *j, int64_t height, int64_t width, Out out) {
    if (is_run(j, height, width)) {
        /* A warp goes on for some chunks, so that what it knows of its operand is read once. */
        const int64_t count = j->view.rows * j->view.cols;
        const unsigned blocks = fpl_cuda_blocks(count, RUN_THREADS / FPL_WARP * CHUNK),
                       fewer = blocks >= 4096 ? (blocks + 3) / 4 : blocks;
        FPL_LAUNCH(quantize_runs<Out>, dim3(fewer, (unsigned)j->matrices), dim3(RUN_THREADS), 0, j->dev,
                   (int)(width / 4), count, j->view.heads, j->operands, j->at, j->tensor, j->x, out,
                   j->nonfinite);
        return;
    }
    const int64_t across = (j->view.cols + width - 1) / width, down = (j->view.rows + height - 1) / height;
    const unsigned warps = fpl_cuda_blocks(height * width, QUADS * 4 * FPL_WARP);
    FPL_LAUNCH(quantize_held<Out>, dim3((unsigned)(across * down), (unsigned)j->matrices),
               dim3(warps * FPL_WARP), 0, j->dev, (int)height, (int)width, across, j->view, j->operands,
               j->at, j->tensor, j->x, out, j->nonfinite);
}

void fpl_cuda_quantize_held(const struct fpl_cuda_job *j, int64_t height, int64_t width) {
    if (fpl_cuda_carrier_bytes(j->carrier) == 2)
        launch(j, height, width, fpl_narrow_out(j->out, j->carrier));
    else
        launch(j, height, width, (float *)j->out);
}
