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

/*
 * Everything has come back, or a part of what is left where there is no owner
 * to come by; or a 16th of the slab more, which may wait once where it is no
 * more than a few small slots.
 */
static OSMEM_COLD int slab_duty(const struct osmem_slab *s, uint32_t count,
				uint32_t part, bool told)
{
	uint32_t left = osmem_slab_in_use(s);
	int duty = told ? OSMEM_SLAB_POST : 0;

	if (osmem_slab_owner(s) == NULL)
		left /= SLAB_ORPHAN;
	if (count >= left)
		return duty | OSMEM_SLAB_HARVEST;
	if ((count & (part - 1)) != 0)
		return duty;
	return duty | (part >= SLAB_FEW ? OSMEM_SLAB_LOOK : OSMEM_SLAB_HARVEST);
}

/* The usual case of that: there is nothing to do. */
static inline bool slab_has_duty(const struct osmem_slab *s, uint32_t count,
				 uint32_t part)
{
	return (count & (part - 1)) == 0 || count >= osmem_slab_in_use(s) ||
	       atomic_load_explicit(&s->owner, memory_order_relaxed) == 0;
}

static inline bool slab_is_told(const struct osmem_slab *s, uint32_t count,
				uint32_t part)
{
	return count * SLAB_UNSEEN >= part ||
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
static inline __attribute__((always_inline)) int
osmem_slab_free_remote(struct osmem_slab *s, void *p, uint32_t index)
{
	const uint32_t links = OSMEM_SLAB_LINK_MASK << OSMEM_SLAB_LINK_SHIFT;
	uint32_t old = atomic_load_explicit(&s->remote, memory_order_relaxed);
	uint32_t link = (index + 1) << OSMEM_SLAB_LINK_SHIFT;
	/* Read before the slot is given up: the slab may be another's then. */
	uintptr_t secret = slab_secret(s->secret, p);
	uint32_t part = s->part;
	uint32_t now;
	uint32_t count;

	osmem_slab_set_mark(p);
	do {
		if (unlikely(slab_is_first(old, link)))
			return OSMEM_SLAB_REPORT;
		now = old + (1U << OSMEM_SLAB_COUNT_SHIFT);
		count = now >> OSMEM_SLAB_COUNT_SHIFT;
		now = (now & ~links) | link;
		if ((old & OSMEM_SLAB_POSTED) == 0 &&
		    slab_is_told(s, count, part))
			now |= OSMEM_SLAB_POSTED;
		*(uintptr_t *)p = secret ^ ((old & links) >>
					    OSMEM_SLAB_LINK_SHIFT);
	} while (!atomic_compare_exchange_weak_explicit(&s->remote, &old, now,
							memory_order_acq_rel,
							memory_order_relaxed));
	if (likely(((old ^ now) & OSMEM_SLAB_POSTED) == 0) &&
	    likely(!slab_has_duty(s, count, part)))
		return 0;
	return slab_duty(s, count, part,
			 ((old ^ now) & OSMEM_SLAB_POSTED) != 0);
}

#endif
