/* SPDX-License-Identifier: MIT */
/*
 * init.c - the first call, the constructor, and fork.
 *
 * The replacement's first call comes from ld.so, before libc has an
 * environment: the tables are made then, the options read in the constructor.
 * Guarded by a lock of its own. Must not allocate before it is done.
 */
#include "init.h"

#include "block.h"
#include "die.h"
#include "fault.h"
#include "hard.h"
#include "index.h"
#include "lock.h"
#include "options.h"
#include "purger.h"
#include "region.h"
#include "sites.h"
#include "stretch.h"
#include "sys.h"
#include "thread.h"
#include "watch.h"

#include <osmem.h>

#include <pthread.h>

OSMEM_VAR_DEFINED atomic_bool osmem_init_done;
OSMEM_VAR_DEFINED atomic_bool osmem_init_plain;
OSMEM_VAR_DEFINED atomic_bool osmem_init_open;
OSMEM_VAR_DEFINED uint64_t osmem_block_key[OSMEM_KEYS];

static struct osmem_lock init_lock;
static size_t init_page;
static bool init_options_read;

extern char **environ;

/*
 * Who serves each call, when nobody else wants to see it: after any change of
 * what that depends on.
 */
void osmem_init_look(void)
{
	int shut = atomic_load_explicit(&osmem_slab_shut, memory_order_relaxed);
	bool checks = osmem_option(OSMEM_OPT_CHECK) != 0;
	bool unseen = !checks && shut == 0 &&
		      atomic_load_explicit(&osmem_init_done,
					   memory_order_relaxed) &&
		      !osmem_watch_is_on() && !OSMEM_CONF_DEBUG;
	bool plain = osmem_option(OSMEM_OPT_MODE) == OS_MODE_EXACT && unseen;
	bool open = !osmem_hard_is_on() && unseen;
	/* The door is shut for it. */
	bool alone = osmem_hard_is_on() && osmem_hard_is_used() && !checks &&
		     shut == 1;

	atomic_store_explicit(&osmem_init_plain, plain, memory_order_release);
	atomic_store_explicit(&osmem_init_open, open, memory_order_release);
	atomic_store_explicit(&osmem_hard_alone, alone, memory_order_release);
}

/* Whoever wants to see each call shuts the door. */
static void init_shut_door(bool shut)
{
	osmem_thread_shut(shut);
	osmem_init_look();
}

void osmem_init_apply_options(void)
{
	osmem_die_set_policy(osmem_option(OSMEM_OPT_WARN) != 0,
			     osmem_option(OSMEM_OPT_DIE) != 0);
	if (osmem_option(OSMEM_OPT_STATS) != 0)
		osmem_sys_keep_stderr();
	/* Before the first allocation: of other modes nobody is told. */
	if (osmem_watch_is_on() &&
	    osmem_option(OSMEM_OPT_MODE) != OS_MODE_EXACT)
		osmem_watch_on = false;
	osmem_init_look();
}

/*
 * For an option that wants the door shut; *is_shut is the option's own.
 * Relaxed: it says only which of several threads turns the door, each time.
 */
static void init_shut(atomic_bool *is_shut, bool shut)
{
	if (atomic_exchange_explicit(is_shut, shut, memory_order_relaxed) !=
	    shut)
		init_shut_door(shut);
}

/* The door is shut first: what has passed it is not known to the table. */
void osmem_init_apply_sites(void)
{
	static atomic_bool is_shut;
	bool on = osmem_option(OSMEM_OPT_SITES) != 0;

	init_shut(&is_shut, on);
	osmem_sites_set(on);
}

/* All calls shall be counted, so the door is shut first. */
void osmem_init_apply_rule(void)
{
	static atomic_bool is_shut;
	const struct osmem_fault_rule *rule = osmem_options_rule();

	init_shut(&is_shut, rule->kind != OSMEM_FAULT_NO);
	osmem_fault_start(rule);
}

/* Who counts for a program from outside gives a file for it. */
static void init_read_rule(void)
{
	const char *file = osmem_sys_getenv("OSMEM_FAIL_FILE");

	if (osmem_option(OSMEM_OPT_FAIL) == 0)
		return;
	osmem_init_apply_rule();
	if (file != NULL)
		osmem_fault_share(file);
}

