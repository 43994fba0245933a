/* SPDX-License-Identifier: MIT */
/*
 * heap_look.c - the block heap's rarer side: what a pointer is, walking,
 * checking, trimming, and the break moved down by somebody else.
 *
 * Guarded by the core's lock. Nothing here merges (rule 8b), and no header is
 * read before its address has been located.
 */
#include "heap.h"

#include "die.h"
#include "heap_state.h"
#include "print.h"
#include "stretch.h"
#include "sys.h"
#include "watch.h"

/* Keys that may go for one: two nodes hold fewer. */
enum { HEAP_CROWDED = 64 };

/* --- what a pointer is --- */

/* Walks the stretch's tiling. NULL where that is broken or has no block. */
static struct block_meta *heap_containing(struct osmem_stretch s,
					  const char *p)
{
	struct block_meta *b = (struct block_meta *)s.start;

	while ((char *)b < s.end && osmem_block_intact(b)) {
		if (p < osmem_block_end(b))
			return b;
		b = (struct block_meta *)osmem_block_end(b);
	}
	/* A header that does not hold, at the place where one must be. */
	return (char *)b < s.end ? b : NULL;
}

/* ptr lies in s and is not a live block; former: its header is still whole. */
static OSMEM_COLD OSMEM_ANY_BYTES struct osmem_place
heap_explain(struct osmem_stretch s, const void *ptr, bool former)
{
	struct osmem_place place = { .found = OSMEM_FOUND_INSIDE };

	if (former && osmem_heap_is_listed(osmem_block_of(ptr))) {
		place.found = OSMEM_FOUND_FREE;
		place.block = osmem_block_of(ptr);
		return place;
	}
	place.block = heap_containing(s, ptr);
	if (place.block == NULL)
		place.found = OSMEM_FOUND_NOTHING;
	else if (!osmem_block_intact(place.block))
		place.found = OSMEM_FOUND_BROKEN;
	else if (osmem_block_payload(place.block) == ptr)
		place.found = OSMEM_FOUND_FREE; /* one of the unlisted */
	else if (place.block->status == OSMEM_FREE && former)
		place.found = OSMEM_FOUND_FORMER;
	return place;
}

OSMEM_ANY_BYTES struct osmem_place osmem_heap_locate(const void *ptr)
{
	struct block_meta *b = osmem_block_of(ptr);
	struct osmem_place place = { .found = OSMEM_FOUND_NOTHING };
	struct osmem_stretch s;
	bool whole;

	osmem_heap_follow_break();
	if (!osmem_stretch_find(ptr, &s))
		return place;
	whole = osmem_heap_holds(ptr) && osmem_block_intact(b);
	if (likely(whole && b->status == OSMEM_USED)) {
		place.found = OSMEM_FOUND_LIVE;
		place.block = b;
		return place;
	}
	return heap_explain(s, ptr, whole && b->status == OSMEM_FREE);
}

bool osmem_heap_is_swollen(struct block_meta *b)
{
	return osmem_index_contains(&osmem_heap.swollen,
				    osmem_heap_place_key(b));
}

/* --- walking and checking --- */

struct block_meta *osmem_heap_first(void)
{
	osmem_heap_follow_break();
	if (osmem_heap.first != NULL)
		osmem_report_unless_intact(osmem_heap.first);
	return osmem_heap.first;
}

struct block_meta *osmem_heap_next(struct block_meta *b)
{
	if (b->next != NULL)
		osmem_report_unless_intact(b->next);
	return b->next;
}

struct osmem_heap_totals osmem_heap_totals(void)
{
	struct osmem_heap_totals totals = {
		.blocks = osmem_heap.blocks,
		.used_blocks = osmem_heap.used_blocks,
		.used_bytes = osmem_heap.used_bytes,
		.free_bytes = osmem_stretch_bytes() - osmem_heap.used_bytes -
			      osmem_heap.blocks * OSMEM_META,
	};

	return totals;
}

static int heap_fault(bool broken, const struct block_meta *b,
		      const char *what)
{
	if (broken)
		osmem_print(2, "%s: heap check: block %p: %s\n", OSMEM_NAME,
			    b == NULL ? NULL : (const char *)b + OSMEM_META,
			    what);
	return broken;
}

static bool heap_is_unlisted(struct block_meta *b)
{
	return b->status == OSMEM_FREE && !osmem_heap_is_listed(b);
}

