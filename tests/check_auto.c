/* SPDX-License-Identifier: MIT */
/*
 * check_auto.c - mode auto, on both sides of each of its thresholds.
 *
 * White box: links the core library, and counts its system calls. The modes
 * that are not auto are chosen in a child, before its first allocation.
 */
#include <config.h>

#include "must.h"
#include "stats_now.h"
#include "suite.h"

#include "class.h"
#include "slab.h"
#include "span.h"

#include "child.h"
#include "faults.h"

#include <check.h>
#include <osmem.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { HOT_AFTER = 256, GROW_AFTER = 64, CACHE_AFTER = 64 };
enum { LARGE = 200000, MEBIBYTE = 1 << 20 };

/*
 * What is kept of mappings: each, and in all; an eighth where address space is
 * scarce. There a block that grows has once its size ahead, not 15 times.
 */
enum {
	SCARCE = sizeof(void *) == 8 ? 1 : 8,
	KEPT_LARGEST = 32 * MEBIBYTE / SCARCE,
	KEPT_MOST = 256 * MEBIBYTE / SCARCE,
	ROOM = 2 * 65536, /* more than a block's header and what is rounded */
	MOVES_TO_16_MIB = SCARCE == 1 ? 4 : 7
};

static void *volatile hidden;

static bool is_slot(const void *p)
{
	return osmem_slab_of(p) != NULL;
}

static void in_child(void (*fn)(void *arg), void *arg)
{
	struct child child;

	child_run(&child, fn, arg);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
}

static void set(int param, int value)
{
	MUST_EQ(os_mallopt(param, value), 1);
}

/* --- classes --- */

