/* SPDX-License-Identifier: MIT */
/*
 * check_slab.c - mode fast: slots, and misuse of slots.
 *
 * White box: links the core library. The test process chooses the mode before
 * its first allocation, and Check runs each test in a fork of it.
 */
#include "must.h"
#include "stats_now.h"
#include "suite.h"

#include "class.h"
#include "slab_remote.h"
#include "thread.h"

#include "child.h"

#include <check.h>
#include <errno.h>
#include <osmem.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void *volatile hidden;

START_TEST(slots_serve_all_sizes_below_the_threshold)
{
	size_t size;

	for (size = 1; size <= 131040; size += size < 2048 ? 1 : 509) {
		unsigned char *p = os_malloc(size);
		size_t usable = os_malloc_usable_size(p);

		MUST(p != NULL && osmem_slab_of(p) != NULL);
		MUST_EQ(usable, osmem_class_size(osmem_class_of(size)));
		MUST_EQ((uintptr_t)p % 16, 0);
		memset(p, 0xee, usable);
		os_free(p);
		p = os_calloc(1, size);
		MUST(p[0] == 0 && p[size - 1] == 0 && p[size / 2] == 0);
		os_free_sized(p, size);
	}
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

START_TEST(aligned_slots)
{
	size_t alignment;
	size_t size;

	for (alignment = 16; alignment <= 65536; alignment *= 2)
		for (size = 1; size < 40000; size = size * 3 + 1) {
			void *p = os_aligned_alloc(alignment, size);

			MUST(p != NULL && (uintptr_t)p % alignment == 0);
			memset(p, 1, size);
			os_free_aligned_sized(p, alignment, size);
		}
}
END_TEST

START_TEST(realloc_keeps_contents_between_all_kinds)
{
	size_t size = 1;
	unsigned char *p = os_malloc(size);
	int step;

	p[0] = 7;
	for (step = 0; step < 60; step++) {
		size_t next = step % 3 == 2 ? size / 2 + 1 : size * 2 + 5;
		size_t kept = next < size ? next : size;
		size_t i;

		p = os_realloc(p, next);
		MUST(p != NULL);
		for (i = 0; i < kept; i++)
			MUST_EQ(p[i], 7);
		memset(p, 7, next);
		size = next;
		if (size > 1000000)
			size = 1;
	}
	os_free(p);
}
END_TEST

/* The reciprocal's answer is a division's, for each offset of each class. */
START_TEST(only_starts_of_carved_slots_are_slots)
{
	unsigned int class;

	for (class = 0; class < OSMEM_CLASSES; class++) {
		size_t size = osmem_class_size(class);
		void *p = os_malloc(size < 131040 ? size : 131040);
		struct osmem_slab *s = osmem_slab_of(p);
		size_t end = s->units * OSMEM_UNIT;
		size_t wrong = 0;
		size_t i;

		for (i = 0; i < end; i++)
			wrong += osmem_slab_is_slot(s, s->start + i) !=
				 (i < osmem_slab_carved(s) && i % s->size == 0);
		MUST_EQ(wrong, 0);
		os_free(p);
	}
}
END_TEST

static void expect_and_free(void **blocks, size_t count)
{
	size_t i;

	MUST_EQ(os_heap_check(), 0);
	for (i = 0; i < count; i++) {
		MUST_EQ(*(unsigned char *)blocks[i], i % 256);
		os_free(blocks[i]);
	}
	MUST_EQ(os_heap_check(), 0);
}

/* As many as there may be pieces to keep account of, in every spacing. */
START_TEST(slabs_of_every_class_fill_and_empty)
{
	enum { MOST = 6000 };
	static void *blocks[MOST];
	unsigned int class;
	size_t count, i;

	for (class = 0; class < OSMEM_CLASSES; class++) {
		size_t size = osmem_class_size(class);
		struct osmem_slab *s = NULL;

		if (size > OSMEM_UNIT)
			break;
		for (count = 0; count < MOST; count++) {
			blocks[count] = os_malloc(size);
			memset(blocks[count], (int)count, size);
			s = osmem_slab_of(blocks[count]);
			if ((char *)blocks[count] + size == s->start + s->most)
				break;
		}
		MUST(s->units == 1 || s->most / size <= OSMEM_SLAB_PIECES);
		expect_and_free(blocks, count + 1);
		for (i = 0; i < count; i++)
			memset(blocks[i] = os_malloc(size), (int)i, size);
		expect_and_free(blocks, count);
	}
}
END_TEST

static void free_twice(void *p)
{
	hidden = p;
	os_free(hidden);
	os_free(hidden);
}

static void free_inside(void *p)
{
	hidden = (char *)p + 8;
	os_free(hidden);
}

static void free_not_carved(void *p)
{
	struct osmem_slab *s = osmem_slab_of(p);

	hidden = s->start + s->most - s->size;
	os_free(hidden);
}

static void free_sized_twice(void *p)
{
	size_t size = os_malloc_usable_size(p);

	hidden = p;
	os_free_sized(hidden, size);
	os_free_sized(hidden, size);
}

static void free_as_half(void *p)
{
	os_free_sized(p, os_malloc_usable_size(p) / 2 - 8);
}

static void free_as_more(void *p)
{
	os_free_sized(p, os_malloc_usable_size(p) + 1);
}

static void free_as_nothing(void *p)
{
	os_free_sized(p, 0);
}

static void expect_abort(void (*misuse)(void *), void *p, const char *text)
{
	struct child child;

	child_run(&child, misuse, p);
	if (!child_was_killed_by(&child, SIGABRT) ||
	    strstr(child.text, text) == NULL)
		child_show(&child);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, text) != NULL);
	MUST(strstr(child.text, "inside an allocation") == NULL);
}

