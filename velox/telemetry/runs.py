"""Reads what ``--json`` wrote, and says what is wrong with a file that is no such document."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velox.core.histogram import LatencyHistogram
from velox.core.integers import INT64_MAX
from velox.errors import FeedError, RecordError
from velox.runtime.report import Statistics
from velox.runtime.report_text import LATENCIES
from velox.telemetry.files import naming
from velox.telemetry.hlog import decode_histogram

__all__ = ["Run", "load_run"]

MOST_BYTES = 256 << 20
COUNTERS = Statistics._fields
# The keys without which a document is not of `run` or `replay`.
NEEDED: dict[str, type | tuple[type, ...]] = {
    "velox": str,
    "command": str,
    "passed": bool,
    "ledger": dict,
    "latency_ns": dict,
    "histograms": dict,
    "config": dict,
    "seconds": list,
    "elapsed_s": (int, float),
    "throughput_per_s": (int, float),
    "machine": str,
    "plan": dict,
    "clock": dict,
    "full": dict,
    "hiccups": list,
    "warnings": list,
    "errors": list,
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has ended, as its JSON document tells it.

    Attributes
    ----------
    name : str
        The file's name without its folder and its ending.
    document : dict
        What ``--json`` wrote.
    latency : dict of str to LatencyHistogram
        In ns, every count exact.
    """

    name: str
    document: dict[str, Any]
    latency: dict[str, LatencyHistogram]


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a document that ``velox run --json`` or ``velox replay --json`` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    Run

    Raises
    ------
    FeedError
        The file is not such a document. The error names the file and the key.
    OSError
        It cannot be read.
    """
    source = os.fspath(path)
    with naming(source), open(source, "rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise FeedError(f"is larger than {MOST_BYTES >> 20} MiB", path=source)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"is not JSON: {error}", path=source) from None
    if not isinstance(document, dict):
        raise FeedError("is not a JSON object", path=source)
    for key, kind in NEEDED.items():
        if key not in document:
            raise FeedError("is missing; write it with 'velox run --json'", path=source, field=key)
        if not isinstance(document[key], kind):
            raise FeedError(f"{document[key]!r:.60} is of another type", path=source, field=key)
    latency = {}
    for hop in LATENCIES:
        encoded = document["histograms"].get(hop)
        if not isinstance(encoded, str):
            raise FeedError("is missing or no text", path=source, field=f"histograms.{hop}")
        try:
            latency[hop] = decode_histogram(encoded)
        except RecordError as error:
            raise FeedError(str(error), path=source, field=f"histograms.{hop}") from None
    for number, row in enumerate(document["seconds"]):
        if not isinstance(row, dict) or not all(_is_number(row.get(key)) for key in COUNTERS):
            raise FeedError("lacks a counter", path=source, field=f"seconds[{number}]")
    return Run(Path(source).stem, document, latency)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= INT64_MAX
    )
