/* SPDX-License-Identifier: MIT */
/*
 * bins.h - an ordered set of (size, address) pairs, for the best fit.
 *
 * One index per small size and one for all others, and a bit for each that is
 * not empty: most searches come down to a bit or to the first key of a small
 * tree. Sizes are multiples of OSMEM_ALIGN, and no two keys have the same
 * address. All functions need the core's lock.
 */
#ifndef OSMEM_BINS_H
#define OSMEM_BINS_H

#include "index.h"

enum { OSMEM_BINS = 64 };

/* The first bin is for what is too large for the others. All zero: empty. */
struct osmem_bins {
	uint64_t any; /* bit i: bin i > 0 has a key */
	struct osmem_index bin[OSMEM_BINS];
};

/* As those of an index. */
OSMEM_FN bool osmem_bins_insert(struct osmem_bins *bins, struct osmem_key key);
OSMEM_FN bool osmem_bins_remove(struct osmem_bins *bins, struct osmem_key key);
OSMEM_FN bool osmem_bins_contains(const struct osmem_bins *bins,
				  struct osmem_key key);
OSMEM_FN bool osmem_bins_at_least(const struct osmem_bins *bins,
				  struct osmem_key key,
				  struct osmem_key *found);

/* False when no key has a size in [low, high]; a look at the bits alone. */
static inline bool osmem_bins_may_hold(const struct osmem_bins *bins,
				       size_t low, size_t high)
{
	size_t i = low / OSMEM_ALIGN;
	size_t j = high / OSMEM_ALIGN;

	return j >= OSMEM_BINS ||
	       (bins->any >> i & (((uint64_t)2 << (j - i)) - 1)) != 0;
}

OSMEM_FN size_t osmem_bins_count(const struct osmem_bins *bins);
OSMEM_FN int osmem_bins_check(const struct osmem_bins *bins);

#endif
