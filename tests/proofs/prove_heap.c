/* SPDX-License-Identifier: MIT */
/*
 * prove_heap.c - the block heap in a small arena: after each operation the
 * blocks tile it, are linked both ways and sealed, no free block is lost or
 * listed twice, live blocks stay where they are with what was written there.
 *
 * The sets are lists of keys here, and the break is the arena's.
 *
 * fault: heap.c s|rest < OSMEM_META + OSMEM_ALIGN|rest < OSMEM_META|
 * fault: heap.c s|rest - OSMEM_META);|rest);|
 * fault: heap.c s|b->size + OSMEM_META + next->size|b->size + next->size|
 * fault: heap.c s|heap_set_prev(next->next, b);|;|
 * fault: heap.c s|gap < OSMEM_META + OSMEM_ALIGN|gap < OSMEM_META|
 * fault: heap.c s|osmem_heap_unlist(next);|;|
 * fault: heap.c s|size_t more = size - b->size;|size_t more = size;|
 * fault: heap.c s|osmem_heap.tail = rest;|;|
 * fault: heap.c s|	osmem_block_mark(b, sum, OSMEM_USED);|	;|
 * cbmc: none
 */
#include "proof.h"

#include <string.h>

#include "bins.c"
#include "heap.c"

enum { ARENA = 1024, LIVE = 4, KEYS = 32, BYTES = 'x' };

static _Alignas(64) char arena[ARENA];
static char *brk_now;
static void *libc_break; /* the same, as libc knows it */
void *const *osmem_sys_break_at = &libc_break;

static struct {
	const struct osmem_index *set;
	struct osmem_key key;
} keys[KEYS];

static struct {
	char *ptr;
	size_t size;
} live[LIVE];

uint64_t osmem_block_key[OSMEM_KEYS] = { 11, 13, 17, 19, 23, 29 };
struct osmem_stretch_state osmem_stretch;
bool osmem_watch_on;

/* --- what the heap stands on --- */

void osmem_watch_take(void *p, size_t size)
{
	(void)p;
	(void)size;
}

void osmem_index_promise(void)
{
}

void osmem_index_forgo(void)
{
}

static size_t find(const struct osmem_index *set, struct osmem_key key)
{
	size_t i = 0;

	while (i < KEYS && (keys[i].set != set ||
			    !osmem_key_equal(keys[i].key, key)))
		i++;
	return i;
}

bool osmem_index_insert(struct osmem_index *set, struct osmem_key key)
{
	size_t i = 0;

	proof_claim(find(set, key) == KEYS);
	while (keys[i].set != NULL)
		i++;
	keys[i].set = set;
	keys[i].key = key;
	set->count++;
	return true;
}

bool osmem_index_remove(struct osmem_index *set, struct osmem_key key)
{
	size_t i = find(set, key);

	if (i == KEYS)
		return false;
	keys[i].set = NULL;
	set->count--;
	return true;
}

bool osmem_index_contains(const struct osmem_index *set, struct osmem_key key)
{
	return find(set, key) < KEYS;
}

bool osmem_index_at_least(const struct osmem_index *set, struct osmem_key key,
			  struct osmem_key *found)
{
	bool any = false;
	size_t i;

	for (i = 0; i < KEYS; i++)
		if (keys[i].set == set && !osmem_key_less(keys[i].key, key) &&
		    (!any || osmem_key_less(keys[i].key, *found))) {
			*found = keys[i].key;
			any = true;
		}
	return any;
}

bool osmem_stretch_search(const void *p)
{
	(void)p;
	return false;
}

bool osmem_stretch_above(const void *p, struct osmem_stretch *found)
{
	(void)p;
	(void)found;
	return false;
}

bool osmem_stretch_may_break(void)
{
	return true;
}

bool osmem_stretch_at_break(void)
{
	return osmem_stretch.break_end == brk_now;
}

void *osmem_sys_break(void)
{
	return brk_now;
}

bool osmem_stretch_extend(size_t *size)
{
	if (*size > (size_t)(arena + ARENA - brk_now))
		return false;
	brk_now += *size;
	libc_break = brk_now;
	osmem_stretch.break_end = brk_now;
	osmem_stretch.found.end = brk_now;
	return true;
}

bool osmem_stretch_new_at_break(size_t size, struct osmem_stretch *out)
{
	char *start = brk_now;

	if (!osmem_stretch_extend(&size))
		return false;
	osmem_stretch.found.start = arena;
	out->start = start;
	out->end = brk_now;
	return true;
}

bool osmem_stretch_new_mapped(size_t size, struct osmem_stretch *out)
{
	(void)size;
	(void)out;
	return false;
}

void osmem_report_broken(struct block_meta *b)
{
	(void)b;
	proof_claim(!"a broken header");
	for (;;)
		;
}

