/* SPDX-License-Identifier: MIT */
/*
 * check_family.c - the edges of the os_* functions: what each returns, what
 * becomes of errno, zero sizes, and sizes that nothing can hold.
 *
 * System calls are counted (faults.h): what is refused for its size alone must
 * not have asked the system.
 */
#include <config.h>

#include "common.h"
#include "faults.h"
#include "must.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <limits.h>
#include <osmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { UNTOUCHED = 4242 };

/* Sizes that must fail without a system call. */
static const size_t hopeless[] = {
	SIZE_MAX,
	SIZE_MAX - 1,
	SIZE_MAX - OSMEM_META,
	SIZE_MAX / 2 + 2,
	(size_t)PTRDIFF_MAX + 1,
};

enum { HOPELESS = sizeof(hopeless) / sizeof(hopeless[0]) };

/* Runs an expression and expects NULL, an errno, and no system call. */
#define EXPECT_NULL(expression, error) \
	do { \
		unsigned long before = faults_calls(FAULTS_ALL); \
		errno = UNTOUCHED; \
		MUST((expression) == NULL); \
		MUST_EQ(errno, error); \
		MUST_EQ(faults_calls(FAULTS_ALL), before); \
	} while (0)

/* Sizes known only at run time, or the compiler would warn of them. */
static size_t opaque(size_t n)
{
	volatile size_t v = n;

	return v;
}

START_TEST(zero_sizes_are_null_without_an_error)
{
	void *p = &p;

	EXPECT_NULL(os_malloc(opaque(0)), UNTOUCHED);
	EXPECT_NULL(os_calloc(opaque(0), 8), UNTOUCHED);
	EXPECT_NULL(os_calloc(8, opaque(0)), UNTOUCHED);
	EXPECT_NULL(os_calloc(opaque(0), opaque(SIZE_MAX)), UNTOUCHED);
	EXPECT_NULL(os_calloc(opaque(SIZE_MAX), opaque(0)), UNTOUCHED);
	EXPECT_NULL(os_realloc(NULL, opaque(0)), UNTOUCHED);
	EXPECT_NULL(os_reallocarray(NULL, opaque(0), 8), UNTOUCHED);
	EXPECT_NULL(os_reallocarray(NULL, 8, opaque(0)), UNTOUCHED);
	EXPECT_NULL(os_aligned_alloc(64, opaque(0)), UNTOUCHED);
	EXPECT_NULL(os_memalign(64, opaque(0)), UNTOUCHED);
	errno = UNTOUCHED;
	MUST_EQ(os_posix_memalign(&p, 64, opaque(0)), 0);
	MUST(p == NULL && errno == UNTOUCHED);
	MUST_EQ(faults_calls(FAULTS_SET(FAULTS_GROW_BREAK)), 0);
}
END_TEST

