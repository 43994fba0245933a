/* SPDX-License-Identifier: MIT */
/*
 * slab_state.h - slots, pieces, the map and links: what the files of slab
 * share, and nobody else sees. The slab is held.
 */
#ifndef OSMEM_SLAB_STATE_H
#define OSMEM_SLAB_STATE_H

#include "slab.h"

#include "report.h"

/* --- slots and pieces --- */

/* The number of a slot, by the reciprocal of its size. */
static inline uint32_t slab_index_at(uint32_t offset, uint64_t magic,
				     uint32_t size)
{
#ifdef __SIZEOF_INT128__
	(void)size;
	return (uint32_t)((unsigned __int128)offset * magic >> 64);
#else
	(void)magic;
	return offset / size;
#endif
}

static inline uint32_t slab_index(const struct osmem_slab *s, const void *slot)
{
	return slab_index_at((uint32_t)((const char *)slot - s->start),
			     s->magic, s->size);
}

static inline void *slab_slot(const struct osmem_slab *s, uint32_t index)
{
	return s->start + (size_t)index * s->size;
}

/* A row of pieces, or of slots. */
struct slab_row {
	uint32_t first;
	uint32_t last;
};

/* The pieces that a slot touches, by its number and where that begins. */
static inline struct slab_row slab_pieces_at(const struct osmem_slab *s,
					     uint32_t index, uint32_t offset)
{
	if (s->by_slot)
		return (struct slab_row){index, index};
	return (struct slab_row){offset >> osmem_slab_piece_shift,
				 (offset + s->size - 1) >>
					 osmem_slab_piece_shift};
}

static inline struct slab_row slab_pieces(const struct osmem_slab *s,
					  uint32_t index)
{
	return slab_pieces_at(s, index, index * s->size);
}

/* The slots that touch a piece, carved or not. */
static inline struct slab_row slab_slots(const struct osmem_slab *s,
					 uint32_t piece)
{
	if (s->by_slot)
		return (struct slab_row){piece, piece};
	return (struct slab_row){
		slab_index_at(piece << osmem_slab_piece_shift, s->magic,
			      s->size),
		slab_index_at(((piece + 1) << osmem_slab_piece_shift) - 1,
			      s->magic, s->size)};
}

static inline size_t slab_piece_size(const struct osmem_slab *s)
{
	return s->by_slot ? s->size : (size_t)1 << osmem_slab_piece_shift;
}

static inline size_t slab_pieces_size(const struct osmem_slab *s,
				      uint32_t pieces)
{
	return (size_t)__builtin_popcount(pieces) * slab_piece_size(s);
}

static inline uint32_t slab_gone(const struct osmem_slab *s)
{
	return atomic_load_explicit(&s->gone, memory_order_relaxed);
}

static inline bool slab_is_gone(const struct osmem_slab *s, uint32_t index)
{
	struct slab_row row;

	if (likely(slab_gone(s) == 0))
		return false;
	row = slab_pieces(s, index);
	return (slab_gone(s) >> row.first &
		((2U << (row.last - row.first)) - 1)) != 0;
}

/* Torn or not: the owner must know by a look at its own name. */
static inline void slab_set_gone(struct osmem_slab *s, uint32_t gone)
{
	uintptr_t owner = (uintptr_t)osmem_slab_owner(s);

	atomic_store_explicit(&s->gone, gone, memory_order_relaxed);
	if (owner != 0 &&
	    (gone != 0 ||
	     atomic_load_explicit(&osmem_slab_shut, memory_order_relaxed)))
		owner |= OSMEM_SLAB_TORN;
	atomic_store_explicit(&s->owner, owner, memory_order_relaxed);
}

/* --- the map --- */

/* A slot that is not in the map comes into it. */
static inline void slab_set_bit(struct osmem_slab *s, uint64_t *map,
				uint32_t index)
{
	uint64_t *word = &map[index / 64];
	uint64_t old = *word;

	if (unlikely((old >> index % 64 & 1) != 0))
		osmem_report_written(slab_slot(s, index), s->size);
	*word = old | (uint64_t)1 << index % 64;
	if (old == 0)
		s->ready |= (uint64_t)1 << index / 64;
}

static inline void slab_set_ready(struct osmem_slab *s, uint32_t index)
{
	slab_set_bit(s, s->map, index);
}

