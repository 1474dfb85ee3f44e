/* quantize_down.cu - groups along lines of memory, as wgrad's operands have them, and two copies from one
 * read.
 *
 *   tiles    a warp takes 32 lines by 32 columns by loads of 16 bytes: lane l has columns 4 (l mod 8) .. + 3
 * of lines 8 (l / 8) .. + 7.  Groups of 16 or 32 lines lie within a warp, of 64, 128 or 256 lines within a
 * block of eight warps, one below the other.  Taller groups (rows of a transposed operand) take their amax
 * from a pass before. pair     the same tile, quantized within lines first and down them second: one read,
 * two writes. columns  any other shape: a thread per group, two reads.
 *
 * Transposed results: a lane's eight lines are a sector of a column.  Lanes l and l xor 8 exchange halves, so
 * that a store of a warp writes whole sectors.
 */
#include "quantize.h"

enum { LINES = 8, WARPS = 8, THREADS = WARPS * FPL_WARP, TILE = 32, TALLEST = TILE * WARPS };

/* One direction of a tile's quantization. */
struct direction {
    const struct fpl_cuda_operand *operands;
    struct fpl_cuda_at at;
    const unsigned *tensor;  /* amax bits of matrices, or NULL */
    const unsigned *columns; /* amax bits of whole columns [matrices, width], or NULL */
    int64_t *nonfinite;
    int group; /* 0: one scale for all */
};

struct matrix {
    int64_t lines, width, heads;
};

/* ---- scales of a tile
 * -------------------------------------------------------------------------------------- */

/* Whole matrices: the tensor's amax is the group's. */
__device__ static inline struct fpl_quick_scale one_scale(const struct fpl_quantizing *t,
                                                          const struct direction *d, int64_t z) {
    return fpl_scale_of_group(t, d->tensor != NULL ? __uint_as_float(d->tensor[z]) : 0.0f);
}

__device__ static inline uint32_t finite_bits(float v) { return fpl_float_bits(fpl_finite_magnitude(v)); }

/* scale[i] of line i: groups of 16 or 32 columns.  Each lane makes one or two of the scales. */
__device__ static void scales_within(const struct fpl_quantizing *t, int group, const float v[LINES][4],
                                     struct fpl_quick_scale scale[LINES]) {
    const int lane = (int)threadIdx.x % FPL_WARP, wide = group == 32;
    uint32_t amax[LINES], unused;
    for (int i = 0; i < LINES; i++) {
        amax[i] = fpl_quad_amax(v[i], &unused);
        for (int by = 1; by < group / 4; by *= 2)
            amax[i] = fpl_larger(amax[i], __shfl_xor_sync(FPL_ALL_LANES, amax[i], by));
    }
    /* Lane k of a group's lanes makes that of line k, or of lines 2k and 2k + 1. */
    const int k = lane % (group / 4);
    struct fpl_quick_scale mine[2];
    for (int h = 0; h < 2; h++) {
        uint32_t a = 0;
        for (int i = 0; i < LINES; i++) a = i == (wide ? k : 2 * k + h) ? amax[i] : a;
        if (h == 0 || !wide)
            mine[h] = fpl_scale_of_group(t, fpl_bits_float(a));
        else
            mine[h] = mine[0];
    }
    for (int i = 0; i < LINES; i++)
        scale[i] = wide ? fpl_scale_from(&mine[0], (lane & ~7) + i)
                        : fpl_scale_from(&mine[i & 1], (lane & ~3) + i / 2);
}

