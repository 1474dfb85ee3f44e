/* safetensors.c - the header of .safetensors files, read and made.
 *
 * Layout (github.com/huggingface/safetensors): 8 bytes, little-endian N; N bytes of JSON that
 * begin with a brace and may end in spaces; data.  The JSON maps each tensor's name to
 *   {"dtype": "BF16", "shape": [4096, 1024], "data_offsets": [begin, end]}
 * with offsets from the end of the header, and optionally "__metadata__" to strings.
 *
 * What the format promises is checked: N at most 100 MB and inside the file, no key twice,
 * valid UTF-8, ends that fit dtype and shape, and data that the tensors cover exactly, with
 * neither overlap nor gap.  jansson refuses deep nesting, duplicates, bad UTF-8 and numbers
 * beyond 64 bits; since each of its values takes some 40 bytes of memory, a header is also
 * refused when it has more commas and brackets than a file of its tensors could need.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tensor.h"

enum { PREFIX = 8, HEADER_MOST = 100000000 };

/* Widths in bits: the last types are narrower than a byte. */
static const struct {
    const char *name;
    int bits;
    enum fpl_dtype dtype;
} types[] = {
    {"F32", 32, FPL_DTYPE_F32},          {"F16", 16, FPL_DTYPE_F16},      {"BF16", 16, FPL_DTYPE_BF16},
    {"F64", 64, FPL_DTYPE_OTHER},        {"I64", 64, FPL_DTYPE_OTHER},    {"U64", 64, FPL_DTYPE_OTHER},
    {"C64", 64, FPL_DTYPE_OTHER},        {"I32", 32, FPL_DTYPE_OTHER},    {"U32", 32, FPL_DTYPE_OTHER},
    {"I16", 16, FPL_DTYPE_OTHER},        {"U16", 16, FPL_DTYPE_OTHER},    {"I8", 8, FPL_DTYPE_OTHER},
    {"U8", 8, FPL_DTYPE_OTHER},          {"BOOL", 8, FPL_DTYPE_OTHER},    {"F8_E4M3", 8, FPL_DTYPE_OTHER},
    {"F8_E5M2", 8, FPL_DTYPE_OTHER},     {"F8_E8M0", 8, FPL_DTYPE_OTHER}, {"F8_E4M3FNUZ", 8, FPL_DTYPE_OTHER},
    {"F8_E5M2FNUZ", 8, FPL_DTYPE_OTHER}, {"F6_E2M3", 6, FPL_DTYPE_OTHER}, {"F6_E3M2", 6, FPL_DTYPE_OTHER},
    {"F4", 4, FPL_DTYPE_OTHER},
};

static uint64_t header_length(const uint8_t *data) {
    uint64_t n = 0;
    for (int i = PREFIX; i-- > 0;) n = n << 8 | data[i];
    return n;
}

int fpl_safetensors_is(const char *name, const uint8_t *data, uint64_t size) {
    static const char ending[] = ".safetensors";
    const size_t n = strlen(name);
    if (n >= sizeof ending - 1 && strcmp(name + n - (sizeof ending - 1), ending) == 0) return 1;
    if (size < PREFIX + 2 || data[PREFIX] != '{') return 0;
    /* Raw floats may begin like this too, but hardly with a length that fits and a closing brace. */
    const uint64_t length = header_length(data);
    if (length < 2 || length > HEADER_MOST || length > size - PREFIX) return 0;
    uint64_t last = PREFIX + length - 1;
    while (last > PREFIX && data[last] == ' ') last--;
    return data[last] == '}';
}

/* ---- one tensor ------------------------------------------------------------------------------- */

static enum fpl_code bad(const char *name, const char *tensor, const char *what, struct fpl_error *err) {
    return fpl_fail(err, FPL_INVALID, "%s: tensor '%.80s': %s", name, tensor, what);
}

static enum fpl_code read_shape(const char *name, const char *key, const json_t *shape, struct fpl_tensor *t,
                                struct fpl_error *err) {
    if (!json_is_array(shape)) return bad(name, key, "has no shape; accepted: a list of lengths", err);
    if (json_array_size(shape) > FPL_TENSOR_AXES)
        return bad(name, key, "has a shape of more than 32 axes", err);
    t->axes = (int)json_array_size(shape);
    for (int i = 0; i < t->axes; i++) {
        const json_t *axis = json_array_get(shape, (size_t)i);
        if (!json_is_integer(axis) || json_integer_value(axis) < 0)
            return bad(name, key, "has a shape that is no list of lengths of 0 or more", err);
        t->shape[i] = json_integer_value(axis);
    }
    return fpl_tensor_view(t) == 0 ? FPL_OK : bad(name, key, "has a shape that overflows", err);
}

