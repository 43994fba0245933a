/* SPDX-License-Identifier: MIT */
/*
 * witness.h - sees the library's system calls, and tells of differences.
 *
 * The linker's --wrap puts the witness between the library and its sys module.
 * It can refuse calls, notes them all, and plays the model's system: what the
 * model asks for must have happened, in the same order. Needs no heap.
 */
#ifndef WITNESS_H
#define WITNESS_H

#include "model.h"

extern const struct model_system witness_system;

/* Where witness_differ() leaves its text. */
void witness_init(char *text, size_t size);

/* Around a call of the library; refuse: REFUSE_* of sequence.h. */
void witness_begin(unsigned refuse);
void witness_end(void);

/* Differs if the library made system calls that the model did not ask for. */
void witness_all_expected(void);

/* Prints the system calls since witness_begin() and ends the line. */
void witness_print(void);

/* Text to standard output. */
void witness_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Leaves the text behind and ends the process with 1. */
_Noreturn void witness_differ(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

#endif
