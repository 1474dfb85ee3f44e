/* fuzz_study.c - study files: YAML, the grammar of studies, options, recipes, all that a run is checked for.
 */
#include "../../sim/study/study.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fpl_study *study = NULL;
    struct fpl_error err = {FPL_OK, ""};
    char *text = fuzz_text(data, size);
    if (text == NULL) return 0;
    if (fpl_study_parse("fuzz.yaml", text, size, "cpu", &study, &err) == FPL_OK) {
        FUZZ_CHECK(study != NULL && study->stages > 0);
        for (size_t i = 0; i < study->runs; i++) FUZZ_CHECK(study->run[i].id[0] != '\0');
        fpl_study_free(study);
    } else {
        FUZZ_CHECK(study == NULL && err.code != FPL_OK && err.text[0] != '\0');
        FUZZ_CHECK(strchr(err.text, '\n') == NULL);
    }
    free(text);
    return 0;
}
