/* runs_where.c - filters of a table of runs: "N>1e9 and not (format=e4m3 or block!=32)".
 *
 *   expression = conjunction { "or" conjunction } ;
 *   conjunction = negation { "and" negation } ;
 *   negation   = { "not" } ( "(" expression ")" | comparison ) ;
 *   comparison = column ( "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" ) value ;
 *   value      = number | word | 'quoted text' | "quoted text" ;
 *
 * A column of numbers is compared with a number, a column of texts by = and != with a word.
 * A comparison with a missing number (NaN) is false, "!=" included, so that `block!=32` keeps
 * runs that have another block, not runs without one.
 *
 * Invariant: the expression is compiled once into postfix steps and evaluated per row without
 * allocation; nesting is limited, so hostile input cannot exhaust the stack.
 */
#include "runs.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runs_columns.h"

#define STEP_LIMIT 256
#define DEPTH_LIMIT 32

enum operation { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_AND, OP_OR, OP_NOT };

struct step {
    enum operation op;
    const struct fpl_column *column;
    double number;
    char word[128];
};

struct filter {
    const char *text, *at;
    size_t count;
    int depth;
    struct step step[STEP_LIMIT];
    struct fpl_error *err;
};

static enum fpl_code complain(struct filter *f, const char *expected) {
    return fpl_fail(f->err, FPL_INVALID, "'%s', position %zu: found '%.20s', expected %s", f->text,
                    (size_t)(f->at - f->text) + 1, *f->at != '\0' ? f->at : "the end", expected);
}

static void skip_space(struct filter *f) {
    while (isspace((unsigned char)*f->at)) f->at++;
}

/* One of the words and, or, not: letters that do not go on. */
static int accept_word(struct filter *f, const char *word) {
    skip_space(f);
    const size_t n = strlen(word);
    if (strncmp(f->at, word, n) != 0 || isalnum((unsigned char)f->at[n]) || f->at[n] == '_') return 0;
    f->at += n;
    return 1;
}

static enum fpl_code push(struct filter *f, const struct step *step) {
    if (f->count == STEP_LIMIT)
        return fpl_fail(f->err, FPL_INVALID, "'%.60s...': more than %d terms", f->text, STEP_LIMIT);
    f->step[f->count++] = *step;
    return FPL_OK;
}

static enum fpl_code push_operation(struct filter *f, enum operation op) {
    const struct step step = {op, NULL, 0.0, ""};
    return push(f, &step);
}

static int accept_comparison(struct filter *f, enum operation *op) {
    static const struct {
        const char *text;
        enum operation op;
    } forms[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE},
                 {"=", OP_EQ},  {"<", OP_LT},  {">", OP_GT}};
    skip_space(f);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (strncmp(f->at, forms[i].text, strlen(forms[i].text)) == 0) {
            *op = forms[i].op;
            f->at += strlen(forms[i].text);
            return 1;
        }
    return 0;
}

/* A quoted text, or everything up to a space or parenthesis. */
static enum fpl_code take_value(struct filter *f, char *word, size_t size) {
    skip_space(f);
    const char *begin = f->at, *end;
    if (*begin == '\'' || *begin == '"') {
        end = strchr(begin + 1, *begin);
        if (end == NULL) return complain(f, "a quote that ends");
        f->at = end + 1;
        begin++;
    } else {
        end = begin + strcspn(begin, " \t\r\n()");
        if (end == begin) return complain(f, "a number or a word");
        f->at = end;
    }
    if ((size_t)(end - begin) >= size) {
        f->at = begin;
        return complain(f, "a value of at most 127 characters");
    }
    snprintf(word, size, "%.*s", (int)(end - begin), begin);
    return FPL_OK;
}

static enum fpl_code parse_comparison(struct filter *f) {
    struct step step = {OP_EQ, NULL, 0.0, ""};
    char name[64];
    skip_space(f);
    const char *begin = f->at;
    while (isalnum((unsigned char)*f->at) || *f->at == '_') f->at++;
    const size_t length = (size_t)(f->at - begin);
    if (length == 0 || length >= sizeof name) {
        f->at = begin;
        return complain(f, "a column's name, 'not' or '('");
    }
    snprintf(name, sizeof name, "%.*s", (int)length, begin);
    step.column = fpl_column_find(name);
    if (step.column == NULL) {
        fpl_column_unknown(name, f->err);
        return fpl_fail_at(f->err, "'%s'", f->text);
    }
    if (!accept_comparison(f, &step.op)) return complain(f, "one of = == != < <= > >=");
    const char *value = f->at;
    const enum fpl_code code = take_value(f, step.word, sizeof step.word);
    if (code != FPL_OK) return code;
    if (step.column->kind == FPL_COL_TEXT || step.column->kind == FPL_COL_STATUS) {
        if (step.op != OP_EQ && step.op != OP_NE) {
            f->at = value;
            return complain(f, "= or != before a word");
        }
        if (step.column->kind == FPL_COL_STATUS) {
            int known = 0;
            for (int s = 0; s < FPL_RUN_STATUSES; s++) known |= strcmp(step.word, fpl_status_names[s]) == 0;
            if (!known) {
                f->at = value;
                return complain(f, "ok, diverged, collapsed or stopped");
            }
        }
        return push(f, &step);
    }
    char *end = NULL;
    step.number = strtod(step.word, &end);
    if (end == step.word || *end != '\0') {
        f->at = value;
        return complain(f, "a number");
    }
    return push(f, &step);
}

