/* SPDX-License-Identifier: MIT */
/*
 * watch_user.c - errors that memcheck and AddressSanitizer have to find, for
 * watch.test, which looks for the lines that say so.
 */
#include <osmem.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile char sink;

static void clean(void)
{
	size_t i;

	for (i = 1; i < 300000; i += i / 3 + 1) {
		char *p = os_malloc(i);
		char *q = os_calloc(1, i);

		memset(p, 1, i);
		sink = q[i - 1];
		p = os_realloc(p, 2 * i);
		memset(p, 1, os_malloc_usable_size(p));
		q = os_realloc(q, i / 2 + 1);
		sink = p[0];
		sink = q[0];
		os_free(p);
		os_free(q);
		p = os_aligned_alloc(256, i);
		memset(p, 1, i);
		os_free_aligned_sized(p, 256, i);
	}
}

static void hardened(void)
{
	if (os_mallopt(OS_M_MODE, OS_MODE_FAST) &&
	    os_mallopt(OS_M_HARDEN, 1))
		clean();
}

/* The break: somebody moves it down into p, and up again. */
static void lowered(void)
{
	char *p = os_malloc(2000);
	char *q = os_malloc(2000);
	char *end = sbrk(0);
	intptr_t by = end - (p + 1000);

	os_free(q);
	if (p > end || by > 1 << 20) /* not at the break */
		return;
	sbrk(-by);
	memset(p, 1, os_malloc_usable_size(p));
	memset(sbrk(by), 1, (size_t)by);
	os_free(p);
}

static void after_free(void)
{
	char *p = os_malloc(100);

	p[50] = 1;
	os_free(p);
	sink = p[50]; /* line: after-free */
}

static void overflow(void)
{
	char *p = os_malloc(99);
	char *next = os_malloc(99);

	next[0] = 1;
	p[99] = 1; /* line: overflow */
	os_free(next);
	os_free(p);
}

static void moved(void)
{
	char *p = os_malloc(1000);
	char *q = os_realloc(p, 2000);

	q[1999] = 1;
	p[0] = 1; /* line: moved */
	os_free(q);
}

static void leak(void)
{
	char *p = os_malloc(1234); /* line: leak */

	p[0] = 1;
	sink = p[0];
}

static void undefined(void)
{
	char *p = os_malloc(64);

	if (p[20] == 'x') /* line: undefined */
		puts("x");
	os_free(p);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "clean") == 0)
		clean();
	else if (strcmp(what, "hardened") == 0)
		hardened();
	else if (strcmp(what, "lowered") == 0)
		lowered();
	else if (strcmp(what, "after-free") == 0)
		after_free();
	else if (strcmp(what, "overflow") == 0)
		overflow();
	else if (strcmp(what, "moved") == 0)
		moved();
	else if (strcmp(what, "leak") == 0)
		leak();
	else if (strcmp(what, "undefined") == 0)
		undefined();
	else
		return 2;
	puts("done");
	return 0;
}
