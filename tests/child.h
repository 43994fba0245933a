/* SPDX-License-Identifier: MIT */
/*
 * child.h - runs a piece of a test in a process of its own.
 *
 * For what ends a process, and for what wants a fresh heap many times in one
 * test. What the child writes to stderr is captured.
 */
#ifndef CHILD_H
#define CHILD_H

#include <stdbool.h>
#include <stddef.h>

struct child {
	int status;      /* of waitpid(2) */
	char text[4096]; /* what it wrote to stderr, terminated */
};

/* Forks; the child calls fn(arg) and exits with 0. It has three minutes. */
void child_run(struct child *child, void (*fn)(void *arg), void *arg);

/*
 * Runs this very program again with one argument, so that everything before
 * main() happens again. environment: "NAME=value" to add, or NULL. prepare is
 * called before the exec, or NULL.
 */
void child_exec(struct child *child, const char *argument,
		const char *environment, void (*prepare)(void));

bool child_succeeded(const struct child *child);
bool child_was_killed_by(const struct child *child, int signal);

/* Prints status and text to stderr, for a test that is about to fail. */
void child_show(const struct child *child);

/* The program runs under a sanitizer, which has uses for memory and signals. */
bool child_is_sanitized(void);

/*
 * The emulator that the program runs under, which nothing but this variable
 * tells. It keeps no limits on memory.
 */
#define CHILD_EMULATOR "OSMEM_TEST_EMULATOR"
bool child_is_emulated(void);

#endif
