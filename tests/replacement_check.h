/* SPDX-License-Identifier: MIT */
/*
 * replacement_check.h - checks for programs that test a malloc they know
 * nothing of: preloaded, linked in statically, or libc's own.
 *
 * Such a program links nothing of the project, and uses no test framework
 * that allocates on its own. "PROGRAM ours" expects what the replacement
 * promises, "PROGRAM libc" leaves out where glibc does less; further
 * arguments name the groups to run. It prints each failed check and the
 * number of checks, and exits 1 if any failed. An alarm ends what hangs.
 */
#ifndef REPLACEMENT_CHECK_H
#define REPLACEMENT_CHECK_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

static bool ours;
static atomic_int checks;
static atomic_int failures;

/* The compiler must not know what is asked for, or it says what it thinks. */
UNUSED static volatile size_t huge = SIZE_MAX;
UNUSED static volatile size_t zero;

#define CHECK(x) check((x), #x, __LINE__)
#define CHECK_OURS(x) (ours ? check((x), #x, __LINE__) : (void)0)

/* Only of what has no side effects: it is not evaluated if there is none. */
#define HAVE(f) ((f) != NULL || missing(#f))

static void check(bool holds, const char *what, int line)
{
	atomic_fetch_add(&checks, 1);
	if (holds)
		return;
	atomic_fetch_add(&failures, 1);
	dprintf(1, "FAILED line %d: %s\n", line, what);
}

/* Where libc's headers lack a function's type the replacement lacks it, too. */
UNUSED static bool missing(const char *name)
{
#ifdef __GLIBC__
	const bool expected = true;
#else
	const bool expected = false;
#endif

	if (ours && expected) {
		atomic_fetch_add(&failures, 1);
		dprintf(1, "FAILED: there is no %s\n", name);
	}
	return false;
}

UNUSED static bool aligned(const void *p, size_t alignment)
{
	return (uintptr_t)p % alignment == 0;
}

UNUSED static bool all_bytes(const void *p, int value, size_t n)
{
	const unsigned char *byte = p;

	for (size_t i = 0; i < n; i++)
		if (byte[i] != (unsigned char)value)
			return false;
	return true;
}

/* That a call failed: NULL, and errno. p is freed if it did not. */
UNUSED static bool failed_with(void *p, int expected)
{
	int got = errno;

	free(p);
	errno = 0;
	return p == NULL && got == expected;
}

struct group {
	const char *name;
	void (*run)(void);
};

/* Whether the arguments after the first name it, or nothing. */
static bool is_wanted(int argc, char **argv, const char *name)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc <= 2;
}

/* Runs the groups; what main returns. */
static int run_groups(int argc, char **argv, const struct group *group)
{
	int groups = 0;

	if (argc < 2 ||
	    (strcmp(argv[1], "ours") != 0 && strcmp(argv[1], "libc") != 0)) {
		fprintf(stderr, "usage: %s ours|libc [GROUP...]\n", argv[0]);
		return 2;
	}
	ours = strcmp(argv[1], "ours") == 0;
	alarm(120);
	for (; group->name != NULL; group++) {
		if (!is_wanted(argc, argv, group->name))
			continue;
		groups++;
		group->run();
	}
	dprintf(1, "%d groups, %d checks, %d failed\n", groups, checks,
		failures);
	return groups == 0 || failures != 0;
}

#endif
