"""Makes a recording of what a reader has written to a `LevelRecorder`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from velox.feeds.decode.levels import Grid, LevelRecorder
from velox.feeds.files.source import Source
from velox.feeds.recording import Recording
from velox.runtime.checks import ChecksumChecks, DepthChecks

__all__ = ["Checks", "Moved", "recorded"]

Moved = Callable[[Any], npt.NDArray[np.int64]]
Checks = tuple[DepthChecks | ChecksumChecks | None, int]


def recorded(
    source: Source,
    recorder: LevelRecorder,
    *,
    levels: int = 8192,
    ignored: Mapping[str, int] | None = None,
    gaps: int = 0,
    reordered: int = 0,
    checks: Callable[[list[Grid], Moved], Checks] | None = None,
    more: Mapping[int, Iterable[npt.NDArray[np.int64]]] | None = None,
    what: str = "records",
) -> Recording:
    """Return the recording of all events that were written to a recorder.

    Parameters
    ----------
    source : Source
    recorder : LevelRecorder
    levels : int
        Levels a side that the instruments' books keep hot.
    ignored : mapping of str to int, optional
        How many messages were left aside, by name.
    gaps, reordered : int
        Places where messages are missing, and messages that were put in order.
    checks : callable, optional
        Returns the checks and how many are unknown. It is given the units of each market, and a
        function that converts counts of the recorder to counts of the recording's records.
    more : mapping, optional
        Further numbers, as `LevelRecorder.grids` takes them.
    what : str
        What the input must hold, for the error if there is none.

    Returns
    -------
    Recording

    Raises
    ------
    FeedError
        Nothing was written.
    """
    if not recorder.count:
        raise source.nothing(what)
    grids = recorder.grids(more)
    transactions, moved = recorder.transactions(grids, source.late)
    known = recorder.known(grids)
    known["position"] = moved(known["position"])
    found, unknown = (None, 0) if checks is None else checks(grids, moved)
    return Recording(
        transactions=transactions,
        instruments=recorder.instruments(grids, levels),
        checks=found,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
        ignored=dict(ignored or {}),
        gaps=gaps,
        reordered=reordered,
        unknown=unknown,
        known=known,
        venue_ts_ns=recorder.venue_times(moved),
    )
