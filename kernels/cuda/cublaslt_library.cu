/* cublaslt_library.cu - finding and opening cuBLASLt (cublaslt.h).
 *
 * In this order, the first that opens and has every call:
 *   FPLAW_CUBLASLT   a path: this one or an error;  "none": no library
 *   the loader       libcublasLt.so.13, then .12: its path, LD_LIBRARY_PATH, ldconfig
 *   beside fplaw     the folder of the program
 *   PyPI             nvidia-cublas (nvidia/cu13/lib) and nvidia-cublas-cu12 (nvidia/cublas/lib) in the
 * packages of PYTHONPATH, VIRTUAL_ENV, CONDA_PREFIX, ~/.local, /usr/local, /usr toolkits         CUDA_HOME,
 * CUDA_PATH, /usr/local/cuda It stays open until the process ends.
 */
#include "cublaslt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if FPL_HOST_EXECUTION
static void *open_file(const char *path) { return (void *)(uintptr_t)(strstr(path, "so.13") != NULL); }
static void *find_call(void *library, const char *name) { return (void)library, fpl_host_cublaslt(name); }
static const char *why_not(void) { return "no such file"; }
#else
#include <dlfcn.h>
static void *open_file(const char *path) { return dlopen(path, RTLD_LAZY | RTLD_LOCAL); }
static void *find_call(void *library, const char *name) { return dlsym(library, name); }
static const char *why_not(void) {
    const char *text = dlerror();
    return text != NULL ? text : "it does not open";
}
#endif
#include <glob.h>
#include <unistd.h>

static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

/* 1 if the file opens and has every call. */
static int take(struct fpl_lt_library *l, const char *path) {
    void *library = open_file(path);
    const char *missing = NULL;
    if (library == NULL) {
        snprintf(l->why, sizeof l->why, "%s", why_not());
        return 0;
    }
#define TAKE(field, name, result, arguments)                                                                 \
    *(void **)&l->call.field = find_call(library, #name);                                                    \
    if (l->call.field == NULL) missing = #name;
    FPL_LT_CALLS(TAKE)
#undef TAKE
    if (missing != NULL) snprintf(l->why, sizeof l->why, "%.300s has no %s", path, missing);
    snprintf(l->path, sizeof l->path, "%.500s", path);
    l->found = missing == NULL;
    return l->found;
}

/* FOLDER SUFFIX of one of the names, FOLDER and SUFFIX patterns of glob. */
static int take_from(struct fpl_lt_library *l, const char *folder, const char *inside) {
    if (folder == NULL || folder[0] == '\0') return 0;
    for (int i = 0; i < 2; i++) {
        char pattern[600];
        glob_t found;
        snprintf(pattern, sizeof pattern, "%.400s%s/%s", folder, inside, names[i]);
        if (glob(pattern, 0, NULL, &found) != 0) continue;
        int taken = 0;
        for (size_t k = 0; k < found.gl_pathc && !taken; k++) taken = take(l, found.gl_pathv[k]);
        globfree(&found);
        if (taken) return 1;
    }
    return 0;
}

static int take_beside(struct fpl_lt_library *l) {
    char self[400];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) return 0;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL) *slash = '\0';
    return take_from(l, self, "");
}

static int take_packages(struct fpl_lt_library *l) {
    static const char *const inside[] = {"/nvidia/cu13/lib", "/nvidia/cublas/lib"};
    static const char *const lib[] = {"/lib/python3*/site-packages", "/lib/python3*/dist-packages",
                                      "/lib/python3/dist-packages"};
    char local[400], list[4096];
    const char *home = getenv("HOME"), *path = getenv("PYTHONPATH");
    snprintf(local, sizeof local, "%.380s/.local", home != NULL ? home : "");
    snprintf(list, sizeof list, "%.4095s", path != NULL ? path : "");
    for (char *rest = list, *one; (one = strsep(&rest, ":")) != NULL;)
        for (int i = 0; i < 2; i++)
            if (take_from(l, one, inside[i])) return 1;
    const char *const roots[] = {getenv("VIRTUAL_ENV"), getenv("CONDA_PREFIX"), local, "/usr/local", "/usr"};
    for (int r = 0; r < 5; r++)
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < 2; i++) {
                char both[100];
                snprintf(both, sizeof both, "%s%s", lib[k], inside[i]);
                if (take_from(l, roots[r], both)) return 1;
            }
    return 0;
}

static int take_toolkit(struct fpl_lt_library *l) {
    const char *const roots[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda"};
    for (int r = 0; r < 3; r++)
        if (take_from(l, roots[r], "/lib64") || take_from(l, roots[r], "/lib") ||
            take_from(l, roots[r], "/targets/*-linux/lib"))
            return 1;
    return 0;
}

static struct fpl_lt_library seek(void) {
    struct fpl_lt_library l;
    memset(&l, 0, sizeof l);
    const char *wish = getenv("FPLAW_CUBLASLT");
    if (wish != NULL && strcmp(wish, "none") == 0) {
        snprintf(l.why, sizeof l.why, "FPLAW_CUBLASLT=none");
        return l;
    }
    if (wish != NULL && wish[0] != '\0') {
        l.failed = !take(&l, wish);
        return l;
    }
    if (take(&l, names[0]) || take(&l, names[1]) || take_beside(&l) || take_packages(&l) || take_toolkit(&l))
        return l;
    snprintf(l.why, sizeof l.why,
             "cuBLASLt not found; FPLAW_CUBLASLT=/path/to/%s or the PyPI package nvidia-cublas gives it",
             names[0]);
    return l;
}

const struct fpl_lt_library *fpl_lt_library(void) {
    static const struct fpl_lt_library library = seek();
    return &library;
}

static void print_version(char *buf, size_t size, size_t version) {
    snprintf(buf, size, "%zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
}

void fpl_lt_about(char *buf, size_t size) {
    const struct fpl_lt_library *l = fpl_lt_library();
    char version[40];
    if (!l->found) {
        snprintf(buf, size, "own kernels (%s)", l->why);
        return;
    }
    print_version(version, sizeof version, l->call.version());
    snprintf(buf, size, "cuBLASLt %s (%s)", version, l->path);
}

void fpl_cuda_lt_describe(const struct fpl_device *dev, char *buf, size_t size) {
    char version[40];
    if (dev->lt == NULL) {
        snprintf(buf, size, "own");
        return;
    }
    print_version(version, sizeof version, fpl_lt_library()->call.version());
    snprintf(buf, size, "cublasLt-%s", version);
}
