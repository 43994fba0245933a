/* SPDX-License-Identifier: MIT */
/*
 * check_overwrite.c - headers that a program has written over: whatever field
 * and bit, the operations that touch the block report it and stop.
 *
 * White box: the fields are those of block.h. The heap is prepared in the
 * test, the header spoilt and touched in a child of it.
 */
#include <config.h>

#include "block.h"
#include "child.h"
#include "misuse.h"
#include "must.h"
#include "suite.h"

#include <check.h>
#include <osmem.h>
#include <signal.h>
#include <string.h>

/* os_free of what is used afterwards: the compiler must not see it. */
static void (*volatile give_back)(void *p) = os_free;

/* Each word of a header, with bits of it that are flipped. */
static const struct {
	size_t offset;
	size_t size;
	uint64_t flip;
} spoils[] = {
	{offsetof(struct block_meta, size), sizeof(size_t), 8},
	{offsetof(struct block_meta, size), sizeof(size_t), 1},
	{offsetof(struct block_meta, size), sizeof(size_t), 4096},
	{offsetof(struct block_meta, size), sizeof(size_t),
	 (uint64_t)1 << (8 * sizeof(size_t) - 1)},
	{offsetof(struct block_meta, size), sizeof(size_t), UINT64_MAX},
	{offsetof(struct block_meta, status), sizeof(int), 1},
	{offsetof(struct block_meta, status), sizeof(int), 2},
	{offsetof(struct block_meta, status), sizeof(int), 4},
	{offsetof(struct block_meta, status), sizeof(int), 0x80000000},
	{offsetof(struct block_meta, seal), sizeof(uint32_t), 1},
	{offsetof(struct block_meta, seal), sizeof(uint32_t), 0x80000000},
	{offsetof(struct block_meta, seal), sizeof(uint32_t), 0xffffffff},
	{offsetof(struct block_meta, prev), sizeof(void *), 8},
	{offsetof(struct block_meta, prev), sizeof(void *), 0x10000},
	{offsetof(struct block_meta, prev), sizeof(void *), UINT64_MAX},
	{offsetof(struct block_meta, next), sizeof(void *), 8},
	{offsetof(struct block_meta, next), sizeof(void *), 0x10000},
	{offsetof(struct block_meta, next), sizeof(void *), UINT64_MAX},
};

enum { SPOILS = sizeof(spoils) / sizeof(spoils[0]) };

static struct block_meta *header(void *p)
{
	void *volatile payload = p;

	return osmem_block_of(payload);
}

/* Flipping twice restores. */
static void flip(void *p, size_t which)
{
	unsigned char *at = (unsigned char *)header(p) + spoils[which].offset;
	uint64_t flipped = spoils[which].flip;
	size_t i;

	for (i = 0; i < spoils[which].size; i++, flipped >>= 8)
		at[i] ^= (unsigned char)flipped;
}

/* Spoils the header of p in all ways; touch() must be stopped each time. */
static void spoil(void *p, const char *what, void (*touch)(void *arg),
		  void *arg)
{
	struct misuse_report report = {
		.what = what,
		.block = p,
		.any_size = true,
	};
	size_t i;

	for (i = 0; i < SPOILS; i++) {
		flip(p, i);
		MUST(os_heap_check() > 0);
		misuse_expect_in(touch, arg, &report);
		flip(p, i);
		MUST_EQ(os_heap_check(), 0);
	}
}

/* --- the block itself --- */

static void spoil_own(void *p)
{
	struct misuse_report report = {
		.what = MISUSE_BROKEN,
		.block = p,
		.any_size = true,
	};
	size_t i;

	for (i = 0; i < SPOILS; i++) {
		flip(p, i);
		misuse_expect_by_all(p, &report, MISUSE_ALL);
		flip(p, i);
	}
	MUST_EQ(os_heap_check(), 0);
}

START_TEST(own_header)
{
	char *first = os_malloc(100);
	char *middle = os_malloc(64);
	char *last = os_malloc(50000);

	spoil_own(first);
	spoil_own(middle);
	spoil_own(last);
	os_free(first);
	os_free(middle);
	os_free(last);
}
END_TEST

