/* tensor.h - arrays of floats in files: raw, .npy and .safetensors, read and written.
 *
 * raw           nothing but little-endian values, float32 unless the caller says otherwise.
 * .npy          NumPy enhancement proposal 1, versions 1 to 3: "\x93NUMPY", version, length of
 *               the text, a Python dictionary.  '<f4', '<f2', and '<V2', which is how NumPy
 *               saves the bfloat16 of ml_dtypes.  C order.
 * .safetensors  8 bytes of header length N, N bytes of JSON, data.  Any dtype is understood as
 *               far as its size; values are read as F32, F16 and BF16 only.
 *
 * A container is the file mapped into memory and a list of its tensors in the order of their
 * data, which never overlap and lie inside the file: parsing refuses everything else, so that
 * nothing after it needs to check an offset.  Files of any size are fine; nothing is read
 * before it is asked for.
 *
 * A tensor is seen as a matrix: the last axis is the columns, all others together the rows.
 *
 * Thread safety: a container is constant once open.
 */
#ifndef FPL_TENSOR_H
#define FPL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "../../formats/error.h"
#include "../base/file.h"

enum fpl_dtype { FPL_DTYPE_F32, FPL_DTYPE_F16, FPL_DTYPE_BF16, FPL_DTYPE_OTHER };
extern const char *const fpl_dtype_names[];    /* "f32", "f16", "bf16", NULL */
int64_t fpl_dtype_bytes(enum fpl_dtype dtype); /* of one value; 0 for other */

enum fpl_container_kind { FPL_RAW, FPL_NPY, FPL_SAFETENSORS };

enum { FPL_TENSOR_AXES = 32 }; /* as many as NumPy had before 2.0 */

struct fpl_tensor {
    char *name;          /* "" in raw and .npy files */
    char dtype_name[16]; /* as the file says it */
    enum fpl_dtype dtype;
    int axes;
    int64_t shape[FPL_TENSOR_AXES];
    int64_t elements, rows, cols; /* rows x cols == elements */
    uint64_t at, bytes;           /* where the data lies in the file */
};

struct fpl_container {
    enum fpl_container_kind kind;
    const uint8_t *data; /* the whole file; not aligned */
    uint64_t size;
    uint64_t data_at; /* everything before is header */
    struct fpl_tensor *tensors;
    size_t count;
    char *metadata; /* JSON object of strings of a .safetensors file, or NULL */
    void *mapped;   /* what close unmaps, */
    char *read;     /* or frees */
};

/* Open a file, or "-", and parse its header.  A regular file is mapped; anything else (a pipe,
 * a device) is read, at most FPL_STREAM_LIMIT bytes.  raw: the dtype of files without a header,
 * and of two-byte .npy types that say no more than that ('<u2', '<V2'); -1: float32. */
#define FPL_STREAM_LIMIT ((size_t)1 << 30)
enum fpl_code fpl_container_open(struct fpl_container *c, const char *path, int raw, struct fpl_error *err);
void fpl_container_close(struct fpl_container *c);

/* The same for bytes in memory, which must outlive the container; name is for messages. */
enum fpl_code fpl_container_parse(struct fpl_container *c, const char *name, const void *data, uint64_t size,
                                  int raw, struct fpl_error *err);

/* n values of a tensor from element `first` on, as float32: exact. */
void fpl_tensor_read(const struct fpl_container *c, const struct fpl_tensor *t, int64_t first, int64_t n,
                     float *out);

/* n values from element `first` on were read for now: a mapped file's pages leave the process, so
 * that its memory stays the same however large the file.  They may be read again. */
void fpl_tensor_forget(const struct fpl_container *c, const struct fpl_tensor *t, int64_t first, int64_t n);

/* float32 to the bytes of a dtype, to nearest even, finite values staying finite (they clamp to
 * the largest).  Returns how many values changed (NaNs aside). */
int64_t fpl_dtype_write(enum fpl_dtype dtype, int64_t n, const float *x, uint8_t *bytes);
void fpl_dtype_read(enum fpl_dtype dtype, int64_t n, const uint8_t *bytes, float *out);

/* The header of a .safetensors file that will hold these tensors (name, dtype_name, axes, shape,
 * bytes; `at` is filled in), back to back in this order from a multiple of 8 on; metadata: a JSON
 * object of strings, or NULL.  Appends to *out. */
enum fpl_code fpl_safetensors_header(struct fpl_tensor *tensors, size_t count, const char *metadata,
                                     struct fpl_text *out, struct fpl_error *err);

/* ---- inside of the folder ---------------------------------------------------------------------- */

int fpl_npy_is(const uint8_t *data, uint64_t size);
enum fpl_code fpl_npy_parse(struct fpl_container *c, const char *name, int raw, struct fpl_error *err);
int fpl_safetensors_is(const char *name, const uint8_t *data, uint64_t size);
enum fpl_code fpl_safetensors_parse(struct fpl_container *c, const char *name, struct fpl_error *err);

/* Elements, rows and columns from the axes; -1 where the product passes 2^62. */
int fpl_tensor_view(struct fpl_tensor *t);

#endif
