/* SPDX-License-Identifier: MIT */
/*
 * misuse.h - what is said and done about a pointer that is no live block.
 */
#ifndef OSMEM_MISUSE_H
#define OSMEM_MISUSE_H

#include "report.h"

/*
 * Reports the pointer with what stands around it, and ends the process. With
 * the core's lock or without.
 *
 * Returns only for a pointer that has nothing to do with this allocator when
 * the option foreign lets it pass; the lock is held as before then.
 */
OSMEM_FN OSMEM_COLD void osmem_misuse(const char *call, const void *ptr,
				      struct osmem_place place);

#endif
