/* attention_quantized.c - attention whose products see quantized operands.
 *
 * Meaning and order of operations: struct fpl_attention, kernels.h.  An operand is copied out
 * of its head, row-major and without gaps, [T, D] or [T, T], quantized there in place (the
 * transposed views of backward products cost nothing), and laid out in blocks for the same
 * block products as the plain form (attention.c).  P and dS are made whole before they are
 * quantized, because groups may span any rows; so a head takes two passes over its tiles.
 *
 * Order of sums: as in the plain form, and an element of out is one chain of fused
 * multiply-adds over the keys of Q(P) Q(v), not normalised afterwards.
 *
 * A head is one thread's.  Its scratch, in floats: panel matrices (Tp Dp), `plain` (T D or T T),
 * dS (T T), a square with padded rows (Tp Tp), one tile.
 */
#include "attention.h"
#include "diagnose.h"
#include "operand.h"
#include "quantize.h"

enum { FORWARD_SLOTS = FPL_ATTN_OUT_V + 1 };

static const struct fpl_operand *operand_of(const struct attention *p, int slot, int replica) {
    const struct fpl_operand *q = p->quantized->slot[slot];
    return q == NULL || operand_is_identity(&q[replica]) ? NULL : &q[replica];
}

int FPL_VEC(attention_is_quantized)(const struct attention *p, int replica, int backward) {
    if (p->quantized == NULL) return 0;
    const int first = backward ? FORWARD_SLOTS : 0, end = backward ? FPL_ATTN_SLOTS : FORWARD_SLOTS;
    for (int slot = first; slot < end; slot++)
        if (operand_of(p, slot, replica) != NULL) return 1;
    return 0;
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

int64_t FPL_VEC(attention_quantized_room)(const struct attention *p, int backward) {
    const int64_t panel = p->Tp * p->Dp, square = p->Tp * p->Tp, plain = most(panel, square);
    const int64_t tiles = 16 * p->Tp + 16 * p->Dp;
    return (backward ? 4 : 3) * panel + plain + (backward ? 2 : 0) * square + tiles;
}

/* ---- operands ----------------------------------------------------------------------------------- */

/* The head that a thread works on. */
struct head {
    const struct attention *p;
    int replica;
    uint64_t number; /* sequence of the step * H + head */
};

static struct head head_of(const struct attention *p, int64_t index) {
    const int64_t sequence = index / p->H;
    return (struct head){
        .p = p,
        .replica = (int)(sequence / p->B),
        .number = (uint64_t)((p->quantized->first_sequence + sequence % p->B) * p->H + index % p->H)};
}

/* Quantize x[lines, width] in place; along_lines: the reduction axis runs over lines. */
static void quantize_whole(const struct head *h, int slot, int64_t lines, int64_t width, int along_lines,
                           float *x) {
    const struct fpl_attention *a = h->p->quantized;
    const struct fpl_operand *q = operand_of(h->p, slot, h->replica);
    if (q == NULL) return;
    struct fpl_device alone = {.threads = 1};
    struct fpl_random_at at = q->at;
    at.element = h->number * (uint64_t)(lines * width);
    const struct fpl_quantizer_plan plan = operand_plan(q);
    const int R = h->p->replicas;
    if (a->diagnosis != NULL)
        FPL_VEC(diagnose_matrix)
        (h->p->dev, &plan, &at, lines, width, along_lines, x, &a->diagnosis[slot * R + h->replica]);
    operand_observe(q, lines, width, width, x);
    const int64_t bad =
        FPL_VEC(quantize_matrix)(&alone, &plan, &at, along_lines ? width : lines, along_lines ? lines : width,
                                 along_lines ? 1 : width, along_lines ? width : 1, x, x);
    if (bad != 0 && a->nonfinite != NULL && !plan.identity)
        __atomic_fetch_add(&a->nonfinite[h->replica], bad, __ATOMIC_RELAXED);
}

/* to[T, D]: rows of a head inside wider rows, quantized. */
static void take(const struct head *h, int slot, int along_lines, const float *from, int64_t from_row,
                 float *to) {
    const int64_t T = h->p->T, D = h->p->D;
    for (int64_t t = 0; t < T; t++) memcpy(to + t * D, from + t * from_row, (size_t)D * sizeof *to);
    quantize_whole(h, slot, T, D, along_lines, to);
}

/* x[T, T] with rows padded to Tp and, below, zeros up to Tp rows: x itself where nothing is to
 * be padded. */
static const float *padded_square(const struct attention *p, const float *x, float *room) {
    const int64_t T = p->T, Tp = p->Tp;
    if (T == Tp) return x;
    memset(room, 0, (size_t)(Tp * Tp) * sizeof *room);
    for (int64_t i = 0; i < T; i++) memcpy(room + i * Tp, x + i * T, (size_t)T * sizeof *room);
    return room;
}

/* Tile i0 of a padded square as blocks [blocks][16][16]. */
static void tile_of(const struct attention *p, const float *square, int64_t i0, float *tile) {
    for (int64_t j = 0; j <= i0; j += 16, tile += 256)
        for (int64_t r = 0; r < 16; r++) copy_16(square + (i0 + r) * p->Tp + j, tile + r * 16);
}

/* ---- forward ------------------------------------------------------------------------------------ */

/* probs[T, T] from panels q and transposed kt. */
static void probabilities(const struct attention *p, const float *q, const float *kt, float *tile,
                          float *probs) {
    float inverse[ROWS];
    for (int64_t i0 = 0; i0 < p->T; i0 += 16) {
        const int64_t blocks = i0 / 16 + 1;
        for (int64_t j = 0; j < blocks; j++)
            block_scores(p->D, q + i0 * 16, p->Tp * 16, kt + j * 16 * p->Dp, tile + j * 256);
        softmax_tile(p->scale, blocks, tile, inverse);
        store_probs(p->T, i0, tile, inverse, probs);
    }
}

void FPL_VEC(attention_quantized_forward)(const struct attention *p, int64_t index, int thread) {
    const struct head h = head_of(p, index);
    const int64_t T = p->T, D = p->D, C = p->C, size = p->Tp * p->Dp, sequence = index / p->H;
    float *q = p->work + thread * p->work_size, *kt = q + size, *v = kt + size, *plain = v + size;
    float *tile = plain + most(size, p->Tp * p->Tp), *o = tile + 16 * p->Tp;
    float *qkv = p->qkv_out + sequence * T * 3 * C + index % p->H * D;
    float *probs = p->probs + index * T * T, *out = p->out + sequence * T * C + index % p->H * D;
    for (int64_t t = 0; t < T; t++) {
        float *x = qkv + t * 3 * C;
        const float *cosine = p->cosines + t * (D / 2), *sine = p->sines + t * (D / 2);
        rotate(D, cosine, sine, x, x);
        rotate(D, cosine, sine, x + C, x + C);
    }
    take(&h, FPL_ATTN_S_K, 0, qkv + C, 3 * C, plain);
    transpose_in(p, plain, D, v, kt);
    take(&h, FPL_ATTN_S_Q, 0, qkv, 3 * C, plain);
    copy_in(p, plain, D, q);
    probabilities(p, q, kt, tile, probs);
    take(&h, FPL_ATTN_OUT_V, 1, qkv + 2 * C, 3 * C, plain);
    copy_in(p, plain, D, v);
    memcpy(plain, probs, (size_t)(T * T) * sizeof *plain);
    quantize_whole(&h, FPL_ATTN_OUT_P, T, T, 0, plain);
    for (int64_t i0 = 0; i0 < T; i0 += 16) {
        const int64_t rows = smaller(16, T - i0);
        memset(tile, 0, (size_t)(16 * p->Tp) * sizeof *tile);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < T && j < i0 + 16; j += 16)
                memcpy(tile + j * 16 + r * 16, plain + (i0 + r) * T + j,
                       (size_t)smaller(16, T - j) * sizeof *tile);
        for (int64_t d = 0; d < p->Dp; d += 16) block_weighted(i0 / 16 + 1, tile, v + d * p->Tp, o + d * 16);
        copy_out(p, o, 256, i0, out + i0 * C, C);
    }
}