static int heap_check_block(struct block_meta *b, struct block_meta *prev)
{
	struct osmem_stretch s = { NULL, NULL };
	bool inside = osmem_stretch_find(b, &s) &&
		      osmem_block_end(b) <= s.end;
	int faults = 0;

	faults += heap_fault(!inside, b, "outside the heap's space");
	faults += heap_fault(b->prev != prev, b, "wrong link backwards");
	faults += heap_fault(prev != NULL && osmem_block_end(prev) > (char *)b,
			     b, "overlaps the block before");
	faults += heap_fault(b->size == 0 || b->size % OSMEM_ALIGN != 0, b,
			     "odd size");
	faults += heap_fault(b->status == OSMEM_MAPPED, b, "wrong status");
	if (inside && osmem_block_end(b) < s.end)
		faults += heap_fault((char *)b->next != osmem_block_end(b), b,
				     "hole behind it");
	return faults;
}

int osmem_heap_check(void)
{
	struct osmem_heap_state seen = { 0 };
	struct block_meta *b;
	size_t space = 0;
	int faults = 0;

	osmem_heap_follow_break();
	for (b = osmem_heap.first; b != NULL; b = b->next) {
		if (heap_fault(!osmem_block_intact(b), b, "broken seal"))
			return faults + 1;
		faults += heap_check_block(b, seen.tail);
		seen.tail = b;
		seen.blocks++;
		seen.unlisted += heap_is_unlisted(b);
		seen.used_blocks += b->status == OSMEM_USED;
		seen.used_bytes += b->status == OSMEM_USED ? b->size : 0;
		space += OSMEM_META + b->size;
	}
	faults += heap_fault(seen.tail != osmem_heap.tail, seen.tail,
			     "not the last of the list");
	faults += heap_fault(seen.blocks != osmem_heap.blocks ||
			     seen.used_blocks != osmem_heap.used_blocks ||
			     seen.used_bytes != osmem_heap.used_bytes ||
			     space != osmem_stretch_bytes(),
			     seen.tail, "counts differ up to the end");
	faults += heap_fault(seen.unlisted != osmem_heap.unlisted ||
			     osmem_bins_count(&osmem_heap.ready) +
			     osmem_heap.fresh.count +
			     (osmem_heap.freed != NULL) !=
			     seen.blocks - seen.used_blocks - seen.unlisted,
			     seen.tail, "free blocks and sets differ");
	return faults + osmem_bins_check(&osmem_heap.ready) +
	       osmem_index_check(&osmem_heap.fresh) + osmem_stretch_check();
}

/* --- giving back --- */

/* Purges the whole pages of a free block's payload, but what pad still asks. */
static bool heap_purge(struct block_meta *b, size_t page, size_t *pad)
{
	uintptr_t start = osmem_up((uintptr_t)osmem_block_payload(b), page);
	uintptr_t end = (uintptr_t)osmem_block_end(b) & ~(page - 1);
	size_t size;

	if (end <= start)
		return false;
	size = end - start;
	if (size <= *pad) {
		*pad -= size;
		return false;
	}
	start += osmem_up(*pad, page);
	*pad = 0;
	return start < end && KEEP(osmem_sys_purge((void *)start, end - start),
				   "madvise", end - start) == 0;
}

bool osmem_heap_trim(size_t pad)
{
	size_t page = osmem_sys_page_size();
	struct block_meta *b;
	bool any = false;

	for (b = osmem_heap_first(); b != NULL; b = osmem_heap_next(b))
		if (b->status == OSMEM_FREE)
			any |= heap_purge(b, page, &pad);
	return any;
}

/* --- the break moved down --- */

/* Takes the blocks that lie in [from, to) out of a set. */
static void heap_forget_keys(struct osmem_index *set, const char *from,
			     const char *to)
{
	struct osmem_key key = { (uintptr_t)from, 0 };

	while (osmem_index_at_least(set, key, &key) && key.a < (uintptr_t)to)
		osmem_index_remove(set, key);
}

static void heap_forget_ready(const char *from, const char *to)
{
	struct osmem_key key = { 0, 0 };

	while (osmem_bins_at_least(&osmem_heap.ready, key, &key)) {
		if (key.b >= (uintptr_t)from && key.b < (uintptr_t)to)
			osmem_bins_remove(&osmem_heap.ready, key);
		key.b++;
	}
}

