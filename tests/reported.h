/* SPDX-License-Identifier: MIT */
/*
 * reported.h - what a child does wrong, and what is said of it.
 */
#ifndef REPORTED_H
#define REPORTED_H

#include "child.h"
#include "misuse.h"
#include "must.h"

#include <osmem.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The block to free, at the offset that is given. */
static char *victim;

static inline void free_victim(void *offset)
{
	misuse_hidden(os_free, victim + (intptr_t)offset);
}

static inline void free_pointer(void *p)
{
	misuse_hidden(os_free, p);
}

/* Ends the process when a text is not there that should be, or the reverse. */
static inline void expect_text(const struct child *child, const char *text,
			       bool there)
{
	if ((strstr(child->text, text) != NULL) == there)
		return;
	dprintf(STDERR_FILENO, "%s: %s\n", there ? "missing" : "unwanted",
		text);
	child_show(child);
	MUST(!"the report that is expected");
}

/* In a child that must be stopped by a report. */
static inline void run_stopped(struct child *child, void (*fn)(void *),
			       void *arg)
{
	child_run(child, fn, arg);
	if (!child_was_killed_by(child, SIGABRT))
		child_show(child);
	MUST(child_was_killed_by(child, SIGABRT));
}

#endif
