/* tokens.c - `tokens:[vocab=V,]FILE{:FILE}`: llm.c token shards (shard.h), of any size.
 *
 * Without vocab=V the vocabulary is the largest token of all files plus one (at least 2),
 * not rounded: a model has no outputs that no data can ask for.  Give vocab=V (2 to 65536)
 * where shards of one tokenizer must share a vocabulary; a token beyond it is an error.  A
 * colon cannot be part of a file's name; a name that begins with "vocab=" is written
 * "./vocab=...".  What is trained on and what is held out: corpus.h.
 */
#include "corpus.h"

#include <stdio.h>
#include <string.h>

#include "../base/number.h"
#include "shard.h"

static uint32_t word_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static enum fpl_code locate(const uint8_t *bytes, size_t size, size_t *begin, int64_t *count,
                            struct fpl_error *err) {
    if (size < FPL_SHARD_HEADER)
        return fpl_fail(err, FPL_INVALID, "not a token shard: %zu bytes, the header alone has %d", size,
                        FPL_SHARD_HEADER);
    if (word_at(bytes) != FPL_SHARD_MAGIC)
        return fpl_fail(err, FPL_INVALID, "not a token shard: it begins with %lu, expected is %d",
                        (unsigned long)word_at(bytes), FPL_SHARD_MAGIC);
    if (word_at(bytes + 4) != FPL_SHARD_VERSION)
        return fpl_fail(err, FPL_INVALID, "token shard of version %lu; accepted is %d",
                        (unsigned long)word_at(bytes + 4), FPL_SHARD_VERSION);
    /* llm.c's count is signed; read unsigned, the file's size still has to agree. */
    uint64_t tokens = word_at(bytes + 8), expected = FPL_SHARD_HEADER + 2 * tokens;
    if (size != expected)
        return fpl_fail(err, FPL_INVALID,
                        "%s token shard: %zu bytes, the %llu tokens of its header need %llu",
                        size < expected ? "truncated" : "overlong", size, (unsigned long long)tokens,
                        (unsigned long long)expected);
    if (tokens == 0) return fpl_fail(err, FPL_INVALID, "a token shard without tokens");
    *begin = FPL_SHARD_HEADER;
    *count = (int64_t)tokens;
    return FPL_OK;
}

static enum fpl_code tokens_open(struct fpl_data *d, const char *args, struct fpl_error *err) {
    int64_t vocab = 0;
    if (args != NULL && strncmp(args, "vocab=", 6) == 0) {
        char number[32];
        size_t length = strcspn(args + 6, ",");
        snprintf(number, sizeof number, "%.*s", (int)(length < 31 ? length : 31), args + 6);
        if (fpl_integer_parse(number, &vocab, NULL) != FPL_OK || vocab < 2 || vocab > 65536)
            return fpl_fail(err, FPL_INVALID, "data: tokens: vocab=%s; accepted is 2 to 65536, then a comma",
                            number);
        args += 6 + length;
        args += *args == ',';
    }
    if (args == NULL || *args == '\0')
        return fpl_fail(err, FPL_INVALID, "data: tokens names no file; accepted is %s", d->kind->grammar);
    return fpl_corpus_open(d, args, 2, vocab, locate, err);
}

const struct fpl_source_kind fpl_source_tokens = {
    .name = "tokens",
    .grammar = "tokens:[vocab=V,]FILE[:FILE...]",
    .open = tokens_open,
    .close = fpl_corpus_close,
    .train = fpl_corpus_train,
    .held_out = fpl_corpus_held_out,
};
