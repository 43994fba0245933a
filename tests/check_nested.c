/* SPDX-License-Identifier: MIT */
/*
 * check_nested.c - signal handlers that allocate while they interrupt the
 * allocator.
 *
 * By the trap flag, after each instruction of one call; and by signals sent to
 * threads at a high rate. A handler keeps blocks, frees those of handlers
 * before it, and those of the program. Nothing may hang, be lost or be handed
 * out twice, but on the fast path: a handler that finds that it has
 * interrupted os_malloc, os_free or their like themselves, or the fast paths
 * for large blocks and for growth behind them, lets it be.
 */
#include <config.h>

#include "child.h"
#include "core.h"
#include "must.h"
#include "nested.h"
#include "suite.h"
#include "thread.h"
#include "trap.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#if defined(__x86_64__)
#define INTERRUPTED(context) ((uintptr_t)(context)->uc_mcontext.gregs[REG_RIP])
#elif defined(__i386__)
#define INTERRUPTED(context) ((uintptr_t)(context)->uc_mcontext.gregs[REG_EIP])
#elif defined(__aarch64__)
#define INTERRUPTED(context) ((uintptr_t)(context)->uc_mcontext.pc)
#elif defined(__arm__)
#define INTERRUPTED(context) ((uintptr_t)(context)->uc_mcontext.arm_pc)
#elif defined(__riscv) && defined(__GLIBC__)
#define INTERRUPTED(context) ((uintptr_t)(context)->uc_mcontext.__gregs[REG_PC])
#elif defined(__s390x__)
#define INTERRUPTED(context) ((uintptr_t)(context)->uc_mcontext.psw.addr)
#endif

#ifdef INTERRUPTED

enum { KEPT = 24, THREADS = 4, FAST_PATH = 512, PATIENCE = 200 };

struct mode {
	int mode;
	int harden;
};

static const struct mode modes[] = {
	{OS_MODE_EXACT, 0}, {OS_MODE_FAST, 0}, {OS_MODE_FAST, 1},
	{OS_MODE_AUTO, 0}};

enum { MODES = sizeof(modes) / sizeof(modes[0]) };

/* What the handlers of a thread keep from one to the next. */
struct keeper {
	unsigned char *blocks[KEPT];
	size_t sizes[KEPT];
	size_t next;
	uint64_t state;
	atomic_size_t runs;
	size_t failures;
	_Atomic(void *) gift; /* of the program's, for a handler to free */
};

static __thread struct keeper *keeper;

enum { LARGE = 200000 };

/* Not a handler's: looked at by all of them. */
static char *large;

static size_t draw(struct keeper *k, size_t limit)
{
	k->state = k->state * UINT64_C(6364136223846793005) + 1;
	return (size_t)((k->state >> 33) % limit);
}

static unsigned char tag_of(size_t i)
{
	return (unsigned char)(i * 37 + 1);
}

static void drop(struct keeper *k, size_t i)
{
	if (k->blocks[i] == NULL)
		return;
	MUST(workload_holds(k->blocks[i], k->sizes[i], tag_of(i),
			    k->sizes[i]));
	MUST(os_malloc_usable_size(k->blocks[i]) >= k->sizes[i]);
	os_free(k->blocks[i]);
	k->blocks[i] = NULL;
}

static void *make(struct keeper *k, size_t size)
{
	void *p;

	switch (draw(k, 4)) {
	case 0:
		p = os_calloc(1, size);
		MUST(p == NULL || *(char *)p == 0);
		return p;
	case 1:
		p = os_aligned_alloc(512, size);
		MUST((uintptr_t)p % 512 == 0);
		return p;
	default:
		return os_malloc(size);
	}
}

