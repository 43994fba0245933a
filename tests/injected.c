/* SPDX-License-Identifier: MIT */
/*
 * injected.c - system calls that fail under a program with threads.
 *
 * Built twice (front.h). The functions of libc that make the calls are this
 * program's own, so whatever allocator is loaded gets their errors: the Nth
 * call fails, or each Nth, or all from the Nth on, of one kind or of all.
 * Meanwhile threads allocate, resize and free, each its own and each other's.
 * A request may fail, with ENOMEM; a block must stay what it is. When the
 * calls work again everything must: nothing may be lost.
 *
 * With -x nothing is refused but by a limit that the caller has set: each
 * thread takes until there is no more, gives half of it back, and goes on.
 * With -m it is the number of mappings that is used up first.
 *
 *	injected [-mvx] [-t THREADS] [-o OPERATIONS] [-n LARGEST_NTH]
 */
#define _GNU_SOURCE
#include "front.h"
#include "refuse.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const kinds[] = {"mmap", "munmap", "mprotect", "madvise",
				    "sbrk", "futex",  "getrandom"};

static const char *const whens[] = {"the", "every", "from the"};

#define MUST(x) ((x) ? (void)0 : must_failed(#x, __LINE__))

static void must_failed(const char *what, int line)
{
	char text[300];
	int size =
		snprintf(text, sizeof(text), "injected.c:%d: %s (errno %d)\n",
			 line, what, errno);

	if (write(2, text, (size_t)size) < 0)
		_exit(71);
	_exit(70);
}

/* --- the program --- */

enum { SLOTS = 40, SHARED = 100, BEFORE = 4242 };

struct slot {
	unsigned char *p;
	size_t size;
};

struct worker {
	pthread_t thread;
	uint64_t seed;
	size_t operations;
	size_t failures;
	bool may_fail;
	struct slot slots[SLOTS];
};

/* The size stands at the start of a shared block. */
static _Atomic(unsigned char *) shared[SHARED];

static size_t draw(struct worker *w, size_t limit)
{
	w->seed = w->seed * UINT64_C(6364136223846793005) + 1;
	return (size_t)((w->seed >> 33) % limit);
}

static size_t draw_size(struct worker *w)
{
	static const size_t limits[] = {40,   100,   100,   600,
					4000, 20000, 70000, 200000};
	size_t limit = limits[draw(w, 8)];

	if (draw(w, 200) == 0)
		limit = 40000000;
	return sizeof(size_t) + draw(w, limit);
}

static unsigned char mark_of(size_t size, size_t i)
{
	return (unsigned char)(size * 7 + i);
}

/* The size, and a byte in each so many. */
static void fill(unsigned char *p, size_t size)
{
	size_t i;

	memcpy(p, &size, sizeof(size));
	for (i = sizeof(size); i < size; i += i < 512 ? 1 : 509)
		p[i] = mark_of(size, i);
	if (size > sizeof(size))
		p[size - 1] = mark_of(size, size - 1);
}

static bool holds(const unsigned char *p, size_t size, size_t first)
{
	size_t i;

	if (memcmp(p, &size, sizeof(size)) != 0)
		return false;
	for (i = sizeof(size); i < first; i += i < 512 ? 1 : 509)
		if (p[i] != mark_of(size, i))
			return false;
	return first < size || size == sizeof(size) ||
	       p[size - 1] == mark_of(size, size - 1);
}

static void failed(struct worker *w)
{
	int error = errno;

	MUST(w->may_fail);
	MUST(error == ENOMEM);
	w->failures++;
}

static void release(unsigned char *p, size_t size)
{
	MUST(holds(p, size, size));
	errno = BEFORE;
	front_free(p);
	MUST(errno == BEFORE);
}

static unsigned char *make(struct worker *w, size_t *size)
{
	size_t how = draw(w, 8);
	size_t alignment = (size_t)16 << draw(w, 10);
	unsigned char *p;
	size_t i;

	*size = draw_size(w);
	errno = BEFORE;
	if (how == 0)
		p = front_calloc(1, *size);
	else if (how == 1)
		p = front_aligned_alloc(alignment, *size);
	else
		p = front_malloc(*size);
	if (p == NULL) {
		failed(w);
		return NULL;
	}
	for (i = 0; how == 0 && i < *size; i++)
		MUST(p[i] == 0);
	MUST(how != 1 || (uintptr_t)p % alignment == 0);
	fill(p, *size);
	return p;
}

static void resize(struct worker *w, struct slot *s)
{
	size_t size = draw_size(w);
	unsigned char *p;

	MUST(holds(s->p, s->size, s->size));
	errno = BEFORE;
	p = front_realloc(s->p, size);
	if (p == NULL) {
		failed(w);
		MUST(holds(s->p, s->size, s->size));
		return;
	}
	MUST(holds(p, s->size, size < s->size ? size : s->size));
	s->p = p;
	s->size = size;
	fill(p, size);
}

