# SPDX-License-Identifier: MIT
"""plot.py - the ratios of all lines as one picture, made by gnuplot.

A row a line, a point an allocator, ratios on a logarithmic axis: who is near
1 everywhere is seen at once. Ours is the filled, larger point.
"""

import os
import shutil
import subprocess

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b",
	"#e377c2", "#17becf")
SHAPES = (4, 6, 8, 10, 12)
TITLE = ("cpu seconds, ratio to the best peer of each line"
	" (%(machine)s, %(date)s)")
FURTHEST = 10  # what is worse stands at the edge


def quoted(text):
	return "'" + text.replace("'", "''").replace("_", "\\_") + "'"


def rows_of(scores):
	return [line for line in scores.lines
		if scores.best_peer(line, "cpu")[0] and line.group != "memory"]


def commands(path, scores, rows, about):
	tics = ", ".join("%s %d" % (quoted(line.name), len(rows) - i)
		for i, line in enumerate(rows))
	series = []
	for i, a in enumerate(scores.allocators):
		point, size = (7, 1.0) if a.ours else (SHAPES[i % 5], 0.7)
		series.append("'-' title %s with points pt %d ps %.1f lc rgb %s"
			% (quoted(a.name), point, size,
			quoted(COLOURS[i % len(COLOURS)])))
	text = [
		"set terminal svg size 960,%d font 'sans,11' background 'white'"
		% (120 + 16 * len(rows)),
		"set output " + quoted(path).replace("\\_", "_"),
		"set title " + quoted(TITLE % about),
		"set logscale x", "set xrange [0.4:%g]" % (FURTHEST * 1.1),
		"set xtics (0.5, 0.7, 1, 1.3, 2, 3, 5, '>= 10' %d)" % FURTHEST,
		"set ytics (%s)" % tics, "set yrange [0:%d]" % (len(rows) + 1),
		"set grid xtics ytics lc rgb '#dddddd'",
		"set arrow from 1,0 to 1,%d nohead lc rgb '#444444'"
		% (len(rows) + 1),
		"set key outside top center horizontal",
		"plot " + ", \\\n\t".join(series),
	]
	for a in scores.allocators:
		for i, line in enumerate(rows):
			ratio = scores.ratio(line, a, "cpu")
			if ratio is not None:
				text.append("%.4f %d" % (min(max(ratio, 0.4),
					FURTHEST), len(rows) - i))
		text.append("e")
	return "\n".join(text) + "\n"


def write(path, scores, about):
	"""Makes the picture; whether gnuplot was there and did."""
	rows = rows_of(scores)
	if not rows or shutil.which("gnuplot") is None:
		return False
	done = subprocess.run(["gnuplot"], check=False, text=True,
		input=commands(path, scores, rows, about))
	return done.returncode == 0 and os.path.exists(path)
