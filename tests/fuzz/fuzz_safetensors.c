/* fuzz_safetensors.c - the reader of .safetensors headers. */
#include "fuzz_container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_container("fuzz.safetensors", data, size);
}
