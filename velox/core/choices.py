"""The words that settings of clocks, rings and books take, each defined once.

The index of a word in its tuple is its number in C.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

__all__ = [
    "CLOCK_SOURCES",
    "CROSS_POLICIES",
    "HUGE_PAGES",
    "PUBLISH_POLICIES",
    "ClockSource",
    "HugePages",
    "OnCross",
    "Publish",
]

ClockSource: TypeAlias = Literal["auto", "tsc", "cntvct", "kernel", "virtual"]
HugePages: TypeAlias = Literal["auto", "always", "never"]
OnCross: TypeAlias = Literal["count", "reject", "uncross", "match"]
Publish: TypeAlias = Literal["record", "event"]

CLOCK_SOURCES: Final[tuple[str, ...]] = get_args(ClockSource)
#: In the order of ``page_choice`` in ``memory.pxd``.
HUGE_PAGES: Final[tuple[str, ...]] = get_args(HugePages)
#: In the order of ``cross_policy`` in ``book.pxd``.
CROSS_POLICIES: Final[tuple[str, ...]] = get_args(OnCross)
#: The flag ``by_event`` of a book, 0 or 1.
PUBLISH_POLICIES: Final[tuple[str, ...]] = get_args(Publish)