START_TEST(own_header_of_an_aligned_block)
{
	char *p = os_aligned_alloc(1024, 100);
	char *large = os_aligned_alloc(65536, 200000);

	spoil_own(p);
	spoil_own(large);
	os_free(large);
	os_free(p);
}
END_TEST

START_TEST(own_header_of_a_mapped_block)
{
	char *p = os_malloc(200000);

	spoil_own(p);
	os_free(p);
}
END_TEST

/* --- the neighbours --- */

static void allocate_100(void *unused)
{
	(void)unused;
	MUST(os_malloc(100) != NULL);
}

static void allocate_60000(void *unused)
{
	(void)unused;
	MUST(os_malloc(60000) != NULL);
}

static void free_and_allocate(void *p)
{
	os_free(p);
	allocate_100(NULL);
}

static void grow(void *p)
{
	MUST(os_realloc(p, 5000) != NULL);
}

/* Freed, not merged yet: the next search looks at it. */
START_TEST(a_freed_block)
{
	char *p = os_malloc(1000);
	char *q = os_malloc(1000);
	void *guard = os_malloc(1000);

	(void)p;
	give_back(q);
	spoil(q, MISUSE_NEIGHBOUR, allocate_100, NULL);
	/* Its neighbour in front would take it in. */
	spoil(q, MISUSE_NEIGHBOUR, grow, p);
	give_back(guard);
}
END_TEST

/* Merged and waiting: the search that takes it looks at it. */
START_TEST(a_free_block_that_is_taken)
{
	char *p = os_malloc(1000);
	char *q = os_malloc(60000);
	void *guard = os_malloc(1000);

	(void)p;
	give_back(q);
	MUST(os_malloc(10000) == q);
	give_back(q);
	guard = os_realloc(guard, 2000);
	spoil(q, MISUSE_NEIGHBOUR, allocate_60000, NULL);
	give_back(guard);
}
END_TEST

/* A live block behind a free one, whose link back changes when that merges. */
START_TEST(a_live_block_behind_a_merge)
{
	char *p = os_malloc(1000);
	char *q = os_malloc(1000);
	char *r = os_malloc(1000);

	give_back(p);
	spoil(r, MISUSE_NEIGHBOUR, free_and_allocate, q);
	give_back(r);
}
END_TEST

/* A free block in front of one that is freed. */
START_TEST(a_free_block_before_a_merge)
{
	char *p = os_malloc(1000);
	char *q = os_malloc(1000);
	char *r = os_malloc(1000);
	char *s;

	give_back(p);
	s = os_malloc(60000); /* merges: p waits, ready */
	spoil(p, MISUSE_NEIGHBOUR, free_and_allocate, q);
	give_back(r);
	give_back(s);
}
END_TEST

/* The last block, when the heap grows. */
START_TEST(the_last_block)
{
	char *p = os_malloc(100000);
	char *q = os_malloc(30976);

	MUST((char *)header(p) + OSMEM_PREALLOC ==
	     q + os_malloc_usable_size(q));
	spoil(q, MISUSE_NEIGHBOUR, allocate_100, NULL);
	os_free(p);
}
END_TEST

/* What usually happens: a loop that runs too far. */
static void overrun(void *p)
{
	memset(p, 'A', 1000 + 40);
	MUST(os_heap_check() > 0);
	os_free(p);
	/* Splits the block, so that the next one has a new neighbour. */
	allocate_100(NULL);
}

START_TEST(an_overrun)
{
	char *p = os_malloc(1000);
	char *q = os_malloc(1000);
	struct child child;

	if (q != p + 1000 + OSMEM_META)
		return; /* another alignment */
	child_run(&child, overrun, p);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, MISUSE_NEIGHBOUR) != NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("overwrite");
	TCase *tcase = tcase_create("overwrite");

	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, own_header);
	tcase_add_test(tcase, own_header_of_an_aligned_block);
	tcase_add_test(tcase, own_header_of_a_mapped_block);
	tcase_add_test(tcase, a_freed_block);
	tcase_add_test(tcase, a_free_block_that_is_taken);
	tcase_add_test(tcase, a_live_block_behind_a_merge);
	tcase_add_test(tcase, a_free_block_before_a_merge);
	tcase_add_test(tcase, the_last_block);
	tcase_add_test(tcase, an_overrun);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
