/* SPDX-License-Identifier: MIT */
/*
 * check_options.c - the options: grammar, ranges, messages, origins, help.
 *
 * What the parser says on standard error is caught in a file and compared.
 * The values are the process's own, so each test sets what it needs, and the
 * defaults are looked at first: this holds without a fork per test, too.
 */
#include "options.h"
#include "suite.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <osmem.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { TEXT = 8192 };

static char said[TEXT];

static int new_file(void)
{
	int fd = memfd_create("options", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* The text of a file, in said; the file is closed. */
static void read_file(int fd)
{
	ssize_t size = pread(fd, said, sizeof(said) - 1, 0);

	ck_assert_int_ge(size, 0);
	said[size] = '\0';
	close(fd);
}

/* Parses; what goes to standard error meanwhile is in said. */
static void parse(const char *text)
{
	int fd = new_file();
	int saved = dup(STDERR_FILENO);

	ck_assert_int_ge(saved, 0);
	dup2(fd, STDERR_FILENO);
	osmem_options_parse(text);
	dup2(saved, STDERR_FILENO);
	close(saved);
	read_file(fd);
}

static unsigned int lines(void)
{
	unsigned int n = 0;

	for (const char *s = said; (s = strchr(s, '\n')) != NULL; s++)
		n++;
	return n;
}

/* The line of a key in the printed table, NULL when there is none. */
static const char *row_of(const char *key)
{
	static char row[256];
	char start[32];
	const char *line;

	snprintf(start, sizeof(start), "\n%s ", key);
	line = strstr(said, start);
	if (line == NULL)
		return NULL;
	snprintf(row, sizeof(row), "%.*s", (int)strcspn(line + 1, "\n"),
		 line + 1);
	return row;
}

/* Checks the first words of a key's row: value, origin, range. */
static void expect_row(const char *key, const char *value, const char *origin,
		       const char *range)
{
	char words[4][64];
	const char *row = row_of(key);

	ck_assert_msg(row != NULL, "no row of %s in:\n%s", key, said);
	ck_assert_int_eq(sscanf(row, "%63s %63s %63s %63s", words[0], words[1],
				words[2], words[3]),
			 4);
	ck_assert_str_eq(words[1], value);
	ck_assert_str_eq(words[2], origin);
	ck_assert_str_eq(words[3], range);
}

static const char *mode_name(int mode)
{
	static const char *const names[] = {"exact", "auto", "fast"};

	return names[mode];
}

START_TEST(defaults_are_there_before_anything_is_read)
{
	int fd = new_file();

	ck_assert_int_eq(osmem_option(OSMEM_OPT_MODE), OSMEM_CONF_MODE);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_DIE), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_WARN), 1);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_BREAK), OS_BREAK_AUTO);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CHECK), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_STATS), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_HOT_AFTER), 256);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_GROW_AFTER), 64);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CACHE_AFTER), 64);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_FOREIGN), OS_FOREIGN_ABORT);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_SITES), 0);
	ck_assert_int_eq(osmem_options_print(fd), 0);
	read_file(fd);
	expect_row("mode", mode_name(OSMEM_CONF_MODE),
		   OSMEM_CONF_MODE == OS_MODE_AUTO ? "default" : "configure",
		   "exact|auto|fast");
	expect_row("die", "0", "default", "0|1|no|yes");
	expect_row("warn", "1", "default", "0|1|no|yes");
	expect_row("break", "auto", "default", "auto|always|never");
	expect_row("check", "0", "default", "0..2147483647");
	expect_row("stats", "no", "default", "no|exit");
	expect_row("hot_after", "256", "default", "1..2147483647");
	expect_row("grow_after", "64", "default", "1..2147483647");
	expect_row("cache_after", "64", "default", "1..2147483647");
	expect_row("foreign", "abort", "default", "abort|warn|ignore");
	expect_row("sites", "0", "default", "0|1|no|yes");
	expect_row("fail", "no", "default", "no|nth:N|every:N|p=P:SEED");
	expect_row("deepbind", "0", "default", "0|1|no|yes");
	expect_row("purger", "1", "default", "0|1|no|yes");
}
END_TEST

