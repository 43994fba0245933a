/* SPDX-License-Identifier: MIT */
/*
 * single.c - the plain costs on one thread.
 *
 * pair and batch show the fast path and what happens when a thread's cache is
 * too short for a burst; random and mixed show steady replacement, where free
 * slots are spread over all pages; the larger the live set, the more it is the
 * cache misses of the allocator's own records that count.
 */
#include "micro.h"

enum { SIZE, LIVE, OPS };

/* One block after the other: malloc, write, free. */
static void run_pair(struct bench *bench)
{
	size_t size = bench->arg[0], count = bench->arg[1], i;

	bench_start(bench);
	for (i = 0; i < count; i++)
		block_free(block_mark(malloc(size)));
	bench_stop(bench);
	bench->ops = count;
}

/* Bursts: LIVE blocks are taken and freed again, the last one first. */
static void run_batch(struct bench *bench)
{
	size_t size = bench->arg[SIZE], live = bench->arg[LIVE], i, done;
	void **blocks = table_map(live, sizeof(*blocks));

	bench_start(bench);
	for (done = 0; done < bench->arg[OPS]; done += live) {
		for (i = 0; i < live; i++)
			blocks[i] = block_mark(malloc(size));
		while (i-- > 0)
			block_free(blocks[i]);
	}
	bench_stop(bench);
	bench->ops = done;
}

/* LIVE blocks, of which a random one is freed and allocated again. */
static void run_random(struct bench *bench)
{
	size_t size = bench->arg[SIZE], live = bench->arg[LIVE], i, at;
	void **blocks = table_map(live, sizeof(*blocks));
	struct rng rng;

	rng_seed(&rng, 1);
	for (i = 0; i < live; i++)
		blocks[i] = block_mark(malloc(size));
	bench_start(bench);
	for (i = 0; i < bench->arg[OPS]; i++) {
		at = rng_below(&rng, live);
		block_free(blocks[at]);
		blocks[at] = block_mark(malloc(size));
	}
	bench_stop(bench);
	bench->ops = bench->arg[OPS];
	for (i = 0; i < live; i++)
		block_free(blocks[i]);
}

/* The same with sizes of 16 bytes to 4 KiB, most of them small. */
static void run_mixed(struct bench *bench)
{
	size_t live = bench->arg[0], count = bench->arg[1], i, at;
	void **blocks = table_map(live, sizeof(*blocks));
	struct rng rng;

	rng_seed(&rng, 2);
	for (i = 0; i < live; i++)
		blocks[i] = block_mark(malloc(rng_size(&rng, 4, 12)));
	bench_start(bench);
	for (i = 0; i < count; i++) {
		at = rng_below(&rng, live);
		block_free(blocks[at]);
		blocks[at] = block_mark(malloc(rng_size(&rng, 4, 12)));
	}
	bench_stop(bench);
	bench->ops = count;
	for (i = 0; i < live; i++)
		block_free(blocks[i]);
}

const struct workload single_workloads[] = {
	{"pair", "SIZE OPS", 2, run_pair},
	{"batch", "SIZE LIVE OPS", 3, run_batch},
	{"random", "SIZE LIVE OPS", 3, run_random},
	{"mixed", "LIVE OPS", 2, run_mixed},
	{NULL, NULL, 0, NULL},
};
