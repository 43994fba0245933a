/* SPDX-License-Identifier: MIT */
/*
 * span.c - mappings, the table of freed ones that are kept, and those that
 * would not go.
 *
 * A span that is kept is in one entry of a table of fixed size, so a second
 * free of its block is seen. It may be taken again where the mode says so; in
 * the replacement's exact mode it is a trap only, which libosmem must not set
 * (rule 16). Its memory goes back unless there is allowance for it. Guarded by
 * the core's lock, which is never held around mmap, munmap and madvise: an
 * entry whose memory is just going back is busy and left alone.
 */
#include "span.h"

#include "die.h"
#include "index.h"
#include "lock.h"
#include "options.h"
#include "region.h"
#include "sys.h"

#include <osmem.h>

#include <stdatomic.h>

enum span_state {
	SPAN_NONE,
	SPAN_DIRTY, /* may have memory */
	SPAN_CLEAN, /* has none, and reads as zero */
	SPAN_BUSY   /* between the two */
};

struct span_kept {
	char *start;
	size_t size;
	unsigned long freed; /* when: the number of the free */
	enum span_state state;
};

/*
 * Bounds of the table: entries, bytes, and those of one span. A fit may be an
 * eighth too large. A dirty span that nobody has taken for SPAN_AGE frees goes
 * back. The allowance, for idle memory, starts with the least.
 */
enum { SPAN_ENTRIES = 64, SPAN_SLACK = 8, SPAN_AGE = 256 };

#define SPAN_MIB ((size_t)1 << 20)
#define SPAN_SCALE (sizeof(void *) == 8 ? 1 : 8)
#define SPAN_MOST (256 * SPAN_MIB / SPAN_SCALE)
#define SPAN_LARGEST (32 * SPAN_MIB / SPAN_SCALE)
#define SPAN_ALLOWANCE_LEAST (SPAN_MIB / 4)
#define SPAN_ALLOWANCE_MOST (64 * SPAN_MIB / SPAN_SCALE)

/* A block that grows gets so many times its size of address space. */
enum { SPAN_AHEAD = sizeof(void *) == 8 ? 16 : 2, SPAN_AHEAD_LEAST = 2 };

/*
 * A span that could not be unmapped carries its own list entry: it is still
 * ours, and nothing else refers to it.
 */
struct span_stuck {
	struct span_stuck *next;
	size_t size;
};

static struct {
	struct span_kept kept[SPAN_ENTRIES];
	size_t bytes;
	size_t dirty;
	size_t allowance;
	unsigned long frees;
	size_t limit;	/* on address space, when last asked */
	bool unpurgeable; /* madvise has failed: its pages may be locked */
	struct span_stuck *stuck;
	/*
	 * Entries and stuck spans. Read without the lock, relaxed, only to
	 * skip both: a miss costs one mapping.
	 */
	atomic_size_t count;
	/* Counted outside the lock, relaxed: they guard nothing. */
	atomic_ulong maps;
	atomic_ulong unmaps;
} spans = { .allowance = SPAN_ALLOWANCE_LEAST };

bool osmem_span_is_cached(void)
{
	int mode = osmem_option(OSMEM_OPT_MODE);

	return mode == OS_MODE_FAST ||
	       (mode == OS_MODE_AUTO &&
		atomic_load_explicit(&spans.unmaps, memory_order_relaxed) >=
			(unsigned long)osmem_option(OSMEM_OPT_CACHE_AFTER));
}

static void span_count(size_t by)
{
	atomic_fetch_add_explicit(&spans.count, by, memory_order_relaxed);
}

/* --- entries --- */

static void span_clear(struct span_kept *k)
{
	spans.bytes -= k->size;
	if (k->state == SPAN_DIRTY)
		spans.dirty -= k->size;
	k->state = SPAN_NONE;
	span_count((size_t)-1);
}

/* The entry that was freed first, of the dirty ones or of those not busy. */
static struct span_kept *span_oldest(bool dirty)
{
	struct span_kept *oldest = NULL;
	struct span_kept *k;

	for (k = spans.kept; k < spans.kept + SPAN_ENTRIES; k++)
		if ((k->state == SPAN_DIRTY ||
		     (k->state == SPAN_CLEAN && !dirty)) &&
		    (oldest == NULL || k->freed < oldest->freed))
			oldest = k;
	return oldest;
}

