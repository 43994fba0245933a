/* SPDX-License-Identifier: MIT */
/*
 * threads.c - several threads, with and without blocks changing hands.
 *
 * scale and threadtest keep every block on its thread and show locks; handoff,
 * exchange and larson free blocks on other threads than their own, the last
 * one on threads that start while the owner ends; churn is about what starting
 * and ending threads costs and leaves behind. Threads wait for each other by
 * blocking, never by spinning, so that cpu seconds are the allocator's.
 */
#include "micro.h"

#include <stdatomic.h>

static size_t share(const struct worker *worker, size_t total)
{
	return total / worker->count + 1;
}

/* Replacement of mixed sizes among LIVE blocks on each thread. */
static void scale_body(struct worker *worker)
{
	size_t live = worker->bench->arg[1], i, at;
	size_t count = share(worker, worker->bench->arg[2]);
	void **blocks = table_map(live, sizeof(*blocks));

	for (i = 0; i < count; i++) {
		at = rng_below(&worker->rng, live);
		if (blocks[at] != NULL)
			block_free(blocks[at]);
		blocks[at] = block_mark(malloc(rng_size(&worker->rng, 4, 12)));
	}
	for (i = 0; i < live; i++)
		free(blocks[i]);
	worker->ops = count;
}

static void run_scale(struct bench *bench)
{
	team_run(bench, (unsigned)bench->arg[0], scale_body, NULL);
}

/* Each thread takes 1000 blocks of SIZE and frees them in the same order. */
static void threadtest_body(struct worker *worker)
{
	enum { BATCH = 1000 };
	size_t count = share(worker, worker->bench->arg[2]), i;
	void **blocks = table_map(BATCH, sizeof(*blocks));

	while (worker->ops < count) {
		for (i = 0; i < BATCH; i++)
			blocks[i] = block_mark(malloc(worker->bench->arg[1]));
		for (i = 0; i < BATCH; i++)
			block_free(blocks[i]);
		worker->ops += BATCH;
	}
}

static void run_threadtest(struct bench *bench)
{
	team_run(bench, (unsigned)bench->arg[0], threadtest_body, NULL);
}

/* A bounded queue of chunks of blocks between one producer and one consumer. */
enum { CHUNK = 64, CHUNKS = 32 };

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t put, taken; /* chunks so far */
	void *blocks[CHUNKS][CHUNK];
};

static void queue_wait(struct queue *queue, size_t put, size_t taken)
{
	pthread_mutex_lock(&queue->lock);
	queue->put += put;
	queue->taken += taken;
	pthread_cond_signal(&queue->changed);
	while (put ? queue->put - queue->taken == CHUNKS
		   : queue->put == queue->taken)
		pthread_cond_wait(&queue->changed, &queue->lock);
	pthread_mutex_unlock(&queue->lock);
}

static void produce(struct worker *worker, struct queue *queue, size_t chunks)
{
	size_t chunk, i;

	for (chunk = 0; chunk < chunks; chunk++) {
		void **blocks = queue->blocks[chunk % CHUNKS];

		for (i = 0; i < CHUNK; i++) {
			size_t size = rng_size(&worker->rng, 4, 10);

			blocks[i] = block_mark(malloc(size));
		}
		queue_wait(queue, 1, 0);
	}
	worker->ops = chunks * CHUNK;
}

static void consume(struct queue *queue, size_t chunks)
{
	size_t chunk, i;

	for (chunk = 0; chunk < chunks; chunk++) {
		void **blocks = queue->blocks[chunk % CHUNKS];

		queue_wait(queue, 0, chunk != 0);
		for (i = 0; i < CHUNK; i++)
			block_free(blocks[i]);
	}
	pthread_mutex_lock(&queue->lock);
	queue->taken++;
	pthread_cond_signal(&queue->changed);
	pthread_mutex_unlock(&queue->lock);
}

static void handoff_body(struct worker *worker)
{
	struct queue *queue = (struct queue *)worker->shared + worker->id / 2;
	size_t ops = worker->bench->arg[1] / (worker->count / 2);

	if (worker->id % 2 == 0)
		produce(worker, queue, ops / CHUNK + 1);
	else
		consume(queue, ops / CHUNK + 1);
}

/* PAIRS of threads: one allocates, the other frees. */
static void run_handoff(struct bench *bench)
{
	size_t pairs = bench->arg[0], i;
	struct queue *queues = table_map(pairs, sizeof(*queues));

	for (i = 0; i < pairs; i++) {
		pthread_mutex_init(&queues[i].lock, NULL);
		pthread_cond_init(&queues[i].changed, NULL);
	}
	team_run(bench, (unsigned)pairs * 2, handoff_body, queues);
}