/* The amax of a lane's four columns over their groups. */
__device__ static void amax_down(const struct direction *d, int64_t z, int64_t width, int64_t column,
                                 const float v[LINES][4], unsigned *shared, uint32_t amax[4]) {
    const int lane = (int)threadIdx.x % FPL_WARP, warp = (int)threadIdx.x / FPL_WARP;
    if (d->columns != NULL) {
        for (int c = 0; c < 4; c++) amax[c] = column < width ? d->columns[z * width + column + c] : 0;
        return;
    }
    for (int c = 0; c < 4; c++) {
        amax[c] = 0;
        for (int i = 0; i < LINES; i++) amax[c] = fpl_larger(amax[c], finite_bits(v[i][c]));
        amax[c] = fpl_larger(amax[c], __shfl_xor_sync(FPL_ALL_LANES, amax[c], 8));
        if (d->group > 16) amax[c] = fpl_larger(amax[c], __shfl_xor_sync(FPL_ALL_LANES, amax[c], 16));
    }
    if (d->group <= TILE) return;
    const int high = d->group / TILE, top = warp / high * high;
    if (lane < 8)
        for (int c = 0; c < 4; c++) shared[warp * TILE + lane * 4 + c] = amax[c];
    __syncthreads();
    for (int c = 0; c < 4; c++)
        for (int w = top; w < top + high; w++)
            amax[c] = fpl_larger(amax[c], shared[w * TILE + lane % 8 * 4 + c]);
}

/* scale[c] of a lane's four columns; lanes that share columns share the work. */
__device__ static void scales_down(const struct fpl_quantizing *t, int group, const uint32_t amax[4],
                                   struct fpl_quick_scale scale[4]) {
    const int lane = (int)threadIdx.x % FPL_WARP, part = lane / 8, twice = group == 16;
    struct fpl_quick_scale mine[2];
    for (int h = 0; h < 2; h++) {
        uint32_t a = 0;
        for (int c = 0; c < 4; c++) a = c == (twice ? (part & 1) * 2 + h : part) ? amax[c] : a;
        if (h == 0 || twice)
            mine[h] = fpl_scale_of_group(t, fpl_bits_float(a));
        else
            mine[h] = mine[0];
    }
    for (int c = 0; c < 4; c++)
        scale[c] = twice ? fpl_scale_from(&mine[c & 1], lane % 8 + ((part & 2) + c / 2) * 8)
                         : fpl_scale_from(&mine[0], lane % 8 + c * 8);
}

/* ---- a tile
 * -------------------------------------------------------------------------------------------------- */

/* Words of random bits of a lane's eight quads, line i at `first` + i width. */
__device__ static inline void tile_words(const struct fpl_quantizing *t, int64_t first, int64_t width,
                                         uint2 words[LINES]) {
    if (t->quick.random_bits == 0) return;
    for (int i = 0; i < LINES; i += 2) {
        const uint64_t a = (uint64_t)(first + i * width), b = (uint64_t)(first + (i + 1) * width);
        if (t->at.element % 8 == 0 && width % 8 == 0) {
            fpl_pair_words(t, a, b, words + i);
        } else {
            words[i] = fpl_quad_words(t, a);
            words[i + 1] = fpl_quad_words(t, b);
        }
    }
}

/* Within lines: quads go out as they are quantized. */
template <typename Out>
__device__ static void tile_within(struct fpl_quantizing *t, const struct direction *d,
                                   const struct matrix *m, int64_t z, int64_t line, int64_t column,
                                   const float v[LINES][4], Out *out) {
    struct fpl_quick_scale scale[LINES];
    uint2 words[LINES];
    if (d->group != 0) {
        scales_within(t, d->group, v, scale);
    } else {
        const struct fpl_quick_scale s = one_scale(t, d, z);
        for (int i = 0; i < LINES; i++) scale[i] = s;
    }
    tile_words(t, line * m->width + column, m->width, words);
    for (int i = 0; i < LINES; i++) {
        float y[4];
        uint32_t most;
        if (line + i >= m->lines || column >= m->width) continue;
        (void)fpl_quad_amax(v[i], &most);
        fpl_quad_quantized(t, &scale[i], v[i], most, (line + i) * m->width + column, words[i], y);
        fpl_store_four(out + z * m->lines * m->width, (line + i) * m->width + column, y);
    }
}

