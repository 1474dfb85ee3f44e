/* machine.h - what a record says about the machine; best effort, never an error. */
#ifndef FPL_MACHINE_H
#define FPL_MACHINE_H

#include "../base/record.h"

/* Seconds of a clock that only goes forward. */
double fpl_clock(void);

/* Host, CPU model and compiler. */
void fpl_machine_describe(struct fpl_record *r);

/* Largest resident size of this process so far, bytes. */
double fpl_peak_bytes(void);

/* Energy counters of all CPU packages (Linux powercap, RAPL): everything that the packages
 * did, other processes included.  joules since start; NaN where no counter is readable. */
struct fpl_energy {
    int packages;
    struct {
        double start, range;
        char path[80];
    } package[16];
};
void fpl_energy_start(struct fpl_energy *e);
double fpl_energy_joules(const struct fpl_energy *e);

#endif
