/* SPDX-License-Identifier: MIT */
/*
 * check_misuse.c - pointers that are no live blocks: each must end the process
 * with SIGABRT and a report of what, which pointer, which block.
 *
 * The heap is prepared in the test, the misuse happens in a child of it, so
 * the addresses that the report must name are known. Overwritten headers are
 * in check_overwrite.c.
 */
#include <config.h>

#include "child.h"
#include "common.h"
#include "misuse.h"
#include "must.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <osmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const size_t sizes[] = {8, 16, 24, 100, 1000, 4096, 5000, 60000, 131000};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static size_t up(size_t n)
{
	return osmem_up(n, OSMEM_ALIGN);
}

/* os_free of what is used afterwards: the compiler must not see it. */
static void (*volatile give_back)(void *p) = os_free;

/* --- double free --- */

START_TEST(double_free_at_once)
{
	size_t i;

	for (i = 0; i < SIZES; i++) {
		char *p = os_malloc(sizes[i]);
		void *guard = os_malloc(8);
		struct misuse_report report = {
			.what = MISUSE_FREED,
			.block = p,
			.size = os_malloc_usable_size(p),
			.state = "free",
		};

		give_back(p);
		misuse_expect_by_all(p, &report, MISUSE_ALL & ~MISUSE_RESIZE);
		give_back(guard);
	}
}
END_TEST

