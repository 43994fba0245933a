/* SPDX-License-Identifier: MIT */
/*
 * thread.h - the hot path: a list of free slots per class and thread.
 *
 * The door: a thread that has no lists, or whose lists shall stay empty, uses
 * the static empty thread. Its lists are empty and its limit is 0, so every
 * call takes the slow path by the branches that are there anyway.
 */
#ifndef OSMEM_THREAD_H
#define OSMEM_THREAD_H

#include "lock.h"
#include "slab.h"

/* Sizes up to the mapping threshold, in steps of 16 from 0. */
enum { OSMEM_THREAD_STEPS = OSMEM_MMAP_THRESHOLD / 16 };

/*
 * What the fast paths read comes first. It, most and wanted are the thread's
 * own. The lock guards what comes after it and the records of the thread's
 * slabs: the thread takes it on slow paths, others to give back what an idle
 * one leaves.
 * posted is a stack of slabs with remote frees, pushed by anybody with release,
 * taken whole under the lock with acquire.
 */
struct osmem_thread {
	void *list[OSMEM_CLASSES]; /* the bins: free slots of a class */
	/*
	 * How many more a bin may take, counted down by frees and up by
	 * allocations; below 0 it is flushed.
	 */
	ptrdiff_t room[OSMEM_CLASSES];
	uintptr_t base; /* of the region, and how much of it this one frees */
	size_t limit;
	void **heads;
	ptrdiff_t most[OSMEM_CLASSES]; /* slots that a bin may hold */
	bool wanted[OSMEM_CLASSES];    /* refilled since it was flushed */
	ptrdiff_t large;    /* bytes that bins of large slots may hold */
	ptrdiff_t promised; /* of these, by all threads' account */

	struct osmem_lock lock;
	struct osmem_slab *partial[OSMEM_CLASSES];
	struct osmem_slab *full;
	size_t used[OSMEM_CLASSES]; /* slots, those in bins included */
	ptrdiff_t idle;		    /* bytes of pages without a slot in use */
	ptrdiff_t told;		    /* of these, to the region */
	_Atomic(struct osmem_slab *) posted;
	struct osmem_thread *next;	/* of all that were ever made */
	struct osmem_thread *next_free; /* among those without a thread */
};

/* TLS of 8 bytes, initial-exec: never NULL. */
OSMEM_VAR __thread struct osmem_thread *osmem_thread_self
	__attribute__((tls_model("initial-exec")));

/*
 * The class of each step of 16 bytes; made before the first class is hot.
 * Relaxed: who reads too early has no lists, so the answer is the same.
 */
OSMEM_VAR _Atomic(uint8_t) osmem_thread_classes[OSMEM_THREAD_STEPS];

/* The thread's bin is full: half of it goes back to its slabs. */
OSMEM_FN __attribute__((noinline)) void osmem_thread_flush(unsigned int class);

/*
 * Takes the first slot of a list that is not empty. The empty statements keep
 * gcc from computing an address where addressing modes do, and from copying
 * what is returned.
 */
static inline __attribute__((always_inline)) void *
osmem_thread_pop(struct osmem_thread *t, size_t class)
{
	uintptr_t *slot = t->list[class];

	slot[1] = 0;
	__asm__("" : "+r"(class));
	t->list[class] = (void *)slot[0];
	__asm__("" : "+r"(class), "+r"(slot));
	t->room[class]++;
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

	if (unlikely(last >= OSMEM_THREAD_STEPS * 16))
		return slow(size);
	class = atomic_load_explicit(&osmem_thread_classes[last / 16],
				     memory_order_relaxed);
	if (unlikely(t->list[class] == NULL))
		return slow(size);
	return osmem_thread_pop(t, class);
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

	if (unlikely(offset >= t->limit))
		return false;
	s = t->heads[offset >> OSMEM_UNIT_SHIFT];
	if (unlikely(atomic_load_explicit(&s->owner, memory_order_relaxed) !=
		     (uintptr_t)t))
		return false;
	if (unlikely(!osmem_slab_is_slot(s, ptr)))
		return false;
	mark = s->mark;
	if (unlikely(slot[1] == mark))
		return false;
	class = s->class;
	slot[1] = mark;
	/* As above; and two stores are cheaper than one of a pair. */
	__asm__("" : "+r"(class) : : "memory");
	slot[0] = (uintptr_t)t->list[class];
	__asm__("" : "+r"(class));
	t->list[class] = slot;
	if (unlikely(--t->room[class] < 0))
		osmem_thread_flush((unsigned int)class);
	return true;
}

/* A slot of a hot class, the thread's bin being empty; NULL without space. */
OSMEM_FN void *osmem_thread_refill(unsigned int class);

/*
 * Frees a located, live slot of any thread's slab. False when another thread
 * has freed it meanwhile. No lock.
 */
OSMEM_FN bool osmem_thread_release(struct osmem_slab *s, void *ptr);

/*
 * Gives back what slabs do not need; all: this thread's bins first, and what
 * has been freed but not collected. Whether there was anything. No lock.
 */
OSMEM_FN bool osmem_thread_trim(bool all);

/*
 * Makes the region, the class table and the exit key, once. False when there
 * are no slabs to be had. Core's lock.
 */
OSMEM_FN bool osmem_thread_open(void);

/*
 * Shuts the door, or opens it: while it is shut every allocation and every free
 * takes the slow path, in other threads once their bins have run empty. Slabs
 * serve hot classes as before, a slot at a time. No lock.
 */
OSMEM_FN void osmem_thread_shut(bool shut);

/*
 * Around a fork, outside the core's lock. In the child the other threads are
 * gone and their slabs nobody's.
 */
OSMEM_FN void osmem_thread_before_fork(void);
OSMEM_FN void osmem_thread_after_fork(bool child);

#endif
