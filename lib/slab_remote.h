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
	/* The owner is told of so much: parts of that 16th, of used. */
	SLAB_UNSEEN = 4,
	SLAB_UNSEEN_USED = 8
};

/* What a free has come to; from before it, as the slab may be another's now. */
struct osmem_slab_freed {
	uint32_t count; /* that wait; 0: another thread has just freed it */
	uint32_t part;  /* of these, which counts as waiting */
	uint32_t size;
	bool told;      /* to be posted to its owner: it was not */
};

static inline bool slab_is_part(uint32_t count, uint32_t part)
{
	return (count & (part - 1)) == 0;
}

/*
 * What the caller has to look after: everything has come back, or a good part
 * of what is left where there is no owner to come by.
 */
static inline bool osmem_slab_has_come_back(const struct osmem_slab *s,
					    uint32_t count)
{
	uint32_t left = osmem_slab_in_use(s);

	return count >= (osmem_slab_owner(s) == NULL ? left / SLAB_ORPHAN :
						       left);
}

/* Bytes that wait for the owner now: a 16th of the slab more, or 0. */
static inline uint32_t osmem_slab_waits_more(const struct osmem_slab_freed *f)
{
	return slab_is_part(f->count, f->part) ? f->part * f->size : 0;
}

/* Whether the caller has anything to do: hardly ever. */
static inline bool osmem_slab_is_due(const struct osmem_slab *s,
				     const struct osmem_slab_freed *f)
{
	return unlikely(f->told) ||
	       unlikely(slab_is_part(f->count, f->part)) ||
	       unlikely(f->count >= osmem_slab_in_use(s)) ||
	       unlikely(atomic_load_explicit(&s->owner,
					     memory_order_relaxed) == 0);
}

static inline bool slab_is_told(const struct osmem_slab *s, uint32_t count,
				uint32_t part)
{
	return count * SLAB_UNSEEN >= part ||
	       count >= osmem_slab_in_use(s) / SLAB_UNSEEN_USED;
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
 * Frees a slot, by its number, of a slab that is not held. Two threads that do
 * so at once both see it unmarked: the second finds what the first has put
 * there. With a third slot between it is found when the list is collected.
 *
 * Release: who takes the list sees what was written into the slots, link and
 * mark included. Acquire: who sets the posted bit, the first since the last
 * drain, may write posted_next, which the drain has read before it cleared it.
 */
static inline __attribute__((always_inline)) struct osmem_slab_freed
osmem_slab_free_remote(struct osmem_slab *s, void *p, uint32_t index)
{
	struct osmem_slab_freed freed = { .part = s->part, .size = s->size };
	uintptr_t secret = slab_secret(s->secret, p);
	osmem_slab_word old =
		atomic_load_explicit(&s->remote, memory_order_relaxed);
	osmem_slab_word now;

	osmem_slab_set_mark(p);
	do {
		if (unlikely(slab_link(slab_links_in(old), 0) == index + 1)) {
			freed.count = 0;
			return freed;
		}
		*(uintptr_t *)p = secret ^ slab_links_in(old);
		now = slab_add_link(old, index + 1);
		freed.count = osmem_slab_count(now);
		if ((old & OSMEM_SLAB_POSTED) == 0 &&
		    slab_is_told(s, freed.count, freed.part))
			now |= OSMEM_SLAB_POSTED;
	} while (!atomic_compare_exchange_weak_explicit(&s->remote, &old, now,
							memory_order_acq_rel,
							memory_order_relaxed));
	freed.told = ((old ^ now) & OSMEM_SLAB_POSTED) != 0;
	return freed;
}

#endif
