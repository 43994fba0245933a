/* SPDX-License-Identifier: MIT */
/*
 * check_harden.c - harden=1: what a program must not do is found or contained.
 *
 * The test process chooses the option before its first allocation. Each case
 * runs in a child, and is judged by the signal that ended it and the report.
 */
#include "common.h"
#include "harden.h"
#include "suite.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FREED "double free or use after free"
#define INSIDE "it points inside a block"
#define NOTHING "no block of this allocator"
#define OVERRUN "something wrote past the end of this block"
#define UNDERRUN "something wrote before this block"
#define WRONG "wrong size"

static const char *const written = "write after free";

struct attempt {
	void (*fn)(char *p, size_t size);
	size_t size;
};

static void attempt_run(void *arg)
{
	struct attempt *a = arg;

	a->fn(os_malloc(a->size), a->size);
}

/* What was written into a free neighbour can be seen before it is used. */
static void must_report(void (*fn)(char *p, size_t size), size_t size,
			const char *text)
{
	struct attempt a = {fn, size};
	struct child child;

	child_run(&child, attempt_run, &a);
	if (!child_was_killed_by(&child, SIGABRT) ||
	    (strstr(child.text, text) == NULL &&
	     (text != written || strstr(child.text, UNDERRUN) == NULL)))
		end_with(text, size, &child);
}

static void must_fault(void (*fn)(char *p, size_t size), size_t size)
{
	struct attempt a = {fn, size};
	struct child child;

	child_run(&child, attempt_run, &a);
	if (child_is_sanitized() ? child_succeeded(&child) :
				   !child_was_killed_by(&child, SIGSEGV))
		end_with("a fault", size, &child);
}

static void must_report_all(void (*fn)(char *p, size_t size), const char *text)
{
	size_t i;

	for (i = 0; i < SIZES; i++)
		must_report(fn, sizes[i], text);
}

/* --- double frees --- */

static void twice(char *p, size_t size)
{
	(void)size;
	give_back(p);
	give_back(p);
}

/* On 32 bits a large one is known until others of 32 MiB are freed. */
static void twice_later(char *p, size_t size)
{
	void *others[50];
	size_t most = sizeof(p) == 8 ? 50 : ((size_t)24 << 20) / size;
	size_t i;

	for (i = 0; i < 50 && i < most; i++)
		others[i] = os_malloc(size);
	give_back(p);
	for (i = 0; i < 50 && i < most; i++)
		give_back(others[i]);
	give_back(p);
}

static void twice_among_new_ones(char *p, size_t size)
{
	char *q = os_malloc(size);

	give_back(p);
	kept = os_malloc(size);
	give_back(q);
	kept = os_malloc(size + 1);
	give_back(p);
}

static void *free_it(void *p)
{
	give_back(p);
	return NULL;
}

static void free_elsewhere(void *p)
{
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, free_it, p) == 0);
	pthread_join(thread, NULL);
}

static void twice_elsewhere(char *p, size_t size)
{
	(void)size;
	give_back(p);
	free_elsewhere(p);
}

static void elsewhere_first(char *p, size_t size)
{
	(void)size;
	free_elsewhere(p);
	give_back(p);
}