static void exchange(struct worker *w)
{
	size_t size;
	unsigned char *p = make(w, &size);

	p = atomic_exchange(&shared[draw(w, SHARED)], p);
	if (p == NULL)
		return;
	memcpy(&size, p, sizeof(size));
	release(p, size);
}

static void step(struct worker *w)
{
	struct slot *s = &w->slots[draw(w, SLOTS)];
	size_t what = draw(w, 10);

	if (what == 0)
		exchange(w);
	else if (s->p == NULL)
		s->p = make(w, &s->size);
	else if (what < 4)
		resize(w, s);
	else {
		release(s->p, s->size);
		s->p = NULL;
	}
	if (draw(w, 1000) == 0)
		front_trim();
}

static atomic_bool go;

static void *work(void *arg)
{
	struct worker *w = arg;
	size_t i;

	while (!go)
		sched_yield();
	for (i = 0; i < w->operations; i++)
		step(w);
	return NULL;
}

static void *empty(void *arg)
{
	struct worker *w = arg;
	size_t i;

	for (i = 0; i < SLOTS; i++) {
		if (w->slots[i].p != NULL)
			release(w->slots[i].p, w->slots[i].size);
		w->slots[i].p = NULL;
	}
	return NULL;
}

/* A set without calls. */
#define CROWD (1u << REFUSE_KINDS)

static int threads = 1;
static size_t operations = 1500;
static struct worker workers[64];

/* Neighbours of different protection stay apart. */
static void use_up_mappings(void)
{
	long page = sysconf(_SC_PAGESIZE);
	char *p = (char *)refuse_call(
		REFUSE_SYS_MAP, 0, 200000 * page, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	long i;

	MUST((void *)p != MAP_FAILED);
	for (i = 1; i < 200000; i += 2)
		if (refuse_call(SYS_mprotect, (long)(p + i * page), page,
				PROT_READ, 0, 0, 0) != 0)
			return;
	MUST(!"a limit on mappings");
}

/*
 * One worker is the process's first thread, with nobody beside it. The calls
 * of a set begin to fail when all are there: making a thread takes memory.
 */
static void run(void *(*fn)(void *), unsigned set, size_t ops)
{
	int i;

	go = threads == 1;
	if (go && set == CROWD)
		use_up_mappings();
	refuse_plan.calls = 0;
	refuse_plan.set = go ? set : 0;
	for (i = 0; i < threads; i++) {
		workers[i].may_fail = set != 0;
		workers[i].operations = ops;
		if (threads == 1)
			fn(&workers[i]);
		else
			MUST(pthread_create(&workers[i].thread, NULL, fn,
					    &workers[i]) == 0);
	}
	refuse_plan.set = set;
	if (!go && set == CROWD)
		use_up_mappings();
	go = true;
	for (i = 0; threads > 1 && i < threads; i++)
		MUST(pthread_join(workers[i].thread, NULL) == 0);
}

/* From /proc/self/statm: resident bytes, and writable address space. */
static void measure(size_t *space, size_t *resident)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long a = 0;
	unsigned long b = 0;

	MUST(f != NULL && fscanf(f, "%*u %lu %*u %*u %*u %lu", &b, &a) == 2);
	fclose(f);
	*space = a * (size_t)sysconf(_SC_PAGESIZE);
	*resident = b * (size_t)sysconf(_SC_PAGESIZE);
}

static void empty_all(void)
{
	size_t size;
	size_t i;

	run(empty, 0, 0);
	for (i = 0; i < SHARED; i++) {
		unsigned char *p = atomic_exchange(&shared[i], NULL);

		if (p == NULL)
			continue;
		memcpy(&size, p, sizeof(size));
		release(p, size);
	}
	MUST(front_check() == 0);
}

static bool verbose;

/*
 * What a round of faults leaves behind must not grow with the next rounds, but
 * for address space that is kept for reuse, without memory.
 */
