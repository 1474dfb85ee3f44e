/* diagnose.cu - error, underflow, clipping and exponents of a quantized operand (kernels.h, diagnose).
 *
 * The operand is transformed and quantized once more by the code that training uses; what became of it is
 * summed on the device by the pieces and lanes of formats/measure.h, a thread a lane, so the numbers have the
 * bits of the CPU backend's.  The host adds the pieces in order: 48 bytes for 2048 values.  Counts and
 * histograms are integers, which may be added in any order.
 */
#include "element.h"
#include "gemm.h"
#include "operations.h"

#include <stdlib.h>

static const int LANES = FPL_MEASURE_LANES, PIECES = 8, THREADS = 64; /* of a block: pieces, their lanes */

/* Device memory of one diagnosis, zeroed before it. */
struct tally {
    unsigned long long clipped, count[FPL_EXPONENTS], lost[FPL_EXPONENTS];
};

/* ---- kernels ---------------------------------------------------------------------------------------------
 */

/* Lane threadIdx.x mod 8 of piece threadIdx.x / 8; the histogram of the block's pieces. */
__global__ void measure_pieces(int64_t n, const float *x, const float *out, struct fpl_measure_piece *pieces,
                               struct tally *tally) {
    FPL_SHARED(struct fpl_measure_piece, lanes, THREADS);
    FPL_SHARED(unsigned, count, FPL_EXPONENTS);
    FPL_SHARED(unsigned, lost, FPL_EXPONENTS);
    for (int i = (int)threadIdx.x; i < FPL_EXPONENTS; i += THREADS) count[i] = lost[i] = 0;
    __syncthreads();
    const int64_t piece = (int64_t)blockIdx.x * PIECES + threadIdx.x / LANES,
                  first = piece * FPL_MEASURE_PIECE;
    const int64_t last = first + FPL_MEASURE_PIECE < n ? first + FPL_MEASURE_PIECE : n;
    struct fpl_measure_piece s = {0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0f};
    for (int64_t i = first + threadIdx.x % LANES; i < last; i += LANES) {
        const float value = x[i];
        if (!fpl_is_finite(value)) continue;
        const double v = (double)value, d = v - (double)out[i];
        s.finite++;
        s.signal += v * v;
        s.noise += d * d;
        if (value == 0.0f) continue;
        const double r = fabs(d) / fabs(v);
        const int gone = out[i] == 0.0f, at = fpl_exponent(value) - FPL_EXPONENT_LEAST;
        s.nonzero++;
        s.underflown += gone;
        s.relative += r;
        if (r > s.relative_max) s.relative_max = r;
        if (fabsf(value) > s.amax) s.amax = fabsf(value);
        atomicAdd(&count[at], 1u);
        if (gone) atomicAdd(&lost[at], 1u);
    }
    lanes[threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.x % LANES == 0 && first < n) {
        struct fpl_measure_piece p = {0.0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0f};
        for (int l = 0; l < LANES; l++) {
            const struct fpl_measure_piece *q = &lanes[threadIdx.x + l];
            p.signal += q->signal;
            p.noise += q->noise;
            p.relative += q->relative;
            p.finite += q->finite;
            p.nonzero += q->nonzero;
            p.underflown += q->underflown;
            if (q->relative_max > p.relative_max) p.relative_max = q->relative_max;
            if (q->amax > p.amax) p.amax = q->amax;
        }
        pieces[piece] = p;
    }
    for (int i = (int)threadIdx.x; i < FPL_EXPONENTS; i += THREADS) {
        if (count[i] != 0) atomicAdd(&tally->count[i], (unsigned long long)count[i]);
        if (lost[i] != 0) atomicAdd(&tally->lost[i], (unsigned long long)lost[i]);
    }
}

/* Finite elements beyond the largest value once scaled (fpl_count_clipped). */
__global__ void count_clipped(struct fpl_cuda_view v, struct fpl_cuda_groups groups,
                              const struct fpl_cuda_operand *operand, const struct fpl_group_scale *scales,
                              const float *x, struct tally *tally) {
    const int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int beyond = 0;
    if (e < v.rows * v.cols) {
        const struct fpl_quantizer_plan p = fpl_plan_now(operand);
        const int64_t i = v.col_stride == 1 ? e / v.cols : e % v.rows,
                      j = v.col_stride == 1 ? e % v.cols : e / v.rows;
        const float value = x[i * v.row_stride + j * v.col_stride];
        const struct fpl_group_scale g = scales[i / groups.rows * groups.across + j / groups.cols];
        beyond = fpl_is_finite(value) && fpl_scaled_beyond(&p, &g, fpl_scaled(&g, value));
    }
    for (int by = FPL_WARP / 2; by > 0; by /= 2) beyond += __shfl_xor_sync(FPL_ALL_LANES, beyond, by);
    if (beyond != 0 && threadIdx.x % FPL_WARP == 0) atomicAdd(&tally->clipped, (unsigned long long)beyond);
}

