"""The facts of a host that its checks read: files of ``/proc`` and ``/sys``, and measurements."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from velox.runtime.doctor.finding import Evidence
from velox.runtime.hardware import CPU_FOLDER, parse_cpus
from velox.runtime.hiccups import Hiccups
from velox.runtime.placement import Plan

__all__ = ["Counters", "Host", "Limit", "read_counters"]

#: The order of the fields of a ``cpu`` line of ``/proc/stat`` (proc_stat(5)).
STEAL = 7
STAT_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of the kernel at one moment.

    Attributes
    ----------
    ticks : dict of int to tuple of int
        By CPU, the first eight fields of its line in ``/proc/stat``, in clock ticks: user, nice,
        system, idle, iowait, irq, softirq, steal. Empty if they cannot be read.
    interrupts : dict of int to int
        By CPU, the interrupts of devices that it has served. Empty if they cannot be read.
    """

    ticks: dict[int, tuple[int, ...]]
    interrupts: dict[int, int]


@dataclass(frozen=True, slots=True)
class Limit:
    """A row of ``/proc/self/limits``. None stands for "unlimited"."""

    text: str
    soft: int | None
    hard: int | None


@dataclass(frozen=True, slots=True)
class Host:
    """A host, as its checks see it.

    Attributes
    ----------
    root : Path
        The folder under which ``/proc``, ``/sys`` and ``/dev`` are looked for.
    plan : Plan
        The threads of the pipeline that is to run here.
    cpus : tuple of int
        The CPUs of the plan's pinned threads; all usable CPUs if none is pinned.
    usable : int
        Whole CPUs that this process can keep busy.
    before, after : Counters
        Counters around the measurements.
    hiccups : tuple of Hiccups
        What was measured in between; may be empty.
    measured_s : float
        Seconds between the counters.
    file_system_bytes : callable
        Returns the size in bytes of the file system at a path, or None.
    """

    root: Path
    plan: Plan
    cpus: tuple[int, ...]
    usable: int
    before: Counters
    after: Counters
    hiccups: Sequence[Hiccups]
    measured_s: float
    file_system_bytes: Callable[[Path], int | None] = field(repr=False)

    def read(self, path: str) -> str | None:
        """Return a file's text without the newline at its end, or None if it cannot be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\n\0 ")
        except OSError:
            return None

    def evidence(self, path: str, text: str | None = None) -> Evidence:
        """Return the first line of a file as evidence; or the given line of it."""
        if text is None:
            text = self.read(path)
        lines = ["absent"] if text is None else (text.splitlines() or ["empty"])
        return Evidence("/" + path, lines[0])

    def integer(self, path: str) -> int | None:
        """Return the number in a file, or None if there is none."""
        text = self.read(path)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def cpu_set(self, path: str) -> frozenset[int] | None:
        """Return the CPUs of a list such as ``0-3,8``; an empty file is an empty set."""
        text = self.read(path)
        if text is None:
            return None
        return parse_cpus(text) if text.strip() not in ("", "(null)") else frozenset()

    def siblings(self, cpu: int) -> frozenset[int] | None:
        """Return the CPUs that share a core with this one, itself included."""
        return self.cpu_set(f"{CPU_FOLDER}/cpu{cpu}/topology/thread_siblings_list") or None

    def boot_option(self, name: str) -> str | None:
        """Return the value of an option of the kernel's command line, or None."""
        for word in (self.read("proc/cmdline") or "").split():
            key, _, value = word.partition("=")
            if key == name:
                return value
        return None

    def limit(self, name: str) -> Limit | None:
        """Return a row of ``/proc/self/limits`` by its name, such as ``Max locked memory``."""
        for line in (self.read("proc/self/limits") or "").splitlines():
            if line.startswith(name + " "):
                words = line[len(name) :].split()
                if len(words) >= 2:
                    return Limit(" ".join(line.split()), _amount(words[0]), _amount(words[1]))
        return None


def _amount(word: str) -> int | None:
    return int(word) if word.isascii() and word.isdigit() else None


def read_counters(root: Path) -> Counters:
    """Read the counters of each CPU.

    Parameters
    ----------
    root : path
        Where ``/proc`` is.

    Returns
    -------
    Counters
    """
    return Counters(_ticks(root), _interrupts(root))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _ticks(root: Path) -> dict[int, tuple[int, ...]]:
    ticks = {}
    for line in _lines(root / "proc/stat"):
        name, *numbers = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdigit() and len(numbers) >= STAT_FIELDS:
            ticks[int(name[3:])] = tuple(int(number) for number in numbers[:STAT_FIELDS])
    return ticks


def _interrupts(root: Path) -> dict[int, int]:
    """Sum the numbered rows: named ones, such as LOC, are the kernel's own."""
    heading, *rows = _lines(root / "proc/interrupts") or [""]
    cpus = [int(word[3:]) for word in heading.split() if word.startswith("CPU")]
    served = dict.fromkeys(cpus, 0)
    for row in rows:
        name, _, rest = row.partition(":")
        if name.strip().isdigit():
            for cpu, number in zip(cpus, rest.split(), strict=False):
                served[cpu] += int(number) if number.isdigit() else 0
    return served


def file_system_bytes(path: Path) -> int | None:
    """Return the size of the file system at a path, in bytes, or None if there is none."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_frsize * found.f_blocks
