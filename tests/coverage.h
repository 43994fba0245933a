/* SPDX-License-Identifier: MIT */
/*
 * coverage.h - included before all else where lines are counted (configure
 * --enable-coverage): a process that ends by abort or _exit writes its counts
 * first, which only exit does by itself.
 */
#ifndef OSMEM_COVERAGE_H
#define OSMEM_COVERAGE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <stdlib.h>
#include <unistd.h>

void __gcov_dump(void);

/* It allocates: what that finds wrong ends the process within it. */
static inline void osmem_coverage_dump(void)
{
	static volatile int begun;

	if (begun)
		return;
	begun = 1;
	__gcov_dump();
	begun = 0;
}

#define abort() (osmem_coverage_dump(), abort())
#define _exit(status) (osmem_coverage_dump(), _exit(status))

#endif
