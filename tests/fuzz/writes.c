/* SPDX-License-Identifier: MIT */
/*
 * writes.c - what the library writes, in memory.
 */
#include <config.h>

#include "writes.h"

#include <string.h>

struct writes writes;

int __wrap_osmem_sys_write(int fd, const char *buf, size_t size);

void writes_clear(void)
{
	writes.size = 0;
}

int __wrap_osmem_sys_write(int fd, const char *buf, size_t size)
{
	if (writes.size <= sizeof(writes.text) &&
	    size <= sizeof(writes.text) - writes.size)
		memcpy(writes.text + writes.size, buf, size);
	writes.size += size;
	writes.fd = fd;
	return 0;
}
