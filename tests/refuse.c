/* SPDX-License-Identifier: MIT */
/*
 * refuse.c - libc's own names, so that a library's calls come here first.
 *
 * Nothing here allocates or takes a lock.
 */
#define _GNU_SOURCE
#include "refuse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

struct refuse_plan refuse_plan;

static bool refuse(enum refuse_kind kind)
{
	unsigned call;

	if ((refuse_plan.set & 1u << kind) == 0)
		return false;
	call = atomic_fetch_add(&refuse_plan.calls, 1) + 1;
	if (refuse_plan.when == ONCE    ? call != refuse_plan.nth
	    : refuse_plan.when == EVERY ? call % refuse_plan.nth != 0
					: call < refuse_plan.nth)
		return false;
	atomic_fetch_add(&refuse_plan.refused, 1);
	errno = refuse_plan.error;
	return true;
}

long refuse_call(long n, long a, long b, long c, long d, long e, long f)
{
	long result;
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			   "r"(r9)
			 : "rcx", "r11", "memory");
	if (result < 0 && result > -4096) {
		errno = (int)-result;
		return -1;
	}
#else
	result = syscall(n, a, b, c, d, e, f);
#endif
	return result;
}

void *mmap(void *start, size_t size, int prot, int flags, int fd, off_t at)
{
	if (refuse(REFUSE_MAP))
		return MAP_FAILED;
	return (void *)refuse_call(REFUSE_SYS_MAP, (long)start, (long)size,
				   prot, flags, fd,
				   (long)(at >> REFUSE_MAP_SHIFT));
}

int munmap(void *start, size_t size)
{
	if (refuse(REFUSE_UNMAP))
		return -1;
	return (int)refuse_call(SYS_munmap, (long)start, (long)size, 0, 0, 0,
				0);
}

int mprotect(void *start, size_t size, int prot)
{
	if (refuse(REFUSE_PROTECT))
		return -1;
	return (int)refuse_call(SYS_mprotect, (long)start, (long)size, prot, 0,
				0, 0);
}

int madvise(void *start, size_t size, int advice)
{
	if (refuse(REFUSE_ADVISE))
		return -1;
	return (int)refuse_call(SYS_madvise, (long)start, (long)size, advice, 0,
				0, 0);
}

ssize_t getrandom(void *buffer, size_t size, unsigned flags)
{
	if (refuse(REFUSE_RANDOM))
		return -1;
	return refuse_call(SYS_getrandom, (long)buffer, (long)size, flags, 0, 0,
			   0);
}

#ifdef __GLIBC__
extern void *__sbrk(intptr_t more);

void *sbrk(intptr_t more)
{
	if (more != 0 && refuse(REFUSE_BREAK))
		return (void *)-1;
	return __sbrk(more);
}
#endif

#ifdef __x86_64__
long syscall(long n, ...)
{
	long a[6];
	va_list list;
	int i;

	va_start(list, n);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if ((n == SYS_futex && refuse(REFUSE_FUTEX)) ||
	    (n == SYS_getrandom && refuse(REFUSE_RANDOM)))
		return -1;
	return refuse_call(n, a[0], a[1], a[2], a[3], a[4], a[5]);
}
#endif
