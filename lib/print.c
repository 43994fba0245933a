/* SPDX-License-Identifier: MIT */
/*
 * print.c - the heap-free printf.
 *
 * A format is checked as a whole before the first byte is written, so a bad
 * one has no effect. Text gathers in a buffer on the stack and leaves in as
 * few write(2) calls as possible, so that a short report stays in one piece.
 * Where the C standard leaves a combination undefined, glibc is followed.
 * No lock, no heap, no locale, no static data.
 */
#include "print.h"

#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/types.h>

enum {
	PRINT_BUFFER = 512,  /* threads with the smallest stack print, too */
	PRINT_DIGITS = 24,   /* 64 bits in octal take 22 */
	PRINT_OMITTED = -1,  /* a precision that is not there */
	PRINT_ARGUMENT = -2, /* a width or precision of '*' */
};

enum print_length {
	PRINT_INT,
	PRINT_CHAR,
	PRINT_SHORT,
	PRINT_LONG,
	PRINT_LONG_LONG,
	PRINT_INTMAX,
	PRINT_SIZE,
	PRINT_PTRDIFF,
};

/* One conversion: what stands between '%' and the letter, and the letter. */
struct print_spec {
	bool left, plus, space, alternate, zero;
	int width;
	int precision;
	enum print_length length;
	char conversion;
};

/* What a conversion becomes: blanks, prefix, zeros, body, in this order. */
struct print_field {
	const char *prefix;
	size_t zeros;
	const char *body;
	size_t size; /* of the body */
};

/* Where the text goes: a descriptor, or a string that is cut when full. */
struct print_out {
	char *buf;
	size_t size;
	size_t used;
	int total; /* bytes of the whole text, cut or not */
	int error; /* 0 or a negated errno; nothing is added after one */
	int fd;
	bool is_string;
};

/* A va_list that can be passed on by address, even where it is an array. */
struct print_args {
	va_list ap;
};

/* Reading the format. */

static bool print_parse_flag(char c, struct print_spec *spec)
{
	switch (c) {
	case '-':
		return spec->left = true;
	case '+':
		return spec->plus = true;
	case ' ':
		return spec->space = true;
	case '#':
		return spec->alternate = true;
	case '0':
		return spec->zero = true;
	default:
		return false;
	}
}

/* A width or precision; no digits at all are 0. 0 or -EOVERFLOW. */
static int print_parse_number(const char **format, int *value)
{
	const char *s = *format;
	int n = 0;

	if (*s == '*') {
		*value = PRINT_ARGUMENT;
		*format = s + 1;
		return 0;
	}
	for (; *s >= '0' && *s <= '9'; s++) {
		int digit = *s - '0';

		if (n > (INT_MAX - digit) / 10)
			return -EOVERFLOW;
		n = n * 10 + digit;
	}
	*value = n;
	*format = s;
	return 0;
}

static enum print_length print_parse_length(const char **format)
{
	char first = **format;
	bool twice = first != '\0' && (*format)[1] == first;

	switch (first) {
	case 'h':
		*format += twice ? 2 : 1;
		return twice ? PRINT_CHAR : PRINT_SHORT;
	case 'l':
		*format += twice ? 2 : 1;
		return twice ? PRINT_LONG_LONG : PRINT_LONG;
	case 'j':
		*format += 1;
		return PRINT_INTMAX;
	case 'z':
		*format += 1;
		return PRINT_SIZE;
	case 't':
		*format += 1;
		return PRINT_PTRDIFF;
	default:
		return PRINT_INT;
	}
}

/* Wide characters are not for us: c, s and p take no length. */
static bool print_is_known(const struct print_spec *spec)
{
	switch (spec->conversion) {
	case 'd':
	case 'i':
	case 'u':
	case 'x':
	case 'X':
	case 'o':
	case '%':
		return true;
	case 'c':
	case 's':
	case 'p':
		return spec->length == PRINT_INT;
	default:
		return false;
	}
}

