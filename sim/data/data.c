/* data.c - finds the kind of a token source by its name and hands every call to it.
 *
 * A new kind of source is a file of its own and a row of `kinds`.
 */
#include "data.h"

#include <stdlib.h>
#include <string.h>

#include "source.h"

static const struct fpl_source_kind *const kinds[] = {&fpl_source_lexicon, &fpl_source_bytes,
                                                      &fpl_source_tokens};
enum { KINDS = sizeof kinds / sizeof *kinds };

static enum fpl_code unknown_kind(const char *name, struct fpl_error *err) {
    const char *names[KINDS + 1];
    for (int i = 0; i < KINDS; i++) names[i] = kinds[i]->name;
    names[KINDS] = NULL;
    const char *near = fpl_nearest_word(name, names);
    return fpl_fail(err, FPL_INVALID, "data: unknown source '%.40s'%s%s%s; accepted are %s, %s, %s", name,
                    near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "", kinds[0]->grammar,
                    kinds[1]->grammar, kinds[2]->grammar);
}

enum fpl_code fpl_data_open(const char *spec, int64_t seq, uint64_t data_seed, struct fpl_data **out,
                            struct fpl_error *err) {
    *out = NULL;
    if (seq < 1 || seq > FPL_SEQ_MAX)
        return fpl_fail(err, FPL_INVALID, "data: a sequence of %lld tokens; accepted is 1 to %lld",
                        (long long)seq, (long long)FPL_SEQ_MAX);
    char name[64];
    const char *colon = strchr(spec, ':');
    size_t length = colon ? (size_t)(colon - spec) : strlen(spec);
    if (length >= sizeof name) length = sizeof name - 1;
    memcpy(name, spec, length);
    name[length] = '\0';
    const struct fpl_source_kind *kind = NULL;
    for (int i = 0; i < KINDS; i++)
        if (strcmp(kinds[i]->name, name) == 0) kind = kinds[i];
    if (kind == NULL) return unknown_kind(name, err);
    struct fpl_data *d = calloc(1, sizeof *d);
    if (d == NULL) return fpl_fail(err, FPL_SYSTEM, "data: out of memory");
    d->kind = kind;
    d->seq = seq;
    d->data_seed = data_seed;
    enum fpl_code code = kind->open(d, colon ? colon + 1 : NULL, err);
    if (code != FPL_OK) {
        fpl_data_close(d);
        return code;
    }
    *out = d;
    return FPL_OK;
}

void fpl_data_close(struct fpl_data *d) {
    if (d == NULL) return;
    d->kind->close(d);
    free(d);
}

void fpl_data_info(const struct fpl_data *d, struct fpl_data_info *out) { *out = d->info; }

void fpl_data_train(const struct fpl_data *d, uint64_t seed, int64_t step, int64_t batch_sequences,
                    int64_t first, int64_t count, int32_t *inputs, int32_t *targets) {
    d->kind->train(d, seed, step, batch_sequences, first, count, inputs, targets);
}

int64_t fpl_data_held_out(const struct fpl_data *d, int64_t first, int64_t count, int32_t *inputs,
                          int32_t *targets, double *oracle) {
    return d->kind->held_out(d, first, count, inputs, targets, oracle);
}
