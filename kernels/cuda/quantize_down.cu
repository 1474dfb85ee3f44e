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

/* The scales that this lane makes, one or two, of groups of 16 or 32 columns: lane k of a group's lanes makes
 * that of line k, or of lines 2k and 2k + 1. */
__device__ static inline void make_within(const struct fpl_quantizing *t, const struct direction *d,
                                          int64_t z, const float v[LINES][4],
                                          struct fpl_quick_scale mine[2]) {
    uint32_t amax[LINES], a = 0, b = 0, unused;
    if (d->group == 0) {
        mine[0] = mine[1] = one_scale(t, d, z);
        return;
    }
    const int wide = d->group == 32, k = (int)threadIdx.x % (d->group / 4);
    FPL_UNROLL
    for (int i = 0; i < LINES; i++) {
        amax[i] = fpl_quad_amax(v[i], &unused);
        for (int by = 1; by < d->group / 4; by *= 2)
            amax[i] = fpl_larger(amax[i], __shfl_xor_sync(FPL_ALL_LANES, amax[i], by));
        a = i == (wide ? k : 2 * k) ? amax[i] : a;
        b = i == 2 * k + 1 ? amax[i] : b;
    }
    mine[0] = mine[1] = fpl_scale_of_group(t, fpl_bits_float(a));
    if (!wide) mine[1] = fpl_scale_of_group(t, fpl_bits_float(b));
}

/* The scale of line i; every lane of the warp asks for the same i. */
__device__ static inline struct fpl_quick_scale within_of(const struct fpl_quick_scale mine[2], int group,
                                                          int i) {
    const int lane = (int)threadIdx.x % FPL_WARP;
    if (group == 0) return mine[0];
    if (group == 32) return fpl_scale_from(&mine[0], (lane & ~7) + i);
    return fpl_scale_from(i & 1 ? &mine[1] : &mine[0], (lane & ~3) + i / 2);
}

/* The amax of a lane's four columns over their groups. */
__device__ static inline void amax_down(const struct direction *d, int64_t z, int64_t width, int64_t column,
                                        const float v[LINES][4], unsigned *shared, uint32_t amax[4]) {
    const int lane = (int)threadIdx.x % FPL_WARP, warp = (int)threadIdx.x / FPL_WARP;
    if (d->columns != NULL) {
        FPL_UNROLL
        for (int c = 0; c < 4; c++) amax[c] = column < width ? d->columns[z * width + column + c] : 0;
        return;
    }
    FPL_UNROLL
    for (int c = 0; c < 4; c++) {
        amax[c] = 0;
        FPL_UNROLL
        for (int i = 0; i < LINES; i++) amax[c] = fpl_larger(amax[c], finite_bits(v[i][c]));
        amax[c] = fpl_larger(amax[c], __shfl_xor_sync(FPL_ALL_LANES, amax[c], 8));
        if (d->group > 16) amax[c] = fpl_larger(amax[c], __shfl_xor_sync(FPL_ALL_LANES, amax[c], 16));
    }
    if (d->group <= TILE) return;
    const int high = d->group / TILE, top = warp / high * high;
    if (lane < 8) FPL_UNROLL
    for (int c = 0; c < 4; c++) shared[warp * TILE + lane * 4 + c] = amax[c];
    __syncthreads();
    FPL_UNROLL
    for (int c = 0; c < 4; c++)
        for (int w = top; w < top + high; w++)
            amax[c] = fpl_larger(amax[c], shared[w * TILE + lane % 8 * 4 + c]);
}

/* The same down lines: lanes that share columns share the work. */
__device__ static inline void make_down(const struct fpl_quantizing *t, const struct direction *d, int64_t z,
                                        const uint32_t amax[4], struct fpl_quick_scale mine[2]) {
    const int part = (int)threadIdx.x % FPL_WARP / 8, twice = d->group == 16;
    const int first = twice ? (part & 1) * 2 : part;
    uint32_t a = 0, b = 0;
    if (d->group == 0) {
        mine[0] = mine[1] = one_scale(t, d, z);
        return;
    }
    FPL_UNROLL
    for (int c = 0; c < 4; c++) {
        a = c == first ? amax[c] : a;
        b = c == first + 1 ? amax[c] : b;
    }
    mine[0] = mine[1] = fpl_scale_of_group(t, fpl_bits_float(a));
    if (twice) mine[1] = fpl_scale_of_group(t, fpl_bits_float(b));
}

