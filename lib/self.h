/* SPDX-License-Identifier: MIT */
/*
 * self.h - what the calling thread is: 16 bytes of TLS.
 *
 * While a thread is on a slow path its bins are shut by naming the static busy
 * thread in place of its own: whatever comes then and allocates is a signal
 * handler that has interrupted the allocator, and is seen by that name
 * (nested.h). thread.h knows what the structures are.
 */
#ifndef OSMEM_SELF_H
#define OSMEM_SELF_H

#include "common.h"

struct osmem_thread;

#define OSMEM_SELF_TLS __attribute__((tls_model("initial-exec")))

/* What the fast paths see. Never NULL. */
OSMEM_VAR __thread struct osmem_thread *osmem_thread_self OSMEM_SELF_TLS;

/* The thread's own structure, or the static one of those without. */
OSMEM_VAR __thread struct osmem_thread *osmem_thread_mine OSMEM_SELF_TLS;

/* Ends the slow path, also for a report that does not return from it. */
static inline void osmem_self_open(void)
{
	/* For the compiler: a handler must not see it too early. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	osmem_thread_self = osmem_thread_mine;
}

#endif
