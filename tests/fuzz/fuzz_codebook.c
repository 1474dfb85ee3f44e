/* fuzz_codebook.c - the text of codebook files: what is accepted ascends and is found again. */
#include "../../formats/codebook.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct fpl_codebook *book = NULL;
    struct fpl_error err = {FPL_OK, ""};
    if (size > 512) return 0; /* known contents stay in memory */
    char *text = malloc(size + 1);
    if (text == NULL) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    if (fpl_codebook_parse(text, size, "fuzz", &book, &err) == FPL_OK) {
        FUZZ_CHECK(book->count >= 1 && fpl_codebook_find(book->hash) == book);
        for (int i = 1; i < book->count; i++) FUZZ_CHECK(book->values[i - 1] < book->values[i]);
    } else {
        FUZZ_CHECK(err.code != FPL_OK && err.text[0] != '\0');
    }
    free(text);
    return 0;
}
