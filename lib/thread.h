/* SPDX-License-Identifier: MIT */
/*
 * thread.h - the hot path: a bin of free slots per class and thread.
 *
 * The door: a thread that has no bins, or whose bins shall stay empty, uses
 * the static empty thread. Its bins are empty and its limit is 0, so every
 * call takes the slow path by the branches that are there anyway.
 */
#ifndef OSMEM_THREAD_H
#define OSMEM_THREAD_H

#include "lock.h"
#include "self.h"
#include "slab.h"

/* Sizes up to the mapping threshold, in steps of 16 from 0. */
enum { OSMEM_THREAD_STEPS = OSMEM_MMAP_THRESHOLD / 16 };

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
	 * freed blocks steers nothing.
	 */
	void **top[OSMEM_CLASSES];
	void **end[OSMEM_CLASSES];
	uintptr_t base; /* of the region, and how much of it this one frees */
	size_t limit;
	void **heads;
	const uint8_t *unit_classes;
	uintptr_t key; /* osmem_slab_key */
	/* The class of each step of 16 bytes. */
	uint8_t classes[OSMEM_THREAD_STEPS];
	void **bin[OSMEM_CLASSES];     /* what is no slot */
	uint16_t space[OSMEM_CLASSES]; /* how many slots have a place */
	bool wanted[OSMEM_CLASSES];    /* refilled since it was flushed */
	void **spare;                  /* places that no bin has had yet */
	ptrdiff_t large;    /* bytes that bins of large slots may hold */
	ptrdiff_t promised; /* of these, by all threads' account */

	struct osmem_lock lock;
	_Atomic(uint32_t) turn; /* of taking slots. Relaxed */
	struct osmem_slab *partial[OSMEM_CLASSES];
	struct osmem_slab *full;
	size_t used[OSMEM_CLASSES]; /* slots, those in bins included */
	uint32_t peak[OSMEM_CLASSES]; /* of that, since it was given up */
	size_t bytes;		    /* of all that is used */
	size_t most;		    /* that it was, if that was much */
	ptrdiff_t idle;             /* bytes of pages without a slot in use */
	ptrdiff_t told;             /* of these, to the region */
	uint32_t harvests;          /* by others */
	_Atomic(struct osmem_slab *) posted[OSMEM_CLASSES];
	struct osmem_thread *next;      /* of all that were ever made */
	struct osmem_thread *next_free; /* among those without a thread */
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
 * Takes the last slot of a bin, which is marked. The empty statements make gcc
 * count in memory, with one instruction, and keep it from computing an address
 * where addressing modes do, and from copying what is returned.
 */
static inline __attribute__((always_inline)) void *
osmem_thread_pop(struct osmem_thread *t, size_t class, void *slot)
{
	((uintptr_t *)slot)[1] = 0;
	__asm__("" : "+r"(class));
	__asm__("" : "+m"(t->top[class]));
	t->top[class]--;
	__asm__("" : "+r"(slot));
	return slot;
}

/* A slot for size bytes, or what the slow path returns. */
static inline __attribute__((always_inline)) void *
osmem_thread_alloc(size_t size, void *(*slow)(size_t size))
{
	struct osmem_thread *t = osmem_thread_self;
	size_t last = size - 1;
	size_t class;
	void *slot;

	if (unlikely(last >= OSMEM_THREAD_STEPS * 16))
		return slow(size);
	class = t->classes[last / 16];
	slot = *t->top[class];
	if (unlikely(!osmem_thread_is_marked(t, slot)))
		return slow(size);
	return osmem_thread_pop(t, class, slot);
}

/*
 * Frees a slot of the thread's own slabs. False when it is none, or looks
 * wrong: take the slow path, which finds out.
 */
static inline __attribute__((always_inline)) bool osmem_thread_free(void *ptr)
{
	struct osmem_thread *t = osmem_thread_self;
	size_t offset = (uintptr_t)ptr - t->base;
	uintptr_t *slot = ptr;
	struct osmem_slab *s;
	uintptr_t mark;
	size_t class;
	void **top;

	if (unlikely(offset >= t->limit))
		return false;
	s = t->heads[offset >> OSMEM_UNIT_SHIFT];
	class = t->unit_classes[offset >> OSMEM_UNIT_SHIFT];
	if (unlikely(atomic_load_explicit(&s->owner, memory_order_relaxed) !=
		     (uintptr_t)t))
		return false;
	if (unlikely(!osmem_slab_is_slot(s, ptr)))
		return false;
	mark = t->key ^ (uintptr_t)ptr;
	if (unlikely(slot[1] == mark))
		return false;
	top = t->top[class];
	/* As in osmem_thread_pop: no address is computed. */
	__asm__("" : "+r"(class));
	if (unlikely(top == t->end[class])) {
		osmem_thread_flush(ptr);
		return true;
	}
	slot[1] = mark;
	top[1] = ptr;
	__asm__("" : "+r"(class));
	t->top[class] = top + 1;
	return true;
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
 * rest otherwise, begun saying whether a slow path has, and the slot is free:
 * rest ends it then, and frees it if not.
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
 * Around a fork, outside the core's lock. In the child the other threads are
 * gone and their slabs nobody's.
 */
OSMEM_FN void osmem_thread_before_fork(void);
OSMEM_FN void osmem_thread_after_fork(bool child);

#endif
