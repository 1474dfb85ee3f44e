/* fuzz_accumulator.c - the accumulator parser: what is accepted prints as text that means the
 * same, and lowers. */
#include "../../formats/accumulator.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fpl_accumulator a, again;
    struct fpl_accumulator_plan plan;
    struct fpl_error err = {FPL_OK, ""};
    char printed[FPL_ACCUMULATOR_TEXT], twice[FPL_ACCUMULATOR_TEXT];
    char *text = fuzz_text(data, size);
    if (text == NULL) return 0;
    if (fpl_accumulator_parse(text, &a, &err) == FPL_OK) {
        FUZZ_CHECK(fpl_accumulator_print(&a, printed, sizeof printed) < (int)sizeof printed);
        FUZZ_CHECK(fpl_accumulator_parse(printed, &again, NULL) == FPL_OK);
        fpl_accumulator_print(&again, twice, sizeof twice);
        FUZZ_CHECK(strcmp(printed, twice) == 0);
        fpl_accumulator_lower(&a, &plan);
    } else {
        FUZZ_CHECK(err.code == FPL_INVALID && err.text[0] != '\0');
    }
    free(text);
    return 0;
}