/* Down lines, in place. */
__device__ static void tile_down(struct fpl_quantizing *t, const struct direction *d, const struct matrix *m,
                                 int64_t z, int64_t line, int64_t column, unsigned *shared,
                                 float v[LINES][4]) {
    struct fpl_quick_scale scale[4];
    uint2 words[LINES];
    if (d->group != 0) {
        uint32_t amax[4];
        amax_down(d, z, m->width, column, v, shared, amax);
        scales_down(t, d->group, amax, scale);
    } else {
        const struct fpl_quick_scale s = one_scale(t, d, z);
        for (int c = 0; c < 4; c++) scale[c] = s;
    }
    tile_words(t, line * m->width + column, m->width, words);
    for (int c = 0; c < 4; c++)
        for (int half = 0; half < LINES; half += 4) {
            float four[4], y[4];
            uint32_t most = 0, random[4];
            for (int k = 0; k < 4; k++) {
                four[k] = v[half + k][c];
                most = fpl_larger(most, fpl_magnitude_bits(four[k]));
                random[k] = fpl_quad_random(t, words[half + k], c);
            }
            fpl_four_quantized(t, &scale[c], four, most, (line + half) * m->width + column + c, m->width,
                               random, y);
            for (int k = 0; k < 4; k++) v[half + k][c] = y[k];
        }
}

/* v[LINES][4] to out[width, lines] of this matrix; lines is a multiple of 8. */
template <typename Out>
__device__ static void store_transposed(const struct matrix *m, int64_t line, int64_t column,
                                        const float v[LINES][4], Out *out) {
    const int odd = (int)threadIdx.x / 8 & 1;
    const int64_t even_line = line - odd * LINES; /* of the lower of the two lanes */
    for (int c = 0; c < 4; c++) {
        float kept[4], got[4]; /* of the even lane's sector, then of the odd one's */
        for (int k = 0; k < 4; k++) {
            const float other = __shfl_xor_sync(FPL_ALL_LANES, odd ? v[k][c] : v[4 + k][c], 8);
            kept[k] = odd ? other : v[k][c];
            got[k] = odd ? v[4 + k][c] : other;
        }
        if (column >= m->width) continue;
        const int64_t at = (column + c) * m->lines + even_line + odd * 4;
        if (even_line < m->lines) fpl_store_four(out, at, kept);
        if (even_line + LINES < m->lines) fpl_store_four(out, at + LINES, got);
    }
}

/* PAIR: within lines to `copy` as well. */
template <typename Out, int PAIR>
__global__ void __launch_bounds__(THREADS)
    quantize_tile(struct matrix m, struct direction within, struct direction down, int transposed,
                  const float *x, Out *copy, Out *out) {
    FPL_SHARED(unsigned, shared, TALLEST);
    const int lane = (int)threadIdx.x % FPL_WARP;
    const int64_t z = blockIdx.z, column = (int64_t)blockIdx.x * TILE + lane % 8 * 4;
    const int64_t line = ((int64_t)blockIdx.y * WARPS + threadIdx.x / FPL_WARP) * TILE + lane / 8 * LINES;
    const int64_t size = m.lines * m.width, r = z / m.heads;
    float v[LINES][4];
    for (int i = 0; i < LINES; i++) {
        v[i][0] = v[i][1] = v[i][2] = v[i][3] = 0.0f;
        if (line + i < m.lines && column < m.width)
            fpl_load_four(x + z * size + (line + i) * m.width + column, v[i]);
    }
    if (PAIR) {
        struct fpl_quantizing t =
            fpl_quantizing_of(within.operands, m.heads, size, z, within.at, within.tensor);
        tile_within(&t, &within, &m, z, line, column, v, copy);
        fpl_count_nonfinite(within.nonfinite, r, t.bad);
    }
    struct fpl_quantizing t = fpl_quantizing_of(down.operands, m.heads, size, z, down.at, down.tensor);
    tile_down(&t, &down, &m, z, line, column, shared, v);
    fpl_count_nonfinite(down.nonfinite, r, t.bad);
    if (transposed) {
        store_transposed(&m, line, column, v, out + z * size);
        return;
    }
    for (int i = 0; i < LINES; i++)
        if (line + i < m.lines && column < m.width)
            fpl_store_four(out + z * size, (line + i) * m.width + column, v[i]);
}

