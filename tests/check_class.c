/* SPDX-License-Identifier: MIT */
/*
 * check_class.c - size classes: every size, its class and what is wasted.
 */
#include "class.h"

#include <check.h>

START_TEST(every_size_fits_its_class)
{
	size_t size;

	for (size = 1; size <= OSMEM_CLASS_LARGEST; size++) {
		unsigned int class = osmem_class_of(size);

		ck_assert_uint_lt(class, OSMEM_CLASSES);
		ck_assert_uint_ge(osmem_class_size(class), size);
		if (class > 0)
			ck_assert_uint_lt(osmem_class_size(class - 1), size);
	}
	ck_assert_uint_eq(osmem_class_of(OSMEM_CLASS_LARGEST),
			  OSMEM_CLASSES - 1);
}
END_TEST

START_TEST(waste_is_bounded)
{
	size_t size;

	for (size = 1; size <= OSMEM_CLASS_LARGEST; size++) {
		size_t slot = osmem_class_size(osmem_class_of(size));
		size_t waste = slot - size;

		if (size < 1024)
			ck_assert(waste <= 15 || waste * 8 <= slot);
		else
			ck_assert(waste * 5 <= slot);
		ck_assert_uint_eq(slot % 16, 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("class");
	TCase *tcase = tcase_create("class");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, every_size_fits_its_class);
	tcase_add_test(tcase, waste_is_bounded);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
