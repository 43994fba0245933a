/* SPDX-License-Identifier: MIT */
/*
 * hard.c - the hardened allocator's blocks: handing them out, and everything
 * that is verified when they come back.
 *
 * A thread has, for each class, a bin of ready slots, of which chance takes
 * one, and a quarantine in front of it, for the slots that it has freed,
 * whoever has allocated them. No lock is taken but to fill and empty bins.
 * Structures of threads are used again and never unmapped.
 */
#include "hard_state.h"

#include "die.h"
#include "sys.h"

#include <pthread.h>

enum {
	HARD_MOST = 64,		/* slots in each part of a bin */
	HARD_CHANCE = 4096,	/* bytes in the random part of a quarantine */
	HARD_QUEUE = 16384,	/* and in its queue, but two slots at least */
	HARD_READY = 2048,	/* bytes that are ready */
	/* Taken at once: neighbours in time are to be near each other. */
	HARD_FILL = 1024,
	HARD_SMALL = 128,	/* bytes that are cleared without a call */
	HARD_TAIL = 16		/* of a free slot, looked at from behind */
};

/* ThreadSanitizer takes looks at neighbours for races: hard_is_whole. */
#if defined(__SANITIZE_THREAD__)
enum { HARD_LOOKS_ASIDE = 0 };
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
enum { HARD_LOOKS_ASIDE = 0 };
#else
enum { HARD_LOOKS_ASIDE = 1 };
#endif
#else
enum { HARD_LOOKS_ASIDE = 1 };
#endif

/* A slot that is freed goes to a random place of the first part. */
struct hard_bin {
	uint16_t count; /* ready ones */
	uint16_t first; /* the oldest in the queue */
	struct hard_entry ready[HARD_MOST];
	struct hard_entry random[HARD_MOST];
	struct hard_entry queue[HARD_MOST];
};

struct hard_thread {
	struct hard_random random;
	struct hard_thread *next; /* among those without a thread */
	struct hard_bin bins[HARD_CLASSES];
};

/* A slot's bytes, and how many there may be in the parts of a bin. */
struct hard_sizes {
	uint32_t slot;
	uint8_t fill;
	uint8_t ready;
	uint8_t random;
	uint8_t queue;
};

static __thread struct hard_thread *hard_self
	__attribute__((tls_model("initial-exec")));

/* Under the lock; sizes are set before osmem_hard_used is. */
static struct {
	struct osmem_lock lock;
	struct hard_thread *unused;
	pthread_key_t key;
	struct hard_sizes sizes[HARD_CLASSES];
	bool tried;
} hard_all;

/* --- zeros --- */

/* A slot's bytes, sixteen at a time. */
typedef uint64_t hard_pair __attribute__((vector_size(16), may_alias));

/* Whether a slot is all zero; small ones without a call. */
static inline bool hard_slot_is_zero(const char *p, size_t size)
{
	hard_pair any = { 0, 0 };

	if (size > HARD_SMALL)
		return osmem_hard_is_zero(p, size);
	for (; size != 0; p += 16, size -= 16)
		any |= *(const hard_pair *)(const void *)p;
	return (any[0] | any[1]) == 0;
}

/* What is behind the canary is zero as it is. */
static inline void hard_clear(char *p, size_t size)
{
	const hard_pair zero = { 0, 0 };
	size_t i;

	if (size + HARD_CANARY > HARD_SMALL) {
		memset(p, 0, size + HARD_CANARY);
	} else {
		for (i = 0; i < size + HARD_CANARY; i += 16) {
			*(hard_pair *)(void *)(p + i) = zero;
			/* gcc would make a slow instruction of the loop. */
			__asm__("" : "+r"(i) : : "memory");
		}
	}
}

/* --- threads --- */

static uint8_t hard_part(size_t bytes, size_t size, size_t least)
{
	size_t slots = bytes / size;

	if (slots < least)
		slots = least;
	return (uint8_t)(slots < HARD_MOST ? slots : HARD_MOST);
}

