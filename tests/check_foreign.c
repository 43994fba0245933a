/* SPDX-License-Identifier: MIT */
/*
 * check_foreign.c - somebody else moves the break (rule 23).
 *
 * Up by any amount, back to where it was, down into our space; between any two
 * operations; and libc's malloc in another thread. What is theirs must keep
 * their pattern, what is ours ours. Nothing in here uses libc's malloc but
 * where that is the point.
 */
#include <config.h>

#include "child.h"
#include "faults.h"
#include "must.h"
#include "stats_now.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char *move_break(intptr_t by)
{
	char *old = sbrk(by);

	MUST(old != (char *)-1);
	return old;
}

static char *page_end(char *p)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	return (char *)(((uintptr_t)p + page - 1) & ~(page - 1));
}

/* Takes what is free, so that the next request must grow the heap. */
static void use_up(void)
{
	struct os_stats stats = stats_now();

	while (stats.heap_free_bytes >= 8) {
		size_t size = stats.heap_free_bytes;

		MUST(os_malloc(size < 100000 ? size : 100000) != NULL);
		stats = stats_now();
	}
}

static unsigned char *filled(size_t size, unsigned char tag)
{
	unsigned char *p = os_malloc(size);

	MUST(p != NULL);
	workload_fill(p, size, tag);
	return p;
}

/* --- upwards --- */

static void step_over(intptr_t by)
{
	unsigned char *p = filled(1000, 1);
	unsigned char *q;
	char *theirs;

	use_up();
	theirs = move_break(by);
	memset(theirs, 0x77, (size_t)by);
	q = filled(1000, 2);
	MUST((char *)q >= theirs + by + 32);
	MUST((char *)q < theirs + by + 32 + 16);
	MUST_EQ(stats_now().heap_stretches, 2);
	MUST_EQ(os_heap_check(), 0);
	/* Not grown where it stands, and not merged across. */
	p = os_realloc(p, 5000);
	MUST(p != NULL && workload_holds(p, 1000, 1, 1000));
	os_free(q);
	os_free(p);
	MUST(os_malloc(20000) != NULL);
	MUST_EQ(os_heap_check(), 0);
	while (by-- > 0)
		MUST(theirs[by] == 0x77);
}

static void step_over_of(void *by)
{
	step_over(*(intptr_t *)by);
}

START_TEST(forwards)
{
	static intptr_t amounts[] = {1,     3,      7,      8,      9,    16,
				     31,    32,     100,    4095,   4096, 4097,
				     65537, 131072, 135168, 1000001};
	struct child child;
	size_t i;

	for (i = 0; i < sizeof(amounts) / sizeof(amounts[0]); i++) {
		child_run(&child, step_over_of, &amounts[i]);
		if (child_succeeded(&child))
			continue;
		child_show(&child);
		MUST(!"a child that succeeds");
	}
}
END_TEST

START_TEST(forwards_before_the_first)
{
	char *theirs = move_break(13);
	unsigned char *p;

	memset(theirs, 0x66, 13);
	p = filled(100, 1);
	MUST((char *)p >= theirs + 13 + 32 && (uintptr_t)p % 8 == 0);
	MUST_EQ(stats_now().heap_stretches, 1);
	MUST(theirs[0] == 0x66 && theirs[12] == 0x66);
	MUST_EQ(os_heap_check(), 0);
	os_free(p);
}
END_TEST

