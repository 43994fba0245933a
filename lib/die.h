/* SPDX-License-Identifier: MIT */
/*
 * die.h - DIE(): what becomes of a system call that failed.
 *
 * Every result of sys.h passes through here. Async-signal-safe, no lock.
 */
#ifndef OSMEM_DIE_H
#define OSMEM_DIE_H

#include "common.h"

/*
 * If err is not 0: reports the call, the reason and the size on stderr (option
 * warn), ends the process (option die), and counts. Returns err. KEEP() is the
 * same for munmap and madvise, which are never fatal: the memory is kept.
 */
#define DIE(err, call, size) osmem_die_check((err), (call), (size), true)
#define KEEP(err, call, size) osmem_die_check((err), (call), (size), false)

OSMEM_FN OSMEM_COLD void osmem_die_failed(int err, const char *call,
					  size_t size, bool fatal);

static inline int osmem_die_check(int err, const char *call, size_t size,
				  bool fatal)
{
	if (unlikely(err != 0))
		osmem_die_failed(err, call, size, fatal);
	return err;
}

/* Whether to report, and to end the process. Nothing of it until then. */
OSMEM_FN void osmem_die_set_policy(bool warn, bool die);

/* How many system calls have failed. */
OSMEM_FN unsigned long osmem_die_failures(void);

#endif
