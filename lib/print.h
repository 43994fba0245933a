/* SPDX-License-Identifier: MIT */
/*
 * print.h - the heap-free printf.
 *
 * Formats into a buffer on the caller's stack and writes it with write(2).
 * Takes no lock, allocates nothing, reads no locale: async-signal-safe.
 */
#ifndef OSMEM_PRINT_H
#define OSMEM_PRINT_H

#include "common.h"

#include <stdarg.h>

/*
 * Prints to fd. Conversions d i u x X o p s c %, flags "-+ #0", width and
 * precision (also *), lengths hh h l ll z j t. Returns the number of bytes,
 * or a negated errno: -EINVAL for a conversion that it does not know (nothing
 * is written then), -EOVERFLOW above INT_MAX bytes, else what write(2) said.
 */
OSMEM_FN int osmem_print_v(int fd, const char *format, va_list ap);
OSMEM_FN int osmem_print(int fd, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The same into buf of size bytes, as snprintf: always terminated when size
 * is not 0; returns the length that the whole text has, or a negated errno.
 */
OSMEM_FN int osmem_print_to(char *buf, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
