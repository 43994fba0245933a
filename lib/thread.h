/* SPDX-License-Identifier: MIT */
/*
 * thread.h - the hot path: a bin of free slots per class and thread.
 *
 * The door: a thread that has no bins, or whose bins shall stay empty, uses
 * the static empty thread. It knows no sizes and its limit is 0, so every call
 * takes the slow path by the branches that are there anyway.
 */
#ifndef OSMEM_THREAD_H
#define OSMEM_THREAD_H

#include "lock.h"
#include "self.h"
#include "slab.h"

/* Sizes up to the mapping threshold, in steps of 16 from 0. */
enum { OSMEM_THREAD_STEPS = OSMEM_MMAP_THRESHOLD / 16 };

/* Lists of slabs after those of the classes. */
enum {
	OSMEM_THREAD_FULL = OSMEM_CLASSES,
	OSMEM_THREAD_SPENT,
	OSMEM_THREAD_LISTS
};

/*
 * What the fast paths read comes first. It, and what is said of bins, are the
 * thread's own. The lock guards what comes after it and the records of the
 * thread's slabs: the thread takes it on slow paths, others to give back what
 * an idle one leaves.
 * posted are stacks of slabs with remote frees, a stack for each class, pushed
 * by anybody with release, taken whole under the lock with acquire.
 */
struct osmem_thread {
	/*
	 * A bin is an array of free slots of a class: top is the last one, and
	 * it is full when that is end. Before them stands what is no slot and
	 * bears no mark, so to be empty is to have a last slot that looks
	 * wrong. No slot says what else is in a bin: what a program writes into
	 * freed blocks steers nothing. The two are apart by OSMEM_CLASSES.
	 */
	void **top[OSMEM_CLASSES];
	void **end[OSMEM_CLASSES];
	uintptr_t base; /* of the region, and how much of it this one frees */
	size_t limit;
	const uintptr_t *heads;
	uintptr_t key; /* osmem_slab_key */
	size_t sizes;  /* bytes that have a bin below */
	/* Which bin serves each step of 16 bytes: see osmem_thread_top. */
	uint16_t tops[OSMEM_THREAD_STEPS];
	uintptr_t no_slot[2];	       /* stands before a bin's slots */
	void **bin[OSMEM_CLASSES];     /* where that stands */
	uint8_t credit[OSMEM_CLASSES]; /* refills that may make it grow */
	uint8_t refused;    /* refills until more of them are asked for */
	ptrdiff_t large;    /* bytes that bins of large slots may hold */
	ptrdiff_t promised; /* of these, by all threads' account */

	struct osmem_lock lock;
	/* Slabs with free slots by class, without any, without used ones. */
	struct osmem_slab *lists[OSMEM_THREAD_LISTS];
	size_t used[OSMEM_CLASSES]; /* slots, those in bins included */
	uint32_t peak[OSMEM_CLASSES]; /* of that, since it was given up */
	size_t bytes;		    /* of all that is used */
	size_t most;		    /* that it was, if that was much */
	ptrdiff_t idle;             /* bytes of pages without a slot in use */
	ptrdiff_t told;             /* of these, to the region */
	_Atomic(struct osmem_slab *) posted[OSMEM_CLASSES];
	struct osmem_slab *taken[OSMEM_CLASSES]; /* of those, not seen yet */
	struct osmem_thread *next;      /* of all that were ever made */
	struct osmem_thread *next_free; /* among those without a thread */
	size_t carved;			/* of its slabs, when it came to rest */
};

/* Of a thread on a slow path, to the fast paths: its bins are empty. */
OSMEM_VAR struct osmem_thread osmem_thread_busy;

/*
 * A slow path begins. False when the thread is on one already: the caller is a
 * signal handler that has interrupted it, and nothing may be touched.
 */
static inline bool osmem_thread_begin(void)
{
	if (unlikely(osmem_thread_self == &osmem_thread_busy))
		return false;
	osmem_thread_self = &osmem_thread_busy;
	atomic_signal_fence(memory_order_seq_cst);
	return true;
}

