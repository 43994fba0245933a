/* SPDX-License-Identifier: MIT */
/*
 * lock.h - a lock of one futex word that knows its owner.
 *
 * The owner is known so that a fork can hand the lock through (see below),
 * and so that an allocation inside an allocation is reported instead of
 * waiting for itself. With --disable-threads everything here is empty.
 */
#ifndef OSMEM_LOCK_H
#define OSMEM_LOCK_H

#include "common.h"

#include "self.h"
#include "sys.h"

#include <stdatomic.h>

/*
 * word: 0, or the identity of the holder, and bit 0 when somebody sleeps: who
 * holds it is known at every moment, also in a signal handler. Acquire when it
 * is taken, release when it becomes 0: what was done under the lock is seen by
 * the next holder. While the process has one thread both are relaxed: creating
 * the second orders everything before it. forking: only the holder reads or
 * writes it.
 */
struct osmem_lock {
	atomic_uintptr_t word;
	int forking; /* forks on their way: one can interrupt another */
};

enum { OSMEM_LOCK_SLEEPERS = 1 };

/* Guards the block heap, the mappings and the sets behind both. */
OSMEM_VAR struct osmem_lock osmem_core_lock;

/* Before a report that ends the process: its handlers may allocate. */
OSMEM_FN void osmem_lock_abandon(struct osmem_lock *lock);

/* Identifies a thread, also in the child of its fork. */
static inline uintptr_t osmem_lock_self(void)
{
	return (uintptr_t)&osmem_thread_self;
}

OSMEM_FN OSMEM_COLD void osmem_lock_slow(struct osmem_lock *lock);
OSMEM_FN OSMEM_COLD void osmem_lock_wake(struct osmem_lock *lock);

/* A process of one thread needs no locked instruction, only the mark. */
static inline bool osmem_lock_try(struct osmem_lock *lock)
{
	uintptr_t idle = 0;

	if (likely(osmem_sys_is_alone())) {
		idle = atomic_load_explicit(&lock->word, memory_order_relaxed);
		if (likely(idle == 0))
			atomic_store_explicit(&lock->word, osmem_lock_self(),
					      memory_order_relaxed);
		return idle == 0;
	}
	return atomic_compare_exchange_strong_explicit(
		&lock->word, &idle, osmem_lock_self(), memory_order_acquire,
		memory_order_relaxed);
}

static inline void osmem_lock(struct osmem_lock *lock)
{
	if (OSMEM_CONF_THREADS && unlikely(!osmem_lock_try(lock)))
		osmem_lock_slow(lock);
}

static inline void osmem_unlock(struct osmem_lock *lock)
{
	if (!OSMEM_CONF_THREADS || unlikely(lock->forking))
		return;
	if (likely(osmem_sys_is_alone()))
		atomic_store_explicit(&lock->word, 0, memory_order_relaxed);
	else if (unlikely(atomic_exchange_explicit(&lock->word, 0,
						   memory_order_release) &
			  OSMEM_LOCK_SLEEPERS))
		osmem_lock_wake(lock);
}

static inline bool osmem_lock_is_mine(struct osmem_lock *lock)
{
	return OSMEM_CONF_THREADS &&
	       (atomic_load_explicit(&lock->word, memory_order_relaxed) &
		~(uintptr_t)OSMEM_LOCK_SLEEPERS) == osmem_lock_self();
}

/*
 * Around fork(): before, the forking thread takes the lock and may go on to
 * allocate, for fork handlers that run after ours do; after, in parent and
 * child, it is released. When the fork happens in a signal handler that has
 * interrupted the holder, the lock is left alone: the holder goes on in both.
 */
OSMEM_FN void osmem_lock_before_fork(struct osmem_lock *lock);
OSMEM_FN void osmem_lock_after_fork(struct osmem_lock *lock);

#endif
