/* number.c - see number.h.
 *
 * strtod and printf follow the process's locale.  Text is therefore read under a private
 * "C" locale, and a decimal comma that printf may have written is turned into a point.
 * Both directions rely on the C library's conversions being correctly rounded (glibc's
 * are), so the shortest text that reads back is found by trying precisions in order.
 *
 * What is accepted is checked by a small grammar before strtod sees it:
 *     number  = decimal [ "k" | "M" | "G" ] | "2^" [ "-" ] digits ;
 *     decimal = [ "+" | "-" ] digits [ "." digits ] [ ( "e" | "E" ) [ "+" | "-" ] digits ] ;
 * (digits may be missing on one side of the point), which keeps out hexadecimal, "nan",
 * "inf", blanks and everything else that strtod would let through.
 */
#include "number.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static locale_t c_locale;
static pthread_once_t c_locale_once = PTHREAD_ONCE_INIT;

static void make_c_locale(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static double read_double(const char *text, char **end) {
    pthread_once(&c_locale_once, make_c_locale);
    return c_locale != (locale_t)0 ? strtod_l(text, end, c_locale) : strtod(text, end);
}

int fpl_number_print(double x, char buf[FPL_NUMBER_TEXT]) {
    if (isnan(x)) return snprintf(buf, FPL_NUMBER_TEXT, "nan");
    if (isinf(x)) return snprintf(buf, FPL_NUMBER_TEXT, x > 0 ? "inf" : "-inf");
    int n = 0;
    for (int digits = 1; digits <= 17; digits++) {
        n = snprintf(buf, FPL_NUMBER_TEXT, "%.*g", digits, x);
        char *comma = strchr(buf, ',');
        if (comma != NULL) *comma = '.';
        double back = read_double(buf, NULL);
        if (memcmp(&back, &x, sizeof x) == 0) break;
    }
    return n;
}

static const char *skip_digits(const char *p) {
    while (*p >= '0' && *p <= '9') p++;
    return p;
}

/* End of a decimal at the start of text, NULL if there is none. */
static const char *decimal_end(const char *text) {
    const char *p = text + (*text == '+' || *text == '-');
    const char *q = skip_digits(p);
    size_t digits = (size_t)(q - p);
    if (*q == '.') {
        p = q + 1;
        q = skip_digits(p);
        digits += (size_t)(q - p);
    }
    if (digits == 0) return NULL;
    if (*q == 'e' || *q == 'E') {
        p = q + 1;
        p += *p == '+' || *p == '-';
        const char *r = skip_digits(p);
        if (r != p) q = r;
    }
    return q;
}

static enum fpl_code not_a_number(const char *text, struct fpl_error *err) {
    return fpl_fail(err, FPL_INVALID, "'%.60s' is not a number (write 1000, 1e3, 2^10, 512k or 4M)", text);
}

/* "2^k" with |k| <= 1000, where ldexp is exact. */
static int read_power_of_two(const char *text, double *out) {
    if (strncmp(text, "2^", 2) != 0) return 0;
    const char *p = text + 2 + (text[2] == '-');
    const char *end = skip_digits(p);
    if (end == p || *end != '\0' || end - p > 4) return 0;
    int k = atoi(text + 2);
    if (k < -1000 || k > 1000) return 0;
    *out = ldexp(1, k);
    return 1;
}

enum fpl_code fpl_number_parse(const char *text, double *out, struct fpl_error *err) {
    if (read_power_of_two(text, out)) return FPL_OK;
    const char *end = decimal_end(text);
    if (end == NULL || strlen(text) > 200) return not_a_number(text, err);
    double scale = 1;
    if (*end != '\0') {
        if (end[1] != '\0') return not_a_number(text, err);
        if (*end == 'k')
            scale = 1e3;
        else if (*end == 'M')
            scale = 1e6;
        else if (*end == 'G')
            scale = 1e9;
        else
            return not_a_number(text, err);
    }
    *out = read_double(text, NULL) * scale;
    if (!isfinite(*out)) return fpl_fail(err, FPL_INVALID, "'%.60s' is too large for a number", text);
    return FPL_OK;
}

static enum fpl_code parse_integral(const char *text, double *out, struct fpl_error *err) {
    if (fpl_number_parse(text, out, err) != FPL_OK) return err != NULL ? err->code : FPL_INVALID;
    if (*out != floor(*out)) return fpl_fail(err, FPL_INVALID, "'%.60s' is not an integer", text);
    if (fabs(*out) > 0x1p53) /* beyond it a power of ten need not be the integer that was meant */
        return fpl_fail(err, FPL_INVALID, "'%.60s' is too large for an integer in this form", text);
    return FPL_OK;
}

enum fpl_code fpl_integer_parse(const char *text, int64_t *out, struct fpl_error *err) {
    const char *digits = text + (*text == '-' || *text == '+');
    if (*digits != '\0' && *skip_digits(digits) == '\0') {
        errno = 0;
        *out = strtoll(text, NULL, 10);
        return errno == 0 ? FPL_OK : fpl_fail(err, FPL_INVALID, "'%.60s' is too large for an integer", text);
    }
    double x;
    enum fpl_code code = parse_integral(text, &x, err);
    if (code == FPL_OK) *out = (int64_t)x;
    return code;
}

enum fpl_code fpl_unsigned_parse(const char *text, uint64_t *out, struct fpl_error *err) {
    if (*text != '\0' && *skip_digits(text) == '\0') {
        errno = 0;
        *out = strtoull(text, NULL, 10);
        return errno == 0 ? FPL_OK : fpl_fail(err, FPL_INVALID, "'%.60s' is too large for an integer", text);
    }
    double x;
    enum fpl_code code = parse_integral(text, &x, err);
    if (code != FPL_OK) return code;
    if (x < 0) return fpl_fail(err, FPL_INVALID, "'%.60s' is negative", text);
    *out = (uint64_t)x;
    return FPL_OK;
}
