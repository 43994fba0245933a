/* SPDX-License-Identifier: MIT */
/*
 * check_slab_check.c - os_heap_check and slabs: wrong counts and broken maps
 * are found, and right ones are right while others allocate and free.
 *
 * White box: what is wrong is planted, in a child for each.
 */
#include "must.h"
#include "suite.h"
#include "workload.h"

#include "slab.h"
#include "sys.h"
#include "thread.h"

#include "child.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { BLOCKS = 3000, SIZE = 100 };

static void *blocks[BLOCKS];

static void *allocate(void *unused)
{
	size_t i;

	for (i = 0; i < BLOCKS; i++)
		blocks[i] = os_malloc(SIZE);
	return unused;
}

static void *free_every_third(void *unused)
{
	size_t i;

	for (i = 0; i < BLOCKS; i += 3)
		os_free(blocks[i]);
	return unused;
}

static void run_thread(void *(*fn)(void *arg))
{
	pthread_t thread;

	MUST_EQ(pthread_create(&thread, NULL, fn, NULL), 0);
	pthread_join(thread, NULL);
}

/* The slab of a block that stays, with free slots in its map. */
static struct osmem_slab *used_slab(void)
{
	allocate(NULL);
	free_every_third(NULL);
	os_malloc_trim(0);
	MUST_EQ(os_heap_check(), 0);
	return osmem_slab_of(blocks[BLOCKS / 2 / 3 * 3 + 1]);
}

static void expect_faults(int faults)
{
	int found = os_heap_check();

	if (found != faults)
		dprintf(2, "%d faults, not %d\n", found, faults);
	MUST_EQ(found, faults);
}

/* The thread's count does not fit any more, either. */
static void plant_used(void *unused)
{
	(void)unused;
	atomic_fetch_add(&used_slab()->used, 1);
	expect_faults(2);
}

static void plant_busy(void *unused)
{
	struct osmem_slab *s = used_slab();

	(void)unused;
	s->busy[3]++;
	expect_faults(1);
}

static void plant_ready(void *unused)
{
	struct osmem_slab *s = used_slab();

	(void)unused;
	MUST(s->ready != 0);
	s->ready &= s->ready - 1;
	expect_faults(1);
}

/* The first that is free: its word of the map, and its number there. */
static uint32_t first_free(struct osmem_slab *s, uint32_t *word)
{
	*word = (uint32_t)__builtin_ctzll(s->ready);
	return (uint32_t)__builtin_ctzll(s->map[*word]);
}

/* In use by the map, and so in one piece or two. */
static void plant_map(void *unused)
{
	struct osmem_slab *s = used_slab();
	uint32_t word;
	uint64_t bit = (uint64_t)1 << first_free(s, &word);

	(void)unused;
	s->map[word] &= ~bit;
	MUST(s->map[word] != 0);
	MUST(os_heap_check() >= 2);
}

static void plant_mark(void *unused)
{
	struct osmem_slab *s = used_slab();
	uint32_t word;
	uint32_t bit = first_free(s, &word);

	(void)unused;
	((uintptr_t *)(s->start + (word * 64 + bit) * s->size))[1] = 0;
	expect_faults(1);
}

static void plant_thread(void *unused)
{
	(void)unused;
	used_slab();
	osmem_thread_self->used[osmem_class_of(SIZE)]--;
	expect_faults(1);
}

/* A slab whose remote list is not empty, and not all of it. */
static struct osmem_slab *slab_with_remote(void)
{
	size_t i;

	allocate(NULL);
	run_thread(free_every_third);
	MUST_EQ(os_heap_check(), 0);
	for (i = 0; i < BLOCKS; i++)
		if (osmem_slab_waiting(osmem_slab_of(blocks[i])) > 1)
			return osmem_slab_of(blocks[i]);
	MUST(!"a slab with a remote list");
	return NULL;
}

static void plant_remote(void *unused)
{
	atomic_fetch_add(&slab_with_remote()->remote,
			 OSMEM_SLAB_ONE);
	(void)unused;
	expect_faults(1);
}

