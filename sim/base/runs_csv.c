/* runs_csv.c - any CSV as a table of runs.
 *
 * RFC 4180 with what occurs in the wild: LF or CRLF, a UTF-8 byte-order mark, quoted fields
 * with doubled quotes and line breaks inside, a last line without its end, blank lines
 * (skipped).  Numbers are decimal or `nan`, `inf`; an empty field is NaN.  A row with fewer or
 * more fields than the header is an error, since a shifted row would be fitted silently.
 *
 * Columns are found by name: RUNS.csv's own names, or what NAME=COLUMN[*NUMBER] maps them to.
 * Columns that nothing asks for are not parsed.  Every message starts with path:line and
 * names the column.
 *
 * Invariant: the text of the file is consumed by one forward scan; a field is unquoted in
 * place, so that nothing is allocated per field.
 */
#include "runs.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "number.h"
#include "runs_columns.h"

#define FILE_LIMIT ((size_t)1 << 30)
#define COLUMN_LIMIT 1024

/* A field of the file and where it goes. */
struct target {
    const struct fpl_column *column; /* NULL: not asked for */
    double factor;
    const char *heading;
};

struct reader {
    const char *path;
    char *at, *end;
    int64_t line; /* of `at`, from 1 */
    size_t columns;
    struct target target[COLUMN_LIMIT];
};

/* ---- fields ------------------------------------------------------------------------------ */

enum stop { STOP_FIELD, STOP_LINE, STOP_FILE, STOP_BROKEN };

/* Quoted part of a field, from behind the opening quote; returns the end of the written text. */
static char *unquote(struct reader *r, char *to) {
    while (r->at < r->end) {
        if (*r->at == '"') {
            if (r->at + 1 == r->end || r->at[1] != '"') {
                r->at++;
                return to;
            }
            r->at++;
        } else if (*r->at == '\n') {
            r->line++;
        }
        *to++ = *r->at++;
    }
    return NULL;
}

/* The next field, terminated in place; `at` moves behind its separator. */
static enum stop next_field(struct reader *r, char **field) {
    char *to = *field = r->at;
    if (r->at < r->end && *r->at == '"') {
        r->at++;
        to = unquote(r, to);
        if (to == NULL) return STOP_BROKEN;
    }
    while (r->at < r->end && *r->at != ',' && *r->at != '\n') *to++ = *r->at++;
    const char separator = r->at < r->end ? *r->at : '\0';
    if (r->at < r->end) r->at++;
    if (separator != ',' && to > *field && to[-1] == '\r') to--;
    *to = '\0';
    if (separator == ',') return STOP_FIELD;
    if (separator == '\n') {
        r->line++;
        return STOP_LINE;
    }
    return STOP_FILE;
}

static char *trim(char *text) {
    while (isspace((unsigned char)*text)) text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1])) end--;
    *end = '\0';
    return text;
}

/* ---- the header -------------------------------------------------------------------------- */

/* "NAME=COLUMN*NUMBER" split; column has room for the text. */
static enum fpl_code split_mapping(const char *mapping, char *name, size_t name_size, char *column,
                                   size_t column_size, double *factor, struct fpl_error *err) {
    const char *equal = strchr(mapping, '=');
    if (equal == NULL || equal == mapping || equal[1] == '\0')
        return fpl_fail(err, FPL_INVALID, "--columns: found '%s', expected NAME=COLUMN or NAME=COLUMN*NUMBER",
                        mapping);
    if ((size_t)(equal - mapping) >= name_size || strlen(equal + 1) >= column_size)
        return fpl_fail(err, FPL_INVALID, "--columns: '%.60s...' is too long", mapping);
    snprintf(name, name_size, "%.*s", (int)(equal - mapping), mapping);
    snprintf(column, column_size, "%s", equal + 1);
    *factor = 1.0;
    char *star = strrchr(column, '*');
    if (star == NULL) return FPL_OK;
    struct fpl_error ignored;
    double x = 0.0;
    if (fpl_number_parse(trim(star + 1), &x, &ignored) != FPL_OK || !isfinite(x) || x == 0.0)
        return fpl_fail(err, FPL_INVALID,
                        "--columns: '%s': found '%s' after '*', expected a finite number (2048, 1e6, 1M)",
                        mapping, star + 1);
    *factor = x;
    *star = '\0';
    char *trimmed = trim(column);
    memmove(column, trimmed, strlen(trimmed) + 1);
    return FPL_OK;
}

