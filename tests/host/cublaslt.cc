/* cublaslt.cc - the calls of cuBLASLt that fplaw makes, served by the host.
 *
 * Same layouts, types, batches and errors as the library's, as its documentation states them: column-major
 * matrices, ld >= rows, operands of one type (FP8 aside), FP8 as TN with multiples of 16, workspace and
 * operands aligned as the preferences promised, an algorithm only for the problem that it was given out for.
 * The list of algorithms begins with what a caller must pass over: one that splits the reduction (where the
 * mask allows it), one that failed, one that takes no batches.
 *
 * Each element is one chain of fused multiply-adds in increasing k from +0, then alpha sum + beta C: any
 * order is as good as another.  A tf32 operand with more than ten mantissa bits ends the program: the matrix
 * unit would drop them.
 */
#include "cublaslt_abi.h"

#include <stdio.h>
#include <stdlib.h>

#include <vector>

enum { NOT_INITIALIZED = 1, MAGIC = 0x4c54 };

struct fpl_lt_context {
    int magic;
};
struct fpl_lt_opaque_desc {
    int compute;
    int32_t op[2];
    int8_t fast;
};
struct fpl_lt_opaque_layout {
    int type;
    uint64_t rows, cols;
    int64_t ld, next;
    int32_t count;
};
struct fpl_lt_opaque_preference {
    uint64_t workspace;
    uint32_t schemes, alignment[4];
};

/* What an algorithm remembers: data[0] magic and kind, [1] the problem, [2] workspace, [3] alignments. */
enum kind { GOOD, SPLITS, UNBATCHED, FAILED };

static size_t version(void) { return 139900; }
static const char *status_name(fpl_lt_status s) {
    return s == FPL_LT_SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : s == FPL_LT_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                       : "CUBLAS_STATUS_INVALID_VALUE";
}
static fpl_lt_status create(fpl_lt_handle *h) {
    *h = new fpl_lt_context{MAGIC};
    return FPL_LT_SUCCESS;
}
static fpl_lt_status destroy(fpl_lt_handle h) {
    delete h;
    return FPL_LT_SUCCESS;
}

/* ---- descriptions ---------------------------------------------------------------------------------------
 */

static fpl_lt_status desc_create(fpl_lt_desc *d, int compute, int scale) {
    if (scale != FPL_LT_R_32F) return FPL_LT_INVALID_VALUE;
    *d = new fpl_lt_opaque_desc{compute, {FPL_LT_OP_N, FPL_LT_OP_N}, 0};
    return FPL_LT_SUCCESS;
}
static fpl_lt_status desc_destroy(fpl_lt_desc d) {
    delete d;
    return FPL_LT_SUCCESS;
}
template <typename T> static fpl_lt_status take(T *to, const void *value, size_t bytes) {
    if (bytes != sizeof *to) return FPL_LT_INVALID_VALUE;
    memcpy(to, value, bytes);
    return FPL_LT_SUCCESS;
}
static fpl_lt_status desc_set(fpl_lt_desc d, int attribute, const void *value, size_t bytes) {
    if (attribute == FPL_LT_DESC_TRANSA) return take(&d->op[0], value, bytes);
    if (attribute == FPL_LT_DESC_TRANSB) return take(&d->op[1], value, bytes);
    if (attribute == FPL_LT_DESC_FAST_ACCUM) return take(&d->fast, value, bytes);
    return FPL_LT_INVALID_VALUE;
}

