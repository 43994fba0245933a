/* SPDX-License-Identifier: MIT */
/*
 * abuse.c - runs the tables of abuse_*.c, and counts.
 *
 *	abuse [-v] [-w] [PATTERN...]
 *
 * -v prints a row per case, else only those that were missed are named. -w
 * warms each child, so that its size class is hot in mode auto. The exit status
 * is 1 if any case was missed. PATTERN is one of the shell's, for
 * SUITE/ACTION/KIND.
 */
#include <config.h>

#include "abuse.h"
#include "child.h"
#include "front.h"
#include "must.h"

#include <fnmatch.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static const struct abuse_suite *const suites[] = {
	&abuse_double, &abuse_invalid, &abuse_overwrite, &abuse_poison,
	&abuse_exploit};

enum verdict { DETECTED, HARMLESS, MISSED, VOID, VERDICTS };

static const char *const verdict_names[VERDICTS] = {"detected", "harmless",
						    "missed", "void"};

static bool verbose;
static bool warm;

struct abuse_case {
	const struct abuse_action *action;
	const struct abuse_kind *kind;
};

static void run_case(void *arg)
{
	const struct abuse_case *c = arg;

	if (warm)
		abuse_warm(c->kind);
	c->action->run(c->kind, c->action->arg);
}

static enum verdict judge(const struct abuse_suite *suite,
			  const struct child *child)
{
	/* A report is one of ours: an abort without it is a crash. */
	if (child_was_killed_by(child, SIGABRT))
		return strstr(child->text, "libosmem") != NULL ? DETECTED
							       : MISSED;
	if (!WIFEXITED(child->status))
		return MISSED;
	switch (WEXITSTATUS(child->status)) {
	case ABUSE_HARMLESS:
		return suite->must_stop ? MISSED : HARMLESS;
	case ABUSE_REFUSED:
	case ABUSE_FAULTED:
		return DETECTED;
	case ABUSE_VOID:
		return VOID;
	default:
		return MISSED;
	}
}

static void show(enum verdict verdict, const char *name,
		 const struct child *child)
{
	if (verbose || verdict == MISSED)
		printf("%-9s %s\n", verdict_names[verdict], name);
	if (verbose && verdict == MISSED)
		child_show(child);
	fflush(stdout);
}

static bool is_wanted(char **patterns, const char *name)
{
	bool any = *patterns == NULL;

	for (; *patterns != NULL; patterns++)
		any |= fnmatch(*patterns, name, 0) == 0;
	return any;
}

static void run_suite(const struct abuse_suite *suite, char **patterns,
		      unsigned counts[VERDICTS])
{
	static struct child child;
	size_t i;

	for (i = 0; i < suite->actions_count * suite->kinds_count; i++) {
		struct abuse_case c = {
			.action = &suite->actions[i / suite->kinds_count],
			.kind = &suite->kinds[i % suite->kinds_count]};
		enum verdict verdict;
		char name[200];

		snprintf(name, sizeof(name), "%s/%s/%s", suite->name,
			 c.action->name, c.kind->name);
		if (!is_wanted(patterns, name))
			continue;
		child_run(&child, run_case, &c);
		verdict = judge(suite, &child);
		counts[verdict]++;
		show(verdict, name, &child);
	}
}

static void usage(void)
{
	dprintf(STDERR_FILENO, "usage: abuse [-v] [-w] [PATTERN...]\n");
	exit(2);
}

static void read_options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "vw")) != -1) {
		switch (c) {
		case 'v':
			verbose = true;
			break;
		case 'w':
			warm = true;
			break;
		default:
			usage();
		}
	}
}

int main(int argc, char **argv)
{
	bool any = false;
	size_t i;

	if (child_is_sanitized())
		return 77;
	read_options(argc, argv);
	for (i = 0; i < ABUSE_COUNT(suites); i++) {
		unsigned counts[VERDICTS] = {0};

		run_suite(suites[i], argv + optind, counts);
		if (counts[DETECTED] + counts[HARMLESS] + counts[MISSED] +
			    counts[VOID] ==
		    0)
			continue;
		printf("%-10s %3u detected %3u harmless %3u missed %3u void\n",
		       suites[i]->name, counts[DETECTED], counts[HARMLESS],
		       counts[MISSED], counts[VOID]);
		any |= counts[MISSED] != 0;
	}
	return any;
}
