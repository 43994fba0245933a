/* SPDX-License-Identifier: MIT */
/*
 * index.h - ordered sets of pairs of words, out of line: B-trees.
 *
 * Free blocks by (size, address), freshly freed blocks by address, live
 * mappings, heap stretches: all are such sets. They live in address space that
 * is reserved before the first allocation, so no operation maps anything, and
 * nothing that a program writes into its blocks reaches them. Each operation
 * takes O(log n). All functions need the core's lock.
 */
#ifndef OSMEM_INDEX_H
#define OSMEM_INDEX_H

#include "common.h"

struct osmem_key {
	uintptr_t a; /* compared first */
	uintptr_t b;
};

/* An empty set is all zero. */
struct osmem_index {
	uint32_t root;
	bool vital; /* may use the last nodes that there are */
	size_t count;
};

static inline bool osmem_key_less(struct osmem_key x, struct osmem_key y)
{
	return x.a != y.a ? x.a < y.a : x.b < y.b;
}

static inline bool osmem_key_equal(struct osmem_key x, struct osmem_key y)
{
	return x.a == y.a && x.b == y.b;
}

/* Reserves the address space of all sets. Once, before anything else. */
OSMEM_FN void osmem_index_init(void);

/*
 * For each block, mapping and stretch: sees to it that a key for it can be
 * inserted later without a system call, in os_free above all. Best effort:
 * without memory, inserting can fail. forgo takes it back.
 */
OSMEM_FN void osmem_index_promise(void);
OSMEM_FN void osmem_index_forgo(void);

/* Unmaps what the sets will hardly need. Whether there was any. */
OSMEM_FN bool osmem_index_release_spare(void);

/* Unmaps what would not have been reserved under today's limit, if any. */
OSMEM_FN bool osmem_index_keep_limit(void);

/* Bytes of the sets' nodes that have been used so far. */
OSMEM_FN size_t osmem_index_bytes(void);

/* False when there is no memory for it. The key must not be in the set. */
OSMEM_FN bool osmem_index_insert(struct osmem_index *set, struct osmem_key key);

/* Whether the key was in the set. */
OSMEM_FN bool osmem_index_remove(struct osmem_index *set, struct osmem_key key);

OSMEM_FN bool osmem_index_contains(const struct osmem_index *set,
				   struct osmem_key key);

/* The smallest key that is >= key; false when there is none. */
OSMEM_FN bool osmem_index_at_least(const struct osmem_index *set,
				   struct osmem_key key,
				   struct osmem_key *found);

/* The largest key that is <= key; false when there is none. */
OSMEM_FN bool osmem_index_at_most(const struct osmem_index *set,
				  struct osmem_key key,
				  struct osmem_key *found);

/* The smallest key that is > key; false when there is none. */
static inline bool osmem_index_above(const struct osmem_index *set,
				     struct osmem_key key,
				     struct osmem_key *found)
{
	key.a += key.b == UINTPTR_MAX;
	key.b += 1;
	return osmem_index_at_least(set, key, found);
}

/* Verifies order, fill and count. The number of faults. */
OSMEM_FN int osmem_index_check(const struct osmem_index *set);

#endif