/* Reads one conversion from behind its '%'. 0, -EINVAL or -EOVERFLOW. */
static int print_parse(const char **format, struct print_spec *spec)
{
	int err;

	*spec = (struct print_spec){.precision = PRINT_OMITTED};
	while (print_parse_flag(**format, spec))
		*format += 1;
	err = print_parse_number(format, &spec->width);
	if (err == 0 && **format == '.') {
		*format += 1;
		err = print_parse_number(format, &spec->precision);
	}
	if (err != 0)
		return err;
	spec->length = print_parse_length(format);
	spec->conversion = **format;
	if (!print_is_known(spec))
		return -EINVAL;
	*format += 1;
	return 0;
}

/* The whole format without its arguments. 0, -EINVAL or -EOVERFLOW. */
static int print_check(const char *format)
{
	struct print_spec spec;
	int err = 0;

	while (err == 0 && *(format += strcspn(format, "%")) != '\0') {
		format++;
		err = print_parse(&format, &spec);
	}
	return err;
}

/* Writing the text. */

static void print_flush(struct print_out *out)
{
	if (out->used > 0)
		out->error = -osmem_sys_write(out->fd, out->buf, out->used);
	out->used = 0;
}

/* Bytes that fit at buf + used, at most n. 0: stop. */
static size_t print_room(struct print_out *out, size_t n)
{
	size_t room;

	if (out->used == out->size && !out->is_string)
		print_flush(out);
	if (out->error != 0)
		return 0;
	room = out->size - out->used;
	return n < room ? n : room;
}

static void print_bytes(struct print_out *out, const char *bytes, size_t n)
{
	size_t part;

	while ((part = print_room(out, n)) > 0) {
		memcpy(out->buf + out->used, bytes, part);
		out->used += part;
		bytes += part;
		n -= part;
	}
}

static void print_repeat(struct print_out *out, char c, size_t n)
{
	size_t part;

	while ((part = print_room(out, n)) > 0) {
		memset(out->buf + out->used, c, part);
		out->used += part;
		n -= part;
	}
}

/* Counts n more bytes; false, and nothing may be added, above INT_MAX. */
static bool print_claim(struct print_out *out, size_t n)
{
	if (n > (size_t)(INT_MAX - out->total)) {
		out->error = -EOVERFLOW;
		return false;
	}
	out->total += (int)n;
	return true;
}

static void print_text(struct print_out *out, const char *text, size_t size)
{
	if (print_claim(out, size))
		print_bytes(out, text, size);
}

static void print_field(struct print_out *out, const struct print_spec *spec,
			const struct print_field *field)
{
	size_t prefix = strlen(field->prefix);
	size_t width = (size_t)spec->width;
	size_t blanks = 0;
	size_t size;

	/* A string's body may be as long as memory: no sum before this. */
	if (field->size > INT_MAX) {
		out->error = -EOVERFLOW;
		return;
	}
	size = prefix + field->zeros + field->size;
	if (width > size)
		blanks = width - size;
	if (!print_claim(out, size + blanks))
		return;
	if (!spec->left)
		print_repeat(out, ' ', blanks);
	print_bytes(out, field->prefix, prefix);
	print_repeat(out, '0', field->zeros);
	print_bytes(out, field->body, field->size);
	if (spec->left)
		print_repeat(out, ' ', blanks);
}

/* The conversions. */

static intmax_t print_signed_argument(struct print_args *args,
				      enum print_length length)
{
	switch (length) {
	case PRINT_CHAR:
		return (signed char)va_arg(args->ap, int);
	case PRINT_SHORT:
		return (short)va_arg(args->ap, int);
	case PRINT_LONG:
		return va_arg(args->ap, long);
	case PRINT_LONG_LONG:
		return va_arg(args->ap, long long);
	case PRINT_INTMAX:
		return va_arg(args->ap, intmax_t);
	case PRINT_SIZE:
		return va_arg(args->ap, ssize_t);
	case PRINT_PTRDIFF:
		return va_arg(args->ap, ptrdiff_t);
	default:
		return va_arg(args->ap, int);
	}
}

