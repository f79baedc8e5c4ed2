"""The result of every feed: transactions, their instruments, and checks of the book."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from velox.core.instrument import Instrument
from velox.core.integers import INT64_MAX
from velox.core.records import from_fixed
from velox.errors import RecordError
from velox.feeds.decode.levels import KNOWN_DTYPE
from velox.runtime.checks import ChecksumChecks, DepthChecks

__all__ = ["KnownDepth", "Recording"]


# The times of a recording for which none are given.
_UNKNOWN = np.zeros(0, np.uint64)


@dataclass(frozen=True, slots=True)
class KnownDepth:
    """How deep the book of one market is known at one moment of a recording.

    Attributes
    ----------
    bid : int or None
        All bids from this price up are known, in the units of the records; None if the whole side
        is known.
    ask : int or None
        All asks from this price down are known; None if the whole side is known.
    levels : int or None
        The most levels a side that the source gives; None if it has no such limit.
    """

    bid: int | None
    ask: int | None
    levels: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recorded feed, ready to be replayed.

    The transactions can be replayed back to back any number of times, since they clear both sides
    of a book before they open it. Arrays are read-only, so that threads may share them.

    Attributes
    ----------
    transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
        `ingress_ts_ns` is the event's time in the recording, in nanoseconds. `Flags.LAST` marks
        the last record of each venue event, `Flags.SNAPSHOT` the records that open a book.
    instruments : tuple of Instrument
        One a market, with ids 0, 1, 2… in order of appearance.
    checks : DepthChecks, ChecksumChecks or None
        The venue's state of the book at given positions of `transactions`.
    skipped : int
        Lines of input left out under ``on_error="skip"``.
    problems : tuple of str
        The first few reasons for which lines were left out, and the first few gaps.
    source : tuple of pathlib.Path
        The files.
    ignored : dict
        How many messages were ignored because they do not change the book, by name: other events,
        heartbeats, acknowledgements, and repeated messages.
    gaps : int
        Places where messages are missing.
    reordered : int
        Messages that came after messages that they precede, and were applied in their place. That
        happens where several connections were recorded.
    unknown : int
        Checks that are not in `checks`, since their prices lie beyond the known depth.
    contradictions : int
        Places where the source contradicts itself; `problems` names the first few.
    known : ndarray, shape (k,), dtype KNOWN_DTYPE
        How deep each book is known; see `known_depth`.
    venue_ts_ns : ndarray, shape (n,), dtype uint64
        The venue's own time of each record in nanoseconds, beside `ingress_ts_ns`; 0 where it is
        unknown. Its clock is the venue's, so it may be later than ours. If not given, all are 0.

    Raises
    ------
    RecordError
        `venue_ts_ns` is not one uint64 a record.
    """

    transactions: npt.NDArray[np.void]
    instruments: tuple[Instrument, ...]
    checks: DepthChecks | ChecksumChecks | None
    skipped: int
    problems: tuple[str, ...]
    source: tuple[Path, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    gaps: int = 0
    unknown: int = 0
    contradictions: int = 0
    known: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, KNOWN_DTYPE))
    venue_ts_ns: npt.NDArray[np.uint64] = field(default_factory=lambda: _UNKNOWN)
    reordered: int = 0

    def __post_init__(self) -> None:
        if self.venue_ts_ns is _UNKNOWN:
            object.__setattr__(self, "venue_ts_ns", np.zeros(len(self.transactions), np.uint64))
        if self.venue_ts_ns.dtype != np.uint64 or self.venue_ts_ns.shape != (len(self),):
            raise RecordError(
                f"expected {len(self)} uint64, got {self.venue_ts_ns.dtype} of shape "
                f"{self.venue_ts_ns.shape}",
                field="venue_ts_ns",
            )
        for array in (self.transactions, self.known, self.venue_ts_ns):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.transactions)

    def known_depth(self, market: int = 0, position: int | None = None) -> KnownDepth:
        """How deep a book is known once `position` transactions have been applied.

        A level beyond that depth is known only if it has changed since. There may be unknown levels
        between such levels.

        Parameters
        ----------
        market : int
        position : int, optional
            The end of the recording if not given.

        Returns
        -------
        KnownDepth
            All fields are None if the recording has no limit, as for orders and captures.
        """
        if position is None:
            position = len(self.transactions)
        own = self.known[(self.known["market"] == market) & (self.known["position"] < position)]
        if not len(own):
            return KnownDepth(None, None, None)
        _, _, bid, ask, levels = own[-1].item()
        return KnownDepth(bid or None, None if ask == INT64_MAX else ask, levels or None)

    def to_dict(self) -> dict[str, Any]:
        """Return what was read and what was left aside, ready for JSON.

        Returns
        -------
        dict
            ``source``, ``records``, ``checks``, ``skipped``, ``ignored``, ``gaps``, ``reordered``,
            ``unknown``, ``contradictions``, ``problems``, and ``known``: for each market its
            ``market``, ``name``, and the ``bid``, ``ask`` and ``levels`` of `known_depth` at the
            end. These prices are decimal text.
        """
        return {
            "source": [str(path) for path in self.source],
            "records": len(self),
            "checks": 0 if self.checks is None else len(self.checks),
            "skipped": self.skipped,
            "ignored": dict(self.ignored),
            "gaps": self.gaps,
            "reordered": self.reordered,
            "unknown": self.unknown,
            "contradictions": self.contradictions,
            "problems": list(self.problems),
            "known": [self._known_at_the_end(each) for each in self.instruments],
        }

    def _known_at_the_end(self, instrument: Instrument) -> dict[str, Any]:
        known = self.known_depth(instrument.market)
        bid, ask = (
            None if price is None else f"{from_fixed(price, instrument.price_decimals):f}"
            for price in (known.bid, known.ask)
        )
        return {
            "market": instrument.market,
            "name": instrument.name,
            "bid": bid,
            "ask": ask,
            "levels": known.levels,
        }
