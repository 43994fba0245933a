/* SPDX-License-Identifier: MIT */
/*
 * die.c - reports system calls that fail, and ends the process if it shall.
 *
 * Owns the policy and a counter, both relaxed atomics: they are read anywhere,
 * guard nothing, and a report too few or too many at the moment of a change
 * does no harm. Must never allocate or take a lock.
 */
#include "die.h"

#include "print.h"
#include "sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_bool die_warn;
static atomic_bool die_fatal;
static atomic_ulong die_count;

/* strerror() may allocate; these are what memory calls return. */
static const char *die_reason(int err)
{
	switch (err) {
	case ENOMEM:
		return "Cannot allocate memory";
	case EINVAL:
		return "Invalid argument";
	case EAGAIN:
		return "Resource temporarily unavailable";
	case EPERM:
		return "Operation not permitted";
	case EACCES:
		return "Permission denied";
	case ENOSYS:
		return "Function not implemented";
	default:
		return "error";
	}
}

void osmem_die_failed(int err, const char *call, size_t size, bool fatal)
{
	bool ends = fatal && atomic_load_explicit(&die_fatal,
						  memory_order_relaxed);

	atomic_fetch_add_explicit(&die_count, 1, memory_order_relaxed);
	if (ends || atomic_load_explicit(&die_warn, memory_order_relaxed))
		osmem_print(2, "%s: %s of %zu bytes failed: %s (errno %d)%s\n",
			    OSMEM_NAME, call, size, die_reason(err), err,
			    ends ? "; ending, as option die says" : "");
	if (ends)
		osmem_sys_exit(EXIT_FAILURE);
}

void osmem_die_set_policy(bool warn, bool die)
{
	atomic_store_explicit(&die_warn, warn, memory_order_relaxed);
	atomic_store_explicit(&die_fatal, die, memory_order_relaxed);
}

unsigned long osmem_die_failures(void)
{
	return atomic_load_explicit(&die_count, memory_order_relaxed);
}
