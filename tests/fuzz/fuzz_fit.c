/* fuzz_fit.c - FIT.json: what is accepted can be asked, and written and read again. */
#include "../../sim/law/law.h"
#include "fuzz.h"

static void ask(const struct fpl_fit *fit) {
    struct fpl_fit_summary s;
    struct fpl_error err = {FPL_OK, ""};
    struct fpl_point_at at = {
        .N = 1e8, .D = 1e10, .E = 4, .M = 3, .block = 32, .lr = 1e-3, .batch_tokens = 1e5};
    struct fpl_answer answer;
    fpl_fit_summarize(fit, &s);
    (void)fpl_fit_predict(fit, &at, &answer, &err);
    for (size_t i = 0; i < fpl_fit_param_count(fit); i++) {
        struct fpl_estimate value;
        FUZZ_CHECK(fpl_fit_param(fit, i, &value) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fpl_fit **fits = NULL, **again = NULL;
    size_t count = 0, count_again = 0;
    struct fpl_error err = {FPL_OK, ""};
    if (size > 1 << 16) return 0;
    if (fpl_fits_parse("fuzz.json", (const char *)data, size, &fits, &count, &err) != FPL_OK) {
        FUZZ_CHECK(err.code != FPL_OK && err.text[0] != '\0' && strchr(err.text, '\n') == NULL);
        return 0;
    }
    FUZZ_CHECK(count > 0);
    for (size_t i = 0; i < count; i++) ask(fits[i]);
    const struct fpl_runs none = {.source = "fuzz.csv"};
    char *text = fpl_fits_to_json(fits, count, &none);
    FUZZ_CHECK(text != NULL);
    if (fpl_fits_parse("again.json", text, strlen(text), &again, &count_again, &err) != FPL_OK) {
        fprintf(stderr, "%s\n%s\n", err.text, text);
        abort();
    }
    FUZZ_CHECK(count_again == count);
    free(text);
    fpl_fits_free(again, count_again);
    fpl_fits_free(fits, count);
    return 0;
}
