/* SPDX-License-Identifier: MIT */
/*
 * check_harden_use.c - harden=1: what correct programs get.
 *
 * Zeros, other places each time, and all of it with threads, forks and limits.
 * The test process chooses the option before its first allocation.
 */
#include "common.h"
#include "harden.h"
#include "space_now.h"
#include "suite.h"
#include "workload.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

static void *(*volatile take)(size_t size) = os_malloc;

/* --- zeros --- */

START_TEST(fresh_memory_is_zero)
{
	static char *p[200];
	size_t i;
	size_t k;
	int round;

	harden_wholly();
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

static void is_not_the_next(size_t size)
{
	uintptr_t before = (uintptr_t)os_malloc(size);

	give_back((void *)before);
	kept = os_malloc(size);
	MUST((uintptr_t)kept != before);
	give_back(kept);
}

START_TEST(a_freed_block_is_not_the_next)
{
	size_t i;
	int round;

	for (i = 0; i < SIZES; i++)
		for (round = 0; round < 100; round++)
			is_not_the_next(sizes[i]);
	/* Of these, few are kept. */
	for (round = 0; round < 100 && sizeof(void *) == 8; round++)
		is_not_the_next((size_t)100 << 20);
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

static bool wholly;

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

		MUST(p != NULL);
		/* With debugging, what was not cleared as a whole is filled. */
		MUST(p[0] == 0 || (OSMEM_CONF_DEBUG && !wholly));
		MUST(!wholly || p[size - 1] == 0);
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

static void exchange_in_threads(void)
{
	pthread_t threads[4];
	uintptr_t i;
	int round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < 4; i++)
			MUST(pthread_create(&threads[i], NULL, exchange,
					    (void *)(i + 1)) == 0);
		for (i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		MUST_EQ(os_heap_check(), 0);
	}
}

START_TEST(threads_exchange_blocks)
{
	if (OSMEM_CONF_THREADS)
		exchange_in_threads();
}
END_TEST

START_TEST(threads_exchange_zeros)
{
	if (!OSMEM_CONF_THREADS)
		return;
	harden_wholly();
	wholly = true;
	exchange_in_threads();
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

static void go_on(void *unused)
{
	size_t i;

	(void)unused;
	for (i = 0; i < SIZES; i++)
		churn(sizes[i], 3);
}

START_TEST(children_of_threaded_processes_go_on)
{
	pthread_t threads[2];
	struct child child;
	int i;

	if (!OSMEM_CONF_THREADS)
		return;
	for (i = 0; i < 2; i++)
		MUST(pthread_create(&threads[i], NULL, busy, NULL) == 0);
	for (i = 0; i < 50; i++) {
		child_run(&child, go_on, NULL);
		MUST(child_succeeded(&child));
	}
	atomic_store(&stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

static void *check_often(void *unused)
{
	while (!atomic_load(&stop))
		MUST_EQ(os_heap_check(), 0);
	return unused;
}

START_TEST(a_large_block_is_whole_while_it_is_resized)
{
	pthread_t thread;
	char *p = os_malloc(2 * LARGE);
	int i;

	if (!OSMEM_CONF_THREADS)
		return;
	MUST(pthread_create(&thread, NULL, check_often, NULL) == 0);
	for (i = 0; i < 5000; i++) {
		memset(p, 'x', 2 * LARGE);
		p = os_realloc(p, LARGE);
		p = os_realloc(p, 2 * LARGE);
		MUST(p[LARGE - 1] == 'x' && p[LARGE] == 0);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	os_free(p);
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

START_TEST(what_freed_blocks_keep_is_bounded)
{
	enum { MANY = 100 };
	size_t size = (size_t)(sizeof(void *) == 8 ? 64 : 8) << 20;
	size_t before;
	int i;

	if (child_is_sanitized() || child_is_emulated())
		return;
	churn(size, 1);
	before = space_now();
	churn(size, MANY);
	MUST(space_now() < before + MANY / 2 * size);
	for (i = 0; i < 3; i++)
		churn(size / 3, MANY);
	MUST(space_now() < before + MANY / 2 * size);
}
END_TEST

static long page_faults(void)
{
	struct rusage usage;

	MUST(getrusage(RUSAGE_SELF, &usage) == 0);
	return usage.ru_minflt;
}

/* What is kept of smaller blocks makes room for those that are used now. */
START_TEST(slowly_growing_blocks_use_freed_ones)
{
	enum { MANY = 8000, FEWER = 20 };
	long before = 0;
	char *last = NULL;
	long i;

	if (child_is_sanitized() || child_is_emulated())
		return;
	for (i = 0; i < MANY; i++) {
		size_t size = (64 + (size_t)i / FEWER) * 4096;
		char *p = os_malloc(size);

		MUST(p != NULL);
		memset(p, 'x', size);
		os_free(last);
		last = p;
		/* All of the first ones are retired. */
		if (i == MANY / 4)
			before = page_faults();
	}
	os_free(last);
	/* One in FEWER has a new size, and one page; or several. */
	MUST(page_faults() - before < MANY * 64 / 4);
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

	if (child_is_sanitized() || child_is_emulated())
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
	Suite *s = suite_create("harden_use");
	TCase *t = tcase_create("harden_use");

	harden();
	tcase_set_timeout(t, 300);
	tcase_add_test(t, fresh_memory_is_zero);
	tcase_add_test(t, grown_memory_is_zero);
	tcase_add_test(t, a_freed_block_is_not_the_next);
	tcase_add_test(t, children_of_a_fork_differ);
	tcase_add_test(t, threads_exchange_blocks);
	tcase_add_test(t, threads_exchange_zeros);
	tcase_add_test(t, children_of_threaded_processes_go_on);
	tcase_add_test(t, a_large_block_is_whole_while_it_is_resized);
	tcase_add_test(t, what_freed_blocks_keep_is_bounded);
	tcase_add_test(t, slowly_growing_blocks_use_freed_ones);
	tcase_add_test(t, walks_see_what_was_asked_for);
	tcase_add_test(t, checks_find_what_is_broken);
	tcase_add_test(t, limits_on_address_space);
	tcase_add_test(t, guard_pages_run_out);
	suite_add_tcase(s, t);
	return suite_run(s);
}