/* The scale of column c of the lane's four. */
__device__ static inline struct fpl_quick_scale down_of(const struct fpl_quick_scale mine[2], int group,
                                                        int c) {
    const int lane = (int)threadIdx.x % FPL_WARP;
    if (group == 0) return mine[0];
    if (group != 16) return fpl_scale_from(&mine[0], lane % 8 + c * 8);
    return fpl_scale_from(c & 1 ? &mine[1] : &mine[0], lane % 8 + ((lane / 8 & 2) + c / 2) * 8);
}

/* ---- a tile
 * -------------------------------------------------------------------------------------------------- */

/* Words of random bits of a lane's eight quads, line i at `first` + i width. */
__device__ static inline void tile_words(const struct fpl_quantizing *t, int64_t first, int64_t width,
                                         uint2 words[LINES]) {
    FPL_UNROLL
    for (int i = 0; i < LINES; i += 2)
        fpl_pair_words(t, (uint64_t)(first + i * width), (uint64_t)(first + (i + 1) * width), words + i);
}

/* Lines that are no multiple of eight long do not share blocks. */
__device__ static inline struct fpl_quantizing tile_quantizing(const struct direction *d,
                                                               const struct matrix *m, int64_t z) {
    struct fpl_quantizing t =
        fpl_quantizing_of(d->operands, m->heads, m->lines * m->width, z, d->at, d->tensor);
    if (t.quick.random_bits != 0 && m->width % 8 != 0) t.quick.kind = FPL_QUICK_NONE;
    return t;
}

/* A lane's place, and the end of the matrix. */
struct place {
    int64_t z, line, column;
    int lines; /* of the lane's eight inside the matrix; 0 where its columns are outside */
};

/* Within lines: quads go out as they are quantized; what must go the long way follows, read again. */
template <int KIND>
__device__ static inline void tile_within(struct fpl_quantizing *t, const struct direction *d,
                                          const struct matrix *m, const struct place *p,
                                          const float v[LINES][4], const float *x, float *out) {
    struct fpl_quick_scale mine[2];
    uint2 words[LINES];
    unsigned left = 0;
    make_within(t, d, p->z, v, mine);
    if (KIND != FPL_QUICK_NEAREST && t->quick.random_bits != 0)
        tile_words(t, p->line * m->width + p->column, m->width, words);
    FPL_UNROLL
    for (int i = 0; i < LINES; i++) {
        const struct fpl_quick_scale s = within_of(mine, d->group, i);
        uint32_t most;
        (void)fpl_quad_amax(v[i], &most);
        if (i < p->lines &&
            !fpl_quad_quick<KIND>(t, &s, v[i], most, (p->line + i) * m->width + p->column, words[i], out))
            left |= 1u << i;
    }
    if (!__any_sync(FPL_ALL_LANES, left != 0)) return;
    FPL_ROLLED
    for (int i = 0; i < LINES; i++) {
        const struct fpl_quick_scale s = within_of(mine, d->group, i);
        if (left >> i & 1u) fpl_quad_long(t, &s, x, (p->line + i) * m->width + p->column, out);
    }
}

/* Down lines, in place; bit 2c + h of the result: lines 4h .. 4h + 3 of column c are left for the long way.
 */
template <int KIND>
__device__ static inline unsigned tile_down(const struct fpl_quantizing *t, const struct direction *d,
                                            const struct matrix *m, const struct place *p,
                                            const struct fpl_quick_scale mine[2], float v[LINES][4]) {
    uint2 words[LINES];
    unsigned left = 0;
    if (KIND != FPL_QUICK_NEAREST && t->quick.random_bits != 0)
        tile_words(t, p->line * m->width + p->column, m->width, words);
    FPL_UNROLL
    for (int c = 0; c < 4; c++) {
        const struct fpl_quick_scale s = down_of(mine, d->group, c);
        FPL_UNROLL
        for (int half = 0; half < LINES; half += 4) {
            uint32_t most = 0;
            FPL_UNROLL
            for (int k = 0; k < 4; k++) most = fpl_larger(most, fpl_magnitude_bits(v[half + k][c]));
            if (!fpl_quick_reaches(&s, fpl_bits_float(most))) {
                left |= 1u << (2 * c + half / 4);
                continue;
            }
            FPL_UNROLL
            for (int k = 0; k < 4; k++)
                v[half + k][c] = fpl_quick_element<KIND>(&t->quick, &s, v[half + k][c],
                                                         fpl_quad_random(t, words[half + k], c));
        }
    }
    return left;
}