static inline void osmem_thread_end(void)
{
	osmem_self_open();
}

/* For what may be a handler's, too: begun is what osmem_thread_begin said. */
static inline void osmem_thread_end_if(bool begun)
{
	if (begun)
		osmem_thread_end();
}

/* The same where the thread's bin is full: half of it goes to its slabs. */
OSMEM_FN __attribute__((noinline)) void osmem_thread_flush(void *ptr);

/* As osmem_slab_is_marked, for the fast paths. */
static inline __attribute__((always_inline)) bool
osmem_thread_is_marked(const struct osmem_thread *t, const void *slot)
{
	return ((const uintptr_t *)slot)[1] == (t->key ^ (uintptr_t)slot);
}

/*
 * Where a bin's top is, in a register. Nothing else may be computed from it by
 * the compiler: of loads and stores without an index recent processors find
 * out that one reads what the other has written before they know where, and a
 * pair takes half the time.
 */
static inline __attribute__((always_inline)) void ***
osmem_thread_top(struct osmem_thread *t, size_t class)
{
	void ***top = &t->top[class];

	__asm__("" : "+r"(top));
	return top;
}

/*
 * The same by the step of a size. A structure starts a page, so the addresses
 * of its tops differ in their last 16 bits only, and one instruction writes
 * these over those of its own. Elsewhere tops counts from the first. key is
 * read before, or else the structure's address would be copied.
 */
#if defined(__x86_64__) && !defined(__ILP32__)
static inline uint16_t osmem_thread_first_top(const struct osmem_thread *t)
{
	return (uint16_t)(uintptr_t)t->top;
}

static inline __attribute__((always_inline)) void ***
osmem_thread_top_of(struct osmem_thread *t, size_t step, uintptr_t *key)
{
	void ***top = t->top;

	__asm__("movw %2, %w0" : "+r"(top), "+r"(*key) : "m"(t->tops[step]));
	return top;
}
#else
static inline uint16_t osmem_thread_first_top(const struct osmem_thread *t)
{
	(void)t;
	return 0;
}

static inline __attribute__((always_inline)) void ***
osmem_thread_top_of(struct osmem_thread *t, size_t step, uintptr_t *key)
{
	void *top = (char *)t->top + t->tops[step];

	(void)key;
	__asm__("" : "+r"(top));
	return top;
}
#endif

/*
 * A slot for size bytes, or what the slow path returns. What should be the mark
 * is subtracted from the word where it should be, and added again if that does
 * not make it 0. A handler that comes between finds no mark there either, as
 * marks are odd.
 */
static inline __attribute__((always_inline)) void *
osmem_thread_alloc(size_t size, void *(*slow)(size_t size))
{
	struct osmem_thread *t = osmem_thread_self;
	size_t last = size - 1;
	uintptr_t key;
	void ***top;
	void **place;
	uintptr_t *slot;

	if (unlikely(last >= t->sizes))
		return slow(size);
	key = t->key;
	top = osmem_thread_top_of(t, last / 16, &key);
	place = *top;
	slot = *place;
	key ^= (uintptr_t)slot;
	if (unlikely((slot[1] -= key) != 0)) {
		/* In memory, by gcc, both times. */
		__asm__("" : "+m"(slot[1]));
		slot[1] += key;
		return slow(size);
	}
	*top = place - 1;
	/* Or gcc would copy it on its way out. */
	__asm__("" : "+r"(slot));
	return slot;
}

/*
 * Whether the slab is the thread's, and whole: relaxed, as it changes under the
 * thread's lock. gcc compares with memory what is not atomic.
 */
static inline bool osmem_thread_owns(const struct osmem_thread *t,
				     const struct osmem_slab *s)
{
#if OSMEM_THREAD_SANITIZER
	return atomic_load_explicit(&s->owner, memory_order_relaxed) ==
	       (uintptr_t)t;
#else
	return *(const uintptr_t *)&s->owner == (uintptr_t)t;
#endif
}

