/* SPDX-License-Identifier: MIT */
/*
 * forks.c - children of a program whose threads allocate all the time.
 *
 * Built twice (front.h). Each child looks at what the parent made, small,
 * medium and large, frees and resizes it, allocates, and now and then looks at
 * the heap, starts a thread, or forks again. Between them are vfork, clone
 * with CLONE_VM and CLONE_VFORK, posix_spawn and system. A child that is not
 * done in time counts as hung.
 *
 * Where malloc is under test, stdio allocates under its own locks meanwhile:
 * two threads read long lines, one flushes all files. Not with musl, whose
 * lock of the list of files nobody can take before our own.
 *
 *	forks [-n FORKS] [-t THREADS] [-s SECONDS_OF_A_CHILD]
 */
#define _GNU_SOURCE
#include "front.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { BLOCKS = 240, SHARED = 300 };

static unsigned child_seconds = 30;

#define MUST(x) ((x) ? (void)0 : must_failed(#x, __LINE__))

static void must_failed(const char *what, int line)
{
	dprintf(2, "forks.c:%d: %s (errno %d)\n", line, what, errno);
	_exit(70);
}

/* --- blocks --- */

/* The size stands at the start; the rest is a pattern. */
static _Atomic(unsigned char *) shared[SHARED];
static unsigned char *blocks[BLOCKS];
static atomic_bool stop;

static unsigned next_random(unsigned *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static size_t random_size(unsigned *state)
{
	static const size_t limits[] = {40, 40, 200, 1000, 8000, 60000};
	unsigned r = next_random(state);
	size_t limit = limits[r % 6];

	if (next_random(state) % 150 == 0)
		limit = 600000;
	return sizeof(size_t) + next_random(state) % limit;
}

static void fill(unsigned char *p, size_t size)
{
	memset(p, (unsigned char)(size * 13), size);
	memcpy(p, &size, sizeof(size));
}

static size_t look(const unsigned char *p)
{
	size_t size;
	size_t i;

	memcpy(&size, p, sizeof(size));
	for (i = sizeof(size); i < size; i += i < 100 ? 1 : 61)
		MUST(p[i] == (unsigned char)(size * 13));
	return size;
}

static unsigned char *make(unsigned *state)
{
	size_t size = random_size(state);
	unsigned char *p;

	if (next_random(state) % 4 == 0)
		p = front_calloc(1, size);
	else
		p = front_malloc(size);
	MUST(p != NULL);
	fill(p, size);
	return p;
}

static void drop(unsigned char *p)
{
	if (p != NULL) {
		look(p);
		front_free(p);
	}
}

static unsigned char *resize(unsigned *state, unsigned char *p)
{
	size_t size = random_size(state);

	look(p);
	p = front_realloc(p, size);
	MUST(p != NULL);
	fill(p, size);
	return p;
}

static void exchange(unsigned *state)
{
	unsigned char *p = make(state);

	if (next_random(state) % 4 == 0)
		p = resize(state, p);
	drop(atomic_exchange(&shared[next_random(state) % SHARED], p));
}

static void *work(void *arg)
{
	unsigned state = (unsigned)(uintptr_t)arg;

	/* The children want the processor, too. */
	while (!stop) {
		exchange(&state);
		if (next_random(&state) % 64 == 0)
			usleep(300);
	}
	return NULL;
}

/* --- stdio --- */

#if defined(FRONT_MALLOC) && defined(__GLIBC__)
enum { STDIO = 3 };
#else
enum { STDIO = 0 };
#endif

static void *read_lines(void *unused)
{
	FILE *f = tmpfile();
	char *line = NULL;
	size_t size = 0;
	int i;

	MUST(f != NULL);
	for (i = 0; i < 50000; i++)
		MUST(putc('x', f) == 'x');
	while (!stop) {
		rewind(f);
		MUST(getline(&line, &size, f) == 50000);
		free(line);
		line = NULL;
		size = 0;
	}
	(void)unused;
	return NULL;
}

static void *flush_all(void *unused)
{
	while (!stop) {
		MUST(fflush(NULL) == 0);
		usleep(10);
	}
	(void)unused;
	return NULL;
}

/* --- children --- */

static void *work_in_child(void *arg)
{
	unsigned state = (unsigned)(uintptr_t)arg;
	int i;

	for (i = 0; i < 100; i++)
		exchange(&state);
	return NULL;
}

static void await(pid_t child)
{
	int status = 0;
	pid_t ended;

	MUST(child > 0);
	do
		ended = waitpid(child, &status, 0);
	while (ended < 0 && errno == EINTR);
	MUST(ended == child);
	if (status != 0)
		dprintf(2, "forks.c: a child ends with status %#x\n", status);
	MUST(status == 0);
}

/* Half of the parent's blocks are freed or resized, some of each kind. */
static void use_blocks(unsigned *state)
{
	int i;

	for (i = 0; i < BLOCKS; i++)
		switch (next_random(state) % 4) {
		case 0:
			drop(blocks[i]);
			blocks[i] = make(state);
			break;
		case 1:
			blocks[i] = resize(state, blocks[i]);
			break;
		default:
			look(blocks[i]);
		}
	for (i = 0; i < 100; i++)
		exchange(state);
}

static void child(unsigned seed)
{
	unsigned state = seed;
	pthread_t thread;
	int generation;
	pid_t pid = 0;

	for (generation = 0; pid == 0; generation++) {
		alarm(child_seconds);
		use_blocks(&state);
		pid = seed % 8 == 2 && generation < 4 ? fork() : getpid();
	}
	if (pid != getpid()) {
		await(pid);
		use_blocks(&state);
	}
	if (seed % 4 == 0)
		MUST(front_check() == 0);
	if (FRONT_THREADS && seed % 8 == 1) {
		MUST(pthread_create(&thread, NULL, work_in_child,
				    (void *)(uintptr_t)seed) == 0);
		MUST(pthread_join(thread, NULL) == 0);
	}
	if (seed % 16 == 3)
		front_trim();
	_exit(0);
}

/* --- other ways to a child --- */

static char *const truth[] = {(char *)"true", NULL};

static void by_vfork(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execvp(truth[0], truth);
		_exit(71);
	}
	await(pid);
}

