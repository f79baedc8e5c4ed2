"""Limits from a TOML file, with every fault of the file in one error."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Final

from velox.core.limits import Limits, MarketLimits
from velox.errors import ConfigError, LimitsError
from velox.settings import suggestion

__all__ = ["load_limits"]

_TOTAL: Final = tuple(each.name for each in fields(Limits) if each.name not in {"each", "markets"})
_MARKET: Final = tuple(each.name for each in fields(MarketLimits))
_TABLES: Final = ("total", "each", "market")
_HEADER: Final = re.compile(r"^\s*\[\s*([\w.\"' -]+?)\s*\]\s*(#.*)?$")
_KEY: Final = re.compile(r"^\s*([\w-]+|\"[^\"]*\"|'[^']*')\s*=")

Fault = tuple[int | None, str, str]


def load_limits(path: str | os.PathLike[str]) -> Limits:
    """Read limits from a file.

    Parameters
    ----------
    path : path-like
        TOML with the tables ``[total]``, ``[each]`` and ``[market.N]``. Their keys are the fields
        of `Limits` and `MarketLimits`. Without ``[each]``, no order passes in a market that has no
        table of its own; an empty ``[each]`` allows all.

    Returns
    -------
    Limits

    Raises
    ------
    LimitsError
        The file is not TOML, or has unknown keys or values that cannot be used. It names all of
        them, each with its line.
    OSError
        The file cannot be read.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        raw = file.read()
    try:
        text = raw.decode()
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise LimitsError(name, [(line, "", "is not UTF-8")]) from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        why = re.sub(r" \(at .*\)$", "", str(error))
        raise LimitsError(name, [(int(found[1]) if found else None, "", why)]) from None
    lines = dict(_lines(text))
    faults: list[Fault] = []
    limits = _read(document, lines, faults)
    if faults:
        raise LimitsError(name, sorted(faults, key=lambda fault: fault[0] or 0))
    return limits


def _read(document: Mapping[str, Any], lines: Mapping[str, int], faults: list[Fault]) -> Limits:
    """Return the limits of a document, or the default if there are faults."""
    for key in document:
        if key not in _TABLES:
            faults.append((lines.get(key), key, f"unknown; {suggestion(key, _TABLES)}"))
    total = _values("total", document.get("total", {}), _TOTAL, lines, faults)
    each = None
    if "each" in document:
        each = _market("each", document["each"], lines, faults)
    markets: dict[int, MarketLimits] = {}
    tables = document.get("market", {})
    if not isinstance(tables, dict):
        faults.append((lines.get("market"), "market", "must be tables [market.N]"))
        tables = {}
    for number, values in tables.items():
        where = f"market.{number}"
        if not number.isascii() or not number.isdigit() or int(number) > 255:
            faults.append((lines.get(where), where, "must be a market, 0 to 255"))
            continue
        markets[int(number)] = _market(where, values, lines, faults)
    try:
        return Limits(each=each, markets=markets, **total)
    except ConfigError as error:
        key = f"total.{error.field}"
        faults.append((lines.get(key, lines.get("total")), key, error.why))
        return Limits()


def _market(
    where: str, values: object, lines: Mapping[str, int], faults: list[Fault]
) -> MarketLimits:
    given = _values(where, values, _MARKET, lines, faults)
    try:
        return MarketLimits(**given)
    except ConfigError as error:
        key = f"{where}.{error.field}"
        faults.append((lines.get(key, lines.get(where)), key, error.why))
        return MarketLimits()


def _values(
    where: str,
    values: object,
    known: tuple[str, ...],
    lines: Mapping[str, int],
    faults: list[Fault],
) -> dict[str, Any]:
    """Return the values of a table that can be used, each checked by itself."""
    if not isinstance(values, dict):
        faults.append((lines.get(where), where, "must be a table"))
        return {}
    good: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}"
        line = lines.get(path, lines.get(where))
        if key not in known:
            faults.append((line, path, f"unknown; {suggestion(key, known)}"))
            continue
        # A burst alone would be refused for the sake of its rate.
        beside = {"order_burst": "orders_per_second", "cancel_burst": "cancels_per_second"}
        rate = {beside[key]: 1} if key in beside else {}
        try:
            (Limits if where == "total" else MarketLimits)(**{**rate, key: value})
        except ConfigError as error:
            faults.append((line, path, f"{value!r}: {error.why}"))
            continue
        good[key] = value
    return good


def _lines(text: str) -> Iterator[tuple[str, int]]:
    """Yield the dotted name of each table and key, with its line.

    It reads a line at a time, which suffices for files of numbers.
    """
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header is not None:
            table = ".".join(part.strip().strip("\"'") for part in header[1].split("."))
            yield table, number
            continue
        key = _KEY.match(line)
        if key is not None:
            name = key[1].strip("\"'")
            yield f"{table}.{name}" if table else name, number
