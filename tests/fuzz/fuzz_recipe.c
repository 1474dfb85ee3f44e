/* fuzz_recipe.c - the recipe parser: the canonical text of what is accepted means the same. */
#include "../../formats/recipe.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct fpl_recipe recipe, again; /* large */
    struct fpl_error err = {FPL_OK, ""};
    char *text = fuzz_text(data, size);
    if (text == NULL) return 0;
    if (fpl_recipe_parse(text, &recipe, &err) == FPL_OK) {
        FUZZ_CHECK(memchr(recipe.text, '\0', sizeof recipe.text) != NULL);
        FUZZ_CHECK(fpl_recipe_parse(recipe.text, &again, NULL) == FPL_OK);
        FUZZ_CHECK(strcmp(recipe.text, again.text) == 0);
    } else {
        FUZZ_CHECK(err.code == FPL_INVALID && err.text[0] != '\0');
    }
    free(text);
    return 0;
}
