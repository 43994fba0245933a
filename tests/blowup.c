/* SPDX-License-Identifier: MIT */
/*
 * blowup.c - peak RSS over peak live bytes, when blocks wander between threads.
 *
 *	blowup [PATTERN THREADS [LARGEST]]
 *
 * Without arguments each pattern runs with 1 to 64 threads and blocks of up to
 * 1000 bytes, then of up to 100000. All of the memory that is live at a time
 * is about the same whatever the number of threads. Nothing is judged. By hand:
 *
 *	tests/blowup
 *	LD_PRELOAD=/usr/lib/libother.so tests/blowup_malloc larson 8
 */
#include "front.h"
#include "resident.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS_MOST = 64, VOLUME = 32 << 20, TURNOVER = 16, GENERATIONS = 6 };

/* Bytes: relaxed, they are statistics. */
static atomic_size_t live;
static atomic_size_t live_most;

static size_t largest = 1000;
static size_t thread_count;

struct block {
	size_t size;
};

/* What a thread, or a pair of them, works on. */
struct work {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	struct block **blocks;
	size_t room;  /* slots of the table */
	size_t first; /* the queue's, counted on and on */
	size_t last;
	size_t ops;
	int generation;
	uint64_t state;
};

static struct work works[THREADS_MOST];

/* --- blocks --- */

static size_t block_size(uint64_t *state)
{
	size_t base;
	size_t size;

	do {
		base = (size_t)16 << resident_random(state) % 13;
		size = base + resident_random(state) % base;
	} while (size > largest);
	return size;
}

/* Each power of two as often as any other: the mean of many. */
static size_t block_mean(void)
{
	uint64_t state = 1;
	size_t sum = 0;
	int i;

	for (i = 0; i < 4096; i++)
		sum += block_size(&state);
	return sum / 4096;
}

static struct block *block_make(uint64_t *state)
{
	size_t size = block_size(state);
	struct block *b = front_malloc(size);
	size_t most = atomic_load_explicit(&live_most, memory_order_relaxed);
	size_t now;

	if (b == NULL)
		resident_fail("no memory");
	memset(b, 1, size);
	b->size = size;
	now = atomic_fetch_add_explicit(&live, size, memory_order_relaxed) +
	      size;
	while (now > most &&
	       !atomic_compare_exchange_weak_explicit(&live_most, &most, now,
						      memory_order_relaxed,
						      memory_order_relaxed))
		continue;
	return b;
}

static void block_drop(struct block *b)
{
	if (b == NULL)
		return;
	atomic_fetch_sub_explicit(&live, b->size, memory_order_relaxed);
	front_free(b);
}

/* --- starting --- */

static void start(struct work *w, void *(*body)(void *))
{
	if (pthread_create(&w->thread, NULL, body, w) != 0)
		resident_fail("pthread_create");
}

/* Tables for count workers that hold VOLUME together. */
static void divide(size_t count)
{
	size_t blocks = VOLUME / block_mean() / count + 2;
	size_t i;

	for (i = 0; i < count; i++) {
		pthread_mutex_init(&works[i].lock, NULL);
		pthread_cond_init(&works[i].changed, NULL);
		works[i].blocks = resident_table(blocks * sizeof(void *));
		works[i].room = blocks;
		works[i].ops = blocks * TURNOVER;
		works[i].state = 88172645463325252u + i * 7919;
	}
}

/* --- pairs: one allocates, the other frees, through a bounded queue --- */

static void pair_produce(struct work *w)
{
	struct block *b = block_make(&w->state);

	pthread_mutex_lock(&w->lock);
	while (w->last - w->first == w->room)
		pthread_cond_wait(&w->changed, &w->lock);
	w->blocks[w->last++ % w->room] = b;
	if (w->last - w->first == w->room || w->last == w->ops)
		pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Waits for a full queue, empties it: live goes up and down. */
static bool pair_consume(struct work *w)
{
	bool more;

	pthread_mutex_lock(&w->lock);
	while (w->last - w->first < w->room && w->last < w->ops)
		pthread_cond_wait(&w->changed, &w->lock);
	while (w->first < w->last)
		block_drop(w->blocks[w->first++ % w->room]);
	more = w->last < w->ops;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return more;
}

static void *pair_producer(void *arg)
{
	struct work *w = arg;
	size_t i;

	for (i = 0; i < w->ops; i++)
		pair_produce(w);
	return NULL;
}

static void *pair_consumer(void *arg)
{
	while (pair_consume(arg))
		continue;
	return NULL;
}

static void run_pairs(void)
{
	size_t count = (thread_count + 1) / 2;
	pthread_t producers[THREADS_MOST];
	size_t i;

	divide(count);
	for (i = 0; i < count; i++) {
		start(&works[i], pair_producer);
		producers[i] = works[i].thread;
		start(&works[i], pair_consumer);
	}
	for (i = 0; i < count; i++) {
		pthread_join(producers[i], NULL);
		pthread_join(works[i].thread, NULL);
	}
}

/* --- larson: sets of blocks that are left to a younger thread each time --- */

static void *larson_main(void *arg)
{
	struct work *w = arg;
	size_t i;

	for (i = 0; i < w->ops / GENERATIONS; i++) {
		size_t at = resident_random(&w->state) % w->room;

		block_drop(w->blocks[at]);
		w->blocks[at] = block_make(&w->state);
	}
	return NULL;
}

static void *larson_line(void *arg)
{
	struct work *w = arg;
	pthread_t one;
	int i;

	for (i = 0; i < GENERATIONS; i++) {
		if (pthread_create(&one, NULL, larson_main, w) != 0)
			resident_fail("pthread_create");
		pthread_join(one, NULL);
	}
	return NULL;
}

static void run_larson(void)
{
	size_t i;

	divide(thread_count);
	for (i = 0; i < thread_count; i++)
		start(&works[i], larson_line);
	for (i = 0; i < thread_count; i++)
		pthread_join(works[i].thread, NULL);
}

/* --- turns: one after the other allocates it all; the others sleep --- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t next;
	bool passes; /* the successor frees */
} turns = {.lock = PTHREAD_MUTEX_INITIALIZER,
	   .changed = PTHREAD_COND_INITIALIZER};

