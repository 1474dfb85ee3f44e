/* quantize.cu - quantizing operands: one read and one write for blocks, two reads for whole tensors.
 *
 * The bits are those of fpl_quantize_reference: the scale rules and the rounder are formats/scale.h and
 * formats/round.h themselves, maxima do not depend on order, and random bits are a function of
 * the element's index.  Work is shared out by the shape of the groups:
 *
 *   runs      1xB blocks along the contiguous axis, B = 16, 32, 64, 128: B/4 lanes per group, four
 *             elements in each lane's registers
 *   columns   groups one element wide across the contiguous axis (1xB, row, of a transposed
 *             view): a thread takes a group, neighbours take neighbouring groups, so reads of a
 *             warp are whole lines; up to 32 elements stay in registers
 *   tiles     any other group: a block of threads per group, two passes, the second out of cache
 *   elements  no scale, one per tensor, or a delayed one: every element on its own
 */
#include "element.h"
#include "operations.h"
#include "reduce.h"

#include <stdlib.h>

static const int THREADS = 256, KEPT = 32;

/* ---- amax of whole tensors --------------------------------------------------------------------------- */

/* bits[r] becomes the largest finite magnitude's bits: positive floats order as integers do. */
__global__ void tensor_amax(int64_t count, const float *x, unsigned *bits) {
    float most = 0.0f;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * blockDim.x) {
        const float v = fpl_finite_magnitude(x[(int64_t)blockIdx.y * count + i]);
        most = v > most ? v : most;
    }
    most = fpl_warp_max(most);
    if (threadIdx.x % FPL_WARP == 0 && most > 0.0f) atomicMax(&bits[blockIdx.y], __float_as_uint(most));
}

/* ---- the four ways --------------------------------------------------------------------------------------
 */

template <typename Out>
__global__ void quantize_runs(int lanes, struct fpl_cuda_view v, const struct fpl_cuda_operand *operands,
                              struct fpl_cuda_at at, const unsigned *tensor, const float *x, Out *out,
                              int64_t *nonfinite) {
    const int64_t z = blockIdx.z, row = (int64_t)blockIdx.y * blockDim.y + threadIdx.y;
    const int64_t r = fpl_replica_of(v.heads, v.rows * v.cols, z, &at);
    const int64_t col = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 4;
    const struct fpl_cuda_operand *q = operands + r;
    const struct fpl_quantizer_plan p = fpl_plan_now(q);
    const int inside = row < v.rows && col < v.cols;
    float value[4] = {0, 0, 0, 0}, amax = 0.0f;
    const int64_t index = row * v.row_stride + col, base = z * v.replica + index;
    if (inside) {
        const float4 four = *reinterpret_cast<const float4 *>(x + base);
        value[0] = four.x, value[1] = four.y, value[2] = four.z, value[3] = four.w;
    }
    for (int k = 0; k < 4; k++) {
        const float m = fpl_finite_magnitude(value[k]);
        amax = m > amax ? m : amax;
    }
    for (int by = lanes / 2; by > 0; by /= 2) {
        const float other = __shfl_xor_sync(FPL_ALL_LANES, amax, by);
        amax = other > amax ? other : amax;
    }
    const float s_enc = fpl_tensor_scale(&p, tensor != NULL ? __uint_as_float(tensor[z]) : 0.0f);
    const struct fpl_group_scale g = fpl_group_scale(&p, amax, s_enc);
    const int fast = fpl_round_is_fast(&p.round);
    int bad = 0;
    if (inside)
        for (int k = 0; k < 4; k++) {
            bad += !fpl_is_finite(value[k]);
            fpl_store(out, base + k,
                      fpl_element_quantized(&p, &g, fast, value[k], fpl_element_random(q, &at, index + k)));
        }
    fpl_count_nonfinite(nonfinite, r, bad);
}