START_TEST(every_option_can_be_read)
{
	parse("mode=exact,die=yes,warn=no,break=never,check=1000,stats=exit,"
	      "hot_after=1,grow_after=2147483647,cache_after=007");
	ck_assert_str_eq(said, "");
	ck_assert_int_eq(osmem_option(OSMEM_OPT_MODE), OS_MODE_EXACT);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_DIE), 1);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_WARN), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_BREAK), OS_BREAK_NEVER);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CHECK), 1000);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_STATS), 1);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_HOT_AFTER), 1);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_GROW_AFTER), INT_MAX);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CACHE_AFTER), 7);
	parse("mode=auto,die=0,warn=1,break=always,stats=no,check=0,"
	      "foreign=ignore,sites=1,deepbind=yes,purger=no");
	ck_assert_str_eq(said, "");
	ck_assert_int_eq(osmem_option(OSMEM_OPT_MODE), OS_MODE_AUTO);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_DIE), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_WARN), 1);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_BREAK), OS_BREAK_ALWAYS);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_STATS), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CHECK), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_PURGER), 0);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_FOREIGN), OS_FOREIGN_IGNORE);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_SITES), 1);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_DEEPBIND), 1);
}
END_TEST

START_TEST(empty_text_and_empty_items_are_nothing)
{
	static const char *const texts[] = {NULL, "", ",", ",,,", ",die=0,,"};

	osmem_options_set(OSMEM_OPT_MODE, OS_MODE_FAST);
	for (size_t i = 0; i < COUNT(texts); i++) {
		parse(texts[i]);
		ck_assert_str_eq(said, "");
	}
	ck_assert_int_eq(osmem_option(OSMEM_OPT_MODE), OS_MODE_FAST);
}
END_TEST

START_TEST(the_last_of_equal_keys_holds)
{
	parse("check=1,check=2,check=x,check=3,check=y");
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CHECK), 3);
	ck_assert_uint_eq(lines(), 2);
	ck_assert_ptr_nonnull(strstr(said, "; check=2 is kept\n"));
	ck_assert_ptr_nonnull(strstr(said, "; check=3 is kept\n"));
}
END_TEST

