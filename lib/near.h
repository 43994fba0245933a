/* SPDX-License-Identifier: MIT */
/*
 * near.h - "did you mean": the name that is nearest to what was typed.
 */
#ifndef OSMEM_NEAR_H
#define OSMEM_NEAR_H

#include "common.h"

/* What was typed, and the nearest name so far, NULL for none. */
struct osmem_near {
	const char *typed;
	size_t size;
	unsigned int distance;
	const char *name;
};

/*
 * Makes name the suggestion if it is nearer than what is, and near: one
 * mistake in three letters. Shorter names are never suggested, for "on" is as
 * near to "no" as can be. A name has at most 31 letters.
 */
OSMEM_FN void osmem_near_try(struct osmem_near *near, const char *name);

#endif
