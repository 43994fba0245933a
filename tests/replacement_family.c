/* SPDX-License-Identifier: MIT */
/*
 * replacement_family.c - what libc promises of malloc and its family: zero
 * sizes, alignment, errno, overflows, zeroing, and what libc has beyond the
 * standard. One thread; replacement_process.c has threads, fork and the rest.
 * How it is run, and against what, stands in replacement_check.h.
 */
#define _GNU_SOURCE
#include "replacement_check.h"

#include <signal.h>
#include <sys/wait.h>

/* Declared here, as no libc has them all; NULL where there are none. */
#define WEAK __attribute__((weak))

struct info {
	int field[10]; /* 4: bytes in mappings, 7: bytes in use */
};

struct info2 {
	size_t field[10];
};

WEAK void *memalign(size_t alignment, size_t size);
WEAK void *pvalloc(size_t size);
WEAK size_t malloc_usable_size(void *ptr);
WEAK int mallopt(int param, int value);
WEAK int malloc_trim(size_t pad);
WEAK struct info mallinfo(void);
WEAK struct info2 mallinfo2(void);
WEAK int malloc_info(int options, FILE *stream);
WEAK void malloc_stats(void);
WEAK void free_sized(void *ptr, size_t size);
WEAK void free_aligned_sized(void *ptr, size_t alignment, size_t size);
WEAK void *__libc_malloc(size_t size);
WEAK void *__libc_calloc(size_t n, size_t size);
WEAK void *__libc_realloc(void *ptr, size_t size);
WEAK void *__libc_memalign(size_t alignment, size_t size);
WEAK void *__libc_valloc(size_t size);
WEAK void *__libc_pvalloc(size_t size);
WEAK void __libc_free(void *ptr);

/* The deletes of C++: of objects and arrays, each in so many ways. */
#if __SIZEOF_SIZE_T__ == __SIZEOF_INT__
#define SIZED(before, after) before##j##after
#else
#define SIZED(before, after) before##m##after
#endif
WEAK void _ZdlPv(void *ptr);
WEAK void _ZdaPv(void *ptr);
WEAK void _ZdlPvRKSt9nothrow_t(void *ptr, const void *tag);
WEAK void _ZdaPvRKSt9nothrow_t(void *ptr, const void *tag);
WEAK void SIZED(_ZdlPv, )(void *ptr, size_t size);
WEAK void SIZED(_ZdaPv, )(void *ptr, size_t size);
WEAK void _ZdlPvSt11align_val_t(void *ptr, size_t alignment);
WEAK void _ZdaPvSt11align_val_t(void *ptr, size_t alignment);
WEAK void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t alignment,
					      const void *tag);
WEAK void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *ptr, size_t alignment,
					      const void *tag);
WEAK void SIZED(_ZdlPv, St11align_val_t)(void *ptr, size_t size,
					 size_t alignment);
WEAK void SIZED(_ZdaPv, St11align_val_t)(void *ptr, size_t size,
					 size_t alignment);

/* Zero sizes, alignment and disjointness for each size. */
static void test_sizes(void)
{
	enum { COUNT = 4200 };
	static unsigned char *block[COUNT];
	void *a = malloc(zero), *b = malloc(zero);
	int bad = 0;

	CHECK(a != NULL && b != NULL && a != b);
	free(a);
	free(b);
	for (int i = 0; i < COUNT; i++) {
		block[i] = malloc((size_t)i);
		if (block[i] == NULL || !aligned(block[i], 16))
			bad++;
		else
			memset(block[i], i, (size_t)i);
	}
	CHECK(bad == 0);
	for (int i = 0; i < COUNT; i++)
		bad += !all_bytes(block[i], i, (size_t)i);
	CHECK(bad == 0);
	for (int i = 0; i < COUNT; i += 2)
		free(block[i]);
	for (int i = 1; i < COUNT; i += 2)
		free(block[i]);
	for (size_t n = 5000; n < 50000000; n += n / 3) {
		unsigned char *p = malloc(n);

		bad += p == NULL || !aligned(p, 16);
		p[0] = p[n - 1] = 1;
		free(p);
	}
	CHECK(bad == 0);
}