/* ---- amax of columns, and any shape
 * -------------------------------------------------------------------------- */

/* Raises bits[matrices, width]; a thread takes 64 lines of a column. */
__global__ void column_amax(int64_t lines, int64_t width, const float *x, unsigned *bits) {
    const int64_t column = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, first = (int64_t)blockIdx.y * 64;
    const int64_t z = blockIdx.z;
    uint32_t most = 0;
    if (column >= width) return;
    for (int64_t i = first; i < first + 64 && i < lines; i++)
        most = fpl_larger(most, finite_bits(x[(z * lines + i) * width + column]));
    if (most != 0) atomicMax(&bits[z * width + column], most);
}

/* Element (line, column) goes to out[line line_step + column column_step] of its matrix; d.group lines a
 * group, or one scale for all. */
template <typename Out>
__global__ void quantize_columns(struct matrix m, int64_t height, struct direction d, const float *x,
                                 int64_t line_step, int64_t column_step, Out *out) {
    const int64_t z = blockIdx.z, column = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t first = (int64_t)blockIdx.y * height, size = m.lines * m.width;
    const int64_t end = first + height < m.lines ? first + height : m.lines;
    struct fpl_quantizing t = fpl_quantizing_of(d.operands, m.heads, size, z, d.at, d.tensor);
    if (column < m.width) {
        const float *from = x + z * size + column;
        uint32_t amax = 0;
        for (int64_t i = first; d.group != 0 && i < end; i++)
            amax = fpl_larger(amax, finite_bits(from[i * m.width]));
        const struct fpl_quick_scale s =
            d.group != 0 ? fpl_scale_of_group(&t, fpl_bits_float(amax)) : one_scale(&t, &d, z);
        const struct fpl_group_scale g = fpl_quick_full(&t.quick, &s);
        for (int64_t i = first; i < end; i++) {
            const float value = from[i * m.width];
            t.bad += !fpl_is_finite(value) && !t.operand->plan.identity;
            fpl_store(out, z * size + i * line_step + column * column_step,
                      fpl_element_long(t.operand, t.fast, g, value,
                                       fpl_element_random(t.operand, &t.at, i * m.width + column)));
        }
    }
    fpl_count_nonfinite(d.nonfinite, z / m.heads, t.bad);
}

/* ---- launches
 * ---------------------------------------------------------------------------------------------- */

static struct matrix matrix_of(const struct fpl_cuda_job *j) {
    const struct matrix m = {j->view.rows, j->view.cols, j->view.heads};
    return m;
}

static struct direction direction_of(const struct fpl_cuda_job *j, int64_t group) {
    const struct direction d = {j->operands, j->at, j->tensor, NULL, j->nonfinite, (int)group};
    return d;
}

static int tiles_fit(const struct fpl_cuda_job *j, const struct matrix *m, int64_t height, int transposed) {
    const int power = height == 16 || height == 32 || height == 64 || height == 128 || height == TALLEST;
    return (power || height >= m->lines || height == 0) && m->width % 4 == 0 && m->lines >= 16 &&
           (!transposed || m->lines % LINES == 0) && (uintptr_t)j->x % 16 == 0 && (uintptr_t)j->out % 16 == 0;
}

/* Down groups of any height that tiles_fit; taller ones get their amax first. */
static struct direction tall_direction(const struct fpl_cuda_job *j, const struct matrix *m, int64_t height) {
    struct direction d = direction_of(j, height);
    const int power = height == 16 || height == 32 || height == 64 || height == 128 || height == TALLEST;
    if (height == 0 || power) return d;
    const size_t bytes = (size_t)(j->matrices * m->width) * sizeof(unsigned);
    unsigned *columns = (unsigned *)fpl_cuda_scratch(j->dev, FPL_CUDA_SCRATCH_COLUMNS, bytes);
    if (columns == NULL) return d;
    d.columns = columns;
    d.group = TILE;
    fpl_cuda_zero(j->dev, columns, bytes);
    FPL_LAUNCH(column_amax,
               dim3(fpl_cuda_blocks(m->width, 128), fpl_cuda_blocks(m->lines, 64), (unsigned)j->matrices),
               dim3(128), 0, j->dev->stream, m->lines, m->width, j->x, columns);
    fpl_cuda_launched(j->dev, "column_amax");
    return d;
}