START_TEST(misuse_is_reported)
{
	static const size_t sizes[] = {8, 16, 40, 1000, 20000, 100000};
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		void *p = os_malloc(sizes[i]);

		expect_abort(free_twice, p, "double free");
		expect_abort(free_inside, p, "inside a block");
		expect_abort(free_not_carved, p, "invalid pointer");
		hidden = p;
		os_free(p);
		errno = 0;
		MUST(os_realloc(hidden, 10) == NULL && errno == EINVAL);
		expect_abort(free_inside, hidden,
			     "bytes, free; the pointer is");
	}
}
END_TEST

static void expect_sized_misuse(void *p)
{
	size_t size = os_malloc_usable_size(p);

	expect_abort(free_sized_twice, p, "double free");
	expect_abort(free_as_more, p, "wrong size");
	expect_abort(free_as_nothing, p, "wrong size");
	if (size > 16)
		expect_abort(free_as_half, p, "wrong size");
	os_free_sized(p, size > 16 ? size / 2 : 1);
}

static void *allocate(void *size)
{
	return os_malloc(*(size_t *)size);
}

/* Of the thread's own slabs, and of one's that has ended. */
START_TEST(sized_frees_look_at_the_size)
{
	size_t sizes[] = {8, 16, 40, 1000, 20000, 100000};
	pthread_t thread;
	void *p;
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		expect_sized_misuse(os_malloc(sizes[i]));
		if (!OSMEM_CONF_THREADS)
			continue;
		MUST(pthread_create(&thread, NULL, allocate, &sizes[i]) == 0);
		MUST(pthread_join(thread, &p) == 0);
		expect_sized_misuse(p);
	}
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* How often a block moves that grows from 100 to 10,000 bytes by step. */
static unsigned int moves(size_t step)
{
	unsigned int count = 0;
	size_t size;
	char *p = os_malloc(100);
	char *q;

	for (size = 100; size < 10000; size += step, p = q) {
		q = os_realloc(p, size);
		MUST(q != NULL);
		count += q != p;
	}
	os_free(p);
	return count;
}

/* From one slot to that for so many bytes. */
static void resize(size_t old, size_t size, size_t room)
{
	char *p = os_realloc(os_malloc(old), size);

	MUST_EQ(os_malloc_usable_size(p),
		osmem_class_size(osmem_class_of(room)));
	os_free(p);
}

