/* fuzz_format.c - the format parser: what is accepted prints as text that means the same, and
 * its limits are values of the format. */
#include <math.h>

#include "../../formats/code.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fpl_format f, again;
    struct fpl_format_limits limits;
    struct fpl_coder coder;
    struct fpl_error err = {FPL_OK, ""};
    char printed[128];
    char *text = fuzz_text(data, size);
    if (text == NULL) return 0;
    if (fpl_format_parse(text, &f, &err) == FPL_OK) {
        FUZZ_CHECK(fpl_format_print(&f, printed, sizeof printed) < (int)sizeof printed);
        FUZZ_CHECK(fpl_format_parse(printed, &again, NULL) == FPL_OK && fpl_format_equal(&f, &again));
        fpl_format_limits(&f, &limits);
        fpl_coder_lower(&f, &coder);
        const uint32_t top = fpl_encode(&coder, (float)limits.largest);
        FUZZ_CHECK(top == coder.top);
        FUZZ_CHECK((double)fpl_decode(&f, top) == limits.largest);
        FUZZ_CHECK((double)fpl_decode(&f, fpl_encode(&coder, (float)limits.smallest)) == limits.smallest);
    } else {
        FUZZ_CHECK(err.code == FPL_INVALID && err.text[0] != '\0');
    }
    free(text);
    return 0;
}