static void at_once(char *p, size_t size)
{
	pthread_t threads[2];
	int i;

	(void)size;
	for (i = 0; i < 2; i++)
		MUST(pthread_create(&threads[i], NULL, free_it, p) == 0);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* All slots of the slab are free, and its memory has gone back. */
static void twice_after_trim(char *p, size_t size)
{
	give_back(p);
	churn(size, 3);
	os_malloc_trim(0);
	give_back(p);
}

static void twice_across_realloc(char *p, size_t size)
{
	char *q = os_realloc(p, 2 * size + 100);

	MUST(q != NULL && q != p);
	kept = q;
	give_back(p);
}

static void realloc_to_0_after_free(char *p, size_t size)
{
	(void)size;
	give_back(p);
	kept = os_realloc(p, 0);
}

START_TEST(double_frees)
{
	must_report_all(twice, FREED);
	must_report_all(twice_later, FREED);
	must_report_all(twice_among_new_ones, FREED);
	must_report_all(twice_across_realloc, FREED);
	must_report_all(realloc_to_0_after_free, FREED);
	must_report_all(twice_after_trim, FREED);
	if (!OSMEM_CONF_THREADS)
		return;
	must_report_all(twice_elsewhere, FREED);
	must_report_all(elsewhere_first, FREED);
	must_report_all(at_once, FREED);
}
END_TEST

START_TEST(realloc_of_a_free_block_is_refused)
{
	void *(*volatile resize)(void *, size_t) = os_realloc;
	size_t i;

	for (i = 0; i < SIZES; i++) {
		void *p = os_malloc(sizes[i]);

		give_back(p);
		errno = 0;
		MUST(resize(p, 10) == NULL && errno == EINVAL);
		errno = 0;
		MUST(resize(p, LARGE) == NULL && errno == EINVAL);
	}
}
END_TEST

/* --- pointers that are no blocks --- */

static void free_inside(char *p, size_t size)
{
	give_back(p + size / 2 + 1);
}

static void free_inside_a_free_one(char *p, size_t size)
{
	give_back(p);
	give_back(p + size / 2 + 1);
}

static void free_one_behind(char *p, size_t size)
{
	(void)size;
	give_back(p + 1);
}

static void resize_inside(char *p, size_t size)
{
	kept = os_realloc(p + size / 2 + 1, 10);
}

static void measure_inside(char *p, size_t size)
{
	kept = (void *)os_malloc_usable_size(p + size / 2 + 1);
}

static void measure_free(char *p, size_t size)
{
	(void)size;
	give_back(p);
	kept = (void *)os_malloc_usable_size(p);
}

static void free_far_behind(char *p, size_t size)
{
	(void)size;
	give_back((char *)((uintptr_t)p + ((uintptr_t)1 << 30)));
}

static void free_on_stack(char *p, size_t size)
{
	char here[64] = {0};

	(void)p, (void)size;
	give_back(here + 16);
}

static void free_static(char *p, size_t size)
{
	static char here[64];

	(void)p, (void)size;
	give_back(here + 16);
}

static void free_foreign(char *p, size_t size)
{
	(void)p;
	give_back(malloc(size));
}

static void free_without_access(char *p, size_t size)
{
	(void)p, (void)size;
	give_back(mmap(NULL, 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0));
}

static void free_wild(char *p, size_t size)
{
	(void)p;
	give_back((void *)(size * 16));
}

START_TEST(pointers_that_are_no_blocks)
{
	must_report_all(free_inside, INSIDE);
	must_report_all(free_inside_a_free_one, "bytes, free; the pointer");
	must_report_all(free_one_behind, INSIDE);
	must_report_all(resize_inside, INSIDE);
	must_report_all(measure_inside, INSIDE);
	must_report_all(measure_free, FREED);
	must_report_all(free_far_behind, NOTHING);
	must_report_all(free_on_stack, NOTHING);
	must_report_all(free_static, NOTHING);
	must_report_all(free_foreign, NOTHING);
	must_report_all(free_without_access, NOTHING);
	must_report_all(free_wild, NOTHING);
}
END_TEST

static void free_larger(char *p, size_t size)
{
	os_free_sized(p, size + 1);
}

static void free_smaller(char *p, size_t size)
{
	os_free_sized(p, size - 1);
}

static void free_as_aligned(char *p, size_t size)
{
	os_free_aligned_sized(p, 64, size);
}

static void free_with_less_alignment(char *p, size_t size)
{
	kept = p;
	os_free_aligned_sized(os_aligned_alloc(256, size), 128, size);
}

START_TEST(sizes_and_alignments_that_do_not_fit)
{
	size_t i;

	must_report_all(free_larger, WRONG);
	must_report_all(free_smaller, WRONG);
	must_report_all(free_as_aligned, WRONG);
	must_report_all(free_with_less_alignment, WRONG);
	for (i = 0; i < SIZES; i++) {
		os_free_sized(os_malloc(sizes[i]), sizes[i]);
		os_free_aligned_sized(os_aligned_alloc(512, sizes[i]), 512,
				      sizes[i]);
		os_free_aligned_sized(os_aligned_alloc(8, sizes[i]), 8,
				      sizes[i]);
	}
}
END_TEST

/* --- overflows --- */

static void overflow_by_1(char *p, size_t size)
{
	p[size] = 'x';
	give_back(p);
}

/* The last byte of eight, whatever was there. */
static void overflow_by_8(char *p, size_t size)
{
	p[size + 7] ^= 1;
	give_back(p);
}

static void overflow_by_zeros(char *p, size_t size)
{
	memset(p + size, 0, 8);
	give_back(p);
}

static void overflow_found_by_realloc(char *p, size_t size)
{
	p[size] = 'x';
	kept = os_realloc(p, size + 1);
}

static void overflow_found_by_usable_size(char *p, size_t size)
{
	p[size] = 'x';
	kept = (void *)os_malloc_usable_size(p);
}

static void overflow_after_shrinking(char *p, size_t size)
{
	p = os_realloc(p, size - size / 4);
	p[size - size / 4] = 'x';
	give_back(p);
}

static void string_without_end(char *p, size_t size)
{
	memset(p, 'x', size);
	MUST_EQ(strlen(p), size);
	give_back(p);
}

/* Mappings that end with their last page fault. */
START_TEST(overflows)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t i;

	for (i = 0; i < SIZES; i++) {
		size_t size = sizes[i] - (sizes[i] % page == 0 ? 10 : 0);
		struct attempt a = {string_without_end, size};
		struct child child;

		must_report(overflow_by_1, size, OVERRUN);
		must_report(overflow_by_8, size, OVERRUN);
		must_report(overflow_by_zeros, size, OVERRUN);
		must_report(overflow_found_by_realloc, size, OVERRUN);
		must_report(overflow_found_by_usable_size, size, OVERRUN);
		if (size > 1)
			must_report(overflow_after_shrinking, size, OVERRUN);
		child_run(&child, attempt_run, &a);
		MUST(child_succeeded(&child));
	}
	must_fault(overflow_by_1, 256 << 10);
	must_fault(overflow_by_8, 256 << 10);
}
END_TEST

