/* fuzz_npy.c - the reader of .npy headers. */
#include "fuzz_container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fpl_npy_is(data, size) ? fuzz_container("fuzz.npy", data, size) : 0;
}
