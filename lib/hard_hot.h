/* SPDX-License-Identifier: MIT */
/*
 * hard_hot.h - the hardened allocator's usual way: a small slot from the
 * thread's bin, and into its quarantine, with all that is verified.
 *
 * What a slot's bytes are is decided here and in hard.c, by its word: nobody
 * else writes into a slot. Must take no lock.
 */
#ifndef OSMEM_HARD_HOT_H
#define OSMEM_HARD_HOT_H

#include "hard_state.h"

enum { HARD_TAIL = 8 /* bytes of a neighbour that are looked at */ };

/* ThreadSanitizer takes looks at neighbours for races: hard_is_whole. */
enum { HARD_LOOKS_ASIDE = !OSMEM_THREAD_SANITIZER };

/* --- reports --- */

/* On a block that starts at p; by whom, if that is known. */
OSMEM_FN OSMEM_COLD void osmem_hard_report(const char *call, const void *p,
					   enum osmem_found found, size_t size);

/* On p, which is in a slab and no start of a block. */
OSMEM_FN OSMEM_COLD void osmem_hard_report_pointer(const char *call,
						   const struct hard_slab *s,
						   const void *p);

/* --- zeros --- */

/* A slot's bytes, sixteen at a time. */
typedef uint64_t hard_pair __attribute__((vector_size(16), may_alias));

/* Whether so many bytes, a multiple of 16, are zero; many by a call. */
static inline bool hard_are_zero(const char *p, size_t size)
{
	const hard_pair *v = (const hard_pair *)(const void *)p;
	hard_pair any = { 0, 0 };

	if (unlikely(size > HARD_WHOLE))
		return osmem_hard_is_zero(p, size);
	for (; size >= 64; v += 4, size -= 64)
		any |= (v[0] | v[1]) | (v[2] | v[3]);
	for (; size != 0; v++, size -= 16)
		any |= *v;
	return (any[0] | any[1]) == 0;
}

/* Whether a free slot is as it was left. */
static inline bool hard_is_untouched(const char *p, size_t slot, uint32_t word)
{
	if (unlikely(word & HARD_DIRTY))
		slot = HARD_ENDS;
	return hard_are_zero(p, slot);
}

/* So many bytes, and up to 15 more, which are zero. */
static inline void hard_clear(char *p, size_t size)
{
	const hard_pair zero = { 0, 0 };
	char *end = p + size;

	while (p < end) {
		*(hard_pair *)(void *)p = zero;
		p += 16;
		/* gcc would make a slow instruction of the loop. */
		__asm__("" : "+r"(p) : : "memory");
	}
}

/* --- handing out --- */

/* Writes the canary of a slot that is BUSY, which makes it live. */
static inline void hard_enliven(struct hard_entry e, uint32_t live)
{
	uint64_t canary = hard_canary(e.slot);

	/* Who has read the word that was there before sees another now. */
	atomic_thread_fence(memory_order_release);
	memcpy(e.slot + (live & HARD_SIZE), &canary, HARD_CANARY);
	atomic_store_explicit(e.word, live, memory_order_release);
}

static inline void *hard_begin(struct hard_entry e, size_t slot, size_t size,
			       uint32_t log)
{
	uint32_t word = atomic_load_explicit(e.word, memory_order_relaxed);

	/* To read what was never touched would be a page fault more. */
	if (word != 0 && unlikely(!hard_is_untouched(e.slot, slot, word)))
		osmem_hard_report(NULL, e.slot, OSMEM_FOUND_WRITTEN, slot);
	atomic_store_explicit(e.word, HARD_BUSY | word, memory_order_relaxed);
	hard_enliven(e, HARD_LIVE | log | word | (uint32_t)size);
	return e.slot;
}

static inline bool hard_pop(struct hard_thread *t, unsigned int class,
			    struct hard_entry *entry)
{
	struct hard_bin *bin = &t->bins[class];

	if (unlikely(bin->count == 0) && !osmem_hard_bin_fill(t, class))
		return false;
	*entry = bin->ready[--bin->count];
	return true;
}

/* --- taking back --- */

/*
 * Whether the last bytes of the slot before the one at p are in place: those
 * that something would have hit that wrote before p.
 */
