/* cublaslt_abi.h - the part of cuBLASLt's interface that fplaw calls, in fplaw's own words.
 *
 * The library is 541 MB, so it is neither linked nor wanted at build time: cublaslt_library.cu opens it at
 * run time.  Names follow NVIDIA's cublasLt.h (toolkit 13, unchanged since 12.0 for what is here): FPL_LT_X
 * is CUBLASLT_X or CUBLAS_X.  tests/host/test_cublaslt_abi.cc compares every value, size and argument with
 * that header wherever nvcc is found.
 *
 * Matrices are column-major, D = alpha op(A) op(B) + beta C.
 */
#ifndef FPL_CUBLASLT_ABI_H
#define FPL_CUBLASLT_ABI_H

#include <stddef.h>
#include <stdint.h>

#include "launch.h"

enum {
    FPL_LT_SUCCESS = 0,
    FPL_LT_INVALID_VALUE = 7,
    FPL_LT_NOT_SUPPORTED = 15 /* the statuses that are told apart here */
};
enum fpl_lt_type {
    FPL_LT_R_32F = 0,
    FPL_LT_R_16F = 2,
    FPL_LT_R_16BF = 14,
    FPL_LT_R_8F_E4M3 = 28,
    FPL_LT_R_8F_E5M2 = 29
};
enum fpl_lt_compute {
    FPL_LT_COMPUTE_32F = 68,
    FPL_LT_COMPUTE_32F_PEDANTIC = 69, /* never through narrower types, whatever the environment asks for */
    FPL_LT_COMPUTE_32F_FAST_TF32 = 77
};
enum { FPL_LT_OP_N = 0, FPL_LT_OP_T = 1 };
enum fpl_lt_desc_attribute {
    FPL_LT_DESC_TRANSA = 3,     /* int32_t */
    FPL_LT_DESC_TRANSB = 4,     /* int32_t */
    FPL_LT_DESC_FAST_ACCUM = 25 /* int8_t */
};
enum fpl_lt_layout_attribute {
    FPL_LT_LAYOUT_BATCH_COUNT = 5,         /* int32_t */
    FPL_LT_LAYOUT_STRIDED_BATCH_OFFSET = 6 /* int64_t, elements */
};
enum fpl_lt_preference_attribute {
    FPL_LT_PREF_MAX_WORKSPACE_BYTES = 1,   /* uint64_t */
    FPL_LT_PREF_REDUCTION_SCHEME_MASK = 3, /* uint32_t; 0: each sum in one sequence */
    FPL_LT_PREF_MIN_ALIGNMENT_A_BYTES = 5, /* uint32_t, as the next three */
    FPL_LT_PREF_MIN_ALIGNMENT_B_BYTES = 6,
    FPL_LT_PREF_MIN_ALIGNMENT_C_BYTES = 7,
    FPL_LT_PREF_MIN_ALIGNMENT_D_BYTES = 8
};
enum { FPL_LT_ALGO_CAP_STRIDED_BATCH_SUPPORT = 3 }; /* int32_t */
enum fpl_lt_config_attribute {
    FPL_LT_ALGO_CONFIG_ID = 0,              /* int32_t */
    FPL_LT_ALGO_CONFIG_SPLITK_NUM = 2,      /* int32_t */
    FPL_LT_ALGO_CONFIG_REDUCTION_SCHEME = 3 /* uint32_t */
};

typedef int fpl_lt_status;
typedef struct fpl_lt_context *fpl_lt_handle;
typedef struct fpl_lt_opaque_desc *fpl_lt_desc;
typedef struct fpl_lt_opaque_layout *fpl_lt_layout;
typedef struct fpl_lt_opaque_preference *fpl_lt_preference;
struct fpl_lt_algorithm {
    uint64_t data[8];
};
struct fpl_lt_heuristic {
    struct fpl_lt_algorithm algorithm;
    size_t workspace;
    fpl_lt_status state;
    float waves;
    int reserved[4];
};

/* FPL_LT_CALLS(X): X(field of struct fpl_lt, name in the library, result, arguments) */
#define FPL_LT_CALLS(X)                                                                                      \
    X(version, cublasLtGetVersion, size_t, (void))                                                           \
    X(status_name, cublasLtGetStatusName, const char *, (fpl_lt_status))                                     \
    X(create, cublasLtCreate, fpl_lt_status, (fpl_lt_handle *))                                              \
    X(destroy, cublasLtDestroy, fpl_lt_status, (fpl_lt_handle))                                              \
    X(desc_create, cublasLtMatmulDescCreate, fpl_lt_status,                                                  \
      (fpl_lt_desc *, int compute_type, int scale_type))                                                     \
    X(desc_destroy, cublasLtMatmulDescDestroy, fpl_lt_status, (fpl_lt_desc))                                 \
    X(desc_set, cublasLtMatmulDescSetAttribute, fpl_lt_status,                                               \
      (fpl_lt_desc, int attribute, const void *value, size_t bytes))                                         \
    X(layout_create, cublasLtMatrixLayoutCreate, fpl_lt_status,                                              \
      (fpl_lt_layout *, int type, uint64_t rows, uint64_t cols, int64_t ld))                                 \
    X(layout_destroy, cublasLtMatrixLayoutDestroy, fpl_lt_status, (fpl_lt_layout))                           \
    X(layout_set, cublasLtMatrixLayoutSetAttribute, fpl_lt_status,                                           \
      (fpl_lt_layout, int attribute, const void *value, size_t bytes))                                       \
    X(preference_create, cublasLtMatmulPreferenceCreate, fpl_lt_status, (fpl_lt_preference *))               \
    X(preference_destroy, cublasLtMatmulPreferenceDestroy, fpl_lt_status, (fpl_lt_preference))               \
    X(preference_set, cublasLtMatmulPreferenceSetAttribute, fpl_lt_status,                                   \
      (fpl_lt_preference, int attribute, const void *value, size_t bytes))                                   \
    X(heuristic, cublasLtMatmulAlgoGetHeuristic, fpl_lt_status,                                              \
      (fpl_lt_handle, fpl_lt_desc, fpl_lt_layout a, fpl_lt_layout b, fpl_lt_layout c, fpl_lt_layout d,       \
       fpl_lt_preference, int wanted, struct fpl_lt_heuristic *results, int *found))                         \
    X(config_get, cublasLtMatmulAlgoConfigGetAttribute, fpl_lt_status,                                       \
      (const struct fpl_lt_algorithm *, int attribute, void *value, size_t bytes, size_t *written))          \
    X(cap_get, cublasLtMatmulAlgoCapGetAttribute, fpl_lt_status,                                             \
      (const struct fpl_lt_algorithm *, int attribute, void *value, size_t bytes, size_t *written))          \
    X(matmul, cublasLtMatmul, fpl_lt_status,                                                                 \
      (fpl_lt_handle, fpl_lt_desc, const void *alpha, const void *a, fpl_lt_layout, const void *b,           \
       fpl_lt_layout, const void *beta, const void *c, fpl_lt_layout, void *d, fpl_lt_layout,                \
       const struct fpl_lt_algorithm *, void *workspace, size_t bytes, cudaStream_t))

struct fpl_lt {
#define FPL_LT_FIELD(field, name, result, arguments) result(*field) arguments;
    FPL_LT_CALLS(FPL_LT_FIELD)
#undef FPL_LT_FIELD
};

#endif