/* What a handler does: errno is as POSIX wants it of one. */
static void handle(struct keeper *k)
{
	size_t i = k->next++ % KEPT;
	size_t size = 1 + draw(k, draw(k, 8) == 0 ? 6000 : 500);
	unsigned char *p;
	size_t looked = os_malloc_usable_size(large);
	int saved = errno;

	MUST(looked == 0 || looked >= LARGE);
	/* Nothing of a large hardened block can be looked at: it stays. */
	if (looked == 0)
		MUST(os_realloc(large, LARGE + 1) == NULL && errno == ENOMEM);
	k->runs++;
	os_free(atomic_exchange(&k->gift, NULL));
	drop(k, i);
	p = make(k, size);
	if (p == NULL) {
		MUST(errno == ENOMEM);
		k->failures++;
	} else {
		workload_fill(p, size, tag_of(i));
		k->blocks[i] = p;
		k->sizes[i] = size;
		size += draw(k, 600);
		p = os_realloc(p, size);
		if (p != NULL) {
			MUST(workload_holds(p, k->sizes[i], tag_of(i),
					    k->sizes[i]));
			workload_fill(p, size, tag_of(i));
			k->blocks[i] = p;
			k->sizes[i] = size;
		}
	}
	errno = saved;
}

static void choose(const struct mode *mode)
{
	MUST(os_mallopt(OS_M_MODE, mode->mode) == 1);
	MUST(os_mallopt(OS_M_HARDEN, mode->harden) == 1);
	large = os_malloc(LARGE);
	MUST(large != NULL);
}

/* In a child: fn chooses a mode of its own. */
static void in_each_mode(void (*fn)(void *mode))
{
	struct child child;
	size_t i;

	for (i = 0; i < MODES; i++) {
		child_run(&child, fn, (void *)(uintptr_t)&modes[i]);
		if (child_succeeded(&child))
			continue;
		child_show(&child);
		dprintf(STDERR_FILENO, "mode %d, harden %d\n", modes[i].mode,
			modes[i].harden);
		MUST(!"handlers that allocate");
	}
}

/* What the bins of a thread are on the fast path nobody can say. */
static bool on_fast_path(const ucontext_t *context)
{
	const uintptr_t functions[] = {
		(uintptr_t)os_malloc,	     (uintptr_t)os_free,
		(uintptr_t)os_calloc,	     (uintptr_t)os_aligned_alloc,
		(uintptr_t)os_memalign,	     (uintptr_t)os_realloc,
		(uintptr_t)osmem_core_alloc, (uintptr_t)osmem_core_realloc};
	uintptr_t pc = INTERRUPTED(context);
	uintptr_t near = FAST_PATH;
	size_t i;

	/* And what is in line in them, or near; sanitizers add much to them. */
	if (child_is_sanitized())
		near *= 8;
	for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (pc - functions[i] + near < 2 * near)
			return true;
	return false;
}

/* --- after every instruction --- */

#ifdef TRAP_EXISTS

static void on_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	if (!on_fast_path(context))
		handle(keeper);
}

static void trap_off_at_exit(void *unused)
{
	(void)unused;
	trap_off();
}

static void one_map(void)
{
	trap_block = os_malloc(500000);
}

static void take_class(void)
{
	trap_block = os_malloc(300);
}

static void one_trim(void)
{
	os_malloc_trim(0);
}

static void one_check(void)
{
	MUST_EQ(os_heap_check(), 0);
}

static void (*const operations[])(void) = {
	trap_malloc, trap_free,	   one_map,   trap_realloc, trap_free,
	trap_malloc, trap_realloc, one_trim,  one_check,    trap_free,
	trap_malloc, trap_free};

