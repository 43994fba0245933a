/* SPDX-License-Identifier: MIT */
/*
 * sharing.c - threads that share: cache lines, and a server's sessions.
 *
 * active and passive show whether blocks of two threads come to lie in one
 * cache line, by the allocator's doing or by blocks handed over. server is the
 * mixture: requests that take many blocks and free them together, a table of
 * sessions that all threads replace, and phases with other sizes each.
 */
#include "micro.h"

/* Takes a small block, writes it over and over, frees it, again and again. */
static void write_blocks(struct worker *worker)
{
	size_t writes = worker->bench->arg[1], i;
	size_t count = worker->bench->arg[2] / worker->count + 1;

	for (worker->ops = 0; worker->ops < count; worker->ops++) {
		volatile uintptr_t *block = block_mark(malloc(8));

		for (i = 0; i < writes; i++)
			*block += 2;
		*block -= 2 * writes;
		block_free((void *)block);
	}
}

static void run_active(struct bench *bench)
{
	team_run(bench, (unsigned)bench->arg[0], write_blocks, NULL);
}

/* The same, after having freed a block from the first thread's line. */
static void passive_body(struct worker *worker)
{
	void **blocks = worker->shared;

	block_free(blocks[worker->id]);
	write_blocks(worker);
}

static void run_passive(struct bench *bench)
{
	size_t threads = bench->arg[0], i;
	void **blocks = table_map(threads, sizeof(*blocks));

	for (i = 0; i < threads; i++)
		blocks[i] = block_mark(malloc(8));
	team_run(bench, (unsigned)threads, passive_body, blocks);
}

/* Blocks that outlive their request; a lock guards every 64th of them. */
enum { SESSIONS = 16384, LOCKS = 64, REQUEST = 200 };

struct sessions {
	pthread_mutex_t lock[LOCKS];
	void *blocks[SESSIONS];
};

static void session_replace(struct sessions *sessions, size_t at, void *block)
{
	pthread_mutex_t *lock = &sessions->lock[at % LOCKS];
	void *old;

	pthread_mutex_lock(lock);
	old = sessions->blocks[at];
	sessions->blocks[at] = block;
	pthread_mutex_unlock(lock);
	if (old != NULL)
		block_free(old);
}

/* The sizes of a phase: lookups, then texts, then buffers. */
static size_t phase_size(struct rng *rng, size_t phase)
{
	static const unsigned char high[] = {8, 11, 15};

	return rng_size(rng, 4, high[phase % sizeof(high)]);
}

static size_t serve(struct worker *worker, size_t phase)
{
	void *blocks[REQUEST];
	size_t count = 20 + rng_below(&worker->rng, REQUEST - 20), i, at;

	for (i = 0; i < count; i++)
		blocks[i] = block_mark(malloc(phase_size(&worker->rng, phase)));
	for (i = 0; i < count; i += 8) {
		size_t size = phase_size(&worker->rng, phase);

		blocks[i] = block_mark(realloc(blocks[i], size));
	}
	for (i = 0; i < count; i += 16) {
		at = rng_below(&worker->rng, SESSIONS);
		session_replace(worker->shared, at, blocks[i]);
		blocks[i] = NULL;
	}
	for (i = 0; i < count; i++) {
		if (blocks[i] != NULL)
			block_free(blocks[i]);
	}
	return count;
}

static void server_body(struct worker *worker)
{
	enum { PHASES = 12 };
	size_t count = worker->bench->arg[1] / worker->count, phase;

	for (phase = 0; phase < PHASES; phase++) {
		while (worker->ops < count * (phase + 1) / PHASES)
			worker->ops += serve(worker, phase);
	}
}

static void run_server(struct bench *bench)
{
	struct sessions *sessions = table_map(1, sizeof(*sessions));
	size_t i;

	for (i = 0; i < LOCKS; i++)
		pthread_mutex_init(&sessions->lock[i], NULL);
	team_run(bench, (unsigned)bench->arg[0], server_body, sessions);
	for (i = 0; i < SESSIONS; i++)
		free(sessions->blocks[i]);
}

const struct workload sharing_workloads[] = {
	{"active", "THREADS WRITES OPS", 3, run_active},
	{"passive", "THREADS WRITES OPS", 3, run_passive},
	{"server", "THREADS OPS", 2, run_server},
	{NULL, NULL, 0, NULL},
};
