/* yaml.c - see yaml.h.
 *
 * libyaml turns text into a flat stream of events; this file stacks them into a tree.  The
 * stack is an array of FPL_YAML_DEPTH nodes, nothing recurses, and reading stops at the first
 * event beyond a limit, so neither deep nesting nor a long file costs more than its own
 * length.  Duplicate keys are found by sorting a map's keys when it ends.
 *
 * Left out on purpose: anchors and aliases (a few lines of them expand to gigabytes), tags,
 * merge keys, several documents, keys that are not plain text.
 */
#include "yaml.h"

#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "file.h"

#define MOST_BYTES 1000000
#define MOST_DEPTH 32

struct reader {
    yaml_parser_t parser;
    const char *name;
    struct fpl_yaml *root;
    struct fpl_yaml *open[MOST_DEPTH]; /* lists and maps not yet ended */
    int depth;
    char *key; /* of a map's next value */
    int key_line;
    int documents;
    struct fpl_error *err;
};

void fpl_yaml_free(struct fpl_yaml *root) {
    if (root == NULL) return;
    for (size_t i = 0; i < root->count; i++) fpl_yaml_free(root->item[i]); /* at most MOST_DEPTH deep */
    free(root->item);
    free(root->text);
    free(root->key);
    free(root);
}

struct fpl_yaml *fpl_yaml_get(const struct fpl_yaml *map, const char *key) {
    if (map == NULL || map->kind != FPL_YAML_MAP) return NULL;
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->item[i]->key, key) == 0) return map->item[i];
    return NULL;
}

static enum fpl_code bad(struct reader *r, int line, const char *what) {
    return fpl_fail(r->err, FPL_INVALID, "%s:%d: %s", r->name, line, what);
}

static enum fpl_code no_memory(struct reader *r) {
    return fpl_fail(r->err, FPL_SYSTEM, "%s: out of memory", r->name);
}

static int line_of(const yaml_event_t *e) { return (int)e->start_mark.line + 1; }

/* ---- building ------------------------------------------------------------------------------- */

/* Room doubles at powers of two, so it need not be stored. */
static int add_item(struct fpl_yaml *parent, struct fpl_yaml *node) {
    if ((parent->count & (parent->count - 1)) == 0) {
        size_t room = parent->count == 0 ? 1 : parent->count * 2;
        struct fpl_yaml **larger = realloc(parent->item, room * sizeof *larger);
        if (larger == NULL) return 0;
        parent->item = larger;
    }
    parent->item[parent->count++] = node;
    return 1;
}

/* Hang a new node where the stream stands; NULL (and a message) when memory ran out. */
static struct fpl_yaml *add_node(struct reader *r, enum fpl_yaml_kind kind, int line) {
    struct fpl_yaml *node = calloc(1, sizeof *node);
    if (node == NULL) return no_memory(r), NULL;
    node->kind = kind;
    node->line = line;
    node->key = r->key;
    node->key_line = r->key_line;
    r->key = NULL;
    if (r->depth == 0) {
        r->root = node;
    } else if (!add_item(r->open[r->depth - 1], node)) {
        fpl_yaml_free(node);
        return no_memory(r), NULL;
    }
    return node;
}

/* Is a map's key expected next? */
static int at_key(const struct reader *r) {
    return r->depth > 0 && r->open[r->depth - 1]->kind == FPL_YAML_MAP && r->key == NULL;
}

static enum fpl_code on_scalar(struct reader *r, const yaml_event_t *e) {
    const char *value = (const char *)e->data.scalar.value;
    if (e->data.scalar.anchor != NULL) return bad(r, line_of(e), "anchors are not accepted");
    if (e->data.scalar.tag != NULL) return bad(r, line_of(e), "tags are not accepted");
    if (strlen(value) != e->data.scalar.length) return bad(r, line_of(e), "a text contains a zero byte");
    char *text = strdup(value);
    if (text == NULL) return no_memory(r);
    if (at_key(r)) {
        r->key = text;
        r->key_line = line_of(e);
        return FPL_OK;
    }
    struct fpl_yaml *node = add_node(r, FPL_YAML_SCALAR, line_of(e));
    if (node == NULL) {
        free(text);
        return FPL_SYSTEM;
    }
    node->text = text;
    node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return FPL_OK;
}

static enum fpl_code on_start(struct reader *r, const yaml_event_t *e, enum fpl_yaml_kind kind) {
    int map = kind == FPL_YAML_MAP;
    const void *anchor = map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor;
    const void *tag = map ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    if (anchor != NULL) return bad(r, line_of(e), "anchors are not accepted");
    if (tag != NULL) return bad(r, line_of(e), "tags are not accepted");
    if (at_key(r)) return bad(r, line_of(e), "a key must be plain text, a list or map is found");
    if (r->depth == MOST_DEPTH)
        return fpl_fail(r->err, FPL_INVALID, "%s:%d: lists and maps are nested more than %d deep", r->name,
                        line_of(e), MOST_DEPTH);
    struct fpl_yaml *node = add_node(r, kind, line_of(e));
    if (node == NULL) return FPL_SYSTEM;
    r->open[r->depth++] = node;
    return FPL_OK;
}

