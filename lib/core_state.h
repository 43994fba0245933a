/* SPDX-License-Identifier: MIT */
/*
 * core_state.h - core.c behind its door, core_door.c, and for nobody else.
 *
 * Each function of core.h that a handler may come to has its other half here.
 * The thread's slow path has begun (osmem_thread_begin).
 */
#ifndef OSMEM_CORE_STATE_H
#define OSMEM_CORE_STATE_H

#include "core.h"

/* alignment: OSMEM_ALIGN or more. */
OSMEM_FN void *osmem_core_serve(size_t size, size_t alignment);
OSMEM_FN void *osmem_core_serve_zero(size_t size);
/* As osmem_hot_clears, of any new block. */
OSMEM_FN size_t osmem_core_clears(const void *p, size_t size);
/* The same by a mapping, which nobody wants to see. */
OSMEM_FN void *osmem_core_serve_map(size_t size);
OSMEM_FN void osmem_core_serve_free(const char *call, void *ptr);
OSMEM_FN void osmem_core_serve_free_sized(const char *call, void *ptr,
					  size_t alignment, size_t asked,
					  size_t most);
OSMEM_FN int osmem_core_serve_realloc(const char *call, void *ptr, size_t size,
				      void **out);
OSMEM_FN size_t osmem_core_serve_usable(const char *call, const void *ptr);
OSMEM_FN bool osmem_core_serve_trim(size_t pad);

#endif