/* Those of a row leave it, which are in it or not. */
static inline void slab_clear_ready(struct osmem_slab *s, uint32_t first,
				    uint32_t end)
{
	uint32_t word;
	uint32_t bits;

	for (; first < end; first += bits) {
		word = first / 64;
		bits = 64 - first % 64;
		if (bits > end - first)
			bits = end - first;
		s->map[word] &= ~(UINT64_MAX >> (64 - bits) << first % 64);
		if (s->map[word] == 0)
			s->ready &= ~((uint64_t)1 << word);
	}
}

/* --- links --- */

/* Of the remote word. */
static inline osmem_slab_word slab_links_in(osmem_slab_word remote)
{
	return remote >> OSMEM_SLAB_LINK_SHIFT;
}

/* One of them; 0: there is none. */
static inline uint32_t slab_link(osmem_slab_word links, unsigned int i)
{
	return (uint32_t)(links >> OSMEM_SLAB_LINK * i) %
	       (1U << OSMEM_SLAB_LINK);
}

/* With a slot more in front of them, and the last one gone. */
static inline osmem_slab_word slab_add_link(osmem_slab_word remote,
					    uint32_t link)
{
	osmem_slab_word rest = remote % ((osmem_slab_word)1
					 << OSMEM_SLAB_LINK_SHIFT);
	osmem_slab_word links = slab_links_in(remote) << OSMEM_SLAB_LINK | link;

	return links << OSMEM_SLAB_LINK_SHIFT | (rest + OSMEM_SLAB_ONE);
}

/* What links are read with. Copied: the stores into slots might change it. */
struct slab_links {
	char *start;
	uintptr_t secret;
	uintptr_t key;
	uint32_t size;
	uint32_t slots; /* that are carved */
};

static inline struct slab_links slab_links(const struct osmem_slab *s)
{
	return (struct slab_links){
		.start = s->start,
		.secret = s->secret,
		.key = osmem_slab_key,
		.size = s->size,
		.slots = slab_index(s, s->start + osmem_slab_carved(s)),
	};
}

/* The address is in it, above all links: no other slot can bear these. */
static inline uintptr_t slab_secret(uintptr_t secret, const uintptr_t *slot)
{
	return secret ^ (uintptr_t)slot << OSMEM_SLAB_LINK_BITS;
}

static inline uintptr_t *slab_linked(const struct slab_links *l, uint32_t link)
{
	return (uintptr_t *)(l->start +
			     ((ptrdiff_t)link - 1) * (ptrdiff_t)l->size);
}

/* The links of a slot that is free, if it is whole. */
static inline uintptr_t slab_links_of(const struct slab_links *l,
				      const uintptr_t *slot)
{
	return slot[0] ^ slab_secret(l->secret, slot);
}

/* Whether nobody has written into the slot since. */
static inline bool slab_is_whole(const struct slab_links *l,
				 const uintptr_t *slot, uintptr_t links)
{
	return slot[1] == (l->key ^ (uintptr_t)slot) &&
	       links >> OSMEM_SLAB_LINK_BITS == 0 &&
	       slab_link(links, 0) <= l->slots;
}

/* The links of a slot that is free; whoever wrote into it is reported. */
static inline uintptr_t slab_next(const struct slab_links *l,
				  const uintptr_t *slot)
{
	uintptr_t next = slab_links_of(l, slot);

	if (unlikely(!slab_is_whole(l, slot, next)))
		osmem_report_written(slot, l->size);
	return next;
}

/* A slot of a list that will be met soon, if there is one. */
static inline void slab_fetch(const struct slab_links *l, uintptr_t links,
			      unsigned int i)
{
	if (OSMEM_SLAB_LINKS > 1)
		__builtin_prefetch(slab_linked(l, slab_link(links, i)), 1);
}

/* Bytes of so many slots freed by others that count as waiting: whole 16ths. */
static inline ptrdiff_t slab_waits(const struct osmem_slab *s, uint32_t count)
{
	return (ptrdiff_t)(count & ~(s->part - 1U)) * (ptrdiff_t)s->size;
}

/* So many slots are carved. */
static inline void slab_set_carved(struct osmem_slab *s, uint32_t slots)
{
	uint64_t bound = slots * (s->size * s->magic);

	atomic_store_explicit(&s->carved, slots * s->size,
			      memory_order_relaxed);
	atomic_store_explicit(&s->bound, (uintptr_t)bound,
			      memory_order_relaxed);
}

static inline void slab_set_absent(struct osmem_slab *s, uint32_t bytes)
{
	atomic_store_explicit(&s->absent, bytes, memory_order_relaxed);
}

/*
 * Makes the slots of pieces that are gone ready again: a slab that is taken
 * from is whole, and its owner has the fast path back.
 */
OSMEM_FN void osmem_slab_restore(struct osmem_slab *s);

#endif
