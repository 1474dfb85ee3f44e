/* machine.c - host, CPU, compiler, memory and energy, as Linux tells them.
 *
 * RAPL counters count microjoules and wrap at max_energy_range_uj, after about an hour on a
 * busy package; the difference is taken modulo that range, so it is right for up to one
 * wrap.  The files are readable by root only on most systems: then the energy is unknown.
 */
#include "machine.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>

double fpl_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_cpu_model(char *cpu, size_t size) {
    char line[512];
    snprintf(cpu, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (f == NULL) return;
    while (fgets(line, sizeof line, f) != NULL) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || value == NULL) continue;
        value += strspn(value, ": \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(cpu, size, "%s", value);
        break;
    }
    fclose(f);
}

void fpl_machine_describe(struct fpl_record *r) {
    struct utsname name;
    snprintf(r->host, sizeof r->host, "%.63s", uname(&name) == 0 ? name.nodename : "unknown");
    read_cpu_model(r->cpu, sizeof r->cpu);
#if defined(__clang__)
    snprintf(r->compiler, sizeof r->compiler, "clang %s", __clang_version__);
#elif defined(__GNUC__)
    snprintf(r->compiler, sizeof r->compiler, "gcc %s", __VERSION__);
#else
    snprintf(r->compiler, sizeof r->compiler, "unknown");
#endif
}

double fpl_peak_bytes(void) {
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? 1024.0 * (double)u.ru_maxrss : (double)NAN;
}

static int read_number(const char *path, double *out) {
    FILE *f = fopen(path, "r");
    if (f == NULL) return 0;
    const int found = fscanf(f, "%lf", out);
    fclose(f);
    return found == 1;
}

void fpl_energy_start(struct fpl_energy *e) {
    e->packages = 0;
    for (int i = 0; i < (int)(sizeof e->package / sizeof e->package[0]); i++) {
        char path[80];
        double start, range;
        snprintf(path, sizeof path, "/sys/class/powercap/intel-rapl:%d/max_energy_range_uj", i);
        if (!read_number(path, &range)) continue;
        snprintf(path, sizeof path, "/sys/class/powercap/intel-rapl:%d/energy_uj", i);
        if (!read_number(path, &start)) continue;
        const int n = e->packages++;
        e->package[n].start = start;
        e->package[n].range = range;
        memcpy(e->package[n].path, path, sizeof path);
    }
}

double fpl_energy_joules(const struct fpl_energy *e) {
    double total = 0;
    if (e->packages == 0) return (double)NAN;
    for (int i = 0; i < e->packages; i++) {
        double now;
        if (!read_number(e->package[i].path, &now)) return (double)NAN;
        const double used = now - e->package[i].start;
        total += used < 0 ? used + e->package[i].range : used;
    }
    return 1e-6 * total;
}
