/* SPDX-License-Identifier: MIT */
/*
 * slab.c - records: their shapes, making and deleting, owners.
 *
 * Making and deleting need the core's lock, the rest is the holder's. Must
 * never write to a slot.
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
	SLAB_SHARED = 256 << 10, /* the largest slot of many in a slab */
	SLAB_LARGE = 64, /* units; above that, a part of the region at most */
	SLAB_PART = 64 /* and that is this one */
};

/* The least magic is above what the largest slab makes of e <= size. */
_Static_assert(UINT64_MAX / OSMEM_CLASS_LARGEST >
		       SLAB_UNITS_MOST * OSMEM_UNIT + OSMEM_CLASS_LARGEST * 2,
	       "osmem_slab_is_slot is exact");

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

void osmem_slab_freeze(struct osmem_slab *s)
{
	s->part = SLAB_NEVER;
	atomic_store_explicit(&s->owner, 0, memory_order_relaxed);
}

size_t osmem_slab_waits(const struct osmem_slab *s)
{
	return (size_t)slab_waits(s, osmem_slab_waiting(s));
}
