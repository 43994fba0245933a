/* SPDX-License-Identifier: MIT */
/*
 * bins.c - the ordered set for the best fit: an index per small size.
 */
#include "bins.h"

static unsigned int bins_of(size_t size)
{
	size_t i = size / OSMEM_ALIGN;

	return i < OSMEM_BINS ? (unsigned int)i : 0;
}

bool osmem_bins_insert(struct osmem_bins *bins, struct osmem_key key)
{
	unsigned int i = bins_of(key.a);

	if (!osmem_index_insert(&bins->bin[i], key))
		return false;
	bins->any |= (uint64_t)(i != 0) << i;
	return true;
}

bool osmem_bins_remove(struct osmem_bins *bins, struct osmem_key key)
{
	unsigned int i = bins_of(key.a);
	bool found = osmem_index_remove(&bins->bin[i], key);

	if (bins->bin[i].count == 0)
		bins->any &= ~((uint64_t)1 << i);
	return found;
}

bool osmem_bins_contains(const struct osmem_bins *bins, struct osmem_key key)
{
	return osmem_index_contains(&bins->bin[bins_of(key.a)], key);
}

bool osmem_bins_at_least(const struct osmem_bins *bins, struct osmem_key key,
			 struct osmem_key *found)
{
	size_t i = key.a / OSMEM_ALIGN;
	uint64_t any = i < OSMEM_BINS ? bins->any >> i << i : 0;

	if ((any >> i % OSMEM_BINS & 1) != 0) {
		if (osmem_index_at_least(&bins->bin[i], key, found))
			return true;
		any &= any - 1;
	}
	i = any != 0 ? (size_t)__builtin_ctzll(any) : 0;
	return osmem_index_at_least(&bins->bin[i], key, found);
}

size_t osmem_bins_count(const struct osmem_bins *bins)
{
	size_t count = 0;
	int i;

	for (i = 0; i < OSMEM_BINS; i++)
		count += bins->bin[i].count;
	return count;
}

int osmem_bins_check(const struct osmem_bins *bins)
{
	int faults = 0;
	int i;

	for (i = 0; i < OSMEM_BINS; i++) {
		faults += osmem_index_check(&bins->bin[i]);
		faults += i > 0 && (bins->any >> i & 1) !=
				   (bins->bin[i].count != 0);
	}
	return faults;
}