static dim3 tile_grid(const struct matrix *m, int64_t matrices) {
    return dim3(fpl_cuda_blocks(m->width, TILE), fpl_cuda_blocks(m->lines, TALLEST), (unsigned)matrices);
}

template <typename Out>
static void launch(const struct fpl_cuda_job *j, int64_t height, int transposed, Out *out) {
    const struct matrix m = matrix_of(j);
    if (tiles_fit(j, &m, height, transposed)) {
        const struct direction d = tall_direction(j, &m, height);
        if (fpl_cuda_failed(j->dev)) return;
        FPL_LAUNCH((quantize_tile<Out, 0>), tile_grid(&m, j->matrices), dim3(THREADS), 0, j->dev->stream, m,
                   d, d, transposed, j->x, (Out *)NULL, out);
        fpl_cuda_launched(j->dev, "quantize_tile");
        return;
    }
    const struct direction d = direction_of(j, height != 0);
    const int64_t lines = height != 0 ? height : 64;
    const int64_t line_step = transposed ? 1 : m.width, column_step = transposed ? m.lines : 1;
    FPL_LAUNCH(quantize_columns<Out>,
               dim3(fpl_cuda_blocks(m.width, 128), fpl_cuda_blocks(m.lines, lines), (unsigned)j->matrices),
               dim3(128), 0, j->dev->stream, m, lines, d, j->x, line_step, column_step, out);
    fpl_cuda_launched(j->dev, "quantize_columns");
}

void fpl_cuda_quantize_down(const struct fpl_cuda_job *j, int64_t height, int transposed) {
    if (j->carrier == FPL_CARRIER_BF16)
        launch(j, height, transposed, (struct fpl_bf16 *)j->out);
    else if (j->carrier == FPL_CARRIER_FP16)
        launch(j, height, transposed, (struct fpl_fp16 *)j->out);
    else
        launch(j, height, transposed, (float *)j->out);
}

template <typename Out>
static void launch_pair(const struct fpl_cuda_job *within, const struct fpl_cuda_job *down,
                        const struct matrix *m, struct direction a, struct direction b) {
    FPL_LAUNCH((quantize_tile<Out, 1>), tile_grid(m, down->matrices), dim3(THREADS), 0, down->dev->stream, *m,
               a, b, 1, down->x, (Out *)within->out, (Out *)down->out);
    fpl_cuda_launched(down->dev, "quantize_tile");
}

int fpl_cuda_quantize_pair_held(const struct fpl_cuda_job *within, const struct fpl_cuda_job *down) {
    const struct matrix m = matrix_of(down);
    int64_t rows, cols, down_rows, height;
    fpl_cuda_group_of(within, &rows, &cols);
    fpl_cuda_group_of(down, &down_rows, &height);
    const int across = rows == 1 && (cols == 0 || cols == 16 || cols == 32);
    if (!across || down_rows != 1 || !tiles_fit(down, &m, height, 1) || within->carrier != down->carrier ||
        (uintptr_t)within->out % 16 != 0)
        return 0;
    const struct direction a = direction_of(within, cols), b = tall_direction(down, &m, height);
    if (fpl_cuda_failed(down->dev)) return 1;
    if (down->carrier == FPL_CARRIER_BF16)
        launch_pair<struct fpl_bf16>(within, down, &m, a, b);
    else if (down->carrier == FPL_CARRIER_FP16)
        launch_pair<struct fpl_fp16>(within, down, &m, a, b);
    else
        launch_pair<float>(within, down, &m, a, b);
    return 1;
}
