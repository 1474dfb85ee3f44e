/* fuzz_quantizer.c - the quantizer parser: what is accepted prints as text that means the same,
 * lowers, and quantizes a small matrix without touching what is beside it. */
#include "../../formats/measure.h"
#include "fuzz.h"

enum { ROWS = 5, COLS = 7 };

static void use(const struct fpl_quantizer *q) {
    struct fpl_quantizer_plan plan;
    struct fpl_quantizer_measure m;
    float *x = malloc(ROWS * COLS * sizeof *x), *out = malloc(ROWS * COLS * sizeof *out);
    FUZZ_CHECK(x != NULL && out != NULL);
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)(i * i % 37 - 11) * (i % 5 == 0 ? 1e30f : 0.37f);
    fpl_quantizer_lower(q, NULL, &plan);
    fpl_quantize_reference(&plan, ROWS, COLS, COLS, 1, x, out, NULL, NULL);
    fpl_quantizer_measure(q, ROWS, COLS, x, out, &m);
    FUZZ_CHECK(m.elements == ROWS * COLS && m.nonfinite == 0);
    FUZZ_CHECK(m.underflow >= 0.0 && m.underflow <= 1.0 && m.clipped >= 0.0 && m.clipped <= 1.0);
    free(x);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fpl_quantizer q, again;
    struct fpl_error err = {FPL_OK, ""};
    char printed[FPL_QUANTIZER_TEXT], twice[FPL_QUANTIZER_TEXT];
    char *text = fuzz_text(data, size);
    if (text == NULL) return 0;
    if (fpl_quantizer_parse(text, &q, &err) == FPL_OK) {
        FUZZ_CHECK(fpl_quantizer_print(&q, printed, sizeof printed) < (int)sizeof printed);
        FUZZ_CHECK(fpl_quantizer_parse(printed, &again, NULL) == FPL_OK);
        fpl_quantizer_print(&again, twice, sizeof twice);
        FUZZ_CHECK(strcmp(printed, twice) == 0);
        use(&q);
    } else {
        FUZZ_CHECK(err.code == FPL_INVALID && err.text[0] != '\0');
    }
    free(text);
    return 0;
}