/* One bad item each, and all that is said about it. */
static const struct {
	const char *text, *message;
} bad_items[] = {
	{"mdoe=fast", "unknown option 'mdoe' is ignored, did you mean 'mode'?"},
	{"MODE=fast", "unknown option 'MODE' is ignored, did you mean 'mode'?"},
	{"hot-after=5", "unknown option 'hot-after' is ignored, did you mean "
			"'hot_after'?"},
	{"growafter=5", "unknown option 'growafter' is ignored, did you mean "
			"'grow_after'?"},
	{"stat=exit",
	 "unknown option 'stat' is ignored, did you mean 'stats'?"},
	{"hepl", "unknown option 'hepl' is ignored, did you mean 'help'?"},
	{"zzz=1", "unknown option 'zzz' is ignored"},
	{"verbose", "unknown option 'verbose' is ignored"},
	{"=5", "unknown option '' is ignored"},
	{"0123456789012345678901234567890123456789",
	 "unknown option '0123456789012345678901234567890123456789' is "
	 "ignored"},
	{"012345678901234567890123456789012345678901234567890123456789+too",
	 "unknown option '012345678901234567890123456789012345678901234567890"
	 "123456789' is ignored"},
	{"mode", "option 'mode' is ignored without a value: "
		 "mode=exact|auto|fast"},
	{"help=1", "option 'help' takes no value"},
	{" mode=fast", "' mode=fast' is ignored: no white space around key or "
		       "value"},
	{"mode =fast", "'mode =fast' is ignored: no white space around key or "
		       "value"},
	{"mode= fast", "'mode= fast' is ignored: no white space around key or "
		       "value"},
	{"mode=fast\t", "'mode=fast\t' is ignored: no white space around key "
			"or value"},
	{" help", "' help' is ignored: no white space around key or value"},
	{" ", "' ' is ignored: no white space around key or value"},
	{"mode=fsat", "bad value 'fsat' of option 'mode', which takes "
		      "exact|auto|fast; mode=auto is kept, did you mean "
		      "'fast'?"},
	{"mode=EXACT", "bad value 'EXACT' of option 'mode', which takes "
		       "exact|auto|fast; mode=auto is kept, did you mean "
		       "'exact'?"},
	{"mode=", "bad value '' of option 'mode', which takes "
		  "exact|auto|fast; mode=auto is kept"},
	{"mode=1", "bad value '1' of option 'mode', which takes "
		   "exact|auto|fast; mode=auto is kept"},
	{"mode=fast=1", "bad value 'fast=1' of option 'mode', which takes "
			"exact|auto|fast; mode=auto is kept"},
	{"die=on",
	 "bad value 'on' of option 'die', which takes 0|1|no|yes; die=0 is "
	 "kept"},
	{"die=2",
	 "bad value '2' of option 'die', which takes 0|1|no|yes; die=0 is "
	 "kept"},
	{"break=alway", "bad value 'alway' of option 'break', which takes "
			"auto|always|never; break=auto is kept, did you mean "
			"'always'?"},
	{"check=-1", "bad value '-1' of option 'check', which takes "
		     "0..2147483647; check=5 is kept"},
	{"check=+1", "bad value '+1' of option 'check', which takes "
		     "0..2147483647; check=5 is kept"},
	{"check=0x10", "bad value '0x10' of option 'check', which takes "
		       "0..2147483647; check=5 is kept"},
	{"check=", "bad value '' of option 'check', which takes "
		   "0..2147483647; check=5 is kept"},
	{"check=2147483648", "bad value '2147483648' of option 'check', which "
			     "takes 0..2147483647; check=5 is kept"},
	{"check=99999999999999999999",
	 "bad value '99999999999999999999' of option 'check', which takes "
	 "0..2147483647; check=5 is kept"},
	{"hot_after=0", "bad value '0' of option 'hot_after', which takes "
			"1..2147483647; hot_after=256 is kept"},
	{"fail", "option 'fail' is ignored without a value: "
		 "fail=no|nth:N|every:N|p=P:SEED"},
	{"fail=", "bad value '' of option 'fail', which takes "
		  "no|nth:N|every:N|p=P:SEED; fail=every:8 is kept"},
	{"fail=nth:0", "bad value 'nth:0' of option 'fail', which takes "
		       "nth:1..2147483647; fail=every:8 is kept"},
	{"fail=every:2147483648",
	 "bad value 'every:2147483648' of option 'fail', which takes "
	 "every:1..2147483647; fail=every:8 is kept"},
	{"fail=ntn:3", "bad value 'ntn:3' of option 'fail', which takes "
		       "no|nth:N|every:N|p=P:SEED; fail=every:8 is kept, did "
		       "you mean 'nth:'?"},
	{"fail=eveyr:3", "bad value 'eveyr:3' of option 'fail', which takes "
			 "no|nth:N|every:N|p=P:SEED; fail=every:8 is kept, did "
			 "you mean 'every:'?"},
	{"fail=nth=3", "bad value 'nth=3' of option 'fail', which takes "
		       "no|nth:N|every:N|p=P:SEED; fail=every:8 is kept, did "
		       "you mean 'nth:'?"},
	{"fail=none", "bad value 'none' of option 'fail', which takes "
		      "no|nth:N|every:N|p=P:SEED; fail=every:8 is kept"},
	{"fail=nth:3x", "bad value 'nth:3x' of option 'fail', which takes "
			"nth:1..2147483647; fail=every:8 is kept"},
	{"fail=nth:", "bad value 'nth:' of option 'fail', which takes "
		      "nth:1..2147483647; fail=every:8 is kept"},
	{"fail=p=1.5", "bad value 'p=1.5' of option 'fail', which takes "
		       "p=0.000000001..1[:0..2147483647]; fail=every:8 is "
		       "kept"},
	{"fail=p=0.0:5", "bad value 'p=0.0:5' of option 'fail', which takes "
			 "p=0.000000001..1[:0..2147483647]; fail=every:8 is "
			 "kept"},
	{"fail=p=0.5:", "bad value 'p=0.5:' of option 'fail', which takes "
			"p=0.000000001..1[:0..2147483647]; fail=every:8 is "
			"kept"},
	{"fail=p=.5", "bad value 'p=.5' of option 'fail', which takes "
		      "p=0.000000001..1[:0..2147483647]; fail=every:8 is "
		      "kept"},
	{"fail=p=0.0000000001",
	 "bad value 'p=0.0000000001' of option 'fail', which takes "
	 "p=0.000000001..1[:0..2147483647]; fail=every:8 is kept"},
	{"fail=nth:0000000000000000000000000001",
	 "bad value 'nth:0000000000000000000000000001' of option 'fail', "
	 "which takes nth:1..2147483647; fail=every:8 is kept"},
};

