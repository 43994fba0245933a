/* SPDX-License-Identifier: MIT */
/*
 * os_print.c - the public face of the heap-free printf.
 *
 * Only turns negated errno values into -1 and errno. Like print.c it takes
 * no lock and touches no heap, so it may be called from a signal handler and
 * from callbacks of the allocator.
 */
#include "print.h"

#include <errno.h>
#include <osmem.h>
#include <unistd.h>

int os_vdprintf(int fd, const char *format, va_list ap)
{
	int result = osmem_print_v(fd, format, ap);

	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

int os_dprintf(int fd, const char *format, ...)
{
	va_list ap;
	int result;

	va_start(ap, format);
	result = os_vdprintf(fd, format, ap);
	va_end(ap);
	return result;
}

int os_printf(const char *format, ...)
{
	va_list ap;
	int result;

	va_start(ap, format);
	result = os_vdprintf(STDOUT_FILENO, format, ap);
	va_end(ap);
	return result;
}
