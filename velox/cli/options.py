"""Options that several commands share, and the conversions of their text.

An option of a pipeline's setting is made from the setting's definition in `velox.config`.
The code that uses a value checks its meaning.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from velox.config import PipelineConfig
from velox.core.integers import INT64_MAX

__all__ = [
    "DEFAULT_RATE",
    "LEAST_RATE",
    "add_hiccups_option",
    "add_setting",
    "count",
    "cpus",
    "events_a_second",
    "integer",
    "microseconds",
    "not_negative",
    "option_of",
    "parameter",
    "path",
    "placement",
    "positive",
    "rate",
    "speed",
]

MOST_CPUS = 1 << 16
# The limits and the default of MarketFlow.
LEAST_RATE, MOST_RATE, DEFAULT_RATE = 1.0, 1e9, 100_000.0
# The durations of a configuration are nanoseconds in 63 bits.
MOST_US = INT64_MAX // 1000


def integer(text: str) -> int:
    """Convert to an integer of any sign."""
    try:
        return int(text)
    except ValueError:
        raise _refused(text, "must be an integer") from None


def count(text: str) -> int:
    """Convert to an integer of at least 0."""
    number = integer(text)
    if number < 0:
        raise _refused(text, "must be at least 0")
    return number


def positive(text: str) -> float:
    """Convert to a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        raise _refused(text, "must be a number") from None
    if not (math.isfinite(number) and number > 0):
        raise _refused(text, "must be a finite number above 0")
    return number


def not_negative(text: str) -> float:
    """Convert to a finite number of at least 0."""
    try:
        return 0.0 if float(text) == 0 else positive(text)
    except (ValueError, argparse.ArgumentTypeError):
        raise _refused(text, "must be a finite number of at least 0") from None


def microseconds(text: str) -> int:
    """Convert microseconds above 0, up to 292 years, to nanoseconds."""
    number = positive(text)
    if number > MOST_US:
        raise _refused(text, f"must be at most {MOST_US} us")
    return round(number * 1000)


def path(text: str) -> str:
    """Check that the name of a file is not empty."""
    if not text:
        raise _refused(text, "must be the name of a file")
    return text


def speed(text: str) -> float | str:
    """Convert to ``max`` or a finite number above 0."""
    if text == "max":
        return text
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise _refused(text, "must be 'max', or a number above 0") from None


def events_a_second(text: str) -> float:
    """Convert to a rate that synthetic flow can have."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not LEAST_RATE <= number <= MOST_RATE:
        raise _refused(text, "must be a number from 1 to 1e9")
    return number


def rate(text: str) -> float | str:
    """Convert to ``max`` or a rate that synthetic flow can have."""
    if text == "max":
        return text
    try:
        return events_a_second(text)
    except argparse.ArgumentTypeError:
        raise _refused(text, "must be 'max', or a number from 1 to 1e9") from None


def cpus(text: str) -> tuple[int, ...]:
    """Convert a list of CPUs and ranges, as in ``0,2-3``."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise _refused(text, "must be CPU numbers and ranges, as in 0,2-3")
        low, high = int(first), int(last if dash else first)
        if not low <= high < MOST_CPUS:
            raise _refused(text, f"{part!r} is not a range of CPU numbers")
        numbers.extend(range(low, high + 1))
    return tuple(numbers)


def placement(text: str) -> str | dict[str, int]:
    """Convert to a placement's name or the CPU of each stage, as in ``ingress=0,output=1``."""
    if "=" not in text:
        return text
    placed: dict[str, int] = {}
    for part in text.split(","):
        stage, _, cpu = part.strip().partition("=")
        if not (stage and cpu.isdecimal()):
            raise _refused(text, f"{part!r} is not of the form STAGE=CPU")
        if stage in placed:
            raise _refused(text, f"{stage!r} is given twice")
        placed[stage] = int(cpu)
    return placed


def _refused(text: str, why: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"{text!r}: {why}")


# Settings whose option is not simply a word or an integer: the flag, the metavar, the conversion
# of the text, and the way a value is shown.
_SPECIAL: dict[str, tuple[str, str, Callable[[str], Any], Callable[[Any], str]]] = {
    "placement": ("--placement", "P", placement, str),
    "cpus": ("--cpus", "LIST", cpus, str),
    "bundle_timeout_ns": (
        *("--bundle-timeout-us", "US", microseconds),
        lambda nanoseconds: f"{nanoseconds / 1000:g}",
    ),
}
_SPECIAL["timer_ns"] = ("--timer-us", "US", microseconds, _SPECIAL["bundle_timeout_ns"][3])
_MORE = {
    "placement": "; or the CPU of each stage, as in ingress=0,orderbook=0,bundle=1,output=1",
    "cpus": ", as in 0,2-3",
    "bundle_timeout_ns": ", in microseconds",
    "timer_ns": ", in microseconds",
}


def add_setting(
    parser: argparse._ActionsContainer, name: str, *, default_text: str | None = None
) -> None:
    """Give a parser the option of one setting, made from the setting's definition.

    The option's value is None if it is not given, so that the definition's default holds.

    Parameters
    ----------
    parser : argparse.ArgumentParser or group
    name : str
        A field of `PipelineConfig`.
    default_text : str, optional
        The default in the help text, for a command with its own default.
    """
    setting = PipelineConfig.settings()[name]
    if setting.type == "bool":
        action, text = ("store_false", "do not ") if setting.default else ("store_true", "")
        parser.add_argument(
            option_of(name), action=action, dest=name, default=None, help=text + setting.help
        )
        return
    plain = str if setting.choices else integer
    metavar = "WORD" if setting.choices else "N"
    flag, metavar, convert, show = _SPECIAL.get(name, (option_of(name), metavar, plain, str))
    text = setting.help + (", a power of two" if setting.power_of_two else "")
    if setting.choices:
        words = [f"{word} ({meaning})" for word, meaning in setting.choices.items()]
        text += f": {', '.join(words)}"
    if default_text is None:
        default_text = setting.absent if setting.default is None else show(setting.default)
    parser.add_argument(
        flag,
        type=convert,
        metavar=metavar,
        dest=name,
        help=f"{text}{_MORE.get(name, '')} (default: {default_text})",
    )


def option_of(name: str) -> str:
    """Return the option of a setting of a pipeline. A setting that is on has one to turn it off.

    Examples
    --------
    >>> option_of("bundle_timeout_ns"), option_of("pin")
    ('--bundle-timeout-us', '--no-pin')
    """
    if name in _SPECIAL:
        return _SPECIAL[name][0]
    setting = PipelineConfig.settings()[name]
    off = "no-" if setting.type == "bool" and setting.default else ""
    return f"--{off}{name.replace('_', '-')}"


def parameter(text: str) -> tuple[str, str]:
    """Convert ``NAME=VALUE`` to its two parts."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value):
        raise _refused(text, "must be NAME=VALUE")
    return name, value


def add_hiccups_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--hiccups``, which measures the host's hiccups after a command has run."""
    parser.add_argument(
        "--hiccups",
        type=not_negative,
        default=0.25,
        metavar="S",
        help="afterwards, measure the hiccups of the same CPUs for S seconds; 0: do not "
        "(default: %(default)s)",
    )
