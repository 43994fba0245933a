/* SPDX-License-Identifier: MIT */
/*
 * check_rows.c - mode fast: slots that come back in the order of their
 * addresses, and go out in it.
 *
 * White box: rows are put and taken by words of a slab's map, so they begin and
 * end at each place in a word, in a page, and in a slab.
 */
#include "must.h"
#include "suite.h"

#include "child.h"
#include "thread.h"

#include <check.h>
#include <osmem.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 3000, BYTES = 4 << 20 };

static void *blocks[BLOCKS];
static size_t count;

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)(*(void *const *)a);
	uintptr_t y = (uintptr_t)(*(void *const *)b);

	return (x > y) - (x < y);
}

static void fill(size_t size)
{
	size_t i;

	count = BYTES / size < BLOCKS ? BYTES / size : BLOCKS;
	for (i = 0; i < count; i++) {
		if (blocks[i] == NULL)
			blocks[i] = os_malloc(size);
		MUST(blocks[i] != NULL);
		memset(blocks[i], (int)i, size);
	}
	qsort(blocks, count, sizeof(blocks[0]), by_address);
	for (i = 1; i < count; i++)
		MUST((uintptr_t)blocks[i] - (uintptr_t)blocks[i - 1] >= size);
	MUST_EQ(os_heap_check(), 0);
}

static void release(size_t i)
{
	os_free(blocks[i]);
	blocks[i] = NULL;
}

/* Every step-th from there on, but for each that is kept. */
static void release_up(size_t from, size_t step, size_t kept)
{
	size_t i;

	for (i = from; i < count; i += step)
		if (kept == 0 || i % kept != 0)
			release(i);
	MUST_EQ(os_heap_check(), 0);
}

static void release_down(size_t to, size_t kept)
{
	size_t i;

	for (i = count; i-- > to;)
		if (kept == 0 || i % kept != 0)
			release(i);
	MUST_EQ(os_heap_check(), 0);
}

static void release_rest(void)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (blocks[i] != NULL)
			release(i);
	os_malloc_trim(0);
	MUST_EQ(os_heap_check(), 0);
}

START_TEST(rows_of_every_class_go_in_and_out)
{
	size_t size = osmem_class_size((unsigned int)_i);
	size_t kept;

	for (kept = 0; kept < 80; kept = kept * 2 + 9) {
		fill(size);
		release_up(0, 1, kept);
		fill(size);
		release_down(0, kept);
		fill(size);
		release_up(0, 2, kept);
		release_up(1, 2, kept == 0 ? 0 : 2 * kept);
		fill(size);
		release_up(count / 2, 1, kept);
		release_rest();
	}
}
END_TEST

/* They are in the map, and come a second time, as a row. */
static void free_row_twice(void *unused)
{
	void *again[16];
	size_t i;

	(void)unused;
	memcpy(again, blocks, sizeof(again));
	release_up(0, 1, 0);
	for (i = 0; i < 16; i++) {
		/* As if written to meanwhile: it does not look freed. */
		((volatile uintptr_t *)again[i])[1] = 0;
		os_free(again[i]);
	}
	os_malloc_trim(0);
}

static void expect_report(void (*misuse)(void *), void *arg, const char *text)
{
	struct child child;

	child_run(&child, misuse, arg);
	if (!child_was_killed_by(&child, SIGABRT))
		child_show(&child);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, text) != NULL);
}

START_TEST(a_row_that_comes_twice_is_reported)
{
	fill(48);
	expect_report(free_row_twice, NULL, "second free at once");
	release_rest();
}
END_TEST

/* One of a row is written to while it is in the bin. */
static void write_into_row(void *which)
{
	size_t i;

	for (i = 0; i < count; i++) {
		os_free(blocks[i]);
		if (i == (uintptr_t)which)
			((volatile uintptr_t *)blocks[i])[1] ^= 1;
	}
	os_malloc_trim(0);
}

START_TEST(a_row_with_one_that_was_written_to_is_reported)
{
	static const uintptr_t which[] = {0, 1, 5, 7, 8, 37, 63, 64, 65, 900};
	size_t i;

	fill(64);
	for (i = 0; i < sizeof(which) / sizeof(which[0]); i++)
		expect_report(write_into_row, (void *)which[i],
			      "write after free");
	release_rest();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rows");
	TCase *tcase = tcase_create("rows");

	MUST_EQ(os_mallopt(OS_M_MODE, OS_MODE_FAST), 1);
	os_free(os_malloc(1));
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, rows_of_every_class_go_in_and_out, 0,
			    osmem_class_of(16384) + 1);
	tcase_add_test(tcase, a_row_that_comes_twice_is_reported);
	tcase_add_test(tcase,
		       a_row_with_one_that_was_written_to_is_reported);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
