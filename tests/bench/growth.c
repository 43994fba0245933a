/* SPDX-License-Identifier: MIT */
/*
 * growth.c - realloc, large blocks, cleared and aligned ones, on one thread.
 *
 * Several blocks always grow side by side: a single one is the last of its
 * heap and grows in place for nothing, which programs do not see. Large blocks
 * have each page written, so that giving it back to the kernel and faulting it
 * in again shows up as what it costs.
 */
#include "micro.h"

/* Vectors growing by half, as C++ and Rust programs make them, to LIMIT. */
static void run_vector(struct bench *bench)
{
	enum { VECTORS = 64 };
	void *blocks[VECTORS] = {NULL};
	size_t sizes[VECTORS] = {0}, i, at = 0;

	bench_start(bench);
	for (i = 0; i < bench->arg[1]; i++, at = (at + 1) % VECTORS) {
		if (sizes[at] >= bench->arg[0]) {
			block_free(blocks[at]);
			blocks[at] = NULL;
			sizes[at] = 0;
		}
		sizes[at] = sizes[at] == 0 ? 16 + at : sizes[at] * 3 / 2;
		blocks[at] = block_mark(realloc(blocks[at], sizes[at]));
	}
	bench_stop(bench);
	bench->ops = bench->arg[1];
	for (i = 0; i < VECTORS; i++)
		free(blocks[i]);
}

/* Texts to which 1 to 64 bytes are added at a time, to LIMIT. */
static void run_append(struct bench *bench)
{
	enum { TEXTS = 32 };
	char *texts[TEXTS] = {NULL};
	size_t sizes[TEXTS] = {0}, i, at;
	struct rng rng;

	rng_seed(&rng, 3);
	bench_start(bench);
	for (i = 0; i < bench->arg[1]; i++) {
		at = rng_below(&rng, TEXTS);
		if (sizes[at] >= bench->arg[0]) {
			free(texts[at]);
			texts[at] = NULL;
			sizes[at] = 0;
		}
		sizes[at] += 1 + rng_below(&rng, 64);
		texts[at] = realloc(texts[at], sizes[at]);
		if (texts[at] == NULL)
			fault("no memory");
		texts[at][sizes[at] - 1] = 'a';
	}
	bench_stop(bench);
	bench->ops = bench->arg[1];
	for (i = 0; i < TEXTS; i++)
		free(texts[i]);
}

/* Two blocks in turns, each growing by STEP to LIMIT, all pages written. */
static void run_extend(struct bench *bench)
{
	size_t step = bench->arg[0], limit = bench->arg[1], i, size;
	char *blocks[2];

	bench_start(bench);
	for (i = 0; i < bench->arg[2]; i++) {
		blocks[0] = blocks[1] = NULL;
		for (size = step; size <= limit; size += step) {
			blocks[0] = block_mark(realloc(blocks[0], size));
			blocks[1] = block_mark(realloc(blocks[1], size));
			pages_touch(blocks[0], size - step + 8, size);
			pages_touch(blocks[1], size - step + 8, size);
			bench->ops += 2;
		}
		block_free(blocks[0]);
		block_free(blocks[1]);
	}
	bench_stop(bench);
}

/* 16 large blocks of 2^LOW to 2^HIGH bytes, replaced at random, written. */
static void run_big(struct bench *bench)
{
	enum { LIVE = 16 };
	void *blocks[LIVE] = {NULL};
	size_t size, i, at;
	struct rng rng;

	rng_seed(&rng, 4);
	bench_start(bench);
	for (i = 0; i < bench->arg[2]; i++) {
		at = rng_below(&rng, LIVE);
		if (blocks[at] != NULL)
			block_free(blocks[at]);
		size = rng_size(&rng, (unsigned)bench->arg[0],
				(unsigned)bench->arg[1]);
		blocks[at] = block_mark(malloc(size));
		pages_touch(blocks[at], 8, size);
	}
	bench_stop(bench);
	bench->ops = bench->arg[2];
	for (at = 0; at < LIVE; at++)
		free(blocks[at]);
}

/* Cleared blocks of 2^LOW to 2^HIGH bytes, 256 live, checked to be zero. */
static void run_calloc(struct bench *bench)
{
	enum { LIVE = 256 };
	void *blocks[LIVE] = {NULL};
	size_t size, i, at;
	struct rng rng;

	rng_seed(&rng, 5);
	bench_start(bench);
	for (i = 0; i < bench->arg[2]; i++) {
		at = rng_below(&rng, LIVE);
		if (blocks[at] != NULL)
			block_free(blocks[at]);
		size = rng_size(&rng, (unsigned)bench->arg[0],
				(unsigned)bench->arg[1]);
		blocks[at] = calloc(1, size);
		if (blocks[at] == NULL)
			fault("no memory");
		if (*(uintptr_t *)blocks[at] != 0 ||
		    ((char *)blocks[at])[size - 1] != 0)
			fault("a block of calloc is not zero");
		((char *)blocks[at])[size - 1] = 1;
		block_mark(blocks[at]);
	}
	bench_stop(bench);
	bench->ops = bench->arg[2];
	for (at = 0; at < LIVE; at++)
		free(blocks[at]);
}

/* Blocks of 16 bytes to 4 KiB aligned to 32 bytes to 4 KiB, LIVE of them. */
static void run_aligned(struct bench *bench)
{
	size_t live = bench->arg[0], alignment, i, at;
	void **blocks = table_map(live, sizeof(*blocks));
	struct rng rng;

	rng_seed(&rng, 6);
	bench_start(bench);
	for (i = 0; i < bench->arg[1]; i++) {
		at = rng_below(&rng, live);
		if (blocks[at] != NULL)
			block_free(blocks[at]);
		alignment = (size_t)32 << rng_below(&rng, 8);
		if (posix_memalign(&blocks[at], alignment,
				   rng_size(&rng, 4, 12)) != 0)
			fault("no memory");
		if (((uintptr_t)blocks[at] & (alignment - 1)) != 0)
			fault("a block is not aligned as asked");
		block_mark(blocks[at]);
	}
	bench_stop(bench);
	bench->ops = bench->arg[1];
	for (i = 0; i < live; i++)
		free(blocks[i]);
}

const struct workload growth_workloads[] = {
	{"vector", "LIMIT OPS", 2, run_vector},
	{"append", "LIMIT OPS", 2, run_append},
	{"extend", "STEP LIMIT TIMES", 3, run_extend},
	{"big", "LOW HIGH OPS", 3, run_big},
	{"calloc", "LOW HIGH OPS", 3, run_calloc},
	{"aligned", "LIVE OPS", 2, run_aligned},
	{NULL, NULL, 0, NULL},
};