/* size_t is ptrdiff_t's unsigned twin on every Linux machine. */
static uintmax_t print_unsigned_argument(struct print_args *args,
					 enum print_length length)
{
	switch (length) {
	case PRINT_CHAR:
		return (unsigned char)va_arg(args->ap, unsigned int);
	case PRINT_SHORT:
		return (unsigned short)va_arg(args->ap, unsigned int);
	case PRINT_LONG:
		return va_arg(args->ap, unsigned long);
	case PRINT_LONG_LONG:
		return va_arg(args->ap, unsigned long long);
	case PRINT_INTMAX:
		return va_arg(args->ap, uintmax_t);
	case PRINT_SIZE:
	case PRINT_PTRDIFF:
		return va_arg(args->ap, size_t);
	default:
		return va_arg(args->ap, unsigned int);
	}
}

static unsigned int print_base(char conversion)
{
	if (conversion == 'o')
		return 8;
	return conversion == 'd' || conversion == 'i' || conversion == 'u' ? 10
									   : 16;
}

/* The digits of n, ending before end; none for 0. Returns the first. */
static char *print_digits(char *end, uintmax_t n, char conversion)
{
	const char *digits =
		conversion == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
	unsigned int base = print_base(conversion);

	for (; n != 0; n /= base)
		*--end = digits[n % base];
	return end;
}

/*
 * Zeros in front of count digits: as many as the precision asks for (1 if
 * there is none, which makes the "0" of zero), one for '#' of octal, and as
 * many as the width has room for if the flag 0 is given and a precision not.
 */
static size_t print_zeros(const struct print_spec *spec, size_t prefix,
			  size_t count)
{
	size_t precision = 1;
	size_t width = (size_t)spec->width;
	size_t zeros = 0;

	if (spec->precision != PRINT_OMITTED)
		precision = (size_t)spec->precision;
	if (precision > count)
		zeros = precision - count;
	if (spec->conversion == 'o' && spec->alternate && zeros == 0)
		zeros = 1;
	if (spec->zero && !spec->left && spec->precision == PRINT_OMITTED &&
	    width > prefix + zeros + count)
		zeros = width - prefix - count;
	return zeros;
}

static void print_integer(struct print_out *out, const struct print_spec *spec,
			  const char *prefix, uintmax_t n)
{
	char digits[PRINT_DIGITS];
	char *end = digits + sizeof(digits);
	char *first = print_digits(end, n, spec->conversion);
	size_t count = (size_t)(end - first);
	struct print_field field = {
		.prefix = prefix,
		.zeros = print_zeros(spec, strlen(prefix), count),
		.body = first,
		.size = count,
	};

	print_field(out, spec, &field);
}

static void print_signed(struct print_out *out, const struct print_spec *spec,
			 intmax_t n)
{
	const char *sign = "";
	uintmax_t size = (uintmax_t)n;

	if (n < 0) {
		sign = "-";
		size = -size;
	} else if (spec->plus) {
		sign = "+";
	} else if (spec->space) {
		sign = " ";
	}
	print_integer(out, spec, sign, size);
}

static void print_unsigned(struct print_out *out, const struct print_spec *spec,
			   uintmax_t n)
{
	const char *prefix = "";

	if (spec->alternate && n != 0 && spec->conversion == 'x')
		prefix = "0x";
	else if (spec->alternate && n != 0 && spec->conversion == 'X')
		prefix = "0X";
	print_integer(out, spec, prefix, n);
}

static void print_body(struct print_out *out, const struct print_spec *spec,
		       const char *body, size_t size)
{
	struct print_field field = {"", 0, body, size};

	print_field(out, spec, &field);
}

/* At most precision bytes are read: the string need not end then. */
static void print_string(struct print_out *out, const struct print_spec *spec,
			 const char *s)
{
	const char *null = "(null)";
	size_t most = SIZE_MAX;
	size_t size = 0;

	if (spec->precision != PRINT_OMITTED)
		most = (size_t)spec->precision;
	/* A name that is cut would only mislead: all of it or nothing. */
	if (s == NULL)
		s = most >= strlen(null) ? null : "";
	while (size < most && s[size] != '\0')
		size++;
	print_body(out, spec, s, size);
}

