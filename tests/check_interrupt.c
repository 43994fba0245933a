/* SPDX-License-Identifier: MIT */
/*
 * check_interrupt.c - signal handlers that interrupt the allocator and fork.
 *
 * The child goes on with the operation that was interrupted, and so does the
 * parent. By a timer, at random; and by the processor's trap flag, after each
 * single instruction, so that no window is too small. Handlers that allocate
 * are in check_nested.c.
 */
#include <config.h>

#include "child.h"
#include "must.h"
#include "suite.h"
#include "trap.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

static volatile sig_atomic_t in_child;
static volatile sig_atomic_t forks;

/* Waits until the child has gone on and ended well. */
static void await(pid_t pid)
{
	int status;
	pid_t ended;

	do
		ended = waitpid(pid, &status, 0);
	while (ended < 0 && errno == EINTR);
	MUST(ended == pid);
	MUST(WIFEXITED(status));
	MUST_EQ(WEXITSTATUS(status), 0);
	forks++;
}

/* What the child does when the interrupted operation has ended. */
static void child_ends(struct workload *w)
{
	size_t i;

	for (i = 0; i < 50; i++)
		workload_step(w);
	workload_finish(w);
	/* The function: no lines are counted, of all that are interrupted. */
	(_exit)(0);
}

/* --- by a timer --- */

static void set_timer(long microseconds)
{
	struct itimerval timer = {{0, 0}, {0, microseconds}};

	setitimer(ITIMER_REAL, &timer, NULL);
}

static void fork_on_alarm(int signal)
{
	int saved = errno;
	pid_t pid;

	(void)signal;
	if (in_child)
		return;
	pid = fork();
	if (pid == 0) {
		in_child = 1;
		set_timer(0);
	} else if (pid > 0) {
		await(pid);
	}
	errno = saved;
}

static void interrupt_by_timer(size_t wish)
{
	struct workload w;
	struct sigaction action = {.sa_handler = fork_on_alarm};
	size_t target = workload_number("OSMEM_TEST_OPS", wish);
	sig_atomic_t seen = 0;

	if (target > wish)
		target = wish;
	MUST(sigaction(SIGALRM, &action, NULL) == 0);
	workload_start(&w, 4);
	w.largest = 20000;
	set_timer(500);
	while ((size_t)forks < target) {
		workload_step(&w);
		if (in_child)
			child_ends(&w);
		if (forks != seen) {
			seen = forks;
			set_timer(300 + (long)workload_draw(&w, 700));
		}
	}
	set_timer(0);
	workload_finish(&w);
	printf("interrupt: %d forks by a timer\n", (int)forks);
}

START_TEST(timer)
{
	interrupt_by_timer(200);
}
END_TEST

static void *other_thread(void *stop)
{
	while (!*(atomic_int *)stop)
		usleep(1000);
	return NULL;
}

/* All signals stay blocked in it: the handler is for the thread that works. */
static pthread_t start_other_thread(atomic_int *stop)
{
	sigset_t all;
	sigset_t before;
	pthread_t other;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	MUST(pthread_create(&other, NULL, other_thread, stop) == 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return other;
}

/* The same with the lock that processes of more than one thread take. */
START_TEST(timer_with_threads)
{
	static atomic_int stop;
	pthread_t other;

	if (!OSMEM_CONF_THREADS)
		return;
	other = start_other_thread(&stop);
	interrupt_by_timer(100);
	stop = 1;
	pthread_join(other, NULL);
}
END_TEST

/* --- after every instruction --- */

#ifdef TRAP_EXISTS

static volatile sig_atomic_t steps;

static void fork_on_trap(int signal, siginfo_t *info, void *context)
{
	ucontext_t *interrupted = context;
	int saved = errno;
	pid_t pid;

	(void)signal;
	(void)info;
	steps++;
	pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		alarm(120);
		in_child = 1;
		interrupted->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
	} else {
		await(pid);
	}
	errno = saved;
}

static void trace_one(void *arg)
{
	void (*operation)(void) = *(void (**)(void))arg;
	char *guard = os_malloc(100);

	trap_block = os_malloc(200);
	MUST(guard != NULL && trap_block != NULL);
	memset(guard, 'g', 100);
	alarm(120);
	trap_all(fork_on_trap, operation);
	if (operation == trap_free)
		trap_block = os_malloc(10);
	os_free(trap_block);
	MUST(guard[0] == 'g' && guard[99] == 'g');
	os_free(guard);
	MUST(os_malloc(50000) != NULL);
	MUST_EQ(os_heap_check(), 0);
	MUST(in_child || steps > 50);
}

static void trace(void (*operation)(void))
{
	struct child child;

	child_run(&child, trace_one, &operation);
	if (child_succeeded(&child))
		return;
	child_show(&child);
	MUST(!"a fork after every instruction");
}

START_TEST(every_instruction)
{
	if (child_is_sanitized())
		return;
	trace(trap_malloc);
	trace(trap_free);
	trace(trap_realloc);
}
END_TEST

static void trace_in_a_thread(void *arg)
{
	static atomic_int stop;

	start_other_thread(&stop);
	trace_one(arg);
}

START_TEST(every_instruction_with_threads)
{
	struct child child;
	void (*operation)(void) = trap_malloc;

	if (child_is_sanitized() || !OSMEM_CONF_THREADS)
		return;
	child_run(&child, trace_in_a_thread, &operation);
	if (child_succeeded(&child))
		return;
	child_show(&child);
	MUST(!"a fork after every instruction");
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("interrupt");
	TCase *tcase = tcase_create("interrupt");

	tcase_set_timeout(tcase, 200);
	tcase_add_test(tcase, timer);
	tcase_add_test(tcase, timer_with_threads);
#ifdef TRAP_EXISTS
	tcase_add_test(tcase, every_instruction);
	tcase_add_test(tcase, every_instruction_with_threads);
#endif
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
