/* SPDX-License-Identifier: MIT */
/*
 * abuse_double.c - a block that is freed twice. Where its address could be
 * another live block's by then, the case holds on to what would do that: the
 * second free of an address that has been handed out again is a right one.
 */
#include <config.h>

#include "abuse.h"
#include "front.h"
#include "must.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

static const struct abuse_kind kinds[] = {
	{"24", 24, 0},	       {"400", 400, 0},	      {"3000", 3000, 0},
	{"20000", 20000, 0},   {"100000", 100000, 0}, {"200000", 200000, 0},
	{"30000000", 30000000, 0}, {"aligned", 1000, 256}};

/* A block among others, known no more, as it is to be freed twice. */
static char *get_one(const struct abuse_kind *kind)
{
	char **around = abuse_fill(kind, kind->size > 1000000 ? 4 : 9);
	char *p = around[2];

	abuse_forget(p);
	return p;
}

static void at_once(const struct abuse_kind *kind, int arg)
{
	char *p = get_one(kind);

	(void)arg;
	abuse_free(p);
	abuse_free(p);
}

/* Another of its size is freed between: it is not the last that was. */
static void with_another_between(const struct abuse_kind *kind, int others)
{
	char *p = get_one(kind);
	char **rest = abuse_fill(kind, (unsigned)others);

	abuse_free(p);
	for (; *rest != NULL; rest++)
		abuse_put(*rest);
	abuse_free(p);
}

static void after_reuse_of_neighbours(const struct abuse_kind *kind, int arg)
{
	char **p = abuse_fill(kind, 9);
	char *twice = p[4];
	int i;

	(void)arg;
	abuse_forget(twice);
	abuse_free(twice);
	for (i = 3; i <= 5; i += 2)
		abuse_put(p[i]);
	for (i = 0; i < 2; i++)
		if (abuse_get_kind(kind) == twice)
			_exit(ABUSE_VOID);
	abuse_free(twice);
}

static void after_other_sizes(const struct abuse_kind *kind, int arg)
{
	static const size_t sizes[] = {8, 100, 600, 7000, 50000, 150000};
	char *p = get_one(kind);
	unsigned i;

	(void)arg;
	abuse_free(p);
	for (i = 0; i < 20 * ABUSE_COUNT(sizes); i++)
		if (abuse_get(sizes[i % ABUSE_COUNT(sizes)]) == p)
			_exit(ABUSE_VOID);
	abuse_free(p);
}

static void *free_it(void *p)
{
	abuse_free(p);
	return NULL;
}

static void *do_nothing(void *p)
{
	return p;
}

static void from_another_thread(const struct abuse_kind *kind, int first)
{
	char *p;

	/* What a thread takes of the heap is there for the next, then. */
	abuse_in_thread(do_nothing, NULL);
	p = get_one(kind);
	if (first)
		abuse_in_thread(free_it, p);
	else
		abuse_free(p);
	if (first == 2)
		abuse_free(p);
	else
		abuse_in_thread(free_it, p);
}

/* --- two threads at once --- */

static atomic_int racers;

static void *race(void *p)
{
	atomic_fetch_sub(&racers, 1);
	while (atomic_load(&racers) > 0)
		continue;
	abuse_free(p);
	return NULL;
}

static void race_once(const struct abuse_kind *kind)
{
	char *p = get_one(kind);
	pthread_t threads[2];
	int i;

	atomic_store(&racers, 2);
	for (i = 0; i < 2; i++)
		MUST(pthread_create(&threads[i], NULL, race, p) == 0);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	/* What was not seen at once may be seen when it is looked through. */
	abuse_go_on(kind);
}

/* Ends as the first round that was not stopped, else as the last. */
static void in_children(void (*fn)(const struct abuse_kind *kind),
			const struct abuse_kind *kind, int rounds)
{
	int status = 0;

	while (rounds-- > 0) {
		pid_t pid = fork();

		MUST(pid >= 0);
		if (pid == 0) {
			fn(kind);
			_exit(0);
		}
		MUST(waitpid(pid, &status, 0) == pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
			_exit(ABUSE_MISSED);
	}
	raise(SIGABRT);
}

static void by_two_threads(const struct abuse_kind *kind, int rounds)
{
	if (!FRONT_THREADS)
		_exit(ABUSE_VOID);
	in_children(race_once, kind, rounds);
}

/* --- what happened in between --- */

static void in_a_purged_slab(const struct abuse_kind *kind, int arg)
{
	unsigned n = kind->size > 1000000 ? 8 : 250;
	char **all = abuse_fill(kind, n);
	char *p = all[n / 2];
	unsigned i;

	(void)arg;
	for (i = 0; i < n; i++)
		abuse_put(all[i]);
	abuse_trim();
	abuse_free(p);
}

static void across_realloc(const struct abuse_kind *kind, int arg)
{
	char *p = get_one(kind);
	char *q = abuse_realloc(p, kind->size * 4);

	(void)arg;
	MUST(q != NULL);
	if (q == p)
		abuse_free(q);
	abuse_free(p);
}

static void after_trim(const struct abuse_kind *kind, int arg)
{
	char *p = get_one(kind);

	(void)arg;
	abuse_free(p);
	abuse_trim();
	abuse_free(p);
}

static char *forked;

static void free_forked(const struct abuse_kind *kind)
{
	(void)kind;
	abuse_free(forked);
}

static void after_fork(const struct abuse_kind *kind, int arg)
{
	(void)arg;
	forked = get_one(kind);
	abuse_free(forked);
	in_children(free_forked, kind, 1);
}

static const struct abuse_kind *thread_kind;

static void *get_in_thread(void *out)
{
	*(char **)out = get_one(thread_kind);
	return NULL;
}

static void of_a_thread_that_ended(const struct abuse_kind *kind, int arg)
{
	char *p;

	(void)arg;
	thread_kind = kind;
	abuse_in_thread(get_in_thread, &p);
	abuse_free(p);
	abuse_free(p);
}

/* By realloc to nothing; and a stale pointer that is resized. */
static void by_realloc(const struct abuse_kind *kind, int size)
{
	char *p = get_one(kind);

	abuse_free(p);
	errno = 0;
	if (abuse_realloc(p, (size_t)size) == NULL && errno == EINVAL)
		_exit(ABUSE_REFUSED);
}

static const struct abuse_action actions[] = {
	{"at-once", at_once, 0},
	{"with-one-between", with_another_between, 1},
	{"with-many-between", with_another_between, 40},
	{"after-reuse-of-neighbours", after_reuse_of_neighbours, 0},
	{"after-other-sizes", after_other_sizes, 0},
	{"second-by-a-thread", from_another_thread, 0},
	{"both-by-threads", from_another_thread, 1},
	{"first-by-a-thread", from_another_thread, 2},
	{"by-two-threads-at-once", by_two_threads, 10},
	{"in-a-purged-slab", in_a_purged_slab, 0},
	{"across-realloc", across_realloc, 0},
	{"after-trim", after_trim, 0},
	{"after-fork", after_fork, 0},
	{"owner-has-ended", of_a_thread_that_ended, 0},
	{"by-realloc", by_realloc, 50},
	{"by-realloc-to-nothing", by_realloc, 0},
};

const struct abuse_suite abuse_double =
	ABUSE_SUITE("double", actions, kinds, true);
