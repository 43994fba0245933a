/* SPDX-License-Identifier: MIT */
/*
 * must.h - assertions for tests that play with the break, fork and signals.
 *
 * Check's own assertions allocate with libc's malloc, which moves the break
 * under the tests' feet, and they do not work in a child of a test. These
 * write to stderr and end the process with 70, which Check calls a failure.
 */
#ifndef MUST_H
#define MUST_H

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { MUST_FAILED = 70 };

#define MUST(x) ((x) ? (void)0 : must_failed(#x, __FILE__, __LINE__))

/* Both are unsigned or pointers' values; shown when they differ. */
#define MUST_EQ(a, b) \
	must_be_equal((size_t)(a), (size_t)(b), #a " == " #b, __FILE__, \
		      __LINE__)

static inline _Noreturn void must_failed(const char *what, const char *file,
					 int line)
{
	int saved = errno;

	dprintf(STDERR_FILENO, "%s:%d: failed: %s (errno %d)\n", file, line,
		what, saved);
	_exit(MUST_FAILED);
}

static inline void must_be_equal(size_t a, size_t b, const char *what,
				 const char *file, int line)
{
	if (a == b)
		return;
	dprintf(STDERR_FILENO, "%s:%d: %zu (%#zx), but expected %zu (%#zx)\n",
		file, line, a, a, b, b);
	must_failed(what, file, line);
}

#endif