/* Group j of line i of groups: elements (i, j B .. j B + B - 1) of the view, B = group; a thread each. */
template <typename Out>
__global__ void quantize_columns(int64_t group, struct fpl_cuda_view v,
                                 const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                                 const unsigned *tensor, const float *x, Out *out, int64_t *nonfinite) {
    const int64_t z = blockIdx.z, row = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t r = fpl_replica_of(v.heads, v.rows * v.cols, z, &at);
    const int64_t first = (int64_t)blockIdx.y * group, end = first + group < v.cols ? first + group : v.cols;
    const struct fpl_cuda_operand *q = operands + r;
    const struct fpl_quantizer_plan p = fpl_plan_now(q);
    const int fast = fpl_round_is_fast(&p.round), inside = row < v.rows;
    const float *from = x + z * v.replica + row * v.row_stride;
    Out *to = out + z * v.replica + row * v.row_stride;
    float kept[KEPT], amax = 0.0f;
    int bad = 0;
    if (inside && end - first <= KEPT) {
        for (int k = 0; k < KEPT; k++) kept[k] = first + k < end ? from[(first + k) * v.col_stride] : 0.0f;
        for (int k = 0; k < KEPT; k++)
            amax = fpl_finite_magnitude(kept[k]) > amax ? fpl_finite_magnitude(kept[k]) : amax;
    } else if (inside) {
        for (int64_t j = first; j < end; j++) {
            const float m = fpl_finite_magnitude(from[j * v.col_stride]);
            amax = m > amax ? m : amax;
        }
    }
    const float s_enc = fpl_tensor_scale(&p, tensor != NULL ? __uint_as_float(tensor[z]) : 0.0f);
    const struct fpl_group_scale g = fpl_group_scale(&p, amax, s_enc);
    if (inside && end - first <= KEPT) {
        for (int k = 0; k < KEPT; k++) {
            if (first + k >= end) continue;
            const int64_t offset = (first + k) * v.col_stride;
            bad += !fpl_is_finite(kept[k]);
            fpl_store(to, offset,
                      fpl_element_quantized(&p, &g, fast, kept[k],
                                            fpl_element_random(q, &at, row * v.row_stride + offset)));
        }
    } else if (inside) {
        for (int64_t j = first; j < end; j++) {
            const float value = from[j * v.col_stride];
            bad += !fpl_is_finite(value);
            fpl_store(
                to, j * v.col_stride,
                fpl_element_quantized(&p, &g, fast, value,
                                      fpl_element_random(q, &at, row * v.row_stride + j * v.col_stride)));
        }
    }
    fpl_count_nonfinite(nonfinite, r, bad);
}

/* Elements of a group in memory order: e-th of a group of height x width. */
__device__ static inline int64_t group_offset(const struct fpl_cuda_view *v, int64_t e, int64_t height,
                                              int64_t width) {
    const int64_t i = v->col_stride == 1 ? e / width : e % height;
    const int64_t j = v->col_stride == 1 ? e % width : e / height;
    return i * v->row_stride + j * v->col_stride;
}

template <typename Out>
__global__ void quantize_tiles(int64_t group_rows, int64_t group_cols, int64_t across, struct fpl_cuda_view v,
                               const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                               const unsigned *tensor, const float *x, Out *out, int64_t *nonfinite) {
    FPL_SHARED(float, part, THREADS / FPL_WARP);
    const int64_t z = blockIdx.y, i0 = blockIdx.x / across * group_rows,
                  j0 = blockIdx.x % across * group_cols;
    const int64_t r = fpl_replica_of(v.heads, v.rows * v.cols, z, &at);
    const int64_t height = i0 + group_rows < v.rows ? group_rows : v.rows - i0;
    const int64_t width = j0 + group_cols < v.cols ? group_cols : v.cols - j0;
    const int64_t corner = i0 * v.row_stride + j0 * v.col_stride;
    const struct fpl_cuda_operand *q = operands + r;
    const struct fpl_quantizer_plan p = fpl_plan_now(q);
    const int fast = fpl_round_is_fast(&p.round);
    const float *from = x + z * v.replica + corner;
    Out *to = out + z * v.replica + corner;
    float amax = 0.0f;
    for (int64_t e = threadIdx.x; e < height * width; e += blockDim.x) {
        const float m = fpl_finite_magnitude(from[group_offset(&v, e, height, width)]);
        amax = m > amax ? m : amax;
    }
    amax = fpl_block_max(amax, part);
    const float s_enc = fpl_tensor_scale(&p, tensor != NULL ? __uint_as_float(tensor[z]) : 0.0f);
    const struct fpl_group_scale g = fpl_group_scale(&p, amax, s_enc);
    int bad = 0;
    for (int64_t e = threadIdx.x; e < height * width; e += blockDim.x) {
        const int64_t offset = group_offset(&v, e, height, width);
        const float value = from[offset];
        bad += !fpl_is_finite(value);
        fpl_store(to, offset,
                  fpl_element_quantized(&p, &g, fast, value, fpl_element_random(q, &at, corner + offset)));
    }
    fpl_count_nonfinite(nonfinite, r, bad);
}

