# SPDX-License-Identifier: MIT
"""lines.py - the lines of the benchmark: what is run, and under which name.

A micro line is the arguments of the program micro, with as many operations as
take a good allocator about a tenth of a second, so that starting the process
does not count. README.md says what each stands for.
"""

import collections

Line = collections.namedtuple("Line", "name group command")

SINGLE = """
pair-16         pair 16 30M
pair-64         pair 64 30M
pair-1k         pair 1k 30M
pair-8k         pair 8k 20M
pair-32k        pair 32k 20M
pair-128k       pair 128k 5M
pair-256k       pair 256k 4M
batch-16        batch 16 256 20M
batch-64        batch 64 256 20M
batch-1k        batch 1k 256 10M
batch-8k        batch 8k 256 1500K
batch-64k       batch 64k 256 600K
random-16       random 16 10K 12M
random-64       random 64 10K 12M
random-1k       random 1k 10K 6M
random-8k       random 8k 10K 3M
random-64k      random 64k 10K 2M
random-256k     random 256k 1K 2M
mixed           mixed 10K 8M
live-100        random 64 100 20M
live-100k       random 64 100K 6M
live-1m         random 64 1M 2M
live-10m        random 64 10M 2M
vector          vector 256k 150K
append          append 8k 10M
extend          extend 64k 64m 1
big             big 18 22 6K
calloc          calloc 4 13 3M
aligned         aligned 1K 3M
"""

THREADS = """
scale-2         scale 2 1K 8M
scale-8         scale 8 1K 8M
scale-64        scale 64 1K 8M
threadtest-8    threadtest 8 64 16M
handoff-1       handoff 1 4M
handoff-4       handoff 4 4M
exchange-4      exchange 4 6M
larson-2        larson 2 1K 8M
larson-8        larson 8 1K 6M
churn-4         churn 4 6K
active-2        active 2 100 4M
passive-2       passive 2 100 4M
server-2        server 2 3M
server-16       server 16 3M
"""

MEMORY = """
small-1         memory 1 4 10 200
medium-1        memory 1 10 17 200
mixed-8         memory 8 4 14 200
strangers-8     strangers 8 4 14 200
"""

GROUPS = {
	"single": "one thread",
	"threads": "several threads",
	"programs": "real programs",
	"memory": "memory that comes back",
}


def micro_lines():
	"""The lines that need nothing but micro, in the order of the tables."""
	lines = []
	for group, text in (("single", SINGLE), ("threads", THREADS),
			("memory", MEMORY)):
		for row in text.split("\n"):
			if row:
				name, *command = row.split()
				lines.append(Line(group + "/" + name, group,
						command))
	return lines


def program_lines(names):
	"""A line for each workload of the script programs."""
	return [Line("programs/" + name, "programs", [name]) for name in names]


def selected(lines, patterns):
	"""The lines that a pattern names, or else those that contain it."""
	if not patterns:
		return lines
	chosen = set()
	for pattern in patterns:
		exact = [line.name for line in lines
			if pattern in (line.name, line.name.split("/")[1])]
		chosen.update(exact or [line.name for line in lines
			if pattern in line.name])
	return [line for line in lines if line.name in chosen]
