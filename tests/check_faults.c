/* SPDX-License-Identifier: MIT */
/*
 * check_faults.c - system calls that fail: nothing may be lost.
 *
 * Under random operations with checked payloads, the Nth call of each kind
 * fails, or all from the Nth on: a request may come back empty-handed, with
 * ENOMEM, but every block stays what and where it is. The program runs itself
 * again (child_exec) for what happens before main().
 */
#include <config.h>

#include "child.h"
#include "die.h"
#include "faults.h"
#include "must.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { LAST_NTH = 50, STEPS = 1500, MANY = 60000 };

struct plan {
	unsigned set;
	unsigned long nth;
	bool on;
};

static void run(void (*fn)(void *arg), void *arg)
{
	struct child child;

	child_run(&child, fn, arg);
	if (child_succeeded(&child))
		return;
	child_show(&child);
	MUST(!"a child that succeeds");
}

/* A process costs an emulator a hundred times as much. */
static unsigned long at_most(unsigned long usual)
{
	return child_is_emulated() ? 2 : usual;
}

/* os_free of what is used afterwards: the compiler must not see it. */
static void (*volatile give_back)(void *p) = os_free;

/* --- every Nth call --- */

static void work(size_t steps, uint64_t seed)
{
	struct workload w;
	size_t i;

	workload_start(&w, seed);
	w.may_fail = true;
	for (i = 0; i < steps; i++) {
		workload_step(&w);
		if (i % 500 == 0)
			workload_verify(&w);
	}
	workload_verify(&w);
	/* When the system gives again, everything works again. */
	faults_disarm();
	w.may_fail = false;
	for (i = 0; i < steps / 2; i++)
		workload_step(&w);
	workload_finish(&w);
}

static void work_with_plan(void *arg)
{
	const struct plan *plan = arg;

	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	faults_arm(plan->set, plan->nth, plan->on);
	work(STEPS, plan->nth);
}

static void try_all_nth(unsigned set)
{
	struct plan plan = {.set = set};
	int on;

	for (on = 0; on < 2; on++)
		for (plan.nth = 1; plan.nth <= at_most(LAST_NTH); plan.nth++) {
			plan.on = on != 0;
			run(work_with_plan, &plan);
		}
}

START_TEST(map)
{
	try_all_nth(FAULTS_SET(FAULTS_MAP));
}
END_TEST

START_TEST(unmap)
{
	try_all_nth(FAULTS_SET(FAULTS_UNMAP));
}
END_TEST

START_TEST(grow_break)
{
	try_all_nth(FAULTS_SET(FAULTS_GROW_BREAK));
}
END_TEST

START_TEST(purge)
{
	try_all_nth(FAULTS_SET(FAULTS_PURGE));
}
END_TEST

START_TEST(any_call)
{
	try_all_nth(FAULTS_ALL);
}
END_TEST

/* --- the allocator's own tables --- */

static unsigned char *many[MANY];

/* So many free blocks that the tables must grow. */
static void crowd(void *arg)
{
	const struct plan *plan = arg;
	size_t got = 0;
	size_t i;

	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	if (plan != NULL)
		faults_arm(plan->set, plan->nth, plan->on);
	for (i = 0; i < MANY; i++) {
		many[i] = os_malloc(16);
		if (many[i] == NULL)
			continue;
		got++;
		workload_fill(many[i], 16, (unsigned char)i);
	}
	MUST(got > MANY / 2);
	for (i = 0; i < MANY; i += 2)
		os_free(many[i]);
	MUST_EQ(os_heap_check(), 0);
	for (i = 0; i < MANY; i += 2)
		many[i] = os_malloc(16 + i % 3 * 16);
	MUST_EQ(os_heap_check(), 0);
	for (i = 1; i < MANY; i += 2)
		MUST(many[i] == NULL ||
		     workload_holds(many[i], 16, (unsigned char)i, 16));
	for (i = 0; i < MANY; i++)
		os_free(many[i]);
	MUST_EQ(os_heap_check(), 0);
	if (plan != NULL && plan->set == FAULTS_SET(FAULTS_COMMIT))
		MUST(faults_refused() > 0);
	faults_disarm();
	work(STEPS, 7);
}

START_TEST(commit)
{
	struct plan plan = {.set = FAULTS_SET(FAULTS_COMMIT)};
	int on;

	for (on = 0; on < 2; on++)
		for (plan.nth = 1; plan.nth <= 3; plan.nth++) {
			plan.on = on != 0;
			run(crowd, &plan);
		}
}
END_TEST

