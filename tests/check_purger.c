/* SPDX-License-Identifier: MIT */
/*
 * check_purger.c - mode fast: the thread that gives back what is idle, where
 * memory comes and goes.
 *
 * White box, as check_slab.c.
 */
#include "must.h"
#include "suite.h"

#include "lock.h"
#include "options.h"
#include "region.h"

#include "child.h"

#include <check.h>
#include <dirent.h>
#include <osmem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* A round: so many blocks are allocated, written to and freed. */
enum {
	BLOCKS = 8192,
	MOST = 4 * BLOCKS,
	SIZE = 1000,
	BYTES = BLOCKS * SIZE,
	PAUSE = 30
};

static void nap(int milliseconds)
{
	struct timespec time = { milliseconds / 1000,
				 milliseconds % 1000 * 1000000L };

	nanosleep(&time, NULL);
}

/* --- what the kernel says --- */

/* Reads a file of the thread's; an empty text when it is gone. */
static void read_of(const char *task, const char *name, char *text, int size)
{
	char path[300];
	size_t got = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/%s", task, name);
	file = fopen(path, "r");
	if (file != NULL) {
		got = fread(text, 1, (size_t)size - 1, file);
		fclose(file);
	}
	text[got] = '\0';
}

/* Whether there is a purger, and what its status says. */
static bool is_there(char *status, int size)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	bool there = false;
	char name[32];

	MUST(dir != NULL);
	while (!there && (entry = readdir(dir)) != NULL) {
		read_of(entry->d_name, "comm", name, sizeof(name));
		there = strcmp(name, "osmem-purger\n") == 0;
		if (there)
			read_of(entry->d_name, "status", status, size);
	}
	closedir(dir);
	return there;
}

static bool is_purger_there(void)
{
	char status[4];

	return is_there(status, sizeof(status));
}

/* Waits for up to ten seconds. */
static bool ends(bool (*is_so)(void))
{
	int i;

	for (i = 0; i < 1000 && is_so(); i++)
		nap(10);
	return i < 1000;
}

static size_t faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (size_t)usage.ru_minflt;
}

/* Bytes that are idle. */
static size_t lies(void)
{
	struct osmem_region_totals totals;

	osmem_lock(&osmem_core_lock);
	totals = osmem_region_totals();
	osmem_unlock(&osmem_core_lock);
	return totals.dirty + totals.idle;
}

static bool lies_much(void)
{
	return lies() > BYTES / 2;
}

/* --- rounds --- */

static pthread_barrier_t step;
static int rounds_left;
static int blocks_each = BLOCKS;

/* Two take turns: each finds that the memory has gone long ago. */
static void take_turn(void *blocks[])
{
	int i;

	for (i = 0; i < blocks_each; i++)
		blocks[i] = memset(os_malloc(SIZE), i, SIZE);
	for (i = 0; i < blocks_each; i++)
		os_free(blocks[i]);
	nap(PAUSE);
}

static void *take_turns(void *arg)
{
	static void *blocks[2][MOST];
	int me = arg != NULL;
	int i;

	for (i = 0; i < rounds_left; i++) {
		if (i % 2 == me)
			take_turn(blocks[me]);
		pthread_barrier_wait(&step);
	}
	return NULL;
}

static void run_rounds(int rounds)
{
	pthread_t thread;

	rounds_left = rounds;
	MUST_EQ(pthread_barrier_init(&step, NULL, 2), 0);
	MUST_EQ(pthread_create(&thread, NULL, take_turns, &step), 0);
	take_turns(NULL);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&step);
}

static size_t faults_of(int rounds)
{
	size_t before = faults();

	run_rounds(rounds);
	return faults() - before;
}

/* --- pthread_create, by the linker's --wrap --- */

static int refusal;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg);

/* The purger's is the one with attributes. */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg)
{
	if (attr != NULL && refusal != 0) {
		errno = refusal;
		return refusal;
	}
	return __real_pthread_create(thread, attr, run, arg);
}

/* --- tests --- */

/* A page fault for each page each time, before; few with it. */
START_TEST(memory_that_comes_and_goes_stays_for_a_while)
{
	size_t pages = (size_t)BYTES / (size_t)sysconf(_SC_PAGESIZE);
	size_t without, with;

	osmem_options_parse("purger=0");
	run_rounds(4);
	without = faults_of(4);
	MUST(!is_purger_there());
	osmem_options_parse("purger=1");
	run_rounds(6);
	MUST(is_purger_there());
	with = faults_of(4);
	if (!child_is_emulated() && !child_is_sanitized()) {
		MUST(without > 3 * pages);
		MUST(with < without / 2);
	}
	MUST(lies_much());
	MUST(ends(lies_much));
	MUST(ends(is_purger_there));
	MUST_EQ(os_heap_check(), 0);
	/* And again. */
	run_rounds(6);
	MUST(is_purger_there());
}
END_TEST

