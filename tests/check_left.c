/* SPDX-License-Identifier: MIT */
/*
 * check_left.c - mode fast: what threads leave that have ended, for others.
 *
 * White box, as check_slab.c.
 */
#include "must.h"
#include "stats_now.h"
#include "suite.h"

#include "slab_remote.h"
#include "thread.h"

#include "child.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void run_thread(void *(*fn)(void *arg), void *arg)
{
	pthread_t thread;

	MUST_EQ(pthread_create(&thread, NULL, fn, arg), 0);
	pthread_join(thread, NULL);
}

enum { HANDED = 3000 };

static void *allocate_some(void *arg)
{
	void **blocks = arg;
	size_t i;

	for (i = 0; i < HANDED; i++) {
		blocks[i] = os_malloc(i % 500 + 1);
		memset(blocks[i], (int)(i % 251), i % 500 + 1);
	}
	return NULL;
}

/* Frees by others, with the owner alive, gone, and replaced by another. */
START_TEST(blocks_outlive_their_thread)
{
	static void *blocks[HANDED];
	int round;
	size_t i;

	for (round = 0; round < 20; round++) {
		run_thread(allocate_some, blocks);
		for (i = 0; i < HANDED; i++) {
			unsigned char *p = blocks[i];

			MUST_EQ(p[i % 500], i % 251);
			os_free(p);
		}
	}
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void *allocate_and_free_some(void *arg)
{
	void **blocks = arg;
	size_t i;

	for (i = 0; i < HANDED; i++)
		blocks[i] = os_malloc(100);
	for (i = 0; i < HANDED; i += 3)
		os_free(blocks[i]);
	return NULL;
}

static void *allocate_one(void *arg)
{
	void **block = arg;

	*block = os_malloc(100);
	return NULL;
}

static void *allocate_and_free_one(void *arg)
{
	allocate_one(arg);
	os_free(*(void **)arg);
	return NULL;
}

/* The next thread goes on where one that has ended stopped. */
START_TEST(who_begins_finds_what_was_left)
{
	static void *blocks[HANDED];
	void *p;

	run_thread(allocate_and_free_some, blocks);
	run_thread(allocate_one, &p);
	MUST(p == blocks[(HANDED - 1) / 3 * 3]);
	os_free(p);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* What an ended thread left in its bins goes back when that is asked for. */
START_TEST(what_was_left_goes_back)
{
	void *p;
	int i;

	os_malloc_trim(0);
	for (i = 0; i < 20; i++) {
		run_thread(allocate_and_free_one, &p);
		MUST(osmem_slab_of(p) != NULL);
		os_malloc_trim(0);
		MUST(osmem_slab_of(p) == NULL);
		MUST_EQ(os_heap_check(), 0);
	}
}
END_TEST

enum { MANY = 80000 };

static void *leave_holes(void *arg)
{
	void **blocks = arg;
	size_t i;

	for (i = 0; i < MANY; i++)
		blocks[i] = os_malloc(100);
	for (i = 0; i < MANY; i++)
		if (i % 16 != 0) {
			os_free(blocks[i]);
			blocks[i] = NULL;
		}
	return NULL;
}

/* Between blocks that ended threads have left there is room for the living. */
START_TEST(holes_that_are_left_are_used)
{
	static void *blocks[2 * MANY];
	size_t bytes;
	size_t i;

	/* Or we would be the next thread. */
	os_free(os_malloc(100));
	run_thread(leave_holes, blocks);
	bytes = stats_now().slab_bytes;
	for (i = MANY; i < 2 * MANY - MANY / 16; i++)
		blocks[i] = os_malloc(100);
	MUST(stats_now().slab_bytes <= bytes + bytes / 8);
	for (i = 0; i < 2 * MANY; i++)
		os_free(blocks[i]);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void free_all(void *blocks)
{
	size_t i;

	for (i = 0; i < HANDED; i++)
		os_free(((void **)blocks)[i]);
	os_malloc_trim(0);
	MUST(stats_now().slab_bytes <= 512 * 1024);
}

/* A child gives back what threads have left that had ended before. */
START_TEST(a_child_has_what_was_left)
{
	static void *blocks[HANDED];
	struct child child;

	run_thread(allocate_some, blocks);
	MUST(stats_now().slab_bytes > 700 * 1024);
	child_run(&child, free_all, blocks);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
	free_all(blocks);
}
END_TEST

/* What others freed while a slab was nobody's is its new owner's at once. */
START_TEST(who_adopts_a_slab_collects)
{
	static void *blocks[HANDED];
	struct osmem_slab *s;
	void *p;
	size_t i;

	run_thread(allocate_and_free_some, blocks);
	os_malloc_trim(0);
	for (i = 1; i < HANDED; i += 3)
		os_free(blocks[i]);
	run_thread(allocate_one, &p);
	s = osmem_slab_of(p);
	MUST_EQ(osmem_slab_waiting(s), 0);
	os_malloc_trim(0);
	MUST_EQ(osmem_slab_in_use(s), osmem_slab_used(s));
	for (i = 2; i < HANDED; i += 3)
		os_free(blocks[i]);
	os_free(p);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* Both threads had found it live before either freed it. */
START_TEST(two_threads_that_free_a_slot_at_once)
{
	static void *blocks[HANDED];
	struct osmem_slab *s;
	uint32_t index;

	run_thread(allocate_some, blocks);
	s = osmem_slab_of(blocks[7]);
	MUST(osmem_slab_find(s, blocks[7], &index));
	MUST_EQ(osmem_slab_free_remote(s, blocks[7], index).count, 1);
	MUST_EQ(osmem_slab_free_remote(s, blocks[7], index).count, 0);
	MUST_EQ(osmem_slab_waiting(s), 1);
}
END_TEST

/* What waits in all remote lists, as it is counted. */
static size_t waits(void)
{
	size_t units = atomic_load(&osmem_region.limit) >> OSMEM_UNIT_SHIFT;
	size_t bytes = 0;
	size_t i;

	for (i = 0; i < units; i++) {
		const struct osmem_slab *s =
			osmem_slab_headed(osmem_region.heads[i]);

		if (s == osmem_slab_record(i))
			bytes += osmem_slab_waits(s);
	}
	return bytes;
}

enum { WAITING = 1 << 19 };

static void *waiting[WAITING];

static void *allocate_many(void *unused)
{
	size_t i;

	for (i = 0; i < WAITING; i++) {
		waiting[i] = os_malloc(64);
		memset(waiting[i], 1, 64);
	}
	return unused;
}

/* Nobody owns the slabs: who purges collects what waits in them. */
START_TEST(what_waits_in_pools_does_not_stay_too_much)
{
	size_t i;

	os_malloc_trim(0);
	run_thread(allocate_many, NULL);
	for (i = 0; i < WAITING; i += 8) {
		os_free(waiting[i]);
		waiting[i] = NULL;
		if (i % 1024 != 0)
			continue;
		MUST_EQ(osmem_region_waiting(), waits());
		MUST(!osmem_region_should_purge());
	}
	for (i = 0; i < WAITING; i++)
		os_free(waiting[i]);
	MUST_EQ(osmem_region_waiting(), waits());
	os_malloc_trim(0);
	MUST_EQ(osmem_region_waiting(), 0);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* Those of the thread that forks count in the child, no others. */
static void count_waiting(void *unused)
{
	(void)unused;
	MUST_EQ(osmem_region_waiting(), waits());
	os_malloc_trim(0);
	MUST_EQ(osmem_region_waiting(), 0);
	MUST_EQ(os_heap_check(), 0);
}

static pthread_barrier_t step;

static void *allocate_and_wait(void *blocks)
{
	allocate_some(blocks);
	pthread_barrier_wait(&step);
	pthread_barrier_wait(&step);
	return NULL;
}

START_TEST(what_waits_is_counted_again_in_a_child)
{
	static void *blocks[HANDED];
	struct child child;
	pthread_t thread;
	size_t i;

	os_malloc_trim(0);
	pthread_barrier_init(&step, NULL, 2);
	MUST_EQ(pthread_create(&thread, NULL, allocate_and_wait, blocks), 0);
	pthread_barrier_wait(&step);
	for (i = 0; i < HANDED; i += 2)
		os_free(blocks[i]);
	MUST(osmem_region_waiting() != 0);
	MUST_EQ(osmem_region_waiting(), waits());
	/* As if somebody had been about to count when the fork came. */
	osmem_region_add_waiting(4096);
	child_run(&child, count_waiting, NULL);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
	osmem_region_add_waiting(-4096);
	pthread_barrier_wait(&step);
	pthread_join(thread, NULL);
	for (i = 1; i < HANDED; i += 2)
		os_free(blocks[i]);
	os_malloc_trim(0);
	MUST_EQ(osmem_region_waiting(), 0);
}
END_TEST

/* Bins for most classes, of which there are very many then. */
static void *allocate_one_of_each_and_wait(void *unused)
{
	size_t size;

	for (size = 16; size <= 16384; size += 16)
		os_free(os_malloc(size));
	pthread_barrier_wait(&step);
	pthread_barrier_wait(&step);
	return unused;
}

enum { SLEEPERS = 4, LARGE = 1500, LARGES = 400, SMALLS = 20000 };

/*
 * With so many bins one of few slots is narrowed to none when its class is
 * given up. If the thread uses little at that moment, all places of bins are
 * cleared: what was in it must have gone before.
 */
START_TEST(what_a_narrowed_bin_holds_is_not_lost)
{
	static void *large[LARGES];
	static void *small[SMALLS];
	pthread_t thread[SLEEPERS];
	unsigned int class = osmem_class_of(LARGE);
	struct osmem_thread *t;
	bool met = false;
	size_t i;

	pthread_barrier_init(&step, NULL, SLEEPERS + 1);
	for (i = 0; i < SLEEPERS; i++)
		MUST_EQ(pthread_create(&thread[i], NULL,
				       allocate_one_of_each_and_wait, NULL),
			0);
	pthread_barrier_wait(&step);
	for (i = 0; i < SMALLS; i++)
		small[i] = os_malloc(16 + i % 500);
	/* Those bins grow, so that there are places to clear. */
	for (i = 0; i < 4 * SMALLS; i++) {
		os_free(small[i * 7919 % SMALLS]);
		small[i * 7919 % SMALLS] = os_malloc(16 + i % 500);
	}
	for (i = 0; i < LARGES; i++)
		large[i] = os_malloc(LARGE);
	t = osmem_thread_mine;
	for (i = 0; i < LARGES; i++) {
		if (t->end[class] - t->bin[class] < 4 &&
		    t->top[class] == t->end[class] &&
		    t->top[class] != t->bin[class] &&
		    t->used[class] * 4 < t->peak[class] * (size_t)3) {
			t->most = t->bytes * 4 + 4;
			met = true;
		}
		os_free(large[i]);
	}
	MUST(met);
	for (i = 0; i < SMALLS; i++)
		os_free(small[i]);
	os_malloc_trim(0);
	MUST_EQ(t->used[class], 0);
	MUST_EQ(os_heap_check(), 0);
	pthread_barrier_wait(&step);
	for (i = 0; i < SLEEPERS; i++)
		pthread_join(thread[i], NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("left");
	TCase *tcase = tcase_create("left");

	if (!OSMEM_CONF_THREADS) {
		puts("left: the library is configured without threads");
		return 77;
	}
	MUST_EQ(os_mallopt(OS_M_MODE, OS_MODE_FAST), 1);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, blocks_outlive_their_thread);
	tcase_add_test(tcase, who_begins_finds_what_was_left);
	tcase_add_test(tcase, what_was_left_goes_back);
	tcase_add_test(tcase, holes_that_are_left_are_used);
	tcase_add_test(tcase, a_child_has_what_was_left);
	tcase_add_test(tcase, who_adopts_a_slab_collects);
	tcase_add_test(tcase, two_threads_that_free_a_slot_at_once);
	tcase_add_test(tcase, what_waits_in_pools_does_not_stay_too_much);
	tcase_add_test(tcase, what_waits_is_counted_again_in_a_child);
	tcase_add_test(tcase, what_a_narrowed_bin_holds_is_not_lost);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
