/* fuzz_record.c - a run's record: what is accepted is written again and read to the same text. */
#include "../../sim/base/record.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fpl_record r, again;
    struct fpl_error err = {FPL_OK, ""};
    if (size > 1 << 16) return 0;
    char *text = malloc(size + 1);
    if (text == NULL) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    if (fpl_record_from_json(text, &r, &err) == FPL_OK) {
        char *first = fpl_record_to_json(&r);
        FUZZ_CHECK(first != NULL && fpl_record_from_json(first, &again, &err) == FPL_OK);
        char *second = fpl_record_to_json(&again);
        FUZZ_CHECK(second != NULL && strcmp(first, second) == 0);
        free(first);
        free(second);
        fpl_record_free(&again);
        fpl_record_free(&r);
    } else {
        FUZZ_CHECK(err.code != FPL_OK && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
    }
    free(text);
    return 0;
}