static void plant_in_pool(void *unused)
{
	struct osmem_slab *s;

	run_thread(allocate);
	os_malloc_trim(0);
	free_every_third(NULL);
	MUST_EQ(os_heap_check(), 0);
	s = osmem_slab_of(blocks[1]);
	MUST(osmem_slab_owner(s) == NULL);
	atomic_fetch_add(&s->used, 1);
	(void)unused;
	expect_faults(1);
}

static const struct plant {
	void (*fn)(void *unused);
	const char *text;
	bool threads;
} plants[] = {
	{ plant_used, "odd number of slots in use\n", false },
	{ plant_used, ": thread ", false },
	{ plant_busy, "odd number of slots in use in a piece", false },
	{ plant_ready, "odd pieces", false },
	{ plant_map, "odd number of slots in use\n", false },
	{ plant_mark, "a free slot was written to", false },
	{ plant_thread, ": thread ", false },
	{ plant_remote, "odd list of slots that others have freed", true },
	{ plant_in_pool, "odd number of slots in use\n", true },
};

START_TEST(what_is_planted_is_found)
{
	const struct plant *plant = &plants[_i];
	struct child child;

	if (plant->threads && !OSMEM_CONF_THREADS)
		return;
	child_run(&child, plant->fn, NULL);
	if (!child_succeeded(&child) ||
	    strstr(child.text, plant->text) == NULL)
		child_show(&child);
	MUST(child_succeeded(&child));
	MUST(strstr(child.text, plant->text) != NULL);
}
END_TEST

/* --- while others are at it --- */

enum { THREADS = 6, TABLE = 2000, CHECKS = 200 };

static _Atomic(void *) table[TABLE];
static atomic_bool stop;

static void *exchange(void *seed)
{
	static const size_t sizes[] = {16, 60, 100, 700, 3000, 20000};
	struct workload w;

	workload_start(&w, (uintptr_t)seed);
	while (!stop) {
		void *p = os_malloc(sizes[workload_draw(&w, 6)]);

		MUST(p != NULL);
		os_free(atomic_exchange(&table[workload_draw(&w, TABLE)], p));
	}
	return NULL;
}

/* With threads that end and begin, so that slabs come to pools and back. */
START_TEST(counts_are_right_at_every_moment)
{
	size_t most = workload_number("OSMEM_TEST_OPS", CHECKS);
	pthread_t threads[THREADS];
	uintptr_t i;
	size_t n;

	if (!OSMEM_CONF_THREADS)
		return;
	most = most < CHECKS ? most : CHECKS;
	for (n = 0; n < most; n++) {
		if (n % 20 == 0) {
			stop = false;
			for (i = 0; i < THREADS; i++)
				MUST_EQ(pthread_create(&threads[i], NULL,
						       exchange,
						       (void *)(n + i)), 0);
		}
		MUST_EQ(os_heap_check(), 0);
		if (n % 5 == 0)
			os_malloc_trim(0);
		if (n % 20 != 19 && n + 1 != most)
			continue;
		stop = true;
		for (i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
	}
	for (i = 0; i < TABLE; i++)
		os_free(table[i]);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* Pages that went back are there again when the slab is taken from: all. */
START_TEST(a_slab_that_is_taken_from_is_whole)
{
	struct osmem_slab *s;
	size_t i;

	allocate(NULL);
	for (i = 0; i < BLOCKS; i++)
		if (i % 100 != 0)
			os_free(blocks[i]);
	os_malloc_trim(0);
	MUST_EQ(os_heap_check(), 0);
	s = osmem_slab_of(os_malloc(SIZE));
	MUST(s != NULL && s->ready != 0);
	MUST_EQ(s->gone, 0);
	MUST_EQ(os_heap_check(), 0);
	os_malloc_trim(0);
	MUST(osmem_sys_page_size() > 4096 || s->gone != 0);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab check");
	TCase *tcase = tcase_create("slab check");

	MUST_EQ(os_mallopt(OS_M_MODE, OS_MODE_FAST), 1);
	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, what_is_planted_is_found, 0,
			    sizeof(plants) / sizeof(plants[0]));
	tcase_add_test(tcase, a_slab_that_is_taken_from_is_whole);
	tcase_add_test(tcase, counts_are_right_at_every_moment);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
