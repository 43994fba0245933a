/* SPDX-License-Identifier: MIT */
/*
 * check_harden.c - harden=1: what a program must not do is found or contained.
 *
 * The test process chooses the option before its first allocation. Each case
 * runs in a child, and is judged by the signal that ended it and the report.
 */
#include <config.h>

#include "child.h"
#include "common.h"
#include "must.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define FREED "double free or use after free"
#define INSIDE "it points inside a block"
#define NOTHING "no block of this allocator"
#define OVERRUN "something wrote past the end of this block"
#define UNDERRUN "something wrote before this block"
#define WRONG "wrong size"

static const char *const written = "write after free";

static const size_t sizes[] = {1,    8,	   16,	  24,	  100,	 1000,
			       4096, 8000, 20000, 100000, 131072, 1 << 20};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]), LARGE = 300000 };

/* What the compiler shall know nothing of. */
static void (*volatile give_back)(void *p) = os_free;
static void *(*volatile take)(size_t size) = os_malloc;
static void *volatile kept;

struct attempt {
	void (*fn)(char *p, size_t size);
	size_t size;
};

static void attempt_run(void *arg)
{
	struct attempt *a = arg;

	a->fn(os_malloc(a->size), a->size);
}

static void end_with(const char *what, size_t size, struct child *child)
{
	dprintf(STDERR_FILENO, "%s, %zu bytes:\n", what, size);
	child_show(child);
	MUST(!"stopped as it should be");
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

/* Takes and frees so many blocks of a size, so that slots come around. */
static void churn(size_t size, int count)
{
	while (count-- > 0)
		give_back(os_malloc(size));
}

/* --- double frees --- */

static void twice(char *p, size_t size)
{
	(void)size;
	give_back(p);
	give_back(p);
}

static void twice_later(char *p, size_t size)
{
	void *others[50];
	int i;

	for (i = 0; i < 50; i++)
		others[i] = os_malloc(size);
	give_back(p);
	for (i = 0; i < 50; i++)
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
	must_fault(underflow_of_a_page, 20000);
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

START_TEST(fresh_memory_is_zero)
{
	static char *p[200];
	size_t i;
	size_t k;
	int round;

	for (round = 0; round < 20; round++) {
		for (i = 0; i < 200; i++) {
			size_t size = sizes[i % (SIZES - 1)];

			p[i] = os_malloc(size);
			for (k = 0; k < size; k++)
				MUST(p[i][k] == 0);
			memset(p[i], 'x', size);
		}
		for (i = 0; i < 200; i++)
			give_back(p[i]);
	}
}
END_TEST

START_TEST(grown_memory_is_zero)
{
	size_t size = 1;
	size_t k;
	char *p = os_malloc(1);

	p[0] = 'x';
	while (size < 3000000) {
		size_t more = size + size / 3 + 1;

		p = os_realloc(p, more);
		MUST(p != NULL);
		MUST_EQ(os_malloc_usable_size(p), more);
		for (k = 0; k < more; k++)
			MUST(p[k] == (k < size ? 'x' : 0));
		memset(p, 'x', more);
		size = more;
	}
	while (size > 1) {
		size -= size / 3 + 1;
		p = os_realloc(p, size);
		for (k = 0; k < size; k++)
			MUST(p[k] == 'x');
	}
	os_free(p);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* --- reuse and chance --- */

START_TEST(a_freed_block_is_not_the_next)
{
	size_t i;
	int round;

	for (i = 0; i < SIZES; i++)
		for (round = 0; round < 100; round++) {
			uintptr_t before = (uintptr_t)os_malloc(sizes[i]);

			give_back((void *)before);
			kept = os_malloc(sizes[i]);
			MUST((uintptr_t)kept != before);
			give_back(kept);
		}
}
END_TEST

static void print_places(void *unused)
{
	int i;

	(void)unused;
	for (i = 0; i < 20; i++)
		dprintf(STDERR_FILENO, "%p ", os_malloc(64));
}

/* Without threads there are no handlers of fork. */
START_TEST(children_of_a_fork_differ)
{
	struct child a;
	struct child b;

	if (!OSMEM_CONF_THREADS)
		return;
	churn(64, 200);
	child_run(&a, print_places, NULL);
	child_run(&b, print_places, NULL);
	MUST(strcmp(a.text, b.text) != 0);
}
END_TEST

/* --- threads, forks, limits --- */

static void *exchange(void *seed)
{
	static void *_Atomic table[500];
	struct workload w;
	size_t most = workload_number("OSMEM_TEST_OPS", 100000);
	size_t i;

	workload_start(&w, (uintptr_t)seed);
	for (i = 0; i < most && i < 100000; i++) {
		size_t size = 8 + workload_draw(&w, i % 64 == 0 ? 150000 : 700);
		unsigned char *p = os_malloc(size);
		unsigned char *q;

		MUST(p != NULL && p[0] == 0 && p[size - 1] == 0);
		memset(p, (int)(size & 0xff), size);
		q = atomic_exchange(&table[workload_draw(&w, 500)], p);
		if (q == NULL)
			continue;
		size = os_malloc_usable_size(q);
		MUST(q[0] == (size & 0xff) && q[size - 1] == (size & 0xff));
		if (size % 3 == 0)
			q = os_realloc(q, size + 10);
		MUST(q != NULL && q[0] == (size & 0xff));
		os_free(q);
	}
	return NULL;
}

START_TEST(threads_exchange_blocks)
{
	pthread_t threads[4];
	uintptr_t i;
	int round;

	if (!OSMEM_CONF_THREADS)
		return;
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 4; i++)
			MUST(pthread_create(&threads[i], NULL, exchange,
					    (void *)(i + 1)) == 0);
		for (i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		MUST_EQ(os_heap_check(), 0);
	}
}
END_TEST

static atomic_bool stop;

static void *busy(void *unused)
{
	while (!atomic_load(&stop)) {
		churn(100, 10);
		churn(LARGE, 1);
	}
	return unused;
}

START_TEST(children_of_threaded_processes_go_on)
{
	pthread_t threads[2];
	struct child child;
	struct attempt a = {read_after_free, 100};
	int i;

	if (!OSMEM_CONF_THREADS)
		return;
	for (i = 0; i < 2; i++)
		MUST(pthread_create(&threads[i], NULL, busy, NULL) == 0);
	for (i = 0; i < 50; i++) {
		child_run(&child, attempt_run, &a);
		MUST(child_succeeded(&child));
	}
	atomic_store(&stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

struct sum {
	size_t live;
	size_t bytes;
	const void *last;
};

static int add(const struct os_block *block, void *arg)
{
	struct sum *sum = arg;

	MUST((uintptr_t)block->ptr > (uintptr_t)sum->last);
	sum->last = block->ptr;
	if (block->state == OS_BLOCK_FREE)
		return 0;
	sum->live++;
	sum->bytes += block->size;
	return 0;
}

START_TEST(walks_see_what_was_asked_for)
{
	struct os_stats stats = {.struct_size = sizeof(stats)};
	struct sum sum = {0, 0, NULL};
	void *p[SIZES];
	size_t bytes = 0;
	size_t i;

	for (i = 0; i < SIZES; i++) {
		p[i] = os_malloc(sizes[i]);
		bytes += sizes[i];
	}
	MUST_EQ(os_heap_walk(add, &sum), 0);
	MUST_EQ(sum.live, SIZES);
	MUST_EQ(sum.bytes, bytes);
	MUST(os_stats(&stats) == 0);
	MUST_EQ(stats.slab_used_blocks + stats.mapped_blocks, SIZES);
	for (i = 0; i < SIZES; i++)
		os_free(p[i]);
	sum = (struct sum){0, 0, NULL};
	MUST_EQ(os_heap_walk(add, &sum), 0);
	MUST_EQ(sum.live, 0);
}
END_TEST

START_TEST(checks_find_what_is_broken)
{
	char *p = take(100);
	char *q = take(LARGE);

	MUST_EQ(os_heap_check(), 0);
	if (child_is_sanitized())
		return;
	p[100] = 'x';
	MUST_EQ(os_heap_check(), 1);
	q[LARGE] = 'x';
	MUST_EQ(os_heap_check(), 2);
}
END_TEST

/* Small limits leave no place for slabs, smaller ones none for anything. */
static void live_in(void *arg)
{
	size_t limit = *(size_t *)arg << 20;
	struct rlimit r = {limit, limit};
	size_t total = 0;
	void *p;

	MUST(setrlimit(RLIMIT_AS, &r) == 0);
	while ((p = os_malloc(5000)) != NULL) {
		memset(p, 1, 5000);
		total += 5000;
	}
	MUST(total > limit / 4 || limit < (size_t)32 << 20);
	MUST(errno == ENOMEM);
	MUST_EQ(os_heap_check(), 0);
}

START_TEST(limits_on_address_space)
{
	static const size_t limits[] = {24, 64, 256};
	struct child child;
	size_t i;

	if (child_is_sanitized())
		return;
	for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		size_t limit = limits[i];

		child_run(&child, live_in, &limit);
		if (!child_succeeded(&child))
			end_with("limit", limit, &child);
	}
}
END_TEST

/* The system has no more guard pages to give than half of its table. */
static void many_mappings(void *unused)
{
	enum { MANY = 60000 };
	char **p = os_malloc(MANY * sizeof(*p));
	size_t i;

	(void)unused;
	for (i = 0; i < MANY; i++) {
		p[i] = os_malloc(i % 2 == 0 ? 10000 : 140000);
		MUST(p[i] != NULL);
		p[i][0] = 'x';
	}
	for (i = 0; i < MANY; i++)
		os_free(p[i]);
}

START_TEST(guard_pages_run_out)
{
	struct child child;

	if (child_is_sanitized() || sizeof(void *) < 8)
		return;
	child_run(&child, many_mappings, NULL);
	if (!child_succeeded(&child))
		end_with("many mappings", 0, &child);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("harden");
	TCase *t = tcase_create("harden");

	os_mallopt(OS_M_MODE, OS_MODE_AUTO);
	MUST(os_mallopt(OS_M_HARDEN, 1));
	tcase_set_timeout(t, 300);
	tcase_add_test(t, double_frees);
	tcase_add_test(t, realloc_of_a_free_block_is_refused);
	tcase_add_test(t, pointers_that_are_no_blocks);
	tcase_add_test(t, sizes_and_alignments_that_do_not_fit);
	tcase_add_test(t, overflows);
	tcase_add_test(t, underflows);
	tcase_add_test(t, use_after_free);
	tcase_add_test(t, fresh_memory_is_zero);
	tcase_add_test(t, grown_memory_is_zero);
	tcase_add_test(t, a_freed_block_is_not_the_next);
	tcase_add_test(t, children_of_a_fork_differ);
	tcase_add_test(t, threads_exchange_blocks);
	tcase_add_test(t, children_of_threaded_processes_go_on);
	tcase_add_test(t, walks_see_what_was_asked_for);
	tcase_add_test(t, checks_find_what_is_broken);
	tcase_add_test(t, limits_on_address_space);
	tcase_add_test(t, guard_pages_run_out);
	suite_add_tcase(s, t);
	return suite_run(s);
}