static enum fpl_code find_heading(const struct reader *r, const char *heading, const char *mapping,
                                  size_t *index, struct fpl_error *err) {
    const char *names[COLUMN_LIMIT + 1];
    for (size_t i = 0; i < r->columns; i++) {
        names[i] = r->target[i].heading;
        if (strcmp(names[i], heading) == 0) {
            *index = i;
            return FPL_OK;
        }
    }
    names[r->columns] = NULL;
    const char *near = fpl_nearest_word(heading, names);
    return fpl_fail(err, FPL_INVALID, "%s:1: --columns %s: the file has no column '%s'%s%s%s", r->path,
                    mapping, heading, near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                    near != NULL ? "'?" : "");
}

/* The user's mappings first; then every heading that is a column's own name and is not mapped. */
static enum fpl_code map_columns(struct reader *r, const char *const *columns, struct fpl_error *err) {
    const struct fpl_column *mapped[64];
    size_t count = 0;
    for (; columns != NULL && *columns != NULL; columns++) {
        char name[64], heading[256];
        double factor;
        size_t index = 0;
        enum fpl_code code =
            split_mapping(*columns, name, sizeof name, heading, sizeof heading, &factor, err);
        if (code != FPL_OK) return code;
        const struct fpl_column *column = fpl_column_find(name);
        if (column == NULL) {
            fpl_column_unknown(name, err);
            return fpl_fail_at(err, "--columns %s", *columns);
        }
        if (factor != 1.0 && column->kind != FPL_COL_REAL && column->kind != FPL_COL_OPTIONAL)
            return fpl_fail(err, FPL_INVALID, "--columns %s: '%s' is not a number that can be scaled",
                            *columns, name);
        for (size_t i = 0; i < count; i++)
            if (mapped[i] == column)
                return fpl_fail(err, FPL_INVALID, "--columns %s: '%s' is mapped twice", *columns, name);
        code = find_heading(r, heading, *columns, &index, err);
        if (code != FPL_OK) return code;
        if (r->target[index].column != NULL)
            return fpl_fail(err, FPL_INVALID, "--columns %s: column '%s' is already mapped to '%s'", *columns,
                            heading, r->target[index].column->name);
        r->target[index].column = column;
        r->target[index].factor = factor;
        mapped[count++] = column;
    }
    for (size_t i = 0; i < r->columns; i++) {
        const struct fpl_column *column = fpl_column_find(r->target[i].heading);
        if (column == NULL || r->target[i].column != NULL) continue;
        int taken = 0;
        for (size_t j = 0; j < count; j++) taken |= mapped[j] == column;
        if (!taken) r->target[i].column = column;
    }
    return FPL_OK;
}

static enum fpl_code read_header(struct reader *r, const char *const *columns, struct fpl_error *err) {
    enum stop stop = STOP_FIELD;
    while (stop == STOP_FIELD) {
        char *field;
        stop = next_field(r, &field);
        if (stop == STOP_BROKEN)
            return fpl_fail(err, FPL_INVALID, "%s:1: a quoted field does not end", r->path);
        if (r->columns == COLUMN_LIMIT)
            return fpl_fail(err, FPL_INVALID, "%s:1: more than %d columns", r->path, COLUMN_LIMIT);
        const char *heading = trim(field);
        for (size_t i = 0; i < r->columns; i++)
            if (*heading != '\0' && strcmp(r->target[i].heading, heading) == 0)
                return fpl_fail(err, FPL_INVALID, "%s:1: two columns are called '%s'", r->path, heading);
        r->target[r->columns++] = (struct target){NULL, 1.0, heading};
    }
    return map_columns(r, columns, err);
}

/* ---- rows -------------------------------------------------------------------------------- */

static enum fpl_code bad_field(const struct reader *r, int64_t line, const struct target *t,
                               const char *found, const char *expected, struct fpl_error *err) {
    return fpl_fail(err, FPL_INVALID, "%s:%lld: column '%s': found '%.60s', expected %s", r->path,
                    (long long)line, t->heading, found, expected);
}

