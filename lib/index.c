/* SPDX-License-Identifier: MIT */
/*
 * index.c - B-trees with nodes of 512 bytes out of one pool.
 *
 * Insertion splits full nodes and removal refills minimal ones on the way
 * down, so both are one pass and need no path. Leaves hold more keys than
 * inner nodes, which have children: a key costs 24 bytes on average. The pool
 * belongs to this file and is guarded by the core's lock. Must never touch
 * the block heap.
 */
#include "index.h"

#include "die.h"
#include "sys.h"

/* Odd, so that two minimal nodes and the key between them make a full one. */
enum {
	LEAF_KEYS = 31,
	INNER_KEYS = 23,
	LEAF_MINIMUM = LEAF_KEYS / 2,
	/* A tree of minimal nodes of 2^32 nodes in all is not as high. */
	INDEX_HEIGHT = 10,
	/* What serves when no address space can be had: 3,000 free blocks. */
	SPARE_NODES = 128
};

struct index_node {
	_Alignas(64) uint32_t leaf;
	uint32_t count;
	union {
		struct osmem_key leaf_keys[LEAF_KEYS];
		struct {
			struct osmem_key keys[INNER_KEYS];
			uint32_t child[INNER_KEYS + 1];
		};
		uint32_t next_free;
	};
};

_Static_assert(sizeof(struct index_node) <= 512, "a node is 512 bytes");

#define INDEX_RESERVE ((size_t)(sizeof(void *) == 8 ? 256 : 8) << 20)
#define INDEX_COMMIT ((size_t)1 << 20)
#define INDEX_COMMIT_NODES (INDEX_COMMIT / sizeof(struct index_node))

/* Node 0 is never used: it is the empty tree's root. */
static struct {
	struct index_node *nodes;
	size_t reserved; /* bytes of address space */
	size_t committed;
	uint32_t top; /* nodes below have been used */
	uint32_t free;
	uint32_t available; /* nodes that can be taken, committed */
	size_t promised; /* keys for which there shall be nodes */
} index_pool;

static struct index_node index_spare[SPARE_NODES];

static struct index_node *index_node(uint32_t i)
{
	return &index_pool.nodes[i];
}

static uint32_t index_capacity(const struct index_node *n)
{
	return n->leaf ? LEAF_KEYS : INNER_KEYS;
}

static bool index_is_full(const struct index_node *n)
{
	return n->count == index_capacity(n);
}

static bool index_is_minimal(const struct index_node *n)
{
	return n->count == index_capacity(n) / 2;
}

/* leaf_keys and keys start at the same place. */
static struct osmem_key *index_keys(struct index_node *n)
{
	return n->leaf_keys;
}

/* --- the pool --- */

static size_t index_limit(void)
{
	size_t limit = osmem_sys_space_limit();
	size_t size = INDEX_RESERVE;

	while (size > limit / 16)
		size /= 2;
	return size;
}

void osmem_index_init(void)
{
	size_t size = index_limit();
	void *start = NULL;

	index_pool.top = 1;
	while (size >= INDEX_COMMIT &&
	       KEEP(osmem_sys_reserve(size, &start), "mmap", size) != 0)
		size /= 2;
	if (size >= INDEX_COMMIT &&
	    DIE(osmem_sys_commit(start, INDEX_COMMIT), "mprotect",
		INDEX_COMMIT) == 0) {
		index_pool.nodes = start;
		index_pool.reserved = size;
		index_pool.committed = INDEX_COMMIT;
		index_pool.available = INDEX_COMMIT_NODES - 1;
		return;
	}
	index_pool.nodes = index_spare;
	index_pool.reserved = sizeof(index_spare);
	index_pool.committed = sizeof(index_spare);
	index_pool.available = SPARE_NODES - 1;
}

static bool index_commit_more(void)
{
	char *start = (char *)index_pool.nodes + index_pool.committed;

	if (index_pool.reserved - index_pool.committed < INDEX_COMMIT ||
	    DIE(osmem_sys_commit(start, INDEX_COMMIT), "mprotect",
		INDEX_COMMIT) != 0)
		return false;
	index_pool.committed += INDEX_COMMIT;
	index_pool.available += INDEX_COMMIT_NODES;
	return true;
}

