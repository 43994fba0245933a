/* SPDX-License-Identifier: MIT */
/*
 * runs.c - runs of units in two sets: the best fit, and what is next to one.
 */
#include "runs.h"

static void runs_add(struct osmem_runs *runs, size_t first, size_t units)
{
	osmem_index_promise();
	osmem_index_insert(&runs->places, (struct osmem_key){ first, units });
	osmem_index_insert(&runs->lengths, (struct osmem_key){ units, first });
	runs->units += units;
}

static void runs_remove(struct osmem_runs *runs, size_t first, size_t units)
{
	osmem_index_forgo();
	osmem_index_remove(&runs->places, (struct osmem_key){ first, units });
	osmem_index_remove(&runs->lengths, (struct osmem_key){ units, first });
	runs->units -= units;
}

void osmem_runs_join(struct osmem_runs *runs, size_t *first, size_t *units)
{
	struct osmem_key key = { *first, 0 };
	struct osmem_key near;

	if (osmem_index_at_least(&runs->places, key, &near) &&
	    near.a == *first + *units) {
		runs_remove(runs, near.a, near.b);
		*units += near.b;
	}
	if (osmem_index_at_most(&runs->places, key, &near) &&
	    near.a + near.b == *first) {
		runs_remove(runs, near.a, near.b);
		*first = near.a;
		*units += near.b;
	}
}

void osmem_runs_put(struct osmem_runs *runs, size_t first, size_t units)
{
	osmem_runs_join(runs, &first, &units);
	runs_add(runs, first, units);
}

bool osmem_runs_get(struct osmem_runs *runs, size_t units, size_t *first)
{
	struct osmem_key key = { units, 0 };

	if (!osmem_index_at_least(&runs->lengths, key, &key))
		return false;
	runs_remove(runs, key.b, key.a);
	if (key.a > units)
		runs_add(runs, key.b + units, key.a - units);
	*first = key.b;
	return true;
}

bool osmem_runs_get_longest(struct osmem_runs *runs, size_t most, size_t *first,
			    size_t *units)
{
	struct osmem_key key = { UINTPTR_MAX, UINTPTR_MAX };

	if (!osmem_index_at_most(&runs->lengths, key, &key))
		return false;
	runs_remove(runs, key.b, key.a);
	*units = key.a < most ? key.a : most;
	*first = key.b + key.a - *units;
	if (*first != key.b)
		runs_add(runs, key.b, *first - key.b);
	return true;
}

size_t osmem_runs_longest(const struct osmem_runs *runs)
{
	struct osmem_key key = { UINTPTR_MAX, UINTPTR_MAX };

	return osmem_index_at_most(&runs->lengths, key, &key) ? key.a : 0;
}
