/* SPDX-License-Identifier: MIT */
/*
 * replacement_fail.c - the option fail in the replacement, for fail.test.
 *
 * Group "functions" runs with fail=every:2: of two calls of a function in a
 * row exactly one must fail, which says that each call counts, and once. Group
 * "threads" runs with fail=every:7, "none" without a rule.
 */
#include "replacement_check.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <pthread.h>

void *reallocarray(void *ptr, size_t n, size_t size);
void *aligned_alloc(size_t alignment, size_t size);

enum { THREADS = 8, CALLS = 70000 };

static void *call_posix_memalign(size_t size)
{
	void *p = NULL;
	int result = posix_memalign(&p, 64, size);

	CHECK(result == (p == NULL ? ENOMEM : 0));
	return p;
}

static void *call_calloc(size_t size)
{
	unsigned char *p = calloc(2, size / 2);

	CHECK(p == NULL || all_bytes(p, 0, size / 2 * 2));
	return p;
}

static void *call_realloc(size_t size)
{
	return realloc(NULL, size);
}

static void *call_aligned_alloc(size_t size)
{
	return aligned_alloc(64, size);
}

static void *call_valloc(size_t size)
{
	return valloc(size);
}

static void *call_strdup(size_t size)
{
	(void)size;
	return strdup("some text");
}

static void one_of_two_fails(void *(*call)(size_t size), size_t size)
{
	int failed = 0;

	for (int i = 0; i < 2; i++) {
		void *p;

		errno = 0;
		p = call(size);
		failed += p == NULL;
		CHECK(errno == (p == NULL ? ENOMEM : 0));
		free(p);
	}
	CHECK(failed == 1);
}

/* The old block is as it was when the new one fails. */
static void one_resize_of_two_fails(size_t size)
{
	unsigned char *p = NULL, *q;
	int failed = 0;

	while (p == NULL)
		p = malloc(1000);
	memset(p, 7, 1000);
	for (int i = 0; i < 2; i++) {
		q = i == 0 ? realloc(p, size) : reallocarray(p, size, 1);
		failed += q == NULL;
		p = q != NULL ? q : p;
		CHECK(all_bytes(p, 7, size < 1000 ? size : 1000));
	}
	CHECK(failed == 1);
	free(p);
}

static void test_functions(void)
{
	static void *(*const calls[])(size_t size) = {
		malloc, call_calloc, call_realloc, call_aligned_alloc,
		call_posix_memalign, call_valloc, call_strdup};
	static const size_t sizes[] = {0, 1, 100, 5000, 300000, 10000000};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++)
			for (int again = 0; again < 20; again++)
				one_of_two_fails(calls[i], sizes[j]);
	for (size_t j = 1; j < sizeof(sizes) / sizeof(sizes[0]); j++)
		one_resize_of_two_fails(sizes[j]);
}

static pthread_barrier_t barrier;
static atomic_int failed_calls;

static void *run_calls(void *arg)
{
	int failed = 0;

	(void)arg;
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < CALLS; i++) {
		void *p = malloc(1 + i * 37 % 3000);

		failed += p == NULL;
		free(p);
	}
	atomic_fetch_add(&failed_calls, failed);
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* Nobody else allocates between the two barriers. */
static int failures_of_threads(void)
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		while (pthread_create(&threads[i], NULL, run_calls, NULL) != 0)
			continue;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return failed_calls;
}

static void test_threads(void)
{
	CHECK(failures_of_threads() == THREADS * CALLS / 7);
}

static void test_none(void)
{
	CHECK(failures_of_threads() == 0);
}

int main(int argc, char **argv)
{
	static const struct group groups[] = {{"functions", test_functions},
					      {"threads", test_threads},
					      {"none", test_none},
					      {NULL, NULL}};

	return run_groups(argc, argv, groups);
}
