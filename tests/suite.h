/* SPDX-License-Identifier: MIT */
/*
 * suite.h - the end of main() in programs with the Check library.
 */
#ifndef SUITE_H
#define SUITE_H

#include <check.h>

/* The status to exit with. The suite is gone then. */
static inline int suite_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

#endif
