/* SPDX-License-Identifier: MIT */
/*
 * check_report.c - what a report of misuse says beyond the pointer and its
 * block: neighbours, slabs, threads, guesses; that it is safe to make; and the
 * option foreign. Where blocks came from is in check_sites.c.
 */
#include <config.h>

#include "common.h"
#include "reported.h"
#include "suite.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>

enum { ERRNO_BEFORE = 4242 };

/* os_free of what is used afterwards: the compiler must not see it. */
static void (*volatile give_back)(void *p) = os_free;

static int a_static;

static void expect_block(const struct child *child, const char *where,
			 const void *p, size_t size, const char *state)
{
	char line[200];

	snprintf(line, sizeof(line), "libosmem: %s: block %p, %zu bytes, %s\n",
		 where, p, size, state);
	expect_text(child, line, true);
}

/* --- what stands around the block --- */

START_TEST(neighbours_in_the_heap)
{
	struct child child;
	char *before = os_malloc(100);
	char *behind;

	victim = os_malloc(200);
	behind = os_malloc(300);
	give_back(behind);
	run_stopped(&child, free_victim, (void *)8);
	expect_block(&child, "before it", before, osmem_up(100, OSMEM_ALIGN),
		     "in use");
	expect_block(&child, "behind it", behind, osmem_up(300, OSMEM_ALIGN),
		     "free");
	expect_text(&child, "libosmem: slot ", false);
}
END_TEST

START_TEST(the_first_and_the_last_have_one_neighbour)
{
	struct child child;

	victim = os_malloc(OSMEM_PREALLOC - OSMEM_META);
	run_stopped(&child, free_victim, (void *)8);
	expect_text(&child, "before it", false);
	expect_text(&child, "behind it", false);
	victim = os_malloc(300000);
	run_stopped(&child, free_victim, (void *)8);
	expect_text(&child, "before it", false);
	expect_text(&child, "behind it", false);
}
END_TEST

static void *allocate_victim(void *unused)
{
	victim = os_malloc(100);
	return unused;
}

START_TEST(neighbours_in_a_slab)
{
	struct child child;
	char *p[3];
	int i;

	os_mallopt(OS_M_MODE, OS_MODE_FAST);
	for (i = 0; i < 3; i++)
		p[i] = os_malloc(100);
	if (p[1] != p[0] + 112 || p[2] != p[1] + 112)
		return; /* without slabs, or with other classes */
	give_back(p[0]);
	victim = p[1];
	run_stopped(&child, free_victim, (void *)16);
	expect_text(&child, "libosmem: slot 2 of 585 in a slab of this thread",
		    true);
	expect_block(&child, "before it", p[0], 112, "free");
	expect_block(&child, "behind it", p[2], 112, "in use");
}
END_TEST

START_TEST(a_slab_of_a_thread_that_has_ended)
{
	struct child child;
	pthread_t thread;

	if (!OSMEM_CONF_THREADS)
		return;
	os_mallopt(OS_M_MODE, OS_MODE_FAST);
	MUST(pthread_create(&thread, NULL, allocate_victim, NULL) == 0);
	pthread_join(thread, NULL);
	run_stopped(&child, free_victim, (void *)16);
	expect_text(&child, "in a slab of a thread that has ended\n", true);
}
END_TEST

START_TEST(what_a_pointer_may_be)
{
	struct child child;
	char on_stack[64];

	run_stopped(&child, free_pointer, on_stack + 32);
	expect_text(&child, "perhaps an address on the stack\n", true);
	run_stopped(&child, free_pointer, (void *)42);
	expect_text(&child, "perhaps a small number\n", true);
	run_stopped(&child, free_pointer, &a_static);
	expect_text(&child, "perhaps static: ", true);
	expect_text(&child, "check_report+0x", true);
	if (sizeof(void *) < 8)
		return;
	run_stopped(&child, free_pointer,
		    (void *)(uintptr_t)UINT64_C(0x4141414141414140));
	expect_text(&child, "perhaps no address at all\n", true);
}
END_TEST

static void free_and_say_thread(void *p)
{
	dprintf(STDERR_FILENO, "thread %ld\n", syscall(SYS_gettid));
	free_pointer(p);
}

START_TEST(the_thread)
{
	struct child child;
	char line[100];

	run_stopped(&child, free_and_say_thread, &a_static);
	snprintf(line, sizeof(line), "libosmem: in thread %ld\n",
		 strtol(child.text + strlen("thread "), NULL, 10));
	expect_text(&child, line, true);
}
END_TEST

/* --- a report is safe --- */

static void free_without_stderr(void *p)
{
	close(STDERR_FILENO);
	free_pointer(p);
}