START_TEST(a_bad_item_is_reported_and_changes_nothing)
{
	char want[512];
	char text[256];
	int before[OSMEM_OPT_COUNT];

	osmem_options_set(OSMEM_OPT_MODE, OS_MODE_AUTO);
	osmem_options_set(OSMEM_OPT_DIE, 0);
	osmem_options_set(OSMEM_OPT_BREAK, OS_BREAK_AUTO);
	osmem_options_set(OSMEM_OPT_CHECK, 5);
	osmem_options_set(OSMEM_OPT_HOT_AFTER, 256);
	osmem_options_set(OSMEM_OPT_GROW_AFTER, 64);
	osmem_options_set_rule("every:8");
	memcpy(before, osmem_option_values, sizeof(before));
	snprintf(want, sizeof(want), "libosmem: OSMEM_OPTIONS: %s\n",
		 bad_items[_i].message);
	parse(bad_items[_i].text);
	ck_assert_str_eq(said, want);
	ck_assert_mem_eq(before, osmem_option_values, sizeof(before));
	/* The items around it are read. */
	snprintf(text, sizeof(text), "grow_after=3,%s,cache_after=4",
		 bad_items[_i].text);
	parse(text);
	ck_assert_str_eq(said, want);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_GROW_AFTER), 3);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CACHE_AFTER), 4);
}
END_TEST

START_TEST(help_prints_all_once_the_rest_is_read)
{
	osmem_options_set(OSMEM_OPT_BREAK, OS_BREAK_NEVER);
	osmem_options_set_rule("nth:7");
	parse("help,mode=exact,help,die=yes,check=12");
	ck_assert_uint_eq(lines(), 3 + OSMEM_OPT_COUNT);
	ck_assert_ptr_eq(strstr(said, "libosmem " PACKAGE_VERSION), said);
	expect_row("mode", "exact", "environment", "exact|auto|fast");
	expect_row("die", "1", "environment", "0|1|no|yes");
	expect_row("check", "12", "environment", "0..2147483647");
	expect_row("break", "never", "os_mallopt", "auto|always|never");
	expect_row("fail", "nth:7", "os_set_fault",
		   "no|nth:N|every:N|p=P:SEED");
}
END_TEST

START_TEST(code_sets_options_within_their_range)
{
	static const struct {
		enum osmem_option which;
		int low, high;
	} ranges[] = {
		{OSMEM_OPT_MODE, OS_MODE_EXACT, OS_MODE_FAST},
		{OSMEM_OPT_DIE, 0, 1},
		{OSMEM_OPT_WARN, 0, 1},
		{OSMEM_OPT_BREAK, OS_BREAK_AUTO, OS_BREAK_NEVER},
		{OSMEM_OPT_CHECK, 0, INT_MAX},
		{OSMEM_OPT_STATS, 0, 1},
		{OSMEM_OPT_HOT_AFTER, 1, INT_MAX},
		{OSMEM_OPT_GROW_AFTER, 1, INT_MAX},
		{OSMEM_OPT_CACHE_AFTER, 1, INT_MAX},
		{OSMEM_OPT_FOREIGN, OS_FOREIGN_ABORT, OS_FOREIGN_IGNORE},
		{OSMEM_OPT_SITES, 0, 1},
		{OSMEM_OPT_HARDEN, 0, 2},
		{OSMEM_OPT_DEEPBIND, 0, 1},
		{OSMEM_OPT_PURGER, 0, 1},
	};

	/* But for fail, which is no number. */
	ck_assert_uint_eq(COUNT(ranges), OSMEM_OPT_COUNT - 1);
	ck_assert_int_eq(osmem_options_set(OSMEM_OPT_FAIL, 0), EINVAL);
	for (size_t i = 0; i < COUNT(ranges); i++) {
		enum osmem_option which = ranges[i].which;
		int high = ranges[i].high;

		ck_assert_int_eq(osmem_options_set(which, ranges[i].low), 0);
		ck_assert_int_eq(osmem_option(which), ranges[i].low);
		ck_assert_int_eq(osmem_options_set(which, high), 0);
		ck_assert_int_eq(osmem_options_set(which, ranges[i].low - 1),
				 EINVAL);
		if (high < INT_MAX)
			ck_assert_int_eq(osmem_options_set(which, high + 1),
					 EINVAL);
		ck_assert_int_eq(osmem_option(which), high);
	}
}
END_TEST

static const struct {
	const char *text;
	enum osmem_fault_kind kind;
	unsigned int number, seed;
} rules[] = {
	{"nth:1", OSMEM_FAULT_NTH, 1, 0},
	{"nth:2147483647", OSMEM_FAULT_NTH, INT_MAX, 0},
	{"every:0012", OSMEM_FAULT_EVERY, 12, 0},
	{"p=0.01:12345", OSMEM_FAULT_CHANCE, 10000000, 12345},
	{"p=1", OSMEM_FAULT_CHANCE, 1000000000, 0},
	{"p=1.0:2147483647", OSMEM_FAULT_CHANCE, 1000000000, INT_MAX},
	{"p=0.000000001:0", OSMEM_FAULT_CHANCE, 1, 0},
	{"no", OSMEM_FAULT_NO, 0, 0},
};

