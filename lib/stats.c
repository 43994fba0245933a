/* SPDX-License-Identifier: MIT */
/*
 * stats.c - where the counters of stats.h are.
 */
#include "stats.h"

OSMEM_VAR_DEFINED struct osmem_stats_counters osmem_stats_counters;
