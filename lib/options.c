/* SPDX-License-Identifier: MIT */
/*
 * options.c - the options: one table, and the readers and printers of it.
 *
 * A new option is a row here and an enumerator in options.h, in the same
 * order. Owns the values and where they came from; who writes them and when
 * stands in options.h. Nothing here allocates or takes a lock, because it
 * runs inside the first malloc of a process: messages go out by print.c.
 */
#include "options.h"

#include "near.h"
#include "print.h"

#include <errno.h>
#include <limits.h>
#include <osmem.h>
#include <string.h>
#include <unistd.h>

enum {
	OPTIONS_SHOWN_MOST = 60, /* of user's text in a message: one write */
	OPTIONS_TEXT = 64,       /* a value or a range, printed */
};

#define OPTIONS_PREFIX OSMEM_NAME ": OSMEM_OPTIONS: "

enum options_origin {
	OPTIONS_DEFAULT,
	OPTIONS_CONFIGURE,
	OPTIONS_ENVIRONMENT,
	OPTIONS_MALLOPT,
	OPTIONS_SET_FAULT,
};

/* A value that has a name. The first name of a value is the one printed. */
struct options_name {
	const char *name;
	int value;
};

struct options_row {
	const char *key;
	const struct options_name *names; /* up to a NULL; no names: a number */
	int low, high;
	const char *meaning;
};

/* A piece of the text that is parsed. */
struct options_span {
	const char *start;
	size_t size;
};

static const struct options_span options_nothing = {"", 0};

static const struct options_name options_modes[] = {
	{"exact", OS_MODE_EXACT},
	{"auto", OS_MODE_AUTO},
	{"fast", OS_MODE_FAST},
	{NULL, 0},
};

static const struct options_name options_breaks[] = {
	{"auto", OS_BREAK_AUTO},
	{"always", OS_BREAK_ALWAYS},
	{"never", OS_BREAK_NEVER},
	{NULL, 0},
};

static const struct options_name options_switch[] = {
	{"0", 0}, {"1", 1}, {"no", 0}, {"yes", 1}, {NULL, 0},
};

static const struct options_name options_harden[] = {
	{"0", 0}, {"1", 1}, {"2", 2}, {"no", 0}, {"yes", 1}, {NULL, 0},
};

static const struct options_name options_foreign[] = {
	{"abort", OS_FOREIGN_ABORT},
	{"warn", OS_FOREIGN_WARN},
	{"ignore", OS_FOREIGN_IGNORE},
	{NULL, 0},
};

static const struct options_name options_stats[] = {
	{"no", 0},
	{"exit", 1},
	{NULL, 0},
};

/* The beginnings of what is no list of values, for suggestions. */
static const struct options_name options_rules[] = {
	{"no", 0}, {"nth:", 0}, {"every:", 0}, {"p=", 0}, {NULL, 0},
};

#define OPTIONS_MODE OSMEM_CONF_MODE
#define OPTIONS_MODE_USUAL (OSMEM_IS_REPLACEMENT ? OS_MODE_FAST : OS_MODE_AUTO)
#define OPTIONS_WARN (OSMEM_IS_REPLACEMENT ? 0 : 1)

/*
 * row(option, key, names, low, high, default, meaning). A list of macros, as
 * the defaults go into an array of their own, ready before anything has run.
 */
/* clang-format off: a table */
#define OPTIONS_TABLE(row) \
	row(OSMEM_OPT_MODE, "mode", options_modes, 0, 2, OPTIONS_MODE, \
	    "how blocks are placed") \
	row(OSMEM_OPT_DIE, "die", options_switch, 0, 1, 0, \
	    "end the process when a system call fails") \
	row(OSMEM_OPT_WARN, "warn", options_switch, 0, 1, OPTIONS_WARN, \
	    "report system calls that fail") \
	row(OSMEM_OPT_BREAK, "break", options_breaks, 0, 2, OS_BREAK_AUTO, \
	    "whether the heap may use the break") \
	row(OSMEM_OPT_CHECK, "check", NULL, 0, INT_MAX, 0, \
	    "check the heap every so many operations, 0 never") \
	row(OSMEM_OPT_STATS, "stats", options_stats, 0, 1, 0, \
	    "print statistics when the process ends") \
	row(OSMEM_OPT_HOT_AFTER, "hot_after", NULL, 1, INT_MAX, 256, \
	    "requests until a size class is hot") \
	row(OSMEM_OPT_GROW_AFTER, "grow_after", NULL, 1, INT_MAX, 64, \
	    "growths until the heap grows in chunks") \
	row(OSMEM_OPT_CACHE_AFTER, "cache_after", NULL, 1, INT_MAX, 64, \
	    "unmaps until mappings are kept for reuse") \
	row(OSMEM_OPT_FOREIGN, "foreign", options_foreign, 0, 2, \
	    OS_FOREIGN_ABORT, "what a pointer that is no block's leads to") \
	row(OSMEM_OPT_SITES, "sites", options_switch, 0, 1, 0, \
	    "record where blocks come from, for reports") \
	row(OSMEM_OPT_HARDEN, "harden", options_harden, 0, 2, \
	    OSMEM_CONF_HARDEN, "hardened slabs, but in mode exact") \
	row(OSMEM_OPT_FAIL, "fail", options_rules, 0, 0, 0, \
	    "which allocations fail") \
	row(OSMEM_OPT_DEEPBIND, "deepbind", options_switch, 0, 1, 0, \
	    "leave RTLD_DEEPBIND to dlopen, replacement only") \
	row(OSMEM_OPT_PURGER, "purger", options_switch, 0, 1, 1, \
	    "a thread gives idle memory back later, where there are threads")
