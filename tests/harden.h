/* SPDX-License-Identifier: MIT */
/*
 * harden.h - what the tests of harden=1 share.
 */
#ifndef HARDEN_H
#define HARDEN_H

#include "child.h"
#include "must.h"

#include <osmem.h>

static const size_t sizes[] = {1,    8,	   16,	  24,	  100,	 1000,
			       4096, 8000, 20000, 100000, 131072, 1 << 20};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), LARGE = 300000 };

/* What the compiler shall know nothing of. */
static void (*volatile give_back)(void *p) = os_free;
static void *volatile kept;

/* Takes and frees so many blocks of a size, so that slots come around. */
static inline void churn(size_t size, int count)
{
	while (count-- > 0)
		give_back(os_malloc(size));
}

static inline void end_with(const char *what, size_t size, struct child *child)
{
	dprintf(STDERR_FILENO, "%s, %zu bytes:\n", what, size);
	child_show(child);
	MUST(!"stopped as it should be");
}

/* Every byte is cleared and verified: in a test that has not allocated yet. */
static inline void harden_wholly(void)
{
	MUST(os_mallopt(OS_M_HARDEN, 2));
}

/* The option, before the first allocation. */
static inline void harden(void)
{
	os_mallopt(OS_M_MODE, OS_MODE_AUTO);
	MUST(os_mallopt(OS_M_HARDEN, 1));
}

#endif
