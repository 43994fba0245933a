/* SPDX-License-Identifier: MIT */
/*
 * check_threads.c - many threads, and threads that fork.
 *
 * Blocks change hands through a shared table; each carries its size and a
 * pattern, so whoever gets it can tell whether it is whole. OSMEM_TEST_OPS
 * shortens everything, for sanitizers. Forks out of signal handlers are in
 * check_interrupt.c.
 */
#include <config.h>

#include "lock.h"
#include "must.h"
#include "options.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 8, OPERATIONS = 60000, TABLE = 1000, FORKS = 200 };

/* At the start of each payload; the pattern follows. */
struct parcel {
	size_t size; /* of the whole payload */
	size_t tag;
};

static _Atomic(struct parcel *) table[TABLE];

static size_t operations(size_t usual)
{
	size_t most = workload_number("OSMEM_TEST_OPS", usual);

	return most < usual ? most : usual;
}

static void parcel_fill(struct parcel *p, size_t size, size_t tag)
{
	p->size = size;
	p->tag = tag;
	workload_fill((unsigned char *)(p + 1), size - sizeof(*p),
		      (unsigned char)tag);
}

static bool parcel_is_whole(struct parcel *p, size_t first)
{
	return workload_holds((unsigned char *)(p + 1), p->size - sizeof(*p),
			      (unsigned char)p->tag, first - sizeof(*p));
}

static size_t parcel_size(struct workload *w)
{
	size_t limit = workload_draw(w, 50) == 0 ? 200000 : 2000;

	if (workload_draw(w, 2) == 0)
		limit = 100;
	return sizeof(struct parcel) + workload_draw(w, limit);
}

static struct parcel *parcel_new(struct workload *w)
{
	size_t size = parcel_size(w);
	size_t how = workload_draw(w, 8);
	struct parcel *p;

	if (how == 0)
		p = os_calloc(1, size);
	else if (how == 1)
		p = os_aligned_alloc(128, size);
	else
		p = os_malloc(size);
	MUST(p != NULL);
	parcel_fill(p, size, workload_draw(w, 1000));
	return p;
}

static void parcel_end(struct parcel *p)
{
	if (p == NULL)
		return;
	MUST(parcel_is_whole(p, p->size));
	os_free(p);
}

static struct parcel *parcel_resize(struct workload *w, struct parcel *p)
{
	size_t size = parcel_size(w);
	struct parcel *q;

	MUST(parcel_is_whole(p, p->size));
	q = os_realloc(p, size);
	MUST(q != NULL);
	MUST(parcel_is_whole(q, size < q->size ? size : q->size));
	parcel_fill(q, size, workload_draw(w, 1000));
	return q;
}

static void exchange(struct workload *w)
{
	_Atomic(struct parcel *) *place = &table[workload_draw(w, TABLE)];
	struct parcel *mine = parcel_new(w);
	struct parcel *theirs = atomic_exchange(place, mine);

	if (theirs == NULL)
		return;
	if (workload_draw(w, 3) == 0)
		theirs = atomic_exchange(place, parcel_resize(w, theirs));
	parcel_end(theirs);
}

static void *exchanger(void *seed)
{
	size_t most = operations(OPERATIONS);
	struct workload w;
	size_t i;

	workload_start(&w, (uintptr_t)seed);
	for (i = 0; i < most; i++)
		exchange(&w);
	return NULL;
}

/*
 * A check holds the lock for as long as the heap has blocks, under a sanitizer
 * a good deal of a second: the others get nine times as much.
 */
static void *checker(void *until)
{
	while (!*(atomic_bool *)until) {
		struct timespec from, to;
		long us;

		clock_gettime(CLOCK_MONOTONIC, &from);
		MUST_EQ(os_heap_check(), 0);
		os_malloc_trim(0);
		clock_gettime(CLOCK_MONOTONIC, &to);
		us = (long)(to.tv_sec - from.tv_sec) * 1000000 +
		     (to.tv_nsec - from.tv_nsec) / 1000;
		usleep((useconds_t)(us < 100000 ? us * 9 : 900000));
	}
	return NULL;
}

static void start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	MUST(pthread_create(thread, NULL, fn, arg) == 0);
}

static void empty_table(void)
{
	size_t i;

	for (i = 0; i < TABLE; i++)
		parcel_end(atomic_exchange(&table[i], NULL));
}