/* With slots at hand, by a quarter: 1.25^20 is 87; by classes it would be 50 */
START_TEST(what_grows_by_little_gets_room)
{
	void *slots[OSMEM_CLASSES];
	unsigned int count = osmem_class_of(16384);
	size_t old = osmem_class_size(osmem_class_of(1024));
	unsigned int class;

	for (class = 0; class < count; class++)
		slots[class] = os_malloc(osmem_class_size(class));
	for (class = 0; class < count; class++)
		os_free(slots[class]);
	MUST(moves(8) <= 24);
	resize(old, old + old / 8, (old + old / 8) * 5 / 4);
	resize(old, old + old / 8 + 1, old + old / 8 + 1);
	resize(old, old / 2 - 1, old / 2 - 1);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* The lock of the thread is held when this is seen. */
static void on_abort(int number)
{
	char *p = os_malloc(5000);

	(void)number;
	MUST(p != NULL);
	memset(p, 1, 5000);
	os_free(os_calloc(1, 100));
	os_free(p);
	dprintf(STDERR_FILENO, "the handler is through\n");
}

/* What is in the bins is not looked at, what comes back to the slabs is. */
static void write_after_free(void *p)
{
	void *blocks[3000];
	size_t size = os_malloc_usable_size(p);
	size_t i;

	signal(SIGABRT, on_abort);
	for (i = 0; i < 3000; i++)
		blocks[i] = os_malloc(size);
	for (i = 0; i < 3000; i++)
		os_free(blocks[i]);
	for (i = 0; i < 3000; i += 5)
		((char **)blocks[i])[i % 2] = (char *)p + 8;
	for (i = 0; i < 3000; i++)
		MUST(os_malloc(size) != (char *)p + 8);
}

START_TEST(what_is_written_into_free_slots_leads_nowhere)
{
	static const size_t sizes[] = {16, 64, 100, 500};
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		expect_abort(write_after_free, os_malloc(sizes[i]),
			     "the handler is through");
}
END_TEST

/* Every operation of the thread reaches the slabs, and none its bins. */
START_TEST(the_door_can_be_shut)
{
	struct osmem_thread *t;
	unsigned int class = osmem_class_of(100);
	void *before = os_malloc(100);
	void *p;
	int i;

	t = osmem_thread_self;
	MUST(t->top[class] != t->bin[class]);
	osmem_thread_shut(true);
	os_free(before);
	for (i = 0; i < 1000; i++) {
		p = os_malloc(100);
		MUST(osmem_slab_of(p) != NULL);
		MUST(t->top[class] == t->bin[class]);
		os_free(p);
		MUST(t->top[class] == t->bin[class]);
	}
	osmem_thread_shut(false);
	os_free(os_malloc(100));
	MUST(t->top[class] != t->bin[class]);
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* What one class has left the next one uses before there is more of it. */
START_TEST(a_spent_slab_serves_any_class)
{
	enum { COUNT = 20000 };
	static void *blocks[COUNT];
	size_t bytes;
	size_t size;
	int i;

	os_malloc_trim(0);
	bytes = stats_now().slab_bytes + COUNT * 64 * 9 / 8;
	for (size = 64; size >= 16; size -= 16) {
		for (i = 0; i < COUNT; i++)
			blocks[i] = os_malloc(size);
		MUST(stats_now().slab_bytes <= bytes);
		for (i = 0; i < COUNT; i++)
			os_free(blocks[i]);
	}
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* How many units a new slab has while so many in a row have memory. */
static size_t units_of_new(unsigned int class, size_t row, bool *dirty)
{
	struct osmem_slab *s;
	size_t units;
	size_t first;
	size_t other;

	os_malloc_trim(0);
	osmem_lock(&osmem_core_lock);
	if (row != 0) {
		MUST(osmem_region_take(row, &first, dirty));
		MUST(osmem_region_take(1, &other, dirty));
		osmem_region_give(first, row);
	}
	MUST_EQ(osmem_region_longest_dirty(), row);
	s = osmem_slab_new(class, NULL);
	MUST(s != NULL);
	MUST(s->most >= s->size && s->most <= s->units * OSMEM_UNIT);
	units = s->units;
	*dirty = s->dirty;
	osmem_slab_delete(s);
	if (row != 0)
		osmem_region_give(other, 1);
	osmem_unlock(&osmem_core_lock);
	return units;
}

/* The most units of a row of which slots waste at most a 12th; 0 for none. */
static size_t fitting(size_t size, size_t row)
{
	while (row * OSMEM_UNIT >= size &&
	       row * OSMEM_UNIT % size * 12 > row * OSMEM_UNIT)
		row--;
	return row * OSMEM_UNIT >= size ? row : 0;
}

START_TEST(a_slab_takes_the_memory_at_hand)
{
	const size_t sizes[] = {1000, OSMEM_UNIT / 4, OSMEM_UNIT,
				OSMEM_UNIT + 1};
	size_t usual, units, row, i;
	bool dirty;

	/* So that there are slabs. */
	os_free(os_malloc(1));
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned int class = osmem_class_of(sizes[i]);

		usual = units_of_new(class, 0, &dirty);
		for (row = 1; row < usual + 2; row++) {
			units = row > usual ? usual :
				fitting(osmem_class_size(class), row);
			MUST_EQ(units_of_new(class, row, &dirty),
				units != 0 ? units : usual);
			MUST(dirty == (units != 0));
		}
	}
	MUST_EQ(os_heap_check(), 0);
}
END_TEST

/* None of the last size is for nothing. */
enum {
	LARGE_THREADS = 4,
	LARGE_LEAST = 1024,
	LARGE_MOST = 20000,
	LARGE_NONE = 40000
};

static pthread_barrier_t large_filled;

static void use_large_bins(size_t size, int count)
{
	void *blocks[64];
	int i;

	for (i = 0; i < count; i++)
		blocks[i] = os_malloc(size);
	for (i = 0; i < count; i++)
		os_free(blocks[i]);
}

static void *fill_large_bins(void *barrier)
{
	size_t size;

	for (size = LARGE_LEAST; size < LARGE_MOST; size += size / 4)
		use_large_bins(size, 64);
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return NULL;
}

static void expect_a_large_bin(void *unused)
{
	unsigned int class = osmem_class_of(LARGE_NONE);

	(void)unused;
	use_large_bins(LARGE_NONE, 8);
	MUST(osmem_thread_self->end[class] > osmem_thread_self->bin[class]);
}

/* All bins of large slots have one bound: the lost threads' must not count. */
START_TEST(a_child_has_large_bins_again)
{
	pthread_t threads[LARGE_THREADS];
	struct child child;
	size_t i;

	if (!OSMEM_CONF_THREADS)
		return;
	pthread_barrier_init(&large_filled, NULL, LARGE_THREADS + 1);
	for (i = 0; i < LARGE_THREADS; i++)
		MUST_EQ(pthread_create(&threads[i], NULL, fill_large_bins,
				       &large_filled), 0);
	pthread_barrier_wait(&large_filled);
	child_run(&child, expect_a_large_bin, NULL);
	if (!child_succeeded(&child))
		child_show(&child);
	MUST(child_succeeded(&child));
	pthread_barrier_wait(&large_filled);
	for (i = 0; i < LARGE_THREADS; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

static int count_used(const struct os_block *block, void *arg)
{
	size_t *used = arg;

	if (block->state == OS_BLOCK_USED && osmem_slab_of(block->ptr) != NULL)
		used[0]++;
	if ((uintptr_t)block->ptr <= used[1])
		used[2]++;
	used[1] = (uintptr_t)block->ptr;
	return 0;
}

START_TEST(walk_and_statistics_see_slots)
{
	struct os_stats stats = { .struct_size = sizeof(stats) };
	size_t seen[3] = {0, 0, 0};
	void *p = os_malloc(100);
	void *q = os_malloc(300000);

	MUST_EQ(os_stats(&stats), 0);
	MUST_EQ(os_heap_walk(count_used, seen), 0);
	MUST_EQ(seen[0], stats.slab_used_blocks);
	MUST_EQ(seen[2], 0);
	MUST(stats.slab_used_bytes >= 112);
	MUST(stats.slab_bytes >= stats.slab_used_bytes);
	os_free(p);
	os_free(q);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab");
	TCase *tcase = tcase_create("slab");

	MUST_EQ(os_mallopt(OS_M_MODE, OS_MODE_FAST), 1);
	tcase_set_timeout(tcase, 120);
	tcase_add_test(tcase, slots_serve_all_sizes_below_the_threshold);
	tcase_add_test(tcase, aligned_slots);
	tcase_add_test(tcase, realloc_keeps_contents_between_all_kinds);
	tcase_add_test(tcase, what_grows_by_little_gets_room);
	tcase_add_test(tcase, only_starts_of_carved_slots_are_slots);
	tcase_add_test(tcase, slabs_of_every_class_fill_and_empty);
	tcase_add_test(tcase, misuse_is_reported);
	tcase_add_test(tcase, sized_frees_look_at_the_size);
	tcase_add_test(tcase, what_is_written_into_free_slots_leads_nowhere);
	tcase_add_test(tcase, the_door_can_be_shut);
	tcase_add_test(tcase, a_spent_slab_serves_any_class);
	tcase_add_test(tcase, a_slab_takes_the_memory_at_hand);
	tcase_add_test(tcase, a_child_has_large_bins_again);
	tcase_add_test(tcase, walk_and_statistics_see_slots);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
