/* SPDX-License-Identifier: MIT */
/*
 * sys.h - everything that the library asks of the system.
 *
 * Nobody else makes system calls. Each function that can fail returns 0 or an
 * errno value, which its caller passes through DIE() (die.h), and leaves errno
 * as it was. No function here takes a lock or allocates.
 */
#ifndef OSMEM_SYS_H
#define OSMEM_SYS_H

#include "common.h"

/* A private anonymous mapping of size bytes, readable, writable, zero. */
OSMEM_FN int osmem_sys_map(size_t size, void **out);
OSMEM_FN int osmem_sys_unmap(void *start, size_t size);

/* A shared mapping of a file, which is made that long if it is shorter. */
OSMEM_FN int osmem_sys_share(const char *path, size_t size, void **out);

/* Address space without memory, and memory for a page-aligned part of it. */
OSMEM_FN int osmem_sys_reserve(size_t size, void **out);
OSMEM_FN int osmem_sys_commit(void *start, size_t size);

/* The pages' contents go back to the system and read as zero on success. */
OSMEM_FN int osmem_sys_purge(void *start, size_t size);

/* Nobody may touch the pages; osmem_sys_commit gives them back as they were. */
OSMEM_FN int osmem_sys_guard(void *start, size_t size);
/* The pages lose their contents, and nobody may touch them any more. */
OSMEM_FN int osmem_sys_drop(void *start, size_t size);

/* A clock that costs nothing to read and ticks every few milliseconds. */
OSMEM_FN unsigned long osmem_sys_milliseconds(void);

/* How long the calling thread has been running: a system call. */
OSMEM_FN unsigned long osmem_sys_milliseconds_run(void);

/* libc's sbrk(0): no system call but for the first of the process. */
OSMEM_FN void *osmem_sys_break(void);

/*
 * Where libc keeps what sbrk(0) says, or where NULL stands if that is not
 * known: to be looked at often. What is lower than expected is to be asked for.
 */
OSMEM_VAR void *const *osmem_sys_break_at;

/* Finds out what libc lets be known. Once, before anything else. */
OSMEM_FN void osmem_sys_init(void);

/* Moves the break up by size bytes; *out is the old one. */
OSMEM_FN int osmem_sys_grow_break(size_t size, void **out);

/* Where libc (glibc >= 2.32) says that there is one thread, or a 0. */
OSMEM_VAR const char *osmem_sys_alone_at;

/*
 * Whether the process has one thread for certain; only this thread itself can
 * end that, by creating another.
 */
static inline bool osmem_sys_is_alone(void)
{
	return *osmem_sys_alone_at != 0;
}

/*
 * Whether the process has a second thread, or had one when last asked.
 * The caller holds the core's lock.
 */
OSMEM_FN bool osmem_sys_threaded(void);

/*
 * Whether the break may be used beside libc's malloc in a process of one
 * thread. Not with musl: its malloc moves the break down over its neighbours.
 */
OSMEM_FN bool osmem_sys_break_is_safe_alone(void);

/*
 * Whether the program's malloc is this project's replacement. Asks it, so no
 * lock may be held.
 */
OSMEM_FN bool osmem_sys_malloc_is_ours(void);

/* What the replacement's mallopt() returns when it is asked for it. */
#define OSMEM_HANDSHAKE 0x6f736d65

OSMEM_FN size_t osmem_sys_page_size(void);

/* The kernel's number for this thread. */
OSMEM_FN uint32_t osmem_sys_thread(void);

/* Whether address space without access counts: RLIMIT_AS is not unlimited. */
OSMEM_FN bool osmem_sys_counts_space(void);

/* The smaller of RLIMIT_AS and RLIMIT_DATA, SIZE_MAX when unlimited. */
OSMEM_FN size_t osmem_sys_space_limit(void);

/* The process's key for seals: from the kernel's random bytes at exec. */
OSMEM_FN void osmem_sys_key(uint64_t key[2]);

/* Tells processes from each other; stays as it is with exec. */
OSMEM_FN unsigned int osmem_sys_process(void);
/* Numbers that nobody guesses, others with each call, also after a fork. */
OSMEM_FN void osmem_sys_seed(uint64_t seed[2]);

/* The environment variable, NULL when unset, too early, or setuid. */
OSMEM_FN const char *osmem_sys_getenv(const char *name);

/* write(2) of all of it. */
OSMEM_FN int osmem_sys_write(int fd, const char *buf, size_t size);

/*
 * Keeps standard error for reports at exit: many programs close it in an exit
 * handler of theirs. The descriptor that was kept, or 2.
 */
OSMEM_FN void osmem_sys_keep_stderr(void);
OSMEM_FN int osmem_sys_kept_stderr(void);

/* Sleeps while *word is value; wakes one sleeper. Spurious returns happen. */
OSMEM_FN void osmem_sys_wait(const uint32_t *word, uint32_t value);
OSMEM_FN void osmem_sys_wake(const uint32_t *word);

/* Whether the process has a second thread now: asks the kernel. */
OSMEM_FN bool osmem_sys_has_company(void);

/* What the calling thread is called in lists of threads; 15 bytes. */
OSMEM_FN void osmem_sys_name_thread(const char *name);

/* Sleeps, or less; below a second. */
OSMEM_FN void osmem_sys_nap(unsigned int milliseconds);

/*
 * Around a fork, the lock of stdio's list of files, where malloc is ours: who
 * has it may wait for a file, and who has the file for malloc.
 */
OSMEM_FN void osmem_sys_lock_files(void);
OSMEM_FN void osmem_sys_unlock_files(bool child);

/* abort(3), with no lock of the library held by the caller. */
OSMEM_FN _Noreturn void osmem_sys_abort(void);

/* _exit(2): no handler of the program runs, so locks may be held. */
OSMEM_FN _Noreturn void osmem_sys_exit(int status);

#endif
