"""A report as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Any

from velox.config import PipelineConfig
from velox.runtime.hiccups import Hiccups
from velox.runtime.report import Report
from velox.telemetry.hlog import encode_histogram

__all__ = ["document", "write_document"]


def document(
    report: Report,
    *,
    command: str,
    version: str,
    interrupted: bool = False,
    errors: tuple[str, ...] = (),
    capture: str | None = None,
    hlog: str | None = None,
    hiccups: Sequence[Hiccups] = (),
    chain: dict[str, Any] | None = None,
    recording: dict[str, Any] | None = None,
    config: PipelineConfig | None = None,
    seconds: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Return what ``--json`` writes.

    That is `Report.to_dict`, with the command of the run and how it ended.

    Parameters
    ----------
    report : Report
    command : str
        ``"run"`` or ``"replay"``.
    version : str
        Velox's.
    interrupted : bool
        Whether the run was stopped before it would have ended.
    errors : tuple of str
        What failed while it ran.
    capture : str, optional
        The file that holds the bundles.
    hlog : str, optional
        The file that holds the latencies of each second.
    hiccups : sequence of Hiccups
        The hiccups of the host, on the CPUs that ran the stages.
    chain : dict, optional
        `velox.solana.orders.outcomes.ChainLedger.to_dict`, where orders were sent to the chain.
    recording : dict, optional
        `velox.feeds.Recording.to_dict`, where a recording was replayed.
    config : PipelineConfig, optional
        The settings of the run.
    seconds : sequence of dict, optional
        `velox.telemetry.series.Course.to_list`: the counters second by second.
    """
    value = {
        "velox": version,
        "command": command,
        "passed": report.passed and not errors,
        "interrupted": interrupted,
        "errors": list(errors),
        "capture": capture,
        "hlog": hlog,
        **report.to_dict(),
        "histograms": {name: encode_histogram(each) for name, each in report.latency.items()},
        "config": {} if config is None else config.to_dict(),
        "seconds": list(seconds),
        "hiccups": [each.to_dict() for each in hiccups],
    }
    if recording is not None:
        value["recording"] = recording
    if chain is not None:
        value["ledger"]["chain"] = chain
    return value


def write_document(value: dict[str, Any], file: IO[bytes]) -> None:
    """Write an object as indented JSON.

    Text that is not UTF-8, such as some paths, is escaped. A number that JSON does not have is an
    error.
    """
    text = json.dumps(value, indent=2, allow_nan=False)
    file.write(text.encode("ascii") + b"\n")