static void rounds(unsigned set)
{
	enum { ROUNDS = 3, MIB = 1 << 20 };
	size_t space[ROUNDS];
	size_t resident[ROUNDS];
	size_t failures = 0;
	int i;

	for (i = 0; i < threads; i++)
		workers[i].seed =
			refuse_plan.nth * 1000 + set * 100 + (unsigned)i;
	for (i = 0; i < ROUNDS; i++) {
		run(work, set, operations);
		MUST(front_check() == 0);
		run(work, 0, operations / 2);
		empty_all();
		front_trim();
		measure(&space[i], &resident[i]);
	}
	for (i = 0; i < threads; i++)
		failures += workers[i].failures;
	if (verbose)
		printf("  %u refused, %zu requests failed, %zu to %zu KiB, "
		       "resident %zu to %zu\n",
		       refuse_plan.refused, failures, space[0] >> 10,
		       space[ROUNDS - 1] >> 10, resident[0] >> 10,
		       resident[ROUNDS - 1] >> 10);
	fflush(stdout);
	MUST(space[ROUNDS - 1] <= space[0] + 320u * MIB);
	MUST(resident[ROUNDS - 1] <= resident[0] + 4u * MIB);
	MUST(resident[ROUNDS - 1] <= 24u * MIB);
}

static int try(unsigned set, enum refuse_when when, unsigned nth)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(180);
		refuse_plan.nth = nth;
		refuse_plan.when = when;
		refuse_plan.error = set == 1u << REFUSE_ADVISE ? EINVAL
				    : set == 1u << REFUSE_FUTEX ||
						    set == 1u << REFUSE_RANDOM
					    ? ENOSYS
					    : ENOMEM;
		rounds(set);
		_exit(0);
	}
	MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

static int try_all(unsigned set, const char *name, unsigned last)
{
	int bad = 0;
	unsigned when;
	unsigned nth;
	int status;

	for (when = 0; when < REFUSE_WHENS; when++)
		for (nth = 1; nth <= last; nth += 1 + nth / 3) {
			if (verbose)
				printf("%s, %s %u:\n", name, whens[when], nth);
			status = try(set, when, nth);
			if (status == 0)
				continue;
			printf("%s, %s %u: status %#x\n", name, whens[when],
			       nth, status);
			bad++;
		}
	return bad;
}

/* --- without faults: scarcity --- */

enum { HELD = 20000, EXHAUSTS = 4 };

static void *exhaust(void *arg)
{
	struct worker *w = arg;
	struct slot *held = (void *)refuse_call(
		REFUSE_SYS_MAP, 0, HELD * sizeof(*held), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t n = 0;
	size_t i;
	int round;

	if ((void *)held == MAP_FAILED) {
		w->failures++; /* of a request that is not ours */
		return NULL;
	}
	for (round = 0; round < EXHAUSTS; round++) {
		while (n < HELD && (held[n].p = make(w, &held[n].size)) != NULL)
			n++;
		for (i = 0; i < n / 2; i++) {
			release(held[i].p, held[i].size);
			held[i] = held[--n];
		}
	}
	while (n-- > 0)
		release(held[n].p, held[n].size);
	refuse_call(SYS_munmap, (long)held, HELD * sizeof(*held), 0, 0, 0, 0);
	return NULL;
}

/* As many threads as the limit lets there be. */
static int scarce(void)
{
	size_t failures = 0;
	int made = 0;
	int i;

	for (i = 0; i < threads; i++) {
		workers[i].seed = (unsigned)i;
		workers[i].may_fail = true;
	}
	while (made < threads - 1 &&
	       pthread_create(&workers[made].thread, NULL, exhaust,
			      &workers[made]) == 0)
		made++;
	exhaust(&workers[made]);
	for (i = 0; i < made; i++)
		MUST(pthread_join(workers[i].thread, NULL) == 0);
	for (i = 0; i <= made; i++)
		failures += workers[i].failures;
	MUST(front_check() == 0);
	printf("%d threads more, %zu requests failed\n", made, failures);
	return failures == 0;
}

/* Nothing can be mapped, and nothing unmapped that has neighbours. */
static int crowded(void)
{
	int i;

	for (i = 0; i < threads; i++)
		workers[i].seed = (unsigned)i;
	run(work, 0, operations);
	run(work, CROWD, operations);
	MUST(front_check() == 0);
	return 0;
}

int main(int argc, char **argv)
{
	int (*other)(void) = NULL;
	unsigned last = 40;
	int bad = 0;
	int option;
	unsigned kind;

	while ((option = getopt(argc, argv, "mt:o:n:vx")) != -1)
		switch (option) {
		case 'm':
			other = crowded;
			break;
		case 'x':
			other = scarce;
			break;
		case 't':
			threads = atoi(optarg);
			break;
		case 'o':
			operations = (size_t)atol(optarg);
			break;
		case 'n':
			last = (unsigned)atoi(optarg);
			break;
		case 'v':
			verbose = true;
			break;
		default:
			return 2;
		}
	front_open();
	if (other != NULL)
		return other();
	for (kind = 0; kind < REFUSE_KINDS; kind++)
		bad += try_all(1u << kind, kinds[kind], last);
	bad += try_all((1u << REFUSE_KINDS) - 1, "all", last);
	printf("%d threads: %d bad\n", threads, bad);
	return bad != 0;
}
