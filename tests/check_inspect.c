/* SPDX-License-Identifier: MIT */
/*
 * check_inspect.c - statistics, walking, checking, version and info.
 *
 * White box where a broken invariant must be planted. What is printed is read
 * back through a file; JSON is parsed by a small parser of the test's own.
 */
#include <config.h>

#include "block.h"
#include "child.h"
#include "must.h"
#include "suite.h"
#include "workload.h"

#include <check.h>
#include <ctype.h>
#include <fcntl.h>
#include <osmem.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct os_stats stats_now(void)
{
	struct os_stats stats;

	memset(&stats, 0xee, sizeof(stats));
	stats.struct_size = sizeof(stats);
	MUST(os_stats(&stats) == 0);
	MUST_EQ(stats.struct_size, sizeof(stats));
	return stats;
}

/* --- os_stats --- */

START_TEST(stats_count_blocks)
{
	struct os_stats before = stats_now();
	struct os_stats stats;
	void *p;
	void *q;
	void *large;

	MUST(before.heap_bytes == 0 && before.mapped_blocks == 0);
	p = os_malloc(1000);
	q = os_malloc(2000);
	large = os_malloc(200000);
	stats = stats_now();
	MUST_EQ(stats.heap_used_blocks, 2);
	MUST_EQ(stats.heap_used_bytes,
		osmem_up(1000, OSMEM_ALIGN) + osmem_up(2000, OSMEM_ALIGN));
	MUST_EQ(stats.heap_stretches, 1);
	MUST_EQ(stats.heap_free_blocks, 1);
	MUST_EQ(stats.heap_bytes,
		stats.heap_used_bytes + stats.heap_free_bytes + 3 * OSMEM_META);
	MUST_EQ(stats.mapped_blocks, 1);
	MUST_EQ(stats.mapped_bytes, osmem_up(200000, OSMEM_ALIGN) + OSMEM_META);
	MUST(stats.maps == 1 && stats.unmaps == 0 && stats.failures == 0);
	MUST_EQ(stats.growths, 1);
	MUST(stats.table_bytes > 0);
	os_free(p);
	os_free(q);
	os_free(large);
	stats = stats_now();
	MUST_EQ(stats.heap_used_blocks, 0);
	MUST_EQ(stats.heap_used_bytes, 0);
	MUST_EQ(stats.heap_free_blocks, 3); /* nothing was merged */
	MUST(stats.mapped_blocks == 0 && stats.mapped_bytes == 0);
	MUST_EQ(stats.unmaps, 1);
}
END_TEST

START_TEST(operations_are_counted_if_configured)
{
	struct os_stats stats;
	void *p = os_malloc(10);

	p = os_realloc(p, 20);
	os_free(p);
	os_free(os_calloc(3, 10));
	os_free(os_aligned_alloc(64, 40));
	stats = stats_now();
	MUST_EQ(stats.mallocs, OSMEM_CONF_STATS ? 1 : 0);
	MUST_EQ(stats.reallocs, OSMEM_CONF_STATS ? 1 : 0);
	MUST_EQ(stats.callocs, OSMEM_CONF_STATS ? 1 : 0);
	MUST_EQ(stats.aligned, OSMEM_CONF_STATS ? 1 : 0);
	MUST_EQ(stats.frees, OSMEM_CONF_STATS ? 3 : 0);
	MUST_EQ(stats.requested_bytes, OSMEM_CONF_STATS ? 100 : 0);
}
END_TEST

START_TEST(stats_serve_older_and_newer_programs)
{
	struct {
		struct os_stats stats;
		unsigned char later[64];
	} newer;
	struct os_stats older;
	unsigned char pattern[64];
	size_t least = offsetof(struct os_stats, heap_used_bytes);
	size_t size;

	memset(pattern, 0xee, sizeof(pattern));
	memset(&newer, 0xee, sizeof(newer));
	newer.stats.struct_size = sizeof(newer);
	MUST(os_stats(&newer.stats) == 0);
	MUST_EQ(newer.stats.struct_size, sizeof(newer.stats));
	MUST(memcmp(newer.later, pattern, sizeof(pattern)) == 0);

	memset(&older, 0xee, sizeof(older));
	size = offsetof(struct os_stats, growths);
	older.struct_size = size;
	MUST(os_stats(&older) == 0);
	MUST_EQ(older.struct_size, size);
	MUST_EQ(older.mapped_bytes, 0);
	MUST(memcmp(&older.growths, pattern, sizeof(older.growths)) == 0);

	older.struct_size = least;
	MUST(os_stats(&older) == 0);
	for (size = 0; size < least; size++) {
		memset(&older, 0xee, sizeof(older));
		older.struct_size = size;
		errno = 0;
		MUST(os_stats(&older) == -1 && errno == EINVAL);
		MUST_EQ(older.struct_size, size);
		MUST(memcmp(&older.heap_bytes, pattern, 8) == 0);
	}
}
END_TEST