/*
 * Frees a slot of the thread's own slabs, if it suits size, or may have any.
 * False when it is none, or looks wrong: take the slow path, which finds out.
 */
static inline __attribute__((always_inline)) bool
osmem_thread_free_if(void *ptr, bool (*suits)(size_t slot, size_t size),
		     size_t size)
{
	struct osmem_thread *t = osmem_thread_self;
	size_t offset = (uintptr_t)ptr - t->base;
	uintptr_t *slot = ptr;
	struct osmem_slab *s;
	uintptr_t head;
	uintptr_t mark;
	size_t class;
	void ***top;
	void **place;

	if (unlikely(offset >= t->limit))
		return false;
	head = t->heads[offset >> OSMEM_UNIT_SHIFT];
	class = (uint8_t)head;
	/* Or gcc would take the slab from a copy of the head. */
	__asm__("" : "+r"(class));
	s = (struct osmem_slab *)(head - class);
	if (unlikely(!osmem_thread_owns(t, s)) ||
	    unlikely(!osmem_slab_is_slot(s, ptr)) ||
	    (suits != NULL && unlikely(!suits(s->size, size))))
		return false;
	mark = t->key ^ (uintptr_t)ptr;
	if (unlikely(slot[1] == mark))
		return false;
	top = osmem_thread_top(t, class);
	place = *top;
	if (unlikely(place == top[OSMEM_CLASSES])) {
		osmem_thread_flush(ptr);
		return true;
	}
	slot[1] = mark;
	place[1] = ptr;
	*top = place + 1;
	return true;
}

static inline __attribute__((always_inline)) bool osmem_thread_free(void *ptr)
{
	return osmem_thread_free_if(ptr, NULL, 0);
}

/* A slot of a hot class, out of the thread's bin; NULL without space. */
OSMEM_FN void *osmem_thread_refill(unsigned int class);

/*
 * Frees a located, live slot of any thread's slab. False when another thread
 * has freed it meanwhile. No lock.
 */
OSMEM_FN bool osmem_thread_release(struct osmem_slab *s, void *ptr);

/*
 * The same of what the region holds, whatever it is, if it is a live slot of
 * another thread's slab that is whole: then it is done without a lock. Ends in
 * rest otherwise. begun: a slow path has, which rest ends, and the slot is
 * free; else rest frees it.
 */
typedef void osmem_thread_rest(void *ptr, const char *call, bool begun);
OSMEM_FN void osmem_thread_free_remote(void *ptr, const char *call,
				       osmem_thread_rest *rest);

/*
 * Gives back what slabs do not need; all: this thread's bins first, and what
 * has been freed but not collected. Whether there was anything. No lock.
 */
OSMEM_FN bool osmem_thread_trim(bool all);

/*
 * Verifies what only holders of slabs can: maps and counts. The number of
 * faults. No lock, and the caller is on a slow path of its own.
 */
OSMEM_FN int osmem_thread_check(void);

/*
 * Makes the region, the class table and the exit key, once. False when there
 * are no slabs to be had. Core's lock.
 */
OSMEM_FN bool osmem_thread_open(void);

/*
 * Shuts the door, or opens it: while it is shut every allocation and every free
 * takes the slow path, in other threads once their bins have run empty. Slabs
 * serve hot classes as before, a slot at a time. Who opens it has shut it
 * before: the door is open when nobody wants it shut. No lock.
 */
OSMEM_FN void osmem_thread_shut(bool shut);

/*
 * Around a fork, outside the core's lock; begun is what osmem_thread_begin
 * said. In the child the other threads are gone and their slabs nobody's.
 */
OSMEM_FN void osmem_thread_before_fork(bool begun);
OSMEM_FN void osmem_thread_after_fork(bool child);

#endif
