/* SPDX-License-Identifier: MIT */
/*
 * watch.c - requests to memcheck, and shadow memory of AddressSanitizer.
 *
 * Holds no state but whether there is anybody. Must never touch a payload but
 * the note at the end of the gap.
 */
#include "watch.h"

#include <string.h>

#ifdef HAVE_VALGRIND_MEMCHECK_H
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_NOACCESS(p, size) 0
#define VALGRIND_MAKE_MEM_UNDEFINED(p, size) 0
#define VALGRIND_MAKE_MEM_DEFINED(p, size) 0
#define VALGRIND_MALLOCLIKE_BLOCK(p, size, gap, zero) ((void)0)
#define VALGRIND_FREELIKE_BLOCK(p, gap) ((void)0)
#endif

OSMEM_VAR_DEFINED bool osmem_watch_on;

/* Of its runtime library, in programs that are built with it. */
extern void __asan_poison_memory_region(const volatile void *p, size_t size)
	__attribute__((weak));
extern void __asan_unpoison_memory_region(const volatile void *p, size_t size)
	__attribute__((weak));

static bool watch_has_asan(void)
{
	return __asan_poison_memory_region != NULL &&
	       __asan_unpoison_memory_region != NULL;
}

static void watch_open(const void *p, size_t size)
{
	if (watch_has_asan())
		__asan_unpoison_memory_region(p, size);
}

static void watch_close(const void *p, size_t size)
{
	if (watch_has_asan())
		__asan_poison_memory_region(p, size);
}

bool osmem_watch_exists(void)
{
	bool probe = false;

	(void)probe; /* unused on processors that valgrind does not know */
	/* The other tools of valgrind do not know the request. */
	return watch_has_asan() ||
	       VALGRIND_MAKE_MEM_DEFINED(&probe, sizeof(probe)) != 0;
}

static char *watch_note(void *p, size_t room)
{
	return (char *)p + room - sizeof(size_t);
}

void osmem_watch_alloc(void *p, size_t room, size_t size, bool zero)
{
	osmem_watch_take(p, room);
	memcpy(watch_note(p, room), &size, sizeof(size));
	(void)zero;
	(void)VALGRIND_MAKE_MEM_NOACCESS(p, room);
	VALGRIND_MALLOCLIKE_BLOCK(p, size, 0, zero);
	watch_close((char *)p + size, room - size);
}

size_t osmem_watch_size(void *p, size_t room)
{
	char *note = watch_note(p, room);
	size_t size;

	watch_open(note, sizeof(size));
	(void)VALGRIND_MAKE_MEM_DEFINED(note, sizeof(size));
	memcpy(&size, note, sizeof(size));
	(void)VALGRIND_MAKE_MEM_NOACCESS(note, sizeof(size));
	watch_close(note, sizeof(size));
	return size;
}

void osmem_watch_free(void *p, size_t room, bool unmap)
{
	VALGRIND_FREELIKE_BLOCK(p, 0);
	if (unmap)
		watch_open(p, room);
	else
		watch_close(p, room);
}

void osmem_watch_cut(void *p, size_t room)
{
	size_t size = room > OSMEM_WATCH_GAP ? room - OSMEM_WATCH_GAP : 0;

	watch_open(p, room);
	(void)VALGRIND_MAKE_MEM_DEFINED(watch_note(p, room), sizeof(size));
	memcpy(watch_note(p, room), &size, sizeof(size));
	(void)VALGRIND_MAKE_MEM_NOACCESS((char *)p + size, room - size);
	watch_close((char *)p + size, room - size);
}

/* Somebody else may get it, who knows nothing of us. */
void osmem_watch_lose(void *p, size_t size)
{
	watch_open(p, size);
}

void osmem_watch_take(void *p, size_t size)
{
	watch_open(p, size);
	(void)VALGRIND_MAKE_MEM_UNDEFINED(p, size);
}
