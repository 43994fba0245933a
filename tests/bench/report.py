# SPDX-License-Identifier: MIT
"""report.py - the results as text, Markdown, CSV and JSON.

One list of tables is made and then written in each form, so that they cannot
disagree.
"""

import collections
import csv
import datetime
import json
import os
import platform

import lines as lines_module

Table = collections.namedtuple("Table", "title note head rows")

EXACT = "Exact mode, os_free + os_malloc of 64 bytes"
MEMORY = (("live", "live_kib"), ("7/8 freed", "thin_kib"),
	("all freed", "free_kib"), ("1 s later", "later_kib"))


def processor():
	try:
		with open("/proc/cpuinfo", encoding="utf-8") as file:
			for line in file:
				if line.startswith("model name"):
					return line.split(":", 1)[1].strip()
	except OSError:
		pass
	return platform.machine()


def facts(command, rounds, load):
	"""What a reader needs to know to believe, or repeat, the numbers."""
	with open("/proc/meminfo", encoding="ascii") as file:
		memory = int(file.readline().split()[1]) / 1048576
	return {
		"machine": "%s, %d cores, %.0f GiB" % (processor(),
			len(os.sched_getaffinity(0)), memory),
		"kernel": "Linux " + platform.release(),
		"libc": " ".join(platform.libc_ver()),
		"date": datetime.date.today().isoformat(),
		"command": command,
		"rounds": str(rounds),
		"load at the start": "%.2f" % load,
	}


def number(value, form="%.2f"):
	return "-" if value is None else form % value


def summary(scores):
	return Table("Geometric means",
		"1.00 is the best peer of each line; lower is better.",
		["mean of"] + [a.name for a in scores.allocators],
		[[title] + [number(v) for v in values]
			for title, values in scores.means()])


def ratios(scores, title, what, groups, unit):
	"""A table of ratios: a row a line, a column an allocator."""
	label, scale, form = unit
	rows = []
	for line in scores.lines:
		if line.group not in groups:
			continue
		best, name = scores.best_peer(line, what)
		cells = ["fail" if scores.failed(line, a)
			else number(scores.ratio(line, a, what))
			for a in scores.allocators]
		rows.append([line.name.split("/")[1],
			number(best and best / scale, form), name or "-"]
			+ cells)
	return Table(title, "Ratios to the best peer of each line.",
		["line", label, "best peer"]
		+ [a.name for a in scores.allocators], rows)


def memory(scores):
	rows = []
	for line in scores.lines:
		if line.group != "memory":
			continue
		for label, what in MEMORY:
			values = [scores.median(line, a, what)
				for a in scores.allocators]
			rows.append([line.name.split("/")[1], label] + [
				number(v if v is None else v / 1024, "%.1f")
				for v in values])
	return Table("Memory that comes back",
		"Resident MiB over what the process had before; 200 MB live.",
		["line", "when"] + [a.name for a in scores.allocators], rows)


def tables(scores):
	"""Everything that is worth a table, the summary first."""
	cpu = ("cpu s", 1, "%.3f")
	rss = ("MiB", 1024, "%.1f")
	names = lines_module.GROUPS
	made = [summary(scores)]
	for group in ("single", "threads", "programs"):
		made.append(ratios(scores, "Cpu seconds: " + names[group],
			"cpu", (group,), cpu))
	for group in ("threads", "programs"):
		made.append(ratios(scores, "Peak RSS: " + names[group],
			"rss_kib", (group,), rss))
	made.append(memory(scores))
	return [table for table in made if table.rows]


def remarks(scores, skipped):
	"""What the tables do not say: lines above the mark, and failures."""
	text = ["%s: %s is %.2f times the best peer" % (line, name, ratio)
		for ratio, line, name in scores.worst("cpu",
			("single", "threads", "programs"), 1.3)]
	text += ["%s: peak RSS of %s is %.2f times the best peer"
		% (line, name, ratio) for ratio, line, name
		in scores.worst("rss_kib", ("threads", "programs"), 1.5)]
	text += ["%s: %s failed: %s" % (line, name, error)
		for (line, name), error in sorted(scores.errors.items())]
	text += ["%s skipped: %s" % item for item in skipped.items()]
	return text


def as_text(table):
	widths = [max(len(row[i]) for row in [table.head] + table.rows)
		for i in range(len(table.head))]
	left = 3 if "best peer" in table.head else 1
	out = [table.title, "  " + table.note]
	for row in [table.head] + table.rows:
		cells = [cell.ljust(width) if i == 0 or 1 < i < left
			else cell.rjust(width)
			for i, (cell, width) in enumerate(zip(row, widths))]
		out.append("  " + "  ".join(cells).rstrip())
	return "\n".join(out) + "\n"


def as_markdown(table):
	out = ["### " + table.title, "", table.note, ""]
	out.append("| " + " | ".join(table.head) + " |")
	out.append("|" + "---|" + "---:|" * (len(table.head) - 1))
	out += ["| " + " | ".join(row) + " |" for row in table.rows]
	return "\n".join(out) + "\n"


def text_report(scores, about, skipped, extra):
	parts = ["\n".join("%-18s %s" % item for item in about.items()) + "\n"]
	parts += [as_text(table) for table in tables(scores)]
	notes = remarks(scores, skipped)
	if notes:
		parts.append("Remarks\n" + "".join("  %s\n" % n for n in notes))
	if extra:
		parts.append(EXACT + "\n"
			+ "".join("  %s\n" % n for n in extra.splitlines()))
	return "\n".join(parts)


def markdown_report(scores, about, skipped, extra):
	parts = ["".join("- %s: %s\n" % (k, "`%s`" % v if k == "command"
		else v) for k, v in about.items())]
	parts.append("![Ratios to the best peer](plot.svg)\n")
	parts += [as_markdown(table) for table in tables(scores)]
	notes = remarks(scores, skipped)
	if notes:
		parts.append("### Remarks\n\n"
			+ "".join("- %s\n" % note for note in notes))
	if extra:
		parts.append("### " + EXACT + "\n\n"
			+ "".join("    %s\n" % n for n in extra.splitlines()))
	return "\n".join(parts)


def write_csv(path, scores):
	"""Each run a row."""
	keys = ["cpu", "user", "system", "rss_kib", "wall", "ns"]
	keys += [what for _, what in MEMORY]
	with open(path, "w", newline="", encoding="utf-8") as file:
		out = csv.writer(file)
		out.writerow(["line", "allocator", "run"] + keys)
		for line, a, i, sample in scores.runs():
			out.writerow([line.name, a.name, i]
				+ [sample.get(key, "") for key in keys])


def write_json(path, scores, about, skipped):
	data = {
		"about": about,
		"allocators": {a.name: a.path for a in scores.allocators},
		"skipped": skipped,
		"means": {title: dict(zip([a.name for a in scores.allocators],
			values)) for title, values in scores.means()},
		"ratios": {line.name: {a.name: scores.ratio(line, a, "cpu")
			for a in scores.allocators} for line in scores.lines},
		"errors": ["%s: %s: %s" % (*key, error)
			for key, error in scores.errors.items()],
		"samples": scores.samples,
	}
	with open(path, "w", encoding="utf-8") as file:
		json.dump(data, file, indent=1)
		file.write("\n")
