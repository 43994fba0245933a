/* SPDX-License-Identifier: MIT */
/*
 * corrupt.c - does one thing wrong with malloc's blocks, and goes on.
 *
 * corrupt list prints what there is and how it must end: abort (reported),
 * fault (touched what nobody may touch), or end (nothing wrong could be seen,
 * and status 0 says so); wholly is end, but with harden=2 alone. corrupt NAME
 * does it.
 */
#define _GNU_SOURCE
#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LARGE = 256 * 1024 };

/* The compiler shall know nothing about these. */
static void *(*volatile get)(size_t size) = malloc;
static void (*volatile give)(void *p) = free;
static void *(*volatile resize)(void *p, size_t size) = realloc;
static size_t (*volatile measure)(void *p) = malloc_usable_size;
static volatile char sink;

#define CHECK(x) ((x) ? (void)0 : _exit(1))

/* As a function of the program's, by its name: not every libc has it. */
static void give_sized(void *p, size_t size)
{
	void (*function)(void *, size_t);
	void *address = dlsym(RTLD_DEFAULT, "free_sized");

	CHECK(address != NULL);
	memcpy(&function, &address, sizeof(function));
	function(p, size);
}

static char *stale(size_t size)
{
	char *p = get(size);

	memset(p, 'a', size);
	give(p);
	return p;
}

static void churn(size_t size)
{
	int i;

	for (i = 0; i < 1000; i++)
		give(get(size));
}

/* --- frees --- */

static void double_free_small(void)
{
	give(stale(16));
}

static void double_free_small_delayed(void)
{
	void *q = get(16);
	void *p = stale(16);

	give(q);
	give(p);
}

static void double_free_large(void)
{
	give(stale(LARGE));
}

static void double_free_large_delayed(void)
{
	void *q = get(LARGE);
	void *p = stale(LARGE);

	give(q);
	give(p);
}

static void *give_in_thread(void *p)
{
	give(p);
	return NULL;
}

static void double_free_by_a_thread(void)
{
	void *p = stale(100);
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, give_in_thread, p) == 0);
	pthread_join(thread, NULL);
}

static void free_on_stack(void)
{
	char here[64] = "";

	give(here + 16);
}

static void free_of_nonsense(void)
{
	give((void *)1);
}

static void free_without_access(void)
{
	CHECK(get(16) != NULL);
	give(mmap(NULL, 4096 * 16, PROT_NONE, MAP_ANONYMOUS | MAP_PRIVATE, -1,
		  0));
}

static void free_of_a_mapping(void)
{
	CHECK(get(16) != NULL);
	give(mmap(NULL, 4096 * 16, PROT_READ | PROT_WRITE,
		  MAP_ANONYMOUS | MAP_PRIVATE, -1, 0));
}

static void free_in_region(void)
{
	give((char *)get(16) + 4096 * 4);
}

static void free_in_region_far(void)
{
	give((char *)get(16) + ((size_t)1 << 30));
}

static void unaligned_free_small(void)
{
	give((char *)get(16) + 1);
}

static void unaligned_free_large(void)
{
	give((char *)get(LARGE) + 1);
}

static void free_of_wrong_size(void)
{
	give_sized(get(1), 32);
}

static void free_of_wrong_size_large(void)
{
	give_sized(get(LARGE), LARGE + 8);
}

/* --- realloc and malloc_usable_size --- */

static void realloc_of_nonsense(void)
{
	sink = resize((void *)1, 16) == NULL;
}

static void realloc_small_after_free(void)
{
	sink = resize(stale(16), 32) == NULL;
}

static void realloc_large_after_free(void)
{
	sink = resize(stale(LARGE), 2 * LARGE) == NULL;
}

static void usable_size_of_nonsense(void)
{
	sink = measure((void *)1) == 0;
}

static void usable_size_after_free(void)
{
	sink = measure(stale(16)) == 0;
}

static void usable_size_later(void)
{
	void *p = stale(16);

	churn(16);
	sink = measure(p) == 0;
}

static void unaligned_usable_size(void)
{
	sink = measure((char *)get(16) + 1) == 0;
}

/* --- overflows --- */

static void overflow_small_by_1(void)
{
	char *p = get(8);

	p[measure(p)] = 1;
	give(p);
}

static void overflow_small_by_8(void)
{
	char *p = get(8);

	p[measure(p) + 7] ^= 1;
	give(p);
}

static void overflow_small_by_zeros(void)
{
	char *p = get(8);

	memset(p + 8, 0, 8);
	give(p);
}

static void overflow_large_by_1(void)
{
	char *p = get(LARGE);

	p[measure(p)] = 0;
}

static void overflow_large_by_8(void)
{
	char *p = get(LARGE);

	p[measure(p) + 7] = 0;
}

static void underflow_large_by_1(void)
{
	char *p = get(LARGE);

	p[-1] = 0;
}

static void string_without_end(void)
{
	char *p = get(16);
	size_t size = measure(p);

	memset(p, 'a', size);
	CHECK(strlen(p) == size);
}

/* --- use after free, and of what was never written --- */

static void read_small_after_free(void)
{
	char *p = stale(16);
	int i;

	for (i = 0; i < 16; i++)
		CHECK(p[i] != 'a');
}

static void read_large_after_free(void)
{
	sink = *(volatile char *)stale(LARGE);
}

