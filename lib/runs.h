/* SPDX-License-Identifier: MIT */
/*
 * runs.h - a set of runs of units, none of which touches another.
 *
 * Not more than a pair of words for each is stored, out of line, by place and
 * by length. Needs the core's lock.
 */
#ifndef OSMEM_RUNS_H
#define OSMEM_RUNS_H

#include "index.h"

struct osmem_runs {
	struct osmem_index places;  /* (first, length) */
	struct osmem_index lengths; /* (length, first) */
	size_t units;		    /* of all */
};

/* Adds a run of units that no other has. */
OSMEM_FN void osmem_runs_put(struct osmem_runs *runs, size_t first,
			     size_t units);

/* Takes what is next to a run out of the set: the run becomes the whole. */
OSMEM_FN void osmem_runs_join(struct osmem_runs *runs, size_t *first,
			      size_t *units);

/* Takes so many units out of the shortest run that has them. */
OSMEM_FN bool osmem_runs_get(struct osmem_runs *runs, size_t units,
			     size_t *first);

/* Takes the longest run, or most units at its end. */
OSMEM_FN bool osmem_runs_get_longest(struct osmem_runs *runs, size_t most,
				     size_t *first, size_t *units);

/* How many units the longest run has; 0 without any. */
OSMEM_FN size_t osmem_runs_longest(const struct osmem_runs *runs);

#endif
