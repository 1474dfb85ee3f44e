/* cli_data.c - `fplaw data --tokenizer bytes OUT.bin TEXT...`. */
#include <stdlib.h>
#include <string.h>

#include "../data/data.h"
#include "cli.h"

struct arguments {
    const char *tokenizer;
    const char **name; /* OUT.bin, then texts: at most argc of them */
    int count;
};

static const struct argp_option options[] = {
    {"tokenizer", 't', "NAME", 0, "how text becomes tokens: bytes (one token a byte, vocabulary 256)", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    struct arguments *a = state->input;
    switch (key) {
    case 't':
        a->tokenizer = arg;
        return 0;
    case ARGP_KEY_ARG:
        a->name[a->count++] = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum fpl_code convert(const struct arguments *a, struct fpl_error *err) {
    if (a->tokenizer == NULL)
        return fpl_fail(err, FPL_INVALID, "data: no --tokenizer given; accepted is --tokenizer bytes");
    if (strcmp(a->tokenizer, "bytes") != 0)
        return fpl_fail(err, FPL_INVALID, "data: unknown tokenizer '%s'; accepted is bytes", a->tokenizer);
    if (a->count < 2)
        return fpl_fail(err, FPL_INVALID,
                        "data: %s; `fplaw data --tokenizer bytes OUT.bin TEXT...` is expected",
                        a->count == 0 ? "no output file" : "no text");
    fpl_cli_catch_signals();
    if (fpl_data_tokenize_bytes(a->name + 1, a->count - 1, a->name[0], &fpl_cli_signal, err) == FPL_OK)
        return FPL_OK;
    return fpl_fail_at(err, "data");
}

int fpl_cmd_data(int argc, char **argv) {
    static const struct argp argp = {
        options,
        parse,
        "OUT.bin TEXT...",
        "Write the tokens of texts (- for standard input) to an llm.c token shard.\v"
        "The shard is written whole or not at all: 256 little-endian int32 (20240520, 1, the number of "
        "tokens, "
        "zeros), then uint16 tokens.  Train on it with data=tokens:OUT.bin.",
        NULL,
        NULL,
        NULL};
    struct fpl_error err = {FPL_OK, ""};
    struct arguments a = {NULL, malloc((size_t)argc * sizeof *a.name), 0};
    if (a.name == NULL) {
        fpl_fail(&err, FPL_SYSTEM, "data: out of memory");
        return fpl_cli_fail(&err);
    }
    int status = fpl_cli_parse(&argp, argc, argv, &a);
    if (status == 0 && convert(&a, &err) != FPL_OK) status = fpl_cli_fail(&err);
    free(a.name);
    return status;
}