static void expect_nothing_left(void)
{
	struct os_stats stats = {.struct_size = sizeof(stats)};

	MUST_EQ(os_heap_check(), 0);
	MUST(os_stats(&stats) == 0);
	MUST_EQ(stats.heap_used_blocks, 0);
	MUST_EQ(stats.mapped_blocks, 0);
}

START_TEST(blocks_change_hands)
{
	pthread_t threads[THREADS];
	pthread_t looker;
	static atomic_bool until;
	uintptr_t i;

	start(&looker, checker, &until);
	for (i = 0; i < THREADS; i++)
		start(&threads[i], exchanger, (void *)(i + 1));
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	until = true;
	pthread_join(looker, NULL);
	empty_table();
	expect_nothing_left();
	printf("threads: %d x %zu operations\n", THREADS,
	       operations(OPERATIONS));
}
END_TEST

/* --- one side allocates, the other frees --- */

static atomic_bool producing;

static void *producer(void *seed)
{
	size_t most = operations(OPERATIONS);
	struct workload w;
	size_t i;

	workload_start(&w, (uintptr_t)seed);
	for (i = 0; i < most; i++) {
		size_t place = workload_draw(&w, TABLE);
		struct parcel *p = parcel_new(&w);

		while ((p = atomic_exchange(&table[place], p)) != NULL)
			place = (place + 1) % TABLE, sched_yield();
	}
	return NULL;
}

/* Never allocates, in its whole life. */
static void *consumer(void *seed)
{
	struct workload w;

	workload_start(&w, (uintptr_t)seed);
	while (producing)
		parcel_end(atomic_exchange(&table[workload_draw(&w, TABLE)],
					   NULL));
	return NULL;
}

START_TEST(threads_that_only_free)
{
	pthread_t threads[4];
	uintptr_t i;

	producing = true;
	for (i = 0; i < 2; i++)
		start(&threads[i], producer, (void *)(i + 1));
	for (i = 2; i < 4; i++)
		start(&threads[i], consumer, (void *)(i + 1));
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	producing = false;
	for (i = 2; i < 4; i++)
		pthread_join(threads[i], NULL);
	empty_table();
	expect_nothing_left();
}
END_TEST

/* --- threads that end and leave blocks behind --- */

static void *leaver(void *seed)
{
	struct workload w;
	size_t i;

	workload_start(&w, (uintptr_t)seed);
	for (i = 0; i < 20; i++)
		parcel_end(atomic_exchange(&table[workload_draw(&w, TABLE)],
					   parcel_new(&w)));
	return NULL;
}

static pthread_key_t key;

static void free_late(void *p)
{
	parcel_end(p);
}

/* Frees in a destructor of thread-specific data, when the thread is ending. */
static void *late_leaver(void *seed)
{
	struct workload w;

	workload_start(&w, (uintptr_t)seed);
	MUST(pthread_setspecific(key, parcel_new(&w)) == 0);
	return leaver(seed);
}

START_TEST(threads_leave_blocks_behind)
{
	size_t rounds = operations(300);
	pthread_t threads[4];
	uintptr_t i;
	size_t round;

	MUST(pthread_key_create(&key, free_late) == 0);
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < 4; i++)
			start(&threads[i], i % 2 ? leaver : late_leaver,
			      (void *)(4 * round + i));
		for (i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	}
	empty_table();
	expect_nothing_left();
}
END_TEST

/* --- fork --- */

/*
 * Handlers that allocate. The early ones are registered before the library's:
 * they run while it holds its lock for the fork. The late ones do not.
 */
static struct {
	size_t runs;
	size_t inside; /* of the early ones, with the lock held */
	size_t late_inside;
} handlers;

static void handler_allocates(size_t size)
{
	unsigned char *p = os_malloc(size);

	MUST(p != NULL);
	workload_fill(p, size, 9);
	p = os_realloc(p, 2 * size);
	MUST(p != NULL && workload_holds(p, size, 9, size));
	os_free(p);
	handlers.runs++;
}

static void early_handler(void)
{
	handlers.inside += osmem_core_lock.forking;
	handler_allocates(700);
	handler_allocates(200000);
}

static void late_handler(void)
{
	handlers.late_inside += osmem_core_lock.forking;
	handler_allocates(300);
	handler_allocates(150000);
}

/*
 * Before the library's constructor, which has the same priority and comes
 * later in the link.
 */
