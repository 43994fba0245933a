/* SPDX-License-Identifier: MIT */
/*
 * faults.h - system calls that fail when a test says so, and are counted.
 *
 * The linker's --wrap puts these between the library and its sys module: a
 * program with faults.c in it needs -Wl,--wrap= for osmem_sys_map, _unmap,
 * _grow_break, _reserve, _commit and _purge. What happens before main() is
 * planned by the environment variable FAULTS_ENVIRONMENT.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>

enum faults_call {
	FAULTS_MAP,
	FAULTS_UNMAP,
	FAULTS_GROW_BREAK,
	FAULTS_RESERVE,
	FAULTS_COMMIT,
	FAULTS_PURGE,
	FAULTS_CALLS
};

/* Sets of calls. */
#define FAULTS_SET(call) (1u << (call))
#define FAULTS_ALL ((1u << FAULTS_CALLS) - 1)

/* "set,nth,on" in decimal, as the arguments of faults_arm(). */
#define FAULTS_ENVIRONMENT "OSMEM_TEST_FAULTS"

/* From now on the nth call of a set fails, and with on all later ones too. */
void faults_arm(unsigned set, unsigned long nth, bool on);
void faults_disarm(void);

/* At the nth call from now on fn is called, as a signal's handler would be. */
void faults_interrupt(unsigned long nth, void (*fn)(void));

/* How many calls of a set have been made so far, and how many failed. */
unsigned long faults_calls(unsigned set);
unsigned long faults_refused(void);

const char *faults_name(enum faults_call call);

#endif