/* clang-format on */

#define OPTIONS_ROW(option, key, names, low, high, initial, meaning) \
	[option] = {key, names, low, high, meaning},
#define OPTIONS_VALUE(option, key, names, low, high, initial, meaning) \
	[option] = (initial),

static const struct options_row options_rows[OSMEM_OPT_COUNT] = {
	OPTIONS_TABLE(OPTIONS_ROW)};

OSMEM_VAR_DEFINED atomic_int osmem_option_values[OSMEM_OPT_COUNT] = {
	OPTIONS_TABLE(OPTIONS_VALUE)};

static unsigned char options_origins[OSMEM_OPT_COUNT] = {
	[OSMEM_OPT_MODE] = OPTIONS_MODE == OPTIONS_MODE_USUAL
				   ? OPTIONS_DEFAULT
				   : OPTIONS_CONFIGURE,
	[OSMEM_OPT_HARDEN] = OSMEM_CONF_HARDEN ? OPTIONS_CONFIGURE
					       : OPTIONS_DEFAULT,
};

static struct osmem_fault_rule options_rule = { .text = "no" };

static void options_store(enum osmem_option which, int value,
			  enum options_origin origin)
{
	atomic_store_explicit(&osmem_option_values[which], value,
			      memory_order_relaxed);
	options_origins[which] = (unsigned char)origin;
}

/* Spans. */

static bool options_is(struct options_span span, const char *text)
{
	return span.size == strlen(text) &&
	       memcmp(span.start, text, span.size) == 0;
}

/* For "%.*s": how much of a span a message shows. */
static int options_shown(struct options_span span)
{
	return span.size < OPTIONS_SHOWN_MOST ? (int)span.size
					      : OPTIONS_SHOWN_MOST;
}

static bool options_is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool options_has_blank_edge(struct options_span span)
{
	return span.size > 0 && (options_is_blank(span.start[0]) ||
				 options_is_blank(span.start[span.size - 1]));
}

/* "Did you mean". */

static const char *options_nearest_key(struct options_span typed)
{
	struct osmem_near near = {typed.start, typed.size, 0, NULL};

	osmem_near_try(&near, "help");
	for (size_t i = 0; i < OSMEM_OPT_COUNT; i++)
		osmem_near_try(&near, options_rows[i].key);
	return near.name;
}

/* "nth:" of "nth:5", if it is a rule. */
static struct options_span options_head(struct options_span typed,
					const struct options_name *names)
{
	size_t size = 0;

	while (size < typed.size && strchr(":=", typed.start[size]) == NULL)
		size++;
	if (names == options_rules && size < typed.size)
		typed.size = size + 1;
	return typed;
}

static const char *options_nearest_name(struct options_span typed,
					const struct options_name *names)
{
	struct options_span head = options_head(typed, names);
	struct osmem_near near = {head.start, head.size, 0, NULL};

	for (; names != NULL && names->name != NULL; names++)
		if (!options_is(head, names->name))
			osmem_near_try(&near, names->name);
	return near.name;
}

/* Values as text. */

/* Adds text to buf if it fits; the end mark has always its byte. */
static void options_append(char *buf, size_t size, const char *text)
{
	size_t used = strlen(buf);

	osmem_print_to(buf + used, size - used, "%s", text);
}