static void test_realloc(void)
{
	unsigned char *p = realloc(NULL, 10);
	unsigned char *volatile same; /* gcc takes p for gone */
	size_t held = 10;
	int bad = 0;

	CHECK(p != NULL);
	memset(p, 7, held);
	for (size_t n = 10; n < 3000000; n += n / 2) {
		p = realloc(p, n);
		bad += p == NULL || !aligned(p, 16) || !all_bytes(p, 7, held);
		memset(p, 7, n);
		held = n;
	}
	for (size_t n = held; n > 1; n -= n / 3 + 1) {
		p = realloc(p, n);
		bad += p == NULL || !all_bytes(p, 7, n);
	}
	CHECK(bad == 0);
	errno = 0;
	CHECK(realloc(p, zero) == NULL);
	CHECK(errno == 0);
	p = malloc(100);
	memset(p, 9, 100);
	errno = 0;
	CHECK(realloc(p, huge) == NULL && errno == ENOMEM);
	errno = 0;
	CHECK(realloc(p, huge - 4096) == NULL && errno == ENOMEM);
	errno = 0;
	same = p;
	CHECK(reallocarray(p, huge / 2, 3) == NULL && errno == ENOMEM);
	CHECK(all_bytes(same, 9, 100));
	p = reallocarray(same, 30, 10);
	CHECK(p != NULL && all_bytes(p, 9, 100));
	free(p);
	errno = 0;
	CHECK(failed_with(realloc(NULL, huge), ENOMEM));
}

/* Freed memory must not shine through, however it is handed out again. */
static void test_calloc(void)
{
	int bad = 0;

	for (size_t n = 1; n < 600000; n += n / 4 + 1) {
		void *dirty = malloc(n);
		unsigned char *clean;

		memset(dirty, 0xff, n);
		free(dirty);
		clean = calloc(1, n);
		bad += clean == NULL || !aligned(clean, 16) ||
		       !all_bytes(clean, 0, n);
		memset(clean, 0xff, n);
		free(clean);
	}
	CHECK(bad == 0);
	for (int i = 0; i < 2; i++) {
		void *p = calloc(zero, i == 0 ? 0 : 16);

		CHECK(p != NULL);
		free(p);
	}
	errno = 0;
	CHECK(failed_with(calloc(huge / 2, 3), ENOMEM));
	CHECK(failed_with(calloc(huge, huge), ENOMEM));
	CHECK(failed_with(calloc(huge / 16 + 2, 16), ENOMEM));
	CHECK(failed_with(calloc(1, huge), ENOMEM));
}

static void test_too_large(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	errno = 0;
	for (size_t less = 0; less < 3 * page; less += page / 2 - 1) {
		CHECK(failed_with(malloc(huge - less), ENOMEM));
		CHECK(failed_with(aligned_alloc(64, huge - less), ENOMEM));
		CHECK(failed_with(valloc(huge - less), ENOMEM));
		if (HAVE(pvalloc))
			CHECK(failed_with(pvalloc(huge - less), ENOMEM));
		if (HAVE(memalign))
			CHECK(failed_with(memalign(4096, huge - less), ENOMEM));
	}
	CHECK(failed_with(malloc((size_t)PTRDIFF_MAX + 1 + zero), ENOMEM));
	/* 2 GiB can be had where addresses have 32 bits. */
	if (sizeof(void *) == 4)
		return;
	CHECK(failed_with(malloc((size_t)PTRDIFF_MAX + zero), ENOMEM));
	CHECK(failed_with(aligned_alloc(4096, (size_t)PTRDIFF_MAX - 64 + zero),
			  ENOMEM));
}

static void use_aligned(void *p, size_t alignment, size_t size, int *bad)
{
	*bad += p == NULL || !aligned(p, alignment) || !aligned(p, 16);
	if (p == NULL)
		return;
	memset(p, 5, size);
	p = realloc(p, size + 100);
	*bad += p == NULL || !all_bytes(p, 5, size);
	free(p);
}

