/* SPDX-License-Identifier: MIT */
/*
 * slab_remote.h - frees into slabs that are not held: the remote list.
 *
 * One atomic word, and no lock. In a header, as it is half of the path of what
 * one thread allocates and another frees.
 */
#ifndef OSMEM_SLAB_REMOTE_H
#define OSMEM_SLAB_REMOTE_H

#include "slab_state.h"

enum {
	SLAB_ORPHAN = 4, /* of what is left of one, this part is much */
	SLAB_FEW = 4, /* slots of a 16th of it, which may wait */
	/* The owner is told of so much: parts of that 16th, of used. */
	SLAB_UNSEEN = 4,
	SLAB_UNSEEN_USED = 8
};

/* What the caller of osmem_slab_free_remote() has to do. */
enum osmem_slab_duty {
	OSMEM_SLAB_POST = 1, /* the slab to its owner: it was not posted */
	OSMEM_SLAB_LOOK = 2, /* after it, if nobody does: much has come back */
	OSMEM_SLAB_HARVEST = 4, /* the same at once: nobody may come by */
	OSMEM_SLAB_REPORT = 8 /* another thread has just freed it: no effect */
};

/* A 16th of the slab, in bytes, or a little less: a power of two. */
static inline uint32_t slab_part(const struct osmem_slab *s)
{
	return OSMEM_UNIT / 16 << (31 - __builtin_clz(s->units));
}

/*
 * Everything has come back, or a part of what is left where there is no owner
 * to come by; or a 16th of the slab more, which may wait once where it is no
 * more than a few small slots.
 */
static inline int slab_duty(const struct osmem_slab *s, uint32_t count,
			    uint32_t size, uint32_t part)
{
	uint32_t left = osmem_slab_in_use(s);

	if (osmem_slab_owner(s) == NULL)
		left /= SLAB_ORPHAN;
	if (unlikely(count >= left))
		return OSMEM_SLAB_HARVEST;
	if (likely((count * size & (part - 1)) >= size))
		return 0;
	return size <= part / SLAB_FEW ? OSMEM_SLAB_LOOK : OSMEM_SLAB_HARVEST;
}

static inline bool slab_is_told(const struct osmem_slab *s, uint32_t count,
				uint32_t size, uint32_t part)
{
	return count * size >= part / SLAB_UNSEEN ||
	       count >= osmem_slab_in_use(s) / SLAB_UNSEEN_USED;
}

/*
 * Two threads that free a slot at once both see it unmarked: the second finds
 * what the first has put there. With a third slot between it is found when the
 * list is collected.
 */
static inline bool slab_is_first(uint32_t remote, uint32_t link)
{
	const uint32_t mask = OSMEM_SLAB_LINK_MASK << OSMEM_SLAB_LINK_SHIFT;

	return (remote & mask) == link;
}

/* As osmem_slab_is_slot, and the slot's number: one product says both. */
static inline bool osmem_slab_find(const struct osmem_slab *s, const void *p,
				   uint32_t *index)
{
#ifdef __SIZEOF_INT128__
	uintptr_t offset = (uintptr_t)p - (uintptr_t)s->start;
	unsigned __int128 product = (unsigned __int128)offset * s->magic;

	*index = (uint32_t)(product >> 64);
	return (uint64_t)product <
	       atomic_load_explicit(&s->bound, memory_order_relaxed);
#else
	*index = slab_index(s, p);
	return osmem_slab_is_slot(s, p);
#endif
}

/*
 * Frees a slot, by its number, of a slab that is not held.
 *
 * Release: who takes the list sees what was written into the slots, link and
 * mark included. Acquire: who sets the posted bit, the first since the last
 * drain, may write posted_next, which the drain has read before it cleared it.
 */
static inline int osmem_slab_free_remote(struct osmem_slab *s, void *p,
					 uint32_t index)
{
	uint32_t old = atomic_load_explicit(&s->remote, memory_order_relaxed);
	uint32_t link = (index + 1) << OSMEM_SLAB_LINK_SHIFT;
	/* Read before the slot is given up: the slab may be another's then. */
	uintptr_t secret = slab_secret(s->secret, p) ^ SLAB_REMOTE;
	uint32_t part = slab_part(s);
	uint32_t size = s->size;
	uint32_t posted;
	uint32_t count;
	int duty;

	osmem_slab_set_mark(p);
	do {
		if (unlikely(slab_is_first(old, link)))
			return OSMEM_SLAB_REPORT;
		count = (old >> OSMEM_SLAB_COUNT_SHIFT) + 1;
		posted = OSMEM_SLAB_POSTED;
		if ((old & posted) == 0 && !slab_is_told(s, count, size, part))
			posted = 0;
		*(uintptr_t *)p = secret ^ (old >> OSMEM_SLAB_LINK_SHIFT &
					    OSMEM_SLAB_LINK_MASK);
	} while (!atomic_compare_exchange_weak_explicit(
		&s->remote, &old,
		count << OSMEM_SLAB_COUNT_SHIFT | link | posted,
		memory_order_acq_rel, memory_order_relaxed));
	duty = slab_duty(s, count, size, part);
	if (unlikely(posted != (old & OSMEM_SLAB_POSTED)))
		duty |= OSMEM_SLAB_POST;
	return duty;
}

#endif