static void init_read_options(void)
{
	if (init_options_read || environ == NULL)
		return;
	init_options_read = true;
	osmem_options_parse(osmem_sys_getenv("OSMEM_OPTIONS"));
	osmem_init_apply_options();
	init_read_rule();
}

/* Whoever watches sees all blocks, if nobody has chosen another mode. */
static void init_watch(void)
{
	if (!OSMEM_IS_REPLACEMENT && osmem_watch_exists() &&
	    osmem_options_imply(OSMEM_OPT_MODE, OS_MODE_EXACT))
		osmem_watch_on = true;
}

static void init_keys(void)
{
	uint64_t seed[2];

	osmem_sys_key(seed);
	osmem_block_set_key(seed);
	osmem_slab_key =
		(uintptr_t)osmem_block_mix(osmem_block_key[OSMEM_KEY_OTHER],
					   0x51ab) |
		1;
}

void osmem_init_now(void)
{
	osmem_lock(&init_lock);
	if (!atomic_load_explicit(&osmem_init_done, memory_order_relaxed)) {
		osmem_sys_init();
		init_page = osmem_sys_page_size();
		init_keys();
		osmem_index_init();
		osmem_stretch_init();
		osmem_init_apply_options();
		init_read_options();
		init_watch();
		atomic_store_explicit(&osmem_init_done, true,
				      memory_order_release);
		osmem_init_look();
	}
	osmem_unlock(&init_lock);
}

size_t osmem_init_page_size(void)
{
	osmem_init();
	return init_page;
}

/* A signal may come between two of the locks, or a fork out of a handler. */
/* fork() itself takes the lock of the files, but after this: too late. */
static void init_before_fork(void)
{
	bool begun;

	osmem_sys_lock_files();
	begun = osmem_thread_begin();
	osmem_thread_before_fork(begun);
	osmem_hard_before_fork();
	osmem_lock_before_fork(&osmem_core_lock);
	osmem_lock_before_fork(&osmem_sites_lock);
	osmem_thread_end_if(begun);
}

static void init_after_fork_in_parent(void)
{
	bool begun = osmem_thread_begin();

	osmem_lock_after_fork(&osmem_sites_lock);
	osmem_lock_after_fork(&osmem_core_lock);
	osmem_hard_after_fork(false);
	osmem_thread_after_fork(false);
	osmem_thread_end_if(begun);
	osmem_sys_unlock_files(false);
}

/*
 * A limit on address space that was set since the start leaves none to a child
 * for threads: libc maps their stacks before anybody allocates. In the child
 * only, as what is given up does not come back.
 */
static void init_keep_limits(void)
{
	osmem_index_keep_limit();
	osmem_region_keep_limit();
}

static void init_after_fork_in_child(void)
{
	bool begun = osmem_thread_begin();

	osmem_sites_after_fork_in_child();
	osmem_lock_after_fork(&osmem_sites_lock);
	if (begun)
		init_keep_limits();
	osmem_purger_after_fork();
	osmem_lock_after_fork(&osmem_core_lock);
	osmem_hard_after_fork(true);
	osmem_thread_after_fork(true);
	osmem_thread_end_if(begun);
	osmem_sys_unlock_files(true);
}

/*
 * As early as can be: handlers that are registered before ours run while we
 * hold the lock (lock.h lets the forking thread through), the others do not.
 */
static __attribute__((constructor(101))) void init_constructor(void)
{
	bool begun = osmem_thread_begin();

	osmem_init();
	osmem_lock(&init_lock);
	init_read_options();
	osmem_unlock(&init_lock);
	if (osmem_option(OSMEM_OPT_SITES) != 0)
		osmem_init_apply_sites();
	/* What came before the options leaves slots in bins. */
	if (osmem_hard_is_on())
		init_shut_door(true);
	osmem_thread_end_if(begun);
	if (OSMEM_CONF_THREADS)
		pthread_atfork(init_before_fork, init_after_fork_in_parent,
			       init_after_fork_in_child);
}
