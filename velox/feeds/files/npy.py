"""Reads NumPy files of Velox's own records: captures, and arrays that a user has prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from velox.core.instrument import Instrument
from velox.core.records import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind, Side, validate
from velox.errors import ConfigError, FeedError, RecordError
from velox.feeds.files.options import checked_levels
from velox.feeds.files.registry import register
from velox.feeds.files.source import Source, require_file
from velox.feeds.recording import Recording
from velox.runtime.capture import markets_of_capture, refuse_unfinished

__all__ = ["read"]

NPY_MAGIC = b"\x93NUMPY"
BUNDLE_CAPACITY = BUNDLE_DTYPE["transactions"].shape[0]


def _looks_like(line: bytes) -> bool:
    return line.startswith(NPY_MAGIC)


def _mapped(path: Path) -> npt.NDArray[np.void]:
    """The file's array, read-only and not yet read."""
    require_file(path)
    try:
        with path.open("rb") as stream:
            if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:
                raise FeedError("is not a .npy file: its first bytes are wrong", path=path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FeedError:
        raise
    # NumPy parses the header as Python source, so a damaged one can raise many kinds of errors.
    except Exception as error:
        raise FeedError(f"is a damaged .npy file: {error}", path=path) from error
    if array.dtype not in (TRANSACTION_DTYPE, BUNDLE_DTYPE):
        raise FeedError(
            f"has dtype {array.dtype}, which is neither TRANSACTION_DTYPE nor BUNDLE_DTYPE",
            path=path,
            field="dtype",
        )
    if array.ndim != 1:
        raise FeedError(f"has shape {array.shape}; expected one dimension", path=path)
    if array.dtype == BUNDLE_DTYPE:
        refuse_unfinished(array, path)
    # A plain array over the same mapping, since each slice of a memmap is a memmap too.
    mapped: npt.NDArray[np.void] = array.view(np.ndarray)
    return mapped


def _flattened(bundles: npt.NDArray[np.void], path: Path) -> npt.NDArray[np.void]:
    """Return the transactions of bundles, in order, without the empty slots."""
    counts = bundles["count"]
    over = np.flatnonzero(counts > BUNDLE_CAPACITY)
    if len(over):
        raise FeedError(
            f"{counts[over[0]]} is more than the {BUNDLE_CAPACITY} that fit",
            path=path,
            field=f"bundles[{over[0]}].count",
        )
    filled = np.arange(BUNDLE_CAPACITY) < counts[:, np.newaxis]
    transactions: npt.NDArray[np.void] = bundles["transactions"][filled]
    return transactions


def _faulty(transactions: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return a mask of all records for which `validate` raises."""
    kind, no_level = transactions["kind"], np.array([Kind.CLEAR, Kind.TRADE], np.uint8)
    changes_level = ~np.isin(kind, no_level)
    return np.asarray(
        (kind > Kind.TRADE)
        | (transactions["side"] > max(Side))
        | (changes_level & (transactions["price"] <= 0))
        | ((kind <= Kind.EXECUTE) & (transactions["size"] == 0))
    )


def _checked(source: Source, transactions: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    try:
        validate(transactions)
    except RecordError as error:
        faulty = _faulty(transactions)
        source.faults.report(
            FeedError(str(error), path=source.paths[0], field=error.field),
            lines=int(np.count_nonzero(faulty)),
        )
        return transactions[~faulty]
    return transactions


def _inferred(
    transactions: npt.NDArray[np.void], levels: int, told: Sequence[Instrument]
) -> tuple[Instrument, ...]:
    """The markets of the records: what is told of them, on a grid that holds all their prices."""
    known = {each.market: each for each in told}
    in_book = ~np.isin(transactions["kind"], np.array([Kind.CLEAR, Kind.TRADE], np.uint8))
    instruments = []
    for market in np.unique(transactions["market"]):
        prices = transactions["price"][in_book & (transactions["market"] == market)]
        own = known.get(int(market))
        # A strategy may have emitted prices off its market's grid.
        tick = int(np.gcd.reduce(prices, initial=own.tick_size if own else 0))
        instruments.append(
            replace(
                own or Instrument(name=f"market-{market}", market=int(market)),
                tick_size=tick or 1,
                levels=levels,
            )
        )
    return tuple(instruments)


def _given(
    instruments: Sequence[Instrument], transactions: npt.NDArray[np.void], path: Path
) -> tuple[Instrument, ...]:
    markets = [instrument.market for instrument in instruments]
    if len(set(markets)) != len(markets):
        raise ConfigError(f"instruments: have the markets {markets}; each may be there once")
    unknown = sorted(set(np.unique(transactions["market"]).tolist()) - set(markets))
    if unknown:
        raise FeedError(
            f"has records of market {unknown[0]}; instruments are given for {sorted(markets)}",
            path=path,
            field="market",
        )
    return tuple(instruments)


@register("npy", looks_like=_looks_like)
def read(
    source: Source, *, instruments: Sequence[Instrument] | None = None, levels: int = 1024
) -> Recording:
    """Read an array of transactions, or of bundles, as ``numpy.save`` wrote it.

    Transactions are mapped, not copied. Transactions of bundles are copied in order.

    Parameters
    ----------
    source : Source
        Its path is one ``.npy`` file of TRANSACTION_DTYPE or BUNDLE_DTYPE.
    instruments : sequence of Instrument, optional
        One for each market in the records. Unless told: those of the capture's sidecar. What has
        none has prices of 4 decimals, the greatest common divisors of the prices of its levels as
        tick sizes, and lots of 1.
    levels : int
        Levels a side in the window of the books, for instruments that are not given.

    Returns
    -------
    Recording
        It has no checks. `limit` is exact, since the records of a capture need not mark their
        events.

    Raises
    ------
    FeedError
        It is not such a file, or a record is not valid. ``on_error="skip"`` leaves such records
        out.
    ConfigError
        An option cannot be used.
    """
    levels = checked_levels(levels)
    if len(source.paths) != 1:
        raise ConfigError(f"paths: format 'npy' takes one file, not {len(source.paths)}")
    path = source.paths[0]
    transactions = _mapped(path)
    told: Sequence[Instrument] = ()
    if transactions.dtype == BUNDLE_DTYPE:
        if instruments is None:
            told = markets_of_capture(path) or ()
        transactions = _flattened(transactions, path)
    transactions = _checked(source, transactions[: source.limit])
    if not len(transactions):
        raise source.nothing("transactions")
    return Recording(
        transactions=transactions,
        instruments=_inferred(transactions, levels, told)
        if instruments is None
        else _given(instruments, transactions, path),
        checks=None,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
    )
