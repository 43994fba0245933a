/* SPDX-License-Identifier: MIT */
/*
 * consumer.c - a program of somebody else's, compiled as C99 and as C11
 * against the installed library. It calls every public function once, so that
 * a name that is declared but cannot be linked is found.
 */
#include <osmem.h>

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int failures;

#define EXPECT(x) expect((x) != 0, #x)

static void expect(int holds, const char *what)
{
	if (!holds) {
		printf("consumer: %s does not hold\n", what);
		failures++;
	}
}

static int count_block(const struct os_block *block, void *arg)
{
	(void)block;
	++*(int *)arg;
	return 0;
}

static int print_v(const char *format, ...)
{
	va_list ap;
	int n;

	va_start(ap, format);
	n = os_vdprintf(1, format, ap);
	va_end(ap);
	return n;
}

static void use_family(void)
{
	void *aligned = NULL;
	char *p = os_malloc(100);
	unsigned char *zero = os_calloc(3, 5);
	char *copy = os_strdup("libosmem");
	char *part = os_strndup("libosmem", 3);

	EXPECT(p && zero && zero[0] == 0 && zero[14] == 0);
	EXPECT(copy && strcmp(copy, "libosmem") == 0);
	EXPECT(part && strcmp(part, "lib") == 0);
	EXPECT(os_malloc_usable_size(p) >= 100);
	p = os_realloc(p, 1000);
	p = os_reallocarray(p, 10, 200);
	EXPECT(p && os_malloc_usable_size(p) >= 2000);
	EXPECT(os_posix_memalign(&aligned, 64, 10) == 0);
	EXPECT((uintptr_t)aligned % 64 == 0);
	os_free(p);
	os_free(zero);
	os_free(copy);
	os_free(part);
	os_free_aligned_sized(aligned, 64, 10);
	os_free_sized(os_malloc(7), 7);
	os_free(os_aligned_alloc(32, 64));
	os_free(os_memalign(32, 64));
}

static void use_rest(void)
{
	struct os_stats stats;
	int blocks = 0;

	stats.struct_size = sizeof(stats);
	EXPECT(os_stats(&stats) == 0);
	EXPECT(os_stats_print(1, OS_STATS_TEXT) == 0);
	EXPECT(os_heap_walk(count_block, &blocks) == 0);
	EXPECT(os_heap_check() == 0);
	EXPECT(os_malloc_trim(0) >= 0);
	EXPECT(os_mallopt(OS_M_WARN, 1) == 1);
	EXPECT(os_info_print(1) == 0);
	EXPECT(os_printf("%s %d\n", "printed", 1) == 10);
	EXPECT(os_dprintf(1, "%s %d\n", "printed", 2) == 10);
	EXPECT(print_v("%s %d\n", "printed", 3) == 10);
}

int main(void)
{
	EXPECT(strcmp(os_version(), OSMEM_VERSION) == 0);
	use_family();
	use_rest();
	return failures != 0;
}