static void hard_set_sizes(void)
{
	unsigned int class;

	for (class = 0; class < HARD_CLASSES; class++) {
		size_t size = class == HARD_NOTHING ? 16 :
						      osmem_class_size(class);

		hard_all.sizes[class] = (struct hard_sizes){
			(uint32_t)size,
			hard_part(HARD_FILL, size, 1),
			hard_part(HARD_READY, size, 1),
			hard_part(HARD_CHANCE, size, 0),
			hard_part(HARD_QUEUE, size, 2),
		};
	}
}

/* A page without access on either side. */
static struct hard_thread *hard_new_thread(void)
{
	size_t page = osmem_sys_page_size();
	size_t size = osmem_up(sizeof(struct hard_thread), page);
	void *start = NULL;
	char *t;

	if (DIE(osmem_sys_reserve(size + 2 * page, &start), "mmap", size) != 0)
		return NULL;
	t = (char *)start + page;
	if (DIE(osmem_sys_commit(t, size), "mprotect", size) == 0) {
		osmem_hard_seed(&((struct hard_thread *)(void *)t)->random);
		return (struct hard_thread *)(void *)t;
	}
	KEEP(osmem_sys_unmap(start, size + 2 * page), "munmap", size);
	return NULL;
}

static OSMEM_COLD struct hard_thread *hard_attach(void)
{
	struct hard_thread *t;

	osmem_lock(&hard_all.lock);
	t = hard_all.unused;
	if (t != NULL)
		hard_all.unused = t->next;
	osmem_unlock(&hard_all.lock);
	if (t == NULL)
		t = hard_new_thread();
	if (t == NULL)
		return NULL;
	hard_self = t;
	/* May allocate, and finds the bins in place. */
	pthread_setspecific(hard_all.key, t);
	return t;
}

static struct hard_thread *hard_thread(void)
{
	return likely(hard_self != NULL) ? hard_self : hard_attach();
}

/* Gives the slots of a part back that are there, and forgets them. */
static void hard_give_part(unsigned int class, struct hard_entry *part,
			   unsigned int size)
{
	unsigned int count = 0;
	unsigned int i;

	for (i = 0; i < size; i++)
		if (part[i].slot != NULL)
			part[count++] = part[i];
	if (count != 0)
		osmem_hard_slabs_give(class, part, count);
	memset(part, 0, size * sizeof(*part));
}

static void hard_empty_bin(struct hard_thread *t, unsigned int class)
{
	struct hard_bin *bin = &t->bins[class];

	hard_give_part(class, bin->ready, bin->count);
	bin->count = 0;
}

/*
 * By the destructor of the key. Others may run after it and allocate: the
 * thread gets a new structure then, and its destructor runs again.
 */
void osmem_hard_exit(void *bins)
{
	struct hard_thread *t = bins;
	unsigned int class;

	hard_self = NULL;
	for (class = 0; class < HARD_CLASSES; class++) {
		hard_empty_bin(t, class);
		hard_give_part(class, t->bins[class].random, HARD_MOST);
		hard_give_part(class, t->bins[class].queue, HARD_MOST);
	}
	osmem_lock(&hard_all.lock);
	t->next = hard_all.unused;
	hard_all.unused = t;
	osmem_unlock(&hard_all.lock);
}

bool osmem_hard_open(void (*at_exit)(void *bins))
{
	osmem_lock(&hard_all.lock);
	if (!hard_all.tried) {
		hard_all.tried = true;
		hard_set_sizes();
		if (pthread_key_create(&hard_all.key, at_exit) == 0 &&
		    osmem_hard_slabs_open()) {
			osmem_hard_maps_seed();
			atomic_store_explicit(&osmem_hard_used, true,
					      memory_order_release);
		} else {
			atomic_store_explicit(&osmem_hard_region.refused, true,
					      memory_order_relaxed);
		}
	}
	osmem_unlock(&hard_all.lock);
	return osmem_hard_is_used();
}

/* --- handing out --- */

static __attribute__((noinline)) bool hard_fill(struct hard_thread *t,
						unsigned int class)
{
	struct hard_bin *bin = &t->bins[class];

	bin->count = (uint16_t)osmem_hard_slabs_take(
		class, bin->ready, hard_all.sizes[class].fill, &t->random);
	return bin->count != 0;
}

