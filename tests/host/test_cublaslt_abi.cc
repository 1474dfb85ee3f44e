/* test_cublaslt_abi.cc - fplaw's words for cuBLASLt (cublaslt_abi.h) against the toolkit's header.
 *
 * The comparison is made by the compiler: this program has nothing to run.  Enumerations of the library are
 * ints and its handles pointers, so a call agrees where it has as many arguments, each of the same size and
 * kind.
 */
#include <stdio.h>

#include <type_traits>

/* The toolkit's driver types without cuda_on_host.h's names for them. */
#include <cublasLt.h>

namespace ours {
#define FPL_LAUNCH_H /* launch.h gives words of its own for what the toolkit has defined here */
#include "cublaslt_abi.h"
} // namespace ours

template <typename A, typename B> constexpr bool alike() {
    return sizeof(A) == sizeof(B) && std::is_pointer<A>::value == std::is_pointer<B>::value &&
           std::is_floating_point<A>::value == std::is_floating_point<B>::value;
}
template <typename F> struct arguments;
template <typename R, typename... A> struct arguments<R (*)(A...)> {
    template <typename G> struct match : std::false_type {};
    template <typename S, typename... B> struct match<S (*)(B...)> {
        static constexpr bool compare() {
            if constexpr (sizeof...(A) != sizeof...(B))
                return false;
            else
                return (alike<R, S>() && ... && alike<A, B>());
        }
        static constexpr bool value = compare();
    };
};

#define CHECK_CALL(field, name, result, args)                                                                \
    static_assert(arguments<decltype(&::name)>::match<decltype(ours::fpl_lt::field)>::value,                 \
                  #name " has other arguments");
namespace ours {
FPL_LT_CALLS(CHECK_CALL)
}

#define CHECK(mine, theirs)                                                                                  \
    static_assert(static_cast<int>(ours::FPL_LT_##mine) == static_cast<int>(theirs), #theirs)
CHECK(SUCCESS, CUBLAS_STATUS_SUCCESS);
CHECK(INVALID_VALUE, CUBLAS_STATUS_INVALID_VALUE);
CHECK(NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED);
CHECK(R_32F, CUDA_R_32F);
CHECK(R_16F, CUDA_R_16F);
CHECK(R_16BF, CUDA_R_16BF);
CHECK(R_8F_E4M3, CUDA_R_8F_E4M3);
CHECK(R_8F_E5M2, CUDA_R_8F_E5M2);
CHECK(COMPUTE_32F, CUBLAS_COMPUTE_32F);
CHECK(COMPUTE_32F_PEDANTIC, CUBLAS_COMPUTE_32F_PEDANTIC);
CHECK(COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_32F_FAST_TF32);
CHECK(OP_N, CUBLAS_OP_N);
CHECK(OP_T, CUBLAS_OP_T);
CHECK(DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
CHECK(DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
CHECK(DESC_FAST_ACCUM, CUBLASLT_MATMUL_DESC_FAST_ACCUM);
CHECK(LAYOUT_BATCH_COUNT, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT);
CHECK(LAYOUT_STRIDED_BATCH_OFFSET, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
CHECK(PREF_MAX_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
CHECK(PREF_REDUCTION_SCHEME_MASK, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
CHECK(PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
CHECK(PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
CHECK(PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
CHECK(PREF_MIN_ALIGNMENT_D_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
CHECK(ALGO_CAP_STRIDED_BATCH_SUPPORT, CUBLASLT_ALGO_CAP_STRIDED_BATCH_SUPPORT);
CHECK(ALGO_CONFIG_ID, CUBLASLT_ALGO_CONFIG_ID);
CHECK(ALGO_CONFIG_SPLITK_NUM, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
CHECK(ALGO_CONFIG_REDUCTION_SCHEME, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);

static_assert(CUBLASLT_REDUCTION_SCHEME_NONE == 0, "the mask that forbids split reductions");
static_assert(sizeof(ours::fpl_lt_algorithm) == sizeof(cublasLtMatmulAlgo_t), "an algorithm");
static_assert(sizeof(ours::fpl_lt_heuristic) == sizeof(cublasLtMatmulHeuristicResult_t), "a result");
static_assert(offsetof(ours::fpl_lt_heuristic, workspace) ==
                  offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize),
              "its workspace");
static_assert(offsetof(ours::fpl_lt_heuristic, state) == offsetof(cublasLtMatmulHeuristicResult_t, state),
              "its state");

int main(void) {
    printf("cublaslt_abi.h agrees with cublasLt.h %d.%d.%d\n", CUBLAS_VER_MAJOR, CUBLAS_VER_MINOR,
           CUBLAS_VER_PATCH);
    return 0;
}