enum { OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

static void trace_all(void *arg)
{
	static struct keeper mine;
	char *guards[200];
	size_t i;

	choose(arg);
	keeper = &mine;
	alarm(PATIENCE);
	for (i = 0; i < 200; i++) {
		guards[i] = os_malloc(i + 1);
		MUST(guards[i] != NULL);
		memset(guards[i], 'g', i + 1);
	}
	for (i = 0; i < OPERATIONS; i++) {
		mine.gift = os_malloc(1000 + i);
		trap_all(on_trap, operations[i]);
	}
	MUST(mine.runs > 1000);
	for (i = 0; i < KEPT; i++)
		drop(&mine, i);
	for (i = 0; i < 200; i++) {
		MUST(guards[i][0] == 'g' && guards[i][i] == 'g');
		os_free(guards[i]);
	}
	MUST_EQ(os_heap_check(), 0);
	dprintf(STDOUT_FILENO, "nested: %zu handlers, %zu failed\n", mine.runs,
		mine.failures);
}

/* --- after every instruction of a thread's end --- */

static pthread_key_t last_key;

static void *end_traced(void *mine)
{
	int i;

	keeper = mine;
	for (i = 0; i < 1000; i++)
		os_free(os_malloc((size_t)(i % 100 * 10 + 1)));
	pthread_setspecific(last_key, mine);
	trap_on(on_trap);
	return NULL;
}

static void trace_end(void *arg)
{
	static struct keeper mine;
	pthread_t thread;
	size_t i;

	choose(arg);
	alarm(PATIENCE);
	/* So that both of the library's keys are older than this one. */
	for (i = 0; i < 1000; i++)
		os_free(os_malloc(100));
	MUST(pthread_key_create(&last_key, trap_off_at_exit) == 0);
	MUST(pthread_create(&thread, NULL, end_traced, &mine) == 0);
	MUST(pthread_join(thread, NULL) == 0);
	MUST(mine.runs != 0);
	for (i = 0; i < KEPT; i++)
		drop(&mine, i);
	MUST_EQ(os_heap_check(), 0);
	dprintf(STDOUT_FILENO, "nested: %zu handlers at a thread's end\n",
		mine.runs);
}

/* --- a report in the middle of it --- */

static void on_abort(int signal)
{
	char *p = os_malloc(5000);

	(void)signal;
	MUST(p != NULL);
	memset(p, 1, 5000);
	os_free(p);
	dprintf(STDERR_FILENO, "the handler is through\n");
}

static char *volatile no_block = osmem_nested_area + 8;

static void free_under_a_lock(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	(void)context;
	if (osmem_lock_is_mine(&osmem_thread_mine->lock))
		os_free(no_block);
}

static void report_under_a_lock(void *unused)
{
	(void)unused;
	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	signal(SIGABRT, on_abort);
	os_free(os_malloc(100));
	trap_all(free_under_a_lock, take_class);
}

/* --- while another thread's blocks are freed --- */

enum { HANDED = 40 };

static char *handed[HANDED];
static char *gift;
static sem_t is_handed, may_end;

static void *hand_over(void *unused)
{
	size_t i;

	for (i = 0; i < HANDED; i++)
		MUST((handed[i] = os_malloc(2000)) != NULL);
	sem_post(&is_handed);
	sem_wait(&may_end);
	return unused;
}

static void free_gift(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	(void)context;
	if (gift == NULL || osmem_thread_self != &osmem_thread_busy)
		return;
	os_free(gift);
	gift = NULL;
}

/* What a handler frees must not wait for another kind of slow path. */
static void free_what_others_made(void *unused)
{
	pthread_t thread;
	size_t taken = 0;
	size_t i;

	(void)unused;
	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	sem_init(&is_handed, 0, 0);
	sem_init(&may_end, 0, 0);
	MUST(pthread_create(&thread, NULL, hand_over, NULL) == 0);
	sem_wait(&is_handed);
	for (i = 0; i < HANDED; i++) {
		gift = os_malloc(100);
		trap_block = handed[i];
		trap_all(free_gift, trap_free);
		MUST_EQ(atomic_load(&osmem_nested_waiting), 0);
		taken += gift == NULL;
		os_free(gift);
	}
	MUST(taken != 0);
	sem_post(&may_end);
	pthread_join(thread, NULL);
	MUST_EQ(os_heap_check(), 0);
}

START_TEST(frees_of_blocks_of_others)
{
	struct child child;

	if (child_is_sanitized() || !OSMEM_CONF_THREADS)
		return;
	child_run(&child, free_what_others_made, NULL);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
}
END_TEST

START_TEST(reports_by_handlers)
{
	struct child child;

	if (child_is_sanitized() || !OSMEM_CONF_THREADS)
		return;
	child_run(&child, report_under_a_lock, NULL);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, "no block of this allocator") != NULL);
	MUST(strstr(child.text, "the handler is through") != NULL);
	MUST(strstr(child.text, "inside an allocation") == NULL);
}
END_TEST

