/* formats_recipe.h - recipes in `fplaw formats`. */
#ifndef FPL_CLI_FORMATS_RECIPE_H
#define FPL_CLI_FORMATS_RECIPE_H

#include <jansson.h>

#include "../../formats/recipe.h"

void fpl_cli_list_recipes(void);
void fpl_cli_describe_recipe(const char *name, const struct fpl_recipe *r);

/* New references; NULL: no memory. */
json_t *fpl_cli_recipes_json(void);
json_t *fpl_cli_recipe_options_json(void);
json_t *fpl_cli_recipe_json(const char *name, const struct fpl_recipe *r);

#endif