static inline bool hard_pop(struct hard_thread *t, unsigned int class,
			    struct hard_entry *entry)
{
	struct hard_bin *bin = &t->bins[class];
	uint32_t i;

	if (unlikely(bin->count == 0) && !hard_fill(t, class))
		return false;
	i = hard_draw(&t->random, bin->count);
	*entry = bin->ready[i];
	bin->ready[i] = bin->ready[--bin->count];
	return true;
}

static void hard_report(const char *call, const void *ptr,
			enum osmem_found found, const void *slot, size_t size)
{
	struct osmem_place place = { .found = found,
				     .slot = slot,
				     .slot_size = size };

	if (call != NULL)
		osmem_report_pointer(call, ptr, place);
	osmem_report_found(place);
}

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
			       size_t alignment)
{
	uint32_t turn = atomic_load_explicit(e.word, memory_order_relaxed);
	uint32_t live = HARD_LIVE | hard_log(alignment) | turn | (uint32_t)size;

	/* To read what was never touched would be a page fault more. */
	if (turn != 0 && unlikely(!hard_slot_is_zero(e.slot, slot)))
		hard_report(NULL, e.slot, OSMEM_FOUND_WRITTEN, e.slot, slot);
	atomic_store_explicit(e.word, HARD_BUSY | turn, memory_order_relaxed);
	hard_enliven(e, live);
	return e.slot;
}

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
	unsigned int class;

	if (size > HARD_LARGEST || alignment > HARD_UNIT)
		return HARD_CLASSES;
	class = osmem_class_of(size + HARD_CANARY);
	while (class < HARD_NOTHING &&
	       hard_all.sizes[class].slot % alignment != 0)
		class++;
	return class < HARD_NOTHING ? class : HARD_CLASSES;
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
	return hard_begin(e, hard_all.sizes[class].slot, size, alignment);
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
static inline bool hard_is_whole(const struct hard_slab *s, uint32_t index)
{
	const char *p = s->start + (size_t)index * s->size;
	uint32_t word = atomic_load_explicit(&s->words[index],
					     memory_order_acquire);
	bool whole;

	if (!HARD_LOOKS_ASIDE || word & HARD_BUSY || s->class == HARD_NOTHING)
		return true;
	if (word & HARD_LIVE)
		whole = hard_holds(p, word & HARD_SIZE, s->size);
	else
		whole = hard_slot_is_zero(p + s->size - HARD_TAIL, HARD_TAIL);
	atomic_thread_fence(memory_order_acquire);
	return whole || atomic_load_explicit(&s->words[index],
					     memory_order_relaxed) != word;
}

