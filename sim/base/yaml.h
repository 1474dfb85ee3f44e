/* yaml.h - YAML read through libyaml's events into a small tree, with limits.
 *
 * Limits: 1 MB, depth 32, no aliases or anchors, no duplicate keys, one document, UTF-8.
 * Every node keeps its line for messages.  The document loader of libyaml is not used: it
 * does not return on deep nesting.
 */
#ifndef FPL_YAML_H
#define FPL_YAML_H

#include <stddef.h>

#include "../../formats/error.h"

enum fpl_yaml_kind { FPL_YAML_SCALAR, FPL_YAML_LIST, FPL_YAML_MAP };

struct fpl_yaml {
    enum fpl_yaml_kind kind;
    int line;   /* 1-based */
    int quoted; /* scalar was quoted */
    char *text; /* scalar */
    char *key;  /* key, if this node is a value of a map */
    int key_line;
    size_t count;
    struct fpl_yaml **item; /* list elements or map values, in file order */
};

/* path "-" reads standard input; messages start with "path:line: ". *root must be freed. */
enum fpl_code fpl_yaml_read(const char *path, struct fpl_yaml **root, struct fpl_error *err);
/* The same from memory; name is used in messages. */
enum fpl_code fpl_yaml_parse(const char *name, const char *text, size_t size, struct fpl_yaml **root,
                             struct fpl_error *err);
void fpl_yaml_free(struct fpl_yaml *root);
struct fpl_yaml *fpl_yaml_get(const struct fpl_yaml *map, const char *key); /* NULL if absent */

#endif
