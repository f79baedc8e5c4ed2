"""Puts recordings of several markets on one time line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from velox.core.records import Flags
from velox.errors import ConfigError
from velox.feeds.decode.levels import KNOWN_DTYPE, MARKETS_LIMIT
from velox.feeds.files.source import PROBLEMS_KEPT
from velox.feeds.recording import Recording
from velox.runtime.checks import ChecksumChecks, DepthChecks

__all__ = ["merge"]


def merge(*recordings: Recording) -> Recording:
    """Merge recordings by `ingress_ts_ns`.

    An event is never split, and the events of each recording keep their order. At equal times the
    recordings follow each other as they are given. If the time of an event is before that of an
    earlier event of its recording, the earlier time counts; the records keep their own.

    Parameters
    ----------
    *recordings : Recording
        At least one. Their times must be of one clock.

    Returns
    -------
    Recording
        Its markets are those of the recordings, numbered anew in their order. The venue's times and
        the known depth are kept. The checks are kept if all are depth checks of the same depth, or
        if only one recording has any. Otherwise they are left out and counted in
        `Recording.ignored`.

    Raises
    ------
    ConfigError
        There is no recording, or there are more than 256 markets.

    Notes
    -----
    Thread-safe: it changes none of its arguments.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from velox.feeds import load
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, time in (("A_x", 1), ("B_x", 2)):
    ...     _ = (folder / f"{name}.csv").write_text(f"{time}.5,1,17,200,308700,1\\n")
    >>> both = merge(load(folder / "B_x.csv"), load(folder / "A_x.csv"))
    >>> [each.name for each in both.instruments], both.transactions["market"].tolist()
    (['B', 'A'], [1, 1, 1, 0, 0, 0])
    """
    if not recordings:
        raise ConfigError("recordings = (): at least one is needed")
    numbers = _markets(recordings)
    order = np.argsort(np.concatenate([_event_times(each) for each in recordings]), kind="stable")
    # Where each record of the concatenation is in the result.
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    parts, begin = [], 0
    for recording, number in zip(recordings, numbers, strict=True):
        end = begin + len(recording)
        parts.append(_Part(recording, number, np.append(place[begin:end], len(order))))
        begin = end
    transactions = np.concatenate([part.transactions() for part in parts])[order]
    known = np.concatenate([part.known() for part in parts])
    checks, left = _checks(parts)
    ignored = sum((Counter(each.ignored) for each in recordings), Counter())
    if left:
        ignored["check that cannot be merged"] += left
    return Recording(
        transactions=transactions,
        instruments=tuple(
            replace(instrument, market=int(part.number[instrument.market]))
            for part in parts
            for instrument in part.recording.instruments
        ),
        checks=checks,
        skipped=sum(each.skipped for each in recordings),
        problems=tuple(text for each in recordings for text in each.problems)[:PROBLEMS_KEPT],
        source=tuple(path for each in recordings for path in each.source),
        ignored=dict(ignored),
        gaps=sum(each.gaps for each in recordings),
        unknown=sum(each.unknown for each in recordings),
        contradictions=sum(each.contradictions for each in recordings),
        known=known[np.argsort(known["position"], kind="stable")],
        venue_ts_ns=np.concatenate([each.venue_ts_ns for each in recordings])[order],
    )


def _markets(recordings: Sequence[Recording]) -> list[npt.NDArray[np.uint8]]:
    """For each recording, the new number of each of its markets."""
    numbers = []
    count = 0
    for recording in recordings:
        number = np.zeros(256, np.uint8)
        for instrument in recording.instruments:
            if count == MARKETS_LIMIT:
                raise ConfigError(
                    f"recordings: have more than the {MARKETS_LIMIT} markets that are possible"
                )
            number[instrument.market] = count
            count += 1
        numbers.append(number)
    return numbers


def _event_times(recording: Recording) -> npt.NDArray[np.uint64]:
    """The time of each record's event, which never falls."""
    transactions = recording.transactions
    if not len(transactions):
        return np.zeros(0, np.uint64)
    first = np.ones(len(transactions), np.bool_)
    first[1:] = (transactions["flags"][:-1] & Flags.LAST) > 0
    times = np.maximum.accumulate(transactions["ingress_ts_ns"][first])
    return np.asarray(times[np.cumsum(first) - 1], np.uint64)


@dataclass(frozen=True, slots=True)
class _Part:
    """One recording, and where its records are in the result.

    Attributes
    ----------
    recording : Recording
    number : ndarray, shape (256,)
        The new number of each market.
    place : ndarray, shape (n + 1,)
        Of each record; and the end.
    """

    recording: Recording
    number: npt.NDArray[np.uint8]
    place: npt.NDArray[np.int64]

    def transactions(self) -> npt.NDArray[np.void]:
        transactions: npt.NDArray[np.void] = self.recording.transactions.copy()
        transactions["market"] = self.number[transactions["market"]]
        return transactions

    def known(self) -> npt.NDArray[np.void]:
        known = np.array(self.recording.known, KNOWN_DTYPE)
        known["position"] = self.place[known["position"]]
        known["market"] = self.number[known["market"]]
        return known

    def due(self, position: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Convert how many records have been applied when a check is due."""
        after = np.where(position > 0, self.place[position - 1] + 1, 0)
        return np.asarray(after, np.int64)


def _checks(parts: Sequence[_Part]) -> tuple[DepthChecks | ChecksumChecks | None, int]:
    """Return the checks of all parts, and how many are left out."""
    having = [part for part in parts if part.recording.checks]
    found = [part.recording.checks for part in having]
    if not found:
        return None, 0
    position = np.concatenate(
        [part.due(each.position) for part, each in zip(having, found, strict=True) if each]
    )
    market = np.concatenate(
        [part.number[each.market] for part, each in zip(having, found, strict=True) if each]
    )
    order = np.argsort(position, kind="stable")
    if len(found) == 1 and found[0] is not None:
        return replace(found[0], position=position, market=market), 0
    depth = [each for each in found if isinstance(each, DepthChecks)]
    if len(depth) < len(found) or len({each.depth for each in depth}) > 1:
        return None, len(position)
    return (
        DepthChecks(
            position=position[order],
            market=market[order],
            prices=np.concatenate([each.prices for each in depth])[order],
            quantities=np.concatenate([each.quantities for each in depth])[order],
        ),
        0,
    )