/* Slots side by side: three such that the middle one has two neighbours. */
static char *three_in_a_row(size_t size)
{
	size_t slot = osmem_up(size + 8, 16);
	char *p[600];
	int i;
	int j;

	for (i = 0; i < 600; i++)
		p[i] = os_malloc(size);
	for (i = 0; i < 600; i++)
		for (j = 0; j < 600; j++)
			if (p[j] == p[i] + slot)
				return p[j];
	MUST(!"neighbours");
	return NULL;
}

static void underflow_by_1(char *p, size_t size)
{
	p = three_in_a_row(size);
	p[-1] ^= 'x';
	give_back(p);
}

static void underflow_by_16(char *p, size_t size)
{
	p = three_in_a_row(size);
	memset(p - 16, 'x', 16);
	give_back(p);
}

static void underflow_of_a_free_one(char *p, size_t size)
{
	p = three_in_a_row(size);
	give_back(p - osmem_up(size + 8, 16));
	memset(p - 8, 'x', 8);
	give_back(p);
}

static void underflow_of_a_page(char *p, size_t size)
{
	(void)size;
	p[-1] = 'x';
}

START_TEST(underflows)
{
	must_fault(underflow_of_a_page, 40000);
	must_fault(underflow_of_a_page, LARGE);
	if (child_is_sanitized())
		return; /* one of them takes such looks for races */
	must_report(underflow_by_1, 24, UNDERRUN);
	must_report(underflow_by_16, 24, UNDERRUN);
	must_report(underflow_of_a_free_one, 24, UNDERRUN);
	must_report(underflow_by_1, 100, UNDERRUN);
	must_report(underflow_by_16, 100, UNDERRUN);
	must_report(underflow_of_a_free_one, 100, UNDERRUN);
}
END_TEST

/* --- use after free --- */

static void write_after_free(char *p, size_t size)
{
	give_back(p);
	p[size / 2] = 'x';
	churn(size, 2000);
}

static void read_after_free(char *p, size_t size)
{
	size_t i;

	memset(p, 'x', size);
	give_back(p);
	for (i = 0; i < size; i++)
		MUST(p[i] != 'x');
}

static void touch_after_free(char *p, size_t size)
{
	give_back(p);
	p[size / 2] = 'x';
}

START_TEST(use_after_free)
{
	size_t i;

	for (i = 0; i < SIZES; i++) {
		struct attempt a = {read_after_free, sizes[i]};
		struct child child;

		if (sizes[i] >= OSMEM_MMAP_THRESHOLD) {
			must_fault(read_after_free, sizes[i]);
			must_fault(touch_after_free, sizes[i]);
			continue;
		}
		must_report(write_after_free, sizes[i], written);
		child_run(&child, attempt_run, &a);
		if (!child_succeeded(&child))
			end_with("reading what was freed", sizes[i], &child);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("harden");
	TCase *t = tcase_create("harden");

	harden();
	tcase_set_timeout(t, 300);
	tcase_add_test(t, double_frees);
	tcase_add_test(t, realloc_of_a_free_block_is_refused);
	tcase_add_test(t, pointers_that_are_no_blocks);
	tcase_add_test(t, sizes_and_alignments_that_do_not_fit);
	tcase_add_test(t, overflows);
	tcase_add_test(t, underflows);
	tcase_add_test(t, use_after_free);
	suite_add_tcase(s, t);
	return suite_run(s);
}