/* --- printing --- */

/* A JSON value at *s; moves *s behind it. Only what the library prints. */
static bool json_value(const char **s, int depth);

static void json_blank(const char **s)
{
	while (isspace((unsigned char)**s))
		(*s)++;
}

static bool json_char(const char **s, char c)
{
	json_blank(s);
	if (**s != c)
		return false;
	(*s)++;
	return true;
}

static bool json_string(const char **s)
{
	if (!json_char(s, '"'))
		return false;
	while (**s != '"' && **s != '\\' && (unsigned char)**s >= ' ')
		(*s)++;
	return *(*s)++ == '"';
}

/* The inside of an object or an array, up to its end. */
static bool json_members(const char **s, char end, int depth)
{
	if (json_char(s, end))
		return true;
	do {
		if (end == '}' && !(json_string(s) && json_char(s, ':')))
			return false;
		if (!json_value(s, depth - 1))
			return false;
	} while (json_char(s, ','));
	return json_char(s, end);
}

static bool json_value(const char **s, int depth)
{
	char *end;

	json_blank(s);
	if (depth == 0)
		return false;
	if (json_char(s, '{'))
		return json_members(s, '}', depth);
	if (json_char(s, '['))
		return json_members(s, ']', depth);
	if (**s == '"')
		return json_string(s);
	if (!isdigit((unsigned char)**s))
		return false;
	strtoull(*s, &end, 10);
	*s = end;
	return true;
}

static bool json_is_valid(const char *s)
{
	if (!json_value(&s, 8))
		return false;
	json_blank(&s);
	return *s == '\0';
}

static char printed[8192];

/* What fn(fd, argument) prints. */
static const char *print_of(int (*fn)(int fd, int argument), int argument)
{
	int fd = memfd_create("osmem-test", 0);
	ssize_t n;

	MUST(fd >= 0);
	MUST(fn(fd, argument) == 0);
	n = pread(fd, printed, sizeof(printed) - 1, 0);
	MUST(n > 0);
	printed[n] = '\0';
	close(fd);
	return printed;
}

static int info_to(int fd, int unused)
{
	(void)unused;
	return os_info_print(fd);
}

/* Whether the text has a number behind name and separator, and that one. */
static bool shows(const char *text, const char *name, unsigned long long value)
{
	char line[100];

	snprintf(line, sizeof(line), "%s: %llu", name, value);
	return strstr(text, line) != NULL;
}

START_TEST(json_is_json)
{
	void *p = os_malloc(1000);
	struct os_stats stats = stats_now();
	const char *text = print_of(os_stats_print, OS_STATS_JSON);

	MUST(json_is_valid(text));
	MUST(shows(text, "\"heap_bytes\"", stats.heap_bytes));
	MUST(shows(text, "\"heap_used_blocks\"", 1));
	MUST(shows(text, "\"heap_used_bytes\"", stats.heap_used_bytes));
	MUST(shows(text, "\"heap_free_bytes\"", stats.heap_free_bytes));
	MUST(shows(text, "\"table_bytes\"", stats.table_bytes));
	MUST(shows(text, "\"growths\"", 1));
	MUST((strstr(text, "\"mallocs\"") != NULL) == (OSMEM_CONF_STATS != 0));
	os_free(p);
}
END_TEST

START_TEST(the_parser_sees_faults)
{
	MUST(json_is_valid(
		"{\"a\": 1, \"b\": [{\"c\": \"d\"}, 2], \"e\": []}"));
	MUST(!json_is_valid("{\"a\": 1,}"));
	MUST(!json_is_valid("{\"a\": 1"));
	MUST(!json_is_valid("{\"a\" 1}"));
	MUST(!json_is_valid("{\"a\": }"));
	MUST(!json_is_valid("{\"a\": 1} x"));
	MUST(!json_is_valid("[1 2]"));
}
END_TEST

