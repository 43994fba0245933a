/* SPDX-License-Identifier: MIT */
/*
 * check_print.c - the heap-free printf against libc's snprintf.
 *
 * Random formats and arguments, and the edges by hand: text, result and the
 * bytes behind the text must be libc's. Pointers and null strings, which every
 * libc prints in its own way, are compared with glibc only. OSMEM_TEST_SEED
 * replays a run. The same comparison must find faults that are planted in it,
 * or it proves nothing.
 */
#include "print.h"
#include "suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <osmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#ifdef __GLIBC__
enum { ON_GLIBC = 1 };
#else
enum { ON_GLIBC = 0 };
#endif

enum {
	ROUNDS = 250000,
	FORMAT = 256,
	TEXT = 2048,
	FILL = 0x7e, /* what no byte behind the text may lose */
};

/* Faults that a printf could have; the comparison must see each of them. */
enum plant {
	PLANT_NONE,
	PLANT_NO_ALTERNATE, /* the flag '#' is not known */
	PLANT_RESULT,       /* one more than the bytes of the text */
	PLANT_BYTE_BEYOND,  /* the buffer's last byte is written */
	PLANT_COUNT
};

struct trial {
	enum plant plant;
	char format[FORMAT];
	char ours[FORMAT]; /* the same, but for a planted fault */
	int stars[2], star_count;
	size_t size;
	int fd; /* -1, or a file that gets the text, too */
	int want_result, got_result, fd_result;
	char want[TEXT], got[TEXT];
};

static unsigned long long seed, state;

