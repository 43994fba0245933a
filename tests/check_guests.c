/* SPDX-License-Identifier: MIT */
/*
 * check_guests.c - mode fast: slots of another thread's slab in a bin.
 *
 * White box, as check_slab.c. Their owners sleep meanwhile: what goes back to
 * their slabs must be looked after by who frees.
 */
#include "must.h"
#include "suite.h"

#include "child.h"
#include "thread_state.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
	SIZE = 176, /* nothing else here has that class */
	SLABS = OSMEM_THREAD_BACK + 3,
	OWNED = 3000,
	MINE = 4000
};

static struct osmem_thread *t;
static unsigned int class;

static void *mine[MINE];
static size_t mine_count;

static bool bin_is_empty(void)
{
	return t->top[class] == t->bin[class];
}

/* A bin that has grown and is empty. */
static void begin_bin(void)
{
	while (mine_count < MINE / 2)
		mine[mine_count++] = os_malloc(SIZE);
	while (mine_count != 0)
		os_free(mine[--mine_count]);
	t = osmem_thread_mine;
	class = osmem_class_of(SIZE);
	while (mine_count < MINE / 2 || !bin_is_empty())
		mine[mine_count++] = os_malloc(SIZE);
}

static void end_bin(void)
{
	while (mine_count != 0)
		os_free(mine[--mine_count]);
	os_malloc_trim(0);
	MUST_EQ(os_heap_check(), 0);
}

/* --- owners --- */

static struct owners {
	pthread_t thread[SLABS];
	unsigned int count;
	pthread_barrier_t step;
	void (*act)(size_t which);
} owners;

static void *sleep_well(void *which)
{
	owners.act((size_t)which);
	pthread_barrier_wait(&owners.step);
	pthread_barrier_wait(&owners.step);
	return NULL;
}

/* So many threads have done it, and sleep. */
static void begin_owners(unsigned int count, void (*act)(size_t which))
{
	size_t i;

	owners.act = act;
	owners.count = count;
	MUST_EQ(pthread_barrier_init(&owners.step, NULL, count + 1), 0);
	for (i = 0; i < count; i++)
		MUST_EQ(pthread_create(&owners.thread[i], NULL, sleep_well,
				       (void *)i),
			0);
	pthread_barrier_wait(&owners.step);
}

static void end_owners(void)
{
	unsigned int i;

	pthread_barrier_wait(&owners.step);
	for (i = 0; i < owners.count; i++)
		pthread_join(owners.thread[i], NULL);
	pthread_barrier_destroy(&owners.step);
}

static void *owned[OWNED];

static void own_some(size_t unused)
{
	size_t i;

	(void)unused;
	for (i = 0; i < OWNED; i++)
		owned[i] = os_malloc(SIZE);
}

static void *guests[SLABS];

/* One block, the only one of its slab. */
static void own_one(size_t which)
{
	guests[which] = os_malloc(SIZE);
	os_malloc_trim(0);
}

/* --- the tests --- */

START_TEST(guests_are_handed_out_where_they_were_freed)
{
	size_t i;

	begin_bin();
	begin_owners(1, own_some);
	for (i = 0; i < 4; i++)
		os_free(owned[i]);
	MUST_EQ(osmem_slab_waiting(osmem_slab_of(owned[0])), 0);
	for (; i-- > 0;)
		MUST(os_malloc(SIZE) == owned[i]);
	MUST_EQ(os_heap_check(), 0);
	for (i = 0; i < OWNED; i++)
		os_free(owned[i]);
	end_bin();
	end_owners();
}
END_TEST

/* A trim gives back what this thread's bins have of the sleeping owner's. */
START_TEST(a_trim_sends_guests_home)
{
	const struct osmem_slab *s;
	uint32_t used;
	size_t i;

	begin_bin();
	begin_owners(1, own_some);
	s = osmem_slab_of(owned[0]);
	used = osmem_slab_in_use(s);
	os_free(owned[0]);
	MUST(!bin_is_empty());
	MUST_EQ(osmem_slab_in_use(s), used);
	os_malloc_trim(0);
	MUST(bin_is_empty());
	MUST_EQ(osmem_slab_in_use(s), used - 1);
	for (i = 1; i < OWNED; i++)
		os_free(owned[i]);
	end_bin();
	end_owners();
}
END_TEST

/* More than there is room for come back whole, each of a sleeper's. */
START_TEST(whole_slabs_go_home)
{
	struct osmem_slab *slabs[SLABS];
	size_t i;

	begin_owners(SLABS, own_one);
	begin_bin();
	for (i = 0; i < SLABS; i++) {
		slabs[i] = osmem_slab_of(guests[i]);
		os_free(guests[i]);
	}
	for (i = 0; i < SLABS; i++)
		MUST_EQ(osmem_slab_waiting(slabs[i]), 0);
	/* The lower half of a full bin goes, and they are the lowest. */
	while (t->top[class] != t->end[class])
		os_free(mine[--mine_count]);
	os_free(mine[--mine_count]);
	for (i = 0; i < SLABS; i++)
		MUST_EQ(osmem_slab_waiting(slabs[i]), 0);
	MUST(t->bin[class][1] != guests[0]);
	MUST_EQ(t->backs, 0);
	end_bin();
	end_owners();
}
END_TEST

static void free_again(void *p)
{
	os_free(p);
}

static void write_and_trim(void *p)
{
	memset(p, 1, 16);
	os_malloc_trim(0);
}

static void must_report(void (*fn)(void *p), void *p, const char *text)
{
	struct child child;

	child_run(&child, fn, p);
	if (strstr(child.text, text) == NULL)
		child_show(&child);
	MUST(!child_succeeded(&child));
	MUST(strstr(child.text, text) != NULL);
}

START_TEST(misuse_of_guests_is_reported)
{
	size_t i;

	begin_bin();
	begin_owners(1, own_some);
	os_free(owned[0]);
	must_report(free_again, owned[0], "double free");
	must_report(write_and_trim, owned[0], "written");
	for (i = 1; i < OWNED; i++)
		os_free(owned[i]);
	end_bin();
	end_owners();
}
END_TEST

/* Who only frees has no bin for them. */
START_TEST(who_only_frees_keeps_none)
{
	size_t i;

	begin_owners(1, own_some);
	osmem_thread_attach();
	t = osmem_thread_mine;
	class = osmem_class_of(SIZE);
	for (i = 0; i < OWNED; i++)
		os_free(owned[i]);
	MUST(bin_is_empty());
	end_owners();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("guests");
	TCase *tcase = tcase_create("guests");

	if (!OSMEM_CONF_THREADS) {
		puts("guests: the library is configured without threads");
		return 77;
	}
	MUST_EQ(os_mallopt(OS_M_MODE, OS_MODE_FAST), 1);
	os_free(os_malloc(1));
	if (atomic_load(&osmem_slab_shut) != 0) {
		puts("guests: something wants to see each call: no bins");
		return 77;
	}
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, guests_are_handed_out_where_they_were_freed);
	tcase_add_test(tcase, a_trim_sends_guests_home);
	tcase_add_test(tcase, whole_slabs_go_home);
	tcase_add_test(tcase, misuse_of_guests_is_reported);
	tcase_add_test(tcase, who_only_frees_keeps_none);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
