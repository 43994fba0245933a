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
	uint16_t part;  /* of these, which counts as waiting */
	bool told;      /* to be posted to its owner: it was not */
	bool due;       /* there is anything to do */
	uint32_t size;
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

/* A 16th of the slab more waits for its owner. Whether it does. */
static inline bool osmem_slab_count_waiting(const struct osmem_slab_freed *f)
{
	if (!slab_is_part(f->count, f->part))
		return false;
	osmem_region_add_waiting((ptrdiff_t)f->part * (ptrdiff_t)f->size);
	return true;
}

static inline bool slab_is_due(const struct osmem_slab *s, uint32_t count,
			       uint32_t part)
{
	return slab_is_part(count, part) || count >= osmem_slab_in_use(s) ||
	       atomic_load_explicit(&s->owner, memory_order_relaxed) == 0;
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
	const osmem_slab_word one = (osmem_slab_word)1
				    << OSMEM_SLAB_COUNT_SHIFT;
	const osmem_slab_word mask = one - OSMEM_SLAB_POSTED - 1;
	struct osmem_slab_freed freed = { .part = s->part, .size = s->size };
	uintptr_t secret = slab_secret(s->secret, p);
	osmem_slab_word old =
		atomic_load_explicit(&s->remote, memory_order_relaxed);
	osmem_slab_word now;

	osmem_slab_set_mark(p);
	do {
		osmem_slab_word links = slab_links_in(old);

		if (unlikely(slab_link(links, 0) == index + 1))
			return (struct osmem_slab_freed){ .due = true };
		*(uintptr_t *)p = secret ^ links;
		links = links << OSMEM_SLAB_LINK | (index + 1);
		now = ((old + one) & ~mask) |
		      (links << OSMEM_SLAB_LINK_SHIFT & mask);
		freed.count = (uint32_t)(now >> OSMEM_SLAB_COUNT_SHIFT);
		freed.told = (old & OSMEM_SLAB_POSTED) == 0 &&
			     slab_is_told(s, freed.count, freed.part);
		now |= freed.told ? OSMEM_SLAB_POSTED : 0;
	} while (!atomic_compare_exchange_weak_explicit(&s->remote, &old, now,
							memory_order_acq_rel,
							memory_order_relaxed));
	freed.due = freed.told || slab_is_due(s, freed.count, freed.part);
	return freed;
}

#endif