/* splitmix64 */
static unsigned long long random_bits(void)
{
	unsigned long long z = (state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static unsigned int random_below(unsigned int n)
{
	return (unsigned int)(random_bits() % n);
}

/* All magnitudes alike, and the edges often. */
static long long random_number(void)
{
	static const long long edges[] = {
		0,       1,         -1,       -8,        INT_MAX,
		INT_MIN, SCHAR_MIN, UINT_MAX, LLONG_MAX, LLONG_MIN};
	unsigned int edge = random_below(40);

	if (edge < COUNT(edges))
		return edges[edge];
	return (long long)(random_bits() >> random_below(64));
}

static const char *random_string(void)
{
	static const char *const strings[] = {
		"",
		"a",
		"two\nlines",
		"per%cent%s",
		"\x01\x7f\x80\xff",
		"longer than most of the widths that are tried"};
	unsigned int which = random_below(COUNT(strings) + ON_GLIBC);

	return which < COUNT(strings) ? strings[which] : NULL;
}

/* Random formats. */

static void append(struct trial *t, const char *text)
{
	strncat(t->format, text, FORMAT - 1 - strlen(t->format));
}

static void append_literal(struct trial *t)
{
	static const char *const literals[] = {
		"", "", " ", "x=", "a-%%-b", "[", "]\n"};

	append(t, literals[random_below(COUNT(literals))]);
}

static char any_of(const char *letters)
{
	return letters[random_below((unsigned int)strlen(letters))];
}

/* A width or precision: none, digits, or an argument, which may be below 0. */
static void append_number(struct trial *t)
{
	char digits[16];
	int most = random_below(50) == 0 ? 900 : 30;
	int number = (int)random_below((unsigned int)most) + 1;
	unsigned int kind = random_below(3);

	if (kind == 1) {
		snprintf(digits, sizeof(digits), "%d", number);
		append(t, digits);
	} else if (kind == 2) {
		append(t, "*");
		t->stars[t->star_count++] = number - most / 3;
	}
}

/* A flag that has no meaning for a conversion is ignored by every libc. */
static void append_spec(struct trial *t, const char *length, char conversion)
{
	char letter[2] = {conversion, '\0'};

	append(t, "%");
	for (unsigned int n = random_below(4); n > 0; n--) {
		char flag[2] = {any_of("-+ #0"), '\0'};

		append(t, flag);
	}
	append_number(t);
	if (random_below(2) == 0) {
		append(t, ".");
		append_number(t);
	}
	append(t, length);
	append(t, letter);
}

/* Comparing. */

static int new_file(void)
{
	int fd = memfd_create("print", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void start(struct trial *t)
{
	memset(t, 0, sizeof(*t));
	memset(t->want, FILL, sizeof(t->want));
	memset(t->got, FILL, sizeof(t->got));
	t->size = TEXT;
	t->fd = -1;
}

/* What ours is given: the format, or one that shows the planted fault. */
static void plant_before(struct trial *t)
{
	char *flag;

	memcpy(t->ours, t->format, sizeof(t->ours));
	flag = strchr(t->ours, '#');
	if (t->plant == PLANT_NO_ALTERNATE && flag != NULL)
		*flag = '-';
}

static void plant_after(struct trial *t)
{
	if (t->size == 0 || t->got_result >= (int)t->size)
		return;
	if (t->plant == PLANT_RESULT)
		t->got_result++;
	if (t->plant == PLANT_BYTE_BEYOND)
		t->got[t->size - 1] = '\0';
}

/* The file's text must be the one that libc made, if that is not cut. */
static bool same_in_file(struct trial *t)
{
	char text[TEXT];
	ssize_t size;

	if (t->fd < 0 || t->want_result >= (int)t->size)
		return true;
	size = pread(t->fd, text, sizeof(text), 0);
	return t->fd_result == t->want_result && size == t->want_result &&
	       memcmp(text, t->want, (size_t)size) == 0;
}

/* The whole buffers: nothing behind the text may change either. */
static bool same(struct trial *t)
{
	plant_after(t);
	return t->got_result == t->want_result &&
	       memcmp(t->got, t->want, TEXT) == 0 && same_in_file(t);
}

/* Both printfs with the same arguments behind their formats. */
#define BOTH(t, ...) \
	do { \
		(t)->want_result = snprintf((t)->want, (t)->size, (t)->format, \
					    __VA_ARGS__); \
		(t)->got_result = osmem_print_to((t)->got, (t)->size, \
						 (t)->ours, __VA_ARGS__); \
		if ((t)->fd >= 0) \
			(t)->fd_result = \
				osmem_print((t)->fd, (t)->ours, __VA_ARGS__); \
	} while (0)

#define BOTH_WITH_STARS(t, value) \
	do { \
		if ((t)->star_count == 0) \
			BOTH(t, value); \
		else if ((t)->star_count == 1) \
			BOTH(t, (t)->stars[0], value); \
		else \
			BOTH(t, (t)->stars[0], (t)->stars[1], value); \
	} while (0)

static void run_integer(struct trial *t, const char *length)
{
	long long n = random_number();

	if (strcmp(length, "l") == 0)
		BOTH_WITH_STARS(t, (long)n);
	else if (strcmp(length, "ll") == 0)
		BOTH_WITH_STARS(t, n);
	else if (strcmp(length, "j") == 0)
		BOTH_WITH_STARS(t, (intmax_t)n);
	else if (strcmp(length, "z") == 0)
		BOTH_WITH_STARS(t, (size_t)n);
	else if (strcmp(length, "t") == 0)
		BOTH_WITH_STARS(t, (ptrdiff_t)n);
	else
		BOTH_WITH_STARS(t, (int)n);
}

/* One conversion between two literals. */
static void run(struct trial *t)
{
	static const char *const lengths[] = {"hh", "h", "",  "l",
					      "ll", "j", "z", "t"};
	char conversion = any_of(ON_GLIBC ? "diuxXodiuxXoscp" : "diuxXosc");
	const char *length = "";
	const char *string = random_string();
	void *ptr = (void *)(uintptr_t)random_number();

	if (strchr("csp", conversion) == NULL)
		length = lengths[random_below(8)];
	append_literal(t);
	append_spec(t, length, conversion);
	append_literal(t);
	plant_before(t);
	if (conversion == 's')
		BOTH_WITH_STARS(t, string);
	else if (conversion == 'p')
		BOTH_WITH_STARS(t, ptr);
	else
		run_integer(t, length);
}

/* One random trial, true if it differs; a buffer in eight is small. */
static bool run_trial(enum plant plant, int fd, unsigned int round)
{
	static struct trial t;
	bool differs;

	start(&t);
	t.plant = plant;
	if (random_below(8) == 0)
		t.size = random_below(40);
	if (round % 16 == 0) {
		t.fd = fd;
		ck_assert_int_eq(ftruncate(fd, 0), 0);
		ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	}
	run(&t);
	differs = !same(&t);
	ck_assert_msg(!differs || plant != PLANT_NONE,
		      "seed %llu, round %u: \"%s\", stars %d %d, size %zu:\n"
		      "libc %d \"%.*s\",\nosmem %d \"%.*s\", file %d",
		      seed, round, t.format, t.stars[0], t.stars[1], t.size,
		      t.want_result, (int)t.size, t.want, t.got_result,
		      (int)t.size, t.got, t.fd_result);
	return differs;
}

/* Whether any of the random trials differs. */
static bool any_differs(enum plant plant)
{
	int fd = new_file();
	bool found = false;

	state = seed;
	for (unsigned int i = 0; i < ROUNDS && !found; i++)
		found = run_trial(plant, fd, i);
	close(fd);
	return found;
}

START_TEST(random_formats_print_as_libc_does)
{
	ck_assert(!any_differs(PLANT_NONE));
	printf("check_print: %d random formats as libc, seed %llu\n", ROUNDS,
	       seed);
	fflush(stdout);
}
END_TEST

START_TEST(planted_faults_are_found)
{
	ck_assert(any_differs((enum plant)_i));
}
END_TEST

/* Edges by hand. */

static struct trial edge;

static void start_edge(const char *format)
{
	start(&edge);
	append(&edge, format);
	plant_before(&edge);
}

/* As libc does, here in a call with given arguments. */
#define SAME(format, ...) \
	do { \
		start_edge(format); \
		BOTH(&edge, __VA_ARGS__); \
		ck_assert_msg(same(&edge), "%s: libc %d '%s', osmem %d '%s'", \
			      format, edge.want_result, edge.want, \
			      edge.got_result, edge.got); \
	} while (0)

START_TEST(integers_have_their_edges)
{
	SAME("%d %i %lld %llu", INT_MIN, INT_MAX, LLONG_MIN, ULLONG_MAX);
	SAME("%jd %ju %zu", INTMAX_MIN, UINTMAX_MAX, SIZE_MAX);
	SAME("%zd %td %td", (size_t)-1, PTRDIFF_MIN, PTRDIFF_MAX);
	SAME("%hhd %hhu %hhx", 128, 256 + 7, -1);
	SAME("%hd %hu %ho", 32768, 65536 + 7, -1);
	SAME("%llo %#llo", ULLONG_MAX, ULLONG_MAX);
	SAME("[%.0d][%.d][%.0x][%.0u]", 0, 0, 0, 0);
	SAME("[%+.0d][% .0d][%5.0d][%-5.0d]", 0, 0, 0, 0);
	SAME("[%#o][%#.0o][%#.1o][%#.3o][%#.2o]", 0, 0, 0, 8, 8);
	SAME("[%#x][%#X][%#x][%#08x][%-#8x]", 0, 255, 255, 255, 255);
	SAME("[%#05o][%#010.4x][%010.4d]", 8, 255, 255);
	SAME("[%05d][%-5d][%+5d][% 5d]", -42, -42, 42, 42);
	SAME("[%*d][%*d][%-*d]", 6, 1, -6, 2, 6, 3);
	SAME("[%.*d][%0*.*d][%0*.*d]", -1, 0, 6, -1, 7, 6, 3, 7);
	SAME("%d%lld%s%c%zu%hhd", 1, 2LL, "three", '4', (size_t)5, 6);
}
END_TEST

/* What the standard leaves open. */
static void check_glibc_edges(void)
{
	const void *ptr = (const void *)(uintptr_t)0x12;
	const char *null = NULL;

	SAME("[%s][%.5s][%.6s][%10s][%9.3s]", null, null, null, null, null);
	SAME("[%p][%8p][%-8p][%08p][%.2p]", null, null, null, null, null);
	SAME("[%p][%8p][%-8p][%08p][%.8p]", ptr, ptr, ptr, ptr, ptr);
	SAME("[%+p][% p][%#p][%+09p]", ptr, ptr, ptr, ptr);
	SAME("[%05s][%05c][%+s][%#d][%+u]", "ab", 'c', "d", 5, 5u);
	SAME("[%5%][%-5%][%.3%][%*%]%d", 3, 4);
}

START_TEST(strings_have_their_edges)
{
	SAME("[%s][%.0s][%.2s][%5s][%-5s]", "", "abc", "abc", "abc", "abc");
	SAME("[%.*s][%*s][%c][%3c]", -1, "abc", -5, "abc", 'a', 'b');
	SAME("a%cb%c", '\0', 256 + 'x');
	SAME("%d%%%s%%", 100, "");
	SAME("%.2147483647s", "abc");
	if (ON_GLIBC)
		check_glibc_edges();
}
END_TEST

/* A precision bounds what is read: behind the text there is no memory. */
START_TEST(a_string_with_precision_need_not_end)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *text = pages + page - 3, buf[8];

	ck_assert_ptr_ne(pages, MAP_FAILED);
	ck_assert_int_eq(mprotect(pages + page, page, PROT_NONE), 0);
	memcpy(text, "abc", 3);
	ck_assert_int_eq(osmem_print_to(buf, sizeof(buf), "%.3s", text), 3);
	ck_assert_str_eq(buf, "abc");
	munmap(pages, 2 * page);
}
END_TEST

START_TEST(a_small_buffer_cuts_and_is_terminated)
{
	for (size_t size = 0; size < 12; size++) {
		start_edge("%s-%05d");
		edge.size = size;
		BOTH(&edge, "abc", 42);
		ck_assert_msg(same(&edge), "size %zu", size);
	}
	ck_assert_int_eq(osmem_print_to(NULL, 0, "%d", 12345), 5);
}
END_TEST

/* clang-format off */
static const char *const unknown_formats[] = {
	"%", "text %", "%5", "%.", "%-", "%l", "%hh", "%n", "%f", "%e", "%g",
	"%a", "%C", "%S", "%m", "%ls", "%lc", "%zs", "%hp", "%Ld", "%qd",
	"%'d", "%1$d", "%llld", "%hhhd", "%5-d", "%.-5d", "%.+d", "ok %y.",
	"%%%d %!d",
};
/* clang-format on */

START_TEST(an_unknown_conversion_writes_nothing)
{
	const char *format = unknown_formats[_i];
	int fd = new_file();
	char buf[8] = "before";

	ck_assert_int_eq(osmem_print(fd, format, 1, 2, 3), -EINVAL);
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 0);
	ck_assert_int_eq(osmem_print_to(buf, 8, format, 1, 2, 3), -EINVAL);
	ck_assert_str_eq(buf, "");
	close(fd);
}
END_TEST

/* Results above INT_MAX; up to it the text is counted, not made. */
#define RESULT(want, ...) \
	ck_assert_int_eq(osmem_print_to(edge.got, 16, __VA_ARGS__), want)

START_TEST(more_than_int_max_is_an_overflow)
{
	const char *volatile two_stars = "%*.*d"; /* hidden from warnings */
	const char *const formats[] = {"%2147483648d",  "%.2147483648d",
				       "%99999999999d", "%2147483647d|",
				       "|%2147483647d", "%.2147483647x|"};

	for (size_t i = 0; i < COUNT(formats); i++)
		RESULT(-EOVERFLOW, formats[i], 7);
	RESULT(-EOVERFLOW, two_stars, INT_MIN, -1, 7);
	RESULT(-EOVERFLOW, two_stars, 0, INT_MAX, -7);
	RESULT(INT_MAX, "%*d", INT_MAX, 7);
	RESULT(INT_MAX, "%*d", -INT_MAX, 7);
	RESULT(INT_MAX, "%.*d", INT_MAX, 7);
	RESULT(INT_MAX, "%*d%s", INT_MAX - 3, 7, "abc");
	ck_assert_str_eq(edge.got, "               ");
}
END_TEST

/* Descriptors. */

START_TEST(long_texts_reach_a_file_whole)
{
	static char text[5000], want[12000], got[12000];
	int fd = new_file();

	memset(text, 't', sizeof(text) - 1);
	snprintf(want, sizeof(want), "%s|%6000d|", text, 5);
	ck_assert_int_eq(osmem_print(fd, "%s|%6000d|", text, 5), 11001);
	ck_assert_int_eq(pread(fd, got, sizeof(got), 0), 11001);
	ck_assert_str_eq(got, want);
	close(fd);
}
END_TEST

/* Packets show each write(2): lines of reports must not be torn. */
START_TEST(a_short_text_is_one_write)
{
	char got[TEXT];
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	ck_assert_int_eq(osmem_print(ends[0], "%s: %d%%, %300s\n", "a", 5, "b"),
			 308);
	ck_assert_int_eq(osmem_print(ends[0], "%s", ""), 0);
	close(ends[0]);
	ck_assert_int_eq(read(ends[1], got, sizeof(got)), 308);
	ck_assert_int_eq(read(ends[1], got, sizeof(got)), 0);
	close(ends[1]);
}
END_TEST

START_TEST(errors_of_write_are_returned)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	if (full >= 0)
		ck_assert_int_eq(osmem_print(full, "%5000d", 1), -ENOSPC);
	errno = 1234;
	ck_assert_int_eq(osmem_print(-1, "text"), -EBADF);
	ck_assert_int_eq(osmem_print(-1, "%s", ""), 0);
	ck_assert_int_eq(errno, 1234);
	close(full);
}
END_TEST

START_TEST(the_public_functions_set_errno)
{
	const char *volatile unknown = "%y";
	int fd = new_file();
	int saved = dup(STDOUT_FILENO);
	int result;
	char got[8];

	errno = 1234;
	ck_assert_int_eq(os_dprintf(fd, "%d %s", 12, "ab"), 5);
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	result = os_printf("%x", 0xc);
	dup2(saved, STDOUT_FILENO);
	ck_assert_int_eq(result, 1);
	ck_assert_int_eq(errno, 1234);
	ck_assert_int_eq(pread(fd, got, sizeof(got), 0), 6);
	ck_assert_mem_eq(got, "12 abc", 6);
	ck_assert_int_eq(os_dprintf(fd, unknown, 1), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(os_dprintf(-1, "%d", 1), -1);
	ck_assert_int_eq(errno, EBADF);
	close(fd);
	close(saved);
}
END_TEST

static Suite *print_suite(void)
{
	const TTest *const tests[] = {
		random_formats_print_as_libc_does,
		integers_have_their_edges,
		strings_have_their_edges,
		a_string_with_precision_need_not_end,
		a_small_buffer_cuts_and_is_terminated,
		more_than_int_max_is_an_overflow,
		long_texts_reach_a_file_whole,
		a_short_text_is_one_write,
		errors_of_write_are_returned,
		the_public_functions_set_errno,
	};
	Suite *suite = suite_create("print");
	TCase *tcase = tcase_create("print");

	tcase_set_timeout(tcase, 120);
	for (size_t i = 0; i < COUNT(tests); i++)
		tcase_add_test(tcase, tests[i]);
	tcase_add_loop_test(tcase, planted_faults_are_found, PLANT_NONE + 1,
			    PLANT_COUNT);
	tcase_add_loop_test(tcase, an_unknown_conversion_writes_nothing, 0,
			    COUNT(unknown_formats));
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	const char *text = getenv("OSMEM_TEST_SEED");

	seed = (unsigned long long)time(NULL) * 100003 + (unsigned int)getpid();
	if (text != NULL)
		seed = strtoull(text, NULL, 0);
	return suite_run(print_suite());
}