/* "exact|auto|fast" or "0..2147483647". What was typed picks out of rules. */
static void options_range(const struct options_row *row,
			  struct options_span typed, char *buf, size_t size)
{
	if (row->names == options_rules) {
		osmem_print_to(buf, size, "%s",
			       osmem_fault_range(typed.start, typed.size));
		return;
	}
	if (row->names == NULL) {
		osmem_print_to(buf, size, "%d..%d", row->low, row->high);
		return;
	}
	buf[0] = '\0';
	for (const struct options_name *n = row->names; n->name != NULL; n++) {
		if (n != row->names)
			options_append(buf, size, "|");
		options_append(buf, size, n->name);
	}
}

/* The name of a value, or its number. */
static void options_value(enum osmem_option which, char *buf, size_t size)
{
	const struct options_name *n = options_rows[which].names;
	int value = osmem_option(which);

	if (n == options_rules) {
		osmem_print_to(buf, size, "%s", options_rule.text);
		return;
	}
	while (n != NULL && n->name != NULL && n->value != value)
		n++;
	if (n != NULL && n->name != NULL)
		osmem_print_to(buf, size, "%s", n->name);
	else
		osmem_print_to(buf, size, "%d", value);
}

static const char *options_origin_name(enum osmem_option which)
{
	switch ((enum options_origin)options_origins[which]) {
	case OPTIONS_CONFIGURE:
		return "configure";
	case OPTIONS_ENVIRONMENT:
		return "environment";
	case OPTIONS_MALLOPT:
		return "os_mallopt";
	case OPTIONS_SET_FAULT:
		return "os_set_fault";
	case OPTIONS_DEFAULT:
	default:
		return "default";
	}
}

/* Reading OSMEM_OPTIONS. */

/* The row of a key, OSMEM_OPT_COUNT for none. */
static enum osmem_option options_find(struct options_span key)
{
	unsigned int which = 0;

	while (which < OSMEM_OPT_COUNT &&
	       !options_is(key, options_rows[which].key))
		which++;
	return (enum osmem_option)which;
}

static bool options_read_name(struct options_span text,
			      const struct options_name *names, int *value)
{
	for (; names->name != NULL; names++) {
		if (options_is(text, names->name)) {
			*value = names->value;
			return true;
		}
	}
	return false;
}

