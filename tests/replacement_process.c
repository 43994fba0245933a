/* SPDX-License-Identifier: MIT */
/*
 * replacement_process.c - malloc in the corners of a process: threads that
 * hand blocks to each other, thread-specific destructors, tiny stacks, fork
 * with threads and handlers, fork in a signal handler, exit handlers, dlopen,
 * and an address space that runs out. How it is run stands in
 * replacement_check.h. A child that hangs is ended, and counts as failed.
 */
#define _GNU_SOURCE
#include "replacement_check.h"

#ifndef STATIC_PROGRAM
#include <dlfcn.h>
#endif
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#ifndef FORKS
#define FORKS 20
#endif
/* What a child has to be done in, also under valgrind on a busy machine. */
#ifndef CHILD_SECONDS
#define CHILD_SECONDS 20
#endif

enum { THREADS = 6, ROUNDS = 20000, SLOTS = 512, SHORT_THREADS = 100 };

struct block {
	size_t size;
	unsigned char payload[];
};

static _Atomic(struct block *) slots[SLOTS];
static atomic_int damaged;
static atomic_bool stop;

static unsigned next_random(unsigned *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* Mostly small, some large enough for a mapping. */
static size_t random_size(unsigned *state)
{
	unsigned r = next_random(state);

	if (r % 256 == 0)
		return r % 300000;
	return r % 16 == 0 ? r % 20000 : r % 400;
}

static unsigned char pattern(const struct block *b)
{
	return (unsigned char)(b->size * 31 + 7);
}

static struct block *new_block(unsigned *state)
{
	size_t size = random_size(state);
	struct block *b;

	if (next_random(state) % 4 == 0)
		b = calloc(1, sizeof(*b) + size);
	else
		b = malloc(sizeof(*b) + size);
	if (b == NULL)
		return NULL;
	b->size = size;
	memset(b->payload, pattern(b), size);
	return b;
}

static void check_and_free(struct block *b)
{
	if (b == NULL)
		return;
	if (!all_bytes(b->payload, pattern(b), b->size))
		atomic_fetch_add(&damaged, 1);
	free(b);
}

/* Puts a block where another thread may find it, and takes what was there. */
static void *exchange_blocks(void *arg)
{
	unsigned state = (unsigned)(uintptr_t)arg * 2654435761u + 1;

	for (int i = 0; i < ROUNDS && !stop; i++) {
		unsigned slot = next_random(&state) % SLOTS;
		struct block *b = atomic_exchange(&slots[slot],
						  new_block(&state));

		if (b != NULL && next_random(&state) % 8 == 0) {
			b = realloc(b, sizeof(*b) + b->size + 50);
			memset(b->payload + b->size, 0, 50);
		}
		check_and_free(b);
	}
	return NULL;
}

static void empty_slots(void)
{
	for (int i = 0; i < SLOTS; i++)
		check_and_free(atomic_exchange(&slots[i], NULL));
}

static void start(pthread_t *threads, int n, void *(*run)(void *))
{
	for (int i = 0; i < n; i++)
		CHECK(pthread_create(&threads[i], NULL, run,
				     (void *)(uintptr_t)(i + 1)) == 0);
}

static void join(pthread_t *threads, int n)
{
	for (int i = 0; i < n; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void test_threads(void)
{
	pthread_t threads[THREADS];

	start(threads, THREADS, exchange_blocks);
	join(threads, THREADS);
	empty_slots();
	CHECK(damaged == 0);
}

/*
 * A destructor that sets its key again runs again, four times at least; the
 * last rounds are after those of everybody else's keys.
 */
static pthread_key_t keys[2];
static atomic_int destructions;

static void destroy_again(void *value)
{
	void *next = malloc(200);

	atomic_fetch_add(&destructions, 1);
	memset(next, 1, 200);
	free(value);
	pthread_setspecific(keys[0], next);
	free(realloc(malloc(1000), 3000));
}

static void destroy(void *value)
{
	free(calloc(10, 10));
	free(value);
}

static void *use_keys(void *arg)
{
	(void)arg;
	pthread_setspecific(keys[0], malloc(100));
	pthread_setspecific(keys[1], malloc(100));
	return malloc(300);
}

static void test_destructors(void)
{
	int bad = 0;

	CHECK(pthread_key_create(&keys[0], destroy_again) == 0);
	CHECK(pthread_key_create(&keys[1], destroy) == 0);
	for (int i = 0; i < SHORT_THREADS; i++) {
		pthread_t thread;
		void *result = NULL;

		bad += pthread_create(&thread, NULL, use_keys, NULL) != 0;
		bad += pthread_join(thread, &result) != 0;
		bad += result == NULL;
		memset(result, 1, 300);
		free(result);
	}
	CHECK(bad == 0);
	CHECK(destructions >= 2 * SHORT_THREADS);
}

static void *use_little_stack(void *arg)
{
	(void)arg;
	for (size_t n = 1; n < 300000; n *= 3)
		free(realloc(calloc(1, n), 2 * n));
	return NULL;
}

static void test_small_stack(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	CHECK(pthread_attr_init(&attributes) == 0);
	CHECK(pthread_attr_setstacksize(&attributes,
					(size_t)PTHREAD_STACK_MIN) == 0);
	CHECK(pthread_create(&thread, &attributes, use_little_stack, NULL) ==
	      0);
	CHECK(pthread_join(thread, NULL) == 0);
	pthread_attr_destroy(&attributes);
}

/*
 * Handlers that use malloc. prepare handlers run from the last that was
 * registered to the first, the others from first to last: those that came
 * before the replacement's own run while everything of its is locked.
 */
static void *prepared;
static bool handlers_are_off;

static void before_fork(void)
{
	if (handlers_are_off)
		return;
	prepared = malloc(5000);
	free(realloc(malloc(10), 10000));
}

static void after_fork(void)
{
	if (handlers_are_off)
		return;
	free(prepared);
	prepared = NULL;
	free(calloc(100, 100));
}

/* 101 is the first priority that is not reserved. */
__attribute__((constructor(101))) static void register_early(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

/* Waits for the child, or ends it and its children if it hangs; its status. */
static int wait_for(pid_t child)
{
	int status = -1;

	setpgid(child, child);
	for (int i = 0; i < CHILD_SECONDS * 1000; i++) {
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
		usleep(1000);
	}
	dprintf(1, "the child hangs\n");
	kill(-child, SIGKILL);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return status;
}

/* Whether it has exited with 0; says so if not. */
static bool child_succeeds(pid_t child)
{
	int status = wait_for(child);

	if (status == 0)
		return true;
	if (WIFSIGNALED(status))
		dprintf(1, "child ended by signal %d\n", WTERMSIG(status));
	else
		dprintf(1, "child exited with %d\n", WEXITSTATUS(status));
	return false;
}

/* In a child: malloc must work, also with new threads, and blocks be whole. */
static int use_malloc_in_child(void)
{
	pthread_t threads[2];
	unsigned state = (unsigned)getpid();

	stop = false;
	for (int i = 0; i < 500; i++)
		check_and_free(new_block(&state));
	if (pthread_create(&threads[0], NULL, use_little_stack, NULL) != 0 ||
	    pthread_join(threads[0], NULL) != 0)
		return 3;
	empty_slots();
	return damaged == 0 ? 0 : 4;
}

static void test_fork(void)
{
	pthread_t threads[THREADS];
	unsigned state = 1;

	stop = false;
	start(threads, THREADS, exchange_blocks);
	for (int i = 0; i < FORKS; i++) {
		pid_t child;

		/* Let the others come into malloc, differently each time. */
		usleep((useconds_t)i * 40);
		child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			int status = use_malloc_in_child();

			/* Both ways out: with exit handlers, without. */
			if (i % 2 == 0)
				_exit(status);
			exit(status);
		}
		CHECK(child_succeeds(child));
		check_and_free(new_block(&state));
	}
	stop = true;
	join(threads, THREADS);
	empty_slots();
	CHECK(damaged == 0);
}

/* A child that forks, whose child forks: each generation takes the heap on. */
static void test_generations(void)
{
	int generation = 0;
	pid_t child;

	while (generation < 8 && (child = fork()) == 0) {
		generation++;
		if (use_malloc_in_child() != 0)
			_exit(5);
	}
	if (generation == 8)
		_exit(0);
	if (generation > 0)
		_exit(child_succeeds(child) ? 0 : 6);
	CHECK(child_succeeds(child));
}

static volatile sig_atomic_t signal_forks;
static volatile sig_atomic_t signal_failures;

/* fork is to be safe here, though what it interrupts holds malloc's lock. */
static void fork_in_handler(int number)
{
	int kept = errno, status = -1;
	pid_t child;

	(void)number;
	if (signal_forks >= FORKS)
		return;
	child = fork();
	if (child == 0)
		_exit(0);
	signal_forks++;
	if (waitpid(child, &status, 0) != child || status != 0)
		signal_failures++;
	errno = kept;
}

static void run_signal_forks(void)
{
	struct sigaction action = {.sa_handler = fork_in_handler};
	struct itimerval timer = {{0, 3000}, {0, 3000}};
	unsigned state = 3;

	sigaction(SIGVTALRM, &action, NULL);
	setitimer(ITIMER_VIRTUAL, &timer, NULL);
	while (signal_forks < FORKS)
		check_and_free(new_block(&state));
	memset(&timer, 0, sizeof(timer));
	setitimer(ITIMER_VIRTUAL, &timer, NULL);
	_exit(signal_failures != 0 || damaged != 0 ? 7 : 0);
}

/*
 * In a child of its own, and before all groups with threads: with one thread
 * glibc's fork takes no locks of glibc. Nobody may use malloc where it was
 * interrupted, so that our handlers keep out of it.
 */
static void test_signal_fork(void)
{
	pid_t child = fork();

	if (child == 0) {
		handlers_are_off = true;
		run_signal_forks();
	}
	CHECK(child_succeeds(child));
}

static void *kept_for_exit;

static void at_exit(void)
{
	/* realloc and free of what lived all the time, and new blocks. */
	kept_for_exit = realloc(kept_for_exit, 100000);
	free(kept_for_exit);
	for (size_t n = 1; n < 300000; n *= 7)
		free(malloc(n));
}

/* After all other exit handlers, and most destructors of libraries. */
__attribute__((destructor(101))) static void at_the_very_end(void)
{
	free(realloc(calloc(1, 100), 5000));
}

static void test_exit(void)
{
	pid_t child;

	kept_for_exit = malloc(10);
	child = fork();
	if (child == 0) {
		if (atexit(at_exit) != 0)
			_exit(9);
		exit(0);
	}
	CHECK(child_succeeds(child));
	free(kept_for_exit);
}

static void test_dlopen(void)
{
#ifndef STATIC_PROGRAM
	int bad = 0;

	for (int i = 0; i < 20; i++) {
		void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
		double (*root)(double);

		if (library == NULL) {
			bad++;
			continue;
		}
		*(void **)&root = dlsym(library, "sqrt");
		bad += root == NULL || root(9.0) < 2.9 || root(9.0) > 3.1;
		bad += dlclose(library) != 0;
		/* Its failure messages are allocated too. */
		library = dlopen("no-such-library.so", RTLD_NOW);
		bad += library != NULL || dlerror() == NULL;
	}
	CHECK(bad == 0);
#endif
}

static int run_out_of_space(void)
{
	struct rlimit limit = {256u << 20, 256u << 20};
	void *list = NULL;
	int n = 0;

	if (setrlimit(RLIMIT_AS, &limit) != 0)
		return 10;
	for (;; n++) {
		size_t size = n % 2 == 0 ? 1u << 20 : 60000;
		void **next = malloc(size);

		if (next == NULL)
			break;
		next[0] = list;
		list = next;
	}
	if (errno != ENOMEM || n < 100)
		return 11;
	while (list != NULL) {
		void *next = *(void **)list;

		free(list);
		list = next;
	}
	/* It gave back what it took, and a freed block is free for all. */
	for (int i = 0; i < 2000; i++) {
		void *p = malloc(1u << 20);

		if (p == NULL)
			return 12;
		if (realloc(p, zero) != NULL)
			return 13;
	}
	return 0;
}

static void test_no_memory(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(run_out_of_space());
	CHECK(child_succeeds(child));
}

int main(int argc, char **argv)
{
	static const struct group groups[] = {
		{"signal_fork", test_signal_fork},
		{"threads", test_threads},
		{"destructors", test_destructors},
		{"small_stack", test_small_stack},
		{"fork", test_fork},
		{"generations", test_generations},
		{"exit", test_exit},
		{"dlopen", test_dlopen},
		{"no_memory", test_no_memory},
		{NULL, NULL},
	};

	return run_groups(argc, argv, groups);
}
