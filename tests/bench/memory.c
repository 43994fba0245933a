/* SPDX-License-Identifier: MIT */
/*
 * memory.c - how much memory the blocks take, and how much of it comes back.
 *
 * THREADS threads fill MEGABYTES with blocks of 2^LOW to 2^HIGH bytes, all of
 * it written. Then a random 7 of 8 blocks are freed, then the rest; resident
 * memory is read after each step and a second after the last, while the
 * threads sleep and nothing calls malloc. What the process had before the
 * first block, its tables included, is taken off. strangers does the same with
 * the blocks freed by the first thread while those that allocated them sleep.
 */
#include "micro.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum step { FILL, THIN, DRAIN, END };

struct memory {
	int strangers;
	size_t low, high, bytes; /* per thread */
	size_t slots;
	pthread_barrier_t ready, go;
	enum step step;
};

struct owner {
	struct memory *memory;
	void **blocks;
	size_t count;
	struct rng rng;
	pthread_t thread;
};

/* Room for the blocks that will be there, and a quarter more. */
static size_t slots_for(const struct memory *m)
{
	size_t sum = 0, i;

	for (i = m->low; i < m->high; i++)
		sum += (size_t)3 << i >> 1;
	return m->bytes / (sum / (m->high - m->low)) * 5 / 4 + 64;
}

static void fill(struct owner *owner)
{
	const struct memory *m = owner->memory;
	size_t total = 0, size;

	while (total < m->bytes && owner->count < m->slots) {
		size = rng_size(&owner->rng, (unsigned)m->low,
				(unsigned)m->high);
		owner->blocks[owner->count] = malloc(size);
		if (owner->blocks[owner->count] == NULL)
			fault("no memory");
		memset(owner->blocks[owner->count], 1, size);
		block_mark(owner->blocks[owner->count++]);
		total += size;
	}
}

static void shuffle(struct owner *owner)
{
	size_t i, at;
	void *other;

	for (i = owner->count; i > 1; i--) {
		at = rng_below(&owner->rng, i);
		other = owner->blocks[at];
		owner->blocks[at] = owner->blocks[i - 1];
		owner->blocks[i - 1] = other;
	}
}

static void free_down_to(struct owner *owner, size_t left)
{
	while (owner->count > left)
		block_free(owner->blocks[--owner->count]);
}

static void step(struct owner *owner)
{
	switch (owner->memory->step) {
	case FILL:
		fill(owner);
		shuffle(owner);
		break;
	case THIN:
		free_down_to(owner, owner->count / 8);
		break;
	case DRAIN:
		free_down_to(owner, 0);
		break;
	case END:
		break;
	}
}

static void *owner_main(void *arg)
{
	struct owner *owner = arg;
	struct memory *m = owner->memory;

	for (;;) {
		pthread_barrier_wait(&m->go);
		if (m->step == END)
			return NULL;
		if (m->step == FILL || !m->strangers)
			step(owner);
		pthread_barrier_wait(&m->ready);
	}
}

static size_t round_of(struct memory *m, struct owner *owners, size_t count,
		       enum step next)
{
	size_t i;

	m->step = next;
	pthread_barrier_wait(&m->go);
	pthread_barrier_wait(&m->ready);
	for (i = 0; next != FILL && m->strangers && i < count; i++)
		step(&owners[i]);
	return rss_kib();
}

/* A purge by a timer or a thread of the allocator's own has had its time. */
static size_t rss_after_a_second(void)
{
	struct timespec second = {.tv_sec = 1};

	nanosleep(&second, NULL);
	return rss_kib();
}

static void measure(struct bench *bench, int strangers)
{
	size_t threads = bench->arg[0], i, base, live, thin, drained, later;
	struct owner *owners = table_map(threads, sizeof(*owners));
	struct memory m = {
		.strangers = strangers,
		.low = bench->arg[1],
		.high = bench->arg[2],
		.bytes = bench->arg[3] * 1000000 / threads,
	};

	m.slots = slots_for(&m);
	pthread_barrier_init(&m.go, NULL, (unsigned)threads + 1);
	pthread_barrier_init(&m.ready, NULL, (unsigned)threads + 1);
	for (i = 0; i < threads; i++) {
		owners[i].memory = &m;
		owners[i].blocks = table_map(m.slots, sizeof(void *));
		memset(owners[i].blocks, 1,
		       m.slots * sizeof(*owners[i].blocks));
		rng_seed(&owners[i].rng, i);
		thread_start(&owners[i].thread, owner_main, &owners[i]);
	}
	base = rss_kib();
	bench_start(bench);
	live = round_of(&m, owners, threads, FILL) - base;
	for (i = 0; i < threads; i++)
		bench->ops += owners[i].count;
	thin = round_of(&m, owners, threads, THIN) - base;
	drained = round_of(&m, owners, threads, DRAIN) - base;
	bench_stop(bench);
	later = rss_after_a_second() - base;
	m.step = END;
	pthread_barrier_wait(&m.go);
	for (i = 0; i < threads; i++)
		pthread_join(owners[i].thread, NULL);
	printf("live_kib=%zd thin_kib=%zd free_kib=%zd later_kib=%zd ",
	       (ssize_t)live, (ssize_t)thin, (ssize_t)drained, (ssize_t)later);
}

static void run_memory(struct bench *bench)
{
	measure(bench, 0);
}

static void run_strangers(struct bench *bench)
{
	measure(bench, 1);
}

const struct workload memory_workloads[] = {
	{"memory", "THREADS LOW HIGH MEGABYTES", 4, run_memory},
	{"strangers", "THREADS LOW HIGH MEGABYTES", 4, run_strangers},
	{NULL, NULL, 0, NULL},
};