START_TEST(hopeless_sizes_make_no_system_call)
{
	char *p = os_malloc(100);
	void *q = p;
	size_t i;

	MUST(p != NULL);
	memset(p, 'x', 100);
	for (i = 0; i < HOPELESS; i++) {
		size_t n = opaque(hopeless[i]);

		EXPECT_NULL(os_malloc(n), ENOMEM);
		EXPECT_NULL(os_calloc(1, n), ENOMEM);
		EXPECT_NULL(os_calloc(n, 1), ENOMEM);
		EXPECT_NULL(os_realloc(NULL, n), ENOMEM);
		EXPECT_NULL(os_realloc(p, n), ENOMEM);
		EXPECT_NULL(os_reallocarray(p, n, 1), ENOMEM);
		EXPECT_NULL(os_aligned_alloc(8, n), ENOMEM);
		EXPECT_NULL(os_aligned_alloc(4096, n), ENOMEM);
		EXPECT_NULL(os_memalign(4096, n), ENOMEM);
		errno = UNTOUCHED;
		MUST_EQ(os_posix_memalign(&q, 4096, n), ENOMEM);
		MUST(q == p && errno == ENOMEM);
	}
	MUST(memchr(p, 'x', 100) == p && p[99] == 'x');
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/*
 * No process of 64 bits has half of all addresses. Of 32 bits it has, on a
 * kernel of 64: until less than half is left in one piece.
 */
static void take_half_of_all(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	if (sizeof(void *) > 4)
		return;
	while (mmap(NULL, (size_t)1 << 30, PROT_NONE, flags, -1, 0) !=
	       MAP_FAILED)
		;
}

/* All of n bytes at alignment, or a refusal. */
static void expect_whole_or_none(unsigned char *p, size_t n, size_t alignment)
{
	if (p == NULL) {
		MUST_EQ(errno, ENOMEM);
		return;
	}
	MUST_EQ((uintptr_t)p % alignment, 0);
	MUST(os_malloc_usable_size(p) >= n);
	p[0] = p[n - 1] = 1;
	MUST_EQ(os_heap_check(), 0);
	os_free(p);
}

START_TEST(half_of_all_addresses)
{
	static const size_t less[] = {0, 31, 4096};
	size_t half = opaque((size_t)PTRDIFF_MAX + 1);
	size_t i;

	os_mallopt(OS_M_WARN, 0);
	for (i = 0; i < sizeof(less) / sizeof(less[0]); i++) {
		size_t n = half - 1 - less[i];

		expect_whole_or_none(os_malloc(n), n, 8);
		expect_whole_or_none(os_calloc(1, n), n, 8);
		expect_whole_or_none(os_realloc(NULL, n), n, 8);
		expect_whole_or_none(os_aligned_alloc(1 << 20, n), n, 1 << 20);
	}
	expect_whole_or_none(os_memalign(half, 10), 10, half);
	expect_whole_or_none(os_aligned_alloc(half, 10), 10, half);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* Not above PTRDIFF_MAX, so the system is asked, and says no. */
START_TEST(sizes_that_the_system_refuses)
{
	static const size_t less[] = {0,  1,  8,  31,   32,
				      33, 40, 41, 4096, 1 << 20};
	void *p = os_malloc(100);
	size_t i;

	os_mallopt(OS_M_WARN, 0);
	take_half_of_all();
	for (i = 0; i < sizeof(less) / sizeof(less[0]); i++) {
		size_t n = opaque((size_t)PTRDIFF_MAX - less[i]);

		errno = 0;
		MUST(os_malloc(n) == NULL && errno == ENOMEM);
		errno = 0;
		MUST(os_calloc(1, n) == NULL && errno == ENOMEM);
		errno = 0;
		MUST(os_realloc(p, n) == NULL && errno == ENOMEM);
		errno = 0;
		MUST(os_aligned_alloc(64, n) == NULL && errno == ENOMEM);
		errno = 0;
		MUST(os_aligned_alloc(1 << 20, n) == NULL && errno == ENOMEM);
	}
	MUST(os_malloc_usable_size(p) >= 100);
	MUST_EQ(os_heap_check(), 0);
	os_free(p);
}
END_TEST

START_TEST(products_that_overflow_are_refused)
{
	size_t half = opaque(SIZE_MAX / 2 + 1);
	char *p = os_malloc(8);

	MUST(p != NULL);
	memcpy(p, "1234567", 8);
	EXPECT_NULL(os_calloc(half, 2), ENOMEM);
	EXPECT_NULL(os_calloc(half + 1, 2), ENOMEM);
	EXPECT_NULL(os_calloc(half - 1 + half, half - 1 + half), ENOMEM);
	EXPECT_NULL(os_reallocarray(p, half, 2), ENOMEM);
	EXPECT_NULL(os_reallocarray(p, half + 8, 2), ENOMEM);
	EXPECT_NULL(os_reallocarray(NULL, half, 2), ENOMEM);
	MUST(strcmp(p, "1234567") == 0);
	os_free(p);
}
END_TEST

START_TEST(reallocarray_is_realloc_of_the_product)
{
	char *p = os_reallocarray(NULL, 10, 10);
	char *q;

	MUST(p != NULL);
	MUST(os_malloc_usable_size(p) >= 100);
	memset(p, 'y', 100);
	q = os_reallocarray(p, 1000, 300);
	MUST(q != NULL);
	MUST(os_malloc_usable_size(q) >= 300000);
	MUST(q[0] == 'y' && q[99] == 'y');
	/* A product of 0 frees. */
	errno = UNTOUCHED;
	MUST(os_reallocarray(q, 0, 300) == NULL && errno == UNTOUCHED);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

START_TEST(alignments_must_be_powers_of_two)
{
	static const size_t bad[] = {0, 3, 5, 6, 7, 24, 4095, 4097, SIZE_MAX};
	void *p = &p;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		EXPECT_NULL(os_aligned_alloc(opaque(bad[i]), 10), EINVAL);
		EXPECT_NULL(os_aligned_alloc(opaque(bad[i]), 0), EINVAL);
		errno = UNTOUCHED;
		MUST_EQ(os_posix_memalign(&p, opaque(bad[i]), 10), EINVAL);
		MUST(errno == EINVAL && p == &p);
	}
	/* A power of two, but no multiple of a pointer's size. */
	for (i = 1; i < sizeof(void *); i *= 2) {
		MUST_EQ(os_posix_memalign(&p, i, 10), EINVAL);
		p = os_aligned_alloc(i, 10);
		MUST(p != NULL);
		os_free(p);
		p = &p;
	}
	EXPECT_NULL(os_memalign(SIZE_MAX / 2 + 2, 10), EINVAL);
	EXPECT_NULL(os_memalign(SIZE_MAX, 10), EINVAL);
	/* A power of two, but nothing can be so aligned. */
	os_mallopt(OS_M_WARN, 0);
	take_half_of_all();
	errno = 0;
	MUST(os_memalign(SIZE_MAX / 2 + 1, 10) == NULL && errno == ENOMEM);
	errno = 0;
	MUST(os_aligned_alloc(SIZE_MAX / 2 + 1, 10) == NULL && errno == ENOMEM);
}
END_TEST

static void try_alignment(size_t alignment, size_t size)
{
	void *p[4] = {NULL, NULL, NULL, NULL};
	size_t rounded = alignment / 2 + 1;
	size_t i;

	p[0] = os_aligned_alloc(alignment, size);
	p[1] = os_memalign(alignment, size);
	MUST_EQ(os_posix_memalign(&p[2], alignment, size), 0);
	p[3] = os_memalign(rounded, size); /* rounded up to alignment */
	for (i = 0; i < 4; i++) {
		MUST(p[i] != NULL);
		MUST_EQ((uintptr_t)p[i] % alignment, 0);
		MUST(os_malloc_usable_size(p[i]) >= size);
		workload_fill(p[i], size, (unsigned char)i);
	}
	MUST_EQ(os_heap_check(), 0);
	for (i = 0; i < 4; i++)
		MUST(workload_holds(p[i], size, (unsigned char)i, size));
	os_free_aligned_sized(p[0], alignment, size);
	os_free(p[1]);
	os_free_sized(p[2], size);
	/* It may move, then without its alignment, but keeps what it holds. */
	p[3] = os_realloc(p[3], size + 5000);
	MUST(p[3] != NULL && workload_holds(p[3], size, 3, size));
	os_free(p[3]);
}

START_TEST(alignments_from_8_to_a_mebibyte)
{
	static const size_t sizes[] = {1, 24, 100, 4096, 100000, 300000};
	size_t alignment;
	size_t i;

	for (alignment = 8; alignment <= 1 << 20; alignment *= 2)
		for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			try_alignment(alignment, sizes[i]);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* Rule 28: a hole that fits is found, however many are there that do not. */
START_TEST(alignments_find_the_only_hole)
{
	enum { HOLES = 1000, PAGE = 4096 };
	static char *holes[HOLES];
	char *only;
	int i;

	MUST(os_mallopt(OS_M_MODE, OS_MODE_EXACT) == 1);
	only = os_aligned_alloc(PAGE, 72);
	MUST(only != NULL && os_malloc(8) != NULL);
	for (i = 0; i < HOLES; i++) {
		holes[i] = os_malloc(64);
		MUST(holes[i] != NULL && os_malloc(8) != NULL);
	}
	for (i = 0; i < HOLES; i++)
		if ((uintptr_t)holes[i] % PAGE != 0)
			os_free(holes[i]);
	os_free(only);
	MUST(os_aligned_alloc(PAGE, 64) == only);
}
END_TEST

START_TEST(usable_size_can_be_used)
{
	size_t size;

	MUST_EQ(os_malloc_usable_size(NULL), 0);
	for (size = 1; size < 400000; size += 1 + size / 5) {
		unsigned char *p = os_malloc(size);
		size_t usable = os_malloc_usable_size(p);

		MUST(p != NULL && usable >= size);
		memset(p, 0xee, usable);
		MUST_EQ(os_heap_check(), 0);
		os_free_sized(p, size);
	}
}
END_TEST

/* Programs use what they are told that they have (up to a page of it). */
START_TEST(calloc_clears_what_is_usable)
{
	static const int modes[] = {OS_MODE_EXACT, OS_MODE_AUTO, OS_MODE_FAST};
	size_t size, usable, i;
	int round;
	char *p;

	MUST(os_mallopt(OS_M_MODE, modes[_i]) == 1);
	for (round = 0; round < 40; round++) {
		for (size = 1; size < 3500; size += round == 0 ? 1 : 97) {
			p = os_malloc(size);
			memset(p, 0xeb, os_malloc_usable_size(p));
			os_free(p);
			p = os_calloc(1, size);
			usable = os_malloc_usable_size(p);
			MUST(usable >= size);
			for (i = 0; i < usable; i++)
				MUST_EQ(p[i], 0);
			os_free(p);
		}
	}
}
END_TEST

START_TEST(free_keeps_errno_and_takes_null)
{
	void *small = os_malloc(10);
	void *large = os_malloc(500000);
	void *aligned = os_aligned_alloc(512, 600);

	errno = UNTOUCHED;
	os_free(NULL);
	os_free_sized(NULL, 10);
	os_free_aligned_sized(NULL, 8, 10);
	os_free(small);
	os_free_sized(large, 500000);
	os_free_aligned_sized(aligned, 512, 600);
	MUST_EQ(errno, UNTOUCHED);
	/* Also when the system refuses to take it. */
	large = os_malloc(500000);
	os_mallopt(OS_M_WARN, 0);
	faults_arm(FAULTS_SET(FAULTS_UNMAP), 1, true);
	errno = UNTOUCHED;
	os_free(large);
	MUST_EQ(errno, UNTOUCHED);
	MUST_EQ(faults_refused(), 1);
}
END_TEST

START_TEST(trim_says_whether_it_gave_anything)
{
	char *p;
	char *guard;

	MUST_EQ(os_malloc_trim(0), 0);
	p = os_malloc(100000);
	guard = os_malloc(100);
	MUST(p != NULL && guard != NULL);
	memset(p, 'p', 100000);
	memset(guard, 'g', 100);
	os_malloc_trim(0);
	os_free(p);
	MUST_EQ(os_malloc_trim(SIZE_MAX), 0);
	MUST_EQ(os_malloc_trim(1000000), 0);
	/* Of larger pages there may be none between two blocks. */
	if (sysconf(_SC_PAGESIZE) > 16384)
		return;
	MUST_EQ(os_malloc_trim(50000), 1);
	MUST_EQ(os_malloc_trim(0), 1);
	MUST(guard[0] == 'g' && guard[99] == 'g');
	MUST_EQ(os_heap_check(), 0);
	p = os_malloc(100000);
	MUST(p != NULL);
	memset(p, 'q', 100000);
	MUST(guard[0] == 'g' && guard[99] == 'g');
	/* What the system does not take was not given. */
	os_free(p);
	os_mallopt(OS_M_WARN, 0);
	faults_arm(FAULTS_SET(FAULTS_PURGE), 1, true);
	MUST_EQ(os_malloc_trim(0), 0);
	MUST_EQ(faults_calls(FAULTS_SET(FAULTS_UNMAP)), 0);
}
END_TEST

static void refuse(int param, int value)
{
	errno = UNTOUCHED;
	MUST_EQ(os_mallopt(param, value), 0);
	MUST_EQ(errno, EINVAL);
}

static void accept(int param, int value)
{
	errno = UNTOUCHED;
	MUST_EQ(os_mallopt(param, value), 1);
	MUST_EQ(errno, UNTOUCHED);
}

START_TEST(mallopt_takes_what_is_in_range)
{
	static const struct {
		int param, low, high;
	} ranges[] = {
		{OS_M_MODE, OS_MODE_EXACT, OS_MODE_FAST},
		{OS_M_DIE, 0, 1},
		{OS_M_WARN, 0, 1},
		{OS_M_BREAK, OS_BREAK_AUTO, OS_BREAK_NEVER},
		{OS_M_CHECK, 0, INT_MAX},
		{OS_M_STATS, 0, 1},
		{OS_M_HOT_AFTER, 1, INT_MAX},
		{OS_M_GROW_AFTER, 1, INT_MAX},
		{OS_M_CACHE_AFTER, 1, INT_MAX},
		{OS_M_FOREIGN, OS_FOREIGN_ABORT, OS_FOREIGN_IGNORE},
		{OS_M_SITES, 0, 1},
		{OS_M_HARDEN, 0, 2},
	};
	size_t i;

	for (i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		accept(ranges[i].param, ranges[i].high);
		accept(ranges[i].param, ranges[i].low);
		refuse(ranges[i].param, ranges[i].low - 1);
		refuse(ranges[i].param, INT_MIN);
		if (ranges[i].high < INT_MAX)
			refuse(ranges[i].param, ranges[i].high + 1);
	}
	refuse(0, 0);
	refuse(-1, 0);
	refuse(OS_M_HARDEN + 1, 1);
	refuse(OS_M_HARDEN + 2, 1);
	refuse(INT_MAX, 1);
	refuse(INT_MIN, 1);
}
END_TEST

START_TEST(mode_is_chosen_before_the_first_allocation)
{
	void *p;

	accept(OS_M_MODE, OS_MODE_FAST);
	accept(OS_M_MODE, OS_MODE_EXACT);
	p = os_malloc(1);
	refuse(OS_M_MODE, OS_MODE_AUTO);
	os_free(p);
	refuse(OS_M_MODE, OS_MODE_AUTO);
	refuse(OS_M_MODE, OS_MODE_EXACT);
	accept(OS_M_WARN, 0);
	accept(OS_M_CHECK, 1);
	p = os_malloc(1);
	os_free(p);
}
END_TEST

START_TEST(a_mapped_block_counts_as_the_first)
{
	void *p = os_malloc(1 << 20);

	refuse(OS_M_MODE, OS_MODE_EXACT);
	os_free(p);
	refuse(OS_M_MODE, OS_MODE_EXACT);
}
END_TEST

START_TEST(strings_are_copied)
{
	static char text[200001];
	char unterminated[3] = {'a', 'b', 'c'};
	char *p = os_strdup("");

	MUST(p != NULL && p[0] == '\0');
	os_free(p);
	p = os_strdup("hello");
	MUST(p != NULL && strcmp(p, "hello") == 0);
	os_free_sized(p, 6);
	memset(text, 't', 200000);
	p = os_strdup(text);
	MUST(p != NULL && strcmp(p, text) == 0);
	os_free(p);
	p = os_strndup(text, 3);
	MUST(p != NULL && strcmp(p, "ttt") == 0);
	os_free(p);
	p = os_strndup("ab", SIZE_MAX);
	MUST(p != NULL && strcmp(p, "ab") == 0);
	os_free(p);
	p = os_strndup(unterminated, 3);
	MUST(p != NULL && strcmp(p, "abc") == 0);
	os_free(p);
	p = os_strndup("ab", 0);
	MUST(p != NULL && p[0] == '\0');
	os_free(p);
	os_mallopt(OS_M_WARN, 0);
	faults_arm(FAULTS_ALL, 1, true);
	errno = 0;
	MUST(os_strdup(text) == NULL && errno == ENOMEM);
	errno = 0;
	MUST(os_strndup(text, 190000) == NULL && errno == ENOMEM);
}
END_TEST

/* Rule 8b: it is one piece with what is free there. */
START_TEST(new_space_below_a_free_block)
{
	const uintptr_t unit = OSMEM_CONF_ALIGNMENT;
	uintptr_t first;
	uintptr_t rest;
	size_t size;

	MUST(os_mallopt(OS_M_BREAK, OS_BREAK_NEVER) == 1);
	first = (uintptr_t)os_malloc(1000);
	MUST(os_malloc(60000) != NULL);
	os_free((void *)first);
	rest = (uintptr_t)os_malloc(100000) + 100000 + 32;
	memcpy(&size, (void *)(rest - 32), sizeof(size));
	if (rest + size != first - 32) {
		printf("the mappings are not next to each other: skipped\n");
		return;
	}
	MUST_EQ((uintptr_t)os_malloc(8), rest);
	MUST_EQ((uintptr_t)os_malloc(size + 32), rest + unit + 32);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("family");
	TCase *tcase = tcase_create("family");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, zero_sizes_are_null_without_an_error);
	tcase_add_test(tcase, hopeless_sizes_make_no_system_call);
	tcase_add_test(tcase, half_of_all_addresses);
	tcase_add_test(tcase, sizes_that_the_system_refuses);
	tcase_add_test(tcase, products_that_overflow_are_refused);
	tcase_add_test(tcase, reallocarray_is_realloc_of_the_product);
	tcase_add_test(tcase, alignments_must_be_powers_of_two);
	tcase_add_test(tcase, alignments_from_8_to_a_mebibyte);
	tcase_add_test(tcase, alignments_find_the_only_hole);
	tcase_add_test(tcase, usable_size_can_be_used);
	tcase_add_loop_test(tcase, calloc_clears_what_is_usable, 0, 3);
	tcase_add_test(tcase, free_keeps_errno_and_takes_null);
	tcase_add_test(tcase, trim_says_whether_it_gave_anything);
	tcase_add_test(tcase, mallopt_takes_what_is_in_range);
	tcase_add_test(tcase, mode_is_chosen_before_the_first_allocation);
	tcase_add_test(tcase, a_mapped_block_counts_as_the_first);
	tcase_add_test(tcase, strings_are_copied);
	tcase_add_test(tcase, new_space_below_a_free_block);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