/* Memory first, as its pages are there; then the better fit. */
static bool span_is_better(const struct span_kept *k,
			   const struct span_kept *than)
{
	if (than == NULL || k->state != than->state)
		return than == NULL || k->state == SPAN_DIRTY;
	return k->size < than->size ||
	       (k->size == than->size && k->freed > than->freed);
}

/* The best that has from least to most bytes. */
static struct span_kept *span_fit(size_t least, size_t most)
{
	struct span_kept *best = NULL;
	struct span_kept *k;

	for (k = spans.kept; k < spans.kept + SPAN_ENTRIES; k++)
		if ((k->state == SPAN_DIRTY || k->state == SPAN_CLEAN) &&
		    k->size >= least && k->size <= most &&
		    span_is_better(k, best))
			best = k;
	return best;
}

/*
 * What is taken soon after its memory went back was better left alone: the
 * allowance grows by it, and shrinks by half of what goes back. So memory that
 * was used once goes back at once and memory that bounces stays.
 */
static void span_regret(size_t size)
{
	spans.allowance += size;
	if (spans.allowance > SPAN_ALLOWANCE_MOST)
		spans.allowance = SPAN_ALLOWANCE_MOST;
}

static void span_unregret(size_t size)
{
	spans.allowance -= size / 2 < spans.allowance ? size / 2 :
							spans.allowance;
	if (spans.allowance < SPAN_ALLOWANCE_LEAST)
		spans.allowance = SPAN_ALLOWANCE_LEAST;
}

/* --- mapping --- */

static bool span_take_stuck(size_t size, struct osmem_span *span)
{
	struct span_stuck **link = &spans.stuck;
	struct span_stuck *s;

	while (*link != NULL && (*link)->size < size)
		link = &(*link)->next;
	s = *link;
	if (s == NULL)
		return false;
	*link = s->next;
	*span = (struct osmem_span){ .start = (char *)s, .size = s->size };
	span_count((size_t)-1);
	return true;
}

static bool span_take_kept(size_t least, size_t most, struct osmem_span *span)
{
	size_t page = osmem_sys_page_size();
	struct span_kept *k;

	if (!osmem_span_is_cached())
		return false;
	/* What is kept is whole pages, which may be large. */
	k = span_fit(osmem_up(least, page), osmem_up(most, page));
	if (k == NULL)
		return false;
	*span = (struct osmem_span){ .start = k->start,
				     .size = k->size,
				     .zero = k->state == SPAN_CLEAN };
	if (k->state == SPAN_CLEAN)
		span_regret(k->size);
	span_clear(k);
	return true;
}

static bool span_take(size_t least, size_t most, struct osmem_span *span)
{
	bool taken;

	if (atomic_load_explicit(&spans.count, memory_order_relaxed) == 0)
		return false;
	osmem_lock(&osmem_core_lock);
	taken = span_take_stuck(least, span) ||
		span_take_kept(least, most, span);
	osmem_unlock(&osmem_core_lock);
	return taken;
}

static bool span_empty(void);

/*
 * Memory and address space may be short because of spans that are kept, or
 * because slabs and sets have reserved ahead of a limit that came later: they
 * keep what they use, but in the replacement, where no call is promised, what
 * they had reserved under it, if that will do.
 */
static bool span_make_room(void)
{
	bool more = span_empty();

	if (!osmem_sys_counts_space())
		return more;
	osmem_lock(&osmem_core_lock);
	if (OSMEM_IS_REPLACEMENT) {
		more |= osmem_region_keep_limit();
		more |= osmem_index_keep_limit();
	}
	if (!more || !OSMEM_IS_REPLACEMENT) {
		more |= osmem_region_release_spare();
		more |= osmem_index_release_spare();
	}
	osmem_unlock(&osmem_core_lock);
	return more;
}

/* All that is given up before the caller is told no. */
static int span_mmap(size_t size, void **start)
{
	int err;

	do {
		err = osmem_sys_map(size, start);
	} while (err != 0 && span_make_room());
	return err;
}

static void span_count_map(void)
{
	atomic_fetch_add_explicit(&spans.maps, 1, memory_order_relaxed);
}

bool osmem_span_map(size_t size, struct osmem_span *span)
{
	size_t most = size + size / SPAN_SLACK;
	void *start = NULL;
	int err;

	if (span_take(size, most, span))
		return true;
	err = span_mmap(size, &start);
	/* What could not be unmapped to make room for it will do. */
	if (err != 0 && span_take(size, most, span))
		return true;
	if (DIE(err, "mmap", size) != 0)
		return false;
	*span = (struct osmem_span){ .start = start,
				     .size = size,
				     .zero = true };
	span_count_map();
	return true;
}