template <typename Out>
__global__ void quantize_elements(int64_t count, int64_t replica, int64_t heads,
                                  const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                                  const unsigned *tensor, const float *x, Out *out, int64_t *nonfinite) {
    const int64_t z = blockIdx.y, r = fpl_replica_of(heads, count, z, &at);
    const struct fpl_cuda_operand *q = operands + r;
    const struct fpl_quantizer_plan p = fpl_plan_now(q);
    const struct fpl_group_scale g =
        fpl_group_scale(&p, tensor != NULL ? __uint_as_float(tensor[z]) : 0.0f, 1.0f);
    const int fast = fpl_round_is_fast(&p.round);
    int bad = 0;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * blockDim.x) {
        const float value = x[z * replica + i];
        if (p.identity) {
            fpl_store(out, z * replica + i, fpl_round_value(&p.post, value, 0));
            continue;
        }
        bad += !fpl_is_finite(value);
        fpl_store(out, z * replica + i,
                  fpl_element_quantized(&p, &g, fast, value, fpl_element_random(q, &at, i)));
    }
    fpl_count_nonfinite(nonfinite, r, bad);
}

/* ---- choosing the way
 * -------------------------------------------------------------------------------------- */

/* What replicas must share to be served by one launch. */
static int same_way(const struct fpl_operand *a, const struct fpl_operand *b) {
    return a->plan.identity == b->plan.identity && a->plan.granularity == b->plan.granularity &&
           a->plan.block_rows == b->plan.block_rows && a->plan.block_cols == b->plan.block_cols &&
           a->plan.two_level == b->plan.two_level && a->plan.history == b->plan.history &&
           a->observe == b->observe && a->plan.round.codebook == b->plan.round.codebook &&
           fpl_cuda_is_rare(&a->plan) == fpl_cuda_is_rare(&b->plan) && a->at.step == b->at.step &&
           a->at.stream == b->at.stream && a->at.element == b->at.element;
}

