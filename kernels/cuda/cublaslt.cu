/* cublaslt.cu - one algorithm for each shape, and its runs (cublaslt.h).
 *
 * cuBLASLt is column-major: C = A B of row-major matrices is C' = B' A', so its first operand is ours of
 * columns, B, its second A.  An operand whose reduction index is contiguous goes in transposed.
 *
 *   ours                        first (of B)            second (of A)
 *   row-major along k           op T, [K, N], ld b.col  op N, [K, M], ld a.row
 *   contiguous across k         op N, [N, K], ld b.row  op T, [M, K], ld a.col
 */
#include "cublaslt.h"

#include "work.h"

#include <stdlib.h>
#include <string.h>

/* 32 MiB is what NVIDIA advises for Hopper; tests count the bytes of small devices. */
enum { WORKSPACE = FPL_HOST_EXECUTION ? 1 << 16 : 32 << 20, CANDIDATES = 32, MOST_MATRICES = 65535 };

struct key {
    int64_t M, N, K, a_row, a_col, b_row, b_col, c_row, a_next, b_next, c_next, align;
    int64_t carrier; /* of that width too: no padding */
};

struct plan {
    struct key key;
    int usable;
    fpl_lt_desc desc;
    fpl_lt_layout first, second, result;
    struct fpl_lt_algorithm algorithm;
};

struct fpl_cuda_lt {
    const struct fpl_lt *call;
    fpl_lt_handle handle;
    void *workspace;
    struct plan *plan;
    int count, room;
};

/* ---- device ---------------------------------------------------------------------------------------- */

static int ok(struct fpl_device *dev, fpl_lt_status status, const char *what) {
    if (status == FPL_LT_SUCCESS) return 1;
    if (dev->error.code == FPL_OK)
        fpl_fail(&dev->error, FPL_SYSTEM, "cuda: %s: %s", what, dev->lt->call->status_name(status));
    return 0;
}

static void out_of_memory(struct fpl_device *dev) {
    if (!fpl_cuda_failed(dev)) fpl_fail(&dev->error, FPL_SYSTEM, "cuda: out of host memory");
}

void fpl_cuda_lt_open(struct fpl_device *dev) {
    const struct fpl_lt_library *l = fpl_lt_library();
    if (l->failed) fpl_fail(&dev->error, FPL_SYSTEM, "FPLAW_CUBLASLT: %s", l->why);
    if (!l->found) return;
    dev->lt = (struct fpl_cuda_lt *)calloc(1, sizeof *dev->lt);
    if (dev->lt == NULL) {
        out_of_memory(dev);
        return;
    }
    dev->lt->call = &l->call;
    if (!ok(dev, l->call.create(&dev->lt->handle), "starting cuBLASLt")) return;
    dev->lt->workspace = fpl_cuda_alloc(dev, WORKSPACE);
}

static void free_plan(const struct fpl_lt *call, struct plan *p) {
    if (p->desc != NULL) (void)call->desc_destroy(p->desc);
    if (p->first != NULL) (void)call->layout_destroy(p->first);
    if (p->second != NULL) (void)call->layout_destroy(p->second);
    if (p->result != NULL) (void)call->layout_destroy(p->result);
}

void fpl_cuda_lt_close(struct fpl_device *dev) {
    struct fpl_cuda_lt *lt = dev->lt;
    if (lt == NULL) return;
    for (int i = 0; i < lt->count; i++) free_plan(lt->call, &lt->plan[i]);
    free(lt->plan);
    (void)cudaFree(lt->workspace);
    if (lt->handle != NULL) (void)lt->call->destroy(lt->handle);
    free(lt);
    dev->lt = NULL;
}

/* ---- algorithms ------------------------------------------------------------------------------------- */

static int type_of(int64_t carrier) {
    return carrier == FPL_CARRIER_BF16   ? FPL_LT_R_16BF
           : carrier == FPL_CARRIER_FP16 ? FPL_LT_R_16F
                                         : FPL_LT_R_32F;
}

static int compute_of(int64_t carrier) {
    return carrier == FPL_CARRIER_FP32   ? FPL_LT_COMPUTE_32F_PEDANTIC
           : carrier == FPL_CARRIER_TF32 ? FPL_LT_COMPUTE_32F_FAST_TF32
                                         : FPL_LT_COMPUTE_32F;
}

static fpl_lt_status make_layout(const struct fpl_lt *call, fpl_lt_layout *out, int type, int64_t rows,
                                 int64_t cols, int64_t ld, int64_t next) {
    /* A matrix of one column has any stride between columns; the library asks for this much. */
    const int64_t stride = ld < rows ? rows : ld;
    const fpl_lt_status status = call->layout_create(out, type, (uint64_t)rows, (uint64_t)cols, stride);
    if (status != FPL_LT_SUCCESS) return status;
    return call->layout_set(*out, FPL_LT_LAYOUT_STRIDED_BATCH_OFFSET, &next, sizeof next);
}