static inline bool hard_is_before_whole(const hard_word *own, const char *p,
					size_t slot)
{
	uint32_t word = atomic_load_explicit(own - 1, memory_order_acquire);
	uint64_t expected = 0;
	size_t rest;

	if (!HARD_LOOKS_ASIDE || unlikely(word & (HARD_BUSY | HARD_DIRTY)))
		return true;
	rest = slot - (word & HARD_SIZE) - HARD_CANARY;
	if (word & HARD_LIVE && rest < HARD_CANARY)
		expected = hard_canary_from(hard_canary(p - slot), rest);
	if (likely(hard_load(p - HARD_TAIL) == expected))
		return true;
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(own - 1, memory_order_relaxed) != word;
}

/* Of several who want to change a live slot, one gets it. */
static inline bool hard_claim(hard_word *word, uint32_t live)
{
	uint32_t busy = HARD_BUSY | (live & HARD_TURN);

	if (osmem_sys_is_alone()) {
		atomic_store_explicit(word, busy, memory_order_relaxed);
		return true;
	}
	return atomic_compare_exchange_strong_explicit(
		word, &live, busy, memory_order_acquire, memory_order_relaxed);
}

/* Claims the live slot at p. Returns its word, live what was there. */
static inline __attribute__((always_inline)) hard_word *
hard_take_word(const char *call, const struct hard_slab *s, char *p,
	       uint32_t *live)
{
	hard_word *word;
	uint32_t index;

	if (unlikely(!hard_index(s, p, &index)))
		osmem_hard_report_pointer(call, s, p);
	word = &s->words[index];
	*live = atomic_load_explicit(word, memory_order_relaxed);
	if (unlikely(!(*live & HARD_LIVE)) ||
	    unlikely(!hard_claim(word, *live)))
		osmem_hard_report(call, p, OSMEM_FOUND_FREE, s->size);
	return word;
}

/* The same, and verifies what is behind it, and before it. */
static inline __attribute__((always_inline)) hard_word *
hard_take(const char *call, const struct hard_slab *s, char *p, uint32_t *live)
{
	hard_word *word = hard_take_word(call, s, p, live);
	size_t size = *live & HARD_SIZE;
	size_t slot = s->size;

	if (unlikely(!hard_holds(p, size, slot, *live & HARD_DIRTY)))
		osmem_hard_report(call, p, OSMEM_FOUND_OVERRUN, size);
	if (likely(word != s->words) &&
	    unlikely(!hard_is_before_whole(word, p, slot)))
		osmem_hard_report(call, p, OSMEM_FOUND_UNDERRUN, size);
	return word;
}

static inline uint32_t hard_next_turn(uint32_t word)
{
	uint32_t turn = (word + (1 << HARD_TURN_SHIFT)) & HARD_TURN;

	return turn != 0 ? turn : 1 << HARD_TURN_SHIFT;
}

/*
 * Clears a slot of more than HARD_SMALL bytes, as a whole if that is paid for.
 * Returns what its word says of it.
 */
OSMEM_FN uint32_t osmem_hard_clear_large(struct hard_thread *t, char *p,
					 size_t slot, uint32_t live);

/* Frees a block of no bytes. */
OSMEM_FN void osmem_hard_free_nothing(const char *call,
				      const struct hard_slab *s, char *p);

static inline __attribute__((always_inline)) void
hard_free_slot(const char *call, const struct hard_slab *s, char *p)
{
	struct hard_thread *t = hard_thread();
	uint32_t dirty = 0;
	hard_word *word;
	uint32_t live;

	if (unlikely(s->class == HARD_NOTHING)) {
		osmem_hard_free_nothing(call, s, p);
		return;
	}
	word = hard_take(call, s, p, &live);
	if (unlikely(s->size > HARD_SMALL))
		dirty = osmem_hard_clear_large(t, p, s->size, live);
	else
		hard_clear(p, (live & HARD_SIZE) + HARD_CANARY);
	atomic_store_explicit(word, hard_next_turn(live) | dirty,
			      memory_order_release);
	hard_bin_put(t, s->class, p, word);
}

/*
 * A block of up to HARD_MOST bytes; NULL when it takes more to get one. No
 * block of no bytes.
 */
static inline __attribute__((always_inline)) void *hard_hot_alloc(size_t size)
{
	struct hard_thread *t = osmem_hard_self;
	struct hard_entry e;
	struct hard_bin *bin;
	unsigned int class;

	if (unlikely(size - 1 >= HARD_MOST) || unlikely(t == NULL))
		return NULL;
	class = osmem_hard_classes[(size + HARD_CANARY - 1) / 16];
	bin = &t->bins[class];
	if (unlikely(bin->count == 0))
		return NULL;
	e = bin->ready[--bin->count];
	return hard_begin(e, bin->slot, size, hard_log(16));
}

#endif