/* There is memory for all keys here. */
void osmem_heap_crowd_in(struct block_meta *b)
{
	(void)b;
	proof_claim(!"a key without memory");
}

void osmem_heap_look_at_break(void)
{
}

bool osmem_heap_is_swollen(struct block_meta *b)
{
	return osmem_index_contains(&osmem_heap.swollen,
				    osmem_heap_place_key(b));
}

void osmem_heap_list_freed(void);

/* --- what holds after each operation --- */

static void check_block(struct block_meta *b, struct block_meta *prev,
			char *place)
{
	struct osmem_key place_key = osmem_heap_place_key(b);
	struct osmem_key size_key = osmem_heap_ready_key(b);
	int lists = (b == osmem_heap.freed) +
		    osmem_index_contains(&osmem_heap.fresh, place_key) +
		    osmem_bins_contains(&osmem_heap.ready, size_key);

	proof_claim((char *)b == place && b->prev == prev);
	proof_claim(osmem_block_intact(b));
	proof_claim(b->size % OSMEM_ALIGN == 0 && b->size >= OSMEM_ALIGN);
	proof_claim(lists == (b->status == OSMEM_FREE));
}

static void check(void)
{
	struct block_meta *prev = NULL;
	struct block_meta *b = osmem_heap.first;
	char *place = arena;
	size_t i;

	for (; b != NULL; b = b->next) {
		check_block(b, prev, place);
		place = osmem_block_end(b);
		proof_claim(place <= brk_now);
		prev = b;
	}
	proof_claim(place == brk_now);
	proof_claim(osmem_heap.tail == prev && osmem_heap.top == prev);
	for (i = 0; i < LIVE; i++)
		if (live[i].ptr != NULL) {
			b = osmem_block_of(live[i].ptr);
			proof_claim(osmem_block_intact(b));
			proof_claim(b->status == OSMEM_USED &&
				    b->size >= live[i].size);
			proof_claim(live[i].ptr[0] == (char)(BYTES + i) &&
				    live[i].ptr[live[i].size - 1] ==
					    (char)(BYTES + i));
		}
}

/* --- the operations --- */

static void keep(size_t i, struct block_meta *b, size_t size)
{
	if (b == NULL)
		return;
	live[i].ptr = osmem_block_payload(b);
	live[i].size = size;
	memset(live[i].ptr, (int)(BYTES + i), size);
}

static size_t small_size(void)
{
	static const size_t sizes[] = { 8, 40, 56, 104 };

	return osmem_up(sizes[proof_choose(3)], OSMEM_ALIGN);
}

/* Also what would wrap if it were added to anything. */
static size_t any_size(void)
{
	static const size_t sizes[] = { PTRDIFF_MAX, PTRDIFF_MAX - 4096,
					SIZE_MAX / 4 };
	uint64_t which = proof_choose(6);

	if (which < 3)
		return osmem_up(sizes[which], OSMEM_ALIGN);
	return osmem_up(16 + 36 * (which - 3), OSMEM_ALIGN);
}

static void resize(size_t i)
{
	struct block_meta *b = osmem_block_of(live[i].ptr);
	size_t before = b->size;
	size_t size = any_size();
	char *brk_before = brk_now;

	if (osmem_heap_resize(b, size) != OSMEM_RESIZED) {
		proof_claim(size > b->size && b->size >= before);
		return;
	}
	proof_claim(b->size >= size);
	proof_claim(b->size - size < OSMEM_META + OSMEM_ALIGN);
	/* Rule 20a: by just what is missing. */
	proof_claim(brk_now == brk_before ||
		    brk_now == brk_before + (size - before));
	keep(i, b, size);
}

static void step(void)
{
	size_t i = (size_t)proof_choose(LIVE - 1);
	struct block_meta *b;
	size_t size;

	if (live[i].ptr == NULL) {
		size = small_size();
		if (i != LIVE - 1) {
			keep(i, osmem_heap_alloc(size), size);
			return;
		}
		b = osmem_heap_alloc_aligned(size, 64);
		proof_claim(b == NULL ||
			    (uintptr_t)osmem_block_payload(b) % 64 == 0);
		keep(i, b, size);
	} else if (proof_choose(1) == 0) {
		proof_claim(osmem_heap_free(live[i].ptr) ==
			    osmem_block_of(live[i].ptr));
		live[i].ptr = NULL;
	} else {
		resize(i);
	}
}

enum { STEPS = PROOF_QUICK ? 4 : 5 };

void proof(void)
{
	int n;

	memset(&osmem_heap, 0, sizeof(osmem_heap));
	memset(&osmem_stretch, 0, sizeof(osmem_stretch));
	memset(keys, 0, sizeof(keys));
	memset(live, 0, sizeof(live));
	libc_break = brk_now = arena;
	osmem_heap.preallocated = true;
	for (n = 0; n < STEPS; n++) {
		step();
		check();
	}
}
