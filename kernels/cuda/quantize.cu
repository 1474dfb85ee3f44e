/* quantize.cu - quantizing operands: which kernel takes which.
 *
 * The bits are those of fpl_quantize_reference: the scale rules and the rounder are formats/scale.h and
 * formats/round.h themselves, or round_quick.h, which gives the same; maxima do not depend on order, and
 * random bits are a function of the element's index.
 *
 * A group is a rectangle of memory, whatever axis is reduced: a view whose reduction axis runs over lines is
 * turned round first.  Then
 *   flat     no scale, one per tensor, or a delayed one                       quantize_flat.cu
 *   runs     1x16, 1x32, 1x64, 1x128 along lines of memory                    quantize_runs.cu
 *   held     rectangles of at most 16384 elements with lines of whole quads   quantize_runs.cu
 *   down     one element wide, any height                                     quantize_down.cu
 *   tiles    everything else: a block of threads per group, two reads         here
 */
#include "carried.h"
#include "operations.h"
#include "quantize.h"

#include <stdlib.h>

enum { THREADS = 256 };

/* ---- any rectangle ----------------------------------------------------------------------------------------
 */

template <typename Out>
__global__ void quantize_tiles(int64_t height, int64_t width, int64_t across, struct fpl_cuda_view v,
                               const struct fpl_cuda_operand *operands, struct fpl_cuda_at at,
                               const unsigned *tensor, const float *x, Out out, int64_t *nonfinite) {
    FPL_SHARED(uint32_t, part, THREADS / FPL_WARP);
    const int64_t z = blockIdx.y, i0 = blockIdx.x / across * height, j0 = blockIdx.x % across * width;
    const int64_t lines = i0 + height < v.rows ? height : v.rows - i0;
    const int64_t wide = j0 + width < v.cols ? width : v.cols - j0;
    const int64_t corner = i0 * v.row_stride + j0;
    struct fpl_quantizing t = fpl_quantizing_of(operands, v.heads, v.rows * v.cols, z, at, tensor);
    const float *from = x + z * v.replica + corner;
    Out to = fpl_further(out, z * v.replica);
    uint32_t amax = 0;
    for (int64_t e = threadIdx.x; e < lines * wide; e += blockDim.x)
        amax =
            fpl_larger(amax, fpl_float_bits(fpl_finite_magnitude(from[e / wide * v.row_stride + e % wide])));
    amax = fpl_block_max(amax, part);
    const struct fpl_quick_scale s = fpl_scale_of_group(&t, fpl_bits_float(amax));
    const struct fpl_group_scale g = fpl_quick_full(&t.quick, &s);
    for (int64_t e = threadIdx.x; e < lines * wide; e += blockDim.x) {
        const int64_t offset = e / wide * v.row_stride + e % wide;
        t.bad += !fpl_is_finite(from[offset]);
        fpl_store(to, corner + offset,
                  fpl_element_long(t.operand, t.fast, g, from[offset],
                                   fpl_element_random(t.operand, &t.at, corner + offset)));
    }
    fpl_count_nonfinite(nonfinite, z / v.heads, t.bad);
}

template <typename Out>
static void launch_tiles(const struct fpl_cuda_job *j, int64_t height, int64_t width, Out out) {
    const int64_t across = (j->view.cols + width - 1) / width, down = (j->view.rows + height - 1) / height;
    const int64_t elements = height * width;
    const unsigned threads = elements >= 2048 ? 256 : elements >= 512 ? 128 : elements >= 128 ? 64 : 32;
    FPL_LAUNCH(quantize_tiles<Out>, dim3((unsigned)(across * down), (unsigned)j->matrices), dim3(threads), 0,
               j->dev, height, width, across, j->view, j->operands, j->at, j->tensor, j->x, out,
               j->nonfinite);
}

static void quantize_any(const struct fpl_cuda_job *j, int64_t height, int64_t width) {
    if (fpl_cuda_carrier_bytes(j->carrier) == 2)
        launch_tiles(j, height, width, fpl_narrow_out(j->out, j->carrier));
    else
        launch_tiles(j, height, width, (float *)j->out);
}

/* ---- choosing the way
 * --------------------------------------------------------------------------------------- */

