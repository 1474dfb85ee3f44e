/* pack.c - a pack from start to end: set-up, going on from checkpoints, the loop, records; and the
 * smaller pack that goes on when half of the runs have ended.
 *
 * A smaller pack is a new trainer that starts from checkpoints of the old one's runs, held in
 * memory: the very thing that an interruption does, so nothing else has to be right for it.
 */
#include <stdlib.h>
#include <string.h>

#include "trainer.h"

static enum fpl_code deliver(struct fpl_trainer *t, struct fpl_replica *p, struct fpl_record *records,
                             struct fpl_error *err) {
    struct fpl_record *r = &records[p->index];
    const enum fpl_code code = fpl_trainer_record(t, p, r, err);
    if (code == FPL_OK && r->status != FPL_RUN_STOPPED && t->options->ended != NULL)
        t->options->ended(t->options->context, p->index, r);
    return code;
}

static enum fpl_code open_trainer(struct fpl_trainer *t, const struct fpl_config *configs, const int *index,
                                  struct fpl_error *err) {
    const struct fpl_config **list = calloc((size_t)t->R, sizeof *list);
    if (list == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for a pack of %d runs", t->R);
    for (int r = 0; r < t->R; r++) list[r] = &configs[index[r]];
    const enum fpl_code code = fpl_trainer_open(t, list, err);
    for (int r = 0; code == FPL_OK && r < t->R; r++) t->replica[r].index = index[r];
    free(list);
    return code;
}

/* ---- a smaller pack ------------------------------------------------------------------------------ */

struct moved { /* a run on its way from one trainer to the next */
    struct fpl_image image;
    double joules;
    int pack;
};

/* Records of the runs that have ended; images of the others, whose indices go to the front. */
static enum fpl_code empty_pack(struct fpl_trainer *t, struct moved *moved, int *index,
                                struct fpl_record *records, struct fpl_error *err) {
    int kept = 0;
    fpl_trainer_account(t);
    for (int r = 0; r < t->R; r++) {
        struct fpl_replica *p = &t->replica[r];
        enum fpl_code code = FPL_OK;
        if (p->status == FPL_RUN_OK) {
            moved[kept].joules = p->joules;
            moved[kept].pack = p->pack;
            index[kept] = p->index;
            code = fpl_checkpoint_image(t, r, &moved[kept++].image, err);
        } else {
            if (t->options->checkpoint != NULL && t->unsaved.code == FPL_OK)
                (void)fpl_checkpoint_write(t, r, t->options->checkpoint[p->index], &t->unsaved);
            code = deliver(t, p, records, err);
        }
        if (code != FPL_OK) return code;
    }
    return FPL_OK;
}

static enum fpl_code fill_pack(struct fpl_trainer *t, struct moved *moved, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    for (int r = 0; code == FPL_OK && r < t->R; r++) {
        code = fpl_checkpoint_restore(t, r, "a run of a pack that shrinks", &moved[r].image, err);
        t->replica[r].joules = moved[r].joules;
        t->replica[r].pack = moved[r].pack;
    }
    return code;
}

static enum fpl_code shrink(struct fpl_trainer *t, const struct fpl_config *configs, int *index,
                            struct fpl_record *records, struct fpl_error *err) {
    const int R = fpl_trainer_active(t);
    struct moved *moved = calloc((size_t)R, sizeof *moved);
    if (moved == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for a pack of %d runs", R);
    enum fpl_code code = empty_pack(t, moved, index, records, err);
    struct fpl_trainer next = {.R = R,
                               .data = t->data,
                               .options = t->options,
                               .k = t->k,
                               .energy = t->energy,
                               .accounted = t->accounted,
                               .joules = t->joules,
                               .peak_bytes = t->peak_bytes,
                               .unsaved = t->unsaved};
    fpl_trainer_close(t);
    *t = next;
    if (code == FPL_OK) code = open_trainer(t, configs, index, err);
    if (code == FPL_OK) code = fill_pack(t, moved, err);
    for (int r = 0; r < R; r++) free(moved[r].image.data);
    free(moved);
    return code;
}

/* ---- the whole ------------------------------------------------------------------------------------ */

static enum fpl_code resume(struct fpl_trainer *t, struct fpl_error *err) {
    enum fpl_code code = FPL_OK;
    for (int r = 0; t->options->checkpoint != NULL && code == FPL_OK && r < t->R; r++)
        code = fpl_checkpoint_read(t, r, t->options->checkpoint[t->replica[r].index], err);
    if (code == FPL_OK) fpl_trainer_account(t);
    return code;
}

static enum fpl_code train(struct fpl_trainer *t, const struct fpl_config *configs, int *index,
                           struct fpl_record *records, struct fpl_error *err) {
    enum fpl_code code = open_trainer(t, configs, index, err);
    if (code == FPL_OK && t->k->joules != NULL) t->joules = fpl_trainer_joules(t); /* counts from here on */
    if (code == FPL_OK) code = resume(t, err);
    if (code == FPL_OK) code = fpl_trainer_run(t, err);
    while (code == FPL_OK && !t->finished) {
        code = shrink(t, configs, index, records, err);
        if (code == FPL_OK) code = fpl_trainer_run(t, err);
    }
    if (!t->finished && code != FPL_STOPPED) return code;
    fpl_trainer_account(t);
    for (int r = 0; r < t->R; r++) {
        const enum fpl_code told = deliver(t, &t->replica[r], records, err);
        if (told != FPL_OK) code = told;
    }
    return code;
}

enum fpl_code fpl_train(const struct fpl_config *configs, int R, const struct fpl_data *data,
                        const struct fpl_train_options *options, struct fpl_record *records,
                        struct fpl_error *err) {
    struct fpl_trainer t = {.R = R, .data = data, .options = options, .k = options->kernels};
    if (R < 1) return fpl_fail(err, FPL_INVALID, "no runs to train");
    memset(records, 0, (size_t)R * sizeof *records);
    fpl_energy_start(&t.energy);
    t.accounted = fpl_trainer_clock(&t);
    t.joules = 0 * fpl_energy_joules(&t.energy);
    int *index = calloc((size_t)R, sizeof *index);
    if (index == NULL) return fpl_fail(err, FPL_SYSTEM, "no memory for a pack of %d runs", R);
    for (int r = 0; r < R; r++) index[r] = r;
    enum fpl_code code = fpl_trainer_check(configs, R, err);
    if (code == FPL_OK) code = train(&t, configs, index, records, err);
    fpl_trainer_close(&t);
    free(index);
    return code;
}
