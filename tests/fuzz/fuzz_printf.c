/* SPDX-License-Identifier: MIT */
/*
 * fuzz_printf.c - the heap-free printf against libc's snprintf.
 *
 * With the first byte even, what follows describes conversions one by one:
 * flags, width, precision, length, letter and argument; each must come out as
 * from libc, into a buffer that may be small and through a descriptor. With
 * it odd, the bytes are the format: a bad one must write nothing, and what is
 * accepted must be what libc makes of it.
 */
#include "print.h"

#include "fuzz.h"
#include "writes.h"

#include <errno.h>
#include <limits.h>
#include <osmem.h>

enum {
	TEXT = 2048,
	FORMAT = 512,
	WIDTH_MOST = 999, /* beyond that libc takes memory, or long */
	ARGUMENTS = 12,
	FILL = 0x7e,
};

struct pair {
	char want[TEXT], got[TEXT];
	int want_result, got_result, fd_result;
	size_t size;
};

static struct pair pair;
static char format[FORMAT];

static void start(size_t size)
{
	memset(pair.want, FILL, TEXT);
	memset(pair.got, FILL, TEXT);
	pair.size = size;
	writes_clear();
}

/* All of the three with the same arguments. */
#define BOTH(...) \
	do { \
		pair.want_result = snprintf(pair.want, pair.size, format, \
					    __VA_ARGS__); \
		pair.got_result = osmem_print_to(pair.got, pair.size, format, \
						 __VA_ARGS__); \
		pair.fd_result = os_dprintf(7, format, __VA_ARGS__); \
	} while (0)

static void check(void)
{
	if (fuzz_is_planted() && pair.size > 0 && pair.got_result > 3)
		pair.got[0] ^= 1;
	FUZZ_MUST(pair.got_result == pair.want_result,
		  "\"%s\": %d, not %d", format, pair.got_result,
		  pair.want_result);
	FUZZ_MUST(memcmp(pair.got, pair.want, TEXT) == 0,
		  "\"%s\" (%zu): \"%.99s\", not \"%.99s\"", format, pair.size,
		  pair.got, pair.want);
	FUZZ_MUST(pair.fd_result == pair.want_result &&
			  writes.size == (size_t)pair.want_result,
		  "\"%s\": %d and %zu bytes", format, pair.fd_result,
		  writes.size);
	FUZZ_MUST(writes.size >= pair.size ||
			  memcmp(writes.text, pair.want, writes.size) == 0,
		  "\"%s\": other bytes in the file", format);
}

/* --- conversions one by one --- */

#define WITH_STARS(value) \
	do { \
		if (stars == 0) \
			BOTH(value); \
		else if (stars == 1) \
			BOTH(star[0], value); \
		else \
			BOTH(star[0], star[1], value); \
	} while (0)

/* A width or precision: none, digits or '*'. Returns the end of the format. */
static char *number(struct fuzz_input *in, unsigned int kind, char *at,
		    int *star, int *stars)
{
	int n = (int16_t)fuzz_bytes(in, 2) % (WIDTH_MOST + 1);

	if (kind == 1)
		return at + sprintf(at, "%d", n < 0 ? -n : n);
	if (kind == 2) {
		star[(*stars)++] = n;
		*at++ = '*';
	}
	return at;
}

static void integer(struct fuzz_input *in, unsigned int length,
		    const int *star, int stars)
{
	long long n = (long long)fuzz_bytes(in, 8) >> fuzz_byte(in) % 64;

	switch (length) {
	case 3:
		WITH_STARS((long)n);
		break;
	case 4:
		WITH_STARS(n);
		break;
	case 5:
		WITH_STARS((intmax_t)n);
		break;
	case 6:
		WITH_STARS((size_t)n);
		break;
	case 7:
		WITH_STARS((ptrdiff_t)n);
		break;
	default:
		WITH_STARS((int)n);
		break;
	}
}

static void string(struct fuzz_input *in, const int *star, int stars)
{
	char text[256];
	size_t n = fuzz_byte(in);

	for (size_t i = 0; i < n; i++)
		text[i] = (char)fuzz_byte(in);
	text[n] = '\0';
	WITH_STARS(text);
}

static void pointer(struct fuzz_input *in, const int *star, int stars)
{
	void *p = (void *)(uintptr_t)fuzz_bytes(in, sizeof(void *));

	WITH_STARS(p);
}

/* Null strings and pointers are printed by every libc in its own way. */
static bool is_for_every_libc(char letter)
{
#ifdef __GLIBC__
	return letter != '\0';
#else
	return letter != 'p';
#endif
}

static void conversion(struct fuzz_input *in)
{
	static const char *const lengths[] = {"hh", "h", "",  "l",
					      "ll", "j", "z", "t"};
	unsigned int flags = fuzz_byte(in), kinds = fuzz_byte(in);
	char letter = "diuxXocsp"[fuzz_byte(in) % 9], *at = format;
	unsigned int length = kinds >> 4 & 7;
	int star[2], stars = 0;

	start(kinds & 0x80 ? fuzz_byte(in) : TEXT);
	*at++ = '%';
	for (unsigned int i = 0; i < 5; i++)
		if (flags & 1u << i)
			*at++ = "-+ #0"[i];
	at = number(in, kinds & 3, at, star, &stars);
	if (flags & 0x20) {
		*at++ = '.';
		at = number(in, kinds >> 2 & 3, at, star, &stars);
	}
	if (letter == 'c' || letter == 's' || letter == 'p')
		length = 2;
	sprintf(at, "%s%c|", lengths[length], letter);
	if (!is_for_every_libc(letter))
		return;
	if (letter == 's')
		string(in, star, stars);
	else if (letter == 'p')
		pointer(in, star, stars);
	else
		integer(in, length, star, stars);
	check();
}

/* --- bytes as a format --- */

/* Each argument is a string's address, for whatever takes it. */
#define ALL(a) a, a, a, a, a, a, a, a, a, a, a, a

/* Whether libc gets through it without taking memory, or long. */
static bool is_tame(void)
{
	const char *at = format;
	unsigned int percents = 0;

	for (; *at != '\0'; at++) {
		percents += *at == '%';
		if (*at == '*' || *at == 'p' ||
		    strspn(at, "0123456789") > 3)
			return false;
	}
	return percents <= ARGUMENTS;
}

/* At most: where words have 32 bits, some conversions take two. */
static unsigned int count_arguments(void)
{
	unsigned int count = 0;

	for (const char *at = format; *at != '\0'; at++)
		count += strchr("%*lj", *at) != NULL;
	return count;
}

static void raw(struct fuzz_input *in)
{
	static const char text[] = "some text";
	size_t n = in->left < FORMAT - 1 ? in->left : FORMAT - 1;

	memcpy(format, in->at, n);
	format[n] = '\0';
	if (count_arguments() > ARGUMENTS)
		return;
	start(TEXT);
	pair.got_result = osmem_print_to(pair.got, TEXT, format, ALL(text));
	if (pair.got_result == -EINVAL) {
		errno = 0;
		FUZZ_MUST(os_dprintf(7, format, ALL(text)) == -1 &&
				  errno == EINVAL && writes.size == 0,
			  "\"%s\" writes %zu bytes", format, writes.size);
		return;
	}
	FUZZ_MUST(pair.got_result >= 0 || pair.got_result == -EOVERFLOW,
		  "\"%s\": %d", format, pair.got_result);
	if (!is_tame())
		return;
	start(TEXT);
	BOTH(ALL(text));
	check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	if (fuzz_byte(&in) & 1)
		raw(&in);
	else
		while (in.left > 0)
			conversion(&in);
	return 0;
}
