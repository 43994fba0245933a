/* SPDX-License-Identifier: MIT */
/*
 * hello.c - a program that allocates once, and says what is resident then.
 *
 * hello none|malloc|os: without any allocation, with one malloc, with one
 * os_malloc of a preloaded libosmem. Prints KiB of memory that is this
 * process's own (written, or without a file), and RSS. The difference to
 * "none" without a preload is what an allocator costs beyond one that does
 * nothing.
 */
#include "resident.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *os_malloc(size_t size) __attribute__((weak));

static void *hello_allocate(const char *how)
{
	if (strcmp(how, "malloc") == 0)
		return malloc(100);
	if (strcmp(how, "os") == 0 && os_malloc != NULL)
		return os_malloc(100);
	resident_fail(how);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "none";

	if (strcmp(how, "none") != 0)
		strcpy(hello_allocate(how), "Hello, world");
	dprintf(STDOUT_FILENO, "%zu %zu\n",
		resident_row("Private_Dirty:") >> 10,
		resident_row("Rss:") >> 10);
	return 0;
}
