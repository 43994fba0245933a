/* SPDX-License-Identifier: MIT */
/*
 * writes.h - takes what the library writes. Needs
 * -Wl,--wrap=osmem_sys_write; that way nothing reaches the system, and the
 * reports of sanitizers and of findings keep their stderr.
 */
#ifndef WRITES_H
#define WRITES_H

#include <stddef.h>

struct writes {
	char text[1 << 16];
	size_t size; /* of all that was written, kept or not */
	int fd;      /* of the last write */
};

extern struct writes writes;

void writes_clear(void);

#endif