START_TEST(a_class_becomes_hot_at_its_256th_request)
{
	void *p = NULL;
	int i;

	for (i = 1; i < HOT_AFTER; i++) {
		p = os_malloc(40);
		MUST(p != NULL && !is_slot(p));
	}
	MUST(is_slot(os_malloc(33)));
	MUST(is_slot(os_malloc(48)));
	MUST(!is_slot(os_malloc(49)));
	MUST(!is_slot(os_malloc(32)));
	/* A block of the heap stays one until it has to move. */
	MUST(os_realloc(p, 35) == p);
	os_free(p);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

START_TEST(every_kind_of_request_counts)
{
	void *p = os_malloc(5000);
	void *q;
	int i;

	os_free(os_malloc(4100));
	os_free(os_malloc(5100));
	for (i = 3; i < HOT_AFTER - 1; i += 4) {
		os_free(os_calloc(1, 5000));
		os_free(os_aligned_alloc(64, 4992));
		os_free(os_realloc(NULL, 5120));
		MUST(!is_slot(q = os_malloc(5000)));
		os_free(q);
	}
	MUST_EQ(stats_now().slab_bytes, 0);
	q = os_calloc(1, 5000);
	MUST(is_slot(q));
	MUST(!is_slot(p) && os_malloc_usable_size(p) < 5040);
	q = os_realloc(p, 4900);
	MUST(q == p);
	q = os_malloc(16);
	hidden = os_malloc(16);
	MUST(!is_slot(q));
	MUST(is_slot(os_realloc(q, 5000)));
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static int count_blocks(const struct os_block *block, void *arg)
{
	size_t *counts = arg;

	counts[is_slot(block->ptr)] += block->state == OS_BLOCK_USED;
	return 0;
}

START_TEST(statistics_and_walks_see_both)
{
	size_t counts[2] = { 0, 0 };
	struct os_stats stats;
	int i;

	for (i = 0; i < HOT_AFTER + 44; i++)
		MUST(os_malloc(1000) != NULL);
	stats = stats_now();
	MUST_EQ(stats.heap_used_blocks, HOT_AFTER - 1);
	MUST_EQ(stats.slab_used_blocks, 45);
	MUST_EQ(os_heap_walk(count_blocks, counts), 0);
	MUST_EQ(counts[0], HOT_AFTER - 1);
	MUST_EQ(counts[1], 45);
}
END_TEST

START_TEST(the_threshold_is_an_option)
{
	set(OS_M_HOT_AFTER, 3);
	MUST(!is_slot(os_malloc(100)));
	MUST(!is_slot(os_malloc(100)));
	MUST(is_slot(os_malloc(100)));
	set(OS_M_HOT_AFTER, 1);
	MUST(is_slot(os_malloc(3000)));
}
END_TEST

static void never_hot(void *arg)
{
	int i;

	if (arg == NULL)
		set(OS_M_MODE, OS_MODE_EXACT);
	else
		set(OS_M_CHECK, 100);
	for (i = 0; i < 2 * HOT_AFTER; i++)
		MUST(!is_slot(os_malloc(40)));
}

START_TEST(the_door_stays_closed)
{
	in_child(never_hot, NULL);
	in_child(never_hot, (void *)1);
}
END_TEST

/* --- growth --- */

/* Bytes by which the break has moved in one growth; 0: not at the break. */
static size_t growth(void)
{
	unsigned long before = (unsigned long)stats_now().growths;
	char *brk = sbrk(0);

	while (stats_now().growths == before)
		MUST(os_malloc(30000) != NULL);
	return (size_t)((char *)sbrk(0) - brk);
}

static void grow_exactly(void *arg)
{
	unsigned long i;

	(void)arg;
	set(OS_M_MODE, OS_MODE_EXACT);
	hidden = os_malloc(131000);
	if (growth() == 0)
		return;
	for (i = 0; i < 2 * GROW_AFTER; i++)
		MUST_EQ(growth(), 30032);
}

START_TEST(exact_mode_grows_exactly)
{
	in_child(grow_exactly, NULL);
}
END_TEST

START_TEST(the_heap_grows_in_chunks_after_64_growths)
{
	size_t before;
	size_t size;

	set(OS_M_HOT_AFTER, 100000);
	hidden = os_malloc(131000);
	before = growth();
	if (before == 0 || stats_now().growths != 2)
		return;
	while (stats_now().growths < GROW_AFTER)
		MUST_EQ(growth(), 30032);
	before = stats_now().heap_bytes;
	size = growth();
	MUST(size >= 131072 && size < before);
	while (stats_now().heap_bytes < 16 * MEBIBYTE)
		MUST(growth() >= 131072);
	MUST(growth() >= 2 * MEBIBYTE);
	MUST_EQ(os_heap_check(), 0);
	/* A last block that grows does so in chunks, too. */
	before = stats_now().growths;
	for (hidden = os_malloc(100), size = 100; size < 100000; size += 100)
		hidden = os_realloc(hidden, size);
	MUST(stats_now().growths <= before + 1);
	MUST(os_malloc_usable_size(hidden) >= size - 100);
}
END_TEST

START_TEST(a_refused_chunk_is_made_smaller)
{
	set(OS_M_GROW_AFTER, 1);
	set(OS_M_WARN, 0);
	hidden = os_malloc(131000);
	if (growth() == 0)
		return;
	faults_arm(FAULTS_SET(FAULTS_GROW_BREAK), 1, false);
	MUST(growth() <= 30032);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* --- mappings --- */

static void unmap_some(unsigned long n)
{
	while (n-- > 0)
		os_free(os_malloc(LARGE));
}

START_TEST(mappings_are_kept_after_64_unmaps)
{
	unsigned char *p;
	unsigned char *q;

	unmap_some(CACHE_AFTER);
	MUST_EQ(stats_now().unmaps, CACHE_AFTER);
	MUST_EQ(stats_now().maps, CACHE_AFTER);
	p = os_malloc(LARGE);
	memset(p, 0xee, LARGE);
	os_free(p);
	MUST_EQ(stats_now().unmaps, CACHE_AFTER);
	q = os_calloc(1, LARGE - 1000);
	MUST(q == p);
	MUST(q[0] == 0 && memcmp(q, q + 1, LARGE - 1001) == 0);
	MUST_EQ(os_malloc_usable_size(q), osmem_up(LARGE - 1000, OSMEM_ALIGN));
	MUST_EQ(stats_now().maps, CACHE_AFTER + 1);
	os_free_sized(q, LARGE - 1000);
	/* Too large a span would be waste. */
	MUST((q = os_malloc(LARGE / 4 * 3)) != p);
	os_free(q);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void free_twice(void *p)
{
	hidden = p;
	os_free(hidden);
	os_free(hidden);
}

START_TEST(misuse_of_a_kept_mapping_is_reported)
{
	struct child child;
	void *p;

	set(OS_M_CACHE_AFTER, 1);
	unmap_some(1);
	p = os_malloc(LARGE);
	child_run(&child, free_twice, p);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, "double free") != NULL);
	hidden = p;
	os_free(p);
	errno = 0;
	MUST(os_realloc(hidden, 10) == NULL && errno == EINVAL);
}
END_TEST

static size_t resident(void *p, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uintptr_t start = osmem_up((uintptr_t)p, page);
	unsigned char in = 0;
	size_t bytes = 0;

	for (; start + page <= (uintptr_t)p + size; start += page) {
		MUST_EQ(mincore((void *)start, page, &in), 0);
		bytes += (in & 1) * page;
	}
	return bytes;
}

START_TEST(memory_of_kept_mappings_goes_back)
{
	enum { BLOCKS = 20 };
	unsigned char *p[BLOCKS];
	size_t bytes = 0;
	int i;

	set(OS_M_CACHE_AFTER, 1);
	unmap_some(1);
	for (i = 0; i < BLOCKS; i++)
		p[i] = memset(os_malloc(MEBIBYTE), 1, MEBIBYTE);
	for (i = 0; i < BLOCKS; i++)
		os_free(p[i]);
	MUST_EQ(osmem_span_totals().kept, BLOCKS);
	for (i = 0; i < BLOCKS; i++)
		bytes += resident(p[i] - OSMEM_META, MEBIBYTE);
	MUST(bytes <= MEBIBYTE / 4);
	/* What is small may stay, until the caller asks. */
	os_free(memset(os_malloc(LARGE), 1, LARGE));
	MUST(osmem_span_totals().dirty != 0);
	MUST_EQ(os_malloc_trim(0), 1);
	MUST_EQ(osmem_span_totals().dirty, 0);
	for (i = 0; i < 200; i++)
		p[0] = os_malloc((size_t)(MEBIBYTE / 4) * (size_t)(i % 40 + 1)),
		os_free(p[0]);
	MUST(osmem_span_totals().bytes <= KEPT_MOST);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void churn(size_t size, size_t blocks, int rounds)
{
	void *p[16];
	size_t i;

	while (rounds-- > 0) {
		for (i = 0; i < blocks; i++)
			p[i] = memset(os_malloc(size), 1, size);
		for (i = 0; i < blocks; i++)
			os_free(p[i]);
	}
}

START_TEST(the_largest_mappings_are_not_kept)
{
	unsigned long unmaps;

	set(OS_M_CACHE_AFTER, 1);
	unmap_some(1);
	unmaps = (unsigned long)stats_now().unmaps;
	os_free(os_malloc(KEPT_LARGEST - ROOM));
	MUST_EQ(osmem_span_totals().kept, 1);
	MUST_EQ(stats_now().unmaps, unmaps);
	os_free(os_malloc(KEPT_LARGEST));
	MUST_EQ(osmem_span_totals().kept, 1);
	MUST_EQ(stats_now().unmaps, unmaps + 1);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

START_TEST(memory_that_bounces_stays)
{
	/* With headers at most 4 MiB, and 8 in all, where space is scarce. */
	enum { LESS = SCARCE == 1 ? 0 : ROOM };
	static const size_t sizes[] = { 131072, MEBIBYTE, 4 * MEBIBYTE - LESS };
	unsigned calls = FAULTS_SET(FAULTS_PURGE) | FAULTS_SET(FAULTS_MAP) |
			 FAULTS_SET(FAULTS_UNMAP);
	unsigned long before;
	size_t i;

	set(OS_M_CACHE_AFTER, 1);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		churn(sizes[i], 1, 10);
		before = faults_calls(calls);
		churn(sizes[i], 1, 50);
		/* But for what has become old meanwhile. */
		MUST(faults_calls(calls) <= before + 4);
	}
	churn(MEBIBYTE - LESS, 8, 4);
	before = faults_calls(calls);
	churn(MEBIBYTE - LESS, 8, 10);
	MUST(faults_calls(calls) <= before + 4);
}
END_TEST

START_TEST(what_cannot_go_back_is_unmapped)
{
	set(OS_M_CACHE_AFTER, 1);
	set(OS_M_WARN, 0);
	unmap_some(1);
	faults_arm(FAULTS_SET(FAULTS_PURGE), 1, true);
	os_free(memset(os_malloc(MEBIBYTE), 1, MEBIBYTE));
	MUST_EQ(osmem_span_totals().kept, 0);
	MUST_EQ(stats_now().unmaps, 2);
	faults_disarm();
}
END_TEST

/* --- growing and shrinking --- */

static unsigned char *step_to(unsigned char *p, size_t from, size_t to,
			      size_t step)
{
	size_t size;

	for (size = from; size < to; size += step) {
		p = os_realloc(p, size);
		MUST(p != NULL);
		p[size - 1] = 7;
		MUST(size == from || p[size - 1 - step] == 7);
		MUST_EQ(os_malloc_usable_size(p), osmem_up(size, OSMEM_ALIGN));
	}
	return p;
}

START_TEST(steps_of_growth_move_seldom)
{
	unsigned char *p;
	unsigned char *q;
	unsigned long maps;

	set(OS_M_CACHE_AFTER, 1);
	unmap_some(1);
	maps = (unsigned long)stats_now().maps;
	p = step_to(NULL, LARGE, 16 * MEBIBYTE, 5000);
	MUST(stats_now().maps <= maps + MOVES_TO_16_MIB);
	MUST(stats_now().mapped_bytes <= 18 * MEBIBYTE);
	MUST_EQ(os_heap_check(), 0);
	p = os_realloc(p, 16 * MEBIBYTE);
	memset(p, 9, 16 * MEBIBYTE);
	q = os_realloc(p, 9 * MEBIBYTE);
	MUST(q == p);
	MUST(resident(p + 10 * MEBIBYTE, 6 * MEBIBYTE) == 0);
	q = os_realloc(p, 9 * MEBIBYTE + 100000);
	MUST(q == p);
	MUST_EQ(os_heap_check(), 0);
	q = os_realloc(p, MEBIBYTE);
	MUST(q != p && q[0] == 9 && q[MEBIBYTE - 1] == 9);
	os_free_sized(q, MEBIBYTE);
	MUST_EQ(stats_now().mapped_bytes, 0);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void grow_exact_mapping(void *arg)
{
	void *p = NULL;
	size_t i;

	(void)arg;
	set(OS_M_MODE, OS_MODE_EXACT);
	for (i = 0; i < 2 * CACHE_AFTER; i++) {
		void *q = os_realloc(p, LARGE + i * 8);

		MUST(q != p);
		p = q;
	}
	MUST_EQ(stats_now().maps, 2 * CACHE_AFTER);
	MUST_EQ(stats_now().unmaps, 2 * CACHE_AFTER - 1);
}

START_TEST(exact_mode_moves_each_time)
{
	in_child(grow_exact_mapping, NULL);
}
END_TEST

/* Refused address space and memory ahead: as without any. */
static void grow_refused(void *arg)
{
	enum faults_call *call = arg;
	unsigned char *p;

	set(OS_M_CACHE_AFTER, 1);
	set(OS_M_WARN, 0);
	unmap_some(1);
	p = step_to(NULL, LARGE, 2 * LARGE, 5000);
	faults_arm(FAULTS_SET(*call), 1, true);
	p = step_to(p, 2 * LARGE, 4 * LARGE, 5000);
	p = step_to(p, 4 * LARGE, 64 * LARGE, 50000);
	faults_disarm();
	p = step_to(p, 64 * LARGE, 68 * LARGE, 5000);
	os_free(p);
	MUST_EQ(os_heap_check(), 0);
	MUST_EQ(stats_now().mapped_bytes, 0);
}

static void grow_limited(void *arg)
{
	struct rlimit limit = { (rlim_t)1 << 30, RLIM_INFINITY };

	(void)arg;
	set(OS_M_CACHE_AFTER, 1);
	MUST_EQ(setrlimit(RLIMIT_AS, &limit), 0);
	os_free(step_to(NULL, LARGE, 8 * LARGE, 5000));
	MUST_EQ(osmem_span_totals().kept, 0);
	MUST_EQ(os_heap_check(), 0);
}

START_TEST(growth_copes_with_refusals)
{
	enum faults_call call;

	for (call = FAULTS_UNMAP; call < FAULTS_CALLS; call++)
		in_child(grow_refused, &call);
	if (!child_is_sanitized() && !child_is_emulated())
		in_child(grow_limited, NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("auto");
	TCase *tcase = tcase_create("auto");

	set(OS_M_MODE, OS_MODE_AUTO);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, a_class_becomes_hot_at_its_256th_request);
	tcase_add_test(tcase, every_kind_of_request_counts);
	tcase_add_test(tcase, statistics_and_walks_see_both);
	tcase_add_test(tcase, the_threshold_is_an_option);
	tcase_add_test(tcase, the_door_stays_closed);
	tcase_add_test(tcase, exact_mode_grows_exactly);
	tcase_add_test(tcase, the_heap_grows_in_chunks_after_64_growths);
	tcase_add_test(tcase, a_refused_chunk_is_made_smaller);
	tcase_add_test(tcase, mappings_are_kept_after_64_unmaps);
	tcase_add_test(tcase, misuse_of_a_kept_mapping_is_reported);
	tcase_add_test(tcase, memory_of_kept_mappings_goes_back);
	tcase_add_test(tcase, the_largest_mappings_are_not_kept);
	tcase_add_test(tcase, memory_that_bounces_stays);
	tcase_add_test(tcase, what_cannot_go_back_is_unmapped);
	tcase_add_test(tcase, steps_of_growth_move_seldom);
	tcase_add_test(tcase, exact_mode_moves_each_time);
	tcase_add_test(tcase, growth_copes_with_refusals);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