static int bytes_of(int type) {
    return type == FPL_LT_R_32F                                   ? 4
           : type == FPL_LT_R_16F || type == FPL_LT_R_16BF        ? 2
           : type == FPL_LT_R_8F_E4M3 || type == FPL_LT_R_8F_E5M2 ? 1
                                                                  : 0;
}
static fpl_lt_status layout_create(fpl_lt_layout *l, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (bytes_of(type) == 0 || rows == 0 || cols == 0 || ld < static_cast<int64_t>(rows))
        return FPL_LT_INVALID_VALUE;
    *l = new fpl_lt_opaque_layout{type, rows, cols, ld, 0, 1};
    return FPL_LT_SUCCESS;
}
static fpl_lt_status layout_destroy(fpl_lt_layout l) {
    delete l;
    return FPL_LT_SUCCESS;
}
static fpl_lt_status layout_set(fpl_lt_layout l, int attribute, const void *value, size_t bytes) {
    if (attribute == FPL_LT_LAYOUT_BATCH_COUNT) return take(&l->count, value, bytes);
    if (attribute == FPL_LT_LAYOUT_STRIDED_BATCH_OFFSET) return take(&l->next, value, bytes);
    return FPL_LT_INVALID_VALUE;
}
static fpl_lt_status preference_create(fpl_lt_preference *p) {
    *p = new fpl_lt_opaque_preference{0, 7, {256, 256, 256, 256}};
    return FPL_LT_SUCCESS;
}
static fpl_lt_status preference_destroy(fpl_lt_preference p) {
    delete p;
    return FPL_LT_SUCCESS;
}
static fpl_lt_status preference_set(fpl_lt_preference p, int attribute, const void *value, size_t bytes) {
    if (attribute == FPL_LT_PREF_MAX_WORKSPACE_BYTES) return take(&p->workspace, value, bytes);
    if (attribute == FPL_LT_PREF_REDUCTION_SCHEME_MASK) return take(&p->schemes, value, bytes);
    if (attribute >= FPL_LT_PREF_MIN_ALIGNMENT_A_BYTES && attribute <= FPL_LT_PREF_MIN_ALIGNMENT_D_BYTES)
        return take(&p->alignment[attribute - FPL_LT_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
    return FPL_LT_INVALID_VALUE;
}

/* ---- problems
 * ---------------------------------------------------------------------------------------------- */

struct problem {
    uint64_t m, n, k;
    fpl_lt_desc d;
    fpl_lt_layout a, b, c;
};

static int is_fp8(int type) { return type == FPL_LT_R_8F_E4M3 || type == FPL_LT_R_8F_E5M2; }

/* Which types and computations the library has (float results, float alpha). */
static int has_types(const problem &p) {
    const int a = p.a->type, b = p.b->type, compute = p.d->compute;
    if (p.c->type != FPL_LT_R_32F) return 0;
    if (is_fp8(a) && is_fp8(b))
        return compute == FPL_LT_COMPUTE_32F && !(a == FPL_LT_R_8F_E5M2 && b == FPL_LT_R_8F_E5M2) &&
               p.d->op[0] == FPL_LT_OP_T && p.d->op[1] == FPL_LT_OP_N && p.m % 16 == 0 && p.k % 16 == 0 &&
               p.n % 8 == 0;
    if (a != b || p.d->fast) return 0;
    if (a == FPL_LT_R_32F)
        return compute == FPL_LT_COMPUTE_32F || compute == FPL_LT_COMPUTE_32F_PEDANTIC ||
               compute == FPL_LT_COMPUTE_32F_FAST_TF32;
    return compute == FPL_LT_COMPUTE_32F;
}

static fpl_lt_status problem_of(fpl_lt_desc d, fpl_lt_layout a, fpl_lt_layout b, fpl_lt_layout c,
                                fpl_lt_layout out, problem *p) {
    const int ta = d->op[0] == FPL_LT_OP_T, tb = d->op[1] == FPL_LT_OP_T;
    *p = {c->rows, c->cols, ta ? a->rows : a->cols, d, a, b, c};
    if (out->rows != c->rows || out->cols != c->cols || out->ld != c->ld || out->type != c->type ||
        out->next != c->next || out->count != c->count)
        return FPL_LT_INVALID_VALUE;
    if ((ta ? a->cols : a->rows) != p->m || (tb ? b->rows : b->cols) != p->n ||
        (tb ? b->cols : b->rows) != p->k || a->count != c->count || b->count != c->count)
        return FPL_LT_INVALID_VALUE;
    return has_types(*p) ? FPL_LT_SUCCESS : FPL_LT_NOT_SUPPORTED;
}

/* All that an algorithm may depend on: not the batch. */
static uint64_t digest(const problem &p) {
    const uint64_t words[] = {p.m,
                              p.n,
                              p.k,
                              static_cast<uint64_t>(p.d->compute),
                              static_cast<uint64_t>(p.d->op[0] * 2 + p.d->op[1]),
                              static_cast<uint64_t>(p.a->type * 256 + p.b->type),
                              static_cast<uint64_t>(p.a->ld),
                              static_cast<uint64_t>(p.b->ld),
                              static_cast<uint64_t>(p.c->ld)};
    uint64_t h = 0xcbf29ce484222325u;
    for (uint64_t w : words) h = (h ^ w) * 0x100000001b3u;
    return h;
}

/* Leading dimensions and strides of batches must keep the promised alignment. */
static int keeps(const fpl_lt_layout l, uint32_t alignment) {
    const int64_t bytes = bytes_of(l->type);
    return alignment >= 1 && (alignment & (alignment - 1)) == 0 && l->ld * bytes % alignment == 0 &&
           l->next * bytes % alignment == 0;
}

static fpl_lt_status heuristic(fpl_lt_handle h, fpl_lt_desc d, fpl_lt_layout a, fpl_lt_layout b,
                               fpl_lt_layout c, fpl_lt_layout out, fpl_lt_preference pref, int wanted,
                               struct fpl_lt_heuristic *results, int *found) {
    problem p;
    *found = 0;
    if (h == nullptr || h->magic != MAGIC) return NOT_INITIALIZED;
    const fpl_lt_status s = problem_of(d, a, b, c, out, &p);
    if (s != FPL_LT_SUCCESS) return s;
    if (!keeps(a, pref->alignment[0]) || !keeps(b, pref->alignment[1]) || !keeps(c, pref->alignment[2]) ||
        pref->alignment[2] != pref->alignment[3])
        return FPL_LT_NOT_SUPPORTED;
    const uint64_t alignments = pref->alignment[0] | static_cast<uint64_t>(pref->alignment[1]) << 16 |
                                static_cast<uint64_t>(pref->alignment[2]) << 32;
    const kind kinds[] = {SPLITS, FAILED, UNBATCHED, GOOD};
    for (int i = 0; i < 4 && *found < wanted; i++) {
        if (kinds[i] == SPLITS && pref->schemes == 0) continue;
        fpl_lt_heuristic *r = &results[(*found)++];
        memset(r, 0, sizeof *r);
        r->algorithm = {
            {static_cast<uint64_t>(MAGIC << 8 | kinds[i]), digest(p), 1 << 16, alignments, 0, 0, 0, 0}};
        r->workspace = 1 << 16;
        r->state = kinds[i] == FAILED ? FPL_LT_NOT_SUPPORTED : FPL_LT_SUCCESS;
        if (r->workspace > pref->workspace) (*found)--;
    }
    return *found > 0 ? FPL_LT_SUCCESS : FPL_LT_NOT_SUPPORTED;
}

template <typename T> static fpl_lt_status give(T v, void *value, size_t bytes, size_t *written) {
    if (bytes != sizeof v) return FPL_LT_INVALID_VALUE;
    memcpy(value, &v, bytes);
    *written = bytes;
    return FPL_LT_SUCCESS;
}
static int kind_of(const fpl_lt_algorithm *g) { return static_cast<int>(g->data[0] & 255); }
static fpl_lt_status config_get(const fpl_lt_algorithm *g, int attribute, void *value, size_t bytes,
                                size_t *written) {
    const int splits = kind_of(g) == SPLITS;
    if (attribute == FPL_LT_ALGO_CONFIG_ID) return give<int32_t>(kind_of(g), value, bytes, written);
    if (attribute == FPL_LT_ALGO_CONFIG_SPLITK_NUM)
        return give<int32_t>(splits ? 4 : 1, value, bytes, written);
    if (attribute == FPL_LT_ALGO_CONFIG_REDUCTION_SCHEME)
        return give<uint32_t>(splits ? 2 : 0, value, bytes, written);
    return FPL_LT_INVALID_VALUE;
}
static fpl_lt_status cap_get(const fpl_lt_algorithm *g, int attribute, void *value, size_t bytes,
                             size_t *written) {
    if (attribute != FPL_LT_ALGO_CAP_STRIDED_BATCH_SUPPORT) return FPL_LT_INVALID_VALUE;
    return give<int32_t>(kind_of(g) != UNBATCHED, value, bytes, written);
}

/* ---- products ---------------------------------------------------------------------------------------------
 */

static float half_of(uint16_t u) {
    const int e = u >> 10 & 31, f = u & 1023;
    const double v = e == 31 ? (f != 0 ? static_cast<double>(NAN) : static_cast<double>(INFINITY))
                     : e > 0 ? ldexp(1024 + f, e - 25)
                             : ldexp(f, -24);
    return static_cast<float>(u >> 15 ? -v : v);
}
static float eighth_of(uint8_t u, int e5m2) {
    const int m = e5m2 ? 2 : 3, e = (u & 127) >> m, f = u & ((1 << m) - 1), bias = e5m2 ? 15 : 7;
    double v = e > 0 ? ldexp((1 << m) + f, e - bias - m) : ldexp(f, 1 - bias - m);
    if (e5m2 && e == 31) v = static_cast<double>(f != 0 ? NAN : INFINITY);
    if (!e5m2 && (u & 127) == 127) v = static_cast<double>(NAN);
    return static_cast<float>(u >> 7 ? -v : v);
}
static float element(const void *data, int type, int64_t at) {
    if (type == FPL_LT_R_16F) return half_of(static_cast<const uint16_t *>(data)[at]);
    if (type == FPL_LT_R_16BF)
        return __uint_as_float(static_cast<unsigned>(static_cast<const uint16_t *>(data)[at]) << 16);
    if (is_fp8(type)) return eighth_of(static_cast<const uint8_t *>(data)[at], type == FPL_LT_R_8F_E5M2);
    return static_cast<const float *>(data)[at];
}

struct operand {
    const void *data;
    fpl_lt_opaque_layout l;
    int transposed, tf32, along_rows; /* along_rows: the reduction runs over op(X)'s rows */
};

/* Matrix z as [columns or rows of the result][k]. */
static std::vector<float> lines(const operand &x, int64_t z, int64_t count, int64_t k) {
    std::vector<float> to(static_cast<size_t>(count * k));
    for (int64_t i = 0; i < count; i++)
        for (int64_t l = 0; l < k; l++) {
            const bool within = x.transposed != x.along_rows; /* a column of memory holds one sum's terms */
            const float v =
                element(x.data, x.l.type, z * x.l.next + (within ? i : l) * x.l.ld + (within ? l : i));
            if (x.tf32 && v == v && (__float_as_uint(v) & 0x1fffu) != 0)
                fpl_host_fail("a tf32 operand has more than 10 mantissa bits");
            to[static_cast<size_t>(i * k + l)] = v;
        }
    return to;
}

static void run(const operand &a, const operand &b, fpl_lt_opaque_layout c, int64_t k, float alpha,
                float beta, const float *old, float *out) {
    const int64_t m = static_cast<int64_t>(c.rows), n = static_cast<int64_t>(c.cols);
    for (int64_t z = 0; z < c.count; z++) {
        const std::vector<float> first = lines(a, z, m, k), second = lines(b, z, n, k);
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                const float *x = &first[static_cast<size_t>(i * k)], *y = &second[static_cast<size_t>(j * k)];
                const int64_t at = z * c.next + j * c.ld + i;
                float sum = 0.0f;
                for (int64_t l = k; l-- > 0;) sum = fmaf(x[l], y[l], sum);
                out[at] = beta == 0.0f ? alpha * sum : alpha * sum + beta * old[at];
            }
    }
}

static int aligned(const void *p, uint64_t to) { return (reinterpret_cast<uintptr_t>(p) & (to - 1)) == 0; }

static fpl_lt_status matmul(fpl_lt_handle h, fpl_lt_desc d, const void *alpha, const void *a,
                            fpl_lt_layout la, const void *b, fpl_lt_layout lb, const void *beta,
                            const void *c, fpl_lt_layout lc, void *out, fpl_lt_layout lout,
                            const struct fpl_lt_algorithm *g, void *workspace, size_t bytes,
                            cudaStream_t stream) {
    problem p;
    if (h == nullptr || h->magic != MAGIC) return NOT_INITIALIZED;
    const fpl_lt_status s = problem_of(d, la, lb, lc, lout, &p);
    if (s != FPL_LT_SUCCESS) return s;
    if (g->data[0] >> 8 != MAGIC || g->data[1] != digest(p) || bytes < g->data[2] || workspace == nullptr)
        return FPL_LT_INVALID_VALUE;
    if (kind_of(g) == FAILED || (kind_of(g) == UNBATCHED && lc->count > 1)) return FPL_LT_NOT_SUPPORTED;
    const uint64_t ta = g->data[3] & 65535, tb = g->data[3] >> 16 & 65535, tc = g->data[3] >> 32;
    if (!aligned(a, ta) || !aligned(b, tb) || !aligned(c, tc) || !aligned(out, tc) ||
        !aligned(workspace, 256) || !keeps(la, static_cast<uint32_t>(ta)) ||
        !keeps(lb, static_cast<uint32_t>(tb)) || !keeps(lc, static_cast<uint32_t>(tc)))
        return FPL_LT_INVALID_VALUE;
    const int tf32 = d->compute == FPL_LT_COMPUTE_32F_FAST_TF32;
    const operand first = {a, *la, d->op[0] == FPL_LT_OP_T, tf32, 0},
                  second = {b, *lb, d->op[1] == FPL_LT_OP_T, tf32, 1};
    const float x = *static_cast<const float *>(alpha), y = *static_cast<const float *>(beta);
    const fpl_lt_opaque_layout result = *lc;
    fpl_host_counting()->products++;
    fpl_host_enqueue(stream, [=]() {
        run(first, second, result, static_cast<int64_t>(p.k), x, y, static_cast<const float *>(c),
            static_cast<float *>(out));
    });
    return FPL_LT_SUCCESS;
}

void *fpl_host_cublaslt(const char *name) {
#define SERVE(field, real, result, arguments)                                                                \
    if (strcmp(name, #real) == 0) return reinterpret_cast<void *>(field);
    FPL_LT_CALLS(SERVE)
#undef SERVE
    return nullptr;
}
