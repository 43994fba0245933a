/* SPDX-License-Identifier: MIT */
/*
 * slab.c - records: making, carving, remote frees, pieces.
 *
 * Making and deleting need the core's lock; the rest is the holder's, but the
 * remote list, which is one atomic word. Must never read a slot that has not
 * been located, nor one whose piece is gone.
 */
#include "slab_state.h"

#include "check.h"
#include "sys.h"

#include <string.h>

OSMEM_VAR_DEFINED struct osmem_slab osmem_slab_nobody;
OSMEM_VAR_DEFINED uintptr_t osmem_slab_key;
OSMEM_VAR_DEFINED atomic_int osmem_slab_shut;

/* A slab has at least so many slots, and wastes at most a 12th at its end. */
enum {
	SLAB_SLOTS_LEAST = 8,
	SLAB_WASTE = 12,
	SLAB_UNITS_MOST = 32,
	SLAB_ORPHAN = 4, /* of what is left of one, this part is much */
	SLAB_FEW = 4, /* slots of a 16th of it, which may wait */
	/* What others freed before the owner is told: parts of all, of used. */
	SLAB_UNSEEN = 64,
	SLAB_UNSEEN_USED = 8,
	SLAB_LITTLE = 4, /* of a slab in use, this part is little */
	SLAB_SHARED = 256 << 10, /* the largest slot of many in a slab */
	SLAB_LARGE = 64, /* units; above that, a part of the region at most */
	SLAB_PART = 64 /* and that is this one */
};

/* The least magic is above what the largest slab makes of e <= size. */
_Static_assert(UINT64_MAX / OSMEM_CLASS_LARGEST >
		       SLAB_UNITS_MOST * OSMEM_UNIT + OSMEM_CLASS_LARGEST * 2,
	       "osmem_slab_is_slot is exact");

/* About so many bytes of fresh slots are handed out at once. */
enum { SLAB_FRESH = 4096 };

OSMEM_VAR_DEFINED unsigned int osmem_slab_piece_shift;

static size_t slab_units(size_t size)
{
	size_t units = 1;

	/* Alone in its slab, so that others can have its memory. */
	if (size > SLAB_SHARED)
		return (size + OSMEM_UNIT - 1) >> OSMEM_UNIT_SHIFT;
	/* Each slot is a piece where there is more than one unit. */
	while (units < SLAB_UNITS_MOST &&
	       (units + 1) * OSMEM_UNIT / size <= OSMEM_SLAB_PIECES &&
	       (units * OSMEM_UNIT / size < SLAB_SLOTS_LEAST ||
		units * OSMEM_UNIT % size > units * OSMEM_UNIT / SLAB_WASTE))
		units++;
	return units;
}

struct osmem_slab *osmem_slab_of(const void *p)
{
	struct osmem_slab *s;
	size_t offset;

	if (!osmem_region_holds(p))
		return NULL;
	offset = (uintptr_t)p - (uintptr_t)osmem_region.base;
	s = osmem_region.heads[offset >> OSMEM_UNIT_SHIFT];
	return s != &osmem_slab_nobody ? s : NULL;
}

bool osmem_slab_is_free(const struct osmem_slab *s, const void *slot)
{
	return slab_is_gone(s, slab_index(s, slot)) ||
	       osmem_slab_is_marked(slot);
}

void osmem_slab_set_owner(struct osmem_slab *s, struct osmem_thread *owner)
{
	atomic_store_explicit(&s->owner, (uintptr_t)owner,
			      memory_order_relaxed);
	slab_set_gone(s, slab_gone(s));
}

/* --- slabs come and go --- */

static void slab_measure(struct osmem_slab *s, unsigned int class, size_t units)
{
	size_t size = osmem_class_size(class);

	/* The first term is 2^64 / size, rounded down. */
	s->magic = UINT64_MAX / size + osmem_is_power_of_two(size) + 1;
	s->size = (uint32_t)size;
	s->most = (uint32_t)(units * OSMEM_UNIT / size * size);
	s->class = (uint8_t) class;
	s->units = (uint16_t)units;
	OSMEM_ASSERT(units == 1 || s->most / s->size <= OSMEM_SLAB_PIECES);
	while ((size_t)1 << osmem_slab_piece_shift < osmem_sys_page_size() ||
	       OSMEM_UNIT >> osmem_slab_piece_shift > OSMEM_SLAB_PIECES)
		osmem_slab_piece_shift++;
}