/* Up and back again: as if nothing had been. */
START_TEST(back_to_where_it_was)
{
	unsigned char *p = filled(1000, 1);
	char *end;
	unsigned char *q;

	use_up();
	end = move_break(0);
	move_break(10000);
	move_break(-10000);
	q = filled(500, 2);
	MUST((char *)q == end + 32);
	MUST_EQ(stats_now().heap_stretches, 1);
	MUST_EQ(os_heap_check(), 0);
	MUST(workload_holds(p, 1000, 1, 1000));
	/* Also when a request was made meanwhile. */
	use_up();
	move_break(4096);
	filled(500, 3);
	MUST_EQ(stats_now().heap_stretches, 2);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* --- downwards, into our space --- */

/* Everything that looks at the heap, after the break has moved down. */
static void look_around(void)
{
	MUST_EQ(os_heap_check(), 0);
	os_malloc_trim(0);
	stats_now();
	MUST(os_malloc(50000) != NULL);
	MUST(os_malloc(300) != NULL);
	MUST_EQ(os_heap_check(), 0);
}

/* The last block is free, and loses its tail. */
static void into_free_space(void *by)
{
	unsigned char *p = filled(10000, 1);
	unsigned char *q = filled(20000, 2);

	move_break(-*(intptr_t *)by);
	look_around();
	MUST(workload_holds(p, 10000, 1, 10000));
	MUST(workload_holds(q, 20000, 2, 20000));
	p = os_realloc(p, 50000);
	MUST(p != NULL && workload_holds(p, 10000, 1, 10000));
	os_free(q);
	look_around();
}

/* Many free blocks are gone, headers and all; they were not merged. */
static void into_free_blocks(void *by)
{
	unsigned char *p = filled(1000, 1);
	unsigned char *block[100];
	size_t i;

	for (i = 0; i < 100; i++)
		block[i] = filled(1000, 2);
	use_up();
	for (i = 20; i < 100; i++)
		os_free(block[i]);
	move_break(-*(intptr_t *)by);
	look_around();
	for (i = 0; i < 20; i++) {
		MUST(workload_holds(block[i], 1000, 2, 1000));
		os_free(block[i]);
	}
	p = os_realloc(p, 100000);
	MUST(p != NULL && workload_holds(p, 1000, 1, 1000));
	look_around();
}

/* The first call after it is one that searches nothing. */
static void then_resize(void *by)
{
	unsigned char *p = filled(1000, 1);
	unsigned char *q = filled(50000, 2);
	unsigned char *r = filled(20000, 3);

	os_free(r);
	os_free(q);
	move_break(-*(intptr_t *)by);
	p = os_realloc(p, 30000);
	MUST(p != NULL && workload_holds(p, 1000, 1, 1000));
	workload_fill(p, 30000, 4);
	look_around();
	MUST(workload_holds(p, 30000, 4, 30000));
}

static void then_free(void *by)
{
	unsigned char *p = filled(1000, 1);
	unsigned char *q = filled(2000, 2);

	move_break(-*(intptr_t *)by);
	os_free(p);
	os_free(q);
	look_around();
}

/* What was freed last is asked for again, and is shorter, or gone. */
static void then_ask_again(void *by)
{
	unsigned char *p = filled(1000, 1);

	use_up();
	os_free(filled(20000, 2));
	move_break(-*(intptr_t *)by);
	MUST(workload_holds(filled(20000, 3), 20000, 3, 20000));
	MUST(workload_holds(p, 1000, 1, 1000));
	look_around();
}

static void then_free_what_is_gone(void *p)
{
	filled(40000, 1); /* the break cannot go below where it began */
	use_up();
	p = filled(20000, 1);
	move_break((char *)p - 10000 - (char *)sbrk(0));
	os_free(p);
}

/* The tail of a live block goes; its head is what it was. */
static void into_a_live_tail(void *by)
{
	unsigned char *p = filled(1000, 1);
	unsigned char *q = filled(120000, 2);

	use_up();
	move_break(-*(intptr_t *)by);
	look_around();
	MUST(workload_holds(p, 1000, 1, 1000));
	MUST(workload_holds(q, 120000, 2, 20000));
	os_free(q);
	os_free(p);
	look_around();
}

static void each(void (*fn)(void *by), intptr_t *by, size_t count)
{
	struct child child;
	size_t i;

	for (i = 0; i < count; i++) {
		child_run(&child, fn, &by[i]);
		if (child_succeeded(&child))
			continue;
		dprintf(STDERR_FILENO, "by %zd:\n", by[i]);
		child_show(&child);
		MUST(!"a child that succeeds");
	}
}

/*
 * To the boundary of two blocks, where pages end as well: there is nothing to
 * be read behind it. back: how much of the gone block's header is left.
 */
static void to_a_boundary(void *back)
{
	unsigned char *p = filled(1008, 1);
	char *start = (char *)p - 32;
	char *edge = page_end(start + 40000) + *(intptr_t *)back;
	size_t size = (size_t)(edge - start) - 2 * 32 - 1008;
	unsigned char *q = filled(size, 2);
	unsigned char *gone = filled(1000, 3);

	MUST((char *)gone - 32 >= edge - 8 && (char *)gone - 32 <= edge + 8);
	os_free(gone);
	move_break(page_end(edge - *(intptr_t *)back) - (char *)sbrk(0));
	look_around();
	MUST(workload_holds(p, 1008, 1, 1008));
	MUST(workload_holds(q, size, 2, size - 8));
}

/* Of the first block there is less left than a block needs. */
static void to_the_start(void *left)
{
	char *first = (char *)filled(1000, 1) - 32;

	move_break(first + *(intptr_t *)left - (char *)sbrk(0));
	MUST_EQ(os_heap_check(), 0);
	MUST_EQ(stats_now().heap_bytes, 0);
	look_around();
}

START_TEST(down_into_it)
{
	static intptr_t amounts[] = {1, 8, 32, 33, 100, 4095, 4096, 4097, 10000,
				     30000, 40000, 50001, 65536, 70000};
	static void (*const then[])(void *by) = {
		into_free_space, into_free_blocks, then_resize,
		then_free,	 then_ask_again,   into_a_live_tail};
	static intptr_t backs[] = {0, -8, -16, -24, -32, 8};
	static intptr_t lefts[] = {0, 1, 8, 32, 39};
	struct child child;
	size_t i;

	for (i = 0; i < sizeof(then) / sizeof(then[0]); i++)
		each(then[i], amounts, sizeof(amounts) / sizeof(amounts[0]));
	each(to_a_boundary, backs, sizeof(backs) / sizeof(backs[0]));
	each(to_the_start, lefts, sizeof(lefts) / sizeof(lefts[0]));
	child_run(&child, then_free_what_is_gone, NULL);
	MUST(child_was_killed_by(&child, SIGABRT));
}
END_TEST

/* --- at random --- */

enum { THEIRS = 200 };

static struct {
	unsigned char *p;
	size_t size;
} theirs[THEIRS];

static size_t theirs_count;

/* Goes up, or back down over its own latest when that is on top. */
static void foreign_move(struct workload *w)
{
	size_t size = 1 + workload_draw(w, 3000);
	bool aligned = workload_draw(w, 2) == 0;

	if (theirs_count > 0 && workload_draw(w, 3) == 0) {
		theirs_count--;
		MUST(workload_holds(theirs[theirs_count].p,
				    theirs[theirs_count].size,
				    (unsigned char)theirs_count,
				    theirs[theirs_count].size));
		size = theirs[theirs_count].size;
		if ((char *)sbrk(0) == (char *)theirs[theirs_count].p + size)
			move_break(-(intptr_t)size);
		return;
	}
	if (theirs_count == THEIRS)
		return;
	if (aligned)
		size = (size + 15) & ~(size_t)15;
	theirs[theirs_count].p = (unsigned char *)move_break((intptr_t)size);
	theirs[theirs_count].size = size;
	workload_fill(theirs[theirs_count].p, size,
		      (unsigned char)theirs_count);
	theirs_count++;
}

static void foreign_look(void)
{
	size_t i;

	for (i = 0; i < theirs_count; i++)
		MUST(workload_holds(theirs[i].p, theirs[i].size,
				    (unsigned char)i, theirs[i].size));
}

START_TEST(between_any_two_operations)
{
	size_t steps = workload_number("OSMEM_TEST_OPS", 50000);
	struct workload w;
	size_t i;

	workload_start(&w, 99);
	for (i = 0; i < steps; i++) {
		workload_step(&w);
		if (workload_draw(&w, 4) == 0)
			foreign_move(&w);
		if (i % 500 != 0)
			continue;
		workload_verify(&w);
		foreign_look();
	}
	workload_finish(&w);
	foreign_look();
}
END_TEST

/* --- libc's malloc in another thread --- */

static atomic_bool stop;

static void *hammer_libc(void *unused)
{
	static unsigned char *blocks[200];
	static size_t sizes[200];
	struct workload w;
	size_t rounds = 0;

	workload_start(&w, 1);
	while (!stop) {
		size_t i = workload_draw(&w, 200);
		unsigned char tag = (unsigned char)i;

		MUST(workload_holds(blocks[i], sizes[i], tag, sizes[i]));
		free(blocks[i]);
		sizes[i] = 1 + workload_draw(&w, 60000);
		blocks[i] = malloc(sizes[i]);
		MUST(blocks[i] != NULL);
		workload_fill(blocks[i], sizes[i], tag);
		rounds++;
	}
	(void)unused;
	printf("foreign: %zu rounds of libc's malloc\n", rounds);
	return NULL;
}

static size_t test_seconds(void)
{
	return workload_number("OSMEM_TEST_SECONDS", 3);
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/*
 * libc's main arena is at the break, so it is the main thread that hammers;
 * os_* runs in the other. OSMEM_TEST_SECONDS and OSMEM_TEST_OPS bound that.
 */
static void *work_meanwhile(void *unused)
{
	size_t most = workload_number("OSMEM_TEST_OPS", SIZE_MAX);
	double end = seconds_now() + (double)test_seconds();
	struct workload w;

	workload_start(&w, 2);
	w.largest = 50000;
	while (seconds_now() < end && w.operations < most) {
		workload_step(&w);
		if (w.operations % 1000 == 0)
			workload_verify(&w);
	}
	workload_verify(&w);
	stop = true;
	(void)unused;
	printf("foreign: %zu operations beside it\n", w.operations);
	return NULL;
}

START_TEST(beside_a_thread_in_malloc)
{
	unsigned long growths = faults_calls(FAULTS_SET(FAULTS_GROW_BREAK));
	struct os_stats stats;
	pthread_t other;

	if (!OSMEM_CONF_THREADS)
		return;
	MUST(pthread_create(&other, NULL, work_meanwhile, NULL) == 0);
	hammer_libc(NULL);
	pthread_join(other, NULL);
	stats = stats_now();
	MUST(stats.growths > 0 && stats.heap_bytes > 0);
	MUST(stats.heap_used_blocks + stats.slab_used_blocks > 0);
	MUST_EQ(faults_calls(FAULTS_SET(FAULTS_GROW_BREAK)), growths);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void *do_nothing(void *unused)
{
	return unused;
}

/* A heap at the break goes on in mapped stretches from the first thread on. */
START_TEST(the_break_is_left_when_threads_come)
{
	unsigned char *p = filled(1000, 1);
	unsigned long growths = faults_calls(FAULTS_SET(FAULTS_GROW_BREAK));
	unsigned char *q;
	pthread_t other;

	if (!OSMEM_CONF_THREADS)
		return;
	MUST_EQ(growths, 1);
	use_up();
	growths = faults_calls(FAULTS_SET(FAULTS_GROW_BREAK));
	MUST(pthread_create(&other, NULL, do_nothing, NULL) == 0);
	q = filled(1000, 2);
	pthread_join(other, NULL);
	MUST((char *)q > (char *)sbrk(0) || q < p);
	MUST_EQ(faults_calls(FAULTS_SET(FAULTS_GROW_BREAK)), growths);
	MUST_EQ(stats_now().heap_stretches, 2);
	p = os_realloc(p, 100000);
	MUST(p != NULL && workload_holds(p, 1000, 1, 1000));
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* --- the option break --- */

static void insist_on_the_break(void *unused)
{
	pthread_t other;

	MUST(os_mallopt(OS_M_BREAK, OS_BREAK_ALWAYS) == 1);
	MUST(pthread_create(&other, NULL, do_nothing, NULL) == 0);
	pthread_join(other, NULL);
	filled(100, 1);
	filled(130000, 1);
	filled(130000, 1);
	MUST(faults_calls(FAULTS_SET(FAULTS_GROW_BREAK)) >= 2);
	MUST_EQ(os_heap_check(), 0);
	(void)unused;
}

START_TEST(break_always_says_why_not)
{
	struct child child;
	const char *warning;

	if (!OSMEM_CONF_THREADS)
		return;
	child_run(&child, insist_on_the_break, NULL);
	MUST(child_succeeded(&child));
	warning = strstr(child.text, "libosmem: break=always: ");
	MUST(warning == child.text);
	MUST(strstr(warning, "sbrk has no lock") != NULL);
	/* Once. */
	MUST(strstr(strchr(warning, '\n'), "break=always") == NULL);
}
END_TEST

START_TEST(break_never)
{
	struct workload w;
	char *end = sbrk(0);
	size_t i;

	MUST(os_mallopt(OS_M_BREAK, OS_BREAK_NEVER) == 1);
	workload_start(&w, 3);
	for (i = 0; i < 5000; i++)
		workload_step(&w);
	workload_finish(&w);
	MUST(sbrk(0) == end);
	MUST_EQ(faults_calls(FAULTS_SET(FAULTS_GROW_BREAK)), 0);
	MUST(stats_now().heap_bytes > 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("foreign");
	TCase *tcase = tcase_create("foreign");

	tcase_set_timeout(tcase, 120 + (double)test_seconds());
	tcase_add_test(tcase, forwards);
	tcase_add_test(tcase, forwards_before_the_first);
	tcase_add_test(tcase, back_to_where_it_was);
	tcase_add_test(tcase, down_into_it);
	tcase_add_test(tcase, between_any_two_operations);
	tcase_add_test(tcase, beside_a_thread_in_malloc);
	tcase_add_test(tcase, the_break_is_left_when_threads_come);
	tcase_add_test(tcase, break_always_says_why_not);
	tcase_add_test(tcase, break_never);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