/* A block has up to two keys; all nodes but roots are half full at least. */
static size_t index_nodes_for(size_t keys)
{
	return 2 * (keys / LEAF_MINIMUM + keys / 128) + 64;
}

void osmem_index_promise(void)
{
	index_pool.promised++;
	while (unlikely(index_nodes_for(index_pool.promised) *
				sizeof(struct index_node) >
			index_pool.committed))
		if (!index_commit_more())
			return;
}

void osmem_index_forgo(void)
{
	index_pool.promised--;
}

static bool index_shrink(size_t size)
{
	size_t spare = index_pool.reserved - size;
	char *start = (char *)index_pool.nodes + size;

	if (spare < INDEX_COMMIT)
		return false;
	if (KEEP(osmem_sys_unmap(start, spare), "munmap", spare) != 0)
		return false;
	index_pool.reserved = size;
	return true;
}

bool osmem_index_release_spare(void)
{
	return index_shrink(index_pool.committed);
}

bool osmem_index_keep_limit(void)
{
	size_t most = index_limit();

	if (most < index_pool.committed)
		most = index_pool.committed;
	return most < index_pool.reserved && index_shrink(most);
}

size_t osmem_index_bytes(void)
{
	return index_pool.top * sizeof(struct index_node);
}

static bool index_can_take(uint32_t nodes)
{
	while (unlikely(index_pool.available < nodes))
		if (!index_commit_more())
			return false;
	return true;
}

/* There is one: index_can_take() said so. */
static uint32_t index_take(bool leaf)
{
	uint32_t i = index_pool.free;

	index_pool.available--;
	if (i != 0)
		index_pool.free = index_node(i)->next_free;
	else
		i = index_pool.top++;
	index_node(i)->leaf = leaf;
	index_node(i)->count = 0;
	return i;
}

static void index_give(uint32_t i)
{
	index_node(i)->next_free = index_pool.free;
	index_pool.free = i;
	index_pool.available++;
}

/* --- moving keys about within and between nodes --- */