static void test_aligned(void)
{
	static const size_t sizes[] = {0, 1, 24, 100, 5000, 140000};
	int bad = 0;

	for (size_t a = sizeof(void *); a <= 1u << 20; a *= 2) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
			size_t n = sizes[i];
			void *p = NULL;

			bad += posix_memalign(&p, a, n) != 0;
			use_aligned(p, a, n, &bad);
			use_aligned(aligned_alloc(a, n), a, n, &bad);
			if (HAVE(memalign))
				use_aligned(memalign(a, n), a, n, &bad);
		}
	}
	CHECK(bad == 0);
	if (!HAVE(memalign))
		return;
	/* Alignments that are no power of two are rounded up. */
	use_aligned(memalign(zero, 100), 1, 100, &bad);
	use_aligned(memalign(3, 100), 4, 100, &bad);
	use_aligned(memalign(24, 100), 32, 100, &bad);
	use_aligned(memalign(4097, 100), 8192, 100, &bad);
	CHECK(bad == 0);
	errno = 0;
	CHECK(failed_with(memalign(huge / 2 + 2, 1), EINVAL));
	CHECK(failed_with(memalign(huge, 1), EINVAL));
	/* glibc 2.38 is the first that minds. */
	if (ours)
		CHECK(failed_with(aligned_alloc(24 + zero, 100), EINVAL));
}

static void test_posix_memalign(void)
{
	static const size_t wrong[] = {0,  1, 2, sizeof(void *) / 2,
				       3, 24, 4097};
	void *const mark = &checks;
	void *p = mark;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		errno = 0;
		CHECK(posix_memalign(&p, wrong[i], 100) == EINVAL);
		CHECK(p == mark);
		CHECK_OURS(errno == EINVAL);
	}
	errno = 0;
	CHECK(posix_memalign(&p, 64, huge) == ENOMEM);
	CHECK(p == mark);
	CHECK_OURS(errno == ENOMEM);
	errno = 0;
	CHECK(posix_memalign(&p, huge / 2 + 1, huge / 2) == ENOMEM);
	CHECK(p == mark);
	CHECK_OURS(errno == ENOMEM);
	errno = EDOM;
	CHECK(posix_memalign(&p, 64, 100) == 0 && errno == EDOM);
	free(p);
}

static void test_pages(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int bad = 0;

	use_aligned(valloc(zero), page, 0, &bad);
	use_aligned(valloc(1), page, 1, &bad);
	use_aligned(valloc(page + 1), page, page + 1, &bad);
	CHECK(bad == 0);
	if (!HAVE(pvalloc) || !HAVE(malloc_usable_size))
		return;
	for (size_t n = 0; n <= 3 * page; n += page / 2) {
		size_t whole = n == 0 ? page : (n + page - 1) / page * page;
		void *p = pvalloc(n);

		bad += p == NULL || !aligned(p, page);
		/* glibc takes pvalloc(0) for no page at all. */
		if (n != 0 || ours)
			bad += malloc_usable_size(p) < whole;
		free(p);
	}
	CHECK(bad == 0);
}

static void test_usable_size(void)
{
	int bad = 0;

	if (!HAVE(malloc_usable_size))
		return;
	CHECK(malloc_usable_size(NULL) == 0);
	for (size_t n = 0; n < 400000; n += n / 5 + 1) {
		unsigned char *p = malloc(n), *after = malloc(n);
		size_t usable = malloc_usable_size(p);

		bad += usable < n;
		memset(after, 1, n);
		memset(p, 2, usable);
		bad += !all_bytes(after, 1, n);
		bad += malloc_usable_size(p) != usable;
		free(after);
		free(p);
	}
	CHECK(bad == 0);
}

static void test_free_errno(void)
{
	static const size_t sizes[] = {0, 1, 100, 5000, 200000, 70000000};
	void *p;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		p = malloc(sizes[i]);
		errno = 4711;
		free(p);
		CHECK(errno == 4711);
		p = aligned_alloc(65536, sizes[i]);
		errno = 4711;
		free(p);
		CHECK(errno == 4711);
	}
	free(NULL);
	CHECK(errno == 4711);
	p = malloc(100);
	CHECK(errno == 4711);
	p = realloc(p, 100000);
	CHECK(errno == 4711);
	free(p);
	errno = 0;
}

static void test_free_sized(void)
{
	if (!ours || !HAVE(free_sized) || !HAVE(free_aligned_sized))
		return;
	for (size_t n = 0; n < 300000; n = n * 2 + 1) {
		free_sized(malloc(n), n);
		free_sized(calloc(1, n), n);
		free_aligned_sized(aligned_alloc(64, n), 64, n);
	}
	errno = 4711;
	free_sized(NULL, 0);
	free_aligned_sized(NULL, 64, 0);
	free_sized(malloc(10), 10);
	CHECK(errno == 4711);
	errno = 0;
}