static void print_pointer(struct print_out *out, const struct print_spec *spec,
			  const void *ptr)
{
	const char *prefix = "0x";

	if (ptr == NULL) {
		print_body(out, spec, "(nil)", strlen("(nil)"));
		return;
	}
	if (spec->plus)
		prefix = "+0x";
	else if (spec->space)
		prefix = " 0x";
	print_integer(out, spec, prefix, (uintptr_t)ptr);
}

static void print_character(struct print_out *out,
			    const struct print_spec *spec, int c)
{
	char byte = (char)(unsigned char)c;

	print_body(out, spec, &byte, 1);
}

/* Fills in '*': a negative width means left, a negative precision none. */
static void print_fetch_stars(struct print_out *out, struct print_spec *spec,
			      struct print_args *args)
{
	if (spec->width == PRINT_ARGUMENT) {
		spec->width = va_arg(args->ap, int);
		if (spec->width == INT_MIN)
			out->error = -EOVERFLOW;
		else if (spec->width < 0) {
			spec->left = true;
			spec->width = -spec->width;
		}
	}
	if (spec->precision == PRINT_ARGUMENT) {
		spec->precision = va_arg(args->ap, int);
		if (spec->precision < 0)
			spec->precision = PRINT_OMITTED;
	}
}

static void print_convert(struct print_out *out, const struct print_spec *spec,
			  struct print_args *args)
{
	switch (spec->conversion) {
	case 'd':
	case 'i':
		print_signed(out, spec,
			     print_signed_argument(args, spec->length));
		break;
	case 'c':
		print_character(out, spec, va_arg(args->ap, int));
		break;
	case 's':
		print_string(out, spec, va_arg(args->ap, const char *));
		break;
	case 'p':
		print_pointer(out, spec, va_arg(args->ap, const void *));
		break;
	case '%':
		print_text(out, "%", 1);
		break;
	default:
		print_unsigned(out, spec,
			       print_unsigned_argument(args, spec->length));
		break;
	}
}

/* All of a format that print_check() has accepted. */
static void print_format(struct print_out *out, const char *format,
			 struct print_args *args)
{
	struct print_spec spec;

	while (out->error == 0 && *format != '\0') {
		size_t plain = strcspn(format, "%");

		print_text(out, format, plain);
		format += plain;
		if (out->error != 0 || *format == '\0')
			continue;
		format++;
		out->error = print_parse(&format, &spec);
		print_fetch_stars(out, &spec, args);
		if (out->error == 0)
			print_convert(out, &spec, args);
	}
}

/* The number of bytes, or a negated errno. */
static int print_run(struct print_out *out, const char *format, va_list ap)
{
	struct print_args args;

	out->error = print_check(format);
	if (out->error != 0)
		return out->error;
	va_copy(args.ap, ap);
	print_format(out, format, &args);
	va_end(args.ap);
	if (out->error == 0 && !out->is_string)
		print_flush(out);
	return out->error != 0 ? out->error : out->total;
}

OSMEM_FN int osmem_print_v(int fd, const char *format, va_list ap)
{
	char buf[PRINT_BUFFER];
	struct print_out out = {.buf = buf, .size = sizeof(buf), .fd = fd};

	return print_run(&out, format, ap);
}

OSMEM_FN int osmem_print(int fd, const char *format, ...)
{
	va_list ap;
	int result;

	va_start(ap, format);
	result = osmem_print_v(fd, format, ap);
	va_end(ap);
	return result;
}

OSMEM_FN int osmem_print_to(char *buf, size_t size, const char *format, ...)
{
	struct print_out out = {
		.buf = buf,
		.size = size > 0 ? size - 1 : 0, /* the end mark has its byte */
		.is_string = true,
	};
	va_list ap;
	int result;

	va_start(ap, format);
	result = print_run(&out, format, ap);
	va_end(ap);
	if (size > 0)
		buf[out.used] = '\0';
	return result;
}
