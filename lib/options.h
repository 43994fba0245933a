/* SPDX-License-Identifier: MIT */
/*
 * options.h - the options: one table, set from configure, OSMEM_OPTIONS
 * and os_mallopt.
 *
 * The values are written before the first allocation, or under the core's
 * lock by os_mallopt. They are read without it, relaxed: each stands alone.
 */
#ifndef OSMEM_OPTIONS_H
#define OSMEM_OPTIONS_H

#include "common.h"
#include "fault.h"

#include <stdatomic.h>

/* The rows of the table, in the order in which help prints them. */
enum osmem_option {
	OSMEM_OPT_MODE,	       /* enum os_mode: exact auto fast */
	OSMEM_OPT_DIE,	       /* 0, 1: a failing system call is the end */
	OSMEM_OPT_WARN,	       /* 0, 1: report failing system calls */
	OSMEM_OPT_BREAK,       /* enum os_break: auto always never */
	OSMEM_OPT_CHECK,       /* 0..INT_MAX: heap check every so many calls */
	OSMEM_OPT_STATS,       /* no, exit */
	OSMEM_OPT_HOT_AFTER,   /* 1..INT_MAX, 256 */
	OSMEM_OPT_GROW_AFTER,  /* 1..INT_MAX, 64 */
	OSMEM_OPT_CACHE_AFTER, /* 1..INT_MAX, 64 */
	OSMEM_OPT_FOREIGN,     /* enum os_foreign: abort warn ignore */
	OSMEM_OPT_SITES,       /* 0, 1: where blocks come from, for reports */
	OSMEM_OPT_HARDEN,      /* 0..2: everything from the hardened slabs */
	OSMEM_OPT_FAIL,	       /* a rule: the value is its kind (fault.h) */
	OSMEM_OPT_DEEPBIND,    /* 0, 1: dlopen's RTLD_DEEPBIND has its way */
	OSMEM_OPT_PURGER,      /* 0, 1: a thread may purge what is idle */
	OSMEM_OPT_COUNT
};

/* Use osmem_option() to read; nobody but options.c writes. */
OSMEM_VAR atomic_int osmem_option_values[OSMEM_OPT_COUNT];

static inline int osmem_option(enum osmem_option which)
{
	return atomic_load_explicit(&osmem_option_values[which],
				    memory_order_relaxed);
}

/*
 * Reads the options from text ("key=value,key=value", NULL is empty). What is
 * wrong is reported on stderr with the key, the value, the range or the
 * nearest key, and the old value is kept. "help" prints all options on stderr
 * once the others have been read.
 */
OSMEM_FN void osmem_options_parse(const char *text);

/*
 * Sets one option from code; its origin becomes "os_mallopt". 0, or EINVAL
 * for a value outside the option's range, and for the option fail.
 */
OSMEM_FN int osmem_options_set(enum osmem_option which, int value);

/* Sets what nobody has chosen: whether that is so. */
OSMEM_FN bool osmem_options_imply(enum osmem_option which, int value);

/*
 * The rule of the option fail, and setting it from code; its origin becomes
 * "os_set_fault". 0, or EINVAL for a text that is no rule.
 */
OSMEM_FN const struct osmem_fault_rule *osmem_options_rule(void);
OSMEM_FN int osmem_options_set_rule(const char *text);

/*
 * Prints version and build, then a line per option: key, value, origin, range,
 * meaning. 0 or an errno value.
 */
OSMEM_FN int osmem_options_print(int fd);

#endif