static void run_self(const char *argument, const char *environment,
		     void (*prepare)(void))
{
	struct child child;

	child_exec(&child, argument, environment, prepare);
	if (child_succeeded(&child))
		return;
	dprintf(STDERR_FILENO, "%s with %s:\n", argument,
		environment != NULL ? environment : "nothing");
	child_show(&child);
	MUST(!"a program that succeeds");
}

/* The very first calls, made before main(). */
START_TEST(before_main)
{
	static const char *const arguments[] = {"work", "crowd"};
	char plan[100];
	unsigned nth;
	int on;
	size_t i;

	for (i = 0; i < 2; i++)
		for (on = 0; on < 2; on++)
			for (nth = 1; nth <= at_most(10); nth++) {
				snprintf(plan, sizeof(plan), "%s=%u,%u,%d",
					 FAULTS_ENVIRONMENT,
					 FAULTS_SET(FAULTS_RESERVE) |
						 FAULTS_SET(FAULTS_COMMIT),
					 nth, on);
				run_self(arguments[i], plan, NULL);
			}
}
END_TEST

/* --- rule 24, and one by one --- */

START_TEST(a_refused_break_is_a_mapping)
{
	struct os_stats stats = {.struct_size = sizeof(stats)};
	char *p;

	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	faults_arm(FAULTS_SET(FAULTS_GROW_BREAK), 1, true);
	p = os_malloc(100);
	MUST(p != NULL);
	memset(p, 1, 100);
	MUST(os_stats(&stats) == 0);
	MUST(stats.mapped_blocks == 1 && stats.heap_bytes == 0);
	p = os_realloc(p, 3000);
	MUST(p != NULL && p[0] == 1 && p[99] == 1);
	faults_disarm();
	p = os_realloc(p, 4000);
	MUST(p != NULL && p[0] == 1 && p[99] == 1);
	MUST(os_stats(&stats) == 0);
	MUST(stats.mapped_blocks == 0 && stats.heap_used_blocks == 1);
	os_free(p);
	MUST(stats.failures >= 2);
}
END_TEST

START_TEST(what_munmap_refuses_is_used_again)
{
	unsigned long maps;
	unsigned char *p = os_malloc(300000);
	unsigned char *q;
	size_t i;

	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	memset(p, 0xff, 300000);
	faults_arm(FAULTS_SET(FAULTS_UNMAP), 1, true);
	give_back(p);
	MUST_EQ(faults_refused(), 1);
	maps = faults_calls(FAULTS_SET(FAULTS_MAP));
	q = os_calloc(250000, 1);
	MUST(q == p);
	MUST_EQ(faults_calls(FAULTS_SET(FAULTS_MAP)), maps);
	for (i = 0; i < 250000; i++)
		MUST(q[i] == 0);
	/* Kept a second time, and given back at last, whole. */
	give_back(q);
	q = os_aligned_alloc(16384, 200000);
	MUST((char *)q > (char *)p - 4096 && (char *)q < (char *)p + 300000);
	faults_disarm();
	give_back(q);
	MUST_EQ(os_heap_check(), 0);
	p = os_malloc(300000);
	MUST(p != NULL);
	MUST_EQ(faults_calls(FAULTS_SET(FAULTS_MAP)), maps + 1);
}
END_TEST

