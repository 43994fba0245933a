/* SPDX-License-Identifier: MIT */
/*
 * check_limits.c - RLIMIT_AS and RLIMIT_DATA, set before the program starts
 * and lowered while it runs.
 *
 * The program runs itself again under a limit and is compared with what libc
 * gets out of the same limit. Sanitizers need more address space than that.
 */
#include <config.h>

#include "child.h"
#include "must.h"
#include "space_now.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MANY = 200000, MEBIBYTE = 1 << 20 };

static unsigned char *many[MANY];

static void limit(int which, size_t bytes)
{
	struct rlimit wish = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};

	MUST(getrlimit(which, &wish) == 0);
	wish.rlim_cur = bytes;
	MUST(setrlimit(which, &wish) == 0);
}

static void limit_as(void)
{
	limit(RLIMIT_AS, (size_t)64 * MEBIBYTE);
}

static void limit_data(void)
{
	limit(RLIMIT_DATA, (size_t)32 * MEBIBYTE);
}

static void limit_data_to_little(void)
{
	limit(RLIMIT_DATA, (size_t)4 * MEBIBYTE);
}

/* --- what runs under the limit --- */

/* Takes all that there is and gives it back. The bytes that it got. */
static size_t exhaust(size_t size)
{
	size_t got = 0;
	size_t i;

	for (i = 0; i < MANY; i++) {
		errno = 0;
		many[i] = os_malloc(size);
		if (many[i] == NULL)
			break;
		workload_fill(many[i], size, (unsigned char)i);
		got += size;
	}
	MUST(i < MANY && errno == ENOMEM);
	MUST_EQ(os_heap_check(), 0);
	while (i-- > 0) {
		MUST(workload_holds(many[i], size, (unsigned char)i, size));
		os_free(many[i]);
	}
	MUST_EQ(os_heap_check(), 0);
	return got;
}

static size_t exhaust_libc(size_t size)
{
	size_t got = 0;
	size_t i;

	for (i = 0; i < MANY && (many[i] = malloc(size)) != NULL; i++) {
		workload_fill(many[i], size, (unsigned char)i);
		got += size;
	}
	/* What counts lines needs memory when the process ends. */
	while (i-- > 0)
		free(many[i]);
	return got;
}

static void work_at_the_limit(void)
{
	struct workload w;
	size_t i;

	workload_start(&w, 11);
	w.may_fail = true;
	for (i = 0; i < 3000; i++)
		workload_step(&w);
	workload_finish(&w);
}

/* argument: "ours SIZE" or "libc SIZE"; prints the bytes to stderr. */
static int worker(const char *argument)
{
	size_t size = strtoull(argument + 5, NULL, 10);
	size_t got;

	os_mallopt(OS_M_WARN, 0);
	if (argument[0] == 'l') {
		got = exhaust_libc(size);
	} else {
		got = exhaust(size);
		/* What was given back is there again. */
		MUST(exhaust(size) >= got / 10 * 9);
		work_at_the_limit();
	}
	dprintf(STDERR_FILENO, "%zu\n", got);
	return 0;
}

/* --- the tests --- */

static size_t bytes_under(void (*prepare)(void), const char *who, size_t size)
{
	struct child child;
	char argument[100];

	snprintf(argument, sizeof(argument), "%s %zu", who, size);
	child_exec(&child, argument, NULL, prepare);
	if (!child_succeeded(&child)) {
		dprintf(STDERR_FILENO, "%s:\n", argument);
		child_show(&child);
		MUST(!"a program that succeeds");
	}
	return strtoull(child.text, NULL, 10);
}

static void compare(const char *name, void (*prepare)(void))
{
	static const size_t sizes[] = {1000, 8000, 100000, 300000, 5000000};
	size_t i;

	if (child_is_sanitized())
		return;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t ours = bytes_under(prepare, "ours", sizes[i]);
		size_t theirs = bytes_under(prepare, "libc", sizes[i]);

		printf("limits: %s, blocks of %zu bytes: %zu, libc %zu\n", name,
		       sizes[i], ours, theirs);
		MUST(ours + sizes[i] >= theirs / 100 * 85);
	}
}

START_TEST(address_space)
{
	compare("RLIMIT_AS", limit_as);
}
END_TEST

START_TEST(data)
{
	compare("RLIMIT_DATA", limit_data);
}
END_TEST

START_TEST(little_data)
{
	compare("low RLIMIT_DATA", limit_data_to_little);
}
END_TEST

/* Lowered to what is in use: nothing more, but nothing breaks. */
static void lower(int which)
{
	struct workload w;
	size_t i;

	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	workload_start(&w, 12);
	for (i = 0; i < 1000; i++)
		workload_step(&w);
	limit(which, MEBIBYTE);
	w.may_fail = true;
	for (i = 0; i < 3000; i++)
		workload_step(&w);
	MUST(w.failures > 0);
	workload_verify(&w);
	limit(which, (size_t)1 << 30);
	w.may_fail = false;
	for (i = 0; i < 1000; i++)
		workload_step(&w);
	workload_finish(&w);
}

START_TEST(address_space_lowered_later)
{
	if (!child_is_sanitized())
		lower(RLIMIT_AS);
}
END_TEST

START_TEST(data_lowered_later)
{
	if (!child_is_sanitized())
		lower(RLIMIT_DATA);
}
END_TEST

/*
 * Address space that the allocator has reserved and not used is no reason to
 * refuse: it goes when the limit comes.
 */
START_TEST(reservations_make_room)
{
	char *p;

	if (child_is_sanitized())
		return;
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	p = os_malloc(100);
	limit(RLIMIT_AS, (size_t)128 * MEBIBYTE);
	MUST(exhaust(300000) > (size_t)64 * MEBIBYTE);
	os_free(p);
}
END_TEST

