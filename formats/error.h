/* error.h - how every layer of fplaw reports failure.
 *
 * Library code never prints and never exits: a function that can fail returns an
 * enum fpl_code and, where it returns anything but FPL_OK, has written one line
 * into the caller's struct fpl_error: where (file, line, key or option), what was
 * found, what would be accepted.  Only sim/cli turns codes into exit statuses.
 *
 * Thread safety: none of this is shared; each caller owns its struct fpl_error.
 */
#ifndef FPL_ERROR_H
#define FPL_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

enum fpl_code {
    FPL_OK = 0,
    FPL_INVALID,       /* arguments or the contents of an input are wrong      -> exit 2 */
    FPL_SYSTEM,        /* disk full, permission, out of memory, no device      -> exit 1 */
    FPL_NOT_CONVERGED, /* a fit did not converge; its results are still given  -> exit 1 */
    FPL_REGRESSION,    /* bench found a slower or different result             -> exit 3 */
    FPL_STOPPED,       /* SIGINT or SIGTERM was honoured, checkpoint written   -> exit 130, 143 */
    FPL_MEMORY         /* no room on the device: a smaller pack may fit        -> exit 1 */
};

struct fpl_error {
    enum fpl_code code;
    char text[1024]; /* one line, no trailing newline; "" while code is FPL_OK */
};

#if defined(__GNUC__)
#define FPL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define FPL_PRINTF(fmt, args)
#endif

/* Write the message (control characters become '?'), set the code, return the code.
 * err may be NULL. */
enum fpl_code fpl_fail(struct fpl_error *err, enum fpl_code code, const char *fmt, ...) FPL_PRINTF(3, 4);

/* Prefix the message already in err with "where: ", return err->code. */
enum fpl_code fpl_fail_at(struct fpl_error *err, const char *fmt, ...) FPL_PRINTF(2, 3);

/* The known word nearest to `found` by edit distance, or NULL if none is close
 * enough to be a likely misspelling; words is NULL-terminated. */
const char *fpl_nearest_word(const char *found, const char *const *words);

#ifdef __cplusplus
}
#endif
#endif
