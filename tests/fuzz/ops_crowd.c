/* SPDX-License-Identifier: MIT */
/*
 * ops_crowd.c - very many small blocks, for tables that grow and space that is
 * torn. Of each only the first bytes are looked at.
 */
#include <config.h>

#include "ops.h"

#include <osmem.h>

enum {
	OPS_CROWD = 1 << 14,
	OPS_CROWD_BYTES = 8 << 20, /* of those that come at once */
	OPS_CROWD_STEP = 64
};

static unsigned int *ops_crowd[OPS_CROWD]; /* points to its number */

static unsigned int ops_crowd_count;

static void ops_drop_crowd(unsigned int i)
{
	ops_crowd[i] = NULL;
	ops_count_others(-1);
	ops_crowd_count--;
}

static void ops_leave_crowd(unsigned int i)
{
	unsigned int *p = ops_crowd[i];

	if (p == NULL)
		return;
	FUZZ_MUST(*p == i, "block %u is %u", i, *p);
	ops_drop_crowd(i);
	os_free(p);
}

static bool ops_join_crowd(unsigned int i, size_t size)
{
	unsigned int *p = os_malloc(size);

	if (ops_is_refused(p, size))
		return false;
	*p = i;
	ops_crowd[i] = p;
	ops_count_others(1);
	ops_crowd_count++;
	return true;
}

bool ops_is_crowded(void)
{
	return ops_crowd_count != 0;
}

/* Some come, all of about one size. To look at them all the time is slow. */
void ops_do_crowd(struct fuzz_input *in)
{
	unsigned int count = (fuzz_byte(in) + 1) * OPS_CROWD_STEP;
	size_t size = fuzz_bytes(in, 2) % 4096 + sizeof(int), bytes = 0;

	ops_set(OS_M_CHECK, 0);
	for (unsigned int i = 0; i < OPS_CROWD && count > 0; i++) {
		size_t n = size + i % 64;

		if (ops_crowd[i] != NULL)
			continue;
		bytes += n;
		if (bytes > OPS_CROWD_BYTES || !ops_join_crowd(i, n))
			return;
		count--;
	}
}

/* Every so many go. */
void ops_do_disperse(struct fuzz_input *in)
{
	unsigned int first = fuzz_byte(in), step = fuzz_byte(in) + 1;

	for (unsigned int i = first; i < OPS_CROWD; i += step)
		ops_leave_crowd(i);
}

/* One that is cut in two may have no room for its number. */
void ops_lose_crowd(char *low, char *end)
{
	for (unsigned int i = 0; i < OPS_CROWD; i++) {
		unsigned int *p = ops_crowd[i];

		if (p == NULL || (char *)p >= end)
			continue;
		if (ops_is_lost(p, low, end)) {
			ops_drop_crowd(i);
		} else if (os_malloc_usable_size(p) < sizeof(*p)) {
			ops_drop_crowd(i);
			os_free(p);
		}
	}
}

bool ops_is_in_crowd(const void *p)
{
	for (unsigned int i = 0; i < OPS_CROWD; i++)
		if (ops_crowd[i] == p)
			return true;
	return false;
}

void ops_end_crowd(void)
{
	for (unsigned int i = 0; i < OPS_CROWD; i++)
		ops_leave_crowd(i);
}
