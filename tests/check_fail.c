/* SPDX-License-Identifier: MIT */
/*
 * check_fail.c - allocations that fail because os_set_fault() or the option
 * fail says so: which calls, how they fail, and how they are counted.
 *
 * In each mode: exact has no fast path, in fast all is about going around it.
 */
#include <config.h>

#include "child.h"
#include "must.h"
#include "stats_now.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MODES = 3, THREADS = 8, THREAD_CALLS = 7000, UNTOUCHED = 4242 };

static void *kept[5000];

static void set(const char *rule)
{
	MUST(os_set_fault(rule) == 0);
}

/* The mode, and full lists of free slots where there are any. */
static void start(int mode)
{
	size_t i;

	MUST(os_mallopt(OS_M_MODE, mode) == 1);
	for (i = 0; i < 1000; i++)
		kept[i] = os_malloc(1 + i % 200);
	for (i = 0; i < 1000; i++)
		os_free(kept[i]);
}

/* Whether os_malloc failed as it should, or else worked. */
static bool malloc_fails(size_t size)
{
	unsigned char *p;

	errno = UNTOUCHED;
	p = os_malloc(size);
	MUST_EQ(errno, p == NULL ? ENOMEM : UNTOUCHED);
	if (p != NULL)
		memset(p, 0xa5, size);
	os_free(p);
	return p == NULL;
}