/*
 * Another for each slab that lies there in turn: the links of the last one may
 * still stand in what a program copies without having written it.
 */
static uintptr_t slab_new_secret(const char *start)
{
	static uintptr_t lives;

	return (uintptr_t)osmem_block_mix(osmem_block_key[0],
					  (uintptr_t)start + ++lives);
}

/*
 * A mapping is better: few that are large shall leave space for many, and
 * locked pages go back by being unmapped only.
 */
static bool slab_is_too_large(size_t units)
{
	return units > SLAB_LARGE &&
	       (units << OSMEM_UNIT_SHIFT >
			osmem_region_totals().reserved / SLAB_PART ||
		osmem_region_is_refused());
}

struct osmem_slab *osmem_slab_new(unsigned int class,
				  struct osmem_thread *owner)
{
	size_t units = slab_units(osmem_class_size(class));
	struct osmem_slab *s;
	size_t first;
	size_t i;

	if (slab_is_too_large(units))
		return NULL;
	if (!osmem_region_take(units, &first))
		return NULL;
	s = osmem_slab_record(first);
	s->start = osmem_region.base + (first << OSMEM_UNIT_SHIFT);
	slab_measure(s, class, units);
	s->secret = slab_new_secret(s->start);
	s->full = false;
	s->ready = s->idle = 0;
	s->prev = s->next = s->posted_next = NULL;
	memset(s->lists, 0, sizeof(s->lists));
	memset(s->busy, 0, sizeof(s->busy));
	atomic_store_explicit(&s->used, 0, memory_order_relaxed);
	atomic_store_explicit(&s->gone, 0, memory_order_relaxed);
	slab_set_carved(s, 0);
	slab_set_absent(s, 0);
	atomic_store_explicit(&s->remote, 0, memory_order_relaxed);
	osmem_slab_set_owner(s, owner);
	for (i = 0; i < units; i++)
		osmem_region.heads[first + i] = s;
	return s;
}

void osmem_slab_delete(struct osmem_slab *s)
{
	size_t first =
		(size_t)(s->start - osmem_region.base) >> OSMEM_UNIT_SHIFT;
	size_t i;

	OSMEM_ASSERT(atomic_load(&s->remote) == 0);
	osmem_region_add_gone(-(ptrdiff_t)(slab_pieces_size(s, slab_gone(s)) +
					   osmem_slab_absent(s)));
	slab_set_carved(s, 0);
	osmem_slab_set_owner(s, NULL);
	for (i = 0; i < s->units; i++)
		osmem_region.heads[first + i] = &osmem_slab_nobody;
	osmem_region_give(first, s->units);
}

/* --- taking and putting --- */

/* used is the holder's to write; more may be negative. */
static void slab_set_used(struct osmem_slab *s, uint32_t used)
{
	atomic_store_explicit(&s->used, used, memory_order_relaxed);
}

static void slab_count_used(struct osmem_slab *s, uint32_t more)
{
	slab_set_used(s, osmem_slab_in_use(s) + more);
}

/* Counted: the pieces below have memory, so one that was free was idle. */
static inline __attribute__((always_inline)) void
slab_use(struct osmem_slab *s, uint32_t index, uint32_t counted)
{
	struct slab_row row = slab_pieces(s, index);

	do {
		if (s->busy[row.first]++ == 0 && row.first < counted)
			s->idle--;
	} while (unlikely(row.first++ != row.last));
}

/*
 * Whether a slot bears a link of the slab's lists: it was freed twice then, as
 * who takes it out clears that. In 32 bits what a program leaves in a slot can
 * look so by chance.
 */
static inline bool slab_is_listed(const struct osmem_slab *s,
				  const uintptr_t *slot)
{
	return sizeof(*slot) == 8 &&
	       (slot[0] ^ slab_secret(s, slot)) <= OSMEM_SLAB_LINK_MASK;
}

static inline __attribute__((always_inline)) void
slab_put(struct osmem_slab *s, const uintptr_t *slot)
{
	uint32_t index = slab_index(s, slot);
	struct slab_row row = slab_pieces(s, index);

	if (unlikely(!osmem_slab_is_marked(slot) || slab_is_listed(s, slot)))
		osmem_report_written(slot, s->size);
	slab_link(s, index, row.first);
	do {
		if (--s->busy[row.first] == 0)
			s->idle++;
	} while (unlikely(row.first++ != row.last));
}

