/* SPDX-License-Identifier: MIT */
/*
 * cxx.h - what an operator new does when there is no memory.
 */
#ifndef OSMEM_CXX_H
#define OSMEM_CXX_H

#include "common.h"

/* The replacement's own. */
void *osmem_new(size_t size);

/*
 * Calls the program's new-handler, or throws std::bad_alloc if there is none,
 * or has another operator new do either. caller is an address in the code that
 * wants size bytes: its C++ runtime is asked. A block after all; NULL: there
 * may be memory now. Ends the process where no runtime is to be found. No lock,
 * and not on a slow path.
 */
OSMEM_FN void *osmem_cxx_no_memory(const void *caller, size_t size);

#endif
