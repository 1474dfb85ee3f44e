/* accumulate.h - between accumulate.cu, which knows layers and operands, and accumulate_tiles.cu. */
#ifndef FPL_CUDA_ACCUMULATE_H
#define FPL_CUDA_ACCUMULATE_H

#include "accumulate_sum.h"

/* C (+)= the sums of job->p.batch matrices that all go one way. */
void fpl_cuda_sum(struct fpl_device *dev, const struct fpl_sum_job *job, enum fpl_sum_way way);

#endif
