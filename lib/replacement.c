/* SPDX-License-Identifier: MIT */
/*
 * replacement.c - the malloc replacement, whole: one translation unit.
 *
 * A core of its own beside that of libosmem: alignment 16, mapped stretches
 * only, every internal name static (common.h). One object, so that a static
 * program that takes malloc from here takes all of the family from here.
 */
#include "sys.c"

#include "print.c"

#include "die.c"

#include "lock.c"

#include "fault.c"
#include "near.c"

#include "options.c"

#include "watch.c"

#include "stats.c"

#include "nested.c"

#include "sites.c"

#include "report.c"

#include "index.c"
#include "bins.c"
#include "runs.c"

#include "stretch.c"

#include "region.c"
#include "region_idle.c"

#include "span.c"

#include "heap.c"

#include "heap_look.c"

#include "mapped.c"

#include "slab.c"
#include "slab_slots.c"
#include "slab_tear.c"
#include "slab_look.c"

#include "hard.c"
#include "hard_bins.c"
#include "hard_slabs.c"
#include "hard_maps.c"
#include "hard_kept.c"
#include "hard_look.c"

#include "thread.c"
#include "thread_life.c"
#include "thread_slabs.c"
#include "thread_remote.c"

#include "purger.c"

#include "init.c"

#include "hot.c"

#include "misuse.c"

#include "core.c"
#include "core_door.c"

#include "inspect.c"

#include "cxx.c"

#include "malloc.c"

#include "dlopen.c"
