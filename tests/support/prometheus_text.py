"""Whether a scrape is as Prometheus wants it: by rules written here, and by promtool where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from typing import Final

NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SAMPLE: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?")
LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
SUFFIXES: Final = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
BASE: Final = re.compile(r"_(milliseconds|microseconds|minutes|hours|kilobytes|megabytes|percent)(_total)?$")


def faults(text: str) -> list[str]:
    """What is wrong with a scrape; nothing for a clean one."""
    scrape = _Scrape()
    for line in text.splitlines():
        scrape.line(line)
    unended = ["the last line does not end"] if text and not text.endswith("\n") else []
    return scrape.found + unended


class _Scrape:
    """What was read of it so far."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._family = self._type = ""
        self._helped, self._done, self._series = set[str](), set[str](), set[str]()
        self._buckets = defaultdict[str, list[tuple[float, float]]](list)

    def line(self, line: str) -> None:
        if line.startswith("# HELP "):
            self._helped.add(line.split(" ", 3)[2])
        elif line.startswith("# TYPE "):
            self._done.add(self._family)
            _, _, self._family, self._type = line.split(" ", 3)
            self.found += _of_family(self._family, self._type, self._helped, self._done)
        elif match := SAMPLE.fullmatch(line):
            self._sample(match[1], match[2] or "", float(match[3]))
        else:
            self.found.append(f"no sample: {line!r}")

    def _sample(self, name: str, labels: str, value: float) -> None:
        if name not in {self._family + suffix for suffix in SUFFIXES.get(self._type, ("",))}:
            self.found.append(f"{name} stands under {self._family}")
        if LABEL.sub("", labels):
            self.found.append(f"labels cannot be read: {labels!r}")
        series = f"{name}{{{labels}}}"
        if series in self._series:
            self.found.append(f"twice: {series}")
        self._series.add(series)
        if self._type == "counter" and not value >= 0:
            self.found.append(f"a counter of {value}: {name}")
        if self._type == "histogram":
            self._histogram(name, labels, value)

    def _histogram(self, name: str, labels: str, value: float) -> None:
        if name.endswith("_bucket"):
            rest = LABEL.sub(lambda label: "" if label[1] == "le" else label[0], labels).rstrip(",")
            bound = next(label[2] for label in LABEL.finditer(labels) if label[1] == "le")
            self._buckets[rest].append((float(bound), value))
        elif name.endswith("_count"):
            self.found += _of_histogram(self._buckets.pop(labels, []), value, f"{name}{{{labels}}}")


def _of_family(family: str, type_: str, helped: set[str], done: set[str]) -> list[str]:
    found = [] if NAME.fullmatch(family) else [f"no name: {family}"]
    if family in done:
        found.append(f"{family} comes in two places")
    if family not in helped:
        found.append(f"{family} has no HELP")
    if type_ not in ("counter", "gauge", "histogram", "summary"):
        found.append(f"{family} is a {type_}")
    if (type_ == "counter") != family.endswith("_total"):
        found.append(f"{family} is a {type_}")
    if BASE.search(family):
        found.append(f"{family} has no base unit")
    return found


def _of_histogram(buckets: list[tuple[float, float]], count: float, line: str) -> list[str]:
    counts = [number for _, number in sorted(buckets)]
    ok = bool(counts) and counts == sorted(counts) and counts[-1] == count and sorted(buckets) == buckets
    return [] if ok and buckets[-1][0] == float("inf") else [f"its buckets do not add up: {line!r}"]


def promtool_says(text: str) -> str:
    """What `promtool check metrics` says; nothing where it is not installed, or has nothing to say."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return ""
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text.encode(), capture_output=True, check=False
    )
    return (done.stdout + done.stderr).decode() + (f"exit code {done.returncode}" if done.returncode else "")
