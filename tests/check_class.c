/* SPDX-License-Identifier: MIT */
/*
 * check_class.c - size classes: every size, its class and what is wasted.
 */
#include "thread_state.h"

#include "lock.h"
#include "suite.h"

#include <check.h>

/* All small sizes, and every 61st of the others. */
static size_t next_size(size_t size)
{
	return size < (size_t)128 << 10 ? size + 1 : size + 61;
}

START_TEST(every_size_fits_its_class)
{
	size_t size;

	for (size = 1; size <= OSMEM_CLASS_LARGEST;
	     size = next_size(size)) {
		unsigned int class = osmem_class_of(size);

		ck_assert_uint_lt(class, OSMEM_CLASSES);
		ck_assert_uint_ge(osmem_class_size(class), size);
		ck_assert_uint_eq(osmem_class_round(size),
				  osmem_class_size(class));
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

	for (size = 1; size <= OSMEM_CLASS_LARGEST;
	     size = next_size(size)) {
		size_t slot = osmem_class_size(osmem_class_of(size));
		size_t waste = slot - size;

		if (size < 1024)
			ck_assert(waste <= 15 || waste * 8 <= slot);
		else
			ck_assert(waste * 5 <= slot);
	}
}
END_TEST

/* Slots are aligned for either alignment, and for what their size allows. */
START_TEST(slots_are_multiples_of_16)
{
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++) {
		ck_assert_uint_eq(osmem_class_size(class) % 16, 0);
		ck_assert_uint_eq(osmem_class_of(osmem_class_size(class)),
				  class);
	}
}
END_TEST

/* Those who ask for alignment find a class that has it. */
START_TEST(every_power_of_two_has_a_class)
{
	size_t size;

	for (size = 16; size <= OSMEM_CLASS_LARGEST; size *= 2)
		ck_assert_uint_eq(osmem_class_size(osmem_class_of(size)), size);
}
END_TEST

/* And it is the first that holds the size and has the alignment. */
START_TEST(aligned_sizes_find_the_first_class)
{
	size_t alignment;
	size_t size;
	unsigned int class;

	for (alignment = 8; alignment <= OSMEM_UNIT; alignment *= 2)
		for (size = 1; size <= OSMEM_CLASS_LARGEST;
		     size += 1 + size / 100) {
			class = osmem_class_of(size);
			while (osmem_class_size(class) % alignment != 0)
				class++;
			ck_assert_uint_eq(osmem_class_of(osmem_class_aligned(
						  size, alignment)),
					  class);
		}
}
END_TEST

/* The fast path reads the bin of a size rounded up to 16. */
START_TEST(the_threads_table_is_exact)
{
	/* A page's start, as always, and places for bins. */
	_Alignas(4096) static struct osmem_thread thread[2];
	uintptr_t key = 1;
	void ***top;
	size_t size;

	osmem_thread_make_bins(thread);
	osmem_thread_know(thread, NUM_CLASSES - 1);
	ck_assert_uint_eq(thread->sizes, OSMEM_MMAP_THRESHOLD);
	for (size = 1; size <= thread->sizes; size++) {
		top = osmem_thread_top_of(thread, (size - 1) / 16, &key);
		ck_assert_ptr_eq(top, &thread->top[osmem_class_of(size)]);
	}
}
END_TEST

START_TEST(as_many_classes_as_configured)
{
	ck_assert_uint_ge(OSMEM_CLASSES, NUM_CLASSES);
	ck_assert_uint_eq(osmem_class_size(0), 16);
	ck_assert_uint_eq(osmem_class_size(NUM_CLASSES - 1), 128 << 10);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("class");
	TCase *tcase = tcase_create("class");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, every_size_fits_its_class);
	tcase_add_test(tcase, waste_is_bounded);
	tcase_add_test(tcase, slots_are_multiples_of_16);
	tcase_add_test(tcase, every_power_of_two_has_a_class);
	tcase_add_test(tcase, aligned_sizes_find_the_first_class);
	tcase_add_test(tcase, the_threads_table_is_exact);
	tcase_add_test(tcase, as_many_classes_as_configured);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