START_TEST(every_instruction)
{
	if (!child_is_sanitized())
		in_each_mode(trace_all);
}
END_TEST

START_TEST(the_end_of_a_thread)
{
	if (!child_is_sanitized() && OSMEM_CONF_THREADS)
		in_each_mode(trace_end);
}
END_TEST

#endif

/* --- by signals to threads --- */

static struct keeper keepers[THREADS];
static atomic_bool stop;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	if (keeper != NULL && !on_fast_path(context))
		handle(keeper);
}

/* The slow paths: mappings, growth, trimming, looking; and full bins. */
static void *work(void *arg)
{
	struct keeper *mine = arg;
	static _Atomic(void *) shared[64];
	struct workload w;
	void *burst[300];
	size_t i;

	keeper = mine;
	workload_start(&w, (uintptr_t)(mine - keepers) + 1);
	w.may_fail = true;
	while (!stop) {
		for (i = 0; i < 20; i++)
			workload_step(&w);
		for (i = 0; i < 300; i++)
			burst[i] = os_malloc(1 + i * 7 % 900);
		for (i = 0; i < 300; i++)
			os_free(atomic_exchange(&shared[i % 64], burst[i]));
		os_free(atomic_exchange(&mine->gift, os_malloc(700)));
	}
	keeper = NULL;
	workload_finish(&w);
	os_free(atomic_exchange(&mine->gift, NULL));
	for (i = 0; i < 64; i++)
		os_free(atomic_exchange(&shared[i], NULL));
	for (i = 0; i < KEPT; i++)
		drop(mine, i);
	return NULL;
}

static size_t runs_of_all(void)
{
	size_t runs = 0;
	size_t i;

	for (i = 0; i < THREADS; i++)
		runs += keepers[i].runs;
	return runs;
}

/* For some seconds, and until it was worth it: a machine may be busy. */
static void signal_threads(void *arg)
{
	struct sigaction action = {.sa_sigaction = on_signal,
				   .sa_flags = SA_SIGINFO | SA_RESTART};
	size_t seconds = workload_number("OSMEM_TEST_SECONDS", 2);
	pthread_t threads[THREADS];
	time_t end;
	size_t i;

	choose(arg);
	alarm((unsigned)seconds + PATIENCE);
	MUST(sigaction(SIGUSR1, &action, NULL) == 0);
	for (i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, work, &keepers[i]) ==
		     0);
	end = time(NULL) + (time_t)seconds;
	while (time(NULL) < end || runs_of_all() <= 100)
		for (i = 0; i < THREADS; i++) {
			pthread_kill(threads[i], SIGUSR1);
			usleep(20);
		}
	stop = true;
	for (i = 0; i < THREADS; i++)
		MUST(pthread_join(threads[i], NULL) == 0);
	MUST_EQ(os_heap_check(), 0);
	dprintf(STDOUT_FILENO, "nested: %zu signals\n", runs_of_all());
}

START_TEST(threads)
{
	if (OSMEM_CONF_THREADS)
		in_each_mode(signal_threads);
}
END_TEST

#endif

int main(void)
{
	Suite *suite = suite_create("nested");
	TCase *tcase = tcase_create("nested");

	tcase_set_timeout(tcase, 0);
#ifdef TRAP_EXISTS
	tcase_add_test(tcase, every_instruction);
	tcase_add_test(tcase, the_end_of_a_thread);
	tcase_add_test(tcase, frees_of_blocks_of_others);
	tcase_add_test(tcase, reports_by_handlers);
#endif
#ifdef INTERRUPTED
	tcase_add_test(tcase, threads);
#endif
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
