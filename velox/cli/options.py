"""What options of several commands share: what their text becomes, and ``--hiccups``.

What a value means is checked where it is used.
"""

from __future__ import annotations

import argparse
import math

__all__ = [
    "add_hiccups_option",
    "count",
    "cpus",
    "events_a_second",
    "integer",
    "microseconds",
    "not_negative",
    "path",
    "placement",
    "positive",
    "rate",
    "speed",
]

MOST_CPUS = 1 << 16
# Those of MarketFlow.
LEAST_RATE, MOST_RATE = 1.0, 1e9
# The durations of a configuration are nanoseconds in 63 bits.
MOST_US = (2**63 - 1) // 1000


def integer(text: str) -> int:
    """An integer, whatever its sign."""
    try:
        return int(text)
    except ValueError:
        raise _refused(text, "must be an integer") from None


def count(text: str) -> int:
    """An integer of at least 0."""
    number = integer(text)
    if number < 0:
        raise _refused(text, "must be at least 0")
    return number


def positive(text: str) -> float:
    """A number above 0, and finite."""
    try:
        number = float(text)
    except ValueError:
        raise _refused(text, "must be a number") from None
    if not (math.isfinite(number) and number > 0):
        raise _refused(text, "must be a number above 0, and finite")
    return number


def not_negative(text: str) -> float:
    """A number of at least 0, and finite."""
    try:
        return 0.0 if float(text) == 0 else positive(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise _refused(text, "must be a number of at least 0, and finite") from None


def microseconds(text: str) -> float:
    """A duration above 0, of up to 292 years."""
    number = positive(text)
    if number > MOST_US:
        raise _refused(text, f"must be at most {MOST_US} us")
    return number


def path(text: str) -> str:
    """The name of a file, which may be anything but nothing."""
    if not text:
        raise _refused(text, "must be the name of a file")
    return text


def speed(text: str) -> float | str:
    """``max``, or a number above 0."""
    if text == "max":
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise _refused(text, "must be 'max', or a number above 0") from None


def events_a_second(text: str) -> float:
    """A rate that synthetic flow can have."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not LEAST_RATE <= number <= MOST_RATE:
        raise _refused(text, "must be a number from 1 to 1e9")
    return number


def rate(text: str) -> float | str:
    """``max``, or a rate that synthetic flow can have."""
    if text == "max":
        return text
    try:
        return events_a_second(text)
    except argparse.ArgumentTypeError:
        raise _refused(text, "must be 'max', or a number from 1 to 1e9") from None


def cpus(text: str) -> tuple[int, ...]:
    """CPUs and ranges of them, as in ``0,2-3``."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise _refused(text, "must be CPU numbers and ranges, as in 0,2-3")
        low, high = int(first), int(last if dash else first)
        if not low <= high < MOST_CPUS:
            raise _refused(text, f"{part!r} is no range of CPU numbers")
        numbers.extend(range(low, high + 1))
    return tuple(numbers)


def placement(text: str) -> str | dict[str, int]:
    """The name of a placement, or the CPU of each stage, as in ``ingress=0,output=1``."""
    if "=" not in text:
        return text
    placed: dict[str, int] = {}
    for part in text.split(","):
        stage, _, cpu = part.strip().partition("=")
        if not (stage and cpu.isdecimal()):
            raise _refused(text, f"{part!r} is not of the form STAGE=CPU")
        if stage in placed:
            raise _refused(text, f"{stage!r} is there twice")
        placed[stage] = int(cpu)
    return placed


def _refused(text: str, why: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r}: {why}")


def add_hiccups_option(parser: argparse._ActionsContainer) -> None:
    """Let the host's own hiccups be measured once a command has run."""
    parser.add_argument(
        "--hiccups",
        type=not_negative,
        default=0.25,
        metavar="S",
        help="seconds for which the same CPUs' own hiccups are measured afterwards; 0: not (0.25)",
    )