const struct fpl_cuda_operand *fpl_cuda_operands(struct fpl_device *dev, int R, const struct fpl_operand *q) {
    if (fpl_cuda_failed(dev)) return NULL;
    struct fpl_cuda_operand *o = (struct fpl_cuda_operand *)calloc((size_t)R, sizeof *o);
    if (o == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    for (int r = 0; r < R; r++) {
        o[r].plan = q[r].plan;
        o[r].seed = q[r].at.seed;
        o[r].delay = q[r].delay;
        if (q[r].plan.round.codebook != 0)
            o[r].plan.round.values = (const float *)fpl_cuda_parameter(
                dev, q[r].plan.round.values, (size_t)q[r].plan.round.count * sizeof(float));
    }
    const void *device = fpl_cuda_parameter(dev, o, (size_t)R * sizeof *o);
    free(o);
    return (const struct fpl_cuda_operand *)device;
}

/* One launch's worth: replicas that go the same way. */
struct job {
    struct fpl_device *dev;
    int R;
    int64_t matrices; /* R times heads */
    const struct fpl_operand *q;
    struct fpl_cuda_view view;
    const struct fpl_cuda_operand *operands;
    struct fpl_cuda_at at;
    const unsigned *tensor; /* amax bits, NULL: not asked for */
    const float *x;
    int64_t *nonfinite;
};

static int64_t count_of(const struct job *j) { return j->view.rows * j->view.cols; }

void fpl_cuda_amax(struct fpl_device *dev, int64_t matrices, int64_t count, const float *x, unsigned *bits) {
    const unsigned blocks = fpl_cuda_blocks(count, THREADS * 16);
    FPL_LAUNCH(tensor_amax, dim3(blocks < 1024 ? blocks : 1024, (unsigned)matrices), dim3(THREADS), 0,
               dev->stream, count, x, bits);
    fpl_cuda_launched(dev, "tensor_amax");
}

void fpl_cuda_observe_values(struct fpl_device *dev, const struct fpl_cuda_view *view,
                             const struct fpl_operand *q, const float *x) {
    unsigned *bits = (unsigned *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_SUMS, sizeof *bits);
    if (bits == NULL) return;
    fpl_cuda_zero(dev, bits, sizeof *bits);
    fpl_cuda_amax(dev, 1, view->rows * view->cols, x, bits);
    fpl_cuda_observe(dev, 1, 1, q, bits);
}

static const unsigned *amax_of(struct job *j) {
    const size_t bytes = (size_t)j->matrices * sizeof(unsigned);
    unsigned *bits = (unsigned *)fpl_cuda_scratch(j->dev, FPL_CUDA_SCRATCH_SUMS, bytes);
    if (bits == NULL) return NULL;
    fpl_cuda_zero(j->dev, bits, bytes);
    fpl_cuda_amax(j->dev, j->matrices, count_of(j), j->x, bits);
    return bits;
}

template <typename Out> static void launch_elements(const struct job *j, Out *out) {
    const unsigned blocks = fpl_cuda_blocks(count_of(j), THREADS * 8);
    FPL_LAUNCH(quantize_elements<Out>, dim3(blocks, (unsigned)j->matrices), dim3(THREADS), 0, j->dev->stream,
               count_of(j), j->view.replica, j->view.heads, j->operands, j->at, j->tensor, j->x, out,
               j->nonfinite);
    fpl_cuda_launched(j->dev, "quantize_elements");
}

template <typename Out> static void launch_runs(const struct job *j, int64_t group, Out *out) {
    const int64_t quads = (j->view.cols + 3) / 4;
    const unsigned wide = quads >= 128 ? 128 : 32;
    const dim3 block(wide, THREADS / wide);
    FPL_LAUNCH(
        quantize_runs<Out>,
        dim3(fpl_cuda_blocks(quads, wide), fpl_cuda_blocks(j->view.rows, block.y), (unsigned)j->matrices),
        block, 0, j->dev->stream, (int)(group / 4), j->view, j->operands, j->at, j->tensor, j->x, out,
        j->nonfinite);
    fpl_cuda_launched(j->dev, "quantize_runs");
}

template <typename Out> static void launch_columns(const struct job *j, int64_t group, Out *out) {
    const unsigned threads = 128;
    FPL_LAUNCH(quantize_columns<Out>,
               dim3(fpl_cuda_blocks(j->view.rows, threads), fpl_cuda_blocks(j->view.cols, group),
                    (unsigned)j->matrices),
               dim3(threads), 0, j->dev->stream, group, j->view, j->operands, j->at, j->tensor, j->x, out,
               j->nonfinite);
    fpl_cuda_launched(j->dev, "quantize_columns");
}

template <typename Out>
static void launch_tiles(const struct job *j, int64_t group_rows, int64_t group_cols, Out *out) {
    const int64_t across = (j->view.cols + group_cols - 1) / group_cols,
                  down = (j->view.rows + group_rows - 1) / group_rows;
    const int64_t elements = group_rows * group_cols;
    const unsigned threads = elements >= 2048 ? 256 : elements >= 512 ? 128 : elements >= 128 ? 64 : 32;
    FPL_LAUNCH(quantize_tiles<Out>, dim3((unsigned)(across * down), (unsigned)j->matrices), dim3(threads), 0,
               j->dev->stream, group_rows, group_cols, across, j->view, j->operands, j->at, j->tensor, j->x,
               out, j->nonfinite);
    fpl_cuda_launched(j->dev, "quantize_tiles");
}

/* Runs need whole groups of four in every line, where a load of four may start, and groups that a warp
 * holds. */
static int can_run(const struct fpl_cuda_view *v, const float *x, int64_t group_rows, int64_t group_cols) {
    const int size = group_cols == 16 || group_cols == 32 || group_cols == 64 || group_cols == 128;
    return v->col_stride == 1 && group_rows == 1 && size && v->cols % 4 == 0 && v->row_stride % 4 == 0 &&
           v->replica % 4 == 0 && (uintptr_t)x % sizeof(float4) == 0;
}

template <typename Out> static void quantize_job(struct job *j, Out *out) {
    const struct fpl_quantizer_plan *p = &j->q[0].plan;
    const int delayed = p->history > 0 && j->q[0].delay != NULL;
    int64_t group_rows, group_cols;
    if (p->granularity == FPL_TENSOR || (p->two_level && p->granularity != FPL_UNSCALED))
        j->tensor = amax_of(j);
    if (delayed && j->q[0].observe) fpl_cuda_observe(j->dev, j->R, (int)j->view.heads, j->q, j->tensor);
    if (p->identity || p->granularity == FPL_UNSCALED || (p->granularity == FPL_TENSOR && !p->two_level)) {
        launch_elements(j, out);
        return;
    }
    fpl_quantizer_group_shape(p, j->view.rows, j->view.cols, &group_rows, &group_cols);
    if (can_run(&j->view, j->x, group_rows, group_cols))
        launch_runs(j, group_cols, out);
    else if (j->view.col_stride != 1 && group_rows == 1)
        launch_columns(j, group_cols, out);
    else
        launch_tiles(j, group_rows, group_cols, out);
}

void fpl_cuda_quantize_view(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                            const struct fpl_operand *q, const float *x, void *out,
                            enum fpl_cuda_carrier carrier, int64_t *nonfinite) {
    const int64_t most = 65535 / view->heads; /* replicas that one grid holds */
    if (view->rows == 0 || view->cols == 0) return;
    for (int first = 0, end; first < R && !fpl_cuda_failed(dev); first = end) {
        for (end = first + 1; end < R && same_way(&q[first], &q[end]) && (end - first) < most;) end++;
        struct job j;
        memset(&j, 0, sizeof j);
        j.dev = dev;
        j.R = end - first;
        j.matrices = j.R * view->heads;
        j.q = q + first;
        j.view = *view;
        j.at.step = q[first].at.step;
        j.at.stream = q[first].at.stream;
        j.at.element = q[first].at.element;
        j.x = x + first * view->heads * view->replica;
        j.nonfinite = nonfinite != NULL ? nonfinite + first : NULL;
        j.operands = fpl_cuda_operands(dev, j.R, j.q);
        if (j.operands == NULL) return;
        void *to =
            (char *)out + (size_t)(first * view->heads * view->replica) * fpl_cuda_carrier_bytes(carrier);
        if (fpl_cuda_is_rare(&j.q[0].plan))
            fpl_cuda_quantize_rare(dev, j.R, view, j.q, j.x, to, carrier, j.nonfinite);
        else if (carrier == FPL_CARRIER_BF16)
            quantize_job(&j, (struct fpl_bf16 *)to);
        else if (carrier == FPL_CARRIER_FP16)
            quantize_job(&j, (struct fpl_fp16 *)to);
        else
            quantize_job(&j, (float *)to);
    }
}

void fpl_cuda_quantize(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                       const float *x, float *out, int64_t *nonfinite) {
    const struct fpl_cuda_view view = {rows, cols, cols, 1, rows * cols, 1};
    if (fpl_cuda_failed(dev) || rows == 0 || cols == 0) return;
    fpl_cuda_quantize_view(dev, R, &view, q, x, out, FPL_CARRIER_FP32, nonfinite);
}
