/* SPDX-License-Identifier: MIT */
/*
 * interleave.h - threads of a harness, in all orders that there are.
 *
 * A harness for threads is compiled with -fsanitize=thread and linked without:
 * the compiler then calls us for every access, and says which are atomic and
 * how they are ordered. Threads change before atomic accesses and locks. Each
 * state is looked at once. What an atomic access reads is what was written
 * last, whatever its order; orders count for plain accesses: two of which one
 * writes, and neither of which happens before the other, are a fault.
 */
#ifndef OSMEM_INTERLEAVE_H
#define OSMEM_INTERLEAVE_H

#include <stdbool.h>
#include <stddef.h>

/* What the harness has. */
struct interleave {
	void (*thread[3])(void); /* those that there are come first */
	void (*finish)(void);	 /* after all have ended, in each order */
};

/*
 * Runs the threads in all orders from the state that there is. The number of
 * states; ends the process when a claim fails.
 */
unsigned long interleave_run(const struct interleave *what);

/* Memory that threads share, all of it, before they run; NULL forgets it. */
void interleave_share(void *start, size_t size);

/* For locks. lock waits until *word is 0, try does not, and sets it. */
void interleave_lock(int *word);
bool interleave_try(int *word);
void interleave_unlock(int *word);

/* The number of the thread that runs, from 0. */
int interleave_self(void);

#endif