size_t osmem_slab_put(struct osmem_slab *s, void *const *slots, size_t count)
{
	size_t n;

	for (n = 0;
	     n < count && (uintptr_t)slots[n] - (uintptr_t)s->start < s->most;
	     n++)
		slab_put(s, slots[n]);
	slab_count_used(s, -(uint32_t)n);
	return n;
}

/* From the lowest piece: what is in use stays together. */
static uint32_t slab_take_ready(struct osmem_slab *s, void **end, uint32_t most)
{
	uint32_t piece = (uint32_t)__builtin_ctz(s->ready);
	uint32_t index = s->lists[piece];
	uint32_t taken = 0;

	while (index != 0 && taken < most) {
		uintptr_t *slot = slab_slot(s, index - 1);

		slab_use(s, index - 1, OSMEM_SLAB_PIECES);
		index = slab_next(s, slot, 0);
		slot[0] = 0;
		*--end = slot;
		taken++;
	}
	s->lists[piece] = (uint16_t)index;
	if (index == 0)
		s->ready &= ~(1U << piece);
	return taken;
}

/* Of what has just been carved some may have been there before. */
static void slab_count_present(struct osmem_slab *s, uint32_t bytes)
{
	uint32_t absent = osmem_slab_absent(s);

	if (likely(absent == 0))
		return;
	if (bytes > absent)
		bytes = absent;
	slab_set_absent(s, absent - bytes);
	osmem_region_add_gone(-(ptrdiff_t)bytes);
	osmem_region_regret(bytes);
}

/* Slots that are not carved; none while there are any others. */
static uint32_t slab_take_fresh(struct osmem_slab *s, void **end, uint32_t most)
{
	uint32_t carved = osmem_slab_carved(s);
	uint32_t index = slab_index(s, s->start + carved);
	uint32_t taken = 0;

	for (; carved < s->most && taken < most; taken++) {
		uintptr_t *slot = (uintptr_t *)(s->start + carved);
		uint32_t counted = 0;

		if (carved != 0 && s->units == 1)
			counted = ((carved - 1) >> osmem_slab_piece_shift) + 1;
		slab_use(s, index++, counted);
		/* It may have been carved before, and bear a link. */
		slot[0] = 0;
		osmem_slab_set_mark(slot);
		*--end = slot;
		carved += s->size;
	}
	slab_set_carved(s, index);
	slab_count_present(s, taken * s->size);
	return taken;
}

bool osmem_slab_has_slots(const struct osmem_slab *s)
{
	return s->ready != 0 || slab_gone(s) != 0 ||
	       osmem_slab_carved(s) < s->most || osmem_slab_waiting(s) != 0;
}

uint32_t osmem_slab_take(struct osmem_slab *s, void **end, uint32_t count)
{
	uint32_t taken = 0;

	osmem_slab_restore(s);
	while (taken < count && s->ready != 0)
		taken += slab_take_ready(s, end - taken, count - taken);
	if (taken == 0) {
		/* Each that waits in a bin costs memory that was not there. */
		if (count > SLAB_FRESH / s->size + 1)
			count = SLAB_FRESH / s->size + 1;
		taken = slab_take_fresh(s, end, count);
	}
	slab_count_used(s, taken);
	return taken;
}

/* --- remote frees --- */

/*
 * Everything has come back, or a part of what is left where there is no owner
 * to come by; or a 16th of the slab more, which may wait once where it is no
 * more than a few small slots.
 */
static int slab_duty(const struct osmem_slab *s, uint32_t count, uint32_t size,
		     uint32_t most)
{
	uint32_t part = most / 16;
	uint32_t left = osmem_slab_in_use(s);

	if (osmem_slab_owner(s) == NULL)
		left /= SLAB_ORPHAN;
	if (count >= left)
		return OSMEM_SLAB_HARVEST;
	if (count * size / part == (count - 1) * size / part)
		return 0;
	return size <= part / SLAB_FEW ? OSMEM_SLAB_LOOK : OSMEM_SLAB_HARVEST;
}