/* The place of the first key that is >= key. */
static uint32_t index_place(struct index_node *n, struct osmem_key key)
{
	struct osmem_key *keys = index_keys(n);
	uint32_t low = 0;
	uint32_t high = n->count;

	while (low < high) {
		uint32_t mid = (low + high) / 2;

		if (osmem_key_less(keys[mid], key))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool index_has(struct index_node *n, uint32_t at, struct osmem_key key)
{
	return at < n->count && osmem_key_equal(index_keys(n)[at], key);
}

/* Makes room for a key at a place, and for the child to its right. */
static void index_open(struct index_node *n, uint32_t at)
{
	struct osmem_key *keys = index_keys(n);
	uint32_t i;

	for (i = n->count; i > at; i--)
		keys[i] = keys[i - 1];
	if (!n->leaf)
		for (i = n->count + 1; i > at + 1; i--)
			n->child[i] = n->child[i - 1];
	n->count++;
}

/* Removes the key at a place, and the child to its right. */
static void index_close(struct index_node *n, uint32_t at)
{
	struct osmem_key *keys = index_keys(n);
	uint32_t i;

	n->count--;
	for (i = at; i < n->count; i++)
		keys[i] = keys[i + 1];
	if (!n->leaf)
		for (i = at + 1; i <= n->count; i++)
			n->child[i] = n->child[i + 1];
}

/* Appends keys [from, from + count) of one node, with children, to another. */
static void index_append(struct index_node *to, struct index_node *from,
			 uint32_t start, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		index_keys(to)[to->count + i] = index_keys(from)[start + i];
	if (!to->leaf)
		for (i = 0; i <= count; i++)
			to->child[to->count + i] = from->child[start + i];
	to->count += count;
}

/* Splits the full child at a place; its median moves up. */
static void index_split(struct index_node *parent, uint32_t at)
{
	struct index_node *left = index_node(parent->child[at]);
	uint32_t i = index_take(left->leaf);
	struct index_node *right = index_node(i);
	uint32_t half = left->count / 2;

	index_append(right, left, half + 1, left->count - half - 1);
	left->count = half;
	index_open(parent, at);
	index_keys(parent)[at] = index_keys(left)[half];
	parent->child[at + 1] = i;
}

/* Joins the minimal children left and right of the key at a place. */
static void index_join(struct index_node *parent, uint32_t at)
{
	uint32_t gone = parent->child[at + 1];
	struct index_node *left = index_node(parent->child[at]);
	struct index_node *right = index_node(gone);

	index_keys(left)[left->count++] = index_keys(parent)[at];
	index_append(left, right, 0, right->count);
	index_close(parent, at);
	index_give(gone);
}

static void index_borrow_left(struct index_node *parent, uint32_t at)
{
	struct index_node *left = index_node(parent->child[at - 1]);
	struct index_node *n = index_node(parent->child[at]);

	index_open(n, 0);
	if (!n->leaf) {
		n->child[1] = n->child[0];
		n->child[0] = left->child[left->count];
	}
	index_keys(n)[0] = index_keys(parent)[at - 1];
	index_keys(parent)[at - 1] = index_keys(left)[--left->count];
}

static void index_borrow_right(struct index_node *parent, uint32_t at)
{
	struct index_node *n = index_node(parent->child[at]);
	struct index_node *right = index_node(parent->child[at + 1]);
	uint32_t first = right->leaf ? 0 : right->child[0];

	index_keys(n)[n->count++] = index_keys(parent)[at];
	index_keys(parent)[at] = index_keys(right)[0];
	if (!n->leaf) {
		n->child[n->count] = first;
		right->child[0] = right->child[1];
	}
	index_close(right, 0);
}

/* Sees to it that the child at a place can lose a key; returns that child. */
static struct index_node *index_refill(struct index_node *parent, uint32_t at)
{
	uint32_t last = parent->count;

	if (!index_is_minimal(index_node(parent->child[at])))
		return index_node(parent->child[at]);
	if (at > 0 && !index_is_minimal(index_node(parent->child[at - 1]))) {
		index_borrow_left(parent, at);
	} else if (at < last &&
		   !index_is_minimal(index_node(parent->child[at + 1]))) {
		index_borrow_right(parent, at);
	} else {
		at -= at == last;
		index_join(parent, at);
	}
	return index_node(parent->child[at]);
}

/* --- the sets --- */

static bool index_grow_root(struct osmem_index *set)
{
	uint32_t old = set->root;
	uint32_t i;

	if (!index_can_take(set->vital ? INDEX_HEIGHT : 4 * INDEX_HEIGHT))
		return false;
	if (old == 0) {
		set->root = index_take(true);
	} else if (index_is_full(index_node(old))) {
		i = index_take(false);
		index_node(i)->child[0] = old;
		set->root = i;
		index_split(index_node(i), 0);
	}
	return true;
}

bool osmem_index_insert(struct osmem_index *set, struct osmem_key key)
{
	struct index_node *n;
	uint32_t at;

	if (!index_grow_root(set))
		return false;
	n = index_node(set->root);
	for (;;) {
		at = index_place(n, key);
		if (n->leaf)
			break;
		if (index_is_full(index_node(n->child[at]))) {
			index_split(n, at);
			at += osmem_key_less(n->keys[at], key);
		}
		n = index_node(n->child[at]);
	}
	index_open(n, at);
	index_keys(n)[at] = key;
	set->count++;
	return true;
}

static struct osmem_key index_first_below(struct index_node *n)
{
	while (!n->leaf)
		n = index_node(n->child[0]);
	return index_keys(n)[0];
}

static struct osmem_key index_last_below(struct index_node *n)
{
	while (!n->leaf)
		n = index_node(n->child[n->count]);
	return index_keys(n)[n->count - 1];
}

/*
 * The key to be removed stands in an inner node: a neighbour out of a leaf
 * takes its place and is what remains to be removed below, or two children
 * are joined around it. Returns the child to go on in.
 */
static struct index_node *index_replace(struct index_node *n, uint32_t at,
					struct osmem_key *key)
{
	struct index_node *left = index_node(n->child[at]);
	struct index_node *right = index_node(n->child[at + 1]);

	if (!index_is_minimal(left)) {
		*key = n->keys[at] = index_last_below(left);
		return left;
	}
	if (!index_is_minimal(right)) {
		*key = n->keys[at] = index_first_below(right);
		return right;
	}
	index_join(n, at);
	return left;
}

static void index_shrink_root(struct osmem_index *set)
{
	uint32_t old = set->root;
	struct index_node *n = index_node(old);

	if (n->count > 0)
		return;
	set->root = n->leaf ? 0 : n->child[0];
	index_give(old);
}

bool osmem_index_remove(struct osmem_index *set, struct osmem_key key)
{
	struct index_node *n;
	uint32_t at;
	bool found;

	if (set->root == 0)
		return false;
	n = index_node(set->root);
	for (;;) {
		at = index_place(n, key);
		found = index_has(n, at, key);
		if (n->leaf)
			break;
		n = found ? index_replace(n, at, &key) : index_refill(n, at);
	}
	if (found) {
		index_close(n, at);
		set->count--;
	}
	index_shrink_root(set);
	return found;
}

bool osmem_index_contains(const struct osmem_index *set, struct osmem_key key)
{
	struct osmem_key found;

	return osmem_index_at_least(set, key, &found) &&
	       osmem_key_equal(found, key);
}

bool osmem_index_at_least(const struct osmem_index *set, struct osmem_key key,
			  struct osmem_key *found)
{
	struct index_node *n;
	bool any = false;
	uint32_t at;

	if (set->root == 0)
		return false;
	for (n = index_node(set->root);; n = index_node(n->child[at])) {
		at = index_place(n, key);
		if (at < n->count) {
			*found = index_keys(n)[at];
			any = true;
		}
		if (n->leaf || index_has(n, at, key))
			return any;
	}
}

bool osmem_index_at_most(const struct osmem_index *set, struct osmem_key key,
			 struct osmem_key *found)
{
	struct index_node *n;
	bool any = false;
	uint32_t at;

	if (set->root == 0)
		return false;
	for (n = index_node(set->root);; n = index_node(n->child[at])) {
		at = index_place(n, key);
		if (index_has(n, at, key)) {
			*found = key;
			return true;
		}
		if (at > 0) {
			*found = index_keys(n)[at - 1];
			any = true;
		}
		if (n->leaf)
			return any;
	}
}

/* --- checking --- */

struct index_census {
	size_t keys;
	uint32_t leaf_depth; /* 0 until the first leaf */
	int faults;
	bool any;
	struct osmem_key last;
};

static void index_check_keys(struct index_census *c, struct index_node *n,
			     uint32_t from, uint32_t to)
{
	uint32_t i;

	for (i = from; i < to; i++) {
		struct osmem_key key = index_keys(n)[i];

		if (c->any && !osmem_key_less(c->last, key))
			c->faults++;
		c->any = true;
		c->last = key;
		c->keys++;
	}
}

/* As deep as the tree is high, so the recursion is bounded. */
static void index_check_node(struct index_census *c, uint32_t i,
			     uint32_t depth)
{
	struct index_node *n = index_node(i);
	uint32_t at;

	if (depth > INDEX_HEIGHT || n->count > index_capacity(n) ||
	    (depth > 1 && n->count < index_capacity(n) / 2)) {
		c->faults++;
		return;
	}
	if (n->leaf) {
		c->faults += c->leaf_depth != 0 && c->leaf_depth != depth;
		c->leaf_depth = depth;
		index_check_keys(c, n, 0, n->count);
		return;
	}
	for (at = 0; at <= n->count; at++) {
		index_check_node(c, n->child[at], depth + 1);
		index_check_keys(c, n, at, at + (at < n->count));
	}
}

int osmem_index_check(const struct osmem_index *set)
{
	struct index_census census = { 0 };

	if (set->root != 0)
		index_check_node(&census, set->root, 1);
	return census.faults + (census.keys != set->count);
}
