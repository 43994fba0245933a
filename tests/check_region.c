/* SPDX-License-Identifier: MIT */
/*
 * check_region.c - runs of units against a map, and what the region has learned
 * about memory that comes and goes.
 *
 * White box: links the core library. No slab is made, so nobody else takes
 * units.
 */
#include "lock.h"
#include "must.h"
#include "region.h"
#include "runs.h"
#include "suite.h"

#include <check.h>
#include <string.h>

enum { UNITS = 400, STEPS = 40000 };

static unsigned char is_free[UNITS + 1]; /* one more, which never is */

static unsigned int draw(unsigned int below)
{
	static unsigned int state = 20261129;

	state = state * 1103515245U + 12345U;
	return (state >> 8) % below;
}

/* Units from first on that are in the same state. */
static size_t length(size_t first)
{
	size_t end = first;

	while (end < UNITS && is_free[end] == is_free[first])
		end++;
	return end - first;
}

/* The first of the shortest runs of at least units; UNITS for none. */
static size_t best_fit(size_t units)
{
	size_t best = UNITS;
	size_t i;

	for (i = 0; i < UNITS; i += length(i))
		if (is_free[i] && length(i) >= units &&
		    (best == UNITS || length(i) < length(best)))
			best = i;
	return best;
}

/* The last of the longest runs. */
static size_t longest(void)
{
	size_t best = UNITS;
	size_t i;

	for (i = 0; i < UNITS; i += length(i))
		if (is_free[i] &&
		    (best == UNITS || length(i) >= length(best)))
			best = i;
	return best;
}

static void put(struct osmem_runs *runs)
{
	size_t first = draw(UNITS);
	size_t most = length(first);

	if (is_free[first])
		return;
	if (most > 8)
		most = 8;
	most = 1 + draw((unsigned int)most);
	memset(is_free + first, 1, most);
	osmem_runs_put(runs, first, most);
}

static void get(struct osmem_runs *runs)
{
	size_t units = 1 + draw(12);
	size_t expected = best_fit(units);
	size_t first = UNITS;

	MUST(osmem_runs_get(runs, units, &first) == (expected != UNITS));
	MUST_EQ(first, expected);
	if (first != UNITS)
		memset(is_free + first, 0, units);
}

static void get_longest(struct osmem_runs *runs)
{
	size_t most = 1 + draw(12);
	size_t expected = longest();
	size_t first = UNITS;
	size_t units = 0;

	MUST(osmem_runs_get_longest(runs, most, &first, &units) ==
	     (expected != UNITS));
	if (first == UNITS)
		return;
	if (most > length(expected))
		most = length(expected);
	MUST_EQ(units, most);
	MUST_EQ(first, expected + length(expected) - units);
	memset(is_free + first, 0, units);
}

START_TEST(runs_are_what_a_map_says)
{
	struct osmem_runs runs = { .units = 0 };
	size_t count;
	size_t i;
	int step;

	for (step = 0; step < STEPS; step++) {
		if (draw(3) != 0)
			put(&runs);
		else if (draw(3) != 0)
			get(&runs);
		else
			get_longest(&runs);
		for (count = 0, i = 0; i < UNITS; i++)
			count += is_free[i];
		MUST_EQ(runs.units, count);
		MUST_EQ(osmem_runs_longest(&runs),
			longest() == UNITS ? 0 : length(longest()));
	}
	MUST_EQ(osmem_index_check(&runs.places), 0);
	MUST_EQ(osmem_index_check(&runs.lengths), 0);
}
END_TEST

/* --- learning --- */

/* Takes so many units and gives them back. */
static void use(size_t units)
{
	size_t first;
	bool dirty;

	osmem_lock(&osmem_core_lock);
	MUST(osmem_region_take(units, &first, &dirty));
	osmem_region_give(first, units);
	osmem_unlock(&osmem_core_lock);
}

/* What stays when what is too much has gone back. */
static size_t left(void)
{
	osmem_region_learn();
	osmem_region_purge(false);
	return osmem_region_totals().dirty;
}

/* A loop over memory that went back at its end each time, a few times. */
static void learn(size_t units)
{
	int tries;

	/* On a busy machine it may be too slow to be one. */
	for (tries = 0; tries < 1000 && left() == 0; tries++)
		use(units);
	MUST(tries < 1000);
}

START_TEST(what_is_gone_is_forgotten)
{
	osmem_lock(&osmem_core_lock);
	MUST(osmem_region_open(0));
	osmem_unlock(&osmem_core_lock);
	learn(16);
	/* Not much more than what stays: the loop may go on. */
	use(200);
	MUST(left() != 0);
	/* Many times as much. */
	use(1000);
	MUST_EQ(left(), 0);
	learn(16);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("region");
	TCase *tcase = tcase_create("region");

	osmem_index_init();
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, runs_are_what_a_map_says);
	tcase_add_test(tcase, what_is_gone_is_forgotten);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
