/* SPDX-License-Identifier: MIT */
/*
 * check_index.c - the ordered sets against a bitmap, and their limits.
 *
 * White box: links the core library. Keys are drawn from a small range so
 * that insertions and removals meet, in ascending, descending and random
 * order, and two sets share the pool.
 */
#include "index.h"
#include "suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 20000, STEPS = 400000 };

static unsigned char present[KEYS];

static struct osmem_key key_of(size_t i)
{
	return (struct osmem_key){ i / 7, i % 7 };
}

static size_t index_of(struct osmem_key key)
{
	return key.a * 7 + key.b;
}

static unsigned int draw(unsigned int *state)
{
	*state = *state * 1103515245U + 12345U;
	return *state >> 8;
}

static void expect_neighbours(const struct osmem_index *set, size_t i)
{
	struct osmem_key found;
	size_t low = i;
	size_t high = i;

	while (high < KEYS && !present[high])
		high++;
	ck_assert_int_eq(osmem_index_at_least(set, key_of(i), &found),
			 high < KEYS);
	if (high < KEYS)
		ck_assert_uint_eq(index_of(found), high);
	while (low > 0 && !present[low])
		low--;
	ck_assert_int_eq(osmem_index_at_most(set, key_of(i), &found),
			 present[low]);
	if (present[low])
		ck_assert_uint_eq(index_of(found), low);
	ck_assert_int_eq(osmem_index_contains(set, key_of(i)), present[i]);
}

START_TEST(random_steps)
{
	struct osmem_index set = { 0 };
	struct osmem_index other = { 0 };
	unsigned int seed = 20260101;
	size_t count = 0;
	int step;

	for (step = 0; step < STEPS; step++) {
		/* Grow for a while, then shrink, several times. */
		bool grow = draw(&seed) % 100 < (step / 50000 % 2 ? 30u : 70u);
		size_t i = draw(&seed) % KEYS;

		if (present[i] && !grow) {
			ck_assert(osmem_index_remove(&set, key_of(i)));
			present[i] = 0;
			count--;
		} else if (!present[i] && grow) {
			ck_assert(osmem_index_insert(&set, key_of(i)));
			present[i] = 1;
			count++;
		} else if (!present[i]) {
			ck_assert(!osmem_index_remove(&set, key_of(i)));
		}
		if (step % 1000 == 0)
			osmem_index_insert(&other, key_of((size_t)step));
		expect_neighbours(&set, draw(&seed) % KEYS);
		if (step % 5000 == 0)
			ck_assert_int_eq(osmem_index_check(&set), 0);
	}
	ck_assert_uint_eq(set.count, count);
	ck_assert_uint_eq(other.count, STEPS / 1000);
	ck_assert_int_eq(osmem_index_check(&other), 0);
	printf("index: %d random steps\n", STEPS);
}
END_TEST

static void fill_and_empty(int first, int step)
{
	struct osmem_index set = { 0 };
	int i;

	for (i = 0; i < KEYS; i++)
		ck_assert(osmem_index_insert(
			&set, key_of((size_t)(first + step * i))));
	ck_assert_int_eq(osmem_index_check(&set), 0);
	ck_assert_uint_eq(set.count, KEYS);
	for (i = 0; i < KEYS; i++)
		ck_assert(osmem_index_remove(
			&set, key_of((size_t)(first + step * i))));
	ck_assert_uint_eq(set.count, 0);
	ck_assert_uint_eq(set.root, 0);
}

START_TEST(in_order)
{
	size_t before;

	fill_and_empty(0, 1);
	before = osmem_index_bytes();
	fill_and_empty(KEYS - 1, -1);
	/* Nodes are used again. */
	ck_assert_uint_le(osmem_index_bytes(), before + before / 4);
}
END_TEST

START_TEST(empty_set)
{
	struct osmem_index set = { 0 };
	struct osmem_key key = { 5, 5 };

	ck_assert(!osmem_index_remove(&set, key));
	ck_assert(!osmem_index_at_least(&set, key, &key));
	ck_assert(!osmem_index_at_most(&set, key, &key));
	ck_assert(!osmem_index_contains(&set, key));
	ck_assert_int_eq(osmem_index_check(&set), 0);
}
END_TEST

START_TEST(above_wraps_into_the_next_word)
{
	struct osmem_index set = { 0 };
	struct osmem_key found;

	osmem_index_insert(&set, (struct osmem_key){ 4, UINTPTR_MAX });
	osmem_index_insert(&set, (struct osmem_key){ 5, 0 });
	ck_assert(osmem_index_above(
		&set, (struct osmem_key){ 4, UINTPTR_MAX }, &found));
	ck_assert_uint_eq(found.a, 5);
	ck_assert(!osmem_index_above(&set, found, &found));
}
END_TEST

/* The check must see what it is there for. */
START_TEST(check_finds_planted_faults)
{
	struct osmem_index set = { 0 };
	size_t i;

	for (i = 0; i < 1000; i++)
		osmem_index_insert(&set, key_of(i));
	set.count++;
	ck_assert_int_ne(osmem_index_check(&set), 0);
	set.count--;
	ck_assert_int_eq(osmem_index_check(&set), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("index");
	TCase *tcase = tcase_create("index");

	osmem_index_init();
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, empty_set);
	tcase_add_test(tcase, in_order);
	tcase_add_test(tcase, random_steps);
	tcase_add_test(tcase, above_wraps_into_the_next_word);
	tcase_add_test(tcase, check_finds_planted_faults);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
