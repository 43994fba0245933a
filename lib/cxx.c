/* SPDX-License-Identifier: MIT */
/*
 * cxx.c - the C++ runtime's new-handler and its std::bad_alloc.
 *
 * For the replacement only. Nothing of the runtime is linked: it is looked for
 * when memory has run out, and not before, as dlsym takes a lock of libc's.
 * Holds no state.
 */
#include "cxx.h"

#include "print.h"
#include "sys.h"

#include <dlfcn.h>
#include <string.h>

/* Not in every static program; before glibc 2.34 only where -ldl is. */
void *dlsym(void *handle, const char *name) __attribute__((weak));
void *dlopen(const char *file, int flags) __attribute__((weak));
int dlclose(void *handle) __attribute__((weak));
int dladdr(const void *address, Dl_info *info) __attribute__((weak));

#if __SIZEOF_SIZE_T__ == __SIZEOF_INT__
#define CXX_NEW "_Znwj"
#else
#define CXX_NEW "_Znwm"
#endif

typedef void cxx_handler(void);
typedef cxx_handler *cxx_get_handler(void);
typedef void *cxx_new(size_t size);

/* As a library sees it that is loaded, or the program. */
static void *cxx_find_in(const char *file, const char *name)
{
	void *handle = dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
	void *symbol;

	if (handle == NULL)
		return NULL;
	symbol = dlsym(handle, name);
	dlclose(handle);
	return symbol;
}

/*
 * As the caller's library sees it; or the program; or the runtimes that there
 * are, as a caller that ends in a jump leaves only its own to be seen.
 */
static void *cxx_find(const void *caller, const char *name)
{
	static const char *const runtimes[] = {
		"libstdc++.so.6", "libc++.so.1", "libc++abi.so.1"};
	void *symbol = NULL;
	Dl_info info;
	size_t i;

	if (dlopen == NULL || dlclose == NULL || dlsym == NULL ||
	    dladdr == NULL)
		return NULL;
	if (dladdr(caller, &info) != 0)
		symbol = cxx_find_in(info.dli_fname, name);
	if (symbol == NULL)
		symbol = dlsym(RTLD_NEXT, name);
	for (i = 0; i < sizeof(runtimes) / sizeof(*runtimes); i++)
		if (symbol == NULL)
			symbol = cxx_find_in(runtimes[i], name);
	return symbol;
}

/* As POSIX wants it: no cast. */
#define CXX_FIND(function, caller, name)                             \
	do {                                                         \
		void *found = cxx_find(caller, name);                \
		memcpy(&(function), &found, sizeof(function));       \
	} while (0)

/*
 * The runtime's operator new comes last, as it asks for memory once more: of
 * requests that option fail lets fail nobody would notice.
 */
void *osmem_cxx_no_memory(const void *caller, size_t size)
{
	cxx_get_handler *get;
	cxx_handler *handler;
	cxx_handler *fail;
	cxx_new *other;

	CXX_FIND(get, caller, "_ZSt15get_new_handlerv");
	CXX_FIND(fail, caller, "_ZSt17__throw_bad_allocv");
	if (get != NULL && fail != NULL) {
		handler = get();
		if (handler == NULL)
			handler = fail;
		handler();
		return NULL;
	}
	CXX_FIND(other, caller, CXX_NEW);
	if (other != NULL && other != osmem_new)
		return other(size);
	osmem_print(2,
		    "%s: operator new: no memory for %zu bytes, and no C++ "
		    "runtime that throws\n",
		    OSMEM_NAME, size);
	osmem_sys_abort();
}