/* A kept mapping that does not fit, and that no munmap makes room of. */
START_TEST(what_is_evicted_in_vain_is_used)
{
	char *p;
	int i;

	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	for (i = 0; i < 100; i++)
		os_free(os_malloc(200000));
	p = os_malloc(900000);
	/* In exact mode this is refused, else what makes room for the next. */
	faults_arm(FAULTS_SET(FAULTS_UNMAP), 1, true);
	os_free(p);
	faults_arm(FAULTS_SET(FAULTS_UNMAP) | FAULTS_SET(FAULTS_MAP), 1, true);
	p = os_malloc(400000);
	MUST(p != NULL);
	memset(p, 'p', 400000);
	faults_disarm();
	os_free(p);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* Rule 25 among hardened mappings. */
static void keep_what_munmap_refuses(void *level)
{
	enum { BLOCKS = 300, SIZE = 200000 };
	static char *blocks[BLOCKS];
	int i;

	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	/* Exact mode is never hardened. */
	MUST(os_mallopt(OS_M_MODE, OS_MODE_AUTO) == 1);
	MUST(os_mallopt(OS_M_HARDEN, *(int *)level) == 1);
	for (i = 0; i < BLOCKS; i++) {
		blocks[i] = os_malloc(SIZE);
		MUST(blocks[i] != NULL);
		memset(blocks[i], 'x', SIZE);
	}
	faults_arm(FAULTS_SET(FAULTS_UNMAP), 1, true);
	for (i = 0; i < BLOCKS; i++)
		os_free(blocks[i]);
	faults_arm(FAULTS_SET(FAULTS_UNMAP) | FAULTS_SET(FAULTS_MAP) |
			   FAULTS_SET(FAULTS_RESERVE),
		   1, true);
	for (i = 0; i < BLOCKS; i++) {
		blocks[i] = os_malloc(SIZE - i);
		MUST(blocks[i] != NULL && blocks[i][0] == 0);
		MUST(*(int *)level == 1 || blocks[i][SIZE / 2] == 0);
		memset(blocks[i], 'y', (size_t)(SIZE - i));
	}
	faults_disarm();
	MUST_EQ(os_heap_check(), 0);
	for (i = 0; i < BLOCKS; i++)
		os_free(blocks[i]);
	MUST_EQ(os_heap_check(), 0);
}

START_TEST(what_munmap_refuses_is_used_again_when_hardened)
{
	struct child child;
	int level;

	for (level = 1; level <= 2; level++) {
		child_run(&child, keep_what_munmap_refuses, &level);
		if (!child_succeeded(&child))
			child_show(&child);
		MUST(child_succeeded(&child));
	}
}
END_TEST

/* Rule 20c with no room to leave to: the block is its old self, but larger. */
START_TEST(a_failed_realloc_may_have_swallowed)
{
	char *p = os_malloc(1000);
	char *q = os_malloc(2000);
	char *guard = os_malloc(126000);

	MUST(guard != NULL && os_mallopt(OS_M_WARN, 0) == 1);
	memset(p, 'p', 1000);
	os_free(q);
	faults_arm(FAULTS_ALL, 1, true);
	errno = 0;
	MUST(os_realloc(p, 60000) == NULL && errno == ENOMEM);
	MUST(p[0] == 'p' && p[999] == 'p');
	MUST_EQ(os_heap_check(), 0);
	/* The program knows but the size that it asked for. */
	os_free_sized(p, 1000);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* Locked pages: the first refusal says enough. */
START_TEST(a_refused_purge_is_the_last_but_for_a_trim)
{
	enum { BLOCKS = 40000, KEPT = 200 };
	static void *blocks[BLOCKS];
	int round;
	size_t i;

	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	faults_arm(FAULTS_SET(FAULTS_PURGE), 1, true);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < BLOCKS; i++)
			if (blocks[i] == NULL)
				blocks[i] = os_malloc(500);
		for (i = 0; i < BLOCKS; i++)
			if (i % KEPT != 0) {
				os_free(blocks[i]);
				blocks[i] = NULL;
			}
	}
	MUST_EQ(faults_refused(), 1);
	MUST_EQ(os_malloc_trim(0), 1);
	MUST_EQ(faults_refused(), 2);
	faults_disarm();
	MUST_EQ(os_malloc_trim(0), 1);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* --- the options --- */

static void map_refused(void *unused)
{
	(void)unused;
	faults_arm(FAULTS_SET(FAULTS_MAP), 1, true);
	errno = 0;
	MUST(os_malloc(200000) == NULL && errno == ENOMEM);
}

static void unmap_refused(void *unused)
{
	void *p = os_malloc(200000);

	(void)unused;
	faults_arm(FAULTS_SET(FAULTS_UNMAP), 1, true);
	os_free(p);
}

static void purge_refused(void *unused)
{
	void *blocks[3];
	int i;

	(void)unused;
	for (i = 0; i < 3; i++)
		blocks[i] = os_malloc(100000);
	for (i = 0; i < 3; i++)
		os_free(blocks[i]);
	/* They become one block, which has whole pages, however large. */
	MUST(os_malloc(100000) != NULL);
	faults_arm(FAULTS_SET(FAULTS_PURGE), 1, true);
	MUST_EQ(os_malloc_trim(0), 0);
}

static void break_refused(void *unused)
{
	(void)unused;
	faults_arm(FAULTS_SET(FAULTS_GROW_BREAK), 1, true);
	MUST(os_malloc(100) != NULL);
}

static const struct {
	void (*fn)(void *unused);
	const char *call;
	bool fatal;
} refusals[] = {
	{map_refused, "mmap", true},
	{break_refused, "sbrk", true},
	{unmap_refused, "munmap", false},
	{purge_refused, "madvise", false},
};

enum { REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };

START_TEST(failures_are_reported_with_reason_and_size)
{
	struct child child;
	char expected[100];
	size_t i;

	for (i = 0; i < REFUSALS; i++) {
		child_run(&child, refusals[i].fn, NULL);
		MUST(child_succeeded(&child));
		snprintf(expected, sizeof(expected), "libosmem: %s of ",
			 refusals[i].call);
		MUST(strncmp(child.text, expected, strlen(expected)) == 0);
		MUST(strstr(child.text, " bytes failed: ") != NULL);
		MUST(strstr(child.text, "Cannot allocate memory") != NULL ||
		     strstr(child.text, "Invalid argument") != NULL);
	}
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	for (i = 0; i < REFUSALS; i++) {
		child_run(&child, refusals[i].fn, NULL);
		MUST(child_succeeded(&child));
		MUST(child.text[0] == '\0');
	}
}
END_TEST

START_TEST(option_die_ends_the_process)
{
	struct child child;
	size_t i;

	MUST(os_mallopt(OS_M_DIE, 1) == 1);
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	for (i = 0; i < REFUSALS; i++) {
		child_run(&child, refusals[i].fn, NULL);
		if (!refusals[i].fatal) {
			MUST(child_succeeded(&child));
			MUST(child.text[0] == '\0');
			continue;
		}
		MUST(WIFEXITED(child.status));
		MUST_EQ(WEXITSTATUS(child.status), EXIT_FAILURE);
		MUST(strstr(child.text, refusals[i].call) != NULL);
		MUST(strstr(child.text, "option die") != NULL);
	}
}
END_TEST

static void fail_with(void *err)
{
	osmem_die_failed(*(const int *)err, "mmap", 4096, true);
}

/* The text of each is libc's, and the number stands there for the others. */
START_TEST(reasons_are_named)
{
	static int errs[] = {ENOMEM, EINVAL, EAGAIN, EPERM,
			     EACCES, ENOSYS, ENOEXEC};
	struct child child;
	char text[200];
	size_t i;

	MUST(os_mallopt(OS_M_WARN, 1) == 1);
	for (i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
		const char *reason = strerror(errs[i]);

#ifndef __GLIBC__
		reason = errs[i] == ENOMEM ? "Cannot allocate memory" : "";
#endif
		if (errs[i] == ENOEXEC)
			reason = "error";
		child_run(&child, fail_with, &errs[i]);
		MUST(child_succeeded(&child));
		snprintf(text, sizeof(text), "mmap of 4096 bytes failed: %s",
			 reason);
		MUST(strstr(child.text, text) != NULL);
		snprintf(text, sizeof(text), "(errno %d)", errs[i]);
		MUST(strstr(child.text, text) != NULL);
	}
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("faults");
	TCase *tcase = tcase_create("faults");

	if (argc > 1) {
		os_mallopt(OS_M_WARN, 0);
		if (strcmp(argv[1], "crowd") == 0)
			crowd(NULL);
		else
			work(STEPS, 3);
		return 0;
	}
	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, map);
	tcase_add_test(tcase, unmap);
	tcase_add_test(tcase, grow_break);
	tcase_add_test(tcase, purge);
	tcase_add_test(tcase, any_call);
	tcase_add_test(tcase, commit);
	tcase_add_test(tcase, before_main);
	tcase_add_test(tcase, a_refused_break_is_a_mapping);
	tcase_add_test(tcase, what_munmap_refuses_is_used_again);
	tcase_add_test(tcase, what_is_evicted_in_vain_is_used);
	tcase_add_test(tcase, what_munmap_refuses_is_used_again_when_hardened);
	tcase_add_test(tcase, a_failed_realloc_may_have_swallowed);
	tcase_add_test(tcase, a_refused_purge_is_the_last_but_for_a_trim);
	tcase_add_test(tcase, failures_are_reported_with_reason_and_size);
	tcase_add_test(tcase, option_die_ends_the_process);
	tcase_add_test(tcase, reasons_are_named);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
