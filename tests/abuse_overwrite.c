/* SPDX-License-Identifier: MIT */
/*
 * abuse_overwrite.c - writes past the end of a block or before its start, and
 * then the program goes on: it frees what was written over, or resizes it, and
 * allocates. What the blocks in the way held is lost, of course; nothing else
 * may be.
 */
#include <config.h>

#include "abuse.h"
#include "must.h"

#include <errno.h>
#include <string.h>

static const struct abuse_kind kinds[] = {{"64", 64, 0},
					  {"1000", 1000, 0},
					  {"20000", 20000, 0},
					  {"200000", 200000, 0}};

enum { BLOCKS = 9, MIDDLE = 4 };

static char **fill_distrusted(const struct abuse_kind *kind)
{
	char **p = abuse_fill(kind, BLOCKS);
	int i;

	for (i = 0; i < BLOCKS; i++)
		abuse_distrust(p[i]);
	return p;
}

static void put_all(char **p, const struct abuse_kind *kind)
{
	int i;

	for (i = 0; i < BLOCKS; i++)
		if (p[i] != NULL)
			abuse_put(p[i]);
	abuse_go_on(kind);
}

/* The byte that is most likely to look like something else, too. */
static void overflow(const struct abuse_kind *kind, int bytes)
{
	char **p = fill_distrusted(kind);

	abuse_set(p[MIDDLE] + abuse_usable(p[MIDDLE]), 0, (size_t)bytes);
	put_all(p, kind);
}

static void overflow_of_all(const struct abuse_kind *kind, int bytes)
{
	char **p = fill_distrusted(kind);
	int i;

	for (i = 0; i < BLOCKS; i++)
		abuse_set(p[i] + abuse_usable(p[i]), 0x41, (size_t)bytes);
	put_all(p, kind);
}

/* Those in front and behind are free. */
static void overflow_into_free(const struct abuse_kind *kind, int bytes)
{
	char **p = fill_distrusted(kind);
	int i;

	for (i = 1; i < BLOCKS; i += 2) {
		abuse_put(p[i]);
		p[i] = NULL;
	}
	abuse_set(p[MIDDLE] + abuse_usable(p[MIDDLE]), 0x41, (size_t)bytes);
	put_all(p, kind);
}

static void underflow(const struct abuse_kind *kind, int bytes)
{
	char **p = fill_distrusted(kind);

	abuse_set(p[MIDDLE] - bytes, 0x41, (size_t)bytes);
	put_all(p, kind);
}

static void underflow_into_free(const struct abuse_kind *kind, int bytes)
{
	char **p = fill_distrusted(kind);
	int i;

	for (i = 1; i < BLOCKS; i += 2) {
		abuse_put(p[i]);
		p[i] = NULL;
	}
	abuse_set(p[MIDDLE] - bytes, 0, (size_t)bytes);
	put_all(p, kind);
}

/* It grows after that, over its neighbours if it can. */
static void underflow_and_resize(const struct abuse_kind *kind, int bytes)
{
	char **p = fill_distrusted(kind);
	char *q;

	abuse_set(p[MIDDLE] - bytes, 0x41, (size_t)bytes);
	q = abuse_realloc(p[MIDDLE], kind->size + kind->size / 2);
	if (q == NULL)
		_exit(errno == EINVAL ? ABUSE_REFUSED : ABUSE_MISSED);
	abuse_forget(p[MIDDLE]);
	p[MIDDLE] = NULL;
	abuse_guard(q, kind->size + kind->size / 2);
	put_all(p, kind);
}

/* Headers of both neighbours, exchanged: each is whole, in a wrong place. */
static void swapped(const struct abuse_kind *kind, int bytes)
{
	char **p = fill_distrusted(kind);
	char a[64];
	char b[64];

	memcpy(a, p[2] - bytes, (size_t)bytes);
	memcpy(b, p[6] - bytes, (size_t)bytes);
	abuse_write(p[2] - bytes, b, (size_t)bytes);
	abuse_write(p[6] - bytes, a, (size_t)bytes);
	put_all(p, kind);
}

/* A use after free that writes the whole block. */
static void write_after_free(const struct abuse_kind *kind, int byte)
{
	char **p = fill_distrusted(kind);
	size_t size = abuse_usable(p[MIDDLE]);

	abuse_put(p[MIDDLE]);
	abuse_set(p[MIDDLE], byte, size);
	p[MIDDLE] = NULL;
	put_all(p, kind);
}

static const struct abuse_action actions[] = {
	{"overflow-1", overflow, 1},
	{"overflow-8", overflow, 8},
	{"overflow-40", overflow, 40},
	{"overflow-of-all-32", overflow_of_all, 32},
	{"overflow-into-free-1", overflow_into_free, 1},
	{"overflow-into-free-48", overflow_into_free, 48},
	{"underflow-1", underflow, 1},
	{"underflow-16", underflow, 16},
	{"underflow-48", underflow, 48},
	{"underflow-into-free-16", underflow_into_free, 16},
	{"underflow-and-resize-24", underflow_and_resize, 24},
	{"swapped-32", swapped, 32},
	{"write-after-free", write_after_free, 0x41},
};

const struct abuse_suite abuse_overwrite =
	ABUSE_SUITE("overwrite", actions, kinds, false);
