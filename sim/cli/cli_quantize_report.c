/* cli_quantize_report.c - the measures of `fplaw quantize` as a line, a table and JSON. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli_quantize.h"

/* ---- text --------------------------------------------------------------------------------------- */

static void say_changed(const struct quantize_target *target, const struct fpl_container *c) {
    const char *dtype = "";
    if (target->out == NULL || target->total.changed == 0) return;
    for (size_t k = 0; k < c->count; k++)
        if (target->tensors[k].changed > 0) dtype = c->tensors[k].dtype_name;
    fprintf(stderr, "%s: %lld of the %lld dequantized values are not values of %s and were rounded to it\n",
            target->out, (long long)target->total.changed, (long long)target->total.sums.elements, dtype);
}

/* On standard error, because OUT may be standard output. */
void quantize_print_line(const struct quantize_target *target, const struct fpl_container *c) {
    struct fpl_quantizer_measure m;
    char largest[48] = "", sqnr[32] = "undefined";
    fpl_measure_finish(&target->total.sums, &target->quantizer, &m);
    if (!isnan(m.sqnr_db)) snprintf(sqnr, sizeof sqnr, "%.2f dB", m.sqnr_db);
    if (!target->quantizer.identity) {
        struct fpl_format_limits limits;
        fpl_format_limits(&target->quantizer.format, &limits);
        snprintf(largest, sizeof largest, " (largest %.9g)", limits.largest);
    }
    fprintf(stderr,
            "%s%s: %lld values, %.4g bits each, SQNR %s, underflow %.3g %%, clipped %.3g %%, "
            "%lld non-finite, amax %.9g, relative error %.3g %% (at most %.3g %%)\n",
            target->text, largest, (long long)m.elements, m.bits_per_value, sqnr, 100.0 * m.underflow,
            100.0 * m.clipped, (long long)m.nonfinite, m.amax, 100.0 * m.relative_mean,
            100.0 * m.relative_max);
    say_changed(target, c);
}

static void print_row(FILE *f, int width, int names, const char *quantizer, const char *tensor,
                      const struct quantize_target *target, const struct quantize_result *r) {
    struct fpl_quantizer_measure m;
    fpl_measure_finish(&r->sums, &target->quantizer, &m);
    fprintf(f, "%-*s ", width, quantizer);
    if (names > 0) fprintf(f, "%-*s ", names, tensor);
    char sqnr[32] = "-", per_bit[32] = "-"; /* no signal, no ratio */
    if (!isnan(m.sqnr_db)) snprintf(sqnr, sizeof sqnr, "%.2f", m.sqnr_db);
    if (!isnan(m.sqnr_db)) snprintf(per_bit, sizeof per_bit, "%.2f", m.sqnr_db_per_bit);
    fprintf(f, "%13lld %8.4g %8s %7s %9.3g %9.3g %9.3g %9.3g %9lld %10.4g\n", (long long)m.elements,
            m.bits_per_value, sqnr, per_bit, 100.0 * m.relative_mean, 100.0 * m.relative_max,
            100.0 * m.underflow, 100.0 * m.clipped, (long long)m.nonfinite, m.amax);
}

/* Width of the longest of the names, at least that of the heading. */
static int widest(const struct quantize_job *job, int quantizers) {
    size_t width = quantizers ? strlen("quantizer") : strlen("tensor");
    for (size_t i = 0; i < job->count && quantizers; i++)
        if (strlen(job->targets[i].text) > width) width = strlen(job->targets[i].text);
    for (size_t k = 0; k < job->container.count && !quantizers; k++)
        if (job->selected[k] && strlen(job->container.tensors[k].name) > width)
            width = strlen(job->container.tensors[k].name);
    return (int)width;
}