START_TEST(text_is_lines)
{
	void *p = os_malloc(200000);
	struct os_stats stats = stats_now();
	const char *text = print_of(os_stats_print, OS_STATS_TEXT);

	MUST(strncmp(text, "libosmem 0.1.0 statistics\n", 26) == 0);
	MUST(shows(text, "\nmapped_blocks", 1));
	MUST(shows(text, "\nmapped_bytes", stats.mapped_bytes));
	MUST(shows(text, "\nfailures", 0));
	os_free(p);
}
END_TEST

START_TEST(printing_says_when_it_fails)
{
	int full = open("/dev/full", O_WRONLY);

	errno = 0;
	MUST(os_stats_print(2, 2) == -1 && errno == EINVAL);
	errno = 0;
	MUST(os_stats_print(2, -1) == -1 && errno == EINVAL);
	errno = 0;
	MUST(os_stats_print(-1, OS_STATS_TEXT) == -1 && errno == EBADF);
	errno = 0;
	MUST(os_stats_print(-1, OS_STATS_JSON) == -1 && errno == EBADF);
	errno = 0;
	MUST(os_info_print(-1) == -1 && errno == EBADF);
	if (full < 0)
		return;
	errno = 0;
	MUST(os_stats_print(full, OS_STATS_TEXT) == -1 && errno == ENOSPC);
	errno = 0;
	MUST(os_info_print(full) == -1 && errno == ENOSPC);
	close(full);
}
END_TEST

START_TEST(info_names_version_and_options)
{
	static const char *const keys[] = {
		"mode",  "die",       "warn",       "break",      "check",
		"stats", "hot_after", "grow_after", "cache_after",
		"foreign", "sites",      "harden",     "deepbind",  "purger"};
	const char *text = print_of(info_to, 0);
	size_t i;

	MUST(strcmp(os_version(), OSMEM_VERSION) == 0);
	MUST(strncmp(text, "libosmem " OSMEM_VERSION, 14) == 0);
	MUST(strstr(text, "page size: ") != NULL);
	MUST(strstr(text, "alignment ") != NULL);
	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		MUST(strstr(text, keys[i]) != NULL);
	MUST(os_mallopt(OS_M_CHECK, 77) == 1);
	text = print_of(info_to, 0);
	MUST(strstr(text, "77") != NULL);
	MUST(strstr(text, "os_mallopt") != NULL);
}
END_TEST

/* --- walking --- */

enum { SEEN = 400 };

static struct {
	struct os_block blocks[SEEN];
	size_t count;
	size_t stop_at;
} seen;

static int see(const struct os_block *block, void *arg)
{
	MUST(arg == &seen);
	MUST(seen.count < SEEN);
	seen.blocks[seen.count++] = *block;
	return seen.count == seen.stop_at ? -7 : 0;
}

static const struct os_block *seen_block(const void *p)
{
	size_t i;

	for (i = 0; i < seen.count; i++)
		if (seen.blocks[i].ptr == p)
			return &seen.blocks[i];
	return NULL;
}

static void expect_totals(const struct os_stats *stats)
{
	size_t blocks[3] = {0, 0, 0};
	size_t bytes[3] = {0, 0, 0};
	size_t i;

	for (i = 0; i < seen.count; i++) {
		MUST(i == 0 || (uintptr_t)seen.blocks[i - 1].ptr <
				       (uintptr_t)seen.blocks[i].ptr);
		blocks[seen.blocks[i].state]++;
		bytes[seen.blocks[i].state] += seen.blocks[i].size;
	}
	MUST_EQ(blocks[OS_BLOCK_FREE], stats->heap_free_blocks);
	MUST_EQ(bytes[OS_BLOCK_FREE], stats->heap_free_bytes);
	MUST_EQ(blocks[OS_BLOCK_USED], stats->heap_used_blocks);
	MUST_EQ(bytes[OS_BLOCK_USED], stats->heap_used_bytes);
	MUST_EQ(blocks[OS_BLOCK_MAPPED], stats->mapped_blocks);
}

