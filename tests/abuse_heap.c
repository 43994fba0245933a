/* SPDX-License-Identifier: MIT */
/*
 * abuse_heap.c - blocks that are known: each holds a pattern of its own, none
 * may overlap another.
 */
#include <config.h>

#include "abuse.h"

#include "front.h"
#include "must.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum {
	KNOWN_MOST = 4096,
	/* Of a large block only so much at both ends is written. */
	KNOWN_EDGE = 8192
};

static struct known {
	char *p;
	size_t size;
	unsigned char byte;
	bool distrusted;
} known[KNOWN_MOST];

static size_t known_count;
static unsigned char known_next;

void *(*volatile abuse_malloc)(size_t size) = front_malloc;
void *(*volatile abuse_realloc)(void *p, size_t size) = front_realloc;
void (*volatile abuse_free)(void *p) = front_free;
void *(*volatile abuse_aligned)(size_t alignment,
				size_t size) = front_aligned_alloc;
size_t (*volatile abuse_usable)(void *p) = front_usable_size;

#ifdef FRONT_MALLOC

/* By name: libc has none, and the linker would make that a NULL for good. */
static void *find(const char *name)
{
	void *fn = dlsym(RTLD_DEFAULT, name);

	if (fn == NULL)
		_exit(ABUSE_VOID);
	return fn;
}

void abuse_free_sized(void *p, size_t size)
{
	void (*fn)(void *, size_t);

	*(void **)&fn = find("free_sized");
	fn(p, size);
}

void abuse_free_aligned_sized(void *p, size_t alignment, size_t size)
{
	void (*fn)(void *, size_t, size_t);

	*(void **)&fn = find("free_aligned_sized");
	fn(p, alignment, size);
}

#else

void abuse_free_sized(void *p, size_t size)
{
	os_free_sized(p, size);
}

void abuse_free_aligned_sized(void *p, size_t alignment, size_t size)
{
	os_free_aligned_sized(p, alignment, size);
}

#endif

void abuse_trim(void)
{
	front_trim();
}

static void missed(const char *what, const void *p)
{
	dprintf(STDERR_FILENO, "%s: %p\n", what, p);
	_exit(ABUSE_MISSED);
}

static size_t edge(size_t size)
{
	return size < 2 * KNOWN_EDGE ? size : KNOWN_EDGE;
}

static void pattern_write(struct known *k)
{
	size_t n = edge(k->size);

	memset(k->p, k->byte, n);
	memset(k->p + k->size - n, k->byte, n);
}

static bool pattern_holds_in(const char *p, size_t n, unsigned char byte)
{
	return n == 0 || ((unsigned char)p[0] == byte &&
			  memcmp(p, p + 1, n - 1) == 0);
}

static void pattern_verify(struct known *k)
{
	size_t n = edge(k->size);

	if (k->distrusted)
		return;
	if (!pattern_holds_in(k->p, n, k->byte) ||
	    !pattern_holds_in(k->p + k->size - n, n, k->byte))
		missed("somebody else's memory was written", k->p);
}

static void learn(char *p, size_t size)
{
	size_t i;

	for (i = 0; i < known_count; i++)
		if (p < known[i].p + known[i].size && known[i].p < p + size)
			missed("overlaps what is not free", p);
	MUST(known_count < KNOWN_MOST);
	known[known_count] = (struct known){
		.p = p, .size = size, .byte = ++known_next | 1};
	pattern_write(&known[known_count++]);
}

void abuse_guard(char *p, size_t size)
{
	learn(p, size);
}

char *abuse_get(size_t size)
{
	char *p = abuse_malloc(size);

	MUST(p != NULL);
	learn(p, size);
	return p;
}

char *abuse_get_kind(const struct abuse_kind *kind)
{
	char *p;

	if (kind->alignment == 0)
		return abuse_get(kind->size);
	p = abuse_aligned(kind->alignment, kind->size);
	MUST(p != NULL && (uintptr_t)p % kind->alignment == 0);
	learn(p, kind->size);
	return p;
}

static struct known *known_find(const char *p)
{
	size_t i = 0;

	while (i < known_count && known[i].p != p)
		i++;
	MUST(i < known_count);
	return &known[i];
}

void abuse_forget(const char *p)
{
	struct known *k = known_find(p);

	*k = known[--known_count];
}

void abuse_distrust(char *p)
{
	known_find(p)->distrusted = true;
}

void abuse_put(char *p)
{
	pattern_verify(known_find(p));
	abuse_forget(p);
	abuse_free(p);
}

void abuse_verify(void)
{
	size_t i;

	for (i = 0; i < known_count; i++)
		pattern_verify(&known[i]);
}

char **abuse_fill(const struct abuse_kind *kind, unsigned blocks)
{
	static char *p[256];
	unsigned i;

	MUST(blocks < 256);
	for (i = 0; i < blocks; i++)
		p[i] = abuse_get_kind(kind);
	p[blocks] = NULL;
	return p;
}

/* So many that what waits in any list has to come out of it. */
static unsigned how_many(size_t size)
{
	if (size <= 4096)
		return 1200;
	return size <= 65536 ? 160 : 24;
}

void abuse_go_on(const struct abuse_kind *kind)
{
	static const size_t others[] = {8, 24, 100, 1000, 5000, 70000, 300000};
	static char *p[2048];
	unsigned n = how_many(kind->size);
	unsigned i;
	int round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < n; i++)
			p[i] = abuse_get_kind(kind);
		for (i = 0; i < 3 * ABUSE_COUNT(others); i++)
			p[n + i] = abuse_get(others[i % ABUSE_COUNT(others)]);
		for (i = 0; i < n + 3 * ABUSE_COUNT(others); i++)
			abuse_put(p[i]);
		abuse_verify();
	}
	abuse_trim();
	abuse_put(abuse_get_kind(kind));
	abuse_verify();
}

void abuse_in_thread(void *(*fn)(void *arg), void *arg)
{
	pthread_t thread;

	if (!FRONT_THREADS)
		_exit(ABUSE_VOID);
	MUST(pthread_create(&thread, NULL, fn, arg) == 0);
	pthread_join(thread, NULL);
}

static void at_fault(int signal)
{
	(void)signal;
	_exit(ABUSE_FAULTED);
}

void abuse_write(void *to, const void *from, size_t size)
{
	void *volatile dest = to;

	signal(SIGSEGV, at_fault);
	memmove(dest, from, size);
	signal(SIGSEGV, SIG_DFL);
}

void abuse_set(void *to, int byte, size_t size)
{
	void *volatile dest = to;

	signal(SIGSEGV, at_fault);
	memset(dest, byte, size);
	signal(SIGSEGV, SIG_DFL);
}

void abuse_warm(const struct abuse_kind *kind)
{
	static char *p[4];
	int i;

	for (i = 0; i < 600; i++) {
		if (p[i % 4] != NULL)
			abuse_free(p[i % 4]);
		p[i % 4] = kind->alignment == 0
				   ? abuse_malloc(kind->size)
				   : abuse_aligned(kind->alignment, kind->size);
		MUST(p[i % 4] != NULL);
	}
	for (i = 0; i < 4; i++)
		abuse_free(p[i]);
}