static void write_small_after_free(void)
{
	char *p = stale(128);

	p[65] = 'a';
	churn(128);
}

static void write_large_after_free(void)
{
	char *p = stale(LARGE);

	p[64] = 'a';
}

static void write_large_after_reuse(void)
{
	char *p = stale(LARGE);
	char *q = get(LARGE);

	CHECK(p != q);
	p[64] = 'a';
}

static void read_fresh_small(void)
{
	int i;
	int k;

	for (i = 0; i < 1000; i++) {
		char *p = get(14);

		for (k = 0; k < 14; k++)
			CHECK(p[k] == 0);
		memset(p, 'a', 14);
		give(p);
	}
}

static void read_fresh_large(void)
{
	char *p;
	int i;

	stale(LARGE);
	p = get(LARGE);
	for (i = 0; i < LARGE; i++)
		CHECK(p[i] == 0);
}

/* More than harden=1 clears as a whole. */
static void read_fresh_among_many(void)
{
	int i;

	for (i = 0; i < 3000; i++) {
		char *p = get(60000);

		CHECK(p[30000] == 0);
		memset(p, 'a', 60000);
		give(p);
	}
}

static void no_reuse(void)
{
	char *p = get(16);
	char *q;

	give(p);
	q = get(16);
	CHECK(p != q);
}

/* --- no bytes, too many --- */

static void read_no_bytes(void)
{
	sink = *(volatile char *)get(0);
}

static void write_no_bytes(void)
{
	*(volatile char *)get(0) = 5;
}

static void blocks_of_no_bytes(void)
{
	void *p[1000];
	int i;

	for (i = 0; i < 1000; i++) {
		p[i] = get(0);
		CHECK(p[i] != NULL && measure(p[i]) == 0);
		CHECK(i == 0 || p[i] != p[i - 1]);
	}
	p[0] = resize(p[0], 100);
	CHECK(p[0] != NULL && *(char *)p[0] == 0);
	for (i = 0; i < 1000; i++)
		give(p[i]);
}

/*
 * A limit that comes before the first allocation leaves no place for slabs: the
 * block heap serves them, whose blocks have bytes.
 */
static void resize_of_no_bytes(void)
{
	struct rlimit limit = {64 << 20, 64 << 20};
	void *p[1000];
	int i;

	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	for (i = 0; i < 1000; i++) {
		p[i] = get(0);
		CHECK(p[i] != NULL);
	}
	for (i = 0; i < 1000; i++) {
		measure(p[i]);
		if (i % 2 == 0)
			p[i] = resize(p[i], 100);
		CHECK(p[i] != NULL);
	}
	for (i = 0; i < 1000; i++)
		give(p[i]);
}

static void double_free_of_no_bytes(void)
{
	void *p = get(0);

	give(p);
	give(p);
}

static void too_much(void)
{
	errno = 0;
	CHECK(get(SIZE_MAX - 7) == NULL && errno == ENOMEM);
	CHECK(get(PTRDIFF_MAX) == NULL);
}

static const struct {
	const char *name;
	void (*fn)(void);
	const char *end;
} cases[] = {
#define CASE(name, end) {#name, name, #end}
	CASE(double_free_small, abort),
	CASE(double_free_small_delayed, abort),
	CASE(double_free_large, abort),
	CASE(double_free_large_delayed, abort),
	CASE(double_free_by_a_thread, abort),
	CASE(double_free_of_no_bytes, abort),
	CASE(free_on_stack, abort),
	CASE(free_of_nonsense, abort),
	CASE(free_without_access, abort),
	CASE(free_of_a_mapping, abort),
	CASE(free_in_region, abort),
	CASE(free_in_region_far, abort),
	CASE(unaligned_free_small, abort),
	CASE(unaligned_free_large, abort),
	CASE(free_of_wrong_size, abort),
	CASE(free_of_wrong_size_large, abort),
	CASE(realloc_of_nonsense, abort),
	CASE(realloc_small_after_free, abort),
	CASE(realloc_large_after_free, abort),
	CASE(usable_size_of_nonsense, abort),
	CASE(usable_size_after_free, abort),
	CASE(usable_size_later, abort),
	CASE(unaligned_usable_size, abort),
	CASE(overflow_small_by_1, abort),
	CASE(overflow_small_by_8, abort),
	CASE(overflow_small_by_zeros, abort),
	CASE(overflow_large_by_1, fault),
	CASE(overflow_large_by_8, fault),
	CASE(underflow_large_by_1, fault),
	CASE(string_without_end, end),
	CASE(read_small_after_free, end),
	CASE(read_large_after_free, fault),
	CASE(write_small_after_free, abort),
	CASE(write_large_after_free, fault),
	CASE(write_large_after_reuse, fault),
	CASE(read_fresh_small, end),
	CASE(read_fresh_large, end),
	CASE(read_fresh_among_many, wholly),
	CASE(no_reuse, end),
	CASE(read_no_bytes, fault),
	CASE(write_no_bytes, fault),
	CASE(blocks_of_no_bytes, end),
	CASE(resize_of_no_bytes, end),
	CASE(too_much, end),
};

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (argc != 2 || strcmp(argv[1], "list") == 0)
			printf("%s %s\n", cases[i].name, cases[i].end);
		else if (strcmp(argv[1], cases[i].name) == 0) {
			cases[i].fn();
			return 0;
		}
	}
	return argc != 2 || strcmp(argv[1], "list") != 0;
}
