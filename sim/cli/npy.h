/* npy.h - the header of NumPy's .npy files, for float32 arrays in C order.
 */
#ifndef FPL_NPY_H
#define FPL_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "../../formats/error.h"

struct fpl_npy {
    size_t data_at;     /* offset of the first value */
    int64_t rows, cols; /* the last axis is cols, all others together rows; one axis: one row */
};

int fpl_npy_is(const char *data, size_t size);

/* data[size] must be a whole file and data[size] itself readable as zero; name is for messages. */
enum fpl_code fpl_npy_header(const char *name, const char *data, size_t size, struct fpl_npy *out,
                             struct fpl_error *err);

#endif
