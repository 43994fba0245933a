/* SPDX-License-Identifier: MIT */
/*
 * stats_now.h - the statistics as they are.
 */
#ifndef STATS_NOW_H
#define STATS_NOW_H

#include "must.h"

#include <osmem.h>

static inline struct os_stats stats_now(void)
{
	struct os_stats stats = { .struct_size = sizeof(stats) };

	MUST_EQ(os_stats(&stats), 0);
	return stats;
}

#endif
