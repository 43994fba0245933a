/* SPDX-License-Identifier: MIT */
/*
 * near.c - the distance of what was typed to a name.
 */
#include "near.h"

#include <string.h>

enum {
	NEAR_NAME_MOST = 31, /* bytes of a name */
	NEAR_MOST = 2,	     /* mistakes that a suggestion may bridge */
};

static char near_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static unsigned int near_less(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

/* A table of distances between beginnings of two texts, by their sizes. */
typedef unsigned char near_grid[NEAR_NAME_MOST + 1][NEAR_NAME_MOST + 1];

/* The cell for the first i bytes of a and the first j of b, both above 0. */
static unsigned int near_cell(near_grid d, const char *a, size_t i,
			      const char *b, size_t j)
{
	char last = near_lower(a[i - 1]);
	unsigned int best = d[i - 1][j - 1] + (last != b[j - 1] ? 1U : 0U);

	best = near_less(best, d[i - 1][j] + 1U);
	best = near_less(best, d[i][j - 1] + 1U);
	if (i > 1 && j > 1 && last == b[j - 2] &&
	    near_lower(a[i - 2]) == b[j - 1])
		best = near_less(best, d[i - 2][j - 2] + 1U);
	return best;
}

/*
 * How many letters were inserted, removed, changed or swapped with their
 * neighbour between the two, case aside. Both have at most NEAR_NAME_MOST
 * bytes.
 */
static unsigned int near_distance(const char *typed, size_t typed_size,
				  const char *name)
{
	near_grid d;
	size_t size = strlen(name);

	for (size_t i = 0; i <= typed_size; i++) {
		for (size_t j = 0; j <= size; j++) {
			unsigned int cell = (unsigned int)(i + j);

			if (i > 0 && j > 0)
				cell = near_cell(d, typed, i, name, j);
			d[i][j] = (unsigned char)cell;
		}
	}
	return d[typed_size][size];
}

OSMEM_FN void osmem_near_try(struct osmem_near *near, const char *name)
{
	size_t most = strlen(name) / 3;
	unsigned int d;

	if (near->size > NEAR_NAME_MOST)
		return;
	if (most > NEAR_MOST)
		most = NEAR_MOST;
	d = near_distance(near->typed, near->size, name);
	if (d <= most && (near->name == NULL || d < near->distance)) {
		near->distance = d;
		near->name = name;
	}
}
