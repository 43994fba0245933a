/* SPDX-License-Identifier: MIT */
/*
 * lock.c - the slow half of lock.h: spin a little, then sleep on the futex.
 *
 * Must never allocate. The only report is that of a thread that would wait
 * for itself.
 */
#include "lock.h"

#include "print.h"
#include "sys.h"

OSMEM_VAR_DEFINED struct osmem_lock osmem_core_lock;

/* About a microsecond: the block heap's critical sections are shorter. */
enum { LOCK_SPINS = 100 };

static inline void lock_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

static bool lock_spin(struct osmem_lock *lock)
{
	int i;

	for (i = 0; i < LOCK_SPINS; i++) {
		if (osmem_lock_try(lock))
			return true;
		lock_pause();
	}
	return false;
}

/* Waiting would be forever: a signal handler or a callback has come back. */
static OSMEM_COLD void lock_report_nested(struct osmem_lock *lock)
{
	osmem_lock_abandon(lock);
	osmem_print(2, "%s: allocation inside an allocation: a signal handler "
		       "or a callback of os_heap_walk called the allocator\n",
		    OSMEM_NAME);
	osmem_sys_abort();
}

/* The half of the word that the futex looks at: the one with the bit. */
static const uint32_t *lock_futex(struct osmem_lock *lock)
{
	const uint32_t *half = (const uint32_t *)&lock->word;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	half += sizeof(lock->word) / sizeof(*half) - 1;
#endif
	return half;
}

/* Marks the word, so that the holder wakes somebody, and sleeps. */
static void lock_sleep(struct osmem_lock *lock, uintptr_t held)
{
	if ((held & OSMEM_LOCK_SLEEPERS) == 0 &&
	    !atomic_compare_exchange_strong_explicit(
		    &lock->word, &held, held | OSMEM_LOCK_SLEEPERS,
		    memory_order_relaxed, memory_order_relaxed))
		return;
	osmem_sys_wait(lock_futex(lock),
		       (uint32_t)(held | OSMEM_LOCK_SLEEPERS));
}

/* Who has slept takes the lock marked: others may sleep on. */
static void lock_take_or_sleep(struct osmem_lock *lock)
{
	uintptr_t held = 0;

	while (!atomic_compare_exchange_strong_explicit(
		&lock->word, &held, osmem_lock_self() | OSMEM_LOCK_SLEEPERS,
		memory_order_acquire, memory_order_relaxed)) {
		lock_sleep(lock, held);
		held = 0;
	}
}

void osmem_lock_slow(struct osmem_lock *lock)
{
	if (osmem_lock_is_mine(lock)) {
		if (lock->forking)
			return;
		lock_report_nested(lock);
	}
	if (!lock_spin(lock))
		lock_take_or_sleep(lock);
}

void osmem_lock_wake(struct osmem_lock *lock)
{
	osmem_sys_wake(lock_futex(lock));
}

void osmem_lock_before_fork(struct osmem_lock *lock)
{
	if (!OSMEM_CONF_THREADS ||
	    (osmem_lock_is_mine(lock) && lock->forking == 0))
		return;
	osmem_lock(lock);
	lock->forking++;
}

void osmem_lock_after_fork(struct osmem_lock *lock)
{
	if (!OSMEM_CONF_THREADS || !osmem_lock_is_mine(lock) ||
	    lock->forking == 0)
		return;
	if (--lock->forking == 0)
		osmem_unlock(lock);
}

void osmem_lock_abandon(struct osmem_lock *lock)
{
	if (!osmem_lock_is_mine(lock))
		return;
	lock->forking = 0;
	osmem_unlock(lock);
}
