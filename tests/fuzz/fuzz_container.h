/* fuzz_container.h - what an accepted container must hold: its tensors lie inside the file, in
 * order, as many bytes as their shapes say, and can be read to the last value. */
#ifndef FPL_FUZZ_CONTAINER_H
#define FPL_FUZZ_CONTAINER_H

#include "../../sim/tensor/tensor.h"
#include "fuzz.h"

static inline int fuzz_container(const char *name, const uint8_t *data, size_t size) {
    struct fpl_container c;
    struct fpl_error err = {FPL_OK, ""};
    float values[4];
    const enum fpl_code code = fpl_container_parse(&c, name, data, size, -1, &err);
    if (code != FPL_OK) {
        FUZZ_CHECK(err.code == code && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
        return 0;
    }
    uint64_t at = c.data_at;
    for (size_t k = 0; k < c.count; k++) {
        const struct fpl_tensor *t = &c.tensors[k];
        FUZZ_CHECK(t->at == at && t->bytes <= size - t->at);
        FUZZ_CHECK(t->elements >= 0 && t->rows * t->cols == t->elements);
        at += t->bytes;
        if (t->dtype == FPL_DTYPE_OTHER || t->elements == 0) continue;
        FUZZ_CHECK(t->elements * fpl_dtype_bytes(t->dtype) == (int64_t)t->bytes);
        const int64_t n = t->elements < 4 ? t->elements : 4;
        fpl_tensor_read(&c, t, 0, n, values);
        fpl_tensor_read(&c, t, t->elements - n, n, values);
    }
    FUZZ_CHECK(at == size);
    fpl_container_close(&c);
    return 0;
}

#endif
