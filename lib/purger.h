/* SPDX-License-Identifier: MIT */
/*
 * purger.h - a thread that gives idle memory back some time later, where giving
 * it back at once has turned out to cost page faults.
 *
 * Only in a process that has threads already, and only for as long as idle
 * memory comes and goes: a second after that it has ended. While it is there
 * more memory may be idle (osmem_region_keep).
 */
#ifndef OSMEM_PURGER_H
#define OSMEM_PURGER_H

#include "common.h"

/*
 * Starts it, unless there is one, or must be none. Allocates, so no slow path
 * and no lock; keeps errno.
 */
OSMEM_FN OSMEM_COLD void osmem_purger_start(void);

/* It is not in the child of a fork. Core's lock: a handler's may be its own. */
OSMEM_FN void osmem_purger_after_fork(void);

#endif
