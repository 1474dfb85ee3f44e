/* tensor.c - a file of arrays, opened: mapped or read, its kind recognised, its header parsed.
 *
 * The kind follows from the first bytes: NumPy's magic, or a header length and the brace that
 * opens a .safetensors file's JSON (where the name ends in .safetensors whatever they are, so
 * that a damaged file is not taken for raw values).  All else is raw.
 *
 * A mapped file that another program shortens meanwhile raises SIGBUS where it is read; the
 * command line turns that signal into a message.
 */
#include "tensor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int fpl_tensor_view(struct fpl_tensor *t) {
    const int64_t most = (int64_t)1 << 62;
    t->elements = t->rows = 1;
    t->cols = t->axes > 0 ? t->shape[t->axes - 1] : 1;
    int empty = 0;
    for (int i = 0; i < t->axes; i++) empty |= t->shape[i] == 0;
    for (int i = 0; i < t->axes && !empty; i++) {
        if (t->elements > most / t->shape[i]) return -1;
        t->elements *= t->shape[i];
    }
    if (empty) {
        t->elements = 0;
        t->cols = 0;
    } else {
        t->rows = t->elements / t->cols;
    }
    return 0;
}

/* One tensor over all of the bytes. */
static enum fpl_code parse_raw(struct fpl_container *c, const char *name, enum fpl_dtype dtype,
                               struct fpl_error *err) {
    const uint64_t bytes = (uint64_t)fpl_dtype_bytes(dtype);
    if (c->size % bytes != 0)
        return fpl_fail(err, FPL_INVALID, "%s: %llu bytes are not divisible by %d; accepted: whole %s values",
                        name, (unsigned long long)c->size, (int)bytes,
                        dtype == FPL_DTYPE_F32 ? "float32" : fpl_dtype_names[dtype]);
    c->tensors = calloc(1, sizeof *c->tensors);
    if (c->tensors == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
    c->count = 1;
    struct fpl_tensor *t = c->tensors;
    t->dtype = dtype;
    strcpy(t->dtype_name, fpl_dtype_names[dtype]);
    t->axes = 1;
    t->shape[0] = (int64_t)(c->size / bytes);
    t->bytes = c->size;
    t->name = strdup("");
    if (t->name == NULL) return fpl_fail(err, FPL_SYSTEM, "%s: out of memory", name);
    (void)fpl_tensor_view(t); /* one axis never overflows */
    return FPL_OK;
}

enum fpl_code fpl_container_parse(struct fpl_container *c, const char *name, const void *data, uint64_t size,
                                  int raw, struct fpl_error *err) {
    enum fpl_code code;
    *c = (struct fpl_container){.data = data, .size = size};
    if (fpl_npy_is(data, size)) {
        c->kind = FPL_NPY;
        code = fpl_npy_parse(c, name, raw, err);
    } else if (fpl_safetensors_is(name, data, size)) {
        c->kind = FPL_SAFETENSORS;
        code = fpl_safetensors_parse(c, name, err);
    } else {
        c->kind = FPL_RAW;
        code = parse_raw(c, name, raw < 0 ? FPL_DTYPE_F32 : (enum fpl_dtype)raw, err);
    }
    if (code != FPL_OK) fpl_container_close(c);
    return code;
}

/* Map an open descriptor that is a regular file read from its start; NULL where that is not so
 * (errno 0) or fails (errno). Length 0 cannot be mapped: it is read. */
static void *map(int fd, size_t *size) {
    struct stat st;
    errno = 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || lseek(fd, 0, SEEK_CUR) != 0) {
        errno = 0;
        return NULL;
    }
    if ((uintmax_t)st.st_size > SIZE_MAX / 2) return NULL;
    *size = (size_t)st.st_size;
    void *p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) return NULL;
    (void)madvise(p, *size, MADV_SEQUENTIAL);
    return p;
}

enum fpl_code fpl_container_open(struct fpl_container *c, const char *path, int raw, struct fpl_error *err) {
    const int standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    size_t size = 0;
    *c = (struct fpl_container){0};
    const int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    void *mapped = fd < 0 ? NULL : map(fd, &size);
    const int reason = errno;
    if (fd >= 0 && !standard) close(fd);
    if (fd >= 0 && mapped == NULL && reason != 0)
        return fpl_fail(err, FPL_SYSTEM, "%s: cannot be mapped: %s", name, strerror(reason));
    char *read = NULL;
    const void *data = mapped;
    if (mapped == NULL) { /* also says why a file cannot be opened */
        enum fpl_code code = fpl_file_read(path, FPL_STREAM_LIMIT, &read, &size, err);
        if (code != FPL_OK) return code;
        data = read;
    }
    const enum fpl_code code = fpl_container_parse(c, name, data, size, raw, err);
    if (code == FPL_OK) {
        c->mapped = mapped;
        c->read = read;
        return FPL_OK;
    }
    if (mapped != NULL) munmap(mapped, size);
    free(read);
    return code;
}

void fpl_container_close(struct fpl_container *c) {
    for (size_t i = 0; i < c->count; i++) free(c->tensors[i].name);
    free(c->tensors);
    free(c->metadata);
    if (c->mapped != NULL) munmap(c->mapped, (size_t)c->size);
    free(c->read);
    *c = (struct fpl_container){0};
}

void fpl_tensor_read(const struct fpl_container *c, const struct fpl_tensor *t, int64_t first, int64_t n,
                     float *out) {
    fpl_dtype_read(t->dtype, n, c->data + t->at + (uint64_t)first * (uint64_t)fpl_dtype_bytes(t->dtype), out);
}

void fpl_tensor_forget(const struct fpl_container *c, const struct fpl_tensor *t, int64_t first, int64_t n) {
    const uint64_t width = (uint64_t)fpl_dtype_bytes(t->dtype), page = (uint64_t)sysconf(_SC_PAGESIZE);
    const uint64_t begin = (t->at + (uint64_t)first * width) / page * page;
    const uint64_t end = t->at + (uint64_t)(first + n) * width;
    if (c->mapped != NULL && end > begin)
        (void)madvise((uint8_t *)c->mapped + begin, (size_t)(end - begin), MADV_DONTNEED);
}
