/* SPDX-License-Identifier: MIT */
/*
 * slab_slots.c - slots out of a slab and into it: carving, the map, what others
 * have freed.
 *
 * The holder's, but the remote list, which is one atomic word. Must never read
 * a slot that has not been located, nor one whose piece is gone.
 */
#include "slab_remote.h"

#include "sys.h"

#include <string.h>

enum {
	/* About so many bytes of fresh slots are handed out at once. */
	SLAB_FRESH = 4096,
	SLAB_LITTLE = 4, /* of a slab in use, this part is little */
	SLAB_WORD = 64,	 /* slots in a word of the map */
	SLAB_RUN = 8	 /* slots: fewer are not looked at as a row */
};

/* --- counting --- */

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

/* --- putting --- */

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

/* How many of a row of slots touch a piece. */
static inline uint16_t slab_touching(const struct osmem_slab *s, uint32_t piece,
				     struct slab_row slots)
{
	struct slab_row row = slab_slots(s, piece);

	if (row.first < slots.first)
		row.first = slots.first;
	if (row.last > slots.last)
		row.last = slots.last;
	return (uint16_t)(row.last - row.first + 1);
}

/* How many marked slots lie in a row from the first on, in its word. */
static inline size_t slab_row_length(const struct osmem_slab *s,
				     void *const *slots, size_t count,
				     uint32_t index, ptrdiff_t step)
{
	const char *slot = slots[0];
	uintptr_t key = osmem_slab_key;
	size_t n = index % SLAB_WORD + 1;

	/* The next slab may be one of the same slots. */
	if (step > 0) {
		size_t left = slab_index(s, s->start + s->most) - index;

		n = SLAB_WORD + 1 - n;
		if (n > left)
			n = left;
	}
	if (count > n)
		count = n;
	for (n = 0; n < count && slots[n] == slot; n++, slot += step)
		if (((const uintptr_t *)(const void *)slot)[1] !=
		    (key ^ (uintptr_t)slot))
			break;
	return n;
}

/*
 * Slots that were freed in the order of their addresses, up or down, and are in
 * one word of the map. How many; 0 when the first is none of the slab's, or is
 * not as it was left: who looks at each one finds out.
 */
static __attribute__((noinline)) size_t
slab_put_row(struct osmem_slab *s, void *const *slots, size_t count)
{
	ptrdiff_t size = (ptrdiff_t)s->size;
	ptrdiff_t step = (const char *)slots[1] - (const char *)slots[0];
	struct slab_row row;
	struct slab_row pieces;
	uint64_t mask;
	uint64_t old;
	size_t n;

	if ((step != size && step != -size) ||
	    (uintptr_t)slots[0] - (uintptr_t)s->start >= s->most)
		return 0;
	row.first = slab_index(s, slots[0]);
	n = slab_row_length(s, slots, count, row.first, step);
	if (n == 0)
		return 0;
	row.last = row.first;
	if (step > 0)
		row.last += (uint32_t)n - 1;
	else
		row.first -= (uint32_t)n - 1;
	mask = UINT64_MAX >> (SLAB_WORD - n) << row.first % SLAB_WORD;
	old = s->map[row.first / SLAB_WORD];
	if (unlikely((old & mask) != 0))
		return 0;
	s->map[row.first / SLAB_WORD] = old | mask;
	if (old == 0)
		s->ready |= (uint64_t)1 << row.first / SLAB_WORD;
	pieces.first = slab_pieces(s, row.first).first;
	pieces.last = slab_pieces(s, row.last).last;
	for (; pieces.first <= pieces.last; pieces.first++) {
		uint16_t *busy = &s->busy[pieces.first];

		*busy -= slab_touching(s, pieces.first, row);
		if (*busy == 0)
			s->idle++;
	}
	return n;
}

/* Any, one by one, up to the first that is not the slab's. */
static inline __attribute__((always_inline)) size_t
slab_put_some(struct osmem_slab *s, void *const *slots, size_t count,
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

/* In a loop of its own for each way to lie. */
static size_t slab_put_mixed(struct osmem_slab *s, void *const *slots,
			     size_t count)
{
	enum slab_lie lie = slab_lie(s);

	if (lie == SLAB_LIE_WITHIN)
		return slab_put_some(s, slots, count, SLAB_LIE_WITHIN);
	if (lie == SLAB_LIE_ACROSS)
		return slab_put_some(s, slots, count, SLAB_LIE_ACROSS);
	return slab_put_some(s, slots, count, SLAB_LIE_ALONE);
}

/* Whether so many seem to have been freed in the order of their addresses. */
static inline bool slab_is_row(const struct osmem_slab *s, void *const *slots)
{
	ptrdiff_t ends = (SLAB_RUN - 1) * (ptrdiff_t)s->size;
	ptrdiff_t far = (char *)slots[SLAB_RUN - 1] - (char *)slots[0];

	return far == ends || far == -ends;
}

size_t osmem_slab_put(struct osmem_slab *s, void *const *slots, size_t count)
{
	size_t done = 0;
	size_t n;

	while (count - done >= SLAB_RUN &&
	       unlikely(slab_is_row(s, slots + done))) {
		n = slab_put_row(s, slots + done, count - done);
		if (n == 0)
			break;
		done += n;
	}
	done += slab_put_mixed(s, slots + done, count - done);
	slab_count_used(s, -(uint32_t)done);
	return done;
}

/* --- taking --- */

/* Slots in the map from one on, to be taken as a row; or that one. */
static inline uint32_t slab_row_at(uint64_t map, uint32_t most)
{
	uint32_t row;

	if ((uint8_t)map != UINT8_MAX || most < SLAB_RUN)
		return 1;
	row = map == UINT64_MAX ? SLAB_WORD : (uint32_t)__builtin_ctzll(~map);
	return row < most ? row : most;
}

/* Piece by piece. */
static void slab_take_row(struct osmem_slab *s, uint32_t first, uint32_t count,
			  void **end)
{
	struct slab_row row = { first, first + count - 1 };
	uint32_t piece = slab_pieces(s, row.first).first;
	uint32_t last = slab_pieces(s, row.last).last;
	char *slot = slab_slot(s, first);
	ptrdiff_t i;

	for (; piece <= last; piece++) {
		if (s->busy[piece] == 0)
			s->idle--;
		s->busy[piece] += slab_touching(s, piece, row);
	}
	for (i = 1; i <= (ptrdiff_t)count; i++, slot += s->size)
		end[-i] = slot;
}

/* Of the first word of the map with any: what is in use stays together. */
static uint32_t slab_take_ready(struct osmem_slab *s, void **end, uint32_t most)
{
	uint32_t word = (uint32_t)__builtin_ctzll(s->ready);
	uint64_t map = s->map[word];
	char *start = s->start;
	uint32_t taken = 0;
	uint32_t row;

	for (; taken < most && map != 0; taken += row) {
		uint32_t bit = (uint32_t)__builtin_ctzll(map);
		uint32_t index = word * SLAB_WORD + bit;
		uint32_t offset = index * s->size;

		row = slab_row_at(map >> bit, most - taken);
		if (row != 1) {
			slab_take_row(s, index, row, end);
			end -= row;
			map &= ~(UINT64_MAX >> (SLAB_WORD - row) << bit);
			continue;
		}
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