START_TEST(walking_sees_every_block_in_order)
{
	struct workload w;
	struct os_stats stats;
	size_t i;

	MUST(os_heap_walk(see, &seen) == 0);
	MUST_EQ(seen.count, 0);
	workload_start(&w, 5);
	for (i = 0; i < 300; i++)
		workload_step(&w);
	MUST(os_heap_walk(see, &seen) == 0);
	stats = stats_now();
	expect_totals(&stats);
	for (i = 0; i < WORKLOAD_SLOTS; i++) {
		const struct os_block *block = seen_block(w.slots[i].p);

		if (w.slots[i].p == NULL)
			continue;
		MUST(block != NULL && block->state != OS_BLOCK_FREE);
		MUST_EQ(block->size, w.slots[i].usable);
	}
	workload_finish(&w);
	seen.count = 0;
	MUST(os_heap_walk(see, &seen) == 0);
	stats = stats_now();
	MUST_EQ(stats.heap_used_blocks, 0);
	expect_totals(&stats);
}
END_TEST

START_TEST(walking_stops_when_told)
{
	void *p = os_malloc(10);
	void *q = os_malloc(10);
	void *large = os_malloc(200000);

	for (seen.stop_at = 1; seen.stop_at <= 4; seen.stop_at++) {
		seen.count = 0;
		MUST(os_heap_walk(see, &seen) == -7);
		MUST_EQ(seen.count, seen.stop_at);
	}
	os_free(large);
	os_free(q);
	os_free(p);
}
END_TEST

/* --- checking --- */

/* The compiler knows that nothing lies before what os_malloc returns. */
static struct block_meta *header(void *p)
{
	void *volatile payload = p;

	return osmem_block_of(payload);
}

START_TEST(check_sees_planted_faults)
{
	void *p = os_malloc(100);
	void *q = os_malloc(100);
	void *large = os_malloc(200000);
	struct block_meta saved = *header(q);

	MUST_EQ(os_heap_check(), 0);
	header(q)->size += 8;
	MUST(os_heap_check() > 0);
	/* A link or a size that is wrong under a right seal. */
	osmem_block_reseal(header(q));
	MUST(os_heap_check() > 0);
	*header(q) = saved;
	MUST_EQ(os_heap_check(), 0);
	header(q)->prev = header(q);
	osmem_block_reseal(header(q));
	MUST(os_heap_check() > 0);
	*header(q) = saved;
	header(q)->status = OSMEM_FREE;
	osmem_block_reseal(header(q));
	MUST(os_heap_check() > 0);
	*header(q) = saved;
	header(large)->size = 1;
	MUST(os_heap_check() > 0);
	header(large)->size = osmem_up(200000, OSMEM_ALIGN);
	MUST_EQ(os_heap_check(), 0);
	os_free(large);
	os_free(q);
	os_free(p);
}
END_TEST

static int look_again(const struct os_block *block, void *unused)
{
	os_heap_check();
	(void)block;
	(void)unused;
	return 0;
}

static void walk_and_look(void *p)
{
	MUST(p != NULL);
	os_heap_walk(look_again, NULL);
}

static int allocate_again(const struct os_block *block, void *unused)
{
	char *p = os_malloc(100);

	MUST(p != NULL && block->ptr != p);
	os_free(p);
	MUST(os_malloc_trim(0) == 0);
	return unused != NULL;
}

/* Both are against the rules: no harm is done, or it is said. */
START_TEST(callbacks_that_come_back)
{
	struct child child;
	void *p = os_malloc(100);

	MUST(os_heap_walk(allocate_again, NULL) == 0);
	MUST_EQ(os_heap_check(), 0);
	if (!OSMEM_CONF_THREADS)
		return;
	child_run(&child, walk_and_look, p);
	MUST(child_was_killed_by(&child, SIGABRT));
	MUST(strstr(child.text, "allocation inside an allocation") != NULL);
	os_free(p);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("inspect");
	TCase *tcase = tcase_create("inspect");

	tcase_add_test(tcase, stats_count_blocks);
	tcase_add_test(tcase, operations_are_counted_if_configured);
	tcase_add_test(tcase, stats_serve_older_and_newer_programs);
	tcase_add_test(tcase, json_is_json);
	tcase_add_test(tcase, the_parser_sees_faults);
	tcase_add_test(tcase, text_is_lines);
	tcase_add_test(tcase, printing_says_when_it_fails);
	tcase_add_test(tcase, info_names_version_and_options);
	tcase_add_test(tcase, walking_sees_every_block_in_order);
	tcase_add_test(tcase, walking_stops_when_told);
	tcase_add_test(tcase, check_sees_planted_faults);
	tcase_add_test(tcase, callbacks_that_come_back);
	suite_add_tcase(suite, tcase);
	return suite_run(suite);
}