size_t osmem_span_step(size_t extent)
{
	size_t step = (size_t)64 << 10;

	while (step < extent / 16)
		step *= 2;
	return osmem_up(extent, step);
}

static bool span_reserve(size_t size, struct osmem_span *span)
{
	void *start = NULL;

	if (osmem_sys_reserve(size, &start) != 0)
		return false;
	*span = (struct osmem_span){ .start = start, .ahead = size };
	return true;
}

/* As much ahead as there is address space for. */
static bool span_reserve_ahead(size_t step, struct osmem_span *span)
{
	size_t times;

	for (times = SPAN_AHEAD; times >= SPAN_AHEAD_LEAST; times /= 2)
		if (span_reserve(times * step, span))
			return true;
	return false;
}

/*
 * What an earlier block has grown to serves as it is. A limit on address space
 * is not used up by what is only ahead.
 */
bool osmem_span_map_ahead(size_t size, struct osmem_span *span)
{
	size_t step = osmem_span_step(size);

	if (step > SIZE_MAX / 64)
		return false;
	if (span_take(step + step / 4, 4 * step, span))
		return true;
	if (osmem_sys_space_limit() != SIZE_MAX ||
	    !span_reserve_ahead(step, span))
		return false;
	span_count_map();
	if (KEEP(osmem_sys_commit(span->start, step), "mprotect", step) == 0) {
		span->size = step;
		span->ahead -= step;
		span->zero = true;
		return true;
	}
	osmem_span_unmap(*span);
	return false;
}

/* --- unmapping --- */

static void span_stick(struct osmem_span span)
{
	struct span_stuck *s = (struct span_stuck *)span.start;

	if (span.size == 0)
		return;
	s->size = span.size;
	osmem_lock(&osmem_core_lock);
	s->next = spans.stuck;
	spans.stuck = s;
	osmem_unlock(&osmem_core_lock);
	span_count(1);
}

static bool span_drop_one(struct osmem_span span)
{
	size_t size = span.size + span.ahead;

	if (KEEP(osmem_sys_unmap(span.start, size), "munmap", size) != 0) {
		span_stick(span);
		return false;
	}
	atomic_fetch_add_explicit(&spans.unmaps, 1, memory_order_relaxed);
	return true;
}

/* Tries again what could not be unmapped. Whether any of it could now. */
static bool span_drop_stuck(void)
{
	struct osmem_span span;
	bool any = false;

	while (atomic_load_explicit(&spans.count, memory_order_relaxed) != 0) {
		osmem_lock(&osmem_core_lock);
		if (!span_take_stuck(1, &span))
			span.start = NULL;
		osmem_unlock(&osmem_core_lock);
		if (span.start == NULL || !span_drop_one(span))
			break;
		any = true;
	}
	return any;
}

/* What cannot be unmapped is used again, or goes when the next one can. */
static void span_drop(struct osmem_span span)
{
	if (span_drop_one(span))
		span_drop_stuck();
}

/* Empties an entry into *span. */
static void span_pull(struct span_kept *k, struct osmem_span *span)
{
	*span = (struct osmem_span){ .start = k->start, .size = k->size };
	span_clear(k);
}

/* Unmaps the entry that was freed first, with the lock let go. */
static bool span_evict(void)
{
	struct span_kept *k = span_oldest(false);
	struct osmem_span span;

	if (k == NULL)
		return false;
	span_pull(k, &span);
	osmem_unlock(&osmem_core_lock);
	span_drop(span);
	osmem_lock(&osmem_core_lock);
	return true;
}

static bool span_empty(void)
{
	bool any = false;

	osmem_lock(&osmem_core_lock);
	while (span_evict())
		any = true;
	osmem_unlock(&osmem_core_lock);
	return any;
}

static struct span_kept *span_unused(size_t size)
{
	struct span_kept *k = spans.kept;

	if (spans.bytes + size > SPAN_MOST)
		return NULL;
	while (k < spans.kept + SPAN_ENTRIES && k->state != SPAN_NONE)
		k++;
	return k < spans.kept + SPAN_ENTRIES ? k : NULL;
}