START_TEST(double_free_after_others)
{
	char *p[20];
	struct misuse_report report = {.what = MISUSE_FREED, .state = "free"};
	size_t i;

	for (i = 0; i < 20; i++)
		p[i] = os_malloc(100);
	for (i = 4; i < 8; i++)
		give_back(p[i]);
	/* Not merged yet: each is a block still. */
	report.block = p[6];
	report.size = up(100);
	misuse_expect(os_free, p[6], &report);
	/* A search merges them; its own block comes from behind. */
	p[0] = os_realloc(p[0], 3000);
	report.block = p[4];
	report.size = 4 * up(100) + 3 * OSMEM_META;
	for (i = 4; i < 8; i++) {
		report.offset = p[i] - p[4];
		misuse_expect_by_all(p[i], &report,
				     MISUSE_ALL & ~MISUSE_RESIZE);
	}
	/* And a part of them is somebody else's now. */
	MUST(os_malloc(300) == p[4]);
	memset(p[4], 0x5a, 300);
	report = (struct misuse_report){
		.what = MISUSE_INSIDE,
		.block = p[4],
		.size = up(300),
		.offset = p[5] - p[4],
		.state = "in use",
	};
	misuse_expect_by_all(p[5], &report, MISUSE_ALL);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

START_TEST(double_free_of_an_aligned_block)
{
	size_t alignment;

	for (alignment = 64; alignment <= 65536; alignment *= 4) {
		void *p = os_aligned_alloc(alignment, 200);
		struct misuse_report report = {
			.what = MISUSE_FREED,
			.block = p,
			.size = os_malloc_usable_size(p),
			.state = "free",
		};

		give_back(p);
		misuse_expect(os_free, p, &report);
		MUST(os_malloc(alignment) != NULL);
	}
}
END_TEST

START_TEST(double_free_of_a_mapped_block)
{
	static const size_t large[] = {131072, 200000, 300000, 5000000};
	struct misuse_report report = {.what = MISUSE_NOTHING};
	size_t i;

	for (i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
		void *p = os_malloc(large[i]);
		void *q = os_aligned_alloc(8192, large[i]);
		void *z = os_calloc(large[i], 1);

		give_back(p);
		give_back(q);
		give_back(z);
		misuse_expect_by_all(p, &report, MISUSE_ALL);
		misuse_expect_by_all(q, &report, MISUSE_ALL);
		misuse_expect_by_all(z, &report, MISUSE_ALL);
	}
}
END_TEST

static void *racing_free(void *p)
{
	misuse_hidden(os_free, p);
	return NULL;
}

/* The same block freed by two threads: one of them is stopped. */
static void race(void *p)
{
	pthread_t threads[2];

	MUST(pthread_create(&threads[0], NULL, racing_free, p) == 0);
	MUST(pthread_create(&threads[1], NULL, racing_free, p) == 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
}

START_TEST(double_free_by_two_threads)
{
	struct child child;
	int i;

	if (!OSMEM_CONF_THREADS)
		return;
	for (i = 0; i < 20; i++) {
		child_run(&child, race, os_malloc(i % 2 ? 200000 : 100));
		MUST(child_was_killed_by(&child, SIGABRT));
		MUST(strstr(child.text, "os_free(") != NULL);
	}
}
END_TEST

/* --- os_realloc of what is free --- */

static void expect_einval(void *p, size_t size)
{
	void *(*volatile resize)(void *, size_t) = os_realloc;
	void *(*volatile array)(void *, size_t, size_t) = os_reallocarray;

	errno = 0;
	MUST(resize(p, size) == NULL && errno == EINVAL);
	errno = 0;
	MUST(array(p, 1, size) == NULL && errno == EINVAL);
}

START_TEST(realloc_of_a_free_block_is_refused)
{
	static const size_t wishes[] = {1, 50, 100, 5000, 200000};
	char *p = os_malloc(100);
	char *q = os_malloc(100);
	char *r = os_malloc(100);
	struct os_stats before = {.struct_size = sizeof(before)};
	struct os_stats after = {.struct_size = sizeof(after)};
	size_t i;

	memset(p, 'p', 100);
	give_back(q);
	give_back(p);
	MUST(os_stats(&before) == 0);
	for (i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		expect_einval(p, wishes[i]);
		expect_einval(q, wishes[i]);
	}
	MUST(os_stats(&after) == 0);
	MUST(memcmp(&before, &after, offsetof(struct os_stats, mallocs)) == 0);
	/* Merged: q's header lies in p's payload and is as it was. */
	r = os_realloc(r, 100000);
	for (i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		expect_einval(p, wishes[i]);
		expect_einval(q, wishes[i]);
	}
	MUST_EQ(os_heap_check(), 0);
	give_back(r);
}
END_TEST

/* --- inside pointers --- */

static void expect_inside(char *p, size_t size, size_t offset,
			  const char *state)
{
	struct misuse_report report = {
		.what = MISUSE_INSIDE,
		.block = p,
		.size = up(size),
		.offset = (ptrdiff_t)offset,
		.state = state,
	};

	misuse_expect_by_all(p + offset, &report, MISUSE_ALL);
}

static void try_offsets(size_t size)
{
	static const size_t offsets[] = {1,    2,    4,    7,     8,     16,
					 24,   32,   40,   64,    100,   512,
					 2048, 4064, 4096, 65536, 131072};
	const char *state = size > 131000 ? "in use, a mapping" : "in use";
	char *p = os_malloc(size);
	size_t i;

	memset(p, 0x01, size);
	for (i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
		if (offsets[i] < size)
			expect_inside(p, size, offsets[i], state);
	expect_inside(p, size, up(size) - 1, state);
	expect_inside(p, size, size / 2 | 1, state);
}

START_TEST(inside_pointers)
{
	size_t i;

	for (i = 0; i < SIZES; i++)
		try_offsets(sizes[i]);
	try_offsets(150000);
	try_offsets(300000);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* A copy of a header into a payload, with its seal, makes no block. */
START_TEST(a_forged_header_is_no_block)
{
	char *p = os_malloc(1000);
	char *q = os_malloc(1000);
	void *volatile from = q;

	memcpy(p + 64, (char *)from - OSMEM_META, OSMEM_META);
	expect_inside(p, 1000, 96, "in use");
	os_free(q);
	os_free(p);
}
END_TEST

START_TEST(pointers_into_free_space)
{
	char *p = os_malloc(1000);
	char *guard = os_malloc(8);
	struct misuse_report report = {
		.what = MISUSE_INSIDE,
		.block = p,
		.size = up(1000),
		.offset = 8,
		.state = "free",
	};

	memset(p, 0, 1000);
	give_back(p);
	misuse_expect_by_all(p + 8, &report, MISUSE_ALL);
	give_back(guard);
}
END_TEST

/* --- pointers that have nothing to do with the heap --- */

static int a_static[16];

START_TEST(static_stack_and_foreign_pointers)
{
	struct misuse_report report = {.what = MISUSE_NOTHING};
	int on_stack[16] = {0};
	char *theirs = malloc(100);
	char *own_mapping = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *p = os_malloc(100);
	char *large = os_malloc(200000);

	MUST(p != NULL && large != NULL);
	misuse_expect_by_all(a_static, &report, MISUSE_ALL);
	misuse_expect_by_all(&a_static[8], &report, MISUSE_ALL);
	misuse_expect_by_all(on_stack, &report, MISUSE_ALL);
	misuse_expect_by_all(&on_stack[4], &report, MISUSE_ALL);
	misuse_expect_by_all(theirs, &report, MISUSE_ALL);
	misuse_expect_by_all(own_mapping, &report, MISUSE_ALL);
	misuse_expect_by_all(own_mapping + 32, &report, MISUSE_ALL);
	free(theirs);
	munmap(own_mapping, 65536);
}
END_TEST

START_TEST(wild_pointers)
{
	struct misuse_report report = {.what = MISUSE_NOTHING};
	long page = sysconf(_SC_PAGESIZE);
	char *none = mmap(NULL, 16 * (size_t)page, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uintptr_t wild[] = {
		1, 8, 16, 31, 32, 4096, 4128, UINTPTR_MAX, UINTPTR_MAX - 7,
		UINTPTR_MAX - 31, UINTPTR_MAX / 2 + 1, (uintptr_t)none,
		(uintptr_t)none + 8 * (uintptr_t)page, (uintptr_t)none + 64,
		/* Non-canonical, and a kernel's, on 64 bits. */
		(uintptr_t)UINT64_C(0x8000000000000000),
		(uintptr_t)UINT64_C(0x0123456789abcde0),
		(uintptr_t)UINT64_C(0xffff888000001000)};
	size_t i;
	int round;

	/* Without a heap, with one, and with a part of it unmapped. */
	for (round = 0; round < 3; round++) {
		for (i = 0; i < sizeof(wild) / sizeof(wild[0]); i++)
			if (wild[i] != 0)
				misuse_expect_by_all((void *)wild[i], &report,
						     MISUSE_ALL);
		MUST(os_malloc(100) != NULL);
		if (round == 1)
			munmap(none, 16 * (size_t)page);
	}
}
END_TEST

START_TEST(the_edges_of_the_heap)
{
	struct misuse_report nothing = {.what = MISUSE_NOTHING};
	struct misuse_report header = {
		.what = MISUSE_INSIDE,
		.size = up(100),
		.state = "in use",
		.offset = -1,
	};
	char *p = os_malloc(100);
	char *q = os_malloc(100);
	ptrdiff_t back;

	header.block = p;
	for (back = 1; back <= OSMEM_META; back += 8 - (back == 1))
		misuse_expect_by_all(p - back, &header, MISUSE_ALL);
	header.block = q;
	misuse_expect_by_all(q - OSMEM_META, &header, MISUSE_ALL);
	misuse_expect_by_all(p - OSMEM_META - 1, &nothing, MISUSE_ALL);
	misuse_expect_by_all(p - OSMEM_META + OSMEM_PREALLOC, &nothing,
			     MISUSE_ALL);
}
END_TEST

/* --- sized frees --- */

static void *sized_pointer;
static size_t sized_size;
static size_t sized_alignment;

static void free_as_said(void *unused)
{
	(void)unused;
	if (sized_alignment != 0)
		os_free_aligned_sized(sized_pointer, sized_alignment,
				      sized_size);
	else
		os_free_sized(sized_pointer, sized_size);
}

static void expect_wrong_size(void *p, size_t alignment, size_t size)
{
	struct child child;
	char line[200];

	sized_pointer = p;
	sized_alignment = alignment;
	sized_size = size;
	child_run(&child, free_as_said, NULL);
	if (alignment != 0)
		snprintf(line, sizeof(line),
			 "os_free_aligned_sized(%p, %zu, %zu): wrong size", p,
			 alignment, size);
	else
		snprintf(line, sizeof(line),
			 "os_free_sized(%p, %zu): wrong size", p, size);
	if (child_was_killed_by(&child, SIGABRT) &&
	    strstr(child.text, line) != NULL)
		return;
	child_show(&child);
	MUST(!"a report of a wrong size");
}

START_TEST(wrong_sized_frees)
{
	static const size_t real[] = {100, 1000, 60000, 200000};
	size_t i;

	for (i = 0; i < sizeof(real) / sizeof(real[0]); i++) {
		void *p = os_malloc(real[i]);
		void *aligned = os_aligned_alloc(256, real[i]);
		size_t usable = os_malloc_usable_size(p);
		uintptr_t bits = (uintptr_t)aligned;

		expect_wrong_size(p, 0, usable + 1);
		expect_wrong_size(p, 0, usable * 2);
		expect_wrong_size(p, 0, SIZE_MAX);
		expect_wrong_size(p, 0, SIZE_MAX - 3);
		expect_wrong_size(p, 0, 0);
		expect_wrong_size(p, 0, real[i] / 2);
		expect_wrong_size(aligned, 256, real[i] * 2);
		expect_wrong_size(aligned, 256, real[i] / 2);
		/* The least that it does not happen to have. */
		expect_wrong_size(aligned, (bits & -bits) * 2, real[i]);
		os_free_sized(p, real[i]);
		os_free_aligned_sized(aligned, 256, real[i]);
	}
}
END_TEST

/* --- the way it ends --- */

static void allocating_handler(int signal)
{
	char *p = os_malloc(5000);
	char *q = os_malloc(300000);

	(void)signal;
	MUST(p != NULL && q != NULL);
	memset(p, 1, 5000);
	os_free(q);
	os_free(p);
	dprintf(STDERR_FILENO, "the handler is through\n");
}

static void free_with_handler(void *p)
{
	signal(SIGABRT, allocating_handler);
	misuse_hidden(os_free, p);
}

START_TEST(a_handler_of_sigabrt_may_allocate)
{
	struct child child;
	char *p = os_malloc(100);

	child_run(&child, free_with_handler, p + 8);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, "the handler is through") != NULL);
	child_run(&child, free_with_handler, a_static);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, "the handler is through") != NULL);
	os_free(p);
}
END_TEST

/* The matching itself: an expectation that is wrong somewhere must fail. */
START_TEST(a_wrong_expectation_is_seen)
{
	char *p = os_malloc(100);
	char *q = os_malloc(100);
	const struct misuse_report right = {
		.what = MISUSE_INSIDE,
		.block = p,
		.size = up(100),
		.offset = 8,
		.state = "in use",
	};
	struct misuse_report wrong;

	MUST(misuse_matches(os_free, p + 8, &right));
	MUST(!misuse_matches(os_free, p, &right));
	MUST(!misuse_matches(os_free, q + 8, &right));
	wrong = right;
	wrong.what = MISUSE_FREED;
	MUST(!misuse_matches(os_free, p + 8, &wrong));
	wrong = right;
	wrong.block = q;
	MUST(!misuse_matches(os_free, p + 8, &wrong));
	wrong = right;
	wrong.size++;
	MUST(!misuse_matches(os_free, p + 8, &wrong));
	wrong = right;
	wrong.offset++;
	MUST(!misuse_matches(os_free, p + 8, &wrong));
	wrong = right;
	wrong.state = "free";
	MUST(!misuse_matches(os_free, p + 8, &wrong));
}
END_TEST

/* And what is right is never reported. */
START_TEST(correct_programs_are_left_alone)
{
	size_t steps = workload_number("OSMEM_TEST_OPS", 100000);
	struct workload w;
	size_t i;

	workload_start(&w, 20260101);
	for (i = 0; i < steps; i++) {
		workload_step(&w);
		if (i % 5000 == 0)
			workload_verify(&w);
	}
	workload_finish(&w);
	MUST(w.failures == 0);
	printf("misuse: %zu correct operations, none reported\n", steps);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("misuse");
	TCase *tcase = tcase_create("misuse");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, a_wrong_expectation_is_seen);
	tcase_add_test(tcase, double_free_at_once);
	tcase_add_test(tcase, double_free_after_others);
	tcase_add_test(tcase, double_free_of_an_aligned_block);
	tcase_add_test(tcase, double_free_of_a_mapped_block);
	tcase_add_test(tcase, double_free_by_two_threads);
	tcase_add_test(tcase, realloc_of_a_free_block_is_refused);
	tcase_add_test(tcase, inside_pointers);
	tcase_add_test(tcase, a_forged_header_is_no_block);
	tcase_add_test(tcase, pointers_into_free_space);
	tcase_add_test(tcase, static_stack_and_foreign_pointers);
	tcase_add_test(tcase, wild_pointers);
	tcase_add_test(tcase, the_edges_of_the_heap);
	tcase_add_test(tcase, wrong_sized_frees);
	tcase_add_test(tcase, a_handler_of_sigabrt_may_allocate);
	tcase_add_test(tcase, correct_programs_are_left_alone);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