/* How many there are before there is no memory. */
static size_t aligned_blocks(size_t alignment, size_t size)
{
	size_t count = 0;

	while (os_aligned_alloc(alignment, size) != NULL)
		count++;
	MUST_EQ(errno, ENOMEM);
	/* Refusing is quick, too. */
	for (int i = 0; i < 300; i++)
		MUST(os_aligned_alloc(alignment, size) == NULL);
	MUST_EQ(os_heap_check(), 0);
	return count;
}

/*
 * Each has a gap before it, which no other fits into: more of them than there
 * is room for in the sets of free blocks, and none may cost a look at all.
 */
START_TEST(gaps_of_aligned_blocks_are_no_burden)
{
	static const int modes[] = {OS_MODE_EXACT, OS_MODE_AUTO, OS_MODE_FAST};

	if (child_is_sanitized())
		return;
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	MUST(os_mallopt(OS_M_MODE, modes[_i]) == 1);
	os_free(os_malloc(1));
	limit(RLIMIT_AS, (size_t)48 * MEBIBYTE);
	MUST(aligned_blocks(64, 64) > 48 * MEBIBYTE / 192 / 2);
}
END_TEST

START_TEST(many_aligned_blocks)
{
	size_t i;

	MUST(os_mallopt(OS_M_MODE, OS_MODE_EXACT) == 1);
	for (i = 0; i < 100000; i++)
		MUST(os_aligned_alloc(1024, 16) != NULL);
}
END_TEST

/* What is reserved is no way around it. */
START_TEST(hardened_blocks_keep_a_later_limit)
{
	size_t count = 0;

	if (child_is_sanitized())
		return;
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	MUST(os_mallopt(OS_M_HARDEN, 1) == 1);
	os_free(os_malloc(1));
	limit(RLIMIT_AS, (size_t)128 * MEBIBYTE);
	while (os_malloc(4000) != NULL)
		MUST(++count < (size_t)128 * MEBIBYTE / 4096);
	MUST_EQ(errno, ENOMEM);
}
END_TEST

/* Where only memory is limited it would help nobody: one mmap, rule 24. */
START_TEST(reservations_stay_where_they_do_not_count)
{
	size_t before;

	if (child_is_sanitized())
		return;
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	os_free(os_malloc(100));
	limit(RLIMIT_DATA, (size_t)64 * MEBIBYTE);
	space_now();
	before = space_now();
	MUST(os_malloc((size_t)128 * MEBIBYTE) == NULL && errno == ENOMEM);
	MUST_EQ(space_now(), before);
}
END_TEST

/* What small blocks have left in the heap serves large ones (fast). */
static void take_freed(void *unused)
{
	unsigned char *p, *q;
	size_t size;
	size_t i;

	(void)unused;
	MUST(os_mallopt(OS_M_WARN, 0) == 1);
	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	limit(RLIMIT_AS, (size_t)512 * MEBIBYTE);
	size = exhaust(100000) / 4;
	MUST(size > (size_t)16 * MEBIBYTE);
	p = os_malloc(size);
	q = os_calloc(1, size);
	MUST(p != NULL && q != NULL);
	workload_fill(p, size, 1);
	for (i = 0; i < size; i++)
		MUST(q[i] == 0);
	MUST_EQ(os_heap_check(), 0);
	p = os_realloc(p, size / 2);
	MUST(p != NULL && workload_holds(p, size, 1, size / 2));
	os_free(q);
	os_free(p);
	MUST_EQ(os_heap_check(), 0);
}

START_TEST(freed_blocks_make_room)
{
	struct child child;

	if (child_is_sanitized() || sizeof(void *) < 8)
		return;
	child_run(&child, take_freed, NULL);
	MUST(child_succeeded(&child));
}
END_TEST

static void *do_nothing(void *arg)
{
	return arg;
}

static void start_a_thread(void *arg)
{
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, do_nothing, arg) == 0);
	MUST(pthread_join(thread, NULL) == 0);
	MUST_EQ(os_heap_check(), 0);
}

/* libc maps a thread's stack before anybody allocates. */
START_TEST(reservations_leave_room_for_threads)
{
	struct child child;

	if (child_is_sanitized() || !OSMEM_CONF_THREADS)
		return;
	MUST(os_mallopt(OS_M_MODE, OS_MODE_FAST) == 1);
	os_free(os_malloc(100));
	limit(RLIMIT_AS, (size_t)200 * MEBIBYTE);
	child_run(&child, start_a_thread, NULL);
	MUST(child_succeeded(&child));
}
END_TEST

int main(int argc, char **argv)
{
	Suite *suite = suite_create("limits");
	TCase *tcase = tcase_create("limits");

	if (argc > 1)
		return worker(argv[1]);
	if (child_is_emulated()) {
		puts("limits: an emulator keeps none");
		return 77;
	}
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, address_space);
	tcase_add_test(tcase, data);
	tcase_add_test(tcase, little_data);
	tcase_add_test(tcase, address_space_lowered_later);
	tcase_add_test(tcase, data_lowered_later);
	tcase_add_test(tcase, reservations_make_room);
	tcase_add_loop_test(tcase, gaps_of_aligned_blocks_are_no_burden, 0, 3);
	tcase_add_test(tcase, many_aligned_blocks);
	tcase_add_test(tcase, hardened_blocks_keep_a_later_limit);
	tcase_add_test(tcase, reservations_stay_where_they_do_not_count);
	tcase_add_test(tcase, freed_blocks_make_room);
	tcase_add_test(tcase, reservations_leave_room_for_threads);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
