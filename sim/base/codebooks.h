/* codebooks.h - the values that go with a canonical text.
 *
 * A recipe's canonical text names codebooks by the hash of their content
 * (formats/codebook.h), so the text is enough to tell two runs apart but not to repeat one.  The
 * values travel beside it as a JSON object {"0123456789abcdef": [-1.0, 0.0, 1.0]}: in a run's
 * record (which thereby says what it used), and in a study's request to a worker process.
 * Named codebooks (nf4) are part of the program and not written.
 */
#ifndef FPL_CODEBOOKS_H
#define FPL_CODEBOOKS_H

#include <jansson.h>

#include "../../formats/error.h"

/* Every codebook(#hash) of the text whose values this process knows; an empty object where there
 * is none, NULL without memory. */
json_t *fpl_codebooks_to_json(const char *text);

/* Make them known.  FPL_INVALID for anything but such an object, and for values that do not have
 * the hash under which they are given. */
enum fpl_code fpl_codebooks_from_json(const json_t *object, struct fpl_error *err);

#endif