/* Bytes that dtype and shape need; -1 where they are no whole number or overflow. */
static int64_t bytes_needed(const struct fpl_tensor *t, int bits) {
    if (t->elements > INT64_MAX / 64) return -1;
    return t->elements * bits % 8 != 0 ? -1 : t->elements * bits / 8;
}

static enum fpl_code read_tensor(const struct fpl_container *c, const char *name, const char *key,
                                 const json_t *entry, struct fpl_tensor *t, struct fpl_error *err) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (!json_is_object(entry) || dtype == NULL)
        return bad(name, key, "has no dtype; accepted: {\"dtype\": .., \"shape\": .., \"data_offsets\": ..}",
                   err);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return bad(name, key, "has no data_offsets; accepted: [begin, end]", err);
    size_t k = 0;
    while (k < sizeof types / sizeof types[0] && strcmp(types[k].name, dtype) != 0) k++;
    if (k == sizeof types / sizeof types[0])
        return fpl_fail(err, FPL_INVALID, "%s: tensor '%.80s': dtype '%.20s' is not known", name, key, dtype);
    if (read_shape(name, key, json_object_get(entry, "shape"), t, err) != FPL_OK) return FPL_INVALID;
    const json_int_t begin = json_integer_value(from), end = json_integer_value(to);
    if (begin < 0 || end < begin || (uint64_t)end > c->size - c->data_at)
        return fpl_fail(err, FPL_INVALID,
                        "%s: tensor '%.80s': data_offsets %" PRId64 " to %" PRId64
                        " do not lie in the file's %" PRIu64 " bytes of data",
                        name, key, (int64_t)begin, (int64_t)end, c->size - c->data_at);
    if (bytes_needed(t, types[k].bits) != end - begin)
        return fpl_fail(err, FPL_INVALID,
                        "%s: tensor '%.80s': data_offsets hold %" PRId64 " bytes, which its shape of %" PRId64
                        " %s values does not take",
                        name, key, (int64_t)(end - begin), t->elements, dtype);
    strcpy(t->dtype_name, types[k].name);
    t->dtype = types[k].dtype;
    t->at = c->data_at + (uint64_t)begin;
    t->bytes = (uint64_t)(end - begin);
    t->name = strdup(key);
    return t->name != NULL ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
}

/* ---- all of them ------------------------------------------------------------------------------ */

/* By place; empty tensors before what begins where they do. Names make the order total. */
static int by_place(const void *a, const void *b) {
    const struct fpl_tensor *s = a, *t = b;
    if (s->at != t->at) return s->at < t->at ? -1 : 1;
    if (s->bytes != t->bytes) return s->bytes < t->bytes ? -1 : 1;
    return strcmp(s->name, t->name);
}

static enum fpl_code check_cover(const struct fpl_container *c, const char *name, struct fpl_error *err) {
    uint64_t at = c->data_at;
    for (size_t i = 0; i < c->count; i++) {
        const struct fpl_tensor *t = &c->tensors[i];
        if (t->at < at) return bad(name, t->name, "overlaps another tensor", err);
        if (t->at > at) return bad(name, t->name, "leaves a gap of unused bytes before it", err);
        at += t->bytes;
    }
    if (at == c->size) return FPL_OK;
    return fpl_fail(err, FPL_INVALID, "%s: %" PRIu64 " bytes after the last tensor belong to none", name,
                    c->size - at);
}

static enum fpl_code read_metadata(struct fpl_container *c, const char *name, const json_t *metadata,
                                   struct fpl_error *err) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return fpl_fail(err, FPL_INVALID, "%s: __metadata__ is no object of strings", name);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        if (!json_is_string(value))
            return fpl_fail(err, FPL_INVALID, "%s: __metadata__ '%.80s' is no string", name, key);
    }
    c->metadata = json_dumps(metadata, JSON_COMPACT);
    return c->metadata != NULL ? FPL_OK : fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
}

