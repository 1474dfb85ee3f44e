/* stream.h - stores that pass the caches by.
 *
 * A store to a line that no cache holds first reads it; a store of the whole line past the
 * caches does not.  That is a third of the traffic of a copy, so outputs that are too large
 * to be found in a cache again are written this way: made in a buffer in the first cache, then
 * streamed line by line.  The stores are weakly ordered; stream_end() orders them before
 * everything after it.
 */
#ifndef FPL_VEC_STREAM_H
#define FPL_VEC_STREAM_H

#include "rows.h"

/* A whole vector; past: past the caches, p aligned to a vector. */
VINLINE void nput(float *p, nf x, int past) {
#ifdef FPL_X86
    if (past) {
#if defined(FPL_LEVEL_avx512)
        _mm512_stream_ps(p, (__m512)x);
#elif defined(FPL_LEVEL_avx2)
        _mm256_stream_ps(p, (__m256)x);
#else
        _mm_stream_ps(p, (__m128)x);
#endif
        return;
    }
#endif
    nstore(p, x);
}

/* Ask for the cache line at p, which need not exist. */
VINLINE void nprefetch(const float *p) { __builtin_prefetch(p, 0, 3); }
/* The same into the second cache: the first has few places for lines whole pages apart. */
VINLINE void nprefetch_far(const float *p) { __builtin_prefetch(p, 0, 2); }

/* n floats from a buffer to out, whole cache lines past the caches. */
VINLINE void stream_line(int64_t n, const float *from, float *out) {
    int64_t i = 0;
#ifdef FPL_X86
    const int64_t head = (int64_t)(((64 - ((uintptr_t)out & 63)) & 63) / sizeof(float));
    for (; i < head && i < n; i++) out[i] = from[i];
    for (; i + 16 <= n; i += 16) {
#if defined(FPL_LEVEL_avx512)
        _mm512_stream_ps(out + i, (__m512)nload(from + i));
#elif defined(FPL_LEVEL_avx2)
        _mm256_stream_ps(out + i, (__m256)nload(from + i));
        _mm256_stream_ps(out + i + 8, (__m256)nload(from + i + 8));
#else
        UNROLL(4)
        for (int u = 0; u < 16; u += 4) _mm_stream_ps(out + i + u, (__m128)nload(from + i + u));
#endif
    }
#endif
    for (; i < n; i++) out[i] = from[i];
}

/* Lines of n floats, side by side in `from`, to lines `stride` apart. */
static inline void stream_lines(int64_t lines, int64_t n, const float *from, float *out, int64_t stride) {
    for (int64_t l = 0; l < lines; l++) stream_line(n, from + l * n, out + l * stride);
}

#if defined(FPL_LEVEL_avx512)
/* Sixteen columns of `lines` lines, a multiple of 16, as sixteen rows of whole cache lines. */
static inline void stream_16_columns(int64_t lines, const float *from, int64_t line, float *out,
                                     int64_t out_row) {
    for (int64_t l = 0; l < lines; l += 16) {
        __m512 columns[16];
        columns_of_16(from + l * line, line, columns);
        for (int64_t c = 0; c < 16; c++) _mm512_stream_ps(out + c * out_row + l, columns[c]);
    }
}
#endif

/* The transpose of lines by n floats: out[i * out_row + l] = from[l * n + i]; at most 256 lines.
 * Where they do not make whole cache lines of out, sixteen columns at a time by way of a buffer. */
static inline void stream_transposed(int64_t lines, int64_t n, const float *from, float *out,
                                     int64_t out_row) {
    _Alignas(64) float columns[16 * 256];
#if defined(FPL_LEVEL_avx512)
    if (((uintptr_t)out & 63) == 0 && out_row % 16 == 0 && lines % 16 == 0 && n % 16 == 0) {
        for (int64_t i = 0; i < n; i += 16) stream_16_columns(lines, from + i, n, out + i * out_row, out_row);
        return;
    }
#endif
    for (int64_t i = 0; i < n; i += 16) {
        const int64_t wide = n - i < 16 ? n - i : 16;
        int64_t l = 0;
        for (; wide == 16 && l + 16 <= lines; l += 16) transpose_16x16(from + l * n + i, n, columns + l, 256);
        for (; l < lines; l++)
            for (int64_t c = 0; c < wide; c++) columns[c * 256 + l] = from[l * n + i + c];
        for (int64_t c = 0; c < wide; c++) stream_line(lines, columns + c * 256, out + (i + c) * out_row);
    }
}

static inline void stream_end(void) {
#ifdef FPL_X86
    _mm_sfence();
#endif
}

#endif
