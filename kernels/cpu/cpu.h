/* cpu.h - inside of the CPU backend: the device and what its parts share.
 *
 * kernels/cpu/cpu.c           device, memory, dispatch by instruction set
 * kernels/cpu/gemm_cache.c    packed weights kept between calls
 * kernels/cpu/accumulate.c    emulated accumulators in scalars
 * kernels/cpu/delay.c         the end of a step of delayed scaling
 * kernels/cpu/vec/table.c     the level's struct fpl_kernels
 * kernels/cpu/vec/            operations, one file per concept, compiled once per level
 *
 * Each operation in vec/ has exactly the signature of its entry in struct fpl_kernels and the
 * name FPL_VEC(entry): fpl_rmsnorm_forward_avx512.  Parallel loops run over fixed tiles
 * (independent of the number of threads) with `omp parallel for num_threads(dev->threads)
 * if(dev->threads > 1)`.
 */
#ifndef FPL_CPU_H
#define FPL_CPU_H

#include "../kernels.h"
#include "../profile.h"

struct fpl_pack_cache; /* quantized, packed weights kept between micro-batches (gemm_cache.c) */

struct fpl_device {
    int threads;
    const char *level;      /* instruction set at open */
    struct fpl_error error; /* first failure; operations are no-ops once it is set */
    /* scratch, grown on demand and kept; slot 0 gemm operand a, 1 operand b, 2 attention,
     * 3 reductions, 4 free for quantizers, 5 spare, 6 and 7 diagnosis,
     * 8 and 9 accumulators */
    struct {
        void *data;
        size_t size;
    } scratch[10];
    struct fpl_pack_cache *packs;
};

enum { FPL_CPU_DIAGNOSIS = 6, FPL_CPU_TRANSFORMED = 7, FPL_CPU_SUMS = 8, FPL_CPU_PIECES = 9 };

/* At least `bytes` of 64-byte aligned scratch, contents undefined; NULL sets dev->error. */
void *fpl_cpu_scratch(struct fpl_device *dev, int slot, size_t bytes);

/* Levels compiled into this build, in the order avx512, avx2, baseline. */
extern const struct fpl_kernels fpl_kernels_baseline;
#ifdef FPL_X86
extern const struct fpl_kernels fpl_kernels_avx2, fpl_kernels_avx512;
#endif

/* The table of the level that this process runs at (cpu.c). */
const struct fpl_kernels *fpl_cpu_kernels(void);

/* Device functions that do not depend on the level (cpu.c). */
enum fpl_code fpl_cpu_open(struct fpl_device **dev, const struct fpl_device_options *options,
                           struct fpl_error *err);
void fpl_cpu_close(struct fpl_device *dev);
void fpl_cpu_describe(const struct fpl_device *dev, char *buf, size_t size);
enum fpl_code fpl_cpu_check(struct fpl_device *dev, struct fpl_error *err);
void *fpl_cpu_alloc(struct fpl_device *dev, size_t bytes);
void fpl_cpu_release(struct fpl_device *dev, void *p);
void fpl_cpu_upload(struct fpl_device *dev, void *to, const void *from_host, size_t bytes);
void fpl_cpu_download(struct fpl_device *dev, void *to_host, const void *from, size_t bytes);
void fpl_cpu_zero(struct fpl_device *dev, void *p, size_t bytes);
void fpl_cpu_delay(struct fpl_device *dev, const struct fpl_delay *states, int count, int64_t step,
                   float *buffer);

/* FPL_VEC(quantize_matrix) for plans with a zero point or a search (quantize_groups.c). */
int64_t fpl_cpu_quantize_groups(struct fpl_device *dev, const struct fpl_quantizer_plan *plan,
                                const struct fpl_random_at *at, int64_t rows, int64_t cols,
                                int64_t row_stride, int64_t col_stride, const float *x, float *out);

/* What a packed weight was made from. */
struct fpl_pack_key {
    const float *w;
    int role, replica;
    int64_t rows, cols;
    uint64_t version;
    struct fpl_operand operand;
};

struct fpl_pack {
    struct fpl_pack_key key; /* key.w NULL: free slot */
    int valid;               /* data was made from key; the caller sets it */
    float *data;
    size_t size;
    int64_t nonfinite; /* non-finite inputs met while it was made */
    float amax;        /* of what was quantized, where its scaling is delayed */
};

/* The packed form of a weight, `bytes` long, 64-byte aligned, kept until close; not valid
 * unless it still holds what this very key asked for: then the caller fills it.  The pointer
 * lives until the next call.  NULL sets dev->error. */
struct fpl_pack *fpl_cpu_pack(struct fpl_device *dev, const struct fpl_pack_key *key, size_t bytes);

/* Packs made from floats in [from, from + bytes) are stale from now on; bytes 0: all packs. */
void fpl_cpu_packs_forget(struct fpl_device *dev, const void *from, size_t bytes);
void fpl_cpu_packs_free(struct fpl_pack_cache *packs);

#endif
