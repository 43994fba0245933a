/* SPDX-License-Identifier: MIT */
/*
 * prove_index.c - the B-trees with nodes of three keys: from trees of several
 * heights, built upwards, downwards or from both ends, all sequences of a few
 * insertions and removals, against a bit for each key. No node is lost.
 *
 * all: index.c s|LEAF_KEYS = 31|LEAF_KEYS = 3|
 * all: index.c s|INNER_KEYS = 23|INNER_KEYS = 3|
 * fault: index.c s|left->count - half - 1);|left->count - half - 2);|
 * fault: index.c s|n->child\[1\] = n->child\[0\];|;|
 * fault: index.c s|right->child\[0\] = right->child\[1\];|;|
 * fault: index.c s|at -= at == last;|;|
 * fault: index.c s|if (!index_is_minimal(left)) {|if (left->count != 0) {|
 * fault: index.c s|set->root = n->leaf ? 0 : n->child\[0\];|set->root = 0;|
 * fault: index.c s|index_give(gone);|;|
 * cbmc: none
 */
#include "proof.h"

#include <string.h>

#include "index.c"

#ifndef STEPS
#define STEPS (PROOF_QUICK ? 3 : 4)
#endif
#ifndef PRELOAD
#define PRELOAD 14
#endif
#ifndef KEYS
#define KEYS 15
#endif

static struct index_node nodes[4 * KEYS];
static bool present[KEYS];

static struct osmem_key key_of(unsigned int i)
{
	return (struct osmem_key){ i / 3, i % 3 };
}

static unsigned int neighbour(unsigned int i, bool above)
{
	while (i < KEYS && !present[i])
		i += above ? 1U : -1U;
	return i;
}

static unsigned int number_of(struct osmem_key key)
{
	return (unsigned int)(key.a * 3 + key.b);
}

static void check_lookup(const struct osmem_index *set, unsigned int i)
{
	struct osmem_key found;
	unsigned int above = neighbour(i, true);
	unsigned int below = neighbour(i, false);
	bool any = osmem_index_at_least(set, key_of(i), &found);

	proof_claim(any == (above < KEYS));
	proof_claim(!any || number_of(found) == above);
	any = osmem_index_at_most(set, key_of(i), &found);
	proof_claim(any == (below < KEYS));
	proof_claim(!any || number_of(found) == below);
}

static unsigned int count_nodes(uint32_t i)
{
	unsigned int n = 1;
	uint32_t at;

	if (i == 0)
		return 0;
	for (at = 0; !index_node(i)->leaf && at <= index_node(i)->count; at++)
		n += count_nodes(index_node(i)->child[at]);
	return n;
}

static void check(const struct osmem_index *set)
{
	unsigned int i;

	proof_claim(osmem_index_check(set) == 0);
	for (i = 0; i < KEYS; i++)
		check_lookup(set, i);
	proof_claim(count_nodes(set->root) + index_pool.available ==
		    4 * KEYS - 1);
}

static void toggle(struct osmem_index *set, unsigned int i)
{
	if (present[i])
		proof_claim(osmem_index_remove(set, key_of(i)));
	else
		proof_claim(osmem_index_insert(set, key_of(i)));
	present[i] = !present[i];
}

static void preload(struct osmem_index *set)
{
	unsigned int n = (unsigned int)proof_choose(PRELOAD);
	unsigned int order = (unsigned int)proof_choose(2);
	unsigned int i;

	for (i = 0; i < n; i++)
		if (order == 2)
			toggle(set, i % 2 ? KEYS - 1 - i / 2 : i / 2);
		else
			toggle(set, order ? KEYS - 1 - i : i);
}

void proof(void)
{
	struct osmem_index set = { .vital = true };
	unsigned int n;

	memset(&index_pool, 0, sizeof(index_pool));
	memset(present, 0, sizeof(present));
	index_pool.nodes = nodes;
	index_pool.top = 1;
	index_pool.available = 4 * KEYS - 1;
	preload(&set);
	for (n = 0; n < STEPS; n++)
		toggle(&set, (unsigned int)proof_choose(KEYS - 1));
	check(&set);
	/* Absent keys are refused, and change nothing. */
	n = (unsigned int)proof_choose(KEYS - 1);
	if (!present[n])
		proof_claim(!osmem_index_remove(&set, key_of(n)));
	proof_claim(osmem_index_check(&set) == 0);
}

/* There are nodes enough. */
int osmem_sys_commit(void *start, size_t size)
{
	(void)start;
	(void)size;
	proof_claim(!"more nodes");
	return 1;
}

void osmem_die_failed(int err, const char *call, size_t size, bool fatal)
{
	(void)err;
	(void)call;
	(void)size;
	(void)fatal;
}
