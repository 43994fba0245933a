/* SPDX-License-Identifier: MIT */
/*
 * replay.h - runs a sequence of calls against library and model at once.
 *
 * The first difference is told through the shared page and ends the process,
 * so a sequence is run in a child of its own, which has not used the heap.
 */
#ifndef REPLAY_H
#define REPLAY_H

#include "model.h"
#include "sequence.h"

/* Shared by the test and the child that runs a sequence. */
struct replay_report {
	unsigned executed;    /* calls of the library that were made */
	unsigned step;        /* the step that was the last to be begun */
	bool finished;        /* the whole sequence was run */
	char difference[400]; /* empty: none */
};

/*
 * Runs the steps [0, count) of s whose entry in skip is 0 (skip NULL: all of
 * them), with that fault planted in the model, and ends the process with 0,
 * or with 1 at the first difference. verbose prints every call.
 */
_Noreturn void replay_run(const struct sequence *s, const unsigned char *skip,
			  enum model_bug bug, bool verbose,
			  struct replay_report *report);

#endif
