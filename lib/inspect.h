/* SPDX-License-Identifier: MIT */
/*
 * inspect.h - looking inside: statistics, walking, checking, version.
 *
 * What os_stats() & co. and the replacement's malloc_stats() & co. share.
 */
#ifndef OSMEM_INSPECT_H
#define OSMEM_INSPECT_H

#include "common.h"

#include <osmem.h>

/* Fills all fields but struct_size. */
OSMEM_FN void osmem_inspect_stats(struct os_stats *stats);

/* 0 or an errno value: EINVAL for an unknown format. */
OSMEM_FN int osmem_inspect_print(int fd, int format);

/* Calls fn for every block in address order, with the core's lock held. */
OSMEM_FN int osmem_inspect_walk(int (*fn)(const struct os_block *block,
					  void *arg),
				void *arg);

/* The number of broken invariants, each reported. */
OSMEM_FN int osmem_inspect_check(void);

/* Version, build, limits, options. 0 or an errno value. */
OSMEM_FN int osmem_inspect_info(int fd);

#endif
