/* SPDX-License-Identifier: MIT */
/*
 * fault.h - allocations that fail because somebody asked for it.
 *
 * A rule says which of the process's allocation calls fail. The calls are
 * counted at the door (core.h), each once, whatever serves it. Nothing here
 * takes a lock or allocates.
 */
#ifndef OSMEM_FAULT_H
#define OSMEM_FAULT_H

#include "common.h"

#include <stdatomic.h>

enum osmem_fault_kind {
	OSMEM_FAULT_NO,
	OSMEM_FAULT_NTH,   /* one call, the number-th */
	OSMEM_FAULT_EVERY, /* each number-th call */
	OSMEM_FAULT_CHANCE /* number in 10^9, by a sequence that seed names */
};

enum { OSMEM_FAULT_TEXT = 32 };

struct osmem_fault_rule {
	enum osmem_fault_kind kind;
	uint32_t number, seed;
	char text[OSMEM_FAULT_TEXT]; /* as it was given */
};

/*
 * Reads "no", "nth:N", "every:N", "p=P" or "p=P:SEED". False, and *rule is as
 * it was, for anything else.
 */
OSMEM_FN bool osmem_fault_read(const char *text, size_t size,
			       struct osmem_fault_rule *rule);

/* What a bad rule could have been: of its kind, or of any. */
OSMEM_FN const char *osmem_fault_range(const char *text, size_t size);

/* The rule holds from now on, and counting starts again but for "no". */
OSMEM_FN void osmem_fault_start(const struct osmem_fault_rule *rule);

/*
 * Counts in a file instead, for the first process that does so, and for what
 * it becomes by exec; in any other process no allocation fails. The first byte
 * of the file becomes 'r' now, and 'f' with the first failure.
 */
OSMEM_FN void osmem_fault_share(const char *path);

/*
 * The rule's kind, written with release once the rest of the rule is there,
 * read with acquire.
 */
OSMEM_VAR atomic_uint osmem_fault_kind;

OSMEM_FN OSMEM_COLD bool osmem_fault_is_due(void);

/* Counts a call of an allocating function; whether it shall fail. */
static inline bool osmem_fault_count(void)
{
	return unlikely(atomic_load_explicit(&osmem_fault_kind,
					     memory_order_acquire) !=
			OSMEM_FAULT_NO) &&
	       osmem_fault_is_due();
}

/* Since the rule was set. */
struct osmem_fault_totals {
	unsigned long calls, failed;
};

OSMEM_FN struct osmem_fault_totals osmem_fault_totals(void);

#endif