/* What replicas must share to be served by one launch. */
static int same_way(const struct fpl_operand *a, const struct fpl_operand *b) {
    return a->plan.identity == b->plan.identity && a->plan.granularity == b->plan.granularity &&
           a->plan.block_rows == b->plan.block_rows && a->plan.block_cols == b->plan.block_cols &&
           a->plan.two_level == b->plan.two_level && a->plan.history == b->plan.history &&
           a->observe == b->observe && a->plan.round.codebook == b->plan.round.codebook &&
           fpl_cuda_is_rare(&a->plan) == fpl_cuda_is_rare(&b->plan) && a->at.step == b->at.step &&
           a->at.stream == b->at.stream && a->at.element == b->at.element;
}

static const struct fpl_cuda_operand *carried_operands(struct fpl_device *dev, int R,
                                                       const struct fpl_operand *q,
                                                       const struct fpl_cuda_carriage *carriage) {
    if (fpl_cuda_failed(dev)) return NULL;
    struct fpl_cuda_operand *o = (struct fpl_cuda_operand *)calloc((size_t)R, sizeof *o);
    if (o == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return NULL;
    }
    for (int r = 0; r < R; r++) {
        o[r].plan = q[r].plan;
        if (q[r].delay != NULL) o[r].plan.delayed_amax = 0.0f; /* it comes from the state */
        o[r].quick = fpl_quick_of(&q[r].plan);
        if (carriage != NULL) o[r].carriage = carriage[r];
        o[r].quick.raw = o[r].carriage.raw;
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

struct fpl_cuda_at fpl_cuda_at_of(int R, const struct fpl_operand *q) {
    const struct fpl_cuda_at none = {0, 0, 0}, at = {q[0].at.step, q[0].at.stream, q[0].at.element};
    int draws = 0;
    for (int r = 0; r < R; r++) draws |= fpl_is_stochastic(q[r].plan.round.mode);
    return draws ? at : none;
}

const struct fpl_cuda_operand *fpl_cuda_operands(struct fpl_device *dev, int R, const struct fpl_operand *q) {
    return carried_operands(dev, R, q, NULL);
}

void fpl_cuda_observe_values(struct fpl_device *dev, const struct fpl_cuda_view *view,
                             const struct fpl_operand *q, const float *x) {
    unsigned *bits = (unsigned *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_SUMS, sizeof *bits);
    if (bits == NULL) return;
    fpl_cuda_zero(dev, bits, sizeof *bits);
    fpl_cuda_amax(dev, 1, view->rows * view->cols, x, bits);
    fpl_cuda_observe(dev, 1, 1, q, bits);
}

static const unsigned *amax_of(const struct fpl_cuda_job *j) {
    const size_t bytes = (size_t)j->matrices * sizeof(unsigned);
    unsigned *amax = (unsigned *)fpl_cuda_scratch(j->dev, FPL_CUDA_SCRATCH_SUMS, bytes);
    if (amax == NULL) return NULL;
    fpl_cuda_zero(j->dev, amax, bytes);
    fpl_cuda_amax(j->dev, j->matrices, j->view.rows * j->view.cols, j->x, amax);
    return amax;
}

static int needs_tensor(const struct fpl_cuda_job *j) {
    const struct fpl_quantizer_plan *p = &j->q[0].plan;
    return p->granularity == FPL_TENSOR || (p->two_level && p->granularity != FPL_UNSCALED);
}

static void observe(const struct fpl_cuda_job *j) {
    const struct fpl_operand *q = &j->q[0];
    if (q->plan.history > 0 && q->delay != NULL && q->observe)
        fpl_cuda_observe(j->dev, j->R, (int)j->view.heads, j->q, j->tensor);
}

void fpl_cuda_group_of(const struct fpl_cuda_job *j, int64_t *rows, int64_t *cols) {
    const struct fpl_quantizer_plan *p = &j->q[0].plan;
    *rows = 1;
    *cols = 0;
    if (p->identity || p->granularity == FPL_UNSCALED || (p->granularity == FPL_TENSOR && !p->two_level))
        return;
    fpl_quantizer_group_shape(p, j->view.rows, j->view.cols, rows, cols);
}

/* The replicas first .. end - 1 of a call; turned: the reduction axis runs over lines of memory.  0 keeps an
 * error. */
static int job_of(struct fpl_device *dev, int first, int end, const struct fpl_cuda_view *view,
                  const struct fpl_operand *q, const float *x, void *out, enum fpl_cuda_carrier carrier,
                  const struct fpl_cuda_carriage *carriage, int64_t *nonfinite, struct fpl_cuda_job *j) {
    const int64_t before = first * view->heads * view->replica;
    memset(j, 0, sizeof *j);
    j->dev = dev;
    j->R = end - first;
    j->matrices = j->R * view->heads;
    j->q = q + first;
    j->view = *view;
    j->at = fpl_cuda_at_of(j->R, j->q);
    j->x = x + before;
    j->out = (char *)out + (size_t)before * fpl_cuda_carrier_bytes(carrier);
    j->carrier = carrier;
    j->nonfinite = nonfinite != NULL ? nonfinite + first : NULL;
    if (carriage != NULL) carriage += first;
    j->factor = carriage != NULL ? carriage->factor : NULL;
    j->operands = carried_operands(dev, j->R, j->q, carriage);
    return j->operands != NULL;
}

/* A group of rows x cols of the view, as a rectangle of memory. */
static void quantize_groups(struct fpl_cuda_job *j, int64_t rows, int64_t cols, int transposed) {
    const int along = j->view.col_stride != 1;
    const int64_t height = along ? cols : rows, width = along ? rows : cols;
    if (along) {
        const struct fpl_cuda_view turned = {j->view.cols,    j->view.rows, j->view.col_stride, 1,
                                             j->view.replica, j->view.heads};
        j->view = turned;
    }
    if (transposed || width == 1)
        fpl_cuda_quantize_down(j, height, transposed);
    else if (fpl_cuda_can_hold(j, height, width))
        fpl_cuda_quantize_held(j, height, width);
    else
        quantize_any(j, height, width);
}

static void quantize_job(struct fpl_cuda_job *j, int transposed) {
    int64_t rows, cols;
    if (needs_tensor(j)) j->tensor = amax_of(j);
    observe(j);
    if (j->factor != NULL && j->tensor != NULL)
        fpl_cuda_tensor_factors(j->dev, j->R, j->operands, j->tensor, j->factor);
    else if (j->factor != NULL)
        fpl_cuda_row_factors(j->dev, j->R, &j->view, j->q, j->x, j->factor);
    fpl_cuda_group_of(j, &rows, &cols);
    if (fpl_cuda_failed(j->dev)) return;
    if (cols == 0 && !transposed)
        fpl_cuda_quantize_flat(j);
    else
        quantize_groups(j, rows, cols, transposed);
}

/* The end of the replicas from `first` on that one launch can take. */
static int run_end(const struct fpl_cuda_view *view, const struct fpl_operand *q, int first, int R) {
    const int64_t most = 65535 / view->heads; /* replicas that one grid holds */
    int end = first + 1;
    while (end < R && same_way(&q[first], &q[end]) && end - first < most) end++;
    return end;
}

void fpl_cuda_quantize_view(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                            const struct fpl_operand *q, const float *x, void *out,
                            enum fpl_cuda_carrier carrier, int64_t *nonfinite) {
    fpl_cuda_quantize_carried(dev, R, view, q, x, out, carrier, NULL, nonfinite);
}

void fpl_cuda_quantize_carried(struct fpl_device *dev, int R, const struct fpl_cuda_view *view,
                               const struct fpl_operand *q, const float *x, void *out,
                               enum fpl_cuda_carrier carrier, const struct fpl_cuda_carriage *carriage,
                               int64_t *nonfinite) {
    struct fpl_cuda_job j;
    if (view->rows == 0 || view->cols == 0) return;
    for (int first = 0, end; first < R && !fpl_cuda_failed(dev); first = end) {
        end = run_end(view, q, first, R);
        if (!job_of(dev, first, end, view, q, x, out, carrier, carriage, nonfinite, &j)) return;
        if (fpl_cuda_is_rare(&j.q[0].plan))
            fpl_cuda_quantize_rare(dev, j.R, view, j.q, j.x, j.out, carrier, j.nonfinite);
        else
            quantize_job(&j, 0);
    }
}

void fpl_cuda_quantize(struct fpl_device *dev, int R, int64_t rows, int64_t cols, const struct fpl_operand *q,
                       const float *x, float *out, int64_t *nonfinite) {
    const struct fpl_cuda_view view = {rows, cols, cols, 1, rows * cols, 1};
    if (fpl_cuda_failed(dev) || rows == 0 || cols == 0) return;
    fpl_cuda_quantize_view(dev, R, &view, q, x, out, FPL_CARRIER_FP32, nonfinite);
}

/* ---- transposed, and pairs -------------------------------------------------------------------------------
 */

enum { SIDE = 32 };

__global__ void transpose(int64_t lines, int64_t width, const float *x, float *out) {
    FPL_SHARED(float, tile, SIDE *(SIDE + 1));
    const int64_t i0 = (int64_t)blockIdx.y * SIDE, j0 = (int64_t)blockIdx.x * SIDE,
                  base = blockIdx.z * lines * width;
    for (int i = (int)threadIdx.y; i < SIDE; i += 8)
        if (i0 + i < lines && j0 + threadIdx.x < width)
            tile[i * (SIDE + 1) + (int)threadIdx.x] = x[base + (i0 + i) * width + j0 + threadIdx.x];
    __syncthreads();
    for (int j = (int)threadIdx.y; j < SIDE; j += 8)
        if (j0 + j < width && i0 + threadIdx.x < lines)
            out[base + (j0 + j) * lines + i0 + threadIdx.x] = tile[(int)threadIdx.x * (SIDE + 1) + j];
}

/* Groups wider than a column of memory, and rare plans: quantized where they lie, then turned. */
static void quantize_and_turn(const struct fpl_cuda_job *j) {
    const int64_t lines = j->view.cols, width = j->view.rows;
    float *room = (float *)fpl_cuda_scratch(j->dev, FPL_CUDA_SCRATCH_OUT,
                                            (size_t)(j->R * lines * width) * sizeof(float));
    if (room == NULL) return;
    fpl_cuda_quantize_view(j->dev, j->R, &j->view, j->q, j->x, room, FPL_CARRIER_FP32, j->nonfinite);
    FPL_LAUNCH(transpose, dim3(fpl_cuda_blocks(width, SIDE), fpl_cuda_blocks(lines, SIDE), (unsigned)j->R),
               dim3(SIDE, 8), 0, j->dev, lines, width, room, (float *)j->out);
}

static int turns_at_once(const struct fpl_cuda_job *j) {
    int64_t rows, cols;
    if (fpl_cuda_is_rare(&j->q[0].plan)) return 0;
    fpl_cuda_group_of(j, &rows, &cols);
    return rows == 1;
}

void fpl_cuda_quantize_transposed(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                                  const struct fpl_operand *q, const float *x, float *out,
                                  int64_t *nonfinite) {
    const struct fpl_cuda_view view = {cols, rows, 1, cols, rows * cols, 1};
    struct fpl_cuda_job j;
    if (rows == 0 || cols == 0) return;
    for (int first = 0, end; first < R && !fpl_cuda_failed(dev); first = end) {
        end = run_end(&view, q, first, R);
        if (!job_of(dev, first, end, &view, q, x, out, FPL_CARRIER_FP32, NULL, nonfinite, &j)) return;
        if (turns_at_once(&j))
            quantize_job(&j, 1);
        else
            quantize_and_turn(&j);
    }
}

/* One launch for both copies, if the replicas are alike and the shapes fit. */
static int pair_at_once(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                        const struct fpl_operand *within, const struct fpl_operand *along, const float *x,
                        float *out, float *turned, int64_t *nonfinite) {
    const struct fpl_cuda_view view = {rows, cols, cols, 1, rows * cols, 1},
                               down_view = {cols, rows, 1, cols, rows * cols, 1};
    struct fpl_cuda_job a, b;
    if (run_end(&view, within, 0, R) < R || run_end(&view, along, 0, R) < R ||
        fpl_cuda_is_rare(&within[0].plan) ||
        !job_of(dev, 0, R, &view, within, x, out, FPL_CARRIER_FP32, NULL, nonfinite, &a) ||
        !job_of(dev, 0, R, &down_view, along, x, turned, FPL_CARRIER_FP32, NULL, nonfinite, &b) ||
        !turns_at_once(&b))
        return 0;
    if (!fpl_cuda_can_pair(&a, &b)) return 0;
    if (needs_tensor(&a) || needs_tensor(&b)) a.tensor = b.tensor = amax_of(&a);
    if (fpl_cuda_failed(dev)) return 1;
    if (!needs_tensor(&a)) a.tensor = NULL;
    if (!needs_tensor(&b)) b.tensor = NULL;
    observe(&a);
    observe(&b);
    fpl_cuda_pair(&a, &b);
    return 1;
}

void fpl_cuda_quantize_both(struct fpl_device *dev, int R, int64_t rows, int64_t cols,
                            const struct fpl_operand *within, const struct fpl_operand *along, const float *x,
                            float *out, float *turned, int64_t *nonfinite) {
    if (fpl_cuda_failed(dev) || R == 0 || rows == 0 || cols == 0) return;
    if (pair_at_once(dev, R, rows, cols, within, along, x, out, turned, nonfinite)) return;
    fpl_cuda_quantize(dev, R, rows, cols, within, x, out, nonfinite);
    fpl_cuda_quantize_transposed(dev, R, rows, cols, along, x, turned, nonfinite);
}
