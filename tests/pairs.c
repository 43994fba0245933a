/* SPDX-License-Identifier: MIT */
/*
 * pairs.c - calls malloc and free in turns, to be counted by others.
 *
 * pairs limits prints how many instructions malloc, free and free_sized may
 * take in this build, or, with status 77, why none can be told. pairs PREFIX
 * SIZE COUNT ... makes so many pairs of each size with the process's
 * PREFIXmalloc and PREFIXfree, and as many with PREFIXfree_sized.
 */
#define _GNU_SOURCE
#include <config.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void *alloc_function(size_t size);
typedef void free_function(void *ptr);
typedef void free_sized_function(void *ptr, size_t size);

static int limits(void)
{
#if !defined(__x86_64__) || defined(__ILP32__)
	puts("the instructions of x86-64 are counted");
	return 77;
#elif !defined(__OPTIMIZE__) || defined(__OPTIMIZE_SIZE__)
	puts("built without optimization for speed");
	return 77;
#elif OSMEM_CONF_DEBUG || OSMEM_CONF_STATS
	puts("built with --enable-debug or --enable-stats");
	return 77;
#elif defined(__clang__)
	/* Loads a byte and extends it in two steps; tests what it counted. */
	puts("17 33 46");
	return 0;
#else
	puts("16 32 44");
	return 0;
#endif
}

/* ISO C has no conversion of dlsym's result to a function. */
static void find(const char *prefix, const char *name, void *function)
{
	char whole[32];
	void *address;

	snprintf(whole, sizeof(whole), "%s%s", prefix, name);
	address = dlsym(RTLD_DEFAULT, whole);
	if (address == NULL) {
		fprintf(stderr, "pairs: there is no %s\n", whole);
		exit(1);
	}
	memcpy(function, &address, sizeof(address));
}

int main(int argc, char **argv)
{
	alloc_function *alloc;
	free_function *release;
	free_sized_function *release_sized;
	int i;

	if (argc == 2 && strcmp(argv[1], "limits") == 0)
		return limits();
	if (argc < 4)
		return 2;
	find(argv[1], "malloc", &alloc);
	find(argv[1], "free", &release);
	find(argv[1], "free_sized", &release_sized);
	for (i = 2; i + 1 < argc; i += 2) {
		size_t size = strtoul(argv[i], NULL, 10);
		unsigned long count = strtoul(argv[i + 1], NULL, 10);

		for (; count > 0; count--) {
			release(alloc(size));
			release_sized(alloc(size), size);
		}
	}
	return 0;
}