static void by_spawn(void)
{
	pid_t pid;

	MUST(posix_spawnp(&pid, truth[0], NULL, NULL, truth, environ) == 0);
	await(pid);
}

#ifdef CLONE_VM
/* In the parent's memory, which waits: it allocates as the parent would. */
static int clone_child(void *arg)
{
	unsigned state = (unsigned)(uintptr_t)arg;
	int i;

	for (i = 0; i < 20; i++)
		exchange(&state);
	execvp(truth[0], truth);
	return 71;
}

static void by_clone(unsigned seed)
{
	static _Alignas(64) char stack[256 * 1024];

	await(clone(clone_child, stack + sizeof(stack),
		    CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)(uintptr_t)seed));
}
#endif

static void other(unsigned seed)
{
	switch (seed / 10 % 4) {
	case 0:
		by_vfork();
		break;
	case 1:
		by_spawn();
		break;
	case 2:
		MUST(system("true") == 0);
		break;
	default:
#ifdef CLONE_VM
		by_clone(seed);
#endif
		break;
	}
}

static void start(pthread_t *thread, int i)
{
	static void *(*const first[])(void *) = {read_lines, read_lines,
						 flush_all};
	void *(*run)(void *) = i < STDIO ? first[i] : work;

	MUST(pthread_create(thread, NULL, run, (void *)(uintptr_t)(i + 1)) ==
	     0);
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	unsigned state = 1;
	unsigned forks = 100;
	int count = 8;
	int option;
	int i;
	unsigned n;

	while ((option = getopt(argc, argv, "n:s:t:")) != -1)
		switch (option) {
		case 'n':
			forks = (unsigned)atoi(optarg);
			break;
		case 's':
			child_seconds = (unsigned)atoi(optarg);
			break;
		case 't':
			count = atoi(optarg);
			break;
		default:
			return 2;
		}
	front_open();
	if (!FRONT_THREADS)
		count = 0;
	for (i = 0; i < BLOCKS; i++)
		blocks[i] = make(&state);
	for (i = 0; i < count; i++)
		start(&threads[i], i);
	for (n = 0; n < forks; n++) {
		pid_t pid;

		alarm(4 * child_seconds);
		pid = fork();
		if (pid == 0)
			child(n);
		await(pid);
		for (i = 0; i < 10; i++) {
			unsigned char **b =
				&blocks[next_random(&state) % BLOCKS];

			drop(*b);
			*b = make(&state);
		}
		if (n % 10 == 9)
			other(n);
	}
	stop = true;
	for (i = 0; i < count; i++)
		MUST(pthread_join(threads[i], NULL) == 0);
	for (i = 0; i < BLOCKS; i++)
		drop(blocks[i]);
	for (i = 0; i < SHARED; i++)
		drop(atomic_exchange(&shared[i], NULL));
	MUST(front_check() == 0);
	printf("%u forks, %d threads\n", forks, count);
	return 0;
}
