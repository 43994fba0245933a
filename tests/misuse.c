/* SPDX-License-Identifier: MIT */
/*
 * misuse.c - the calls that are to be stopped, and what they must report.
 */
#include <config.h>

#include "misuse.h"

#include "child.h"
#include "must.h"

#include <osmem.h>
#include <signal.h>
#include <string.h>

void misuse_hidden(void (*fn)(void *p), void *p)
{
	void (*volatile call)(void *) = fn;
	void *volatile pointer = p;

	call(pointer);
}

/* --- the calls --- */

/* What they return, if they return; the test fails then. */
static void *volatile keep;

static void call_free_sized(void *p)
{
	os_free_sized(p, 8);
}

static void call_free_aligned_sized(void *p)
{
	os_free_aligned_sized(p, 8, 8);
}

static void call_realloc(void *p)
{
	keep = os_realloc(p, 10);
}

static void call_reallocarray(void *p)
{
	keep = os_reallocarray(p, 2, 100000);
}

static void call_realloc_to_0(void *p)
{
	keep = os_realloc(p, 0);
}

static void call_usable(void *p)
{
	keep = (void *)os_malloc_usable_size(p);
}

static const struct {
	unsigned set;
	void (*fn)(void *p);
	const char *name;
} calls_of[] = {
	{MISUSE_FREE, os_free, "os_free"},
	{MISUSE_FREE_SIZED, call_free_sized, "os_free_sized"},
	{MISUSE_FREE_ALIGNED_SIZED, call_free_aligned_sized,
	 "os_free_aligned_sized"},
	{MISUSE_RESIZE, call_realloc, "os_realloc"},
	{MISUSE_RESIZE, call_reallocarray, "os_reallocarray"},
	{MISUSE_RESIZE_TO_0, call_realloc_to_0, "os_realloc"},
	{MISUSE_USABLE, call_usable, "os_malloc_usable_size"},
};

enum { CALLS = sizeof(calls_of) / sizeof(calls_of[0]) };

/* --- the report --- */

static void describe_block(char *text, size_t size,
			   const struct misuse_report *report)
{
	int n;

	if (report->any_size) {
		snprintf(text, size, "libosmem: block %p, ", report->block);
		return;
	}
	n = snprintf(text, size, "libosmem: block %p, %zu bytes, %s",
		     report->block, report->size, report->state);
	text += n;
	size -= (size_t)n;
	if (report->offset > 0)
		snprintf(text, size, "; the pointer is %td bytes into it\n",
			 report->offset);
	else if (report->offset < 0)
		snprintf(text, size, "; the pointer is in its header\n");
	else
		snprintf(text, size, "\n");
}

static bool text_matches(const char *text, const char *first,
			 const struct misuse_report *report)
{
	char line[300];

	if (strncmp(text, first, strlen(first)) != 0)
		return false;
	text += strlen(first);
	/* What follows is more about the same, and check_report's. */
	if (report->block == NULL)
		return strstr(text, "libosmem: block ") == NULL;
	describe_block(line, sizeof(line), report);
	return strncmp(text, line, strlen(line)) == 0;
}

static bool call_matches(const char *name, void (*fn)(void *p), void *p,
			 const struct misuse_report *report,
			 struct child *child)
{
	char first[300];

	child_run(child, fn, p);
	snprintf(first, sizeof(first), "libosmem: %s(%p): %s\n", name, p,
		 report->what);
	return child_was_killed_by(child, SIGABRT) &&
	       text_matches(child->text, first, report);
}

static void expect_call(const char *name, void (*fn)(void *p), void *p,
			const struct misuse_report *report)
{
	struct child child;
	char line[300] = "";

	if (call_matches(name, fn, p, report, &child))
		return;
	if (report->block != NULL)
		describe_block(line, sizeof(line), report);
	dprintf(STDERR_FILENO, "expected of %s(%p): %s\n%s\nbut got:\n", name,
		p, report->what, line);
	child_show(&child);
	MUST(!"the report that is expected");
}

bool misuse_matches(void (*fn)(void *p), void *p,
		    const struct misuse_report *report)
{
	struct child child;

	return call_matches("os_free", fn, p, report, &child);
}

void misuse_expect(void (*fn)(void *p), void *p,
		   const struct misuse_report *report)
{
	expect_call("os_free", fn, p, report);
}

void misuse_expect_by_all(void *p, const struct misuse_report *report,
			  unsigned calls)
{
	size_t i;

	for (i = 0; i < CALLS; i++)
		if (calls & calls_of[i].set)
			expect_call(calls_of[i].name, calls_of[i].fn, p,
				    report);
}

void misuse_expect_in(void (*fn)(void *arg), void *arg,
		      const struct misuse_report *report)
{
	struct child child;
	char first[300];

	child_run(&child, fn, arg);
	snprintf(first, sizeof(first), "libosmem: %s\n", report->what);
	if (child_was_killed_by(&child, SIGABRT) &&
	    text_matches(child.text, first, report))
		return;
	dprintf(STDERR_FILENO, "expected: %sbut got:\n", first);
	child_show(&child);
	MUST(!"the report that is expected");
}
