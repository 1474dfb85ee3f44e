/* codec.h - a walk over the fields of one run's state, reading, writing or counting bytes; shared by
 * codec.c and checkpoint.c only. */
#ifndef FPL_TRAIN_CODEC_H
#define FPL_TRAIN_CODEC_H

#include "trainer.h"

/* data NULL: only counts bytes. */
struct codec {
    unsigned char *data;
    size_t at, size;
    int reading, failed;
    unsigned version;
};

void fpl_code_u64(struct codec *c, uint64_t *x);
void fpl_order_floats(void *data, size_t count); /* float32 between host and file order */
/* Everything that training changes of replica r but its weights and moments; step: done. */
void fpl_code_state(struct codec *c, struct fpl_trainer *t, int r, int64_t *step);

#endif
