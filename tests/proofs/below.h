/* SPDX-License-Identifier: MIT */
/*
 * below.h - what the files of slab and thread stand on, for a harness with
 * threads: locks that the explorer knows, and of the rest what does nothing.
 * Before all else of lib/.
 */
#ifndef BELOW_H
#define BELOW_H

#include "interleave.h"

#define OSMEM_LOCK_H

#include "common.h"

struct osmem_lock {
	int word;
};

static struct osmem_lock osmem_core_lock;

static inline void osmem_lock(struct osmem_lock *lock)
{
	interleave_lock(&lock->word);
}

static inline bool osmem_lock_try(struct osmem_lock *lock)
{
	return interleave_try(&lock->word);
}

static inline void osmem_unlock(struct osmem_lock *lock)
{
	interleave_unlock(&lock->word);
}

static inline bool osmem_lock_is_mine(struct osmem_lock *lock)
{
	(void)lock;
	return false;
}

static inline void osmem_lock_before_fork(struct osmem_lock *lock)
{
	(void)lock;
}

static inline void osmem_lock_after_fork(struct osmem_lock *lock)
{
	(void)lock;
}

#include "region.h"

/* Nothing is ever purged. */
#define osmem_region_should_purge() false

#include "thread_state.h"

/* There is more than one thread. */
const char *osmem_sys_alone_at = "";

void osmem_region_add_idle(ptrdiff_t bytes)
{
	(void)bytes;
}

void osmem_region_add_gone(ptrdiff_t bytes)
{
	(void)bytes;
}

void osmem_region_regret(size_t bytes)
{
	(void)bytes;
}

static atomic_size_t below_waiting;

void osmem_region_add_waiting(ptrdiff_t bytes)
{
	atomic_fetch_add_explicit(&below_waiting, (size_t)bytes,
				  memory_order_relaxed);
}

size_t osmem_region_waiting(void)
{
	return 0;
}

bool osmem_region_is_refused(void)
{
	return false;
}

void osmem_thread_watch(struct osmem_thread *t)
{
	(void)t;
}

void osmem_thread_cut(struct osmem_thread *t, unsigned int of, ptrdiff_t keep)
{
	(void)t;
	(void)of;
	(void)keep;
}

void osmem_thread_set_most(struct osmem_thread *t, unsigned int of,
			   ptrdiff_t most)
{
	(void)t;
	(void)of;
	(void)most;
}

void osmem_thread_purge_places(struct osmem_thread *t)
{
	(void)t;
}

size_t osmem_thread_held(const struct osmem_thread *t)
{
	(void)t;
	return 0;
}

void osmem_thread_lend(ptrdiff_t bytes)
{
	(void)bytes;
}

int osmem_sys_map(size_t size, void **start)
{
	(void)size;
	(void)start;
	proof_claim(!"another structure");
	return 1;
}

void osmem_die_failed(int err, const char *call, size_t size, bool fatal)
{
	(void)err;
	(void)call;
	(void)size;
	(void)fatal;
}

void osmem_report_written(const void *slot, size_t size)
{
	(void)slot;
	(void)size;
	proof_claim(!"a broken link");
	for (;;)
		;
}

#endif
