/* SPDX-License-Identifier: MIT */
/*
 * trap.h - a handler after each instruction, by the processor's trap flag.
 *
 * The handler itself is not traced: the kernel clears the flag for it.
 */
#ifndef TRAP_H
#define TRAP_H

#if defined(__x86_64__) && defined(__linux__)
#define TRAP_EXISTS 1

#include "must.h"

#include <osmem.h>
#include <signal.h>
#include <stddef.h>

enum { TRAP_FLAG = 0x100 };

typedef void trap_handler(int signal, siginfo_t *info, void *context);

static inline void trap_on(trap_handler *handler)
{
	struct sigaction action = {.sa_sigaction = handler,
				   .sa_flags = SA_SIGINFO};

	MUST(sigaction(SIGTRAP, &action, NULL) == 0);
	__asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::
				 : "memory", "cc");
}

static inline void trap_off(void)
{
	__asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::
				 : "memory", "cc");
}

static inline void trap_all(trap_handler *handler, void (*operation)(void))
{
	trap_on(handler);
	operation();
	trap_off();
}

/* What is traced: operations on this block. */
static char *trap_block;

static inline void trap_malloc(void)
{
	trap_block = os_malloc(100);
}

static inline void trap_free(void)
{
	os_free(trap_block);
	trap_block = NULL;
}

static inline void trap_realloc(void)
{
	trap_block = os_realloc(trap_block, 3000);
}

#endif

#endif