static __attribute__((constructor(101))) void register_early(void)
{
	pthread_atfork(early_handler, early_handler, early_handler);
}

static atomic_bool working;

static void *worker(void *seed)
{
	struct workload w;

	workload_start(&w, (uintptr_t)seed);
	while (working)
		exchange(&w);
	return NULL;
}

static void *blocks_of_parent[100];

static void child_works(uintptr_t seed)
{
	struct workload w;
	size_t i;

	workload_start(&w, seed);
	for (i = 0; i < 100; i++) {
		MUST(workload_holds(blocks_of_parent[i], 50 * i + 1,
				    (unsigned char)i, 50 * i + 1));
		os_free(blocks_of_parent[i]);
	}
	for (i = 0; i < 200; i++)
		exchange(&w);
	MUST_EQ(os_heap_check(), 0);
}

static void fork_once(void (*work)(uintptr_t seed), uintptr_t seed)
{
	int status;
	pid_t pid = fork();

	MUST(pid >= 0);
	if (pid == 0) {
		alarm(120);
		/* ThreadSanitizer ends children that start one. */
		if (OSMEM_THREAD_SANITIZER)
			osmem_options_parse("purger=0");
		work(seed);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0) == pid);
	MUST(WIFEXITED(status));
	MUST_EQ(WEXITSTATUS(status), 0);
}

START_TEST(fork_from_a_threaded_program)
{
	size_t forks = operations(FORKS);
	pthread_t threads[4];
	uintptr_t i;

	MUST(pthread_atfork(late_handler, late_handler, late_handler) == 0);
	for (i = 0; i < 100; i++) {
		blocks_of_parent[i] = os_malloc(50 * i + 1);
		MUST(blocks_of_parent[i] != NULL);
		workload_fill(blocks_of_parent[i], 50 * i + 1,
			      (unsigned char)i);
	}
	working = true;
	for (i = 0; i < 4; i++)
		start(&threads[i], worker, (void *)(i + 1));
	/* Check has forked before: what counts is what comes from here on. */
	handlers.runs = handlers.inside = handlers.late_inside = 0;
	for (i = 0; i < forks; i++)
		fork_once(child_works, i + 100);
	working = false;
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	MUST(handlers.runs >= 4 * forks);
	MUST_EQ(handlers.late_inside, 0);
	/* prepare and parent: the lock is held for both. */
	MUST_EQ(handlers.inside, 2 * forks);
	empty_table();
	MUST_EQ(os_heap_check(), 0);
	printf("threads: %zu forks\n", forks);
}
END_TEST

enum { LEFT = 250 };

static void *left[LEFT];

static void *leave_blocks(void *unused)
{
	size_t i;

	(void)unused;
	for (i = 0; i < LEFT; i++)
		left[i] = os_malloc(9000 + i % 40 * 100);
	return NULL;
}

static void *follow_threads(void *unused)
{
	pthread_t thread;
	size_t i;

	(void)unused;
	while (working) {
		start(&thread, leave_blocks, NULL);
		pthread_join(thread, NULL);
		for (i = 0; i < LEFT; i++)
			os_free(left[i]);
	}
	return NULL;
}

static void child_rests(uintptr_t seed)
{
	(void)seed;
}

static void *fork_first(void *unused)
{
	(void)unused;
	fork_once(child_rests, 0);
	return NULL;
}

/*
 * The first that such a thread allocates, a handler does for it, while others
 * look after what ended threads have left.
 */
START_TEST(fork_from_threads_that_begin)
{
	size_t forks = operations(FORKS);
	pthread_t follower;
	pthread_t thread;
	size_t i;

	working = true;
	start(&follower, follow_threads, NULL);
	for (i = 0; i < 4 * forks; i++) {
		start(&thread, fork_first, NULL);
		pthread_join(thread, NULL);
	}
	working = false;
	pthread_join(follower, NULL);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("threads");
	TCase *tcase = tcase_create("threads");

	if (!OSMEM_CONF_THREADS) {
		puts("threads: the library is configured without them");
		return 77;
	}
	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, blocks_change_hands);
	tcase_add_test(tcase, threads_that_only_free);
	tcase_add_test(tcase, threads_leave_blocks_behind);
	tcase_add_test(tcase, fork_from_a_threaded_program);
	tcase_add_test(tcase, fork_from_threads_that_begin);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
