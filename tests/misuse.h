/* SPDX-License-Identifier: MIT */
/*
 * misuse.h - does what a program must not do, in a child, and compares the
 * report with what it should say.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include <stdbool.h>
#include <stddef.h>

#define MISUSE_FREED "double free or use after free: this block is free"
#define MISUSE_INSIDE "invalid pointer: it points inside a block"
#define MISUSE_NOTHING "invalid pointer: no block of this allocator"
#define MISUSE_BROKEN "overwritten header: something wrote before this block"
#define MISUSE_NEIGHBOUR \
	"overwritten header: something wrote past the end of the block before"

struct misuse_report {
	const char *what;  /* one of the texts above */
	const char *state; /* of the block */
	const void *block; /* NULL: the report names none */
	size_t size;
	ptrdiff_t offset; /* into the block, -1: in its header, 0: nothing */
	bool any_size;    /* the size and state are what was overwritten */
};

/* The calls that take a pointer. */
enum {
	MISUSE_FREE = 1,
	MISUSE_FREE_SIZED = 2,
	MISUSE_FREE_ALIGNED_SIZED = 4,
	MISUSE_RESIZE = 8, /* os_realloc, os_reallocarray */
	MISUSE_USABLE = 16,
	MISUSE_RESIZE_TO_0 = 32,
	MISUSE_ALL = 63
};

/* Calls fn(p) so that the compiler neither knows nor says that it is wrong. */
void misuse_hidden(void (*fn)(void *p), void *p);

/* Whether fn(p) in a child is stopped with this report. fn is os_free. */
bool misuse_matches(void (*fn)(void *p), void *p,
		    const struct misuse_report *report);

/* Ends the test if not. */
void misuse_expect(void (*fn)(void *p), void *p,
		   const struct misuse_report *report);

/* The same for each of a set of the calls above. */
void misuse_expect_by_all(void *p, const struct misuse_report *report,
			  unsigned calls);

/* Any operation whose report names no call: expects it in the child's text. */
void misuse_expect_in(void (*fn)(void *arg), void *arg,
		      const struct misuse_report *report);

#endif