static void on_signal(int unused)
{
	(void)unused;
	free_victim((void *)8);
}

static void free_in_handler(void *size)
{
	stack_t alt = {.ss_sp = os_malloc(65536), .ss_size = 65536};
	struct sigaction action = {.sa_handler = on_signal,
				   .sa_flags = SA_ONSTACK};

	victim = os_malloc((size_t)size);
	MUST(sigaltstack(&alt, NULL) == 0);
	MUST(sigaction(SIGUSR1, &action, NULL) == 0);
	raise(SIGUSR1);
}

START_TEST(reports_anywhere)
{
	struct child child;

	run_stopped(&child, free_without_stderr, &a_static);
	MUST(child.text[0] == '\0');
	run_stopped(&child, free_in_handler, (void *)100);
	expect_text(&child, MISUSE_INSIDE, true);
	MUST(os_mallopt(OS_M_SITES, 1) == 1);
	run_stopped(&child, free_without_stderr, &a_static);
	run_stopped(&child, free_in_handler, (void *)100);
	expect_text(&child, "allocated by", true);
}
END_TEST

/* --- the option foreign --- */

static unsigned count_reports(const char *text)
{
	unsigned n = 0;

	while ((text = strstr(text, MISUSE_NOTHING)) != NULL) {
		n++;
		text++;
	}
	return n;
}

static void use_foreign(void *unused)
{
	static int others[4];
	void *(*volatile resize)(void *, size_t) = os_realloc;
	size_t (*volatile usable)(const void *) = os_malloc_usable_size;
	void *const those[] = {&others[0], &others[2], (void *)64};
	size_t i;
	int round;

	(void)unused;
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 3; i++) {
			errno = ERRNO_BEFORE;
			free_pointer(those[i]);
			MUST_EQ(errno, ERRNO_BEFORE);
			MUST_EQ(usable(those[i]), 0);
			MUST(resize(those[i], 10) == NULL && errno == EINVAL);
			os_free_sized(those[i], 8);
			os_free_aligned_sized(those[i], 8, 8);
		}
		os_free(os_malloc(100));
	}
	MUST_EQ(os_heap_check(), 0);
}

/* Five calls of three pointers, each of them once. */
START_TEST(foreign_pointers_pass)
{
	struct child child;

	MUST(os_mallopt(OS_M_FOREIGN, OS_FOREIGN_WARN) == 1);
	child_run(&child, use_foreign, NULL);
	MUST(child_succeeded(&child));
	MUST_EQ(count_reports(child.text), 15);
	MUST(os_mallopt(OS_M_FOREIGN, OS_FOREIGN_IGNORE) == 1);
	child_run(&child, use_foreign, NULL);
	MUST(child_succeeded(&child));
	MUST(child.text[0] == '\0');
	MUST(os_mallopt(OS_M_FOREIGN, OS_FOREIGN_ABORT) == 1);
	run_stopped(&child, use_foreign, NULL);
	MUST_EQ(count_reports(child.text), 1);
}
END_TEST

START_TEST(what_is_ours_never_passes)
{
	struct child child;
	int mode;

	for (mode = OS_FOREIGN_WARN; mode <= OS_FOREIGN_IGNORE; mode++) {
		MUST(os_mallopt(OS_M_FOREIGN, mode) == 1);
		victim = os_malloc(100);
		run_stopped(&child, free_victim, (void *)8);
		give_back(victim);
		run_stopped(&child, free_victim, 0);
		victim = os_malloc(200000);
		run_stopped(&child, free_victim, (void *)4096);
	}
}
END_TEST

START_TEST(a_slab_that_is_gone_never_passes)
{
	struct child child;

	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	MUST(os_mallopt(OS_M_FOREIGN, OS_FOREIGN_IGNORE) == 1);
	victim = os_malloc(1000000);
	give_back(victim);
	os_malloc_trim(0);
	if (sizeof(void *) == 4)
		return;
	run_stopped(&child, free_victim, 0);
	MUST(strstr(child.text, "perhaps a double free") != NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("report");
	TCase *tcase = tcase_create("report");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, neighbours_in_the_heap);
	tcase_add_test(tcase, the_first_and_the_last_have_one_neighbour);
	tcase_add_test(tcase, neighbours_in_a_slab);
	tcase_add_test(tcase, a_slab_of_a_thread_that_has_ended);
	tcase_add_test(tcase, what_a_pointer_may_be);
	tcase_add_test(tcase, the_thread);
	tcase_add_test(tcase, reports_anywhere);
	tcase_add_test(tcase, foreign_pointers_pass);
	tcase_add_test(tcase, what_is_ours_never_passes);
	tcase_add_test(tcase, a_slab_that_is_gone_never_passes);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