static enum fpl_code parse_expression(struct filter *f);

static enum fpl_code parse_negation(struct filter *f) {
    int negations = 0;
    while (accept_word(f, "not")) negations++;
    skip_space(f);
    enum fpl_code code;
    if (*f->at == '(') {
        if (++f->depth > DEPTH_LIMIT) return complain(f, "at most 32 nested parentheses");
        f->at++;
        code = parse_expression(f);
        if (code != FPL_OK) return code;
        skip_space(f);
        if (*f->at != ')') return complain(f, "')', 'and' or 'or'");
        f->at++;
        f->depth--;
    } else {
        code = parse_comparison(f);
    }
    if (code == FPL_OK && negations % 2 != 0) code = push_operation(f, OP_NOT);
    return code;
}

static enum fpl_code parse_conjunction(struct filter *f) {
    enum fpl_code code = parse_negation(f);
    while (code == FPL_OK && accept_word(f, "and")) {
        code = parse_negation(f);
        if (code == FPL_OK) code = push_operation(f, OP_AND);
    }
    return code;
}

static enum fpl_code parse_expression(struct filter *f) {
    enum fpl_code code = parse_conjunction(f);
    while (code == FPL_OK && accept_word(f, "or")) {
        code = parse_conjunction(f);
        if (code == FPL_OK) code = push_operation(f, OP_OR);
    }
    return code;
}

static int compare(const struct step *s, const struct fpl_run *run) {
    if (s->column->kind == FPL_COL_TEXT || s->column->kind == FPL_COL_STATUS) {
        const char *word = s->column->kind == FPL_COL_STATUS ? fpl_status_names[run->status]
                                                             : (const char *)run + s->column->offset;
        return (strcmp(word, s->word) == 0) == (s->op == OP_EQ);
    }
    const double x = fpl_column_number(s->column, run);
    if (isnan(x)) return 0;
    switch (s->op) {
    case OP_EQ:
        return x == s->number;
    case OP_NE:
        return x != s->number;
    case OP_LT:
        return x < s->number;
    case OP_LE:
        return x <= s->number;
    case OP_GT:
        return x > s->number;
    default:
        return x >= s->number;
    }
}

static int holds(const struct filter *f, const struct fpl_run *run) {
    unsigned char stack[STEP_LIMIT];
    size_t top = 0;
    for (size_t i = 0; i < f->count; i++) {
        const struct step *s = &f->step[i];
        switch (s->op) {
        case OP_NOT:
            stack[top - 1] = !stack[top - 1];
            break;
        case OP_AND:
            top--;
            stack[top - 1] &= stack[top];
            break;
        case OP_OR:
            top--;
            stack[top - 1] |= stack[top];
            break;
        default:
            stack[top++] = (unsigned char)compare(s, run);
        }
    }
    return stack[0];
}

enum fpl_code fpl_runs_match(const struct fpl_runs *runs, const char *expression, unsigned char *match,
                             struct fpl_error *err) {
    struct filter *f = calloc(1, sizeof *f);
    if (f == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    f->text = f->at = expression;
    f->err = err;
    enum fpl_code code = parse_expression(f);
    skip_space(f);
    if (code == FPL_OK && *f->at != '\0') code = complain(f, "'and', 'or' or the end");
    for (size_t i = 0; code == FPL_OK && i < runs->count; i++)
        match[i] = (unsigned char)holds(f, &runs->run[i]);
    free(f);
    return code;
}

enum fpl_code fpl_runs_where(struct fpl_runs *runs, const char *expression, struct fpl_error *err) {
    unsigned char *match = malloc(runs->count + 1);
    if (match == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    const enum fpl_code code = fpl_runs_match(runs, expression, match, err);
    if (code == FPL_OK) {
        size_t kept = 0;
        for (size_t i = 0; i < runs->count; i++)
            if (match[i]) runs->run[kept++] = runs->run[i];
        runs->count = kept;
        const size_t used = strlen(runs->where);
        snprintf(runs->where + used, sizeof runs->where - used, "%s(%s)", used > 0 ? " and " : "",
                 expression);
    }
    free(match);
    return code;
}
