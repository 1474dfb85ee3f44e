/* store.h - the study's SQLite database, DIR/study.db: the records of its runs.
 *
 * One writer: the study's parent process.  Every record is one transaction
 * (BEGIN IMMEDIATE, synchronous=FULL, rollback journal, busy timeout 30 s); a kill at any
 * moment leaves a database that opens and holds every record whose transaction ended.
 *
 * A directory without a database, a file that is no database, another program's database, a
 * newer schema and a damaged or truncated one are FPL_INVALID; a full disk, missing
 * permission and a database that stays locked are FPL_SYSTEM.  Each is one line that names
 * the file.  Reading needs no write permission.
 */
#ifndef FPL_STORE_H
#define FPL_STORE_H

#include "../base/record.h"
#include "../base/runs.h"

struct fpl_store;

/* create: make the directory and the database where they are missing. */
enum fpl_code fpl_store_open(const char *directory, int create, struct fpl_store **out,
                             struct fpl_error *err);
void fpl_store_close(struct fpl_store *s);

/* Is there a record of this run? */
int fpl_store_has(struct fpl_store *s, const char *id);
/* Keep a record (replaces one of the same id). */
enum fpl_code fpl_store_put(struct fpl_store *s, const struct fpl_record *r, struct fpl_error *err);
enum fpl_code fpl_store_get(struct fpl_store *s, const char *id, struct fpl_record *r, struct fpl_error *err);

/* A run's diagnoses (diagnosis.h), in order of step, layer, operand; count 0: it has none.  Free
 * with fpl_diagnosis_free. */
enum fpl_code fpl_store_diagnoses(struct fpl_store *s, const char *run, struct fpl_diagnosis_point **points,
                                  int64_t *count, struct fpl_error *err);
/* Every run that has diagnoses, sorted; what visit returns other than FPL_OK ends it. */
enum fpl_code fpl_store_diagnosed(struct fpl_store *s,
                                  enum fpl_code (*visit)(void *context, const char *run, struct fpl_error *err),
                                  void *context, struct fpl_error *err);

/* All records as a table, sorted by run. */
enum fpl_code fpl_store_runs(struct fpl_store *s, struct fpl_runs *out, struct fpl_error *err);

/* What is known about speed, for estimates of cost: one row per record that measured it. */
struct fpl_store_speed {
    double N, flop, seconds;
    int quantized; /* 0: its recipe quantizes nothing */
};
enum fpl_code fpl_store_speeds(struct fpl_store *s, struct fpl_store_speed **out, size_t *count,
                               struct fpl_error *err);

/* Small named texts: the study file, its name, stage fits. value NULL from get: absent. */
enum fpl_code fpl_store_set_text(struct fpl_store *s, const char *key, const char *value,
                                 struct fpl_error *err);
enum fpl_code fpl_store_get_text(struct fpl_store *s, const char *key, char **value, struct fpl_error *err);

#endif