static bool slab_is_told(const struct osmem_slab *s, uint32_t count,
			 uint32_t size, uint32_t most)
{
	return count * size >= most / SLAB_UNSEEN ||
	       count >= osmem_slab_in_use(s) / SLAB_UNSEEN_USED;
}

/*
 * Two threads that free a slot at once both see it unmarked: the second finds
 * what the first has put there. With a third slot between it is found when the
 * list is collected.
 */
static bool slab_is_first(uint32_t remote, uint32_t link)
{
	const uint32_t mask = OSMEM_SLAB_LINK_MASK << OSMEM_SLAB_LINK_SHIFT;

	return (remote & mask) == link;
}

/*
 * Release: who takes the list sees what was written into the slots, link and
 * mark included. Acquire: who sets the posted bit, the first since the last
 * drain, may write posted_next, which the drain has read before it cleared it.
 */
int osmem_slab_free_remote(struct osmem_slab *s, void *p)
{
	uint32_t old = atomic_load_explicit(&s->remote, memory_order_relaxed);
	uint32_t link = (slab_index(s, p) + 1) << OSMEM_SLAB_LINK_SHIFT;
	/* Read before the slot is given up: the slab may be another's then. */
	uint32_t size = s->size;
	uint32_t most = s->most;
	uint32_t posted;
	uint32_t count;
	int duty;

	osmem_slab_set_mark(p);
	do {
		if (slab_is_first(old, link))
			return OSMEM_SLAB_REPORT;
		count = (old >> OSMEM_SLAB_COUNT_SHIFT) + 1;
		posted = old & OSMEM_SLAB_POSTED;
		if (slab_is_told(s, count, size, most))
			posted = OSMEM_SLAB_POSTED;
		slab_set_next(s, p,
			      SLAB_REMOTE | (old >> OSMEM_SLAB_LINK_SHIFT &
					     OSMEM_SLAB_LINK_MASK));
	} while (!atomic_compare_exchange_weak_explicit(
		&s->remote, &old,
		count << OSMEM_SLAB_COUNT_SHIFT | link | posted,
		memory_order_acq_rel, memory_order_relaxed));
	duty = slab_duty(s, count, size, most);
	if (posted != (old & OSMEM_SLAB_POSTED))
		duty |= OSMEM_SLAB_POST;
	return duty;
}

/*
 * A slot that was freed twice is met again, with a link of the slab's own list.
 * Returns the next.
 */
static uint32_t slab_put_remote(struct osmem_slab *s, uint32_t link)
{
	uintptr_t *slot = slab_slot(s, link - 1);
	uint32_t next = slab_next(s, slot, SLAB_REMOTE);

	slab_put(s, slot);
	return next;
}

/*
 * While much is in use, what is untold is little of it. Later it counts: who
 * frees has compared it with what was in use before, or does now.
 */
void osmem_slab_catch_up(struct osmem_slab *s)
{
	uint32_t used = osmem_slab_in_use(s);

	if (used * s->size > s->most / SLAB_LITTLE)
		return;
	osmem_slab_announce(s);
	if (osmem_slab_waiting(s) != 0 &&
	    osmem_slab_waiting(s) >= used / SLAB_UNSEEN_USED)
		osmem_slab_collect(s, false);
}

bool osmem_slab_collect(struct osmem_slab *s, bool posted)
{
	uint32_t old = atomic_load_explicit(&s->remote, memory_order_relaxed);
	uint32_t used = osmem_slab_in_use(s);
	uint32_t count;
	uint32_t link;

	if (!posted && old <= OSMEM_SLAB_POSTED)
		return false;
	/*
	 * Pairs with the above in both directions. Counted before: who frees
	 * the last slot right after the exchange must see that it is the last.
	 */
	do
		slab_set_used(s, used - (old >> OSMEM_SLAB_COUNT_SHIFT));
	while (!atomic_compare_exchange_weak_explicit(
		&s->remote, &old, posted ? 0 : old & OSMEM_SLAB_POSTED,
		memory_order_acq_rel, memory_order_relaxed));
	link = old >> OSMEM_SLAB_LINK_SHIFT & OSMEM_SLAB_LINK_MASK;
	count = old >> OSMEM_SLAB_COUNT_SHIFT;
	if (count == 0)
		return false;
	while (count-- != 0)
		link = slab_put_remote(s, link);
	return true;
}
