/* SPDX-License-Identifier: MIT */
/*
 * strace_worker.c - the contract's worked examples, for strace.test.
 *
 * Makes the calls of the example that is its argument. Each stands between a
 * marker that begins it and one that ends it, written with write(2) so that
 * they show in the trace, and the second tells what the call returned. Uses
 * neither stdio nor libc's malloc, which would move the break.
 */
#include <config.h>

#include "osmem.h"

#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* Leaves 8 or 16 bytes of the preallocated block: no room for a header. */
#define NO_SPLIT (OSMEM_CONF_ALIGNMENT == 8 ? 131032 : 131024)

static void say(const char *text)
{
	if (write(STDOUT_FILENO, text, strlen(text)) < 0)
		_exit(2);
}

static void begin(const char *name)
{
	char line[100] = "begin ";

	strncat(line, name, sizeof(line) - 8);
	say(line);
}

static void *end(void *p)
{
	static const char digits[] = "0123456789abcdef";
	char line[] = "end 0x0000000000000000";
	uintptr_t value = (uintptr_t)p;
	size_t at;

	for (at = sizeof(line) - 2; value != 0; at--, value /= 16)
		line[at] = digits[value % 16];
	say(line);
	return p;
}

static void first_calls(void)
{
	void *p, *q;

	begin("malloc-first");
	p = end(os_malloc(1000));
	begin("realloc-in-place");
	p = end(os_realloc(p, 2000));
	begin("free");
	os_free(p);
	end(NULL);
	begin("calloc-small");
	p = end(os_calloc(10, 100));
	begin("realloc-leaves-heap");
	p = end(os_realloc(p, 132072));
	begin("calloc-page");
	q = end(os_calloc(1, 5000));
	begin("realloc-to-heap");
	q = end(os_realloc(q, 2000));
	begin("free-mapped");
	os_free(p);
	end(NULL);
	begin("free-heap");
	os_free(q);
	end(NULL);
}

static void exact_fit(void)
{
	void *p, *q;

	begin("malloc-no-split");
	p = end(os_malloc(NO_SPLIT));
	begin("malloc-append");
	q = end(os_malloc(10));
	begin("realloc-last-grows");
	q = end(os_realloc(q, 100));
	begin("free-last");
	os_free(q);
	end(NULL);
	begin("malloc-last-grows");
	q = end(os_malloc(200));
	os_free(q);
	os_free(p);
}

static void mapped_first(void)
{
	void *p;

	begin("malloc-mapped-first");
	p = end(os_malloc(131033));
	begin("realloc-mapped");
	p = end(os_realloc(p, 262144));
	begin("realloc-mapped-shrinks");
	p = end(os_realloc(p, 131072));
	begin("realloc-to-first-heap");
	p = end(os_realloc(p, 64));
	begin("malloc-zero");
	end(os_malloc(0));
	begin("realloc-zero");
	end(os_realloc(p, 0));
}

/* Mode auto: the third growth and the second unmap are the last exact ones. */
static void auto_thresholds(void)
{
	static const char *const names[][2] = {
		{"malloc-mapped", "free-unmaps"},
		{"malloc-mapped-again", "free-unmaps-again"},
		{"malloc-mapped-last", "free-keeps"},
		{"malloc-kept", "free-keeps-again"},
	};
	static const char *const growths[] = {
		"malloc-grows-2", "malloc-grows-3", "malloc-chunk",
		"malloc-in-chunk"};
	size_t i;

	if (!os_mallopt(OS_M_CACHE_AFTER, 2) || !os_mallopt(OS_M_GROW_AFTER, 3))
		_exit(2);
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *p;

		begin(names[i][0]);
		p = end(os_malloc(200000));
		begin(names[i][1]);
		os_free(p);
		end(NULL);
	}
	begin("malloc-grows-1");
	end(os_malloc(NO_SPLIT));
	for (i = 0; i < sizeof(growths) / sizeof(growths[0]); i++) {
		begin(growths[i]);
		end(os_malloc(1024));
	}
}

/* With another libc than glibc the break may not be ours to use (rule 23a). */
static int break_is_used(void)
{
#ifdef __GLIBC__
	return 1;
#else
	return 0;
#endif
}

int main(int argc, char **argv)
{
	const char *which = argc == 2 ? argv[1] : "";

	if (!break_is_used())
		return 77;
	if (!os_mallopt(OS_M_MODE, strcmp(which, "auto") == 0 ? OS_MODE_AUTO :
								 OS_MODE_EXACT))
		return 2;
	if (strcmp(which, "first-calls") == 0)
		first_calls();
	else if (strcmp(which, "exact-fit") == 0)
		exact_fit();
	else if (strcmp(which, "mapped-first") == 0)
		mapped_first();
	else if (strcmp(which, "auto") == 0)
		auto_thresholds();
	else
		return 2;
	return 0;
}