/* It goes on while memory does, and gives back what has not been used. */
START_TEST(what_is_not_used_any_more_goes)
{
	blocks_each = MOST;
	run_rounds(12);
	MUST(lies() > (size_t)3 * BYTES);
	blocks_each = BLOCKS;
	run_rounds(60);
	MUST(is_purger_there());
	MUST(lies_much());
	MUST(lies() < (size_t)3 * BYTES);
}
END_TEST

START_TEST(signals_are_not_for_it)
{
	/* SIGHUP to SIGALRM but SIGKILL, SIGTERM and SIGCHLD are. */
	unsigned long long mask = 0x17eff;
	char status[4096];
	const char *blocked;

	/* qemu needs SIGBUS and SIGSEGV for itself. */
	if (child_is_emulated())
		mask &= ~0x440ULL;
	run_rounds(6);
	MUST(is_there(status, sizeof(status)));
	blocked = strstr(status, "SigBlk:");
	MUST(blocked != NULL);
	MUST_EQ(strtoull(blocked + 7, NULL, 16) & mask, mask);
}
END_TEST

/* A program without threads gets none, whatever it does. */
START_TEST(there_is_none_without_threads)
{
	static void *blocks[BLOCKS];
	int i;

	for (i = 0; i < 8; i++) {
		atomic_store(&osmem_region_wants, true);
		take_turn(blocks);
	}
	MUST(!is_purger_there());
	MUST(!atomic_load(&osmem_region_wants));
}
END_TEST

START_TEST(nothing_is_lost_where_there_can_be_none)
{
	refusal = EAGAIN;
	errno = 1234;
	run_rounds(8);
	MUST_EQ(errno, 1234);
	MUST(!is_purger_there());
	MUST(!lies_much());
	/* It is not tried again. */
	refusal = 0;
	run_rounds(8);
	MUST(!is_purger_there());
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void go_on_in_child(void *arg)
{
	static void *blocks[BLOCKS / 8];
	int i;

	(void)arg;
	MUST(!is_purger_there());
	/* What it has learned does not hold for a child that is alone. */
	for (i = 0; i < BLOCKS / 8; i++)
		blocks[i] = os_malloc(SIZE);
	for (i = 0; i < BLOCKS / 8; i++)
		os_free(blocks[i]);
	MUST(!lies_much());
	run_rounds(8);
	MUST(is_purger_there());
	MUST(ends(lies_much));
}

START_TEST(a_child_begins_without_it)
{
	struct child child;

	if (child_is_emulated()) {
		puts("purger: qemu aborts where such a child makes a thread");
		return;
	}
	run_rounds(6);
	MUST(is_purger_there());
	child_run(&child, go_on_in_child, NULL);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
}
END_TEST

static void leave_to_the_last_thread(void)
{
	run_rounds(6);
	MUST(is_purger_there());
	pthread_exit(NULL);
}

/* Anew, as of a forked child of musl's the first thread must not end. */
START_TEST(a_process_ends_with_its_last_thread)
{
	struct timespec begin, end;
	struct child child;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	child_exec(&child, "last", NULL, NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	MUST(child_succeeded(&child));
	MUST(end.tv_sec - begin.tv_sec < 60);
}
END_TEST

int main(int argc, char *argv[])
{
	Suite *suite = suite_create("purger");
	TCase *tcase = tcase_create("purger");

	if (!OSMEM_CONF_THREADS) {
		puts("purger: the library is configured without threads");
		return 77;
	}
	MUST_EQ(os_mallopt(OS_M_MODE, OS_MODE_FAST), 1);
	if (argc == 2 && strcmp(argv[1], "last") == 0)
		leave_to_the_last_thread();
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, memory_that_comes_and_goes_stays_for_a_while);
	tcase_add_test(tcase, what_is_not_used_any_more_goes);
	tcase_add_test(tcase, signals_are_not_for_it);
	tcase_add_test(tcase, nothing_is_lost_where_there_can_be_none);
	if (child_is_sanitized()) {
		puts("purger: a sanitizer's process is never alone, its "
		     "children have no threads: 3 tests are left out");
	} else {
		tcase_add_test(tcase, there_is_none_without_threads);
		tcase_add_test(tcase, a_child_begins_without_it);
		tcase_add_test(tcase, a_process_ends_with_its_last_thread);
	}
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
