"""Huge pages: how much a pipeline asked for, and how much the kernel granted.

A huge page (2 MiB) needs one entry of the TLB; the same memory in small pages needs 512. A program
asks for huge pages with ``madvise``. Linux grants them if it has some and
``/sys/kernel/mm/transparent_hugepage/enabled`` allows it. Only ``/proc/self/smaps`` says how many
it granted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velox.core.choices import HugePages as When
from velox.runtime.hardware import read_if_possible

__all__ = ["HugePages", "granted_bytes", "look"]

ENABLED = "sys/kernel/mm/transparent_hugepage/enabled"
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ")


@dataclass(frozen=True, slots=True)
class HugePages:
    """How much memory asked for huge pages, and how much got them when the pipeline was made.

    Attributes
    ----------
    when : {"auto", "always", "never"}
        `PipelineConfig.huge_pages`.
    asked_bytes : int
        Memory of the rings and books for which huge pages were asked.
    granted_bytes : int or None
        How much of that lies on huge pages; None where the kernel does not say.
    refusal : str or None
        Why less was granted than asked for, and which file or setting decides that.
    """

    when: When
    asked_bytes: int = 0
    granted_bytes: int | None = 0
    refusal: str | None = None

    def __str__(self) -> str:
        """Describe it in one line.

        Examples
        --------
        >>> print(HugePages("always", 20 << 20, 18 << 20))
        always: 18.0 of 20.0 MiB asked for were granted
        """
        if not self.asked_bytes:
            return f"{self.when}: none asked for"
        asked = f"{self.asked_bytes / 2**20:.1f} MiB asked for"
        if self.granted_bytes is None:
            return f"{self.when}: {asked}, and the kernel does not say what it granted"
        return f"{self.when}: {self.granted_bytes / 2**20:.1f} of {asked} were granted"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict, ready for JSON."""
        return {
            "when": self.when,
            "asked_bytes": self.asked_bytes,
            "granted_bytes": self.granted_bytes,
        }


def look(
    when: When,
    blocks: Iterable[tuple[int, int]],
    root: str | os.PathLike[str] = "/",
) -> HugePages:
    """Find out how much of the given blocks lies on huge pages.

    Parameters
    ----------
    when : {"auto", "always", "never"}
    blocks : iterable of (int, int)
        Address and bytes of each, as `TransactionRing.huge_blocks` has them.
    root : path
        Where ``/proc`` and ``/sys`` are.

    Returns
    -------
    HugePages

    Notes
    -----
    Reads ``/proc/self/smaps``, which takes a few milliseconds, unless `blocks` is empty.

    Examples
    --------
    >>> look("never", [])
    HugePages(when='never', asked_bytes=0, granted_bytes=0, refusal=None)
    """
    blocks = list(blocks)
    asked = sum(size for _, size in blocks)
    granted = granted_bytes(blocks, root) if blocks else 0
    refusal = None
    if when == "always" and not (granted == asked > 0):
        refusal = _refusal(asked, granted, Path(root))
    return HugePages(when, asked, granted, refusal)


def granted_bytes(
    blocks: Iterable[tuple[int, int]], root: str | os.PathLike[str] = "/"
) -> int | None:
    """How many bytes of the blocks lie on huge pages; None if the system does not say.

    The kernel counts huge pages by mapping, and it merges neighbouring blocks into one mapping.
    From each mapping, this counts at most the bytes of the blocks that lie in it.
    """
    smaps = read_if_possible(Path(root) / "proc/self/smaps")
    if "\nAnonHugePages:" not in smaps:
        return None
    blocks = list(blocks)
    total = 0
    for begin, end, huge in _mappings(smaps):
        inside = sum(max(0, min(end, at + size) - max(begin, at)) for at, size in blocks)
        total += min(huge, inside)
    return total


def _mappings(smaps: str) -> Iterator[tuple[int, int, int]]:
    """Begin, end, and bytes on huge pages, of each mapping that has some."""
    begin = end = 0
    for line in smaps.splitlines():
        found = MAPPING.match(line)
        if found is not None:
            begin, end = int(found[1], 16), int(found[2], 16)
        elif line.startswith("AnonHugePages:") and (huge := int(line.split()[1]) * 1024):
            yield begin, end, huge


def _refusal(asked: int, granted: int | None, root: Path) -> str:
    file = f"/{ENABLED}"
    choices = read_if_possible(root / ENABLED).strip()
    if not choices:
        why = f"this kernel has no transparent huge pages: there is no {file}"
    elif "[never]" in choices:
        why = f"{file} says {choices!r}: write 'madvise' into it"
    elif re.search(r"^THP_enabled:\s*0$", read_if_possible(root / "proc/self/status"), re.M):
        why = "THP_enabled is 0 in /proc/self/status: they were disabled for this process (prctl)"
    elif granted is None:
        why = f"{file} says {choices!r}, but /proc/self/smaps does not say what was granted"
    else:
        why = (
            f"{file} says {choices!r}, but only {granted >> 20} of {asked >> 20} MiB could be had: "
            "memory is short or fragmented (/proc/sys/vm/compact_memory)"
        )
    return f"huge_pages = 'always': {why}; the rest has small pages"
