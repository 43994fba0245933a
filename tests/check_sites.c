/* SPDX-License-Identifier: MIT */
/*
 * check_sites.c - where blocks were allocated and first freed, as reports say
 * with the option sites.
 */
#include <config.h>

#include "common.h"
#include "reported.h"
#include "sites.h"
#include "suite.h"

#include <check.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Bit 0 of one says that it is Thumb code; frames are without it. */
#ifdef __arm__
#define RETURN_TO \
	((void *)((uintptr_t)__builtin_return_address(0) & ~(uintptr_t)1))
#else
#define RETURN_TO __builtin_return_address(0)
#endif

static void *call_site;

static __attribute__((noinline)) char *make(size_t size)
{
	char *p = os_malloc(size);

	call_site = RETURN_TO;
	MUST(p != NULL);
	return p;
}

static void *free_site;

static __attribute__((noinline)) void unmake(void *p)
{
	misuse_hidden(os_free, p);
	free_site = RETURN_TO;
}

/* A frame, among those after a line. */
static void expect_frame(const struct child *child, const char *after,
			 const void *frame)
{
	char text[40];
	const char *from = strstr(child->text, after);

	snprintf(text, sizeof(text), " %p ", frame);
	if (from != NULL && strstr(from, text) != NULL)
		return;
	dprintf(STDERR_FILENO, "missing: %s, %s\n", after, text);
	child_show(child);
	MUST(!"the frame that is expected");
}

static bool has_frames(void)
{
#ifdef __GLIBC__
	return true;
#else
	return false;
#endif
}

static void try_sites(size_t size)
{
	struct child child;
	char *guard;

	victim = make(size);
	guard = make(size);
	victim = os_realloc(victim, size); /* stays, and so does its site */
	MUST(victim != NULL);
	run_stopped(&child, free_victim, (void *)8);
	expect_text(&child, "libosmem: allocated by thread ", true);
	expect_text(&child, "first freed", false);
	unmake(victim);
	run_stopped(&child, free_victim, 0);
	expect_text(&child, "libosmem: first freed by thread ", true);
	if (has_frames())
		expect_frame(&child, "first freed", free_site);
	unmake(guard);
}

START_TEST(sites_of_blocks)
{
	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	try_sites(100);
	try_sites(5000);
}
END_TEST

START_TEST(sites_of_slots)
{
	int i;

	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	for (i = 0; i < 100; i++)
		os_free(os_malloc(100));
	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	try_sites(100);
	try_sites(5000);
	try_sites(100000);
	/* And a block from before, whose slot is used again. */
	MUST(os_mallopt(OS_M_SITES, 0) == 1);
	for (i = 0; i < 100; i++)
		os_free(os_malloc(100));
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

START_TEST(the_frame_of_the_caller)
{
	struct child child;

	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	victim = make(100);
	run_stopped(&child, free_victim, (void *)8);
	if (has_frames())
		expect_frame(&child, "allocated by", call_site);
}
END_TEST

/* Handlers that run between ours and the fork find the lock taken for them. */
START_TEST(sites_of_handlers_of_fork)
{
	struct child child;

	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	osmem_lock_before_fork(&osmem_sites_lock);
	victim = make(100);
	osmem_lock_after_fork(&osmem_sites_lock);
	run_stopped(&child, free_victim, (void *)8);
	expect_text(&child, "allocated by", true);
}
END_TEST

static uint32_t other_thread;

static void *free_in_thread(void *p)
{
	other_thread = (uint32_t)syscall(SYS_gettid);
	unmake(p);
	return NULL;
}

START_TEST(sites_of_threads)
{
	struct child child;
	pthread_t thread;
	char line[100];

	if (!OSMEM_CONF_THREADS)
		return;
	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	victim = make(100);
	MUST(pthread_create(&thread, NULL, free_in_thread, victim) == 0);
	pthread_join(thread, NULL);
	run_stopped(&child, free_victim, 0);
	snprintf(line, sizeof(line), "allocated by thread %ld",
		 syscall(SYS_gettid));
	expect_text(&child, line, true);
	snprintf(line, sizeof(line), "first freed by thread %u",
		 (unsigned int)other_thread);
	expect_text(&child, line, true);
}
END_TEST

/* More than the table holds: the first are forgotten, nothing breaks. */
START_TEST(the_table_is_bounded)
{
	enum { MANY = 200000 };
	struct child child;
	char *last = NULL;
	int i;

	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	victim = make(16);
	for (i = 0; i < MANY; i++)
		last = make(8);
	run_stopped(&child, free_pointer, last + 1);
	expect_text(&child, "libosmem: allocated by thread ", true);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

static void *churn(void *unused)
{
	int i;

	for (i = 0; i < 2000; i++)
		os_free(os_realloc(os_malloc(100), 3000));
	return unused;
}

static void churn_and_fork(void *unused)
{
	pthread_t threads[4];
	int i;

	for (i = 0; i < 4; i++)
		MUST(pthread_create(&threads[i], NULL, churn, NULL) == 0);
	for (i = 0; i < 20; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			churn(NULL);
			_exit(0);
		}
		MUST(waitpid(pid, &status, 0) == pid && status == 0);
	}
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	MUST_EQ(os_heap_check(), 0);
	(void)unused;
}

START_TEST(sites_with_threads_and_fork)
{
	struct child child;

	if (!OSMEM_CONF_THREADS)
		return;
	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	child_run(&child, churn_and_fork, NULL);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
}
END_TEST

/* What unwinds with ld.so's lock would wait for this thread. */
static atomic_int look_began;
static atomic_int look_ends;

static int look(struct dl_phdr_info *info, size_t size, void *unused)
{
	int i;

	(void)info;
	(void)size;
	(void)unused;
	look_began = 1;
	for (i = 0; i < 10000 && !look_ends; i++)
		usleep(1000);
	return 1;
}

static void *look_at_modules(void *unused)
{
	dl_iterate_phdr(look, NULL);
	return unused;
}

static void fork_meanwhile(void *unused)
{
	pthread_t thread;
	int status;
	pid_t pid;

	MUST(pthread_create(&thread, NULL, look_at_modules, NULL) == 0);
	while (!look_began)
		usleep(1000);
	pid = fork();
	if (pid == 0) {
		alarm(120);
		churn(NULL);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0) == pid && status == 0);
	look_ends = 1;
	pthread_join(thread, NULL);
	(void)unused;
}

START_TEST(sites_in_a_child_of_a_busy_loader)
{
	struct child child;

	if (!OSMEM_CONF_THREADS || !has_frames())
		return;
	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	child_run(&child, fork_meanwhile, NULL);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sites");
	TCase *tcase = tcase_create("sites");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, sites_of_blocks);
	tcase_add_test(tcase, sites_of_slots);
	tcase_add_test(tcase, the_frame_of_the_caller);
	tcase_add_test(tcase, sites_of_handlers_of_fork);
	tcase_add_test(tcase, sites_of_threads);
	tcase_add_test(tcase, the_table_is_bounded);
	tcase_add_test(tcase, sites_with_threads_and_fork);
	tcase_add_test(tcase, sites_in_a_child_of_a_busy_loader);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