static int by_key(const void *a, const void *b) {
    const struct fpl_yaml *x = *(struct fpl_yaml *const *)a, *y = *(struct fpl_yaml *const *)b;
    int order = strcmp(x->key, y->key);
    return order != 0 ? order : (x->key_line > y->key_line) - (x->key_line < y->key_line);
}

static enum fpl_code refuse_repeated_keys(struct reader *r, const struct fpl_yaml *map) {
    if (map->count < 2) return FPL_OK;
    struct fpl_yaml **sorted = malloc(map->count * sizeof *sorted);
    if (sorted == NULL) return no_memory(r);
    memcpy(sorted, map->item, map->count * sizeof *sorted);
    qsort(sorted, map->count, sizeof *sorted, by_key);
    enum fpl_code code = FPL_OK;
    for (size_t i = 1; i < map->count && code == FPL_OK; i++)
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0)
            code = fpl_fail(r->err, FPL_INVALID, "%s:%d: key '%.60s' is given twice, first in line %d",
                            r->name, sorted[i]->key_line, sorted[i]->key, sorted[i - 1]->key_line);
    free(sorted);
    return code;
}

static enum fpl_code on_end(struct reader *r) {
    struct fpl_yaml *node = r->open[--r->depth];
    return node->kind == FPL_YAML_MAP ? refuse_repeated_keys(r, node) : FPL_OK;
}

static enum fpl_code on_event(struct reader *r, const yaml_event_t *e) {
    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        return r->documents++ == 0 ? FPL_OK : bad(r, line_of(e), "a second document starts, one is accepted");
    case YAML_ALIAS_EVENT:
        return bad(r, line_of(e), "aliases are not accepted");
    case YAML_SCALAR_EVENT:
        return on_scalar(r, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(r, e, FPL_YAML_LIST);
    case YAML_MAPPING_START_EVENT:
        return on_start(r, e, FPL_YAML_MAP);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(r);
    default:
        return FPL_OK;
    }
}

/* ---- reading -------------------------------------------------------------------------------- */

static enum fpl_code syntax_error(struct reader *r) {
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return no_memory(r);
    const char *problem = p->problem != NULL ? p->problem : "unreadable";
    if (p->error == YAML_READER_ERROR)
        return fpl_fail(r->err, FPL_INVALID, "%s:%d: not UTF-8 text (byte %zu: %s)", r->name,
                        (int)p->mark.line + 1, p->problem_offset, problem);
    if (p->context != NULL)
        return fpl_fail(r->err, FPL_INVALID, "%s:%d: not YAML: %s %s", r->name, (int)p->problem_mark.line + 1,
                        p->context, problem);
    return fpl_fail(r->err, FPL_INVALID, "%s:%d: not YAML: %s", r->name, (int)p->problem_mark.line + 1,
                    problem);
}

static enum fpl_code read_events(struct reader *r) {
    for (;;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&r->parser, &event)) return syntax_error(r);
        int end = event.type == YAML_STREAM_END_EVENT;
        enum fpl_code code = on_event(r, &event);
        yaml_event_delete(&event);
        if (code != FPL_OK) return code;
        if (end) return r->root != NULL ? FPL_OK : fpl_fail(r->err, FPL_INVALID, "%s: is empty", r->name);
    }
}

enum fpl_code fpl_yaml_parse(const char *name, const char *text, size_t size, struct fpl_yaml **root,
                             struct fpl_error *err) {
    *root = NULL;
    if (size > MOST_BYTES)
        return fpl_fail(err, FPL_INVALID, "%s: longer than the %d bytes accepted here", name, MOST_BYTES);
    struct reader r = {.name = name, .err = err};
    if (!yaml_parser_initialize(&r.parser)) return no_memory(&r);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, size -= 3; /* byte-order mark */
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
    enum fpl_code code = read_events(&r);
    yaml_parser_delete(&r.parser);
    free(r.key);
    if (code == FPL_OK)
        *root = r.root;
    else
        fpl_yaml_free(r.root);
    return code;
}

enum fpl_code fpl_yaml_read(const char *path, struct fpl_yaml **root, struct fpl_error *err) {
    char *text = NULL;
    size_t size = 0;
    *root = NULL;
    enum fpl_code code = fpl_file_read(path, MOST_BYTES, &text, &size, err);
    if (code != FPL_OK) return code;
    code = fpl_yaml_parse(strcmp(path, "-") == 0 ? "standard input" : path, text, size, root, err);
    free(text);
    return code;
}