/* ---- backward ----------------------------------------------------------------------------------- */

/* dS[T, T] from panels of dout and transposed v; zero above the diagonal. */
static void score_gradients(const struct attention *p, const float *d, const float *vt, const float *probs,
                            float *square, float *tile, float *dS) {
    const int64_t T = p->T, Tp = p->Tp;
    const float *P = padded_square(p, probs, square);
    memset(dS, 0, (size_t)(T * T) * sizeof *dS);
    for (int64_t i0 = 0; i0 < T; i0 += 16) {
        const int64_t blocks = i0 / 16 + 1, rows = smaller(16, T - i0);
        for (int64_t j = 0; j < blocks; j++)
            block_scores(p->D, d + i0 * 16, Tp * 16, vt + j * 16 * p->Dp, tile + j * 256);
        softmax_backward_tile(blocks, P + i0 * Tp, Tp, tile);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j <= i0 + r; j++) dS[(i0 + r) * T + j] = tile[j / 16 * 256 + r * 16 + j % 16];
    }
}

/* Panels [T, D] = a^T b for a padded lower triangular square a and panels b. */
static void transposed_product(const struct attention *p, const float *a, const float *b, float *out) {
    const int64_t Tp = p->Tp;
    for (int64_t i0 = 0; i0 < p->T; i0 += 16)
        for (int64_t c = 0; c < p->Dp; c += 16) {
            const float *y = b + c * Tp + i0 * 16;
            for (int64_t j = 0; j < i0; j += 16)
                block_add_transposed(a + i0 * Tp + j, Tp, y, out + c * Tp + j * 16);
            block_set_transposed(a + i0 * Tp + i0, Tp, y, out + c * Tp + i0 * 16);
        }
}