/* False when all entries are busy. Lock. */
static bool span_keep(struct osmem_span span)
{
	struct span_kept *k;

	while ((k = span_unused(span.size)) == NULL)
		if (!span_evict())
			return false;
	*k = (struct span_kept){ span.start, span.size, ++spans.frees,
				 SPAN_DIRTY };
	spans.bytes += span.size;
	spans.dirty += span.size;
	span_count(1);
	return true;
}

/* The next entry whose memory shall go back; NULL when all may stay. Lock. */
static struct span_kept *span_surplus(size_t allowance)
{
	struct span_kept *k = span_oldest(true);

	if (k == NULL || (spans.dirty <= allowance &&
			  spans.frees - k->freed < SPAN_AGE))
		return NULL;
	return k;
}

/* Gives an entry's memory back, with the lock let go. */
static void span_clean(struct span_kept *k)
{
	struct osmem_span span;
	int err;

	k->state = SPAN_BUSY;
	spans.dirty -= k->size;
	osmem_unlock(&osmem_core_lock);
	err = KEEP(osmem_sys_purge(k->start, k->size), "madvise", k->size);
	osmem_lock(&osmem_core_lock);
	k->state = SPAN_CLEAN;
	if (err == 0)
		return;
	spans.unpurgeable = true;
	span_pull(k, &span);
	osmem_unlock(&osmem_core_lock);
	span_drop(span);
	osmem_lock(&osmem_core_lock);
}

static void span_settle(void)
{
	bool cached = osmem_span_is_cached();
	struct span_kept *k;

	while ((k = span_surplus(cached ? spans.allowance : 0)) != NULL) {
		span_unregret(k->size);
		span_clean(k);
	}
}

bool osmem_span_trim(void)
{
	bool any = span_drop_stuck();
	struct span_kept *k;

	osmem_lock(&osmem_core_lock);
	while ((k = span_surplus(0)) != NULL) {
		span_clean(k);
		any = true;
	}
	osmem_unlock(&osmem_core_lock);
	return any;
}

/*
 * Under a limit on address space nothing is kept. The limit is looked at when
 * the first span is freed and then now and then, as that is a system call; one
 * that comes between is found by the mapping that fails. Lock.
 */
static bool span_should_keep(struct osmem_span span)
{
	if (span.size == 0 || span.size > SPAN_LARGEST || spans.unpurgeable ||
	    !(OSMEM_IS_REPLACEMENT || osmem_span_is_cached()))
		return false;
	if (spans.frees % SPAN_ENTRIES == 0)
		spans.limit = osmem_sys_space_limit();
	spans.frees += spans.limit != SIZE_MAX;
	return spans.limit == SIZE_MAX;
}

/* The part ahead of a span that is kept goes, or becomes memory. */
static void span_trim_ahead(struct osmem_span *span)
{
	if (span->ahead == 0)
		return;
	if (KEEP(osmem_sys_unmap(span->start + span->size, span->ahead),
		 "munmap", span->ahead) != 0 &&
	    KEEP(osmem_sys_commit(span->start + span->size, span->ahead),
		 "mprotect", span->ahead) == 0)
		span->size += span->ahead;
	span->ahead = 0;
}

void osmem_span_unmap(struct osmem_span span)
{
	bool kept;

	osmem_lock(&osmem_core_lock);
	kept = span_should_keep(span);
	osmem_unlock(&osmem_core_lock);
	if (kept) {
		span_trim_ahead(&span);
		span.size = osmem_up(span.size, osmem_sys_page_size());
		osmem_lock(&osmem_core_lock);
		kept = span_keep(span);
		span_settle();
		osmem_unlock(&osmem_core_lock);
	}
	if (!kept)
		span_drop(span);
}

bool osmem_span_is_kept(const void *p)
{
	const struct span_kept *k;

	for (k = spans.kept; k < spans.kept + SPAN_ENTRIES; k++)
		if (k->state != SPAN_NONE &&
		    (uintptr_t)p - (uintptr_t)k->start < k->size)
			return true;
	return false;
}

struct osmem_span_totals osmem_span_totals(void)
{
	struct osmem_span_totals totals = {
		.kept = atomic_load_explicit(&spans.count,
					     memory_order_relaxed),
		.bytes = spans.bytes,
		.dirty = spans.dirty,
		.maps = atomic_load_explicit(&spans.maps,
					     memory_order_relaxed),
		.unmaps = atomic_load_explicit(&spans.unmaps,
					       memory_order_relaxed),
	};

	return totals;
}
