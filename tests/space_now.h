/* SPDX-License-Identifier: MIT */
/*
 * space_now.h - the address space of the process as it is.
 */
#ifndef SPACE_NOW_H
#define SPACE_NOW_H

#include "must.h"

#include <stdio.h>

/* In bytes. libc may allocate a buffer for it, the first time. */
static inline size_t space_now(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	MUST(f != NULL && fscanf(f, "%lu", &pages) == 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

#endif
