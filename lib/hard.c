/* SPDX-License-Identifier: MIT */
/*
 * hard.c - the hardened allocator's blocks: handing them out, and everything
 * that is verified when they come back.
 *
 * Slots come from the thread's bins and go to its quarantine (hard_bins.c).
 * What a slot's bytes are is decided here, by its word: nobody else writes
 * into a slot. Must take no lock.
 */
#include "hard_hot.h"

OSMEM_VAR_DEFINED atomic_bool osmem_hard_alone;
OSMEM_VAR_DEFINED uint8_t osmem_hard_classes[(HARD_MOST + HARD_CANARY) / 16];

/* --- reports --- */

void osmem_hard_report(const char *call, const void *p, enum osmem_found found,
		       size_t size)
{
	struct osmem_place place = { .found = found,
				     .slot = p,
				     .slot_size = size };

	if (call != NULL)
		osmem_report_pointer(call, p, place);
	osmem_report_found(place);
}

void osmem_hard_report_pointer(const char *call, const struct hard_slab *s,
			       const void *p)
{
	osmem_report_pointer(call, p, osmem_hard_locate_slot(s, p));
}

/* --- handing out --- */

/* There are no bytes to look at, or to write to. */
static void *hard_begin_nothing(struct hard_entry e)
{
	uint32_t turn = atomic_load_explicit(e.word, memory_order_relaxed);

	atomic_store_explicit(e.word, HARD_LIVE | hard_log(16) | turn,
			      memory_order_release);
	return e.slot;
}

/* The class whose slots are aligned enough; HARD_CLASSES for none. */
static unsigned int hard_class_aligned(size_t size, size_t alignment)
{
	if (size > HARD_LARGEST || alignment > HARD_UNIT)
		return HARD_CLASSES;
	size = osmem_class_aligned(size + HARD_CANARY, alignment);
	/* Slabs of one slot start at any page. */
	if (size > OSMEM_MMAP_THRESHOLD ||
	    (size > HARD_SHARED && alignment > osmem_sys_page_size()))
		return HARD_CLASSES;
	return osmem_class_of(size);
}

static inline unsigned int hard_class(size_t size, size_t alignment)
{
	if (unlikely(alignment > 16))
		return hard_class_aligned(size, alignment);
	/* Without bytes, or with too many. */
	if (unlikely(size - 1 >= HARD_LARGEST))
		return size == 0 ? HARD_NOTHING : HARD_CLASSES;
	return osmem_class_of(size + HARD_CANARY);
}

void *osmem_hard_alloc(size_t size, size_t alignment)
{
	struct hard_entry e;
	struct hard_thread *t;
	unsigned int class;

	if (alignment < 16)
		alignment = 16;
	class = hard_class(size, alignment);
	if (unlikely(class == HARD_CLASSES))
		return osmem_hard_map(size, alignment, false);
	t = hard_thread();
	if (unlikely(t == NULL || !hard_pop(t, class, &e)))
		return NULL;
	if (unlikely(class == HARD_NOTHING))
		return hard_begin_nothing(e);
	return hard_begin(e, t->bins[class].slot, size, hard_log(alignment));
}

void *osmem_hard_alloc_grown(size_t old, size_t size)
{
	if (old <= HARD_LARGEST || !osmem_hard_is_used())
		return NULL;
	return osmem_hard_map(size, 16, true);
}

/* --- taking back --- */

/*
 * Looks at a slot that others may be using: what it sees counts only if the
 * slot's word is the same before and after.
 */
bool osmem_hard_is_whole(const struct hard_slab *s, uint32_t index)
{
	const char *p = s->start + (size_t)index * s->size;
	uint32_t word = atomic_load_explicit(&s->words[index],
					     memory_order_acquire);
	bool whole;

	if (!HARD_LOOKS_ASIDE || word & HARD_BUSY || s->class == HARD_NOTHING)
		return true;
	if (word & HARD_LIVE)
		whole = hard_holds(p, word & HARD_SIZE, s->size,
				   word & HARD_DIRTY);
	else
		whole = hard_is_untouched(p, s->size, word);
	atomic_thread_fence(memory_order_acquire);
	return whole || atomic_load_explicit(&s->words[index],
					     memory_order_relaxed) != word;
}

