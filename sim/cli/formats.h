/* formats.h - inside of `fplaw formats`: facts about formats, and the two ways to show them.
 *
 * cli_formats.c   the command: what a name means, the lists
 * formats_facts.c values, special codes, relatives and differences, from formats/ alone
 * formats_text.c  descriptions and comparisons in 80 columns
 * formats_json.c  the same as JSON
 */
#ifndef FPL_CLI_FORMATS_H
#define FPL_CLI_FORMATS_H

#include <jansson.h>
#include <stddef.h>

#include "../../formats/accumulator.h"
#include "../../formats/codebook.h"
#include "../../formats/recipe.h"

enum formats_kind { FORMATS_ELEMENT, FORMATS_QUANTIZER, FORMATS_RECIPE, FORMATS_ACCUMULATOR };

struct formats_subject {
    const char *name; /* as given */
    enum formats_kind kind;
    struct fpl_format format;
    struct fpl_quantizer quantizer;
    struct fpl_recipe recipe;
    struct fpl_accumulator accumulator;
};

/* ---- facts ---------------------------------------------------------------------------------- */

enum { FORMATS_MOST_RELATIVES = 24, FORMATS_MOST_VALUES = 256 };

/* Codes of what is no finite value, as "0x7c 0xfc", or "none". */
struct formats_specials {
    char inf[64], nan[64], negative_zero[64];
};
void formats_specials(const struct fpl_format *f, struct formats_specials *s);

/* Number of finite values (0 and -0 are one). */
double formats_count(const struct fpl_format *f);
/* All of them, ascending, malloced; NULL without memory or where there are more than `most`. */
double *formats_values(const struct fpl_format *f, size_t most, size_t *count);
/* log10(largest / smallest positive). */
double formats_decades(const struct fpl_format *f);

/* Texts of the formats that share its name in the wild or its number of bits. */
int formats_relatives(const struct fpl_format *f, char texts[FORMATS_MOST_RELATIVES][48]);
/* How `other` differs from f in words; "the same" if it does not. */
void formats_difference(const struct fpl_format *f, const struct fpl_format *other, char *buf, size_t size);

/* Bits per value of whole groups: of the code, and of scales where their number follows from the
 * quantizer (blocks); *per: what carries the rest ("row", "tensor"), NULL if nothing. */
double formats_bits_per_value(const struct fpl_quantizer *q, const char **per);

/* ---- showing -------------------------------------------------------------------------------- */

/* "  label   text", wrapped at 80 columns under the text; label_width includes two blanks before. */
void formats_row(const char *label, int label_width, const char *text);

void formats_describe(const struct formats_subject *s);
/* Formats side by side. */
void formats_compare(const struct formats_subject *s, int count);

/* New references; NULL without memory. */
json_t *formats_to_json(const struct formats_subject *s);
json_t *formats_element_json(const char *name, const struct fpl_format *f);

#endif
