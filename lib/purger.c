/* SPDX-License-Identifier: MIT */
/*
 * purger.c - the purger: when it runs, and what it leaves.
 *
 * Several times a second it asks how much of what is idle has been made use of.
 * Of what was not, half goes each time; where nothing was, everything. Must
 * never hold a lock while it sleeps.
 */
#include "purger.h"

#include "lock.h"
#include "options.h"
#include "region.h"
#include "sys.h"
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

enum {
	PURGER_STACK = 256 * 1024, /* libc takes its TLS out of it */
	PURGER_NAP = 200,	   /* milliseconds */
	PURGER_NAPS = 3,	   /* without any use until it ends */
	/* Idle memory is in use if so much of it comes and goes, or a share. */
	PURGER_USE = 1 << 20,
	PURGER_USE_SHARE = 16
};

enum purger_state { PURGER_NONE, PURGER_THERE, PURGER_REFUSED };

/* Only who makes it THERE starts one. Relaxed: it guards nothing. */
static atomic_int purger_state;

/*
 * What may stay: what was in use, a little more, and half of what was not; of
 * idle memory that nobody has used, nothing.
 */
static size_t purger_room(struct osmem_region_range idle)
{
	size_t use = idle.most - idle.least;

	if (use < PURGER_USE || use < idle.most / PURGER_USE_SHARE)
		return 0;
	return use + use / 4 + idle.least / 2;
}

static void purger_keep(bool kept)
{
	osmem_lock(&osmem_core_lock);
	osmem_region_keep(kept);
	osmem_unlock(&osmem_core_lock);
}

static void *purger_run(void *unused)
{
	int naps = 0;

	osmem_sys_name_thread("osmem-purger");
	purger_keep(true);
	while (naps < PURGER_NAPS) {
		size_t room;

		/* What is purged here is not in use. */
		osmem_region_ask();
		osmem_sys_nap(PURGER_NAP);
		room = purger_room(osmem_region_ask());
		naps = room != 0 ? 0 : naps + 1;
		osmem_region_allow(room);
		if (osmem_thread_begin()) {
			osmem_thread_trim(false);
			osmem_thread_end();
		}
	}
	purger_keep(false);
	atomic_store_explicit(&purger_state, PURGER_NONE, memory_order_relaxed);
	return unused;
}

/* Signals are for the program's own threads. */
static int purger_create(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	int err = pthread_attr_init(&attr);

	if (err != 0)
		return err;
	sigfillset(&all);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, PURGER_STACK);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&thread, &attr, purger_run, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return err;
}

/* A refusal is for good: without it memory is given back at once, as ever. */
void osmem_purger_start(void)
{
	int state = PURGER_NONE;
	int saved = errno;

	atomic_store_explicit(&osmem_region_wants, false, memory_order_relaxed);
	if (!OSMEM_CONF_THREADS || osmem_option(OSMEM_OPT_PURGER) == 0 ||
	    !osmem_sys_has_company() ||
	    !atomic_compare_exchange_strong_explicit(
		    &purger_state, &state, PURGER_THERE, memory_order_relaxed,
		    memory_order_relaxed))
		return;
	if (purger_create() != 0)
		atomic_store_explicit(&purger_state, PURGER_REFUSED,
				      memory_order_relaxed);
	errno = saved;
}

void osmem_purger_after_fork(void)
{
	if (atomic_load_explicit(&purger_state, memory_order_relaxed) ==
	    PURGER_THERE)
		osmem_region_keep(false);
	atomic_store_explicit(&purger_state, PURGER_NONE, memory_order_relaxed);
}