static enum fpl_code set_field(const struct reader *r, const struct target *t, int64_t line, char *text,
                               struct fpl_run *run, struct fpl_error *err) {
    char *field = (char *)run + t->column->offset, *end = NULL;
    text = trim(text);
    switch (t->column->kind) {
    case FPL_COL_TEXT:
        if (strlen(text) >= t->column->size)
            return fpl_fail(err, FPL_INVALID, "%s:%lld: column '%s': %zu characters, at most %zu are kept",
                            r->path, (long long)line, t->heading, strlen(text), t->column->size - 1);
        memcpy(field, text, strlen(text) + 1);
        return FPL_OK;
    case FPL_COL_STATUS:
        for (int s = 0; s < FPL_RUN_STATUSES; s++)
            if (strcmp(text, fpl_status_names[s]) == 0) {
                run->status = (enum fpl_status)s;
                return FPL_OK;
            }
        return bad_field(r, line, t, text, "ok, diverged, collapsed or stopped", err);
    case FPL_COL_SEED:
        errno = 0;
        run->seed = strtoull(text, &end, 10);
        if (!isdigit((unsigned char)*text) || *end != '\0' || errno != 0)
            return bad_field(r, line, t, text, "an integer from 0 to 2^64 - 1", err);
        return FPL_OK;
    case FPL_COL_SMALL: {
        const long x = strtol(text, &end, 10);
        if (end == text || *end != '\0' || x < -1000000000L || x > 1000000000L)
            return bad_field(r, line, t, text, "an integer", err);
        const int small = (int)x;
        memcpy(field, &small, sizeof small);
        return FPL_OK;
    }
    case FPL_COL_REAL:
    case FPL_COL_OPTIONAL:
        break;
    }
    double x = (double)NAN;
    if (*text != '\0') {
        x = strtod(text, &end);
        struct fpl_error ignored; /* 125M is a number, too */
        if ((end == text || *end != '\0') && fpl_number_parse(text, &x, &ignored) != FPL_OK)
            return bad_field(r, line, t, text, "a number (1000, 1e3, 512k, 4M, 1G) or nan", err);
    }
    x *= t->factor;
    memcpy(field, &x, sizeof x);
    return FPL_OK;
}

static void blank_run(struct fpl_run *run, int64_t line) {
    fpl_run_blank(run);
    run->line = line;
    snprintf(run->run, sizeof run->run, "%lld", (long long)line);
}

static enum fpl_code read_row(struct reader *r, struct fpl_run *run, int *blank, struct fpl_error *err) {
    const int64_t line = r->line;
    size_t found = 0;
    enum stop stop = STOP_FIELD;
    blank_run(run, line);
    *blank = 0;
    while (stop == STOP_FIELD) {
        char *field;
        stop = next_field(r, &field);
        if (stop == STOP_BROKEN)
            return fpl_fail(err, FPL_INVALID, "%s:%lld: a quoted field does not end", r->path,
                            (long long)line);
        if (found == 0 && stop != STOP_FIELD && *trim(field) == '\0' && r->columns > 1) {
            *blank = 1;
            return FPL_OK;
        }
        if (found < r->columns && r->target[found].column != NULL) {
            const enum fpl_code code = set_field(r, &r->target[found], line, field, run, err);
            if (code != FPL_OK) return code;
        }
        found++;
    }
    if (found != r->columns)
        return fpl_fail(err, FPL_INVALID, "%s:%lld: %zu fields where the header has %zu", r->path,
                        (long long)line, found, r->columns);
    return FPL_OK;
}

static enum fpl_code read_rows(struct reader *r, struct fpl_runs *out, struct fpl_error *err) {
    size_t lines = 1;
    for (const char *c = r->at; c < r->end; c++) lines += *c == '\n';
    out->run = malloc(lines * sizeof *out->run);
    if (out->run == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory for %zu runs", r->path, lines);
    while (r->at < r->end) {
        int blank = 0;
        const enum fpl_code code = read_row(r, &out->run[out->count], &blank, err);
        if (code != FPL_OK) return code;
        out->count += !blank;
    }
    if (out->count == 0) return fpl_fail(err, FPL_INVALID, "%s: a header and no runs", r->path);
    return FPL_OK;
}

enum fpl_code fpl_runs_read_csv(const char *path, const char *const *columns, struct fpl_runs *out,
                                struct fpl_error *err) {
    memset(out, 0, sizeof *out);
    char *data = NULL;
    size_t size = 0;
    enum fpl_code code = fpl_file_read(path, FILE_LIMIT, &data, &size, err);
    if (code != FPL_OK) return code;
    snprintf(out->source, sizeof out->source, "%s", path);
    fpl_hash_text(data, size, out->hash);

    struct reader *r = calloc(1, sizeof *r);
    if (r == NULL) {
        free(data);
        return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", path);
    }
    r->path = path;
    r->at = data;
    r->end = data + size;
    r->line = 1;
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) r->at += 3;
    const char *zero = memchr(data, '\0', size);
    if (r->at == r->end)
        code = fpl_fail(err, FPL_INVALID, "%s: empty, expected a CSV with a header", path);
    else if (zero != NULL)
        code =
            fpl_fail(err, FPL_INVALID, "%s: byte %zu is zero: not a CSV text", path, (size_t)(zero - data));
    else
        code = read_header(r, columns, err);
    if (code == FPL_OK) {
        out->lacks_status = 1;
        for (size_t i = 0; i < r->columns; i++)
            if (r->target[i].column != NULL && r->target[i].column->kind == FPL_COL_STATUS)
                out->lacks_status = 0;
        code = read_rows(r, out, err);
    }
    free(r);
    free(data);
    if (code != FPL_OK) fpl_runs_free(out);
    return code;
}