static void turn_fill(struct work *w)
{
	size_t i;

	for (i = 0; i < w->room; i++)
		w->blocks[i] = block_make(&w->state);
}

static void turn_empty(struct work *w)
{
	size_t i;

	for (i = 0; i < w->room; i++)
		block_drop(w->blocks[i]);
}

/* All share the first one's table. */
static void *turn_main(void *arg)
{
	struct work *w = arg;
	size_t me = (size_t)(w - works);
	int round;

	for (round = 0; round < 2; round++) {
		pthread_mutex_lock(&turns.lock);
		while (turns.next % thread_count != me)
			pthread_cond_wait(&turns.changed, &turns.lock);
		if (turns.passes && turns.next != 0)
			turn_empty(works);
		turn_fill(works);
		if (!turns.passes)
			turn_empty(works);
		turns.next++;
		pthread_cond_broadcast(&turns.changed);
		pthread_mutex_unlock(&turns.lock);
	}
	/* Threads that end would give back. */
	pthread_mutex_lock(&turns.lock);
	while (turns.next < 2 * thread_count)
		pthread_cond_wait(&turns.changed, &turns.lock);
	pthread_mutex_unlock(&turns.lock);
	return NULL;
}

static void run_turns(void)
{
	size_t i;

	divide(1);
	for (i = 0; i < thread_count; i++)
		start(&works[i], turn_main);
	for (i = 0; i < thread_count; i++)
		pthread_join(works[i].thread, NULL);
}

static void run_passes(void)
{
	turns.passes = true;
	run_turns();
}

static const struct pattern {
	const char *name;
	void (*run)(void);
} patterns[] = {
	{"pairs", run_pairs},
	{"larson", run_larson},
	{"turns", run_turns},
	{"passes", run_passes},
};

enum { PATTERNS = sizeof(patterns) / sizeof(patterns[0]) };

/* --- running --- */

static void run(const struct pattern *pattern)
{
	size_t before = resident_row("Rss:");
	size_t peak;
	size_t tables = 0;
	size_t i;

	pattern->run();
	for (i = 0; i < THREADS_MOST; i++)
		tables += works[i].room * sizeof(void *);
	peak = resident_peak() - before - tables;
	dprintf(STDOUT_FILENO, "%-8s %3zu %7zu %9zu %9zu %6.2f\n",
		pattern->name, thread_count, largest, live_most >> 10,
		peak >> 10, (double)peak / (double)live_most);
}

static void run_apart(const struct pattern *pattern, size_t threads,
		      size_t size)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		resident_fail("fork");
	if (child == 0) {
		thread_count = threads;
		largest = size;
		run(pattern);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0)
		continue;
	if (status != 0)
		dprintf(STDOUT_FILENO, "%s %zu %zu FAILED\n", pattern->name,
			threads, size);
}

static void run_all(void)
{
	size_t size;
	size_t threads;
	int i;

	for (size = 1000; size <= 100000; size *= 100)
		for (i = 0; i < PATTERNS; i++)
			for (threads = i == 0 ? 2 : 1; threads <= THREADS_MOST;
			     threads *= 2)
				run_apart(&patterns[i], threads, size);
}

static void run_one(char **argv, int argc)
{
	size_t threads = (size_t)strtoul(argv[2], NULL, 10);
	size_t size = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 1000;
	int i;

	if (threads < 1 || threads > THREADS_MOST || size < 16 || size > 100000)
		resident_fail("1 to 64 threads, 16 to 100000 bytes");
	for (i = 0; i < PATTERNS; i++)
		if (strcmp(argv[1], patterns[i].name) == 0)
			run_apart(&patterns[i], threads, size);
}

int main(int argc, char **argv)
{
	front_open();
	dprintf(STDOUT_FILENO, "%-8s %3s %7s %9s %9s %6s\n", "pattern", "thr",
		"largest", "live KiB", "peak KiB", "ratio");
	if (argc > 2)
		run_one(argv, argc);
	else
		run_all();
	return 0;
}