static enum fpl_code read_tensors(struct fpl_container *c, const char *name, const json_t *header,
                                  struct fpl_error *err) {
    const char *key;
    json_t *value;
    enum fpl_code code = FPL_OK;
    c->tensors = calloc(json_object_size(header) + 1, sizeof *c->tensors);
    if (c->tensors == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
    json_object_foreach((json_t *)(uintptr_t)header, key, value) {
        if (strcmp(key, "__metadata__") == 0) {
            code = read_metadata(c, name, value, err);
        } else {
            code = read_tensor(c, name, key, value, &c->tensors[c->count], err);
            c->count += c->tensors[c->count].name != NULL;
        }
        if (code != FPL_OK) return code;
    }
    qsort(c->tensors, c->count, sizeof *c->tensors, by_place);
    return check_cover(c, name, err);
}

/* Text that would take memory out of all proportion: more than 2 million separators, ten for
 * each tensor of the largest models. */
static int too_many_values(const char *text, uint64_t length) {
    uint64_t separators = 0;
    for (uint64_t i = 0; i < length; i++) separators += text[i] == ',' || text[i] == '[' || text[i] == '{';
    return separators > 2000000;
}

enum fpl_code fpl_safetensors_parse(struct fpl_container *c, const char *name, struct fpl_error *err) {
    if (c->size < PREFIX)
        return fpl_fail(err, FPL_INVALID, "%s: %" PRIu64 " bytes are too few for a .safetensors header", name,
                        c->size);
    const uint64_t length = header_length(c->data);
    if (length > HEADER_MOST)
        return fpl_fail(err, FPL_INVALID,
                        "%s: .safetensors header of %" PRIu64 " bytes; accepted: at most %d", name, length,
                        HEADER_MOST);
    if (length > c->size - PREFIX)
        return fpl_fail(err, FPL_INVALID,
                        "%s: .safetensors header of %" PRIu64 " bytes in a file of %" PRIu64 ": truncated",
                        name, length, c->size);
    const char *text = (const char *)c->data + PREFIX;
    if (length == 0 || *text != '{')
        return fpl_fail(err, FPL_INVALID, "%s: .safetensors header does not begin with a brace", name);
    if (too_many_values(text, length))
        return fpl_fail(err, FPL_INVALID, "%s: .safetensors header of more than 2000000 values", name);
    c->data_at = PREFIX + length;
    json_error_t why;
    json_t *header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &why);
    if (header == NULL)
        return fpl_fail(err, FPL_INVALID, "%s: .safetensors header, byte %d: %s", name, why.position,
                        why.text);
    const enum fpl_code code = read_tensors(c, name, header, err);
    json_decref(header);
    return code;
}

/* ---- making a header --------------------------------------------------------------------------- */

static json_t *describe(const struct fpl_tensor *t, uint64_t from) {
    json_t *shape = json_array();
    for (int i = 0; i < t->axes; i++) json_array_append_new(shape, json_integer(t->shape[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", t->dtype_name, "shape", shape, "data_offsets",
                     (json_int_t)from, (json_int_t)(from + t->bytes));
}

enum fpl_code fpl_safetensors_header(struct fpl_tensor *tensors, size_t count, const char *metadata,
                                     struct fpl_text *out, struct fpl_error *err) {
    json_t *header = json_object();
    uint64_t at = 0;
    int failed = header == NULL;
    if (metadata != NULL)
        failed |= json_object_set_new(header, "__metadata__", json_loads(metadata, 0, NULL)) != 0;
    for (size_t i = 0; i < count && !failed; i++) {
        if (json_object_get(header, tensors[i].name) != NULL) {
            json_decref(header);
            return fpl_fail(err, FPL_INVALID, "two tensors would have the name '%.80s'", tensors[i].name);
        }
        failed = json_object_set_new(header, tensors[i].name, describe(&tensors[i], at)) != 0;
        tensors[i].at = at;
        at += tensors[i].bytes;
    }
    char *text = failed ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(header);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "out of memory");
    const uint64_t used = strlen(text), length = (used + 7) / 8 * 8;
    char prefix[PREFIX];
    for (int i = 0; i < PREFIX; i++) prefix[i] = (char)(length >> 8 * i & 0xff);
    fpl_text_append(out, prefix, sizeof prefix);
    fpl_text_append(out, text, used);
    fpl_text_append(out, "        ", length - used);
    free(text);
    for (size_t i = 0; i < count; i++) tensors[i].at += PREFIX + length;
    return out->failed ? fpl_fail(err, FPL_SYSTEM, "out of memory") : FPL_OK;
}