static fpl_lt_status describe(const struct fpl_lt *call, const struct key *k, struct plan *p) {
    const int type = type_of(k->carrier), b_along = k->b_row == 1, a_along = k->a_col == 1;
    const int32_t op_b = b_along ? FPL_LT_OP_T : FPL_LT_OP_N, op_a = a_along ? FPL_LT_OP_N : FPL_LT_OP_T;
    fpl_lt_status s = call->desc_create(&p->desc, compute_of(k->carrier), FPL_LT_R_32F);
    if (s == FPL_LT_SUCCESS) s = call->desc_set(p->desc, FPL_LT_DESC_TRANSA, &op_b, sizeof op_b);
    if (s == FPL_LT_SUCCESS) s = call->desc_set(p->desc, FPL_LT_DESC_TRANSB, &op_a, sizeof op_a);
    if (s == FPL_LT_SUCCESS)
        s = b_along ? make_layout(call, &p->first, type, k->K, k->N, k->b_col, k->b_next)
                    : make_layout(call, &p->first, type, k->N, k->K, k->b_row, k->b_next);
    if (s == FPL_LT_SUCCESS)
        s = a_along ? make_layout(call, &p->second, type, k->K, k->M, k->a_row, k->a_next)
                    : make_layout(call, &p->second, type, k->M, k->K, k->a_col, k->a_next);
    if (s == FPL_LT_SUCCESS) s = make_layout(call, &p->result, FPL_LT_R_32F, k->N, k->M, k->c_row, k->c_next);
    return s;
}

/* What the shape implies for every matrix of every pack. */
static uint32_t alignment(int64_t elements, size_t bytes) {
    const int64_t a = elements * (int64_t)bytes;
    return a >= 16 ? 16 : (uint32_t)a;
}