/* Frees all blocks of a batch; there may be fewer than it has room for. */
enum { BATCH = 512 };

static void batch_free(void **batch)
{
	size_t i;

	for (i = 0; i < BATCH && batch[i] != NULL; i++) {
		block_free(batch[i]);
		batch[i] = NULL;
	}
}

/* Full batches go to a pool of slots, and what was there is freed. */
static void exchange_body(struct worker *worker)
{
	_Atomic(void **) *slots = worker->shared;
	size_t count = share(worker, worker->bench->arg[1]), i;
	void **batch = table_map(BATCH, sizeof(*batch));

	while (worker->ops < count) {
		size_t at = rng_below(&worker->rng, worker->count);

		for (i = 0; i < BATCH; i++)
			batch[i] = block_mark(
				malloc(rng_size(&worker->rng, 4, 10)));
		worker->ops += BATCH;
		batch = atomic_exchange(&slots[at], batch);
		if (batch == NULL)
			batch = table_map(BATCH, sizeof(*batch));
		batch_free(batch);
	}
}

static void run_exchange(struct bench *bench)
{
	_Atomic(void **) *slots = table_map(bench->arg[0], sizeof(*slots));
	size_t i;

	team_run(bench, (unsigned)bench->arg[0], exchange_body, slots);
	for (i = 0; i < bench->arg[0]; i++) {
		void **batch = atomic_load(&slots[i]);

		if (batch != NULL)
			batch_free(batch);
	}
}

/* Replacement in a set of blocks that each thread leaves to the next one. */
struct generation {
	void **blocks;
	size_t live;
	size_t ops;
	struct rng *rng;
};

static void *generation_main(void *arg)
{
	struct generation *g = arg;
	size_t i, at;

	for (i = 0; i < g->ops; i++) {
		at = rng_below(g->rng, g->live);
		if (g->blocks[at] != NULL)
			block_free(g->blocks[at]);
		g->blocks[at] = block_mark(malloc(8 + rng_below(g->rng, 505)));
	}
	return NULL;
}

static void larson_body(struct worker *worker)
{
	enum { GENERATIONS = 50 };
	size_t live = worker->bench->arg[1], i;
	struct generation g = {
		.blocks = table_map(live, sizeof(*g.blocks)),
		.live = live,
		.ops = share(worker, worker->bench->arg[2]) / GENERATIONS,
		.rng = &worker->rng,
	};
	pthread_t thread;

	for (i = 0; i < GENERATIONS; i++) {
		thread_start(&thread, generation_main, &g);
		pthread_join(thread, NULL);
		worker->ops += g.ops;
	}
	for (i = 0; i < live; i++)
		free(g.blocks[i]);
}

static void run_larson(struct bench *bench)
{
	team_run(bench, (unsigned)bench->arg[0], larson_body, NULL);
}

/* A short thread: allocates, frees half, leaves half to a later thread. */
struct visit {
	_Atomic(void **) *slot;
	uint64_t seed;
};

static void *visit_main(void *arg)
{
	struct visit *visit = arg;
	void **batch = atomic_exchange(visit->slot, NULL);
	struct rng rng;
	size_t i;

	rng_seed(&rng, visit->seed);
	batch_free(batch);
	for (i = 0; i < BATCH / 4; i++)
		batch[i] = block_mark(malloc(rng_size(&rng, 4, 12)));
	while (i-- > BATCH / 8) {
		block_free(batch[i]);
		batch[i] = NULL;
	}
	atomic_store(visit->slot, batch);
	return NULL;
}

static void churn_body(struct worker *worker)
{
	size_t count = share(worker, worker->bench->arg[1]), i;
	_Atomic(void **) slot = table_map(BATCH, sizeof(void *));
	struct visit visit = {.slot = &slot};
	pthread_t thread;

	for (i = 0; i < count; i++) {
		visit.seed = worker->id * count + i;
		thread_start(&thread, visit_main, &visit);
		pthread_join(thread, NULL);
	}
	batch_free(slot);
	worker->ops = count;
}

/* OPS threads, THREADS of them at a time; an operation is a thread. */
static void run_churn(struct bench *bench)
{
	team_run(bench, (unsigned)bench->arg[0], churn_body, NULL);
}

const struct workload thread_workloads[] = {
	{"scale", "THREADS LIVE OPS", 3, run_scale},
	{"threadtest", "THREADS SIZE OPS", 3, run_threadtest},
	{"handoff", "PAIRS OPS", 2, run_handoff},
	{"exchange", "THREADS OPS", 2, run_exchange},
	{"larson", "THREADS LIVE OPS", 3, run_larson},
	{"churn", "THREADS OPS", 2, run_churn},
	{NULL, NULL, 0, NULL},
};
