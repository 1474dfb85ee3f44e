/* recipe_options.h - the options after a recipe's base, for recipe.c only. */
#ifndef FPL_RECIPE_OPTIONS_H
#define FPL_RECIPE_OPTIONS_H

#include "recipe.h"

/* Whether "key=..." starts with the key of an option; n: length of the key. */
int fpl_recipe_is_option(const char *key, size_t n);

/* Every option of text, "" or items each after a ';', into r. */
enum fpl_code fpl_recipe_read_options(struct fpl_recipe *r, const char *text, struct fpl_error *err);

/* Append to r->text the options in which r differs from its base. */
enum fpl_code fpl_recipe_print_options(struct fpl_recipe *r, const struct fpl_recipe *base,
                                       struct fpl_error *err);

#endif
