/* SPDX-License-Identifier: MIT */
/*
 * dlopen.c - dlopen without RTLD_DEEPBIND, for the preloaded replacement.
 *
 * A library that is loaded with that flag looks for malloc among its own
 * dependencies first, and finds libc's whatever is preloaded: what it then
 * frees of the program's, or the program of its, is no block there. Runs in
 * the program's thread, before or after anything. The archive has it, too, but
 * only the shared object calls it dlopen (Makefile.am): a static program's is
 * libc's own.
 */
#include "options.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

__attribute__((visibility("default"))) void *osmem_dlopen(const char *file,
							  int flags);

/* Not in every static program; before glibc 2.34 only where -ldl is. */
void *dlsym(void *handle, const char *name) __attribute__((weak));

typedef void *dlopen_function(const char *file, int flags);

/* libc's, or of what else is preloaded. Relaxed: there is only one. */
static dlopen_function *dlopen_next(void)
{
	static _Atomic(dlopen_function *) next;
	dlopen_function *found =
		atomic_load_explicit(&next, memory_order_relaxed);
	void *symbol;

	if (found == NULL && dlsym != NULL) {
		symbol = dlsym(RTLD_NEXT, "dlopen");
		/* As POSIX wants it: no cast. */
		memcpy(&found, &symbol, sizeof(found));
		atomic_store_explicit(&next, found, memory_order_relaxed);
	}
	return found;
}

/*
 * The last call is a jump, where the compiler optimises: who calls is who libc
 * sees, whose own search path counts.
 */
void *osmem_dlopen(const char *file, int flags)
{
	dlopen_function *next = dlopen_next();

#ifdef RTLD_DEEPBIND
	if (!osmem_option(OSMEM_OPT_DEEPBIND))
		flags &= ~RTLD_DEEPBIND;
#endif
	return next == NULL ? NULL : next(file, flags);
}