void FPL_VEC(attention_quantized_backward)(const struct attention *p, int64_t index, int thread) {
    const struct head h = head_of(p, index);
    const int64_t T = p->T, D = p->D, C = p->C, Tp = p->Tp, size = Tp * p->Dp, sequence = index / p->H;
    const size_t whole = (size_t)(T * T) * sizeof(float);
    float *a = p->work + thread * p->work_size, *b = a + size, *c = b + size, *spare = c + size;
    float *plain = spare + size, *dS = plain + most(size, Tp * Tp), *square = dS + Tp * Tp;
    float *tile = square + Tp * Tp, *dq = tile + 16 * Tp;
    const float *qkv = p->qkv + sequence * T * 3 * C + index % p->H * D;
    const float *dout = p->dout + sequence * T * C + index % p->H * D, *probs = p->probs_in + index * T * T;
    float *dqkv = p->dqkv + sequence * T * 3 * C + index % p->H * D;

    take(&h, FPL_ATTN_DP_DOUT, 0, dout, C, plain);
    copy_in(p, plain, D, a);
    take(&h, FPL_ATTN_DP_V, 0, qkv + 2 * C, 3 * C, plain);
    transpose_in(p, plain, D, spare, b);
    score_gradients(p, a, b, probs, square, tile, dS);

    take(&h, FPL_ATTN_DV_DOUT, 1, dout, C, plain);
    copy_in(p, plain, D, a);
    memcpy(plain, probs, whole);
    quantize_whole(&h, FPL_ATTN_DV_P, T, T, 1, plain);
    transposed_product(p, padded_square(p, plain, square), a, c);
    for (int64_t t = 0; t < T; t += 16) copy_out(p, c + t * 16, Tp * 16, t, dqkv + t * 3 * C + 2 * C, 3 * C);

    take(&h, FPL_ATTN_DK_Q, 1, qkv, 3 * C, plain);
    copy_in(p, plain, D, a);
    memcpy(plain, dS, whole);
    quantize_whole(&h, FPL_ATTN_DK_DS, T, T, 1, plain);
    transposed_product(p, padded_square(p, plain, square), a, c);
    for (int64_t t = 0; t < T; t += 16) rotate_out(p, c + t * 16, Tp * 16, t, dqkv + t * 3 * C + C);

    take(&h, FPL_ATTN_DQ_K, 1, qkv + C, 3 * C, plain);
    copy_in(p, plain, D, a);
    quantize_whole(&h, FPL_ATTN_DQ_DS, T, T, 0, dS);
    const float *rows = padded_square(p, dS, square);
    for (int64_t i0 = 0; i0 < T; i0 += 16) {
        tile_of(p, rows, i0, tile);
        for (int64_t d = 0; d < p->Dp; d += 16) block_weighted(i0 / 16 + 1, tile, a + d * Tp, dq + d * 16);
        rotate_out(p, dq, 256, i0, dqkv + i0 * 3 * C);
    }
}