void quantize_print_table(FILE *f, const struct quantize_job *job) {
    const struct fpl_container *c = &job->container;
    const int named = c->kind == FPL_SAFETENSORS, width = widest(job, 1), names = named ? widest(job, 0) : 0;
    fprintf(f, "%-*s ", width, "quantizer");
    if (named) fprintf(f, "%-*s ", names, "tensor");
    fprintf(f, "%13s %8s %8s %7s %9s %9s %9s %9s %9s %10s\n", "values", "bits", "SQNR dB", "dB/bit",
            "rel mean%", "rel max%", "underfl.%", "clipped%", "nonfinite", "amax");
    for (size_t i = 0; i < job->count; i++) {
        const struct quantize_target *t = &job->targets[i];
        for (size_t k = 0; k < c->count && named; k++)
            if (job->selected[k]) print_row(f, width, names, t->text, c->tensors[k].name, t, &t->tensors[k]);
        if (!named || job->selected_count > 1) print_row(f, width, names, t->text, "total", t, &t->total);
        say_changed(t, c);
    }
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static int add_measures(json_t *o, const struct quantize_target *target, const struct quantize_result *r) {
    struct fpl_quantizer_measure m;
    int bad = o == NULL;
    fpl_measure_finish(&r->sums, &target->quantizer, &m);
    bad |= json_object_set_new(o, "elements", json_integer(m.elements));
    bad |= json_object_set_new(o, "bits_per_value", json_real(m.bits_per_value));
    bad |= json_object_set_new(o, "sqnr_db", real_or_null(m.sqnr_db));
    bad |= json_object_set_new(o, "underflow", json_real(m.underflow));
    bad |= json_object_set_new(o, "clipped", json_real(m.clipped));
    bad |= json_object_set_new(o, "nonfinite", json_integer(m.nonfinite));
    bad |= json_object_set_new(o, "amax", json_real(m.amax));
    bad |= json_object_set_new(o, "sqnr_db_per_bit", real_or_null(m.sqnr_db_per_bit));
    bad |= json_object_set_new(o, "relative_error_mean", real_or_null(m.relative_mean));
    bad |= json_object_set_new(o, "relative_error_max", real_or_null(m.relative_max));
    if (target->out != NULL) bad |= json_object_set_new(o, "rounded_by_container", json_integer(r->changed));
    return bad;
}

/* {"first": exponent of counts[0], "counts": .., "lost": ..}: those met only. */
static json_t *histogram(const struct fpl_exponents *e) {
    int first = 0, last = FPL_EXPONENTS - 1;
    while (first <= last && e->count[first] == 0) first++;
    while (last >= first && e->count[last] == 0) last--;
    json_t *o = json_object(), *counts = json_array(), *lost = json_array();
    for (int i = first; i <= last; i++) {
        json_array_append_new(counts, json_integer(e->count[i]));
        json_array_append_new(lost, json_integer(e->lost[i]));
    }
    json_object_set_new(o, "first", first > last ? json_null() : json_integer(FPL_EXPONENT_LEAST + first));
    json_object_set_new(o, "counts", counts);
    json_object_set_new(o, "lost", lost);
    return o;
}

static json_t *tensor_list(const struct quantize_job *job, const struct quantize_target *target) {
    json_t *list = json_array();
    for (size_t k = 0; k < job->container.count; k++) {
        const struct fpl_tensor *t = &job->container.tensors[k];
        if (!job->selected[k]) continue;
        json_t *o = json_object(), *shape = json_array();
        for (int i = 0; i < t->axes; i++) json_array_append_new(shape, json_integer(t->shape[i]));
        int bad = json_object_set_new(o, "name", json_string(t->name));
        bad |= json_object_set_new(o, "dtype", json_string(t->dtype_name));
        bad |= json_object_set_new(o, "shape", shape);
        bad |= add_measures(o, target, &target->tensors[k]);
        bad |= json_array_append_new(list, o);
        if (bad) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *result(const struct quantize_job *job, const struct quantize_target *target) {
    json_t *o = json_object();
    int bad = json_object_set_new(o, "quantizer", json_string(target->text));
    bad |= add_measures(o, target, &target->total);
    if (target->exponents != NULL) bad |= json_object_set_new(o, "exponents", histogram(target->exponents));
    if (job->container.kind == FPL_SAFETENSORS)
        bad |= json_object_set_new(o, "tensors", tensor_list(job, target));
    if (target->out != NULL) bad |= json_object_set_new(o, "out", json_string(target->out));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

enum fpl_code quantize_print_json(const struct quantize_job *job, struct fpl_error *err) {
    json_t *o = NULL;
    if (job->count == 1) {
        o = result(job, job->targets);
    } else {
        json_t *list = json_array();
        int bad = 0;
        for (size_t i = 0; i < job->count; i++)
            bad |= json_array_append_new(list, result(job, &job->targets[i]));
        if (!bad) o = json_pack("{s:O}", "results", list);
        json_decref(list);
    }
    char *text =
        o == NULL ? NULL : json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    json_decref(o);
    if (text == NULL) return fpl_fail(err, FPL_SYSTEM, "quantize: out of memory");
    puts(text);
    free(text);
    return FPL_OK;
}