/* What libc has of the family beyond the standard's. */
static void test_information(void)
{
	void *block[100];
	struct info2 before = {{0}}, after = {{0}};

	if (HAVE(mallinfo2))
		before = mallinfo2();
	for (int i = 0; i < 100; i++)
		block[i] = malloc(1000);
	if (HAVE(mallinfo2)) {
		after = mallinfo2();
		/* glibc counts cached free blocks as used, before too. */
		CHECK_OURS(after.field[7] + after.field[4] >=
			   before.field[7] + before.field[4] + 100000);
		CHECK(after.field[7] + after.field[4] >= 100000);
		CHECK(after.field[0] + after.field[4] >= 100000);
	}
	if (HAVE(mallinfo)) {
		struct info info = mallinfo();

		CHECK((size_t)info.field[7] + (size_t)info.field[4] >= 100000);
	}
	for (int i = 0; i < 100; i++)
		free(block[i]);
	if (HAVE(mallopt)) {
		/* M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_ARENA_MAX */
		CHECK(mallopt(-3, 256 * 1024) == 1);
		CHECK(mallopt(-1, 256 * 1024) == 1);
		CHECK(mallopt(-8, 2) == 1);
	}
	if (HAVE(malloc_trim)) {
		int trimmed = malloc_trim(zero);

		CHECK(trimmed == 0 || trimmed == 1);
	}
}

/* Bytes in use move with a block of any size, in all modes. */
static void test_bytes_in_use(void)
{
	static const size_t sizes[] = {8, 4096, 131072, 1u << 20, 64u << 20};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct info2 before = {{0}}, after = {{0}};
		void *p;

		if (HAVE(mallinfo2))
			before = mallinfo2();
		p = malloc(sizes[i]);
		CHECK(p != NULL);
		if (HAVE(mallinfo2)) {
			after = mallinfo2();
			CHECK_OURS(after.field[7] >=
				   before.field[7] + malloc_usable_size(p));
			CHECK_OURS(after.field[0] ==
				   after.field[7] + after.field[8]);
		}
		free(p);
	}
}

static void test_malloc_info(void)
{
	char *text = NULL;
	size_t length = 0;
	FILE *stream = open_memstream(&text, &length);

	CHECK(stream != NULL);
	if (HAVE(malloc_info)) {
		CHECK(malloc_info(0, stream) == 0);
		fflush(stream);
		CHECK(strncmp(text, "<malloc version=", 16) == 0);
		CHECK(strstr(text, "</malloc>") != NULL);
		CHECK(malloc_info(1, stream) != 0);
	}
	fclose(stream);
	free(text);
}

static void test_malloc_stats(void)
{
	char name[] = "/tmp/replacement-family-XXXXXX";
	int file = mkstemp(name);
	int saved = dup(2);

	CHECK(file >= 0 && saved >= 0);
	unlink(name);
	dup2(file, 2);
	if (HAVE(malloc_stats))
		malloc_stats();
	fflush(stderr);
	dup2(saved, 2);
	if (malloc_stats != NULL)
		CHECK(lseek(file, 0, SEEK_END) > 10);
	close(file);
	close(saved);
}

/* Some programs call these by name, and mix them with the usual ones. */
static void test_libc_names(void)
{
	void *p;
	int bad = 0;

	if (!HAVE(__libc_malloc) || !HAVE(__libc_free) ||
	    !HAVE(__libc_calloc) || !HAVE(__libc_realloc) ||
	    !HAVE(__libc_memalign) || !HAVE(__libc_valloc) ||
	    !HAVE(__libc_pvalloc))
		return;
	for (size_t n = 1; n < 400000; n *= 3) {
		free(__libc_malloc(n));
		__libc_free(malloc(n));
		p = __libc_calloc(1, n);
		bad += !all_bytes(p, 0, n);
		p = realloc(p, 2 * n);
		bad += !all_bytes(p, 0, n);
		p = __libc_realloc(p, 3 * n);
		bad += !all_bytes(p, 0, n);
		free(p);
		use_aligned(__libc_memalign(256, n), 256, n, &bad);
		use_aligned(__libc_valloc(n), 4096, n, &bad);
		use_aligned(__libc_pvalloc(n), 4096, n, &bad);
	}
	CHECK(bad == 0);
}

