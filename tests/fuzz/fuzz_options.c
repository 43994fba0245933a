/* SPDX-License-Identifier: MIT */
/*
 * fuzz_options.c - bytes as OSMEM_OPTIONS, against a second reader of them.
 *
 * Item by item the values must be those of the reader below, and a message
 * must come out if and only if an item was refused. The whole text must leave
 * the values that its items left one by one, and so must what is printed of
 * them when it is read again.
 */
#include "options.h"

#include "fuzz.h"
#include "writes.h"

#include <ctype.h>
#include <limits.h>

enum { ITEM = 4096 };

/* What an option takes: names, a rule, or a number above some bound. */
static const struct expected {
	const char *key;
	const char *names; /* "name=value ...", "" for a rule, or NULL */
	int low, initial;
} expected[OSMEM_OPT_COUNT] = {
	{"mode", "exact=0 auto=1 fast=2 ", 0, 1},
	{"die", "0=0 1=1 no=0 yes=1 ", 0, 0},
	{"warn", "0=0 1=1 no=0 yes=1 ", 0, 1},
	{"break", "auto=0 always=1 never=2 ", 0, 0},
	{"check", NULL, 0, 0},
	{"stats", "no=0 exit=1 ", 0, 0},
	{"hot_after", NULL, 1, 256},
	{"grow_after", NULL, 1, 64},
	{"cache_after", NULL, 1, 64},
	{"foreign", "abort=0 warn=1 ignore=2 ", 0, 0},
	{"sites", "0=0 1=1 no=0 yes=1 ", 0, 0},
	{"harden", "0=0 1=1 2=2 no=0 yes=1 ", 0, OSMEM_CONF_HARDEN},
	{"fail", "", 0, 0},
	{"deepbind", "0=0 1=1 no=0 yes=1 ", 0, 0},
	{"purger", "0=0 1=1 no=0 yes=1 ", 0, 1},
};

static int want[OSMEM_OPT_COUNT];

static void set_values(void)
{
	for (unsigned int i = 0; i < OSMEM_OPT_COUNT; i++)
		osmem_options_set((enum osmem_option)i, expected[i].initial);
	osmem_options_set_rule("no");
}

static void set_all(void)
{
	for (unsigned int i = 0; i < OSMEM_OPT_COUNT; i++)
		want[i] = expected[i].initial;
	set_values();
	writes_clear();
}

static void check_all(const char *text)
{
	for (unsigned int i = 0; i < OSMEM_OPT_COUNT; i++) {
		int got = osmem_option((enum osmem_option)i);

		FUZZ_MUST(got == want[i], "\"%s\": %s is %d, not %d", text,
			  expected[i].key, got, want[i]);
	}
}

/* The second reader: -1 for a text that is no value of this option. */
static int read_name(const char *names, const char *text)
{
	char pattern[ITEM + 2];
	const char *at = names;

	if (strpbrk(text, " =") != NULL || text[0] == '\0')
		return -1;
	snprintf(pattern, sizeof(pattern), "%s=", text);
	do {
		if (strncmp(at, pattern, strlen(pattern)) == 0)
			return at[strlen(pattern)] - '0';
		at = strchr(at, ' ') + 1;
	} while (*at != '\0');
	return -1;
}

static int read_number(const char *text)
{
	double value = 0;

	if (*text == '\0' || strspn(text, "0123456789") != strlen(text))
		return -1;
	for (; *text != '\0'; text++)
		value = value * 10 + (*text - '0');
	return value <= INT_MAX ? (int)value : -1;
}

static bool is_chance(const char *text)
{
	size_t digits = strspn(text, "0123456789"), size = digits, more;
	double chance = atof(text);

	if (text[size] == '.') {
		more = strspn(text + size + 1, "0123456789");
		if (more < 1 || more > 9)
			return false;
		size += 1 + more;
	}
	if (digits == 0 || chance <= 0 || chance > 1)
		return false;
	return text[size] == '\0' ||
	       (text[size] == ':' && read_number(text + size + 1) >= 0);
}

/* A rule's kind. */
static int read_rule(const char *text)
{
	if (strlen(text) > 31)
		return -1;
	if (strcmp(text, "no") == 0)
		return OSMEM_FAULT_NO;
	if (strncmp(text, "nth:", 4) == 0 && read_number(text + 4) > 0)
		return OSMEM_FAULT_NTH;
	if (strncmp(text, "every:", 6) == 0 && read_number(text + 6) > 0)
		return OSMEM_FAULT_EVERY;
	if (strncmp(text, "p=", 2) == 0 && is_chance(text + 2))
		return OSMEM_FAULT_CHANCE;
	return -1;
}

static int read_value(const struct expected *e, const char *text)
{
	if (e->names == NULL)
		return read_number(text);
	return e->names[0] != '\0' ? read_name(e->names, text)
				   : read_rule(text);
}

/* Whether the item is accepted, and then what it sets. */
static bool read_item(const char *item)
{
	for (unsigned int i = 0; i < OSMEM_OPT_COUNT; i++) {
		const struct expected *e = &expected[i];
		size_t n = strlen(e->key);
		int value;

		if (strncmp(item, e->key, n) != 0 || item[n] != '=')
			continue;
		value = read_value(e, item + n + 1);
		if (value < e->low)
			return false;
		want[i] = value;
		return true;
	}
	return false;
}

static void check_item(const char *item)
{
	bool accepted = read_item(item);

	if (strcmp(item, "help") == 0 || item[0] == '\0')
		accepted = true;
	writes_clear();
	osmem_options_parse(item);
	check_all(item);
	if (strcmp(item, "help") == 0)
		FUZZ_MUST(writes.size > 500, "no help");
	else
		FUZZ_MUST(accepted == (writes.size == 0),
			  "\"%s\": %zu bytes of message", item, writes.size);
	FUZZ_MUST(writes.size < sizeof(writes.text) && writes.fd <= 2,
		  "\"%s\": %zu bytes to %d", item, writes.size, writes.fd);
	FUZZ_MUST(accepted ||
			  strncmp(writes.text, "libosmem: OSMEM_OPTIONS: ",
				  25) == 0,
		  "\"%s\": %.40s", item, writes.text);
}

static void check_items(const char *text)
{
	char item[ITEM];

	while (*text != '\0') {
		size_t n = strcspn(text, ",");

		memcpy(item, text, n);
		item[n] = '\0';
		check_item(item);
		text += n + (text[n] == ',');
	}
}

/* What osmem_options_print() shows, as a text to be read. */
static void check_printed(const char *text)
{
	char again[1024] = "", key[64], value[64];
	const char *at = writes.text;
	size_t used = 0;

	writes_clear();
	FUZZ_MUST(osmem_options_print(2) == 0, "does not print");
	writes.text[writes.size] = '\0';
	for (int line = 0; (at = strchr(at, '\n')) != NULL; line++)
		if (sscanf(++at, "%63s %63s", key, value) == 2 && line > 1)
			used += (size_t)snprintf(again + used,
						 sizeof(again) - used,
						 "%s=%s,", key, value);
	set_values();
	writes_clear();
	osmem_options_parse(again);
	check_all(text);
	FUZZ_MUST(writes.size == 0, "\"%s\" is refused", again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[ITEM];

	if (size >= sizeof(text))
		size = sizeof(text) - 1;
	memcpy(text, data, size);
	text[size] = '\0';
	set_all();
	check_items(text);
	if (fuzz_is_planted())
		want[OSMEM_OPT_MODE] ^= 1;
	set_values();
	osmem_options_parse(text);
	check_all(text);
	check_printed(text);
	return 0;
}