/* ---- entries ----------------------------------------------------------------------------------------------
 */

static void add_clipped(struct fpl_device *dev, const struct fpl_cuda_view *view, const struct fpl_operand *q,
                        const float *x, struct tally *tally) {
    const struct fpl_cuda_groups groups = fpl_cuda_groups_of(&q->plan, view);
    const struct fpl_group_scale *scales =
        fpl_cuda_group_scales(dev, FPL_CUDA_SCRATCH_SCALES, 1, view, q, x, NULL);
    const struct fpl_cuda_operand *operand = fpl_cuda_operands(dev, 1, q);
    if (scales == NULL || operand == NULL) return;
    FPL_LAUNCH(count_clipped, dim3(fpl_cuda_blocks(view->rows * view->cols, 256)), dim3(256), 0, dev, *view,
               groups, operand, scales, x, tally);
}

/* What the device found, added to d. */
static void add_found(struct fpl_device *dev, int64_t size, int64_t pieces,
                      const struct fpl_measure_piece *device_pieces, const struct tally *device_tally,
                      struct fpl_diagnosis *d) {
    struct tally t;
    struct fpl_measure_piece *p = (struct fpl_measure_piece *)malloc((size_t)pieces * sizeof *p);
    if (p == NULL) {
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
        return;
    }
    fpl_cuda_download(dev, p, device_pieces, (size_t)pieces * sizeof *p);
    fpl_cuda_download(dev, &t, device_tally, sizeof t);
    if (!fpl_cuda_failed(dev)) {
        for (int64_t i = 0; i < pieces; i++) fpl_measure_add(&d->sums, &p[i]);
        d->sums.elements += size;
        d->sums.clipped += (int64_t)t.clipped;
        for (int i = 0; i < FPL_EXPONENTS; i++) {
            d->exponents.count[i] += (int64_t)t.count[i];
            d->exponents.lost[i] += (int64_t)t.lost[i];
        }
    }
    free(p);
}

/* Scratch: the operand transformed, what became of it, the pieces, the tally. */
static void diagnose_one(struct fpl_device *dev, const struct fpl_cuda_source *s, struct fpl_diagnosis *d) {
    const int64_t size = s->lines * s->width, pieces = (size - 1) / FPL_MEASURE_PIECE + 1;
    const struct fpl_cuda_view view = fpl_cuda_source_view(s);
    const size_t values = ((size_t)size + 3) / 4 * 4; /* keeps what follows aligned */
    float *room = (float *)fpl_cuda_scratch(dev, FPL_CUDA_SCRATCH_DIAGNOSIS,
                                            2 * values * sizeof(float) +
                                                (size_t)pieces * sizeof(struct fpl_measure_piece) +
                                                sizeof(struct tally));
    if (room == NULL) return;
    float *out = room + values;
    struct fpl_measure_piece *found = (struct fpl_measure_piece *)(void *)(out + values);
    struct tally *tally = (struct tally *)(void *)(found + pieces);
    struct fpl_operand quiet = *s->q;
    quiet.observe = 0;
    const float *x = fpl_cuda_transformed(dev, 1, s, room);
    fpl_cuda_quantize_view(dev, 1, &view, &quiet, x, out, FPL_CARRIER_FP32, NULL);
    fpl_cuda_zero(dev, tally, sizeof *tally);
    if (fpl_cuda_failed(dev)) return;
    FPL_LAUNCH(measure_pieces, dim3(fpl_cuda_blocks(pieces, PIECES)), dim3(THREADS), 0, dev, size, x, out,
               found, tally);
    if (!s->q->plan.identity) add_clipped(dev, &view, &quiet, x, tally);
    add_found(dev, size, pieces, found, tally, d);
}

void fpl_cuda_diagnose(struct fpl_device *dev, int R, int64_t lines, int64_t width, int along_lines,
                       const struct fpl_operand *q, const float *x, struct fpl_diagnosis *diagnosis) {
    if (lines == 0 || width == 0) return;
    for (int r = 0; r < R && !fpl_cuda_failed(dev); r++) {
        const struct fpl_cuda_source s = {x + r * lines * width, lines, width, along_lines, &q[r], NULL};
        diagnose_one(dev, &s, &diagnosis[r]);
    }
}
