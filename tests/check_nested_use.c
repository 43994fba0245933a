/* SPDX-License-Identifier: MIT */
/*
 * check_nested_use.c - blocks that signal handlers were given while they
 * interrupted the allocator (check_nested.c), when the program has them.
 */
#include "child.h"
#include "must.h"
#include "nested.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

/* malloc(0) of the replacement, when hardened. */
START_TEST(blocks_of_no_bytes)
{
	char *p = osmem_nested_alloc(0, 16);
	char *q = osmem_nested_alloc(0, 16);

	MUST(osmem_nested_holds(p) && osmem_nested_holds(q) && p != q);
	MUST(osmem_nested_size(p) != 0);
	MUST(osmem_nested_free(p) && osmem_nested_free(q));
	MUST(!osmem_nested_free(q));
}
END_TEST

/* A handler's block that the program goes on to use. */
START_TEST(blocks_that_are_kept)
{
	unsigned char *p = osmem_nested_alloc(100, 16);
	unsigned char *q;

	MUST(os_malloc_usable_size(p) >= 100);
	os_free_sized(p, 100);
	MUST(!osmem_nested_free(p));
	p = osmem_nested_alloc(100, 64);
	MUST((uintptr_t)p % 64 == 0);
	workload_fill(p, 100, 7);
	q = os_realloc(p, 50);
	MUST(q == p);
	q = os_realloc(p, 5000);
	MUST(q != NULL && !osmem_nested_holds(q));
	MUST(workload_holds(q, 100, 7, 100));
	MUST(!osmem_nested_free(p));
	os_free(q);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void free_kept_twice(void *p)
{
	void *volatile again = p;

	os_free(again);
	os_free(again);
}

static void look_beside(void *p)
{
	void *volatile inside = (char *)p + 8;

	os_malloc_usable_size(inside);
}

static void resize_freed(void *p)
{
	void *volatile again = p;

	os_free(again);
	MUST(os_realloc(again, 1000) == NULL);
}

START_TEST(misuse_of_blocks_that_are_kept)
{
	static void (*const misuse[])(void *) = {free_kept_twice, look_beside,
						 resize_freed};
	char *p = osmem_nested_alloc(100, 16);
	struct child child;
	size_t i;

	for (i = 0; i < sizeof(misuse) / sizeof(misuse[0]); i++) {
		child_run(&child, misuse[i], p);
		if (!child_was_killed_by(&child, SIGABRT))
			child_show(&child);
		MUST(child_was_killed_by(&child, SIGABRT));
		MUST(strstr(child.text, "no block of this allocator") != NULL);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("nested use");
	TCase *tcase = tcase_create("nested use");

	tcase_add_test(tcase, blocks_of_no_bytes);
	tcase_add_test(tcase, blocks_that_are_kept);
	tcase_add_test(tcase, misuse_of_blocks_that_are_kept);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
