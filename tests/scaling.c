/* SPDX-License-Identifier: MIT */
/*
 * scaling.c - what the number of live blocks costs in exact mode.
 *
 * Times os_free + os_malloc of random blocks among 10^2 to 10^6 live blocks of
 * 64 bytes, each number in a process of its own, the best of some rounds, and
 * prints nanoseconds per pair and the ratio of the last to the first. With the
 * argument "turn" of one block after the other, so that memory is at hand and
 * what is left is the allocator's own. A bench program: nothing is judged. The
 * table of blocks is mapped, so that libc's malloc leaves the break alone.
 */
#include "osmem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 64
#define PAIRS 200000
#define ROUNDS 5

static uint64_t state = 88172645463325252u;
static bool in_turn;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *map(size_t size, int kind)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS,
		       -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* One round of pairs; ns per pair, or 0 when memory ran out. */
static double time_pairs(void **blocks, size_t count)
{
	double start = now_ns();
	size_t i, at;

	for (i = 0; i < PAIRS; i++) {
		at = in_turn ? i % count : (size_t)(next_random() % count);
		os_free(blocks[at]);
		blocks[at] = os_malloc(BLOCK);
		if (blocks[at] == NULL)
			return 0;
	}
	return (now_ns() - start) / PAIRS;
}

static int measure(size_t count, double *best)
{
	void **blocks = map(count * sizeof(*blocks), MAP_PRIVATE);
	double ns;
	size_t i;

	if (blocks == NULL || !os_mallopt(OS_M_MODE, OS_MODE_EXACT))
		return 1;
	for (i = 0; i < count; i++) {
		blocks[i] = os_malloc(BLOCK);
		if (blocks[i] == NULL)
			return 1;
	}
	for (i = 0; i < ROUNDS; i++) {
		ns = time_pairs(blocks, count);
		if (ns <= 0)
			return 1;
		if (i == 0 || ns < *best)
			*best = ns;
	}
	return 0;
}

int main(int argc, char **argv)
{
	double *best = map(sizeof(*best), MAP_SHARED);
	double first = 0;
	size_t count;
	int status;
	pid_t pid;

	if (best == NULL)
		return 1;
	in_turn = argc > 1 && strcmp(argv[1], "turn") == 0;
	for (count = 100; count <= 1000000; count *= 10) {
		pid = fork();
		if (pid == 0)
			_exit(measure(count, best));
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
			fprintf(stderr, "scaling: %zu blocks failed\n", count);
			return 1;
		}
		if (first <= 0)
			first = *best;
		printf("%8zu live blocks  %7.1f ns per free + malloc\n", count,
		       *best);
		fflush(stdout);
	}
	printf("last / first: %.2f\n", *best / first);
	return 0;
}
