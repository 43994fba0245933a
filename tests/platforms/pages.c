/* SPDX-License-Identifier: MIT */
/*
 * pages.c - a library to preload, with which pages are PAGE bytes large, which
 * is a power of two: libc tells so, mappings begin at multiples of it, and what
 * is asked for a part of a page is refused, as such a kernel does.
 *
 * One page of its own for every mapping is asked for and cut off again.
 */
#define _GNU_SOURCE 1

#include <errno.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

unsigned long __getauxval(unsigned long type);
long __sysconf(int name);

static const uintptr_t page = PAGE;

static uintptr_t pages_up(uintptr_t n)
{
	return (n + page - 1) & ~(page - 1);
}

static int pages_refuse(const void *start)
{
	if (((uintptr_t)start & (page - 1)) == 0)
		return 0;
	errno = EINVAL;
	return -1;
}

unsigned long getauxval(unsigned long type)
{
	return type == AT_PAGESZ ? page : __getauxval(type);
}

long sysconf(int name)
{
	return name == _SC_PAGESIZE ? (long)page : __sysconf(name);
}

int getpagesize(void)
{
	return (int)page;
}

void *mmap(void *start, size_t size, int prot, int flags, int fd, off_t offset)
{
	uintptr_t whole = pages_up(size);
	uintptr_t p, first;

	if (start != NULL || fd != -1 || whole < size)
		return (void *)syscall(SYS_mmap, start, size, prot, flags, fd,
				       offset);
	p = (uintptr_t)syscall(SYS_mmap, NULL, whole + page, prot, flags, -1,
			       0);
	if ((void *)p == MAP_FAILED)
		return MAP_FAILED;
	first = pages_up(p);
	if (first != p)
		syscall(SYS_munmap, p, first - p);
	if (p + page != first)
		syscall(SYS_munmap, first + whole, p + page - first);
	return (void *)first;
}

int munmap(void *start, size_t size)
{
	if (pages_refuse(start) != 0)
		return -1;
	return (int)syscall(SYS_munmap, start, pages_up(size));
}

int mprotect(void *start, size_t size, int prot)
{
	if (pages_refuse(start) != 0)
		return -1;
	return (int)syscall(SYS_mprotect, start, pages_up(size), prot);
}

int madvise(void *start, size_t size, int advice)
{
	if (pages_refuse(start) != 0)
		return -1;
	return (int)syscall(SYS_madvise, start, pages_up(size), advice);
}

/* A page is there when any part of it is. */
int mincore(void *start, size_t size, unsigned char *there)
{
	unsigned char parts[PAGE / 4096];
	char *p = start;
	size_t i;

	if (pages_refuse(start) != 0)
		return -1;
	for (; p < (char *)start + size; p += PAGE, there++) {
		if (syscall(SYS_mincore, p, (size_t)PAGE, parts) != 0)
			return -1;
		*there = 0;
		for (i = 0; i < sizeof(parts); i++)
			*there |= parts[i] & 1;
	}
	return 0;
}
