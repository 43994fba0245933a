/* SPDX-License-Identifier: MIT */
/*
 * refuse.h - functions of libc that make system calls, and fail when a plan
 * says so, for whatever is loaded with the program.
 */
#ifndef REFUSE_H
#define REFUSE_H

#include <stdatomic.h>
#include <sys/syscall.h>

enum refuse_kind {
	REFUSE_MAP,
	REFUSE_UNMAP,
	REFUSE_PROTECT,
	REFUSE_ADVISE,
	REFUSE_BREAK,
	REFUSE_FUTEX,
	REFUSE_RANDOM,
	REFUSE_KINDS
};

/* The Nth call, each Nth, all from the Nth on. */
enum refuse_when { ONCE, EVERY, FROM, REFUSE_WHENS };

struct refuse_plan {
	atomic_uint set; /* bits of kinds; 0 is off */
	atomic_uint calls;
	unsigned nth;
	enum refuse_when when;
	int error;
	atomic_uint refused;
};

extern struct refuse_plan refuse_plan;

/* The system call itself, as syscall(2), which is one of those that fail. */
long refuse_call(long n, long a, long b, long c, long d, long e, long f);

#ifdef SYS_mmap2
enum { REFUSE_SYS_MAP = SYS_mmap2, REFUSE_MAP_SHIFT = 12 };
#else
enum { REFUSE_SYS_MAP = SYS_mmap, REFUSE_MAP_SHIFT = 0 };
#endif

#endif
