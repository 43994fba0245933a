/* SPDX-License-Identifier: MIT */
/*
 * micro.h - what the workloads of the micro benchmark share.
 *
 * A workload gets its numbers from the command line, keeps its tables in
 * mappings of its own, so that the malloc under test sees nothing but the
 * workload, and adds up its operations in ops. Blocks carry a mark in their
 * first word that is checked before they are freed: a malloc that is fast
 * because it hands out memory twice does not get a result.
 */
#ifndef MICRO_H
#define MICRO_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define MICRO_ARGS 4

struct bench {
	size_t arg[MICRO_ARGS];
	uint64_t ops;    /* operations done, one being a malloc and a free */
	double start_ns; /* set by bench_start, for what precedes the loop */
	double stop_ns;
};

struct workload {
	const char *name;
	const char *args; /* names of the arguments, for the usage */
	int count;        /* how many of them; -s multiplies the last one */
	void (*run)(struct bench *bench);
};

extern const struct workload single_workloads[];
extern const struct workload growth_workloads[];
extern const struct workload thread_workloads[];
extern const struct workload sharing_workloads[];
extern const struct workload memory_workloads[];

/* A pseudo random sequence that is the same in every run. */
struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t x = rng->state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	rng->state = x;
	return x * 2685821657736338717u >> 16;
}

static inline size_t rng_below(struct rng *rng, size_t limit)
{
	return (size_t)((rng_next(rng) & 0xffffffffu) * limit >> 32);
}

/* Small sizes often, large ones seldom: uniform between two powers of 2. */
static inline size_t rng_size(struct rng *rng, unsigned low, unsigned high)
{
	size_t base = (size_t)1 << (low + rng_below(rng, high - low));

	return base + rng_below(rng, base);
}

void rng_seed(struct rng *rng, uint64_t seed);

/* Says what the malloc under test did wrong and ends the process. */
void fault(const char *what) __attribute__((noreturn));

/*
 * A block gets its mark; before it is freed the mark is checked and taken off,
 * so that the second owner of a block that was handed out twice is found out.
 */
static inline void *block_mark(void *block)
{
	if (block == NULL)
		fault("no memory");
	*(uintptr_t *)block = (uintptr_t)block ^ 0x5a5a5a5au;
	return block;
}

static inline void block_free(void *block)
{
	if (*(uintptr_t *)block != ((uintptr_t)block ^ 0x5a5a5a5au))
		fault("a live block was overwritten, or is another one's");
	*(uintptr_t *)block = 0;
	free(block);
}

/* Writes one byte of each page, so that the kernel has to provide it. */
void pages_touch(void *block, size_t from, size_t to);

/* Zeroed memory outside malloc; ends the program when there is none. */
void *table_map(size_t count, size_t size);

/* What is timed: wall time between the two, cpu time of the whole process. */
void bench_start(struct bench *bench);
void bench_stop(struct bench *bench);
double wall_ns(void);

/* This process's resident set, now and at its highest, in KiB. */
size_t rss_kib(void);
size_t peak_kib(void);

/*
 * Runs body once on each of count threads and adds up their ops. All start
 * together; the time runs from there to the end of the last one.
 */
struct worker {
	struct bench *bench;
	void *shared;
	unsigned id;
	unsigned count;
	uint64_t ops;
	struct rng rng;
	void (*body)(struct worker *worker);
	pthread_barrier_t *start;
	pthread_t thread;
};

void team_run(struct bench *bench, unsigned count,
	      void (*body)(struct worker *worker), void *shared);

/* pthread_create that ends the program when it fails. */
void thread_start(pthread_t *thread, void *(*body)(void *), void *arg);

#endif