/* The block that brk cuts in two keeps what is left, if that is a block. */
static bool heap_truncate(struct block_meta *b, const char *brk)
{
	size_t left = (size_t)(brk - (const char *)b);

	if (left < OSMEM_META + OSMEM_ALIGN)
		return false;
	if (b->status == OSMEM_FREE) {
		osmem_index_remove(&osmem_heap.fresh, osmem_heap_place_key(b));
		osmem_bins_remove(&osmem_heap.ready, osmem_heap_ready_key(b));
	}
	osmem_block_set(b, (left - OSMEM_META) & ~(size_t)(OSMEM_ALIGN - 1),
			b->status);
	if (b->status == OSMEM_FREE)
		osmem_index_insert(&osmem_heap.fresh, osmem_heap_place_key(b));
	else if (osmem_watch_is_on())
		osmem_watch_cut(osmem_block_payload(b), b->size);
	return true;
}

static void heap_recount(void)
{
	struct block_meta *b;
	size_t before = osmem_heap.blocks;

	osmem_heap.blocks = osmem_heap.used_blocks = osmem_heap.used_bytes = 0;
	osmem_heap.unlisted = 0;
	osmem_heap.lost = true;
	osmem_heap.tail = NULL;
	for (b = osmem_heap.first; b != NULL; b = osmem_heap_next(b)) {
		osmem_heap.blocks++;
		osmem_heap.unlisted += heap_is_unlisted(b);
		osmem_heap.used_blocks += b->status == OSMEM_USED;
		osmem_heap.used_bytes += b->status == OSMEM_USED ? b->size : 0;
		osmem_heap.tail = b;
	}
	while (before-- > osmem_heap.blocks)
		osmem_index_forgo();
}

/* No header at or above brk is read: there may be nothing any more. */
static void heap_cut(char *brk, char *end)
{
	struct block_meta *last = NULL;
	struct block_meta *b = osmem_heap.first;
	struct osmem_stretch s;
	char *keep;

	osmem_heap_list_freed();
	while (b != NULL && (char *)b + OSMEM_META <= brk &&
	       osmem_block_end(b) <= brk) {
		osmem_report_unless_intact(b);
		last = b;
		b = b->next;
	}
	if (b != NULL && (char *)b < brk && heap_truncate(b, brk))
		last = b;
	keep = brk;
	if (last != NULL)
		keep = osmem_block_end(last);
	else if (osmem_heap.first != NULL && (char *)osmem_heap.first < brk)
		keep = (char *)osmem_heap.first;
	if (osmem_watch_is_on())
		osmem_watch_lose(keep, (size_t)(end - keep));
	heap_forget_ready(keep, end);
	heap_forget_keys(&osmem_heap.fresh, keep, end);
	heap_forget_keys(&osmem_heap.swollen, keep, end);
	osmem_stretch_cut(keep);
	b = osmem_stretch_above(end - 1, &s) ? (struct block_meta *)s.start :
					       NULL;
	if (last != NULL) {
		last->next = b;
		osmem_block_reseal(last);
	} else {
		osmem_heap.first = b;
	}
	if (b != NULL) {
		b->prev = last;
		osmem_block_reseal(b);
	}
	osmem_heap.top = osmem_stretch.break_end != NULL ? last : NULL;
	heap_recount();
}

/*
 * There is no memory for the key of a free block. Smaller ones give way, some
 * for one, as keys share nodes: a large one that is not found is lost to all,
 * and many growths are. What is in no set is found again by heap_relist().
 */
void osmem_heap_crowd_in(struct block_meta *b)
{
	struct osmem_key key = { 0, 0 };
	int tries;

	for (tries = 0; tries < HEAP_CROWDED; tries++) {
		if (!osmem_bins_at_least(&osmem_heap.ready, key, &key) ||
		    key.a >= b->size)
			break;
		osmem_bins_remove(&osmem_heap.ready, key);
		osmem_heap_lose();
		if (osmem_bins_insert(&osmem_heap.ready,
				      osmem_heap_ready_key(b)))
			return;
	}
	osmem_heap_lose();
}

void osmem_heap_look_at_break(void)
{
	char *brk = osmem_sys_break();

	if (brk < osmem_stretch.break_end)
		heap_cut(brk, osmem_stretch.break_end);
}
