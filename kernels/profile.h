/* profile.h - what `fplaw bench` asks of the CPU backend beside the table of kernels.h.
 *
 * While fpl_cpu_profile is set, the ticks that this process spends in quantizing are added to
 * fpl_cpu_profile_ticks.  For one thread in one device only: nothing here is atomic.
 */
#ifndef FPL_PROFILE_H
#define FPL_PROFILE_H

#include <stdint.h>

extern int fpl_cpu_profile;
extern uint64_t fpl_cpu_profile_ticks;
uint64_t fpl_cpu_ticks(void); /* of a clock that costs nothing to read and never stops */

#endif
