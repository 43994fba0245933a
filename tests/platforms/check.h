/* SPDX-License-Identifier: MIT */
/*
 * check.h - stands in for the Check library where it is not there for the
 * machine that is built for: what the unit tests use of it, and no more.
 *
 * Each test is a child with a time limit. Nothing is allocated.
 */
#ifndef PLATFORMS_CHECK_H
#define PLATFORMS_CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CK_ENV, CHECK_FAILED = 70, CHECK_MOST = 100 };

typedef struct ttest {
	void (*fn)(int i);
	const char *name;
} TTest;

typedef struct tcase {
	unsigned seconds;
	int tests;
	struct {
		const TTest *test;
		int from, to;
	} rows[CHECK_MOST];
} TCase;

typedef struct suite {
	const char *name;
	TCase *tcase;
} Suite;

typedef struct srunner {
	Suite *suite;
	int failed;
} SRunner;

#define START_TEST(name) \
	static void name##_test(int i); \
	static const TTest name##_row = { name##_test, #name }; \
	static const TTest *const name = &name##_row; \
	static void name##_test(int _i __attribute__((unused)))
#define END_TEST

static inline Suite *suite_create(const char *name)
{
	static Suite suite;

	suite.name = name;
	return &suite;
}

static inline TCase *tcase_create(const char *name)
{
	static TCase tcase = { .seconds = 4 };

	(void)name;
	return &tcase;
}

static inline void suite_add_tcase(Suite *suite, TCase *tcase)
{
	suite->tcase = tcase;
}

static inline void tcase_set_timeout(TCase *tcase, double seconds)
{
	tcase->seconds = (unsigned)seconds;
}

static inline void tcase_add_loop_test(TCase *tcase, const TTest *test,
				       int from, int to)
{
	int n = tcase->tests++;

	if (n >= CHECK_MOST)
		abort();
	tcase->rows[n].test = test;
	tcase->rows[n].from = from;
	tcase->rows[n].to = to;
}

static inline void tcase_add_test(TCase *tcase, const TTest *test)
{
	tcase_add_loop_test(tcase, test, 0, 1);
}

static inline SRunner *srunner_create(Suite *suite)
{
	static SRunner runner;

	runner.suite = suite;
	return &runner;
}

/* An emulator needs more time than a machine of its own. */
static inline unsigned check_seconds(const TCase *tcase)
{
	const char *times = getenv("CK_TIMEOUT_MULTIPLIER");

	return tcase->seconds * (times != NULL ? (unsigned)atoi(times) : 1);
}

static inline int check_one(const TCase *tcase, const TTest *test, int i)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(check_seconds(tcase));
		test->fn(i);
		fflush(stdout);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		printf("FAIL: %s %d: status %#x\n", test->name, i,
		       (unsigned)status);
		return 1;
	}
	printf("ok: %s %d\n", test->name, i);
	return 0;
}

static inline void srunner_run_all(SRunner *runner, int mode)
{
	const TCase *tcase = runner->suite->tcase;
	int ran = 0;
	int n, i;

	(void)mode;
	for (n = 0; n < tcase->tests; n++)
		for (i = tcase->rows[n].from; i < tcase->rows[n].to; i++) {
			runner->failed += check_one(tcase, tcase->rows[n].test,
						    i);
			ran++;
		}
	printf("%s: %d tests, %d failed\n", runner->suite->name, ran,
	       runner->failed);
}

static inline int srunner_ntests_failed(SRunner *runner)
{
	return runner->failed;
}

static inline void srunner_free(SRunner *runner)
{
	(void)runner;
}

static inline _Noreturn void check_failed(const char *file, int line)
{
	printf("%s:%d\n", file, line);
	fflush(stdout);
	_exit(CHECK_FAILED);
}

#define ck_assert_msg(x, ...) \
	((x) ? (void)0 : (printf("%s: ", #x), printf(__VA_ARGS__), \
			  check_failed(__FILE__, __LINE__)))
#define ck_assert(x) ck_assert_msg(x, "does not hold: ")

#define CHECK_COMPARE(type, format, a, op, b) \
	do { \
		type check_a = (a); \
		type check_b = (b); \
		ck_assert_msg(check_a op check_b, \
			      "%s " #op " %s: %" format ", %" format ": ", \
			      #a, #b, check_a, check_b); \
	} while (0)
#define ck_assert_int_eq(a, b) CHECK_COMPARE(intmax_t, PRIdMAX, a, ==, b)
#define ck_assert_int_ne(a, b) CHECK_COMPARE(intmax_t, PRIdMAX, a, !=, b)
#define ck_assert_int_ge(a, b) CHECK_COMPARE(intmax_t, PRIdMAX, a, >=, b)
#define ck_assert_int_gt(a, b) CHECK_COMPARE(intmax_t, PRIdMAX, a, >, b)
#define ck_assert_int_le(a, b) CHECK_COMPARE(intmax_t, PRIdMAX, a, <=, b)
#define ck_assert_int_lt(a, b) CHECK_COMPARE(intmax_t, PRIdMAX, a, <, b)
#define ck_assert_uint_eq(a, b) CHECK_COMPARE(uintmax_t, PRIuMAX, a, ==, b)
#define ck_assert_uint_ne(a, b) CHECK_COMPARE(uintmax_t, PRIuMAX, a, !=, b)
#define ck_assert_uint_ge(a, b) CHECK_COMPARE(uintmax_t, PRIuMAX, a, >=, b)
#define ck_assert_uint_gt(a, b) CHECK_COMPARE(uintmax_t, PRIuMAX, a, >, b)
#define ck_assert_uint_le(a, b) CHECK_COMPARE(uintmax_t, PRIuMAX, a, <=, b)
#define ck_assert_uint_lt(a, b) CHECK_COMPARE(uintmax_t, PRIuMAX, a, <, b)
#define ck_assert_ptr_eq(a, b) CHECK_COMPARE(const void *, "p", a, ==, b)
#define ck_assert_ptr_ne(a, b) CHECK_COMPARE(const void *, "p", a, !=, b)
#define ck_assert_ptr_nonnull(a) ck_assert((a) != NULL)
#define ck_assert_ptr_null(a) ck_assert((a) == NULL)
#define ck_assert_str_eq(a, b) ck_assert(strcmp(a, b) == 0)
#define ck_assert_mem_eq(a, b, n) ck_assert(memcmp(a, b, n) == 0)

#endif