/* Blocks that libc allocates inside, and the program resizes and frees. */
static void test_libc_callers(void)
{
	char *s = strdup("a string"), *t = strndup("another one", 7);
	FILE *stream = tmpfile();
	char *line = malloc(1);
	size_t room = 1;

	s = realloc(s, 100000);
	CHECK(strcmp(s, "a string") == 0 && strcmp(t, "another") == 0);
	free(s);
	free(t);
	CHECK(asprintf(&s, "%0*d", 5000, 1) == 5000);
	CHECK(stream != NULL && fprintf(stream, "%s\n", s) == 5001);
	rewind(stream);
	CHECK(getline(&line, &room, stream) == 5001 && room > 5001);
	CHECK(strncmp(s, line, 5000) == 0);
	fclose(stream);
	free(line);
	free(s);
	stream = open_memstream(&s, &room);
	for (int i = 0; i < 20000; i++)
		fputc('x', stream);
	fclose(stream);
	CHECK(room == 20000 && all_bytes(s, 'x', 20000));
	s = realloc(s, 10);
	free(s);
	s = getcwd(NULL, 0);
	t = realpath(".", NULL);
	CHECK(s != NULL && t != NULL && strcmp(s, t) == 0);
	free(s);
	free(t);
	CHECK(setenv("REPLACEMENT_FAMILY", "x", 1) == 0);
	CHECK(unsetenv("REPLACEMENT_FAMILY") == 0);
}

/* As what new has made, of that size or at an alignment of 64. */
static void delete_in_each_way(size_t size)
{
	_ZdlPv(malloc(size));
	_ZdaPv(malloc(size));
	_ZdlPvRKSt9nothrow_t(malloc(size), NULL);
	_ZdaPvRKSt9nothrow_t(malloc(size), NULL);
	SIZED(_ZdlPv, )(malloc(size), size);
	SIZED(_ZdaPv, )(malloc(size), size);
	_ZdlPvSt11align_val_t(memalign(64, size), 64);
	_ZdaPvSt11align_val_t(memalign(64, size), 64);
	_ZdlPvSt11align_val_tRKSt9nothrow_t(memalign(64, size), 64, NULL);
	_ZdaPvSt11align_val_tRKSt9nothrow_t(memalign(64, size), 64, NULL);
	SIZED(_ZdlPv, St11align_val_t)(memalign(64, size), size, 64);
	SIZED(_ZdaPv, St11align_val_t)(memalign(64, size), size, 64);
}

static bool is_stopped(void (*delete)(void *ptr, size_t size), void *ptr,
		       size_t size)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		close(2);
		delete(ptr, size);
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGABRT;
}

/* The block is free after each, and the size must be the block's. */
static void test_deletes(void)
{
	static const size_t sizes[] = {1, 100, 5000, 200000};
	struct info2 before = {{0}}, after = {{0}};
	void *p = malloc(100);

	if (!HAVE(_ZdlPv) || !HAVE(mallinfo2) || !HAVE(memalign))
		return;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		before = mallinfo2();
		delete_in_each_way(sizes[i]);
		after = mallinfo2();
		CHECK(before.field[7] == after.field[7]);
	}
	SIZED(_ZdlPv, )(NULL, 100);
	CHECK(is_stopped(SIZED(_ZdlPv, ), p, 5000));
	CHECK(is_stopped(SIZED(_ZdaPv, ), p, 5000));
	free(p);
}

int main(int argc, char **argv)
{
	static const struct group groups[] = {
		{"sizes", test_sizes},
		{"realloc", test_realloc},
		{"calloc", test_calloc},
		{"too_large", test_too_large},
		{"aligned", test_aligned},
		{"posix_memalign", test_posix_memalign},
		{"pages", test_pages},
		{"usable_size", test_usable_size},
		{"free_errno", test_free_errno},
		{"free_sized", test_free_sized},
		{"information", test_information},
		{"bytes_in_use", test_bytes_in_use},
		{"malloc_info", test_malloc_info},
		{"malloc_stats", test_malloc_stats},
		{"libc_names", test_libc_names},
		{"libc_callers", test_libc_callers},
		{"deletes", test_deletes},
		{NULL, NULL},
	};

	return run_groups(argc, argv, groups);
}