/* Decimal digits and nothing else. */
static bool options_read_number(struct options_span text, int *value)
{
	int n = 0;

	for (size_t i = 0; i < text.size; i++) {
		int digit = text.start[i] - '0';

		if (digit < 0 || digit > 9 || n > (INT_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*value = n;
	return text.size > 0;
}

/* Each kind of value has its reader; the range holds for all of them. */
static bool options_read_value(const struct options_row *row,
			       struct options_span text, int *value)
{
	bool ok;

	if (row->names == options_rules) {
		ok = osmem_fault_read(text.start, text.size, &options_rule);
		*value = (int)options_rule.kind;
		return ok;
	}
	if (row->names != NULL)
		ok = options_read_name(text, row->names, value);
	else
		ok = options_read_number(text, value);
	return ok && *value >= row->low && *value <= row->high;
}

static void options_report_blank(struct options_span item)
{
	osmem_print(STDERR_FILENO,
		    OPTIONS_PREFIX "'%.*s' is ignored: no white space around "
				   "key or value\n",
		    options_shown(item), item.start);
}

/* The end of a message: a suggestion, if there is one. */
static void options_report_near(const char *near, char *buf, size_t size)
{
	if (near != NULL)
		osmem_print_to(buf, size, ", did you mean '%s'?", near);
	else
		buf[0] = '\0';
}

static void options_report_key(struct options_span key)
{
	char near[OPTIONS_TEXT];

	options_report_near(options_nearest_key(key), near, sizeof(near));
	osmem_print(STDERR_FILENO,
		    OPTIONS_PREFIX "unknown option '%.*s' is ignored%s\n",
		    options_shown(key), key.start, near);
}

static void options_report_help(void)
{
	osmem_print(STDERR_FILENO,
		    OPTIONS_PREFIX "option 'help' takes no value\n");
}

static void options_report_value(enum osmem_option which,
				 struct options_span text)
{
	const struct options_row *row = &options_rows[which];
	char near[OPTIONS_TEXT];
	char range[OPTIONS_TEXT];
	char value[OPTIONS_TEXT];

	options_report_near(options_nearest_name(text, row->names), near,
			    sizeof(near));
	options_range(row, text, range, sizeof(range));
	options_value(which, value, sizeof(value));
	osmem_print(STDERR_FILENO,
		    OPTIONS_PREFIX "bad value '%.*s' of option '%s', which "
				   "takes %s; %s=%s is kept%s\n",
		    options_shown(text), text.start, row->key, range, row->key,
		    value, near);
}

static void options_report_bare(enum osmem_option which)
{
	const struct options_row *row = &options_rows[which];
	char range[OPTIONS_TEXT];

	options_range(row, options_nothing, range, sizeof(range));
	osmem_print(STDERR_FILENO,
		    OPTIONS_PREFIX "option '%s' is ignored without a value: "
				   "%s=%s\n",
		    row->key, row->key, range);
}

/* Splits at the first '='; false, and value is empty, if there is none. */
static bool options_split(struct options_span item, struct options_span *key,
			  struct options_span *value)
{
	const char *end = item.start + item.size;
	const char *equals = memchr(item.start, '=', item.size);

	*key = item;
	*value = (struct options_span){end, 0};
	if (equals == NULL)
		return false;
	key->size = (size_t)(equals - item.start);
	value->start = equals + 1;
	value->size = (size_t)(end - value->start);
	return true;
}

static void options_read_item(struct options_span item)
{
	struct options_span key;
	struct options_span text;
	bool is_pair = options_split(item, &key, &text);
	enum osmem_option which = options_find(key);
	int value;

	if (options_has_blank_edge(key) || options_has_blank_edge(text))
		options_report_blank(item);
	else if (options_is(key, "help"))
		options_report_help();
	else if (which == OSMEM_OPT_COUNT)
		options_report_key(key);
	else if (!is_pair)
		options_report_bare(which);
	else if (!options_read_value(&options_rows[which], text, &value))
		options_report_value(which, text);
	else
		options_store(which, value, OPTIONS_ENVIRONMENT);
}

OSMEM_FN void osmem_options_parse(const char *text)
{
	bool help = false;

	if (text == NULL)
		return;
	while (*text != '\0') {
		const char *end = text + strcspn(text, ",");
		struct options_span item = {text, (size_t)(end - text)};

		text = *end == ',' ? end + 1 : end;
		if (options_is(item, "help"))
			help = true;
		else if (item.size > 0)
			options_read_item(item);
	}
	if (help)
		osmem_options_print(STDERR_FILENO);
}

OSMEM_FN int osmem_options_set(enum osmem_option which, int value)
{
	if ((unsigned int)which >= OSMEM_OPT_COUNT ||
	    which == OSMEM_OPT_FAIL ||
	    value < options_rows[which].low || value > options_rows[which].high)
		return EINVAL;
	options_store(which, value, OPTIONS_MALLOPT);
	return 0;
}

OSMEM_FN const struct osmem_fault_rule *osmem_options_rule(void)
{
	return &options_rule;
}

OSMEM_FN int osmem_options_set_rule(const char *text)
{
	if (!osmem_fault_read(text, strlen(text), &options_rule))
		return EINVAL;
	options_store(OSMEM_OPT_FAIL, (int)options_rule.kind,
		      OPTIONS_SET_FAULT);
	return 0;
}

OSMEM_FN bool osmem_options_imply(enum osmem_option which, int value)
{
	enum options_origin origin =
		(enum options_origin)options_origins[which];

	if (origin != OPTIONS_DEFAULT && origin != OPTIONS_CONFIGURE)
		return false;
	options_store(which, value, origin);
	return true;
}

static const char *options_has(int what)
{
	return what ? "yes" : "no";
}

OSMEM_FN int osmem_options_print(int fd)
{
	char range[OPTIONS_TEXT];
	char value[OPTIONS_TEXT];
	int result;

	result = osmem_print(fd,
			     OSMEM_NAME " " PACKAGE_VERSION
					": alignment %d, threads %s, "
					"debug %s, statistics %s\n"
					"options, set by "
					"OSMEM_OPTIONS=key=value,...\n"
					"%-12s %-11s %-12s %-18s %s\n",
			     OSMEM_ALIGN, options_has(OSMEM_CONF_THREADS),
			     options_has(OSMEM_CONF_DEBUG),
			     options_has(OSMEM_CONF_STATS), "key", "value",
			     "origin", "range", "meaning");
	for (unsigned int i = 0; i < OSMEM_OPT_COUNT && result >= 0; i++) {
		const struct options_row *row = &options_rows[i];

		options_range(row, options_nothing, range, sizeof(range));
		options_value((enum osmem_option)i, value, sizeof(value));
		result = osmem_print(fd, "%-12s %-11s %-12s %-18s %s\n",
				     row->key, value,
				     options_origin_name((enum osmem_option)i),
				     range, row->meaning);
	}
	return result < 0 ? -result : 0;
}
