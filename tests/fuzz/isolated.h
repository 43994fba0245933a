/* SPDX-License-Identifier: MIT */
/*
 * isolated.h - runs an input in a child, so that each starts with no heap at
 * all, in the mode that it asks for, and may end in a report of misuse.
 *
 * A finding is found again from its file alone. The fuzzer sees what the child
 * has covered: libFuzzer's counters are handed to the parent, AFL++'s are
 * shared memory anyway.
 */
#ifndef ISOLATED_H
#define ISOLATED_H

#include <stddef.h>
#include <stdint.h>

/* Calls fn in a child; aborts when the child does not end well. */
void isolated_run(void (*fn)(const uint8_t *data, size_t size),
		  const uint8_t *data, size_t size);

/* Ends the child well, or a child of its own. */
_Noreturn void isolated_leave(void);

/*
 * In the child: calls fn(p), which must be stopped with a report that starts
 * with call. Runs last(), if not NULL, in the handler of SIGABRT then, and does
 * not return.
 * If fn returns true, it has refused p in another way, and so does this.
 */
void isolated_misuse(int (*fn)(void *p), void *p, const char *call,
		     void (*last)(void));

#endif
