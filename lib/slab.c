/* SPDX-License-Identifier: MIT */
/*
 * slab.c - records: making, carving, remote frees, pieces.
 *
 * Making and deleting need the core's lock; the rest is the holder's, but the
 * remote list, which is one atomic word. Must never read a slot that has not
 * been located, nor one whose piece is gone.
 */
#include "slab_remote.h"

#include "check.h"
#include "sys.h"

#include <string.h>

OSMEM_VAR_DEFINED struct osmem_slab osmem_slab_nobody;
OSMEM_VAR_DEFINED uintptr_t osmem_slab_key;
OSMEM_VAR_DEFINED atomic_int osmem_slab_shut;

/* A slab has at least so many slots, and wastes at most a 12th at its end. */
enum {
	SLAB_SLOTS_LEAST = 8,
	SLAB_SLOTS_LARGE = 16, /* from SLAB_LARGE_SLOT bytes on, */
	SLAB_UNITS_LARGE = 16, /* where so many units have them */
	SLAB_LARGE_SLOT = 16 << 10,
	SLAB_WASTE = 12,
	SLAB_UNITS_MOST = 32,
	SLAB_PARTS = 16, /* of a slab, for who frees from outside */
	SLAB_NEVER = 1 << 15, /* more slots than there are */
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

struct osmem_slab *osmem_slab_of(const void *p)
{
	struct osmem_slab *s = osmem_slab_or_nobody(p);

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

static bool slab_wastes(size_t units, size_t size)
{
	return units * OSMEM_UNIT % size > units * OSMEM_UNIT / SLAB_WASTE;
}

/* What so many units have room for, in bytes. */
static uint32_t slab_most(size_t units, size_t size)
{
	return (uint32_t)(units * OSMEM_UNIT / size * size);
}

static size_t slab_units(size_t size)
{
	bool large = size >= SLAB_LARGE_SLOT &&
		     size * SLAB_SLOTS_LARGE <= SLAB_UNITS_LARGE * OSMEM_UNIT;
	size_t least = large ? SLAB_SLOTS_LARGE : SLAB_SLOTS_LEAST;
	size_t units = 1;

	/* Alone in its slab, so that others can have its memory. */
	if (size > SLAB_SHARED)
		return (size + OSMEM_UNIT - 1) >> OSMEM_UNIT_SHIFT;
	/* Each slot is a piece then. */
	while (units < SLAB_UNITS_MOST &&
	       (units + 1) * OSMEM_UNIT / size <= OSMEM_SLAB_PIECES &&
	       (units * OSMEM_UNIT / size < least ||
		slab_wastes(units, size)))
		units++;
	return units;
}

/* What all slabs of a class have in common. */
static struct slab_shape {
	uint64_t magic;
	uint32_t size;
	uint32_t most;
	uint32_t part;
	uint16_t units; /* 0: not computed yet */
	bool by_slot;
} slab_shapes[OSMEM_CLASSES];

static void slab_compute_shape(struct slab_shape *shape, size_t size)
{
	size_t units = slab_units(size);
	size_t slots = units * OSMEM_UNIT / size;

	/* The first term is 2^64 / size, rounded down. */
	shape->magic = UINT64_MAX / size + osmem_is_power_of_two(size) + 1;
	shape->size = (uint32_t)size;
	shape->most = slab_most(units, size);
	shape->part = 1;
	while ((size_t)shape->part * SLAB_PARTS < slots)
		shape->part *= 2;
	while ((size_t)1 << osmem_slab_piece_shift < osmem_sys_page_size() ||
	       OSMEM_UNIT >> osmem_slab_piece_shift > OSMEM_SLAB_PIECES)
		osmem_slab_piece_shift++;
	shape->by_slot = units > 1 || size >> osmem_slab_piece_shift != 0;
	OSMEM_ASSERT(!shape->by_slot || slots <= OSMEM_SLAB_PIECES);
	shape->units = (uint16_t)units;
}

/* Core's lock. */
static const struct slab_shape *slab_shape(unsigned int class)
{
	struct slab_shape *shape = &slab_shapes[class];

	if (shape->units == 0)
		slab_compute_shape(shape, osmem_class_size(class));
	return shape;
}

static void slab_measure(struct osmem_slab *s, unsigned int class,
			 const struct slab_shape *shape, size_t units)
{
	s->magic = shape->magic;
	s->size = shape->size;
	s->most = units == shape->units ? shape->most :
					  slab_most(units, shape->size);
	s->part = shape->part;
	s->class = (uint8_t) class;
	s->units = (uint16_t)units;
	s->by_slot = shape->by_slot;
}

/*
 * Another for each slab that lies there in turn: the links of the last one may
 * still stand in what a program copies without having written it.
 */
static uintptr_t slab_new_secret(const char *start)
{
	static uintptr_t lives;

	return (uintptr_t)osmem_block_mix(osmem_block_key[OSMEM_KEY_OTHER],
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

/* Pages of the region's maps only where there are many slots. */
static void slab_make_map(struct osmem_slab *s, size_t unit)
{
	size_t words = (s->most / s->size + 63) / 64;

	s->map = s->few;
	if (words > OSMEM_SLAB_FEW)
		s->map = (uint64_t *)(osmem_region.maps + unit * OSMEM_MAP);
	memset(s->map, 0, words * sizeof(*s->map));
	s->ready = 0;
}

/*
 * Fewer than usual for fewer slots, if that takes no fresh memory: what grows
 * leaves one class after the other, in rows too short for the next. Core's
 * lock.
 */
static size_t slab_units_at_hand(const struct slab_shape *shape)
{
	size_t units = osmem_region_longest_dirty();

	if (units >= shape->units)
		return shape->units;
	while (units * OSMEM_UNIT >= shape->size &&
	       slab_wastes(units, shape->size))
		units--;
	return units * OSMEM_UNIT >= shape->size ? units : shape->units;
}

struct osmem_slab *osmem_slab_new(unsigned int class,
				  struct osmem_thread *owner)
{
	const struct slab_shape *shape = slab_shape(class);
	size_t units = slab_units_at_hand(shape);
	struct osmem_slab *s;
	size_t first;
	size_t i;
	bool dirty;

	if (slab_is_too_large(units))
		return NULL;
	if (!osmem_region_take(units, &first, &dirty))
		return NULL;
	s = osmem_slab_record(first);
	s->start = osmem_region.base + (first << OSMEM_UNIT_SHIFT);
	slab_measure(s, class, shape, units);
	s->secret = slab_new_secret(s->start);
	s->dirty = dirty;
	s->idle = 0;
	s->prev = s->next = s->posted_next = NULL;
	slab_make_map(s, first);
	memset(s->busy, 0, sizeof(s->busy));
	atomic_store_explicit(&s->used, 0, memory_order_relaxed);
	atomic_store_explicit(&s->gone, 0, memory_order_relaxed);
	slab_set_carved(s, 0);
	slab_set_absent(s, 0);
	atomic_store_explicit(&s->remote, 0, memory_order_relaxed);
	osmem_slab_set_owner(s, owner);
	for (i = 0; i < units; i++)
		osmem_region.heads[first + i] = osmem_slab_head(s);
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
		osmem_region.heads[first + i] =
			osmem_slab_head(&osmem_slab_nobody);
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
slab_use(struct osmem_slab *s, struct slab_row row, uint32_t counted)
{
	do {
		if (s->busy[row.first]++ == 0 && row.first < counted)
			s->idle--;
	} while (unlikely(row.first++ != row.last));
}

static inline __attribute__((always_inline)) void
slab_unuse(struct osmem_slab *s, struct slab_row row)
{
	do {
		if (--s->busy[row.first] == 0)
			s->idle++;
	} while (unlikely(row.first++ != row.last));
}

static inline void slab_put(struct osmem_slab *s, uint32_t index)
{
	slab_set_ready(s, index);
	slab_unuse(s, slab_pieces(s, index));
}

/* What putting slots back reads of a record, which it writes to. */
struct slab_view {
	char *start;
	uint64_t *map;
	uint64_t magic;
	uintptr_t key;
	uint32_t most;
	uint32_t last; /* byte of a slot */
	unsigned int shift;
};

/* How slots lie in pieces: gcc makes a loop for each. */
enum slab_lie { SLAB_LIE_ALONE, SLAB_LIE_WITHIN, SLAB_LIE_ACROSS };

static inline __attribute__((always_inline)) size_t
slab_put_run(struct osmem_slab *s, void *const *slots, size_t count,
	     enum slab_lie lie)
{
	const struct slab_view v = { .start = s->start,
				     .map = s->map,
				     .magic = s->magic,
				     .key = osmem_slab_key,
				     .most = s->most,
				     .last = s->size - 1,
				     .shift = osmem_slab_piece_shift };
	size_t n;

	for (n = 0; n < count; n++) {
		const uintptr_t *slot = slots[n];
		uintptr_t offset = (uintptr_t)slot - (uintptr_t)v.start;
		struct slab_row row;
		uint32_t index;

		if (offset >= v.most)
			break;
		if (unlikely(slot[1] != (v.key ^ (uintptr_t)slot)))
			osmem_report_written(slot, s->size);
		index = slab_index_at((uint32_t)offset, v.magic, v.last + 1);
		slab_set_bit(s, v.map, index);
		row.first = lie == SLAB_LIE_ALONE ? index :
						    (uint32_t)offset >> v.shift;
		row.last = lie == SLAB_LIE_ACROSS ?
				   ((uint32_t)offset + v.last) >> v.shift :
				   row.first;
		slab_unuse(s, row);
	}
	return n;
}

static enum slab_lie slab_lie(const struct osmem_slab *s)
{
	if (s->by_slot)
		return SLAB_LIE_ALONE;
	return osmem_is_power_of_two(s->size) ? SLAB_LIE_WITHIN :
						SLAB_LIE_ACROSS;
}

size_t osmem_slab_put(struct osmem_slab *s, void *const *slots, size_t count)
{
	enum slab_lie lie = slab_lie(s);
	size_t n;

	if (lie == SLAB_LIE_WITHIN)
		n = slab_put_run(s, slots, count, SLAB_LIE_WITHIN);
	else if (lie == SLAB_LIE_ACROSS)
		n = slab_put_run(s, slots, count, SLAB_LIE_ACROSS);
	else
		n = slab_put_run(s, slots, count, SLAB_LIE_ALONE);
	slab_count_used(s, -(uint32_t)n);
	return n;
}

enum { SLAB_WORD = 64 };

/* All slots of a word of the map, none of which is in use: piece by piece. */
static void slab_take_word(struct osmem_slab *s, uint32_t word, void **end)
{
	uint32_t first = word * SLAB_WORD;
	uint32_t last = first + SLAB_WORD - 1;
	uint32_t piece = slab_pieces(s, first).first;
	uint32_t pieces = slab_pieces(s, last).last + 1;
	char *slot = slab_slot(s, first);
	int i;

	for (; piece < pieces; piece++) {
		struct slab_row row = slab_slots(s, piece);

		if (row.first < first)
			row.first = first;
		if (row.last > last)
			row.last = last;
		if (s->busy[piece] == 0)
			s->idle--;
		s->busy[piece] += (uint16_t)(row.last - row.first + 1);
	}
	for (i = 1; i <= SLAB_WORD; i++, slot += s->size)
		end[-i] = slot;
}

/* Of the first word of the map with any: what is in use stays together. */
static uint32_t slab_take_ready(struct osmem_slab *s, void **end, uint32_t most)
{
	uint32_t word = (uint32_t)__builtin_ctzll(s->ready);
	uint64_t map = s->map[word];
	char *start = s->start;
	uint32_t taken = 0;

	if (map == UINT64_MAX && most >= SLAB_WORD) {
		slab_take_word(s, word, end);
		taken = SLAB_WORD;
		map = 0;
	}
	for (; taken < most && map != 0; taken++) {
		uint32_t index =
			word * SLAB_WORD + (uint32_t)__builtin_ctzll(map);
		uint32_t offset = index * s->size;

		slab_use(s, slab_pieces_at(s, index, offset),
			 OSMEM_SLAB_PIECES);
		map &= map - 1;
		*--end = start + offset;
	}
	s->map[word] = map;
	if (map == 0)
		s->ready &= s->ready - 1;
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
static uint32_t slab_take_fresh(struct osmem_slab *s, void **place,
				uint32_t most)
{
	uint32_t carved = osmem_slab_carved(s);
	uint32_t index = slab_index(s, s->start + carved);
	uint32_t taken;

	if (most > (s->most - carved) / s->size)
		most = (s->most - carved) / s->size;
	for (taken = 0; taken < most; taken++) {
		uintptr_t *slot = (uintptr_t *)(s->start + carved);
		uint32_t counted = 0;

		if (carved != 0 && !s->by_slot)
			counted = ((carved - 1) >> osmem_slab_piece_shift) + 1;
		slab_use(s, slab_pieces_at(s, index, carved), counted);
		index++;
		osmem_slab_set_mark(slot);
		place[most - 1 - taken] = slot;
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

uint32_t osmem_slab_take(struct osmem_slab *s, void **place, uint32_t count)
{
	uint32_t taken = 0;

	osmem_slab_restore(s);
	while (taken < count && s->ready != 0)
		taken += slab_take_ready(s, place + count - taken,
					 count - taken);
	if (unlikely(taken != 0 && taken < count))
		memmove(place, place + count - taken, taken * sizeof(*place));
	if (taken == 0) {
		/* Each that waits in a bin costs memory that was not there. */
		if (!s->dirty && count > SLAB_FRESH / s->size + 1)
			count = SLAB_FRESH / s->size + 1;
		taken = slab_take_fresh(s, place, count);
	}
	slab_count_used(s, taken);
	return taken;
}

/* --- remote frees --- */

/*
 * While much is in use, what is untold is little of it. Later it counts: who
 * frees has compared it with what was in use before, or does now.
 */
void osmem_slab_catch_up(struct osmem_slab *s)
{
	uint32_t used = osmem_slab_in_use(s);

	if (used * s->size > s->most / SLAB_LITTLE)
		return;
	/* Nobody else frees. */
	if (osmem_sys_is_alone() && osmem_slab_waiting(s) == 0)
		return;
	osmem_slab_announce(s);
	if (osmem_slab_waiting(s) != 0 &&
	    osmem_slab_waiting(s) >= used / SLAB_UNSEEN_USED)
		osmem_slab_collect(s, false, NULL, 0);
}

/*
 * So many slots of the list that starts with these links: the first most in
 * place, backwards. What was freed twice is met again, without its link or in
 * the map.
 */
static void slab_put_remote(struct osmem_slab *s, uintptr_t first,
			    uint32_t count, void **place, uint32_t most)
{
	struct slab_links links = slab_links(s);
	uintptr_t *slot;
	uintptr_t next;
	uint32_t link;
	unsigned int i;

	for (i = 1; i + 1 < OSMEM_SLAB_LINKS; i++)
		slab_fetch(&links, first, i);
	for (; count != 0; count--, first = next) {
		slab_fetch(&links, first, OSMEM_SLAB_LINKS - 1);
		link = slab_link(first, 0);
		slot = slab_linked(&links, link);
		next = slab_next(&links, slot);
		slot[0] = 0;
		if (most == 0)
			slab_put(s, link - 1);
		else
			place[--most] = slot;
	}
}

uint32_t osmem_slab_collect(struct osmem_slab *s, bool posted, void **place,
			    uint32_t most)
{
	osmem_slab_word old =
		atomic_load_explicit(&s->remote, memory_order_relaxed);
	uint32_t used = osmem_slab_in_use(s);
	uint32_t count;

	if (!posted && old <= OSMEM_SLAB_POSTED)
		return 0;
	/*
	 * Pairs with the above in both directions. Counted before: who frees
	 * the last slot right after the exchange must see that it is the last.
	 */
	do {
		count = osmem_slab_count(old);
		slab_set_used(s, used - (count > most ? count - most : 0));
	} while (!atomic_compare_exchange_weak_explicit(
		&s->remote, &old, posted ? 0 : old & OSMEM_SLAB_POSTED,
		memory_order_acq_rel, memory_order_relaxed));
	if (count >= s->part)
		osmem_region_add_waiting(-slab_waits(s, count));
	slab_put_remote(s, slab_links_in(old), count, place,
			count < most ? count : most);
	return count;
}

void osmem_slab_freeze(struct osmem_slab *s)
{
	s->part = SLAB_NEVER;
	atomic_store_explicit(&s->owner, 0, memory_order_relaxed);
}

size_t osmem_slab_waits(const struct osmem_slab *s)
{
	return (size_t)slab_waits(s, osmem_slab_waiting(s));
}