/* What tile_down left, which was stored as it is: read again. */
template <typename Out>
__device__ static inline void
tile_left(struct fpl_quantizing *t, const struct direction *d, const struct matrix *m, const struct place *p,
          const struct fpl_quick_scale mine[2], unsigned left, int transposed, const float *x, Out out) {
    if (!__any_sync(FPL_ALL_LANES, left != 0)) return;
    FPL_ROLLED
    for (int e = 0; e < LINES * 4; e++) {
        const int c = e / LINES, i = e % LINES;
        const struct fpl_quick_scale s = down_of(mine, d->group, c);
        const struct fpl_group_scale g = fpl_quick_full(&t->quick, &s);
        const int64_t line = p->line + i, column = p->column + c, at = line * m->width + column;
        if (!(left >> (2 * c + i / 4) & 1u) || i >= p->lines) continue;
        const float value = x[at];
        t->bad += !fpl_is_finite(value) && !t->operand->plan.identity;
        fpl_store(
            out, transposed ? column * m->lines + line : at,
            fpl_element_long(t->operand, t->fast, g, value, fpl_element_random(t->operand, &t->at, at)));
    }
}

/* v[LINES][4] to out[width, lines] of this matrix; lines is a multiple of 8. */
template <typename Out>
__device__ static inline void store_transposed(const struct matrix *m, int64_t line, int64_t column,
                                               const float v[LINES][4], Out out) {
    const int odd = (int)threadIdx.x / 8 & 1;
    const int64_t even_line = line - odd * LINES; /* of the lower of the two lanes */
    FPL_UNROLL
    for (int c = 0; c < 4; c++) {
        float kept[4], got[4]; /* of the even lane's sector, then of the odd one's */
        FPL_UNROLL
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
__global__ void __launch_bounds__(THREADS, PAIR ? 1 : 2)
    quantize_tile(struct matrix m, struct direction within, struct direction down, int transposed,
                  const float *x, float *copy, Out out) {
    FPL_SHARED(unsigned, shared, TALLEST);
    const int lane = (int)threadIdx.x % FPL_WARP;
    const int64_t size = m.lines * m.width, r = blockIdx.z / m.heads;
    struct place p = {blockIdx.z,
                      ((int64_t)blockIdx.y * WARPS + threadIdx.x / FPL_WARP) * TILE + lane / 8 * LINES,
                      (int64_t)blockIdx.x * TILE + lane % 8 * 4, 0};
    if (p.column < m.width && p.line < m.lines)
        p.lines = m.lines - p.line < LINES ? (int)(m.lines - p.line) : (int)LINES;
    const float *from = x + p.z * size;
    const Out to = fpl_further(out, p.z * size);
    float v[LINES][4];
    FPL_UNROLL
    for (int i = 0; i < LINES; i++) {
        v[i][0] = v[i][1] = v[i][2] = v[i][3] = 0.0f;
        if (i < p.lines) fpl_load_four(from + (p.line + i) * m.width + p.column, v[i]);
    }
    if (PAIR) {
        struct fpl_quantizing t = tile_quantizing(&within, &m, p.z);
        FPL_BY_KIND(t.quick.kind, tile_within, &t, &within, &m, &p, v, from, copy + p.z * size);
        fpl_count_nonfinite(within.nonfinite, r, t.bad);
    }
    struct fpl_quantizing t = tile_quantizing(&down, &m, p.z);
    struct fpl_quick_scale mine[2];
    uint32_t amax[4] = {0, 0, 0, 0};
    unsigned left;
    if (down.group != 0) amax_down(&down, p.z, m.width, p.column, v, shared, amax);
    make_down(&t, &down, p.z, amax, mine);
    FPL_BY_KIND(t.quick.kind, left = tile_down, &t, &down, &m, &p, mine, v);
    if (transposed) store_transposed(&m, p.line, p.column, v, to);
    FPL_UNROLL
    for (int i = 0; i < LINES; i++)
        if (!transposed && i < p.lines) fpl_store_four(to, (p.line + i) * m.width + p.column, v[i]);
    /* Transposed, a lane's elements may have been stored by its partner. */
    __syncwarp();
    tile_left(&t, &down, &m, &p, mine, left, transposed, from, to);
    fpl_count_nonfinite(down.nonfinite, r, t.bad);
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
                                 int64_t line_step, int64_t column_step, Out out) {
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
               dim3(128), 0, j->dev, m->lines, m->width, j->x, columns);
    return d;
}

static dim3 tile_grid(const struct matrix *m, int64_t matrices) {
    return dim3(fpl_cuda_blocks(m->width, TILE), fpl_cuda_blocks(m->lines, TALLEST), (unsigned)matrices);
}

template <typename Out>
static void launch(const struct fpl_cuda_job *j, int64_t height, int transposed, Out out) {
    const struct matrix m = matrix_of(j);
    if (tiles_fit(j, &m, height, transposed)) {
        const struct direction d = tall_direction(j, &m, height);
        if (fpl_cuda_failed(j->dev)) return;
        FPL_LAUNCH((quantize_tile<Out, 0>), tile_grid(&m, j->matrices), dim3(THREADS), 0, j->dev, m, d, d,
                   transposed, j->x, (float *)NULL, out);
        return;
    }
    const struct direction d = direction_of(j, height != 0);
    const int64_t lines = height != 0 ? height : 64;
    const int64_t line_step = transposed ? 1 : m.width, column_step = transposed ? m.lines : 1;
    FPL_LAUNCH(quantize_columns<Out>,
               dim3(fpl_cuda_blocks(m.width, 128), fpl_cuda_blocks(m.lines, lines), (unsigned)j->matrices),
               dim3(128), 0, j->dev, m, lines, d, j->x, line_step, column_step, out);
}

void fpl_cuda_quantize_down(const struct fpl_cuda_job *j, int64_t height, int transposed) {
    if (fpl_cuda_carrier_bytes(j->carrier) == 2)
        launch(j, height, transposed, fpl_narrow_out(j->out, j->carrier));
    else
        launch(j, height, transposed, (float *)j->out);
}

/* `down` as a way gets it: its view turned to memory. */
static struct fpl_cuda_job turned(const struct fpl_cuda_job *down) {
    struct fpl_cuda_job j = *down;
    j.view.rows = down->view.cols;
    j.view.cols = down->view.rows;
    j.view.row_stride = down->view.col_stride;
    j.view.col_stride = 1;
    return j;
}

int fpl_cuda_can_pair(const struct fpl_cuda_job *within, const struct fpl_cuda_job *down) {
    const struct fpl_cuda_job j = turned(down);
    const struct matrix m = matrix_of(&j);
    int64_t rows, cols, down_rows, height;
    fpl_cuda_group_of(within, &rows, &cols);
    fpl_cuda_group_of(down, &down_rows, &height);
    return rows == 1 && (cols == 0 || cols == 16 || cols == 32) && down_rows == 1 &&
           tiles_fit(&j, &m, height, 1) && (uintptr_t)within->out % 16 == 0;
}

void fpl_cuda_pair(const struct fpl_cuda_job *within, const struct fpl_cuda_job *down) {
    const struct fpl_cuda_job j = turned(down);
    const struct matrix m = matrix_of(&j);
    int64_t rows, cols, down_rows, height;
    fpl_cuda_group_of(within, &rows, &cols);
    fpl_cuda_group_of(down, &down_rows, &height);
    const struct direction a = direction_of(within, cols), b = tall_direction(&j, &m, height);
    if (fpl_cuda_failed(j.dev)) return;
    FPL_LAUNCH((quantize_tile<float *, 1>), tile_grid(&m, j.matrices), dim3(THREADS), 0, j.dev, m, a, b, 1,
               j.x, (float *)within->out, (float *)j.out);
}
