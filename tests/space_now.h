/* SPDX-License-Identifier: MIT */
/*
 * space_now.h - the address space of the process as it is.
 */
#ifndef SPACE_NOW_H
#define SPACE_NOW_H

#include "must.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * In bytes. libc may allocate a buffer for it, the first time. Not from statm,
 * whose pages are the kernel's where larger ones are simulated.
 */
static inline size_t space_now(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[128];
	size_t kib = 0;

	MUST(f != NULL);
	while (kib == 0 && fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "VmSize:", 7) == 0)
			kib = strtoul(line + 7, NULL, 10);
	MUST(kib != 0);
	fclose(f);
	return kib * 1024;
}

#endif
