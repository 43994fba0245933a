/* SPDX-License-Identifier: MIT */
/*
 * check.h - assertions of our own invariants and the fill patterns of
 * --enable-debug. Not for what callers do wrong: that is always checked.
 */
#ifndef OSMEM_CHECK_H
#define OSMEM_CHECK_H

#include "common.h"

#include "print.h"
#include "sys.h"

#include <string.h>

/* What fresh and freed memory is filled with. */
enum { OSMEM_FILL_FRESH = 0xa5, OSMEM_FILL_FREED = 0xdd };

#define OSMEM_ASSERT(x) \
	((void)(!OSMEM_CONF_DEBUG || likely(x) || \
		(osmem_check_failed(#x, __FILE__, __LINE__), 0)))

static inline __attribute__((cold)) void osmem_check_failed(const char *what,
						 const char *file, int line)
{
	osmem_print(2, "%s: %s:%d: assertion failed: %s\n", OSMEM_NAME, file,
		    line, what);
	osmem_sys_abort();
}

/* Untouched pages of a large mapping are left untouched. */
static inline void osmem_check_fill(void *p, size_t size, int pattern)
{
	if (OSMEM_CONF_DEBUG && size < OSMEM_MMAP_THRESHOLD)
		memset(p, pattern, size);
}

#endif
