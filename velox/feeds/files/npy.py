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
from velox.feeds.decode.levels import KNOWN_DTYPE
from velox.feeds.files.options import checked_levels
from velox.feeds.files.registry import register
from velox.feeds.files.save import KNOWN, VENUE_TIMES
from velox.feeds.files.source import Source, require_file
from velox.feeds.recording import Recording
from velox.runtime.capture import refuse_unfinished
from velox.runtime.sidecar import Sidecar, parallel_array, read_sidecar

__all__ = ["read"]

NPY_MAGIC = b"\x93NUMPY"
DEFAULT_LEVELS = 1024
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


def _faults(source: Source, transactions: npt.NDArray[np.void]) -> npt.NDArray[np.bool_] | None:
    """Report invalid records, and return a mask of them; None if all are valid."""
    try:
        validate(transactions)
    except RecordError as error:
        faulty = _faulty(transactions)
        source.faults.report(
            FeedError(str(error), path=source.paths[0], field=error.field),
            lines=int(np.count_nonzero(faulty)),
        )
        return faulty
    return None


def _sidecar(path: Path, transactions: int, *, bundles: bool) -> Sidecar | None:
    """The file's sidecar. One that was written for other records is refused."""
    sidecar = read_sidecar(path)
    if sidecar is None:
        return None
    if sidecar.transactions is None and not bundles:
        raise FeedError(
            f"belongs to a capture of bundles, but {path.name} holds records; remove it if it is "
            "of an earlier file",
            path=sidecar.path,
            field="transactions",
        )
    if sidecar.transactions is not None and sidecar.transactions != transactions:
        raise FeedError(
            f"belongs to a file of {sidecar.transactions} records, but {path.name} holds "
            f"{transactions}; remove it if it is of an earlier file",
            path=sidecar.path,
            field="transactions",
        )
    return sidecar


def _known(sidecar: Sidecar, transactions: int) -> npt.NDArray[np.void]:
    """How deep the books are known, by the array beside the file."""
    known = parallel_array(sidecar, KNOWN, KNOWN_DTYPE, None)
    if known is None:
        return np.zeros(0, KNOWN_DTYPE)
    position = known["position"]
    if len(position) and (
        position[0] < 0 or position[-1] > transactions or (position[1:] < position[:-1]).any()
    ):
        raise FeedError(
            "the positions do not rise within the records",
            path=sidecar.arrays[KNOWN],
            field="position",
        )
    return np.array(known)


def _inferred(
    transactions: npt.NDArray[np.void],
    levels: int | None,
    told: Sequence[Instrument],
    *,
    all_told: bool,
) -> tuple[Instrument, ...]:
    """The markets of the records: what is told of them, on a grid that holds all their prices."""
    known = {each.market: each for each in told}
    in_book = ~np.isin(transactions["kind"], np.array([Kind.CLEAR, Kind.TRADE], np.uint8))
    instruments = []
    markets = set(np.unique(transactions["market"]).tolist())
    for market in sorted(markets | set(known) if all_told else markets):
        prices = transactions["price"][in_book & (transactions["market"] == market)]
        own = known.get(market)
        # A strategy may have emitted prices off its market's grid.
        tick = int(np.gcd.reduce(prices, initial=own.tick_size if own else 0))
        instruments.append(
            replace(
                own or Instrument(name=f"market-{market}", market=market),
                tick_size=tick or 1,
                levels=levels or (own.levels if own else DEFAULT_LEVELS),
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
    source: Source,
    *,
    instruments: Sequence[Instrument] | None = None,
    levels: int | None = None,
) -> Recording:
    """Read an array of transactions, or of bundles, as ``numpy.save`` or `save` wrote it.

    Transactions are mapped, not copied. Transactions of bundles are copied in order. The file's
    sidecar says what the markets are, and names the arrays of the venue's times and of the known
    depth. See `velox.feeds.save`.

    Parameters
    ----------
    source : Source
        Its path is one ``.npy`` file of TRANSACTION_DTYPE or BUNDLE_DTYPE.
    instruments : sequence of Instrument, optional
        One for each market in the records. Unless told: those of the sidecar. What has none has
        prices of 4 decimals, the greatest common divisors of the prices of its levels as tick
        sizes, and lots of 1.
    levels : int, optional
        Levels a side in the window of the books, for instruments that are not given. If not given:
        what the sidecar says, or else 1024.

    Returns
    -------
    Recording
        It has no checks. `limit` is exact, since the records of a capture need not mark their
        events.

    Raises
    ------
    FeedError
        It is not such a file, its sidecar belongs to other records, or a record is not valid.
        ``on_error="skip"`` leaves such records out.
    ConfigError
        An option cannot be used.
    """
    if levels is not None:
        levels = checked_levels(levels)
    if len(source.paths) != 1:
        raise ConfigError(f"paths: format 'npy' takes one file, not {len(source.paths)}")
    path = source.paths[0]
    transactions = _mapped(path)
    bundles = transactions.dtype == BUNDLE_DTYPE
    if bundles:
        transactions = _flattened(transactions, path)
    whole = len(transactions)
    sidecar = _sidecar(path, whole, bundles=bundles)
    transactions = transactions[: source.limit]
    known = np.zeros(0, KNOWN_DTYPE)
    times: npt.NDArray[np.uint64] | None = None
    if sidecar is not None:
        times = parallel_array(sidecar, VENUE_TIMES, np.uint64, whole)
        known = _known(sidecar, whole)
        known = known[known["position"] < len(transactions)]
    times = np.zeros(len(transactions), np.uint64) if times is None else times[: source.limit]
    faulty = _faults(source, transactions)
    if faulty is not None:
        known["position"] -= np.concatenate(([0], np.cumsum(faulty)))[known["position"]]
        transactions, times = transactions[~faulty], times[~faulty]
    if not len(transactions):
        raise source.nothing("transactions")
    if instruments is None:
        told = () if sidecar is None else sidecar.markets
        if sidecar is not None and not sidecar.levels:
            levels = levels or DEFAULT_LEVELS
        given = _inferred(transactions, levels, told, all_told=not bundles)
    else:
        given = _given(instruments, transactions, path)
    return Recording(
        transactions=transactions,
        instruments=given,
        checks=None,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
        known=known,
        venue_ts_ns=times,
    )