static fpl_lt_status prefer(const struct fpl_lt *call, const struct key *k, fpl_lt_preference preference) {
    const uint64_t workspace = WORKSPACE;
    const uint32_t none = 0,
                   in = alignment(k->align, fpl_cuda_carrier_bytes((enum fpl_cuda_carrier)k->carrier)),
                   out = alignment(k->align, sizeof(float));
    const struct {
        int attribute;
        const void *value;
        size_t bytes;
    } wish[] = {{FPL_LT_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
                {FPL_LT_PREF_REDUCTION_SCHEME_MASK, &none, sizeof none},
                {FPL_LT_PREF_MIN_ALIGNMENT_A_BYTES, &in, sizeof in},
                {FPL_LT_PREF_MIN_ALIGNMENT_B_BYTES, &in, sizeof in},
                {FPL_LT_PREF_MIN_ALIGNMENT_C_BYTES, &out, sizeof out},
                {FPL_LT_PREF_MIN_ALIGNMENT_D_BYTES, &out, sizeof out}};
    fpl_lt_status s = FPL_LT_SUCCESS;
    for (size_t i = 0; s == FPL_LT_SUCCESS && i < sizeof wish / sizeof wish[0]; i++)
        s = call->preference_set(preference, wish[i].attribute, wish[i].value, wish[i].bytes);
    return s;
}

/* One sum in one sequence, and matrices side by side. */
static int fits(const struct fpl_lt *call, const struct fpl_lt_heuristic *h) {
    int32_t splits = 0, batches = 0;
    uint32_t scheme = 1;
    size_t written;
    return h->state == FPL_LT_SUCCESS && h->workspace <= WORKSPACE &&
           call->config_get(&h->algorithm, FPL_LT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof splits, &written) ==
               FPL_LT_SUCCESS &&
           call->config_get(&h->algorithm, FPL_LT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme,
                            &written) == FPL_LT_SUCCESS &&
           call->cap_get(&h->algorithm, FPL_LT_ALGO_CAP_STRIDED_BATCH_SUPPORT, &batches, sizeof batches,
                         &written) == FPL_LT_SUCCESS &&
           splits <= 1 && scheme == 0 && batches != 0;
}

/* The layouts still say one matrix. */
static fpl_lt_status choose(const struct fpl_cuda_lt *lt, const struct key *k, struct plan *p) {
    struct fpl_lt_heuristic found[CANDIDATES];
    fpl_lt_preference preference = NULL;
    int count = 0;
    fpl_lt_status s = lt->call->preference_create(&preference);
    if (s == FPL_LT_SUCCESS) s = prefer(lt->call, k, preference);
    if (s == FPL_LT_SUCCESS)
        s = lt->call->heuristic(lt->handle, p->desc, p->first, p->second, p->result, p->result, preference,
                                CANDIDATES, found, &count);
    if (preference != NULL) (void)lt->call->preference_destroy(preference);
    for (int i = 0; s == FPL_LT_SUCCESS && i < count && !p->usable; i++) {
        if (!fits(lt->call, &found[i])) continue;
        p->algorithm = found[i].algorithm;
        p->usable = 1;
    }
    return s == FPL_LT_NOT_SUPPORTED || s == FPL_LT_INVALID_VALUE ? FPL_LT_SUCCESS : s;
}

static struct key key_of(const struct fpl_cuda_product *p) {
    const struct key k = {p->M,
                          p->N,
                          p->K,
                          p->a_at.row,
                          p->a_at.col,
                          p->b_at.row,
                          p->b_at.col,
                          p->c_at.row,
                          p->a_at.outer,
                          p->b_at.outer,
                          p->c_at.outer,
                          p->align > 0 ? p->align : 1,
                          (int64_t)p->carrier};
    return k;
}

/* Of few dozen shapes; NULL keeps an error. */
static struct plan *plan_of(struct fpl_device *dev, const struct fpl_cuda_product *product) {
    struct fpl_cuda_lt *lt = dev->lt;
    const struct key k = key_of(product);
    for (int i = 0; i < lt->count; i++)
        if (memcmp(&lt->plan[i].key, &k, sizeof k) == 0) return &lt->plan[i];
    if (lt->count == lt->room) {
        const int room = lt->room == 0 ? 64 : 2 * lt->room;
        void *bigger = realloc(lt->plan, (size_t)room * sizeof *lt->plan);
        if (bigger == NULL) {
            out_of_memory(dev);
            return NULL;
        }
        lt->plan = (struct plan *)bigger;
        lt->room = room;
    }
    struct plan *p = &lt->plan[lt->count];
    memset(p, 0, sizeof *p);
    p->key = k;
    if (!ok(dev, describe(lt->call, &k, p), "describing a product") ||
        !ok(dev, choose(lt, &k, p), "choosing an algorithm")) {
        free_plan(lt->call, p);
        return NULL;
    }
    lt->count++;
    return p;
}

int fpl_cuda_lt_can(struct fpl_device *dev, const struct fpl_cuda_product *p) {
    if (dev->lt == NULL || fpl_cuda_failed(dev) || p->inner != 1 || p->triangle != FPL_WHOLE) return 0;
    const struct plan *plan = plan_of(dev, p);
    return plan != NULL && plan->usable;
}

/* ---- running ------------------------------------------------------------------------------------------ */

static int set_matrices(struct fpl_device *dev, const struct plan *p, int32_t count) {
    const fpl_lt_layout layouts[] = {p->first, p->second, p->result};
    for (int i = 0; i < 3; i++)
        if (!ok(dev, dev->lt->call->layout_set(layouts[i], FPL_LT_LAYOUT_BATCH_COUNT, &count, sizeof count),
                "describing a pack"))
            return 0;
    return 1;
}

int fpl_cuda_lt_issue(struct fpl_device *dev, const struct fpl_cuda_lt_call *call) {
    const struct fpl_cuda_lt *lt = dev->lt;
    const struct plan *p = &lt->plan[call->plan];
    const float one = 1.0f, old = call->accumulate ? 1.0f : 0.0f;
    return set_matrices(dev, p, call->matrices) &&
           ok(dev,
              lt->call->matmul(lt->handle, p->desc, &one, call->b, p->first, call->a, p->second, &old,
                               call->c, p->result, call->c, p->result, &p->algorithm, lt->workspace,
                               WORKSPACE, dev->stream),
              "a product by cuBLASLt");
}

void fpl_cuda_lt_multiply(struct fpl_device *dev, const struct fpl_cuda_product *p) {
    if (fpl_cuda_failed(dev)) return;
    const struct plan *plan = plan_of(dev, p);
    const size_t bytes = fpl_cuda_carrier_bytes(p->carrier);
    for (int64_t z = 0; plan != NULL && z < p->batch; z += MOST_MATRICES) {
        struct fpl_cuda_lt_call call;
        memset(&call, 0, sizeof call);
        call.plan = (int32_t)(plan - dev->lt->plan);
        call.matrices = (int32_t)fpl_cuda_smaller(MOST_MATRICES, p->batch - z);
        call.accumulate = p->accumulate != 0;
        call.a = (const char *)p->a + (size_t)(z * p->a_at.outer) * bytes;
        call.b = (const char *)p->b + (size_t)(z * p->b_at.outer) * bytes;
        call.c = p->c + z * p->c_at.outer;
        fpl_cuda_product_later(dev, &call);
    }
}