START_TEST(a_rule_is_read)
{
	const struct osmem_fault_rule *rule = osmem_options_rule();
	char text[64];

	osmem_options_set_rule("every:8");
	snprintf(text, sizeof(text), "check=1,fail=%s,check=2", rules[_i].text);
	parse(text);
	ck_assert_str_eq(said, "");
	ck_assert_int_eq(rule->kind, rules[_i].kind);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_FAIL), rules[_i].kind);
	ck_assert_uint_eq(rule->number, rules[_i].number);
	ck_assert_uint_eq(rule->seed, rules[_i].seed);
	ck_assert_str_eq(rule->text, rules[_i].text);
	ck_assert_int_eq(osmem_option(OSMEM_OPT_CHECK), 2);
	osmem_options_set_rule("every:8");
	ck_assert_int_eq(osmem_options_set_rule("every:0"), EINVAL);
	ck_assert_int_eq(rule->number, 8);
	ck_assert_int_eq(osmem_options_set_rule(rules[_i].text), 0);
	ck_assert_uint_eq(rule->number, rules[_i].number);
}
END_TEST

START_TEST(code_cannot_set_what_is_no_option)
{
	ck_assert_int_eq(osmem_options_set(OSMEM_OPT_COUNT, 1), EINVAL);
	ck_assert_int_eq(osmem_options_set((enum osmem_option)1000, 1), EINVAL);
	ck_assert_int_eq(osmem_options_set((enum osmem_option)(-1), 1), EINVAL);
}
END_TEST

START_TEST(printing_returns_what_write_said)
{
	errno = 1234;
	ck_assert_int_eq(osmem_options_print(-1), EBADF);
	ck_assert_int_eq(errno, 1234);
}
END_TEST

/* Every value's text in the table can be given back to the parser. */
START_TEST(what_is_printed_can_be_read)
{
	static const int values[OSMEM_OPT_COUNT] = {
		2, 1, 0, 2, 77, 1, 9, 8, 7, 1, 1, 1, OSMEM_FAULT_CHANCE};
	char text[512] = "";
	char row[2][64];
	int fd = new_file();

	for (unsigned int i = 0; i < OSMEM_OPT_COUNT; i++)
		osmem_options_set((enum osmem_option)i, values[i]);
	osmem_options_set_rule("p=0.25:99");
	ck_assert_int_eq(osmem_options_print(fd), 0);
	read_file(fd);
	/* Version and build, how to set options, the heads of the columns. */
	strtok(said, "\n");
	strtok(NULL, "\n");
	strtok(NULL, "\n");
	for (char *line; (line = strtok(NULL, "\n")) != NULL;) {
		size_t used = strlen(text);

		ck_assert_int_eq(sscanf(line, "%63s %63s", row[0], row[1]), 2);
		snprintf(text + used, sizeof(text) - used, "%s=%s,", row[0],
			 row[1]);
	}
	for (unsigned int i = 0; i < OSMEM_OPT_COUNT; i++)
		osmem_options_set((enum osmem_option)i, 1);
	osmem_options_set_rule("no");
	parse(text);
	ck_assert_str_eq(said, "");
	ck_assert_str_eq(osmem_options_rule()->text, "p=0.25:99");
	ck_assert_mem_eq(osmem_option_values, values, sizeof(values));
}
END_TEST

static Suite *options_suite(void)
{
	const TTest *const tests[] = {
		defaults_are_there_before_anything_is_read,
		every_option_can_be_read,
		empty_text_and_empty_items_are_nothing,
		the_last_of_equal_keys_holds,
		help_prints_all_once_the_rest_is_read,
		code_sets_options_within_their_range,
		code_cannot_set_what_is_no_option,
		printing_returns_what_write_said,
		what_is_printed_can_be_read,
	};
	Suite *suite = suite_create("options");
	TCase *tcase = tcase_create("options");

	for (size_t i = 0; i < COUNT(tests); i++)
		tcase_add_test(tcase, tests[i]);
	tcase_add_loop_test(tcase, a_bad_item_is_reported_and_changes_nothing,
			    0, COUNT(bad_items));
	tcase_add_loop_test(tcase, a_rule_is_read, 0, COUNT(rules));
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return suite_run(options_suite());
}