START_TEST(the_nth_call_fails_once)
{
	unsigned int n;

	start(_i);
	for (n = 1; n < 40; n += 3) {
		char rule[32];

		snprintf(rule, sizeof(rule), "nth:%u", n);
		set(rule);
		for (unsigned int call = 1; call <= 100; call++)
			MUST_EQ(malloc_fails(call * 7 % 300 + 1), call == n);
		MUST_EQ(stats_now().fault_calls, 100);
		MUST_EQ(stats_now().faults, 1);
	}
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

START_TEST(each_nth_call_fails)
{
	unsigned int call;

	start(_i);
	set("every:3");
	for (call = 1; call <= 3000; call++)
		MUST_EQ(malloc_fails(call % 5000 + 1), call % 3 == 0);
	MUST_EQ(stats_now().faults, 1000);
}
END_TEST

START_TEST(nothing_fails_when_it_is_off)
{
	unsigned int call;

	start(_i);
	set("every:1");
	MUST(malloc_fails(10));
	set(_i == 0 ? NULL : "no");
	for (call = 0; call < 1000; call++)
		MUST(!malloc_fails(call + 1));
	MUST_EQ(stats_now().fault_calls, 1);
	MUST_EQ(stats_now().faults, 1);
	set("nth:2");
	MUST(!malloc_fails(10) && malloc_fails(10) && !malloc_fails(10));
	MUST_EQ(stats_now().fault_calls, 3);
}
END_TEST

/* --- which calls --- */

/* Each allocating call once. NULL in *out, or the block. */
static bool call_number(unsigned int which, void *block, void **out)
{
	int result;

	*out = NULL;
	switch (which) {
	case 0:
		*out = os_malloc(100);
		break;
	case 1:
		*out = os_calloc(10, 10);
		break;
	case 2:
		*out = os_realloc(NULL, 100);
		break;
	case 3:
		*out = os_aligned_alloc(64, 100);
		break;
	case 4:
		*out = os_memalign(100, 100);
		break;
	case 5:
		result = os_posix_memalign(out, 64, 100);
		MUST_EQ(result, *out == NULL ? ENOMEM : 0);
		break;
	case 6:
		*out = os_strdup("some text");
		break;
	case 7:
		*out = os_strndup("some text", 4);
		break;
	case 8:
		*out = os_malloc(1000000);
		break;
	case 9:
		*out = os_calloc(1, 1000000);
		break;
	case 10: /* from here on the block moves, or stays */
		*out = os_realloc(block, 100000);
		break;
	case 11:
		*out = os_realloc(block, 10);
		break;
	case 12:
		*out = os_realloc(block, 1000);
		break;
	case 13:
		*out = os_reallocarray(block, 300, 1000);
		break;
	default:
		return false;
	}
	return true;
}

static void *new_block(void)
{
	void *p;

	set("no");
	p = os_malloc(1000);
	MUST(p != NULL);
	workload_fill(p, 1000, 7);
	return p;
}

/* The call of a number, with a block of its own; false if there is none. */
static bool try_call(unsigned int number, const char *rule, void **block,
		     void **p)
{
	*block = new_block();
	set(rule);
	errno = UNTOUCHED;
	return call_number(number, *block, p);
}

START_TEST(each_call_counts_once)
{
	unsigned int i;
	void *block;
	void *p;

	start(_i);
	for (i = 0; try_call(i, "every:2", &block, &p); i++) {
		MUST(p != NULL);
		MUST_EQ(stats_now().fault_calls, 1);
		os_free(p);
		if (i < 10)
			os_free(block);
	}
	MUST_EQ(i, 14);
}
END_TEST

START_TEST(each_call_can_fail)
{
	unsigned int i;
	void *block;
	void *p;

	start(_i);
	for (i = 0; try_call(i, "every:1", &block, &p); i++) {
		MUST(p == NULL);
		MUST_EQ(errno, ENOMEM);
		MUST_EQ(stats_now().faults, 1);
		MUST(workload_holds(block, 1000, 7, 1000));
		os_free(block);
	}
	MUST_EQ(i, 14);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* A size that the compiler does not know. */
static volatile size_t none, huge = SIZE_MAX;

START_TEST(what_allocates_nothing_is_not_counted)
{
	void *p;

	start(_i);
	p = new_block();
	set("every:1");
	errno = UNTOUCHED;
	MUST(os_malloc(none) == NULL && os_calloc(none, 5) == NULL);
	MUST(os_aligned_alloc(64, none) == NULL);
	MUST(os_realloc(p, none) == NULL && os_realloc(NULL, none) == NULL);
	os_free(NULL);
	MUST_EQ(errno, UNTOUCHED);
	MUST(os_calloc(huge, 2) == NULL);
	MUST(os_aligned_alloc(3, 10) == NULL);
	MUST_EQ(errno, EINVAL);
	MUST_EQ(stats_now().fault_calls, 0);
}
END_TEST

/* --- rules --- */

START_TEST(a_bad_rule_changes_nothing)
{
	static const char *const bad[] = {"", "off", "nth", "nth:0", "nth:-1",
					  "every:0", "p=0", "p=2", "p=0.5:x",
					  "nth:1 ", "no,no", "nth:2147483648"};
	size_t i;

	set("nth:3");
	MUST(!malloc_fails(10));
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		errno = 0;
		MUST(os_set_fault(bad[i]) == -1);
		MUST_EQ(errno, EINVAL);
	}
	MUST(os_mallopt(OS_M_HARDEN + 1, 0) == 0);
	MUST_EQ(errno, EINVAL);
	MUST(!malloc_fails(10) && malloc_fails(10));
}
END_TEST

/* How many of the calls fail, and a sum that tells which. */
static unsigned int failures_of(const char *rule, unsigned long *which)
{
	unsigned int n = 0;

	*which = 0;
	set(rule);
	for (unsigned long call = 1; call <= 100000; call++) {
		if (!malloc_fails(10))
			continue;
		n++;
		*which = *which * 31 + call;
	}
	return n;
}

START_TEST(a_seed_names_a_sequence)
{
	unsigned long which[4];
	unsigned int n;

	start(_i);
	n = failures_of("p=0.01:7", &which[0]);
	/* Ten standard deviations. */
	MUST(n > 685 && n < 1315);
	MUST_EQ(failures_of("p=0.01:7", &which[1]), n);
	MUST_EQ(which[0], which[1]);
	failures_of("p=0.01:8", &which[2]);
	MUST(which[2] != which[0]);
	n = failures_of("p=0.75", &which[3]);
	MUST(n > 73600 && n < 76400);
	MUST_EQ(failures_of("p=1", &which[3]), 100000);
	MUST(failures_of("p=0.000000001", &which[3]) < 2);
}
END_TEST

/* --- threads, and the environment --- */

static void *run_thread(void *arg)
{
	size_t *failures = arg;
	size_t i;

	for (i = 0; i < THREAD_CALLS; i++)
		*failures += malloc_fails(1 + i * 37 % 4000);
	return NULL;
}

START_TEST(threads_share_the_count)
{
	size_t failures[THREADS] = {0}, all = 0, i;
	pthread_t threads[THREADS];

	start(_i);
	set("every:7");
	for (i = 0; i < THREADS; i++)
		MUST(pthread_create(&threads[i], NULL, run_thread,
				    &failures[i]) == 0);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		all += failures[i];
	}
	MUST_EQ(stats_now().fault_calls, THREADS * THREAD_CALLS);
	MUST_EQ(all, THREADS * THREAD_CALLS / 7);
	MUST_EQ(stats_now().faults, all);
	set("no");
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* In a program of its own: the third allocation of all fails. */
static int run_alone(void)
{
	MUST(!malloc_fails(100) && !malloc_fails(200));
	MUST(malloc_fails(100) && !malloc_fails(100));
	return 0;
}

START_TEST(the_environment_has_the_rule)
{
	static const char *const options[] = {
		"OSMEM_OPTIONS=fail=nth:3,mode=exact",
		"OSMEM_OPTIONS=mode=auto,fail=nth:1,fail=nth:3",
		"OSMEM_OPTIONS=mode=fast,hot_after=1,fail=nth:3"};
	struct child child;

	child_exec(&child, "alone", options[_i], NULL);
	if (!child_succeeded(&child))
		child_show(&child);
	ck_assert(child_succeeded(&child));
	child_exec(&child, "alone", NULL, NULL);
	ck_assert(!child_succeeded(&child));
}
END_TEST

/* --- counts in a file, as osmem torture wants them --- */

static char counts[] = "/tmp/check_fail.XXXXXX";

static void name_file(void)
{
	setenv("OSMEM_FAIL_FILE", counts, 1);
}

static void name_no_file(void)
{
	setenv("OSMEM_FAIL_FILE", "/nonexistent/file", 1);
}

/* A child's allocations are neither counted nor do they fail. */
static int run_shared(void)
{
	int status = 1;
	pid_t pid = fork();
	int i;

	for (i = 0; pid == 0 && i < 5; i++)
		MUST(!malloc_fails(100));
	if (pid == 0)
		_exit(0);
	MUST(waitpid(pid, &status, 0) == pid && status == 0);
	return run_alone();
}

/* What the file begins with when the program has ended. */
static char state_after(const char *options)
{
	struct child child;
	char state = 0;
	int fd = mkstemp(counts);

	MUST(fd >= 0);
	child_exec(&child, "shared", options, name_file);
	MUST(read(fd, &state, 1) == 1);
	close(fd);
	unlink(counts);
	memcpy(strrchr(counts, '.'), ".XXXXXX", 7);
	/* Only where the third fails is it as it should be. */
	MUST(child_succeeded(&child) == (strstr(options, "nth:3") != NULL));
	return state;
}

START_TEST(the_count_can_be_in_a_file)
{
	static const char *const options[] = {
		"OSMEM_OPTIONS=fail=nth:3,mode=exact",
		"OSMEM_OPTIONS=fail=nth:9,mode=exact",
		"OSMEM_OPTIONS=fail=nth:3,mode=fast"};
	struct child child;

	MUST(state_after(options[0]) == 'f');
	MUST(state_after(options[1]) == 'r');
	MUST(state_after(options[2]) == 'f');
	/* Without a file nothing fails, and that is said. */
	child_exec(&child, "shared", options[0], name_no_file);
	MUST(!child_succeeded(&child));
	MUST(strstr(child.text, "mmap of a file") != NULL);
}
END_TEST

static Suite *fail_suite(void)
{
	const TTest *const tests[] = {
		the_nth_call_fails_once,
		each_nth_call_fails,
		nothing_fails_when_it_is_off,
		each_call_counts_once,
		each_call_can_fail,
		what_allocates_nothing_is_not_counted,
		a_seed_names_a_sequence,
		the_environment_has_the_rule,
	};
	Suite *suite = suite_create("fail");
	TCase *tcase = tcase_create("fail");
	size_t i;

	tcase_set_timeout(tcase, 120);
	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_loop_test(tcase, tests[i], 0, MODES);
	if (OSMEM_CONF_THREADS)
		tcase_add_loop_test(tcase, threads_share_the_count, 0, MODES);
	tcase_add_test(tcase, a_bad_rule_changes_nothing);
	tcase_add_test(tcase, the_count_can_be_in_a_file);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "alone") == 0)
		return run_alone();
	if (argc == 2 && strcmp(argv[1], "shared") == 0)
		return run_shared();
	return suite_run(fail_suite());
}
