/* device.h - inside of the CUDA backend: the device and what its parts share.
 *
 * kernels/cuda/device.cu       device, memory, the first error, scratch
 * kernels/cuda/work.cu         the list of work, CUDA graphs
 * kernels/cuda/transfer.cu     uploads, downloads, waiting
 * kernels/cuda/parameters.cu   device copies of small host arrays, in arenas (arena.h)
 * kernels/cuda/table.cu        struct fpl_kernels
 * the other .cu files           operations, one file per concept: kernels first, entries last
 * kernels/cuda/reduce.h        sums and maxima over warps and blocks, in a fixed order
 * kernels/cuda/scalar_math.h   exp and log with the bounds of the CPU backend
 *
 * Everything runs in one stream, in the order of the calls, but later (work.h).  Failure is kept, not
 * returned, as in the CPU backend: the first one sticks in dev->error, later operations find it and do
 * nothing, check() hands it out.
 *
 * Every sum has an order that follows from the shape of one replica alone: neither the number of
 * replicas, nor the number of multiprocessors, nor the order in which blocks run can change a
 * bit.  So grids give blocks to replicas and to fixed tiles, never a share of a replica to
 * whatever runs.
 */
#ifndef FPL_CUDA_DEVICE_H
#define FPL_CUDA_DEVICE_H

#include "arena.h"
#include "launch.h"

#include "../kernels.h"

enum {
    FPL_CUDA_SCRATCH_A,
    FPL_CUDA_SCRATCH_B,
    FPL_CUDA_SCRATCH_OUT,
    FPL_CUDA_SCRATCH_HEADS,
    FPL_CUDA_SCRATCH_DIAGNOSIS,
    FPL_CUDA_SCRATCH_SUMS,
    FPL_CUDA_SCRATCH_SCALES,
    FPL_CUDA_SCRATCH_SCALES_B,
    FPL_CUDA_SCRATCH_TURNED_A, /* operands between their Hadamard transform and a narrow carrier */
    FPL_CUDA_SCRATCH_TURNED_B,
    FPL_CUDA_SCRATCH_BEHIND, /* factors of scales that do not travel, and flags (carried.h) */
    FPL_CUDA_SCRATCH_COLUMNS,
    FPL_CUDA_SCRATCH_COUNT
};

struct fpl_cuda_parameters;   /* device copies of host arrays (parameters.cu) */
struct fpl_cuda_weights_list; /* quantized weights kept between calls (weights.h) */
struct fpl_cuda_lt;           /* cuBLASLt (cublaslt.h) */
struct fpl_cuda_work;         /* work that is listed but not issued (work.h) */
struct fpl_cuda_fetched;      /* a download that is not done (transfer.cu) */

struct fpl_device {
    int number; /* of the device among those visible */
    cudaStream_t stream;
    struct fpl_error error; /* first failure */
    char name[128];
    int compute; /* 90 for compute capability 9.0 */
    struct {
        void *data;
        size_t size;
    } scratch[FPL_CUDA_SCRATCH_COUNT];
    struct fpl_cuda_parameters *parameters; /* NULL before the first */
    struct fpl_cuda_arena staging;          /* pinned: host arrays on their way to the device */
    struct fpl_cuda_arena transient;        /* device: parameters of the work since the last wait */
    struct fpl_cuda_work *work;
    struct fpl_cuda_fetched *fetched;
    int fetched_count, fetched_room;
    struct fpl_cuda_weights_list *weights;
    struct fpl_cuda_lt *lt; /* NULL: products by own kernels */
    void *nvml;             /* the management library's device; NULL: none (energy.cu) */
    size_t free_when_opened, most_held;
    unsigned products[3];   /* for records: how products of each role were made, bits of gemm.h */
    int fuses, batches;     /* for records: ways that attention went (attention.h) */
};

static inline int fpl_cuda_failed(const struct fpl_device *dev) { return dev->error.code != FPL_OK; }

/* 1 if the call succeeded; else keeps "cuda: WHAT: the runtime's text". */
int fpl_cuda_ok(struct fpl_device *dev, cudaError_t status, const char *what);

/* At least `bytes` of scratch, contents undefined; NULL keeps an error.  A slot's pointer lives until
 * the slot is asked for again. */
void *fpl_cuda_scratch(struct fpl_device *dev, int slot, size_t bytes);

/* A device copy of a host array that kernels only read: plans, segments.  The same contents give the
 * same pointer, so that a step that repeats copies nothing; it lives until the stream has done the
 * work issued before some later call.  NULL keeps an error. */
const void *fpl_cuda_parameter(struct fpl_device *dev, const void *host, size_t bytes);

/* The same for contents that each step brings anew: rates, counters.  It lives until the next download or
 * check; steps that ask for the same sizes in the same order get the same addresses. */
const void *fpl_cuda_transient(struct fpl_device *dev, const void *host, size_t bytes);
void fpl_cuda_parameters_free(struct fpl_device *dev);

/* Copies a host array, which is the caller's again on return, to the device when the stream comes to it. */
void fpl_cuda_send(struct fpl_device *dev, void *to, const void *from_host, size_t bytes);
/* Has all work done; downloads that were asked for are there. */
void fpl_cuda_wait(struct fpl_device *dev, const char *what);
/* The same, and transients end here. */
void fpl_cuda_settle(struct fpl_device *dev);

enum fpl_code fpl_cuda_open(struct fpl_device **dev, const struct fpl_device_options *options,
                            struct fpl_error *err);
void fpl_cuda_close(struct fpl_device *dev);
void fpl_cuda_describe(const struct fpl_device *dev, char *buf, size_t size);
enum fpl_code fpl_cuda_check(struct fpl_device *dev, struct fpl_error *err);
int fpl_cuda_devices(void);
void fpl_cuda_about(char *buf, size_t size);
int fpl_cuda_replicas(struct fpl_device *dev, size_t bytes);
double fpl_cuda_joules(struct fpl_device *dev);
double fpl_cuda_peak_bytes(struct fpl_device *dev);
void fpl_cuda_energy_open(struct fpl_device *dev);
void fpl_cuda_see_memory(struct fpl_device *dev); /* after an allocation */
void *fpl_cuda_alloc(struct fpl_device *dev, size_t bytes);
void fpl_cuda_release(struct fpl_device *dev, void *p);
void fpl_cuda_upload(struct fpl_device *dev, void *to, const void *from_host, size_t bytes);
void fpl_cuda_download(struct fpl_device *dev, void *to_host, const void *from, size_t bytes);
void fpl_cuda_fetch(struct fpl_device *dev, void *to_host, const void *from, size_t bytes);
void fpl_cuda_fetched_free(struct fpl_device *dev);
void fpl_cuda_zero(struct fpl_device *dev, void *p, size_t bytes);
/* cudaFree, once nothing that is listed can use it; NULL is none. */
void fpl_cuda_free(struct fpl_device *dev, void *p);

static inline unsigned fpl_cuda_blocks(int64_t items, int64_t per_block) {
    return (unsigned)((items + per_block - 1) / per_block);
}

#endif
