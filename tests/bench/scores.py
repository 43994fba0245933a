# SPDX-License-Identifier: MIT
"""scores.py - medians, ratios to the best peer, geometric means.

A peer is every allocator but ours. The best peer of a line has the smallest
median; each column, also that of a peer, is a ratio to it. A mean is taken
over the lines where the allocator has a result, so a failure does not improve
it silently: failures are listed with the tables.
"""

import math
import statistics

MEANS = (
	("cpu: all", "cpu", ("single", "threads", "programs")),
	("cpu: one thread", "cpu", ("single",)),
	("cpu: several threads", "cpu", ("threads",)),
	("cpu: programs", "cpu", ("programs",)),
	("peak RSS: programs", "rss_kib", ("programs",)),
	("peak RSS: several threads", "rss_kib", ("threads",)),
)


class Scores:
	"""All samples: samples[line name][allocator name] is a list."""

	def __init__(self, lines, allocators):
		self.lines = lines
		self.allocators = allocators
		self.samples = {line.name: {a.name: [] for a in allocators}
			for line in lines}
		self.errors = {}

	def add(self, line, allocator, sample):
		if "error" in sample:
			self.errors[line.name, allocator.name] = sample["error"]
		else:
			self.samples[line.name][allocator.name].append(sample)

	def runs(self):
		"""Every run: line, allocator, number, sample."""
		for line in self.lines:
			for a in self.allocators:
				samples = self.samples[line.name][a.name]
				for i, sample in enumerate(samples):
					yield line, a, i, sample

	def failed(self, line, allocator):
		return (line.name, allocator.name) in self.errors

	def wall(self, line, allocator):
		return sum(sample["wall"] for sample
			in self.samples[line.name][allocator.name])

	def median(self, line, allocator, what):
		"""The median of one measure, or None where there is none."""
		if self.failed(line, allocator):
			return None
		values = [sample[what] for sample
			in self.samples[line.name][allocator.name]
			if what in sample]
		return statistics.median(values) if values else None

	def best_peer(self, line, what):
		"""The smallest median among the peers and whose it is."""
		found = [(self.median(line, a, what), a.name)
			for a in self.allocators if not a.ours]
		return min((f for f in found if f[0] is not None),
			default=(None, None))

	def ratio(self, line, allocator, what):
		best, value = self.best_peer(line, what)[0], self.median(
			line, allocator, what)
		if not best or value is None:
			return None
		return max(value, 1e-9) / best

	def mean(self, allocator, what, groups):
		"""The geometric mean of the ratios over the lines of groups."""
		ratios = [self.ratio(line, allocator, what)
			for line in self.lines if line.group in groups]
		logs = [math.log(ratio) for ratio in ratios if ratio]
		return math.exp(sum(logs) / len(logs)) if logs else None

	def means(self):
		"""The rows of the summary: a title and one number a column."""
		rows = [(title, [self.mean(a, what, groups)
				for a in self.allocators])
			for title, what, groups in MEANS]
		return [row for row in rows
			if any(value is not None for value in row[1])]

	def worst(self, what, groups, limit):
		"""Our lines above limit times the best peer, worst first."""
		found = [(self.ratio(line, a, what), line.name, a.name)
			for line in self.lines if line.group in groups
			for a in self.allocators if a.ours]
		return sorted((f for f in found if f[0] and f[0] > limit),
			reverse=True)