/* What is dirty is so up to the slot's end. */
uint32_t osmem_hard_clear_large(struct hard_thread *t, char *p, size_t slot,
				uint32_t live)
{
	size_t size = (live & HARD_SIZE) + HARD_CANARY;

	if (slot <= HARD_WHOLE || osmem_hard_affords(t, slot)) {
		memset(p, 0, live & HARD_DIRTY ? slot : size);
		return 0;
	}
	hard_clear(p, HARD_ENDS);
	memset(p + size - HARD_CANARY, 0, HARD_CANARY);
	return HARD_DIRTY;
}

void osmem_hard_free_nothing(const char *call, const struct hard_slab *s,
			     char *p)
{
	uint32_t live;
	hard_word *word = hard_take_word(call, s, p, &live);

	atomic_store_explicit(word, hard_next_turn(live),
			      memory_order_release);
	hard_bin_put(hard_thread(), HARD_NOTHING, p, word);
}

bool osmem_hard_free(const char *call, void *ptr)
{
	struct hard_slab *s = hard_slab_of(ptr);

	if (unlikely(s == NULL))
		return osmem_hard_map_free(call, ptr);
	hard_free_slot(call, s, ptr);
	return true;
}

/* --- live blocks --- */

static bool hard_is_dirty(const struct hard_slab *s, const void *p)
{
	uint32_t index;

	return hard_index(s, p, &index) &&
	       atomic_load_explicit(&s->words[index], memory_order_relaxed) &
		       HARD_DIRTY;
}

bool osmem_hard_is_zeroed(const void *ptr)
{
	const struct hard_slab *s = hard_slab_of(ptr);

	return s != NULL ? !hard_is_dirty(s, ptr) :
			   osmem_hard_map_is_zeroed(ptr);
}

size_t osmem_hard_usable(const char *call, struct osmem_place place)
{
	struct hard_slab *s = hard_slab_of(place.slot);

	if (s == NULL)
		osmem_hard_map_verify(call, place.slot);
	else if (s->class != HARD_NOTHING &&
		 !hard_holds(place.slot, place.slot_size, s->size,
			     hard_is_dirty(s, place.slot)))
		osmem_hard_report(call, place.slot, OSMEM_FOUND_OVERRUN,
				  place.slot_size);
	return place.slot_size;
}

/* A slot stays while the size is its class's, or not below half of it. */
static bool hard_fits(const struct hard_slab *s, size_t size)
{
	return s->class != HARD_NOTHING && size != 0 &&
	       size <= s->size - HARD_CANARY && size >= s->size / 2;
}

bool osmem_hard_resize(const char *call, struct osmem_place place, size_t size)
{
	char *p = (char *)(uintptr_t)place.slot;
	struct hard_slab *s = hard_slab_of(p);
	hard_word *word;
	uint32_t live;
	size_t old;

	if (s == NULL)
		return osmem_hard_map_resize(call, p, size);
	if (!hard_fits(s, size))
		return false;
	word = hard_take(call, s, p, &live);
	old = live & HARD_SIZE;
	if (old > size)
		memset(p + size, 0, old + HARD_CANARY - size);
	else if (live & HARD_DIRTY)
		memset(p + old, 0, size - old);
	else
		memset(p + old, 0, HARD_CANARY);
	hard_enliven((struct hard_entry){ p, word },
		     HARD_LIVE | (live & (HARD_LOG | HARD_DIRTY)) |
			     hard_next_turn(live) | (uint32_t)size);
	return true;
}

/* --- the whole of it --- */

bool osmem_hard_trim(void)
{
	bool any;

	if (!osmem_hard_is_used())
		return false;
	osmem_hard_bins_trim();
	any = osmem_hard_kept_trim();
	return osmem_hard_slabs_trim() || any;
}
