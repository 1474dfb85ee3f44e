/* cli_quantize_draw.c - how many values have which exponent, and which were lost to zero.
 *
 * One row or bar per exponent floor(log2 |x|) of the non-zero inputs, from the least met to the
 * largest; what became zero is drawn apart.  The picture shows at once where a format's range
 * ends, and why its underflow is what it is.  SVG: one panel per quantizer, plain shapes and
 * text, no scripts; lengths are rounded to a hundredth, so that the file is the same everywhere.
 */
#include <stdlib.h>
#include <string.h>

#include "cli_quantize.h"

enum { BAR = 60 };

struct range {
    int first, last;
    int64_t most;
};

static struct range range_of(const struct fpl_exponents *e) {
    struct range r = {FPL_EXPONENTS, -1, 0};
    for (int i = 0; i < FPL_EXPONENTS; i++) {
        if (e->count[i] == 0) continue;
        if (i < r.first) r.first = i;
        r.last = i;
        if (e->count[i] > r.most) r.most = e->count[i];
    }
    return r;
}

/* Characters of a part; something where there is anything. */
static int length(int64_t part, int64_t most) {
    const int n = (int)((double)part / (double)most * BAR + 0.5);
    return n == 0 && part > 0 ? 1 : n;
}

void quantize_draw(FILE *f, const struct quantize_target *target) {
    const struct range r = range_of(target->exponents);
    const int64_t all = target->total.sums.nonzero;
    fprintf(f, "%s: exponents of the %lld non-zero values (# kept, . became 0)\n", target->text,
            (long long)all);
    for (int i = r.last; i >= r.first; i--) {
        const int64_t count = target->exponents->count[i], lost = target->exponents->lost[i];
        const int whole = length(count, r.most), dots = count == lost ? whole : length(lost, r.most);
        fprintf(f, "2^%-4d %8.4f %% ", FPL_EXPONENT_LEAST + i, 100.0 * (double)count / (double)all);
        for (int k = 0; k < whole; k++) fputc(k < whole - dots ? '#' : '.', f);
        fputc('\n', f);
    }
}

/* ---- SVG ---------------------------------------------------------------------------------------- */

enum { WIDTH = 720, PANEL = 220, LEFT = 60, RIGHT = 20, TOP = 34, BOTTOM = 36 };

/* Canonical texts hold no characters that XML minds, but file names may. */
static void add_escaped(struct fpl_text *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '<' || *text == '&' || *text == '>')
            fpl_text_add(out, "&#%d;", *text);
        else
            fpl_text_append(out, text, 1);
    }
}

static void add_panel(struct fpl_text *out, const struct quantize_target *target, const struct range *r,
                      int top) {
    const int bins = r->last - r->first + 1;
    const double step = (double)(WIDTH - LEFT - RIGHT) / (bins > 0 ? bins : 1);
    const double base = top + PANEL - BOTTOM, height = PANEL - TOP - BOTTOM;
    fpl_text_add(out, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">", LEFT, top + 20);
    add_escaped(out, target->text);
    fpl_text_add(out, "</text>\n");
    for (int i = r->first; i <= r->last; i++) {
        const double x = LEFT + (i - r->first) * step;
        const double kept = (double)(target->exponents->count[i] - target->exponents->lost[i]);
        const double h = height * kept / (double)r->most;
        const double lost = height * (double)target->exponents->lost[i] / (double)r->most;
        fpl_text_add(out, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"#3b6ea5\"/>\n",
                     x, base - h, 0.9 * step, h);
        if (lost > 0.0)
            fpl_text_add(out,
                         "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"#d1603d\"/>\n", x,
                         base - h - lost, 0.9 * step, lost);
        if ((FPL_EXPONENT_LEAST + i) % (bins > 60 ? 16 : bins > 24 ? 4 : 2) == 0)
            fpl_text_add(out, "<text x=\"%.2f\" y=\"%.2f\" text-anchor=\"middle\">%d</text>\n",
                         x + 0.45 * step, base + 14, FPL_EXPONENT_LEAST + i);
    }
    fpl_text_add(
        out,
        "<path d=\"M%d %.2f H%d\" stroke=\"black\"/>\n<text x=\"%d\" y=\"%.2f\" text-anchor=\"end\">%.1f %%"
        "</text>\n<text x=\"%d\" y=\"%.2f\" text-anchor=\"middle\">exponent of |x|</text>\n",
        LEFT, base, WIDTH - RIGHT, LEFT - 6, base - height + 8,
        target->total.sums.nonzero > 0 ? 100.0 * (double)r->most / (double)target->total.sums.nonzero : 0.0,
        (LEFT + WIDTH - RIGHT) / 2, base + 29);
}

enum fpl_code quantize_write_svg(const struct quantize_job *job, const char *path, struct fpl_error *err) {
    struct fpl_text out = {0};
    const int height = (int)job->count * PANEL + 24;
    fpl_text_add(
        &out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n",
        WIDTH, height, WIDTH, height, WIDTH, height);
    for (size_t i = 0; i < job->count; i++) {
        const struct range r = range_of(job->targets[i].exponents);
        add_panel(&out, &job->targets[i], &r, (int)i * PANEL);
    }
    fpl_text_add(
        &out,
        "<text x=\"%d\" y=\"%d\"><tspan fill=\"#3b6ea5\">kept</tspan>, <tspan fill=\"#d1603d\">became 0"
        "</tspan></text>\n</svg>\n",
        LEFT, height - 8);
    enum fpl_code code = out.failed ? fpl_fail(err, FPL_SYSTEM, "quantize: out of memory")
                                    : fpl_file_write(path, out.text, out.size, err);
    fpl_text_free(&out);
    return code;
}