bool osmem_hard_is_whole(const struct hard_slab *s, uint32_t index)
{
	return hard_is_whole(s, index);
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

/*
 * Claims a live slot and verifies what is behind it, and before it. Returns
 * its word.
 */
static inline uint32_t hard_take(const char *call, const struct hard_slab *s,
				 char *p, uint32_t *index)
{
	uint32_t live;

	if (unlikely(!hard_index(s, p, index)))
		osmem_report_pointer(call, p, osmem_hard_locate_slot(s, p));
	live = atomic_load_explicit(&s->words[*index], memory_order_relaxed);
	if (unlikely(!(live & HARD_LIVE)) ||
	    unlikely(!hard_claim(&s->words[*index], live)))
		hard_report(call, p, OSMEM_FOUND_FREE, p, s->size);
	if (s->class == HARD_NOTHING)
		return live;
	if (unlikely(!hard_holds(p, live & HARD_SIZE, s->size)))
		hard_report(call, p, OSMEM_FOUND_OVERRUN, p, live & HARD_SIZE);
	if (*index > 0 && unlikely(!hard_is_whole(s, *index - 1)))
		hard_report(call, p, OSMEM_FOUND_UNDERRUN, p,
			    live & HARD_SIZE);
	return live;
}

static inline uint32_t hard_next_turn(uint32_t word)
{
	uint32_t turn = (word + (1 << HARD_TURN_SHIFT)) & HARD_TURN;

	return turn != 0 ? turn : 1 << HARD_TURN_SHIFT;
}

static __attribute__((noinline)) void hard_drain(struct hard_bin *bin,
						 unsigned int class)
{
	unsigned int half = bin->count / 2U;

	osmem_hard_slabs_give(class, bin->ready + half, bin->count - half);
	bin->count = (uint16_t)half;
}

/* Into the quarantine; out of it comes another, if it is full. */
static inline void hard_quarantine(struct hard_thread *t, unsigned int class,
				   struct hard_entry e)
{
	const struct hard_sizes *sizes = &hard_all.sizes[class];
	struct hard_bin *bin = &t->bins[class];
	struct hard_entry out;
	uint32_t i;

	if (sizes->random != 0) {
		i = hard_draw(&t->random, sizes->random);
		out = bin->random[i];
		bin->random[i] = e;
		if (unlikely(out.slot == NULL))
			return;
		e = out;
	}
	i = bin->first;
	out = bin->queue[i];
	bin->queue[i] = e;
	bin->first = (uint16_t)(i + 1 < sizes->queue ? i + 1 : 0);
	if (unlikely(out.slot == NULL))
		return;
	if (unlikely(bin->count >= sizes->ready))
		hard_drain(bin, class);
	bin->ready[bin->count++] = out;
}

static void hard_free_slot(const char *call, const struct hard_slab *s, char *p)
{
	struct hard_thread *t;
	struct hard_entry e = { .slot = p };
	uint32_t index;
	uint32_t live = hard_take(call, s, p, &index);

	e.word = &s->words[index];
	if (likely(s->class != HARD_NOTHING))
		hard_clear(p, live & HARD_SIZE);
	atomic_store_explicit(e.word, hard_next_turn(live),
			      memory_order_release);
	t = hard_thread();
	if (likely(t != NULL))
		hard_quarantine(t, s->class, e);
	else
		osmem_hard_slabs_give(s->class, &e, 1);
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

size_t osmem_hard_usable(const char *call, struct osmem_place place)
{
	struct hard_slab *s = hard_slab_of(place.slot);

	if (s == NULL)
		osmem_hard_map_verify(call, place.slot);
	else if (s->class != HARD_NOTHING &&
		 !hard_holds(place.slot, place.slot_size, s->size))
		hard_report(call, place.slot, OSMEM_FOUND_OVERRUN, place.slot,
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
	uint32_t index;
	uint32_t live;
	size_t old;

	if (s == NULL)
		return osmem_hard_map_resize(call, p, size);
	if (!hard_fits(s, size))
		return false;
	live = hard_take(call, s, p, &index);
	old = live & HARD_SIZE;
	if (old > size)
		memset(p + size, 0, old + HARD_CANARY - size);
	else
		memset(p + old, 0, HARD_CANARY);
	hard_enliven((struct hard_entry){ p, &s->words[index] },
		     HARD_LIVE | (live & HARD_LOG) | hard_next_turn(live) |
			     (uint32_t)size);
	return true;
}

/* --- the whole of it --- */

bool osmem_hard_trim(void)
{
	struct hard_thread *t = hard_self;
	unsigned int class;

	if (!osmem_hard_is_used())
		return false;
	for (class = 0; t != NULL && class < HARD_CLASSES; class++)
		hard_empty_bin(t, class);
	return osmem_hard_slabs_trim();
}

/* Another thread may be opening it, so the lock comes first. */
void osmem_hard_before_fork(void)
{
	osmem_lock_before_fork(&hard_all.lock);
	if (osmem_hard_is_used())
		osmem_hard_slabs_before_fork();
}

/* What other threads had in their bins stays there in the child, unused. */
void osmem_hard_after_fork(bool child)
{
	bool used = osmem_hard_is_used();

	if (used)
		osmem_hard_slabs_after_fork(child);
	osmem_lock_after_fork(&hard_all.lock);
	if (used && child)
		osmem_hard_maps_seed();
	if (child && hard_self != NULL)
		osmem_hard_seed(&hard_self->random);
}
