/* number.h - numbers as text, the same in every locale.
 *
 * Printing gives the shortest decimal text that reads back as the same double, so a value
 * has exactly one text: identities, tables and messages can be compared byte by byte.
 */
#ifndef FPL_NUMBER_H
#define FPL_NUMBER_H

#include <stdint.h>

#include "../../formats/error.h"

#define FPL_NUMBER_TEXT 32 /* any printed number fits, terminator included */

/* Shortest text that reads back ("nan", "inf", "-inf" for what is not finite); returns its length. */
int fpl_number_print(double x, char buf[FPL_NUMBER_TEXT]);

/* The whole of text as a finite number: decimal, "2^20", or a decimal with one of the suffixes
 * k, M, G (10^3, 10^6, 10^9).  Anything else, NaN and infinity included, is FPL_INVALID. */
enum fpl_code fpl_number_parse(const char *text, double *out, struct fpl_error *err);

/* The same for integers: exact over the whole range for plain digits, and any form of
 * fpl_number_parse whose value is an integer of magnitude at most 2^53. */
enum fpl_code fpl_integer_parse(const char *text, int64_t *out, struct fpl_error *err);
enum fpl_code fpl_unsigned_parse(const char *text, uint64_t *out, struct fpl_error *err);

#endif
