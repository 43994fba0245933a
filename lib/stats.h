/* SPDX-License-Identifier: MIT */
/*
 * stats.h - counters per operation and size class for --enable-stats.
 *
 * Relaxed atomics: each is exact on its own, together they are a snapshot. They
 * are words, and wrap on a 32-bit machine: not every one has wider atomics.
 * Without the flag the counters exist and stay 0, and counting is empty.
 */
#ifndef OSMEM_STATS_H
#define OSMEM_STATS_H

#include "class.h"

#include <stdatomic.h>

enum osmem_stats_op {
	OSMEM_STATS_MALLOC,
	OSMEM_STATS_CALLOC,
	OSMEM_STATS_REALLOC,
	OSMEM_STATS_ALIGNED,
	OSMEM_STATS_FREE,
	OSMEM_STATS_OPS
};

struct osmem_stats_counters {
	atomic_ulong ops[OSMEM_STATS_OPS];
	atomic_ulong bytes;
	/* Requests by class; the last counts what is above all classes. */
	atomic_ulong classes[OSMEM_CLASSES + 1];
};

OSMEM_VAR struct osmem_stats_counters osmem_stats_counters;

/* Counts a call; size is what it asked for, 0 for none. */
static inline void osmem_stats_count(enum osmem_stats_op op, size_t size)
{
	struct osmem_stats_counters *c = &osmem_stats_counters;
	unsigned int class = OSMEM_CLASSES;

	if (!OSMEM_CONF_STATS)
		return;
	atomic_fetch_add_explicit(&c->ops[op], 1, memory_order_relaxed);
	if (size == 0)
		return;
	if (size <= OSMEM_CLASS_LARGEST)
		class = osmem_class_of(size);
	atomic_fetch_add_explicit(&c->bytes, size, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->classes[class], 1, memory_order_relaxed);
}

#endif
