/* SPDX-License-Identifier: MIT */
/*
 * resident.c - reading /proc without allocating, and counting pages.
 */
#include "resident.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void resident_fail(const char *what)
{
	dprintf(STDERR_FILENO, "%s (%s)\n", what, strerror(errno));
	_exit(99);
}

static void *resident_map(size_t size, int flags)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		resident_fail("mmap");
	return p;
}

void *resident_table(size_t size)
{
	return resident_map(size, MAP_POPULATE);
}

static void resident_read(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;
	ssize_t n = 1;

	if (fd < 0)
		resident_fail(path);
	while (n > 0 && got < size - 1) {
		n = read(fd, text + got, size - 1 - got);
		if (n < 0)
			resident_fail(path);
		got += (size_t)n;
	}
	text[got] = '\0';
	close(fd);
}

/* Rows are "NAME: NUMBER kB". */
static size_t resident_number(const char *path, const char *row)
{
	char text[4096];
	const char *line;

	resident_read(path, text, sizeof(text));
	line = strstr(text, row);
	if (line == NULL)
		resident_fail(row);
	return (size_t)strtoul(line + strlen(row), NULL, 10) * 1024;
}

size_t resident_row(const char *row)
{
	return resident_number("/proc/self/smaps_rollup", row);
}

size_t resident_peak(void)
{
	return resident_number("/proc/self/status", "VmHWM:");
}

void resident_pages_open(struct resident_pages *pages)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	unsigned int bits = sizeof(void *) == 8 ? 48 : 32;

	pages->shift = (unsigned int)__builtin_ctzl(page);
	pages->size = (size_t)1 << (bits - pages->shift - 3);
	pages->bits = resident_map(pages->size, MAP_NORESERVE);
	pages->count = 0;
}

void resident_pages_add(struct resident_pages *pages, const void *start,
			size_t size)
{
	uintptr_t page = (uintptr_t)start >> pages->shift;
	uintptr_t last = ((uintptr_t)start + size - 1) >> pages->shift;

	for (; page <= last; page++) {
		unsigned int bit = 1U << page % 8;

		pages->count += (pages->bits[page / 8] & bit) == 0;
		pages->bits[page / 8] |= (unsigned char)bit;
	}
}

void resident_pages_close(struct resident_pages *pages)
{
	munmap(pages->bits, pages->size);
}
